// The page at /dev under `otpd dev --fail`: it names the faults, shows each one, and goes on.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { codeIn, eventually, open, startBrowser, startOtpd } from "./support.js";

const browser = await startBrowser();
after(() => browser.close());

const click = (page, name) => page.getByRole("button", { name, exact: true }).click();
const failure = (page, text) => page.locator("#failure", { hasText: text }).waitFor();
const outcome = (page, text) => page.locator("#outcome", { hasText: text }).waitFor();

/** Opens the page of a service with these faults, runs `use`, and expects no error but answers. */
async function withFaults(list, use) {
  const otpd = await startOtpd({ OTP_LIMITS__EMAIL_SENDS: "1000/1h" }, ...(list ? ["--fail", list] : []));
  try {
    const { page, faults, streaming } = await open(browser, `${otpd.origin}/dev`);
    // Faults are noted from then on.
    await streaming;
    await use(page, otpd);
    const answers = /Failed to load resource: the server responded with a status of (429|500|502|503) /;
    assert.deepEqual(faults.filter((fault) => !answers.test(fault)), []);
  } finally {
    await otpd.stop();
  }
}

/** Sends with one API until a response of this kind is shown; each send must be answered. */
async function sendUntil(page, isWanted) {
  return eventually("that response", async () => {
    const calls = page.locator("#calls > li:not(.fault)");
    const newest = async () => (await calls.count()) > 0 && calls.first().elementHandle();
    const before = await newest();
    await click(page, "Send code");
    const answered = await eventually("a response", async () => {
      const call = await newest();
      return call && (!before || !(await call.evaluate((it, other) => it === other, before))) && call;
    });
    return isWanted(await answered.$eval(".answer", (it) => Number(it.textContent.split(" ")[0])));
  });
}

for (const [fault, simple, v1] of [
  ["send", "500 Failed to send OTP", "502"],
  ["unknown", "500 Failed to send OTP", "502"],
  ["limited", "429 Too many requests, again in 5 s", "429"],
  ["unavailable", "503 Service unavailable", "503"],
]) {
  test(`the page names the fault ${fault}, shows it with either API, and notes it`, async () => {
    await withFaults(`${fault}=100%`, async (page) => {
      const notice = page.getByText("Faults are injected on purpose");
      await notice.waitFor();
      assert.match(await page.locator("#faults").textContent(), new RegExp(`${fault}=100%`));
      await page.getByLabel("Address").fill("a@example.com");
      const notes = page.locator("#calls > li.fault", { hasText: `on purpose: ${fault},` });
      for (const [number, [api, text]] of [["Simple", simple], ["v1", v1]].entries()) {
        await page.getByRole("radio", { name: api }).check();
        await click(page, "Send code");
        await failure(page, text);
        await eventually("a note", async () => (await notes.count()) === number + 1);
        assert(await page.getByRole("button", { name: "Send code" }).isEnabled());
      }
      assert.equal(await page.locator("#calls > li.fault").count(), 2);
    });
  });
}

test("after refusals, 429 and 503 the same page confirms the address", async () => {
  await withFaults("send=20%,limited=20%,unavailable=20%,slow=20ms", async (page) => {
    await page.getByLabel("Address").fill("a@example.com");
    const missing = new Set([429, 500, 503]);
    await sendUntil(page, (status) => missing.delete(status) && missing.size === 0);
    await sendUntil(page, (status) => status === 200);
    await page.locator("#to", { hasText: "a@example.com" }).waitFor();
    await page.getByLabel("Code", { exact: true }).fill(codeIn(await page.locator("#text").textContent()));
    await eventually("the confirmation", async () => {
      await click(page, "Verify");
      await page.locator("#outcome:not(:empty), #failure:not(:empty)").waitFor();
      return (await page.locator("#outcome").textContent()).startsWith("200 OTP verified");
    });
  });
});

test("a code whose email has arrived although its outcome was unknown can be checked with v1", async () => {
  await withFaults("unknown=100%", async (page, otpd) => {
    await page.getByRole("radio", { name: "v1" }).check();
    await page.getByLabel("Address").fill("a@example.com");
    // An email that arrives does so before the response.
    await sendUntil(page, async (status) => {
      assert.equal(status, 502);
      return (await (await fetch(`${otpd.origin}/dev/mails`)).json()).length > 0;
    });
    await page.locator("#to", { hasText: "a@example.com" }).waitFor();
    await page.getByLabel("Code", { exact: true }).fill(codeIn(await page.locator("#text").textContent()));
    await click(page, "Verify");
    await outcome(page, "200 approved");
  });
});

test("without faults the page names none", async () => {
  await withFaults(undefined, async (page) => {
    await page.getByLabel("Address").fill("a@example.com");
    await click(page, "Send code");
    await outcome(page, "200 OTP sent successfully");
    assert.equal(await page.locator("#faults, .fault").count(), 0);
  });
});
