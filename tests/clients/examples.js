// The programs in examples/ and the one in pydantic/, each used with one mistyped code.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { mailedCode, wrongCode } from "./otpd.js";

/** How long one of them may run, in milliseconds. */
const TIMEOUT = 60_000;

/** The command that starts each in the folder with its client. The address follows. */
const COMMANDS = {
  python: ["../venv/bin/python", "confirm.py"],
  pydantic: ["../venv/bin/python", "confirm.py"],
  typescript: ["node", "confirm.js"],
  ruby: ["ruby", "-I", "otpd/lib", "confirm.rb"],
  php: ["php", "confirm.php"],
};

/** Returns what to run: a name and a function for each language. */
export function exampleFlows(state, otpd) {
  return Object.entries(COMMANDS).map(([language, command]) => [
    language,
    () => confirm(join(state, language), command, `${language}@example.com`, otpd),
  ]);
}

/** Confirms an address with one of the programs. It reports a wrong code; the right one ends it. */
async function confirm(folder, [program, ...args], address, { origin, key }) {
  const child = spawn(program, [...args, address], {
    cwd: folder,
    env: { PATH: process.env.PATH, OTPD_URL: origin, OTPD_API_KEY: key },
    stdio: ["pipe", "pipe", "inherit"],
    timeout: TIMEOUT,
  });
  await once(child, "spawn");
  const closed = once(child, "close");
  try {
    assert.equal(await hear(child.stdout, /code: $/), "code: ");
    const code = await mailedCode(origin, address);
    child.stdin.write(`${wrongCode(code)}\n`);
    assert.equal(await hear(child.stdout, /code: $/), "invalid_code, attempts_remaining: 4\ncode: ");
    child.stdin.write(`${code}\n`);
    assert.equal(await hear(child.stdout, /\n$/), `confirmed: ${address}\n`);
    assert.deepEqual(await closed, [0, null], "its exit code, and the signal that ended it");
  } finally {
    child.kill();
  }
}

/** Returns what a program prints up to this text, or everything that it prints until it ends. */
async function hear(stream, something) {
  let said = "";
  for await (const text of stream.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    said += text;
    if (something.test(said)) break;
  }
  return said;
}
