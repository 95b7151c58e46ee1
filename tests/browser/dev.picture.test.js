// The picture of the page at /dev in README.md. To make it again, from the root of the repository:
//
//   ARTIFACTS=docs/images node --test tests/browser/dev.picture.test.js

import assert from "node:assert/strict";
import { stat } from "node:fs/promises";
import { test } from "node:test";

import { codeIn, open, screenshot, startBoth, unexpected } from "./support.js";

const { otpd, browser } = await startBoth();
/** The picture is part of the repository, which everybody downloads. */
const MAX_BYTES = 150_000;

test("the picture in the README shows an email that was captured, and is small", async () => {
  const view = { viewport: { width: 1100, height: 834 }, colorScheme: "light", reducedMotion: "reduce" };
  const { page, faults } = await open(browser, `${otpd.origin}/dev`, view);
  await page.getByRole("radio", { name: "v1" }).check();
  await page.getByLabel("Address").fill("ada@example.com");
  await page.getByRole("button", { name: "Send code" }).click();
  await page.locator("#to", { hasText: "ada@example.com" }).waitFor();
  await page.locator("#outcome", { hasText: "201" }).waitFor();
  const code = codeIn(await page.locator("#text").textContent());
  await page.frameLocator("#html").getByText(code, { exact: true }).waitFor();
  const { size } = await stat(await screenshot(page, "dev", { fullPage: false }));
  assert(size > 10_000 && size < MAX_BYTES, `${size} bytes`);
  assert.deepEqual(unexpected(faults), []);
  await page.context().close();
});
