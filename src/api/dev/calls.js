// Calls: each is sent, shown as the curl command that does the same, and answered in full. Nothing that comes from
// outside is put into the page but as text.

const byId = (id) => document.getElementById(id);
const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const timeOf = (moment) => make("time", { dateTime: moment.toISOString() }, moment.toLocaleTimeString());

/** The most calls that are shown. */
const CALLS = 20;
/** Headers that say something about the call. */
const NOTABLE = ["Location", "OTP-Proof", "RateLimit-Policy", "RateLimit", "Retry-After"];

/** Says how a step went; a fault interrupts, a success waits its turn. */
function say(text, isFault = false) {
  byId("outcome").textContent = isFault ? "" : text;
  byId("failure").textContent = isFault ? text : "";
}

/** A text as one word of a POSIX shell. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** The command that does the same. */
function curl({ path, headers, body }) {
  const words = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  words.push(body === undefined ? "-X POST" : `-d ${quoted(body)}`);
  return [`curl -i ${quoted(location.origin + path)}`, ...words].join(" \\\n  ");
}

/** A POST to v1 with the key, or to a simple endpoint. */
function request(path, members, headers = {}) {
  const key = path.startsWith("/v1/") ? { Authorization: `Bearer ${byId("key").textContent}` } : {};
  const body = JSON.stringify(members);
  return { path, body, headers: { "Content-Type": "application/json", ...key, ...headers } };
}

let isBusy = false;

/** Sends a request, shows it and gives its answer: status, headers and body. Gives none while another is under way: to
 * press twice spends no guess. */
async function call(asked) {
  if (isBusy) return undefined;
  isBusy = true;
  say("");
  const [answer, text] = await exchange(asked);
  isBusy = false;
  if (!answer) {
    say("No answer. Does otpd dev still run?", true);
    return undefined;
  }
  showCall(asked, answer, text);
  noteLimits(answer.headers);
  return { status: answer.status, isOk: answer.ok, headers: answer.headers, body: text ? JSON.parse(text) : {} };
}

/** The answer and its body; nothing where there is none. */
async function exchange({ path, headers, body }) {
  try {
    const answer = await fetch(path, { method: "POST", headers, body });
    return [answer, await answer.text()];
  } catch {
    return [];
  }
}

function showCall(asked, answer, text) {
  const calls = byId("calls");
  for (const older of calls.querySelectorAll("details[open]")) {
    if (!older.contains(document.activeElement)) older.open = false;
  }
  const command = make("pre", { className: "command" }, curl(asked));
  const copy = make("button", { type: "button", className: "copy" }, "Copy command");
  copy.addEventListener("click", () => copyText(command, copy));
  const headers = NOTABLE.filter((name) => answer.headers.has(name));
  const lines = [`${answer.status} ${answer.statusText}`, ...headers.map((name) => `${name}: ${answer.headers.get(name)}`)];
  if (text) lines.push("", JSON.stringify(JSON.parse(text), null, 2));
  const status = make("b", { className: answer.ok ? "good" : "bad" }, String(answer.status));
  const summary = make("summary", {}, `POST ${asked.path} `, status, " ", timeOf(new Date()));
  const told = make("div", { className: "call" }, command, copy, make("pre", { className: "answer" }, lines.join("\n")));
  calls.prepend(make("li", {}, make("details", { open: true }, summary, told)));
  while (calls.children.length > CALLS) calls.lastChild.remove();
}

async function copyText(source, button) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Without the permission it is marked for the keyboard to copy.
    getSelection().selectAllChildren(source);
    button.textContent = "Marked: copy it";
  }
}

