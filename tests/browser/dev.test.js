// The page at /dev: from an address to a confirmation with either API, and the call of each step.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

import { codeIn, eventually, open, startBoth, startOtpd, unexpected } from "./support.js";

// No wait between two sends to an address, because each command is run again.
const { otpd, browser } = await startBoth({ OTP_LIMITS__EMAIL_SENDS: "1000/1h" });

const outcome = (page, text) => page.locator("#outcome", { hasText: text }).waitFor();
const failure = (page, text) => page.locator("#failure", { hasText: text }).waitFor();
const hasFocus = (element) => element.evaluate((it) => it === document.activeElement);

/** Presses Tab until the element has the focus. */
async function tabTo(page, element) {
  for (let presses = 0; presses < 20; presses += 1) {
    if (await hasFocus(element)) return;
    await page.keyboard.press("Tab");
  }
  assert.fail(`the keyboard does not reach ${element}`);
}

/** Returns the code in the email that is shown. */
async function shownCode(page, address) {
  await page.locator("#to", { hasText: address }).waitFor();
  return codeIn(await page.locator("#text").textContent());
}

/** Returns the newest call: its command and its answer. */
async function newestCall(page) {
  const call = page.locator("#calls > li").first();
  const [command, answer] = await Promise.all([".command", ".answer"].map((part) => call.locator(part).textContent()));
  return { command, status: Number(answer.split(" ")[0]), answer };
}

/** Runs a command as if it were pasted into a shell. */
async function run(command) {
  const { stdout } = await promisify(execFile)("bash", ["-c", command]);
  const [head, body] = stdout.split("\r\n\r\n");
  const status = Number(/^HTTP\/1.1 (\d+)/.exec(head)[1]);
  return { status, head: head.toLowerCase(), body: body && JSON.parse(body) };
}

/** Runs the command of the newest call again; the answer must be the same. */
async function repeat(page) {
  const { command, status, answer } = await newestCall(page);
  const repeated = await run(command);
  assert.equal(repeated.status, status, command);
  const shown = answer.split("\n\n")[1];
  if (shown) assert.deepEqual(Object.keys(repeated.body), Object.keys(JSON.parse(shown)), command);
  return repeated;
}

test("a keyboard is enough to confirm an address with the simple endpoints", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`);
  await tabTo(page, page.getByLabel("Address"));
  await page.keyboard.type("simple@example.com");
  await page.keyboard.press("Enter");
  await outcome(page, "200 OTP sent successfully");
  const field = page.getByLabel("Code", { exact: true });
  assert(await hasFocus(field), "the next step has the focus");
  await page.keyboard.type(await shownCode(page, "simple@example.com"));
  await page.keyboard.press("Enter");
  await outcome(page, "200 OTP verified successfully");
  assert.match((await newestCall(page)).answer, /^OTP-Proof: ey/m);
  await page.keyboard.press("Enter");
  await failure(page, "400 Invalid or expired OTP");
  assert.equal(await field.getAttribute("aria-invalid"), "true");
  assert(await hasFocus(field));
  assert.deepEqual(unexpected(faults), []);
});

test("a keyboard is enough to confirm an address with v1, after a wrong code and a resend", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`);
  await tabTo(page, page.getByRole("radio", { name: "Simple" }));
  await page.keyboard.press("ArrowDown");
  assert(await hasFocus(page.getByRole("radio", { name: "v1" })));
  await tabTo(page, page.getByLabel("Address"));
  await page.keyboard.type("v1@example.com");
  await page.keyboard.press("Enter");
  await outcome(page, "201 pending, attempts left: 5");
  const first = await shownCode(page, "v1@example.com");
  const reference = /reference (\w{3})/.exec(await page.locator("#about").textContent())[1];
  assert.match(await page.locator("#text").textContent(), new RegExp(`the reference ${reference}\\.`));
  await page.keyboard.type(first === "000000" ? "000001" : "000000");
  await page.keyboard.press("Enter");
  await failure(page, "attempts left: 4");
  await page.locator("#about", { hasText: "Attempts left: 4." }).waitFor();

  const resend = page.getByRole("button", { name: "Resend" });
  await page.keyboard.press("Shift+Tab");
  assert(await hasFocus(resend));
  await page.keyboard.press("Enter");
  await outcome(page, "200 pending, attempts left: 4");
  const second = await eventually("another mail", async () => {
    const code = await shownCode(page, "v1@example.com");
    return code !== first && code;
  });
  // As phones and email programs paste it.
  await page.keyboard.insertText(` ${second.slice(0, 3)}-${second.slice(3)} `);
  await page.keyboard.press("Enter");
  await outcome(page, "200 approved");
  assert.equal(await resend.isVisible(), false);
  assert.match((await newestCall(page)).answer, /"proof": "ey/);
  assert.deepEqual(unexpected(faults), []);
});

test("what v1 cannot check yet is said, and the focus goes where the next step is", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  await page.getByRole("radio", { name: "v1" }).check();
  await page.getByRole("button", { name: "Verify" }).click();
  await failure(page, "Send a code first");
  assert(await hasFocus(page.getByLabel("Address")));
});

