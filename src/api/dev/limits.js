// Limits: shows what the responses report, counts down waits, and resets the limits.

/** The state of each limit, by policy name. */
const left = new Map();
/** When the next send is possible, in milliseconds since the epoch: by address, and under ANYBODY
 * for all addresses. */
const waits = new Map();
const ANYBODY = "";
const UNKNOWN = -1;
const FREE = "A code can be sent to this address now.";
const SILENT = "The simple endpoint tells of a wait only where it refuses.";
/** Waits up to this many milliseconds are not announced. */
const SHORT = 5_000;

const typedAddress = () => byId("email").value.trim();

/** Records the RateLimit and RateLimit-Policy headers: lists such as "ip_sends";r=29;t=3600. */
function noteLimits(headers) {
  for (const [, name, quota, window] of (headers.get("RateLimit-Policy") ?? "").matchAll(/"(\w+)";q=(\d+);w=(\d+)/g)) {
    left.set(name, { quota, window: Number(window) });
  }
  for (const [, name, remaining, seconds] of (headers.get("RateLimit") ?? "").matchAll(/"(\w+)";r=(\d+);t=(\d+)/g)) {
    Object.assign(left.get(name), { remaining, more: new Date(Date.now() + seconds * 1000) });
  }
  showLimits();
}

function showLimits() {
  byId("no-limits").hidden = left.size > 0;
  byId("limits").hidden = left.size === 0;
  const rows = [...left].map(([name, { remaining, quota, window, more }]) =>
    make(
      "tr",
      {},
      make("th", { scope: "row" }, name.replaceAll("_", " ")),
      make("td", {}, `${remaining} of ${quota}`),
      make("td", {}, inWords(window)),
      make("td", {}, timeOf(more)),
    ),
  );
  byId("limits").tBodies[0].replaceChildren(...rows);
}

function inWords(seconds) {
  for (const [unit, size] of [["h", 3600], ["min", 60]]) {
    if (seconds >= size && seconds % size === 0) return `${seconds / size} ${unit}`;
  }
  return `${seconds} s`;
}

/** The maximum number of addresses in `waits`. */
const WAITS = 100;

/** Records when the response to a send permits the next one. */
function noteWait(address, answer) {
  const after = Number(answer.headers.get("Retry-After")) * 1000;
  if (answer.status === 429) {
    const policy = answer.body.policy ?? /"(\w+)";r=0;/.exec(answer.headers.get("RateLimit"))?.[1];
    waits.set(/email_/.test(policy) ? address : ANYBODY, Date.now() + after);
  } else if (answer.isOk) {
    waits.set(address, answer.body.resend_at ? Date.parse(answer.body.resend_at) : UNKNOWN);
  }
  if (waits.size > WAITS) waits.delete(waits.keys().next().value);
  tick();
}

let timer;
let isLong = false;

/** Shows the remaining wait and updates it every second. Announces only the end of a long wait to
 * screen readers. */
function tick() {
  clearTimeout(timer);
  const address = typedAddress();
  const own = waits.get(address) ?? 0;
  const wait = Math.max(own, waits.get(ANYBODY) ?? 0) - Date.now();
  const isTold = wait > 0 || own !== UNKNOWN;
  byId("wait").textContent = wait > 0 ? `Next send to this address in ${clock(Math.ceil(wait / 1000))}` : isTold ? FREE : SILENT;
  byId("wait").hidden = address === "";
  byId("wait").classList.toggle("waits", wait > 0);
  byId("due").textContent = isLong && isTold && wait <= 0 ? FREE : "";
  isLong = wait > 0 && (isLong || wait > SHORT);
  if (wait > 0) timer = setTimeout(tick, wait % 1000 || 1000);
}

/** Formats a duration, such as 1:05 or 2:00:09. */
function clock(seconds) {
  const [hours, minutes, rest] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}

/** Clears all ledgers, verifications and idempotency keys. */
async function reset() {
  const answer = await call({ path: "/dev/reset", headers: {} });
  if (!answer?.isOk) return;
  waits.clear();
  left.clear();
  isLong = false;
  showLimits();
  tick();
  forgetVerification();
  say("All limits and verifications are forgotten.");
}

byId("reset").addEventListener("click", reset);
byId("email").addEventListener("input", () => {
  isLong = false;
  tick();
});

