// The page at /dev: from an address to a confirmation, with a keyboard alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { NARROW, assertFits, codeIn, eventually, open, screenshot, startBrowser, startOtpd } from "./support.js";

let otpd, browser;

before(async () => {
  otpd = await startOtpd();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await otpd?.stop();
});

/** Presses Tab until the element has the focus. */
async function tabTo(page, element) {
  for (let presses = 0; presses < 20; presses += 1) {
    if (await element.evaluate((it) => it === document.activeElement)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`the keyboard does not reach ${element}`);
}

/** Sends and verifies as someone does who has a keyboard and a screen reader. */
async function confirm(page, address) {
  const outcome = page.getByRole("status");
  await tabTo(page, page.getByLabel("Address"));
  await page.keyboard.type(address);
  await page.keyboard.press("Enter");
  await outcome.filter({ hasText: "OTP sent successfully" }).waitFor();

  const mail = page.locator("#mails > *", { hasText: address });
  await mail.waitFor();
  await tabTo(page, page.getByLabel("Code"));
  await page.keyboard.type(codeIn(await mail.textContent()));
  await page.keyboard.press("Enter");
  await outcome.filter({ hasText: "OTP verified successfully" }).waitFor();
}

test("a keyboard is enough to confirm an address", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`);
  await confirm(page, "dev@example.com");
  await screenshot(page, "dev");
  assert.deepEqual(faults, []);
});

test("a mail that something else asked for appears by itself", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`);
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ email: "script@example.com" });
  await fetch(`${otpd.origin}/send-otp`, { method: "POST", headers, body });
  const mail = page.locator("#mails > *", { hasText: "script@example.com" });
  await mail.waitFor();
  assert.equal(codeIn(await mail.textContent()), await otpd.code("script@example.com"));
  assert.deepEqual(faults, []);
});

test("every field is labelled, and browsers know which one takes the code", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  const code = page.getByLabel("Code");
  assert.equal(await code.getAttribute("autocomplete"), "one-time-code");
  assert.equal(await code.getAttribute("inputmode"), "numeric");
  const fields = await page.locator("input, select, textarea").evaluateAll((all) =>
    all.map((field) => [field.id, [...field.labels].map((label) => label.textContent.trim()).join()]),
  );
  assert(fields.length >= 2);
  for (const [id, label] of fields) assert.notEqual(label, "", `the label of #${id}`);
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  assert.equal(await page.locator("h1").count(), 1);
});

test("the page fits a narrow screen, also with a mail and in the dark", async () => {
  const options = { ...NARROW, colorScheme: "dark" };
  const { page, faults } = await open(browser, `${otpd.origin}/dev`, options);
  await assertFits(page);
  // As long as the two parts of an address can be without a place to break at.
  await confirm(page, `${"l".repeat(64)}@${"d".repeat(63)}.example.com`);
  await assertFits(page);
  await screenshot(page, "dev-narrow-dark");
  const text = await page.evaluate(() => getComputedStyle(document.body).color);
  assert(text.match(/\d+/g).every((shade) => shade > 127), `light text in the dark, not ${text}`);
  assert.deepEqual(faults, []);
});
