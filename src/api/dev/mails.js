// Emails: received as server-sent events and shown as an email client would show them. The HTML of
// an email is a separate document in a sandboxed frame.

/** The maximum number of emails listed, which is also how many the service stores. */
const KEPT = 200;

/** Newest first. */
let mails = [];
let shown;
/** The URL of the document in the frame. */
let framed;
let source;

const isSame = (one, other) => one?.number === other?.number && one?.received_at === other?.received_at;

/** Replaces all emails. */
function takeAll(all) {
  if (all.length === mails.length && all.every((mail, at) => isSame(mail, mails[at]))) return;
  const isBehind = mails.length > 0 && !isSame(all[0], mails[0]);
  if (isSame(shown, mails[0]) || !all.some((mail) => isSame(mail, shown))) shown = all[0];
  mails = all;
  byId("mails").replaceChildren(...mails.map(entry));
  byId("news").textContent = mails.length > 0 ? "Newest first." : "No mail yet.";
  if (isBehind && mails.length > 0) announce(mails[0]);
  drawSoon();
}

/** Adds a new email, and shows it unless an older one is selected. */
function takeOne(mail) {
  if (isSame(shown, mails[0])) shown = mail;
  mails = [mail, ...mails].slice(0, KEPT);
  const item = entry(mail);
  item.firstChild.classList.add("fresh");
  byId("mails").prepend(item);
  while (byId("mails").children.length > KEPT) byId("mails").lastChild.remove();
  drawSoon();
  announce(mail);
}

function announce(mail) {
  byId("news").textContent = `New mail to ${mail.to}`;
}

/** Returns the list item of an email. */
function entry(mail) {
  const to = make("span", { dir: "auto" }, mail.to);
  const button = make("button", { type: "button" }, to, timeOf(new Date(mail.received_at)));
  button.mail = mail;
  button.addEventListener("click", () => {
    shown = mail;
    drawSoon();
  });
  return make("li", {}, button);
}

let drawing = false;

/** Draws once before the next repaint, however many emails arrive until then. */
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    draw();
  });
}

function draw() {
  byId("box").hidden = !shown;
  if (!shown) return;
  for (const button of byId("mails").querySelectorAll("button")) {
    if (isSame(button.mail, shown)) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
  byId("subject").textContent = shown.subject;
  byId("from").textContent = shown.from;
  byId("to").textContent = shown.to;
  byId("received").replaceChildren(timeOf(new Date(shown.received_at)));
  byId("text").textContent = shown.text;
  byId("headers").textContent = shown.headers.map(([name, value]) => `${name}: ${value}`).join("\n");
  // Numbers start at 1 again after a restart, so the time of receipt makes the URL unique.
  const address = `/dev/mails/${shown.number}/html?${shown.received_at}`;
  if (framed === address) return;
  framed = address;
  // Replace the history entry, so that going back leaves the page instead of showing the previous
  // email.
  byId("html").contentWindow.location.replace(new URL(address, location));
}

/** Opens the event stream. A new stream starts with all emails, so none is missed. Only a visible
 * page has one, because browsers limit the number of connections to a host over all pages. */
function connect() {
  source?.close();
  source = undefined;
  if (document.hidden) return;
  const stream = new EventSource("/dev/events");
  source = stream;
  stream.addEventListener("mails", (event) => takeAll(JSON.parse(event.data)));
  stream.addEventListener("mail", (event) => takeOne(JSON.parse(event.data)));
  stream.addEventListener("fault", (event) => showFault(JSON.parse(event.data)));
  stream.addEventListener("open", () => (byId("link").textContent = ""));
  stream.addEventListener("error", () => {
    byId("link").textContent = "The connection is lost; trying again.";
    // The browser does not reconnect after a response that is not an event stream.
    if (stream.readyState === EventSource.CLOSED) setTimeout(() => source === stream && connect(), 2000);
  });
}

document.addEventListener("visibilitychange", connect);

const tabs = [...document.querySelectorAll('[role="tab"]')];

function choose(tab) {
  for (const other of tabs) {
    other.setAttribute("aria-selected", String(other === tab));
    other.tabIndex = other === tab ? 0 : -1;
    byId(other.getAttribute("aria-controls")).hidden = other !== tab;
  }
}

for (const [at, tab] of tabs.entries()) {
  tab.addEventListener("click", () => choose(tab));
  tab.addEventListener("keydown", ({ key }) => {
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: -1 }[key];
    if (to === undefined) return;
    const next = tabs.at(to % tabs.length);
    choose(next);
    next.focus();
  });
}

