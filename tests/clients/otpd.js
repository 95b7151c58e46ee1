// A running `otpd dev`, and the mailbox of all its recipients.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Starts `otpd dev` in a folder and on a free port. Its warnings and errors are shown. */
export async function startOtpd(binary, folder) {
  const env = { OTP_HTTP__LISTEN: "127.0.0.1:0", OTP_LOG__LEVEL: "warn" };
  const child = spawn(binary, ["dev"], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
  await once(child, "spawn");
  // What a new user would copy: the URL and the API key.
  let origin, key;
  for await (const line of createInterface({ input: child.stdout })) {
    origin ??= /\bhttp:\/\/localhost:\d+(?=\/dev\b)/.exec(line)?.[0];
    key ??= /\botpd_[\w-]{43}(?!\S)/.exec(line)?.[0];
    if (origin && key) break;
  }
  assert(origin && key, "otpd dev says where it is and names a key");
  child.stdout.resume();
  const stop = async () => {
    if (child.exitCode === null && child.kill()) await once(child, "exit");
  };
  return { origin, key, stop };
}

/** Returns the code in the newest captured email to an address. */
export async function mailedCode(origin, address) {
  const answer = await fetch(`${origin}/dev/mails?to=${encodeURIComponent(address)}`);
  const [mail] = await answer.json();
  assert(mail, `a mail to ${address}`);
  const codes = mail.text.match(/\b\d{6}\b/g) ?? [];
  assert.equal(codes.length, 1, mail.text);
  return codes[0];
}

/** Returns a code other than this one. */
export function wrongCode(code) {
  return code.replace(/\d$/, (digit) => (Number(digit) + 1) % 10);
}
