// A running `otpd dev`, a browser, and pages that are watched for what must not happen on them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";

import { chromium } from "playwright-core";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const binary = resolve(process.env.OTPD_BIN ?? join(here, "../../target/debug/otpd"));
const artifacts = resolve(process.env.ARTIFACTS ?? join(here, "artifacts"));

/** How long what must happen soon may take. */
export const PATIENCE = 20_000;
/** The narrowest screen that WCAG 2.2 asks pages to fit (success criterion 1.4.10). */
export const NARROW = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };

/** Waits until `condition` gives something and hands that on. */
export async function eventually(what, condition) {
  for (const end = Date.now() + PATIENCE; Date.now() < end; ) {
    const found = await condition();
    if (found) return found;
    await new Promise((resume) => setTimeout(resume, 20));
  }
  assert.fail(`waited in vain for ${what}`);
}

/** Starts `otpd dev` on a port of its own, with no settings but its own and in an empty folder. */
export async function startOtpd() {
  const folder = await mkdtemp(join(tmpdir(), "otpd-browser-"));
  const env = { OTP_HTTP__LISTEN: "127.0.0.1:0" };
  const child = spawn(binary, ["dev"], { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (text) => (said += text));
  // What a newcomer would click on.
  let origin;
  createInterface({ input: child.stdout }).on("line", (line) => {
    origin ??= /\bhttp:\/\/localhost:\d+(?=\/dev\b)/.exec(line)?.[0];
  });
  const stop = async () => {
    if (child.exitCode === null && child.kill()) await once(child, "exit");
    await rm(folder, { recursive: true });
  };
  const isReady = async () => {
    assert.equal(child.exitCode, null, `otpd dev ended: ${said}`);
    return origin && (await fetch(`${origin}/readyz`).then((answer) => answer.ok, () => false));
  };
  try {
    await once(child, "spawn");
    await eventually("/readyz", isReady);
  } catch (error) {
    await stop();
    throw error;
  }
  return { origin, stop, code: (address) => latestCode(origin, address) };
}

/** The code in the newest captured mail to an address. */
async function latestCode(origin, address) {
  const answer = await fetch(`${origin}/dev/mails?to=${encodeURIComponent(address)}`);
  const [mail] = await answer.json();
  assert(mail, `a mail to ${address}`);
  return codeIn(mail.text);
}

/** The one code in the text of a mail. */
export function codeIn(text) {
  const codes = text.match(/\b\d{6}\b/g) ?? [];
  assert.equal(codes.length, 1, text);
  return codes[0];
}

/** Starts the browser. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Without these it looks up hosts of its own at each start.
    args: ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"],
  });
}

/** Opens a page in a profile of its own and notes whatever goes wrong on it. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(PATIENCE);
  const faults = [];
  const { origin } = new URL(url);
  context.on("request", (request) => {
    const target = new URL(request.url());
    const isInline = target.protocol === "data:" || target.protocol === "blob:";
    if (!isInline && target.origin !== origin) faults.push(`a request to ${target.origin}`);
  });
  context.on("weberror", (error) => faults.push(`uncaught: ${error.error()}`));
  context.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) faults.push(`${message.type()}: ${message.text()}`);
  });
  await context.exposeFunction("noteViolation", (what) => faults.push(`Content-Security-Policy: ${what}`));
  await context.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      window.noteViolation(`${event.effectiveDirective} ${event.blockedURI}`);
    });
  });
  const page = await context.newPage();
  const answer = await page.goto(url);
  assert.equal(answer.status(), 200);
  assert.match(answer.headers()["content-security-policy"], /^default-src 'none';/);
  return { page, faults };
}

/** A page must fit the width of its screen. */
export async function assertFits(page) {
  const [content, screen] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  assert(content <= screen, `${content} pixels of content on a screen of ${screen}`);
  // A page without a viewport of its own is laid out far wider than a phone.
  assert.equal(screen, page.viewportSize().width);
}

/** A picture of the whole page, for people. */
export async function screenshot(page, name) {
  await mkdir(artifacts, { recursive: true });
  await page.screenshot({ path: join(artifacts, `${name}.png`), fullPage: true });
}
