// The HTML part of an email in each language, as an email program shows it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { assertFits, screenshot, startBoth } from "./support.js";

const LANGUAGES = ["ar", "de", "en", "es", "fr", "ja", "pt"];

const { otpd, browser } = await startBoth();

/**
 * Returns the newest email to an address, requested in that language over the endpoint that
 * browsers call.
 */
async function mailIn(language) {
  const email = `${language}@example.com`;
  const headers = { "Content-Type": "application/json", "Accept-Language": language };
  const answer = await fetch(`${otpd.origin}/send-otp`, { method: "POST", headers, body: JSON.stringify({ email }) });
  assert.equal(answer.status, 200);
  const [mail] = await (await fetch(`${otpd.origin}/dev/mails?to=${email}`)).json();
  return mail;
}

/** Shows the HTML without scripts, images or any request, as careful email programs do. */
async function show(html, options) {
  const context = await browser.newContext({ javaScriptEnabled: false, offline: true, ...options });
  const page = await context.newPage();
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await page.setContent(html);
  assert.deepEqual(requests, []);
  return page;
}

/** Returns the contrast of an element's text with its background (WCAG 2.2, relative luminance). */
function contrast([text, behind]) {
  const luminance = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map((shade) => {
      const share = shade / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [dark, light] = [luminance(text), luminance(behind)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

/** Returns the colours of each paragraph and of its background. */
const colours = (paragraphs) =>
  paragraphs.map((paragraph) => {
    let behind = paragraph;
    while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    return [getComputedStyle(paragraph).color, getComputedStyle(behind).backgroundColor];
  });

for (const language of LANGUAGES) {
  test(`the mail in ${language} reads well on a narrow screen, light and dark`, async () => {
    const { html, text } = await mailIn(language);
    const [code] = text.match(/^\d{6}$/m);
    for (const colorScheme of ["light", "dark"]) {
      const page = await show(html, { viewport: { width: 320, height: 640 }, colorScheme });
      await assertFits(page);
      assert.equal(await page.locator("html").getAttribute("lang"), language);
      const shown = page.getByText(code, { exact: true });
      assert.equal(await shown.count(), 1);
      // Unbroken, on one line, and left to right in every language.
      const box = await shown.boundingBox();
      assert(box.x >= 0 && box.x + box.width <= 320 && box.height < 80, JSON.stringify(box));
      const direction = await page.locator("td td").evaluate((cell) => getComputedStyle(cell).direction);
      assert.equal(direction, language === "ar" ? "rtl" : "ltr");
      for (const pair of await page.locator("p").evaluateAll(colours)) {
        assert(contrast(pair) >= 4.5, `${pair} in ${colorScheme}`);
      }
      await screenshot(page, `mail-${language}-${colorScheme}`);
      await page.context().close();
    }
  });
}

test("a mail on a wide screen stays a card", async () => {
  const { html } = await mailIn("en");
  const page = await show(html, { viewport: { width: 1280, height: 640 } });
  const card = await page.locator("table table").boundingBox();
  assert(card.width <= 480 && Math.abs(card.x - (1280 - card.width) / 2) <= 1, JSON.stringify(card));
  await screenshot(page, "mail-en-wide");
});
