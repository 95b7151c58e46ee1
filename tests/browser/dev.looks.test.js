// The page at /dev: accessibility and layout, on wide and narrow screens, in light and dark mode.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";

import { NARROW, assertFits, codeIn, open, screenshot, startBoth, startOtpd, unexpected } from "./support.js";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const WIDE = { viewport: { width: 1280, height: 900 } };

const { otpd, browser } = await startBoth({ OTP_LIMITS__EMAIL_SENDS: "1/1h" });

/**
 * Asserts that axe-core finds no violation. Includes its best practices and the target size of WCAG
 * 2.2.
 */
async function assertAccessible(page, state) {
  await page.evaluate(AXE);
  const violations = await page.evaluate(async () => {
    // Animations are checked when they have ended.
    await Promise.all(document.getAnimations().map((animation) => animation.finished));
    const options = { iframes: false, rules: { "target-size": { enabled: true } } };
    const { violations, passes } = await window.axe.run(document, options);
    if (passes.length < 20) return ["it looked at nothing"];
    return violations.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.html}: ${node.failureSummary}`));
  });
  assert.deepEqual(violations, [], state);
}

/** Goes through all states of the page, with its own address. */
async function walk(options, name, address) {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`, options);
  const click = (label) => page.getByRole("button", { name: label }).click();
  const look = async (state) => {
    await assertAccessible(page, `${name}, ${state}`);
    await assertFits(page);
  };
  await look("fresh");
  await page.getByRole("radio", { name: "v1" }).check();
  await page.getByLabel("Address").fill(address);
  await click("Send code");
  await page.locator("#to", { hasText: address }).waitFor();
  await page.locator("#outcome", { hasText: "201" }).waitFor();
  await look("after a mail");
  const field = page.getByLabel("Code", { exact: true });
  await field.fill("12");
  await click("Verify");
  await page.locator("#failure", { hasText: "422" }).waitFor();
  await look("after a wrong code");
  await field.fill(codeIn(await page.locator("#text").textContent()));
  await click("Verify");
  await page.locator("#outcome", { hasText: "200" }).waitFor();
  await look("after success");
  await screenshot(page, name);
  await page.getByRole("radio", { name: "Simple" }).check();
  await click("Send code");
  await page.locator("#outcome", { hasText: "200" }).waitFor();
  await click("Send code");
  await page.locator("#failure", { hasText: "429" }).waitFor();
  for (const part of ["Text", "Headers"]) {
    await page.getByRole("tab", { name: part }).click();
    await look(`limited, with the ${part} of the mail`);
  }
  await screenshot(page, `${name}-limited`);
  assert.deepEqual(unexpected(faults), []);
  await page.context().close();
}

for (const colorScheme of ["light", "dark"]) {
  // The longest unbroken parts that an address can have.
  const long = `${colorScheme}${"l".repeat(58)}@${"d".repeat(63)}.example.com`;
  const suffix = colorScheme === "dark" ? "-dark" : "";
  test(`nobody is kept out, ${colorScheme}, on a wide screen`, () =>
    walk({ ...WIDE, colorScheme }, colorScheme === "dark" ? "dev-dark" : "dev-1280", `${colorScheme}@example.com`));
  test(`nobody is kept out, ${colorScheme}, on a narrow screen`, () =>
    walk({ ...NARROW, colorScheme }, `dev-320${suffix}`, long));
}

for (const [name, options] of [["wide", WIDE], ["narrow", NARROW]]) {
  test(`nobody is kept out while faults are injected, on a ${name} screen`, async () => {
    const faulty = await startOtpd({}, "--fail", "send=100%,slow=10ms");
    try {
      for (const colorScheme of ["light", "dark"]) {
        const { page, streaming } = await open(browser, `${faulty.origin}/dev`, { ...options, colorScheme });
        await streaming;
        await page.getByLabel("Address").fill("faults@example.com");
        await page.getByRole("button", { name: "Send code" }).click();
        await page.locator("#calls .fault").waitFor();
        await page.locator("#failure", { hasText: "500" }).waitFor();
        await assertAccessible(page, `${name}, ${colorScheme}, with faults`);
        await assertFits(page);
        await screenshot(page, `dev-faults-${name}-${colorScheme}`);
        await page.context().close();
      }
    } finally {
      await faulty.stop();
    }
  });
}

test("every field is labelled, and browsers know which one takes the code", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`);
  const code = page.getByLabel("Code", { exact: true });
  assert.equal(await code.getAttribute("autocomplete"), "one-time-code");
  assert.equal(await code.getAttribute("inputmode"), "numeric");
  assert.equal(await page.locator('[autocomplete="one-time-code"]').count(), 1);
  const fields = await page.locator("input, select, textarea").evaluateAll((all) =>
    all.map((field) => [field.id, [...field.labels].map((label) => label.textContent.trim()).join()]),
  );
  assert(fields.length >= 5);
  for (const [id, label] of fields) assert.notEqual(label, "", `the label of #${id}`);
  assert.equal(await page.locator("html").getAttribute("lang"), "en");
  assert.equal(await page.locator("h1").count(), 1);
});

test("the mail is dark in the dark, and may do nothing", async () => {
  const { page, faults } = await open(browser, `${otpd.origin}/dev`, { colorScheme: "dark" });
  await page.getByLabel("Address").fill("frame@example.com");
  await page.getByRole("button", { name: "Send code" }).click();
  await page.locator("#to", { hasText: "frame@example.com" }).waitFor();
  const frame = page.locator("#html");
  assert.equal(await frame.getAttribute("sandbox"), "");
  const text = page.frameLocator("#html").getByText("Your code for");
  const shades = await text.evaluate((it) => getComputedStyle(it).color.match(/\d+/g));
  assert(shades.every((shade) => shade > 127), `light text in the dark, not ${shades}`);
  const size = await page.frameLocator("#html").getByText(/^\d{6}$/).evaluate((it) => getComputedStyle(it).fontSize);
  assert.equal(size, "32px", "its own styles hold");
  assert.deepEqual(faults, []);
});

test("a page that nobody moves for stands still", async () => {
  const { page } = await open(browser, `${otpd.origin}/dev`, { reducedMotion: "reduce" });
  await page.getByLabel("Address").fill("still@example.com");
  await page.getByRole("button", { name: "Send code" }).click();
  await page.locator("#to", { hasText: "still@example.com" }).waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
});