test("each command does in a shell what the page did", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`);
  const click = (name) => page.getByRole("button", { name }).click();
  // Every special character that a local part may contain and a shell would interpret.
  const address = "o'neil!#$HOME%&*+/=?^_`id`{|}~-@example.com";
  await page.getByLabel("Address").fill(address);
  await page.getByLabel("Language").selectOption("de");
  await click("Send code");
  await outcome(page, "200 OTP sent successfully");
  assert.match((await newestCall(page)).command, /-H 'Accept-Language: de'/);
  const before = await otpd.code(address);
  await repeat(page);
  await eventually("the command's mail", async () => (await otpd.code(address)) !== before);

  await page.getByLabel("Code", { exact: true }).fill(`'"$(id)\`id\` \\`);
  await click("Verify");
  await failure(page, "400 Invalid or expired OTP");
  await repeat(page);

  await page.getByRole("radio", { name: "v1" }).check();
  await click("Send code");
  await outcome(page, "201 pending");
  const created = await newestCall(page);
  assert.equal(JSON.parse(/-d '(.*)'$/s.exec(created.command)[1].replaceAll("'\\''", "'")).locale, "de");
  assert.match(created.answer, /^Location: \/v1\/verifications\/\w+/m);
  assert.match(created.answer, /^RateLimit: "key";r=\d+;t=\d+$/m);
  await repeat(page);
  await click("Resend");
  await outcome(page, "200 pending");
  await repeat(page);
  await page.getByLabel("Code", { exact: true }).fill((await otpd.code(address)) === "000000" ? "000001" : "000000");
  await click("Verify");
  await failure(page, "422");
  const { body } = await repeat(page);
  assert.equal(body.code, "invalid_code");
  assert.equal(body.attempts_remaining, 3, "the page's attempt and the command's");

  await page.getByRole("radio", { name: "Simple" }).check();
  await page.getByLabel("Address").fill(`"><img src=x onerror=alert(1)>'@example.com`);
  await click("Send code");
  await failure(page, "400 Invalid email address");
  assert.equal(await page.getByLabel("Address").getAttribute("aria-invalid"), "true");
  await repeat(page);
  await click("Reset limits");
  await outcome(page, "forgotten");
  await repeat(page);
  assert.deepEqual(unexpected(faults), []);
});

test("a command is copied as it is shown", async () => {
  const permissions = ["clipboard-read", "clipboard-write"];
  const { page } = await open(browser, `${otpd.origin}/dev`, { permissions });
  await page.getByLabel("Address").fill("copy@example.com");
  await page.getByRole("button", { name: "Send code" }).click();
  await outcome(page, "200 OTP sent");
  await page.getByRole("button", { name: "Copy command" }).click();
  await page.getByRole("button", { name: "Copied" }).waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), (await newestCall(page)).command);
});

test("calls and their commands are kept within bounds", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  for (let sends = 0; sends < 22; sends += 1) {
    await page.getByRole("button", { name: "Send code" }).click();
    await failure(page, "400 Email is required");
    await page.locator(`#calls > li:nth-child(${Math.min(sends + 1, 20)})`).waitFor();
  }
  assert.equal(await page.locator("#calls > li").count(), 20);
  assert.equal(await page.locator("#calls details[open]").count(), 1);
});

test("what a mail holds stays text", async () => {
  const brand = `<img src=x onerror="noteViolation('ran')"><script>1</script>'&`;
  const hostile = await startOtpd({ OTP_MAIL__BRAND: brand });
  try {
    const { page, faults } = await open(browser, `${hostile.origin}/dev`);
    await page.getByLabel("Address").fill("brand@example.com");
    await page.getByRole("button", { name: "Send code" }).click();
    await page.locator("#to", { hasText: "brand@example.com" }).waitFor();
    assert.equal(await page.locator("#subject").textContent(), `Your code for ${brand}`);
    await page.frameLocator("#html").getByText(`Your code for ${brand}`).waitFor();
    assert.equal(await page.locator("main img, main script").count(), 0);
    for (const part of ["Text", "Headers"]) await page.getByRole("tab", { name: part }).click();
    assert.match(await page.locator("#headers").textContent(), /^Message-ID: <\S+@dev\.example>$/m);
    assert.deepEqual(unexpected(faults), []);
  } finally {
    await hostile.stop();
  }
});

test("without JavaScript the page names the commands", async () => {
  const context = await browser.newContext({ javaScriptEnabled: false });
  const page = await context.newPage();
  await page.goto(`${otpd.origin}/dev`);
  const commands = await page.locator("noscript pre, section.card pre").allTextContents();
  const all = commands.join("\n");
  assert.equal(await page.locator("main").isVisible(), false);
  const [send] = all.split("\n").filter((line) => line.includes("/send-otp"));
  assert.equal((await run(send)).status, 200);
  const [create] = all.split("\n").filter((line) => line.includes("/v1/verifications "));
  assert.equal((await run(create)).status, 201);
  await context.close();
});
