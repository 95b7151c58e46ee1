// The page at /dev: emails that appear without a reload, and waits that end.

import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";

import { codeIn, eventually, open, sendByScript, startBoth, startLine, startOtpd, unexpected } from "./support.js";

const { otpd, browser } = await startBoth();

const listed = (page) => page.locator("#mails button span").allTextContents();

test("a mail that something else asked for appears by itself, and is announced", async () => {
  const { page, faults, streaming } = await open(browser, `${otpd.origin}/dev`);
  // Emails that came before are listed, not announced.
  await streaming;
  const asked = [];
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
  await sendByScript(otpd.origin, "script@example.com");
  await page.getByRole("status").filter({ hasText: "New mail to script@example.com" }).waitFor();
  await page.locator("#to", { hasText: "script@example.com" }).waitFor();
  const code = await otpd.code("script@example.com");
  assert.equal(codeIn(await page.locator("#text").textContent()), code);
  await page.frameLocator("#html").getByText(code, { exact: true }).waitFor();
  assert.match(await page.locator("#headers").textContent(), /^Subject: Your code for dev\.example$/m);
  const others = asked.filter((path) => path !== "/dev/mails/1/html");
  assert.deepEqual(others, [], "nothing else is asked for");
  assert.deepEqual(faults, []);
});

test("the parts of a mail are tabs for the keyboard", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  await sendByScript(otpd.origin, "tabs@example.com");
  await page.locator("#to", { hasText: "tabs@example.com" }).waitFor();
  await page.getByRole("tab", { name: "HTML" }).focus();
  for (const [key, name] of [["ArrowRight", "Text"], ["End", "Headers"], ["ArrowRight", "HTML"], ["ArrowLeft", "Headers"]]) {
    await page.keyboard.press(key);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), name);
    assert.equal(await page.getByRole("tabpanel").count(), 1);
    await page.getByRole("tabpanel", { name }).waitFor();
  }
});

test("an older mail that is read stays while others come", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  for (const name of ["older", "newer"]) await sendByScript(otpd.origin, `${name}@example.com`);
  await page.locator("#to", { hasText: "newer@example.com" }).waitFor();
  await page.getByRole("button", { name: "older@example.com" }).click();
  await page.locator("#to", { hasText: "older@example.com" }).waitFor();
  await sendByScript(otpd.origin, "newest@example.com");
  await page.getByRole("button", { name: "newest@example.com" }).waitFor();
  assert.equal(await page.locator("#to").textContent(), "older@example.com");
  assert.match(await page.locator("#mails [aria-current]").textContent(), /^older@/);
});

test("a stream that was lost comes back, and shows each mail once", async () => {
  const first = await startOtpd();
  const line = await startLine(first.origin);
  let second;
  try {
    const { page } = await open(browser, `${line.origin}/dev`);
    await sendByScript(first.origin, "a@example.com");
    await page.getByRole("button", { name: "a@example.com" }).waitFor();
    line.cut();
    await sendByScript(first.origin, "b@example.com");
    await page.getByRole("button", { name: "b@example.com" }).waitFor();
    await sendByScript(first.origin, "c@example.com");
    await page.getByRole("button", { name: "c@example.com" }).waitFor();
    assert.deepEqual(await listed(page), ["c@example.com", "b@example.com", "a@example.com"]);
    assert.equal(await page.locator("#to").textContent(), "c@example.com");

    // A new process does not know the emails of the old one, and numbers its own from one.
    second = await startOtpd();
    await sendByScript(second.origin, "d@example.com");
    line.lead(second.origin);
    await first.stop();
    await page.getByRole("button", { name: "d@example.com" }).waitFor();
    assert.deepEqual(await listed(page), ["d@example.com"]);
    await page.locator("#to", { hasText: "d@example.com" }).waitFor();
    await page.frameLocator("#html").getByText(await second.code("d@example.com")).waitFor();
    await eventually("the fault to be gone", async () => (await page.locator("#link").textContent()) === "");
  } finally {
    await line.stop();
    await first.stop();
    await second?.stop();
  }
});

