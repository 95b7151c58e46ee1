// A running otpd, a browser, and pages that are watched for errors.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { createServer as createHttpServer, request as requestHttp } from "node:http";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after } from "node:test";

import { chromium } from "playwright-core";
import { SMTPServer } from "smtp-server";

const here = import.meta.dirname ?? new URL(".", import.meta.url).pathname;
const binary = resolve(process.env.OTPD_BIN ?? join(here, "../../target/debug/otpd"));
const artifacts = resolve(process.env.ARTIFACTS ?? join(here, "artifacts"));

/** How long to wait for something that must happen soon, in milliseconds. */
export const TIMEOUT = 20_000;
/** The narrowest screen that WCAG 2.2 asks pages to fit (success criterion 1.4.10). */
export const NARROW = { viewport: { width: 320, height: 640 }, isMobile: true, hasTouch: true };

/** Waits until `condition` returns something truthy, and returns that. */
export async function eventually(what, condition) {
  for (const end = Date.now() + TIMEOUT; Date.now() < end; ) {
    const found = await condition();
    if (found) return found;
    await new Promise((resume) => setTimeout(resume, 20));
  }
  assert.fail(`waited in vain for ${what}`);
}

/** Starts `otpd dev` on a free port in an empty folder, with only these settings. */
export async function startOtpd(settings = {}, ...options) {
  const folder = await mkdtemp(join(tmpdir(), "otpd-browser-"));
  const otpd = start(["dev", ...options], folder, settings);
  // The link that a new user would click.
  const origin = () => /\bhttp:\/\/localhost:\d+(?=\/dev\b)/.exec(otpd.said())?.[0];
  const stop = async () => {
    await otpd.stop();
    await rm(folder, { recursive: true, force: true });
  };
  const { child } = otpd;
  return { ...(await ready(otpd, origin, stop)), stop, child, code: (address) => latestCode(origin(), address) };
}

/** Starts `otpd dev` with these settings, and a browser, which the end of the file's tests stops. */
export async function startBoth(settings) {
  const otpd = await startOtpd(settings);
  after(otpd.stop);
  const browser = await startBrowser();
  after(() => browser.close());
  return { otpd, browser };
}

/** Starts a forwarder to a service. It can be cut, and led to another service. */
export async function startLine(origin) {
  let target = Number(new URL(origin).port);
  const sockets = new Set();
  const server = createServer((near) => {
    const far = connect(target, "127.0.0.1");
    for (const [from, to] of [[near, far], [far, near]]) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy()).on("close", () => sockets.delete(from) && to.destroy());
    }
  });
  await new Promise((resume) => server.listen(0, "127.0.0.1", resume));
  const cut = () => sockets.forEach((socket) => socket.destroy());
  const stop = () => {
    cut();
    return new Promise((resume) => server.close(resume));
  };
  const lead = (origin) => (target = Number(new URL(origin).port));
  return { origin: `http://localhost:${server.address().port}`, cut, lead, stop };
}

/** Starts a proxy that serves a service under a path prefix, which it removes. */
export async function startPrefixed(prefix) {
  let target;
  const server = createHttpServer((request, response) => {
    if (!request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const { method, headers } = request;
    const path = request.url.slice(prefix.length);
    const passedOn = requestHttp(new URL(path, target), { method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passedOn.on("error", () => response.destroy());
    request.pipe(passedOn);
  });
  await new Promise((resume) => server.listen(0, "127.0.0.1", resume));
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resume) => server.close(resume));
  };
  const lead = (origin) => (target = origin);
  return { url: `http://localhost:${server.address().port}${prefix}`, lead, stop };
}

/** Requests a code as a script does. */
export async function sendByScript(origin, email) {
  const headers = { "Content-Type": "application/json" };
  const answer = await fetch(`${origin}/send-otp`, { method: "POST", headers, body: JSON.stringify({ email }) });
  assert.equal(answer.status, 200);
}

/** Starts `otpd serve` with its own Redis and mail relay, and one API key. */
export async function startServe() {
  const folder = await mkdtemp(join(tmpdir(), "otpd-browser-"));
  const mails = [];
  const relay = await startRelay(mails);
  const socket = join(folder, "redis.sock");
  const arguments_ = ["--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder];
  const redis = spawn("redis-server", arguments_, { stdio: "ignore" });
  const secret = () => randomBytes(32).toString("base64url");
  const [key, hash] = keygen();
  const otpd = start(["serve"], folder, {
    EMAIL_SENDER: "codes@sender.example",
    SMTP_SERVER: "localhost",
    SMTP_PORT: String(relay.server.address().port),
    OTP_SMTP__AUTH: "none",
    OTP_SMTP__TLS: "none",
    REDIS_URL: `unix://${socket}`,
    OTP_SECRETS__PEPPERS: `k1:${secret()}`,
    OTP_SECRETS__INDEX_KEY: secret(),
    OTP_SECRETS__PROOF_KEYS: `p1:${secret()}`,
    OTP_TENANT__KEYS: hash,
    OTP_LOG__FORMAT: "json",
  });
  const address = () => /"listening","address":"([^"]+)"/.exec(otpd.said())?.[1];
  const stop = async () => {
    await otpd.stop();
    await end(redis);
    await new Promise((resume) => relay.close(resume));
    await rm(folder, { recursive: true, force: true });
  };
  const origin = () => address() && `http://${address()}`;
  const code = (to) => eventually(`a mail to ${to}`, () => mails.findLast((mail) => mail.to === to)).then(codeOf);
  return { ...(await ready(otpd, origin, stop)), stop, key, code };
}

