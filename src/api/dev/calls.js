// Calls: sends each request and shows it as an equivalent curl command with the full response. Data
// from outside is inserted into the page only as text.

const byId = (id) => document.getElementById(id);
const make = (name, properties, ...children) => {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
};
const timeOf = (moment) => make("time", { dateTime: moment.toISOString() }, moment.toLocaleTimeString());

/** The maximum number of calls shown. */
const CALLS = 20;
/** The response headers that are shown. */
const NOTABLE = ["Location", "OTP-Proof", "RateLimit-Policy", "RateLimit", "Retry-After"];

/** Announces the outcome of a step: a failure assertively (role=alert), a success politely
 * (role=status). */
function say(text, isFault = false) {
  byId("outcome").textContent = isFault ? "" : text;
  byId("failure").textContent = isFault ? text : "";
}

/** Quotes a text as one word of a POSIX shell. */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

/** Returns the equivalent curl command. */
function curl({ path, headers, body }) {
  const words = Object.entries(headers).map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
  words.push(body === undefined ? "-X POST" : `-d ${quoted(body)}`);
  return [`curl -i ${quoted(location.origin + path)}`, ...words].join(" \\\n  ");
}

/** Returns a POST request to v1, with the API key, or to a simple endpoint. */
function request(path, members, headers = {}) {
  const key = path.startsWith("/v1/") ? { Authorization: `Bearer ${byId("key").textContent}` } : {};
  const body = JSON.stringify(members);
  return { path, body, headers: { "Content-Type": "application/json", ...key, ...headers } };
}

let isBusy = false;

/** Sends a request, shows it and returns the status, headers and body of the response. Returns
 * undefined while another request is in progress, so that a double click takes no second
 * attempt. */
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

/** Returns the response and its text, or an empty array if the request failed. */
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
  const call = make("div", { className: "call" }, command, copy, make("pre", { className: "answer" }, lines.join("\n")));
  log(make("li", {}, make("details", { open: true }, summary, call)));
}

/** Adds an entry to the calls, and removes the oldest ones. */
function log(item) {
  const calls = byId("calls");
  calls.prepend(item);
  while (calls.children.length > CALLS) calls.lastChild.remove();
}

/** What each fault does that `otpd dev --fail` injects. */
const FAULTS = {
  send: "the relay refused an email",
  unknown: "it is unknown whether the relay accepted an email",
  limited: "a limit was exceeded",
  unavailable: "the store did not answer",
};

/** Notes a fault that was injected, in a call of this page or of another program. */
function showFault({ fault }) {
  log(make("li", { className: "fault" }, `Fault on purpose: ${fault}, ${FAULTS[fault]} `, timeOf(new Date())));
}

async function copyText(source, button) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = "Copied";
  } catch {
    // Without clipboard permission, select the text so that the user can copy it with the keyboard.
    getSelection().selectAllChildren(source);
    button.textContent = "Marked: copy it";
  }
}

