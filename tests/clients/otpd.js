// A running `otpd dev`, and the mailbox of everybody it mails to.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

/** Starts `otpd dev` in a folder and on a port of its own; what it logs is shown where something is amiss. */
export async function startOtpd(binary, folder) {
  const env = { OTP_HTTP__LISTEN: "127.0.0.1:0", OTP_LOG__LEVEL: "warn" };
  const child = spawn(binary, ["dev"], { cwd: folder, env, stdio: ["ignore", "pipe", "inherit"] });
  await once(child, "spawn");
  // What a newcomer would read off: where it is, and with which key it is asked.
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

/** The code in the newest captured mail to an address. */
export async function mailedCode(origin, address) {
  const answer = await fetch(`${origin}/dev/mails?to=${encodeURIComponent(address)}`);
  const [mail] = await answer.json();
  assert(mail, `a mail to ${address}`);
  const codes = mail.text.match(/\b\d{6}\b/g) ?? [];
  assert.equal(codes.length, 1, mail.text);
  return codes[0];
}

/** A code that is not this one. */
export function wrongCode(code) {
  return code.replace(/\d$/, (digit) => (Number(digit) + 1) % 10);
}
