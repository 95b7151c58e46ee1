// Swagger UI at /docs: everything on it works, and it loads from this origin only.

import assert from "node:assert/strict";
import { test } from "node:test";

import { NARROW, assertFits, open, screenshot, startBoth, startOtpd, startPrefixed, startServe } from "./support.js";

const { otpd, browser } = await startBoth();

/** Unfolds an operation and makes its body editable. */
async function tryOut(page, operationId, tag = "Simple") {
  const block = page.locator(`#operations-${tag}-${operationId}`);
  await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Try it out" }).click();
  return block;
}

/** Sends the operation with a body, and returns the status and the body that Swagger UI shows. */
async function execute(page, block, body, prefix = "") {
  if (body) await block.locator("textarea.body-param__text").fill(JSON.stringify(body));
  const [method, template] = await Promise.all([
    block.locator(".opblock-summary-method").textContent(),
    block.locator(".opblock-summary-path").getAttribute("data-path"),
  ]);
  const path = new RegExp(`^${prefix}${template.replace(/\{\w+\}/g, "[^/]+")}$`);
  const answered = page.waitForResponse(
    (response) => response.request().method() === method && path.test(new URL(response.url()).pathname),
  );
  await block.getByRole("button", { name: "Execute" }).click();
  const status = (await answered).status();
  const live = block.locator(".live-responses-table .response");
  await live.locator(".response-col_status", { hasText: String(status) }).waitFor();
  return [status, JSON.parse(await live.locator(".highlight-code code").first().textContent())];
}

test("the simple operations are shown and can be tried out", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/docs`);
  const paths = page.locator(".opblock-post .opblock-summary-path");
  await paths.first().waitFor();
  assert.deepEqual(await paths.evaluateAll((all) => all.map((path) => path.dataset.path)), [
    "/send-otp",
    "/verify-otp",
    "/v1/verifications",
    "/v1/verifications/{id}/check",
    "/v1/verifications/{id}/resend",
  ]);

  const email = "docs@example.com";
  const send = await tryOut(page, "sendOtp");
  assert.deepEqual(await execute(page, send, { email }), [200, { message: "OTP sent successfully" }]);
  const otp = await otpd.code(email);
  const verify = await tryOut(page, "verifyOtp");
  assert.deepEqual(await execute(page, verify, { email, otp }), [200, { message: "OTP verified successfully" }]);
  await screenshot(page, "docs");
  assert.deepEqual(faults, []);

  assert.deepEqual(await execute(page, verify, { email, otp }), [400, { message: "Invalid or expired OTP" }]);
  // Chromium itself reports each answer of that kind; there was one.
  assert.deepEqual(faults.splice(0), [
    "error: Failed to load resource: the server responded with a status of 400 (Bad Request)",
  ]);
});

test("with a key a verification is started, checked and approved", async () => {
  const serve = await startServe();
  try {
    const { page, faults } = await open(browser, `${serve.origin}/docs`);
    await page.getByRole("button", { name: "Authorize" }).click();
    const dialog = page.locator(".dialog-ux");
    await dialog.locator("input").fill(serve.key);
    await dialog.getByRole("button", { name: "Apply credentials" }).click();
    await dialog.getByRole("button", { name: "Close" }).click();

    const email = "swagger@example.com";
    const create = await tryOut(page, "createVerification", "Verifications");
    const [created, verification] = await execute(page, create, { email, purpose: "login" });
    assert.deepEqual([created, verification.status, verification.email], [201, "pending", "s***@example.com"]);

    const check = await tryOut(page, "checkVerification", "Verifications");
    await check.locator(`tr[data-param-name="id"] input`).fill(verification.id);
    const code = await serve.code(email);
    const [approved, approval] = await execute(page, check, { code });
    assert.deepEqual([approved, approval.id, approval.status], [200, verification.id, "approved"]);
    assert.equal(approval.proof.split(".").length, 3);
    await screenshot(check.locator(".live-responses-table"), "docs-v1");

    const show = await tryOut(page, "showVerification", "Verifications");
    await show.locator(`tr[data-param-name="id"] input`).fill(verification.id);
    const [shown, { status }] = await execute(page, show);
    assert.deepEqual([shown, status], [200, "approved"]);
    assert.deepEqual(faults, []);
  } finally {
    await serve.stop();
  }
});

for (const isUrlSet of [true, false]) {
  test(`under a path prefix the page calls the service there, ${isUrlSet ? "with" : "without"} a public URL`, async () => {
    const proxy = await startPrefixed("/otp");
    const service = await startOtpd(isUrlSet ? { OTP_HTTP__PUBLIC_URL: `${proxy.url}/` } : {});
    try {
      proxy.lead(service.origin);
      const { page, faults } = await open(browser, `${proxy.url}/docs`);
      const send = await tryOut(page, "sendOtp");
      const asked = page.waitForRequest((request) => request.method() === "POST");
      const answer = execute(page, send, { email: "prefix@example.com" }, "/otp");
      assert.equal((await asked).url(), `${proxy.url}/send-otp`);
      assert.deepEqual(await answer, [200, { message: "OTP sent successfully" }]);
      assert.deepEqual(faults, []);
      const document = await (await fetch(`${proxy.url}/openapi.json`)).json();
      assert.equal(document.servers[0].url, isUrlSet ? proxy.url : "/");
    } finally {
      await service.stop();
      await proxy.stop();
    }
  });
}

test("the page fits a narrow screen", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/docs`, NARROW);
  await tryOut(page, "verifyOtp");
  await assertFits(page);
  await screenshot(page, "docs-narrow");
  assert.deepEqual(faults, []);
});
