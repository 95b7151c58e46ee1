// Swagger UI at /docs: what it shows works, from this origin alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { NARROW, assertFits, open, screenshot, startBrowser, startOtpd } from "./support.js";

let otpd, browser;

before(async () => {
  otpd = await startOtpd();
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await otpd?.stop();
});

/** Unfolds an operation and makes its body editable. */
async function tryOut(page, operationId) {
  const block = page.locator(`#operations-Simple-${operationId}`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  return block;
}

/** Sends the operation with a body and gives the status and the body that Swagger UI then shows. */
async function execute(page, block, body) {
  await block.locator("textarea.body-param__text").fill(JSON.stringify(body));
  const path = await block.locator(".opblock-summary-path").getAttribute("data-path");
  const answered = page.waitForResponse((response) => new URL(response.url()).pathname === path);
  await block.getByRole("button", { name: "Execute" }).click();
  const status = (await answered).status();
  const live = block.locator(".live-responses-table .response");
  await live.locator(".response-col_status", { hasText: String(status) }).waitFor();
  return [status, JSON.parse(await live.locator(".highlight-code code").first().textContent())];
}

test("both operations are shown and can be tried out", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/docs`);
  const paths = page.locator(".opblock-post .opblock-summary-path");
  await paths.first().waitFor();
  assert.deepEqual(await paths.evaluateAll((all) => all.map((path) => path.dataset.path)), ["/send-otp", "/verify-otp"]);

  const email = "docs@example.com";
  const send = await tryOut(page, "sendOtp");
  assert.deepEqual(await execute(page, send, { email }), [200, { message: "OTP sent successfully" }]);
  const otp = await otpd.code(email);
  const verify = await tryOut(page, "verifyOtp");
  assert.deepEqual(await execute(page, verify, { email, otp }), [200, { message: "OTP verified successfully" }]);
  await screenshot(page, "docs");
  assert.deepEqual(faults, []);

  assert.deepEqual(await execute(page, verify, { email, otp }), [400, { message: "Invalid or expired OTP" }]);
  // Chromium itself reports each answer of that kind, and there was one.
  assert.deepEqual(faults.splice(0), [
    "error: Failed to load resource: the server responded with a status of 400 (Bad Request)",
  ]);
});

test("the page fits a narrow screen", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/docs`, NARROW);
  await tryOut(page, "verifyOtp");
  await assertFits(page);
  await screenshot(page, "docs-narrow");
  assert.deepEqual(faults, []);
});