test("pages that nobody sees hold no connection, and catch up", async () => {
  const context = await browser.newContext();
  const show = (page, isHidden) =>
    page.evaluate((isHidden) => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => isHidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }, isHidden);
  const pages = [];
  // More than the connections that a browser opens to one host.
  for (let count = 0; count < 8; count += 1) {
    const page = await context.newPage();
    await page.goto(`${otpd.origin}/dev`);
    await page.locator("#app").waitFor();
    await show(page, true);
    pages.push(page);
  }
  await sendByScript(otpd.origin, "hidden@example.com");
  const [page] = pages;
  await show(page, false);
  await page.getByRole("button", { name: "hidden@example.com" }).waitFor();
  assert.equal(new Set(await listed(page)).size, (await listed(page)).length);
  await context.close();
});

test("an open page does not keep otpd dev from stopping at once", async () => {
  const own = await startOtpd();
  try {
    const { page } = await open(browser, `${own.origin}/dev`);
    await sendByScript(own.origin, "stop@example.com");
    await page.getByRole("button", { name: "stop@example.com" }).waitFor();
    const begun = Date.now();
    const ended = once(own.child, "exit");
    own.child.kill("SIGINT");
    assert.deepEqual(await ended, [0, null]);
    assert(Date.now() - begun < 2000, `${Date.now() - begun} ms`);
    await page.locator("#link", { hasText: "The connection is lost" }).waitFor();
  } finally {
    await own.stop();
  }
});

test("a wait is shown, counts down, and a reset ends it", async () => {
  const limited = await startOtpd({}, "--production-limits");
  try {
    const { page, faults } = await open(browser, `${limited.origin}/dev`);
    const wait = page.locator("#wait");
    const send = page.getByRole("button", { name: "Send code" });
    await page.getByLabel("Address").fill("wait@example.com");
    await send.click();
    await page.locator("#outcome", { hasText: "200 OTP sent" }).waitFor();
    await wait.filter({ hasText: "tells of a wait only where it refuses" }).waitFor();
    const row = page.getByRole("row", { name: "ip sends" });
    assert.match(await row.textContent(), /^ip sends29 of 301 h/);
    await send.click();
    await page.locator("#failure", { hasText: /^429 Too many requests, again in (60|5\d) s$/ }).waitFor();
    const seconds = async () => Number(/in 0:(\d\d)$|in 1:(00)$/.exec(await wait.textContent()).slice(1).find(Boolean)) || 60;
    const first = await seconds();
    await eventually("a second to go by", async () => (await seconds()) < first);
    // Another address has no wait; this one still has.
    await page.getByLabel("Address").fill("other@example.com");
    await wait.filter({ hasText: "can be sent to this address now" }).waitFor();
    await page.getByLabel("Address").fill("wait@example.com");
    await wait.filter({ hasText: "Next send to this address in 0:" }).waitFor();
    assert.equal(await page.locator("#due").textContent(), "");

    await page.getByRole("button", { name: "Reset limits" }).click();
    await page.locator("#outcome", { hasText: "forgotten" }).waitFor();
    await wait.filter({ hasText: "can be sent to this address now" }).waitFor();
    await send.click();
    await page.locator("#outcome", { hasText: "200 OTP sent" }).waitFor();

    await page.getByRole("radio", { name: "v1" }).check();
    await page.getByLabel("Address").fill("other@example.com");
    await send.click();
    await page.locator("#outcome", { hasText: "201 pending" }).waitFor();
    await wait.filter({ hasText: /in (1:00|0:\d\d)$/ }).waitFor();
    await page.getByRole("button", { name: "Resend" }).click();
    await page.locator("#failure", { hasText: "429" }).waitFor();
    assert.deepEqual(unexpected(faults), []);
  } finally {
    await limited.stop();
  }
});

test("a screen reader is told once that a long wait is over", async () => {
  const own = await startOtpd({ OTP_LIMITS__EMAIL_SENDS: "1/7s" });
  try {
    const { page } = await open(browser, `${own.origin}/dev`);
    await page.evaluate(() => {
      window.told = [];
      new MutationObserver(() => window.told.push(document.querySelector("#due").textContent)).observe(
        document.querySelector("#due"),
        { childList: true, characterData: true, subtree: true },
      );
    });
    await page.getByRole("radio", { name: "v1" }).check();
    await page.getByLabel("Address").fill("due@example.com");
    await page.getByRole("button", { name: "Send code" }).click();
    await page.locator("#wait.waits").waitFor();
    await page.locator("#due", { hasText: "can be sent to this address now" }).waitFor({ state: "attached" });
    const told = await page.evaluate(() => window.told.filter(Boolean));
    assert.deepEqual(told, ["A code can be sent to this address now."]);
  } finally {
    await own.stop();
  }
});
