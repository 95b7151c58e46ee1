// Runs every client against one `otpd dev` and counts the results: node check.js STATE OTPD

import { readFile } from "node:fs/promises";
import { join } from "node:path";

import { exampleFlows } from "./examples.js";
import { startOtpd } from "./otpd.js";
import { playCollection } from "./postman.js";

const [state, binary] = process.argv.slice(2);
const spec = JSON.parse(await readFile(join(state, "openapi.json"), "utf8"));
const otpd = await startOtpd(binary, state);
const outcomes = [];

/** Runs a client, and reports at once whether it passed. */
async function attempt(client, flow) {
  const fault = await flow().then(() => null, (error) => error);
  if (fault) console.error(fault);
  console.log(`${fault ? "FAILED" : "ok"}: ${client}`);
  outcomes.push(!fault);
}

let assertions = { passed: 0, failed: 0 };
try {
  for (const [language, flow] of exampleFlows(state, otpd)) await attempt(language, flow);
  await attempt("postman", async () => {
    assertions = await playCollection(state, spec, otpd);
    if (assertions.failed || !assertions.passed) throw new Error("the collection is not as documented");
  });
} finally {
  await otpd.stop();
}

const passed = outcomes.filter(Boolean).length;
console.log(`newman: ${assertions.passed} assertions passed, ${assertions.failed} failed`);
console.log(`clients: ${passed} passed, ${outcomes.length - passed} failed`);
process.exitCode = passed === outcomes.length ? 0 : 1;