/** Starts a process of the binary on a free port. */
function start(arguments_, folder, settings) {
  const env = { OTP_HTTP__LISTEN: "127.0.0.1:0", OTP_ADMIN__LISTEN: "off", ...settings };
  const child = spawn(binary, arguments_, { cwd: folder, env, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += text));
  return { child, said: () => said, stop: () => end(child) };
}

async function end(child) {
  if (child.exitCode === null && child.kill()) await once(child, "exit");
}

/** Waits until the process is ready. If it ends instead, stops what was started. */
async function ready(otpd, origin, stop) {
  const isReady = async () => {
    assert.equal(otpd.child.exitCode, null, `otpd ended: ${otpd.said()}`);
    return origin() && (await fetch(`${origin()}/readyz`).then((answer) => answer.ok, () => false));
  };
  try {
    await once(otpd.child, "spawn");
    await eventually("/readyz", isReady);
  } catch (error) {
    await stop();
    throw error;
  }
  return { origin: origin() };
}

/** Starts a relay that stores what it receives. */
async function startRelay(mails) {
  const relay = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS"],
    onData(stream, session, done) {
      const chunks = [];
      stream.on("data", (chunk) => chunks.push(chunk));
      stream.on("end", () => {
        const [{ address }] = session.envelope.rcptTo;
        mails.push({ to: address, content: Buffer.concat(chunks).toString() });
        done();
      });
    },
  });
  await new Promise((resume) => relay.listen(0, "localhost", resume));
  return relay;
}

/** Returns a new API key and its hash for the settings. */
function keygen() {
  const printed = execFileSync(binary, ["keygen", "api-key"], { encoding: "utf8" });
  return ["key", "hash"].map((word) => new RegExp(`^${word} +(\\S+)`, "m").exec(printed)[1]);
}

/** Returns the code in the first part of a raw email: the one line that has only digits. */
function codeOf(mail) {
  const text = mail.content.split(/^--/m).find((part) => part.includes("text/plain"));
  return codeIn(text.match(/^\d+\r?$/m)?.[0] ?? "");
}

/** Returns the code in the newest captured email to an address. */
async function latestCode(origin, address) {
  const answer = await fetch(`${origin}/dev/mails?to=${encodeURIComponent(address)}`);
  const [mail] = await answer.json();
  assert(mail, `a mail to ${address}`);
  return codeIn(mail.text);
}

/** Returns the one code in the text of an email. */
export function codeIn(text) {
  const codes = text.match(/\b\d{6}\b/g) ?? [];
  assert.equal(codes.length, 1, text);
  return codes[0];
}

/** Starts the browser. */
export function startBrowser() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Without these it looks up its own hosts at each start.
    args: ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"],
  });
}

/** Opens a page in a new profile and records every error on it. */
export async function open(browser, url, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(TIMEOUT);
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
  // Resolves once the page's stream of emails is open; never for a page without one.
  const streaming = new Promise((resume) => {
    page.on("response", (response) => new URL(response.url()).pathname.endsWith("/dev/events") && resume());
  });
  const answer = await page.goto(url);
  assert.equal(answer.status(), 200);
  assert.match(answer.headers()["content-security-policy"], /^default-src 'none';/);
  return { page, faults, streaming };
}

/** Returns the errors, except those that the browser logs for 4xx answers. */
export function unexpected(faults) {
  return faults.filter((fault) => !/Failed to load resource: the server responded with a status of 4\d\d/.test(fault));
}

/** Asserts that a page fits the width of its screen. */
export async function assertFits(page) {
  const [content, screen] = await page.evaluate(() => [
    document.documentElement.scrollWidth,
    document.documentElement.clientWidth,
  ]);
  assert(content <= screen, `${content} pixels of content on a screen of ${screen}`);
  // Without a viewport tag, a page is laid out far wider than a phone.
  assert.equal(screen, page.viewportSize().width);
}

/**
 * Takes a screenshot of the whole page, or of a part of it, for a human to check. Returns its path.
 */
export async function screenshot(target, name, options = { fullPage: true }) {
  const path = join(artifacts, `${name}.png`);
  await mkdir(artifacts, { recursive: true });
  await target.screenshot({ path, ...options });
  return path;
}
