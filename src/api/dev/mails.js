// Mails: they come by themselves, and are shown as their reader would see them. The HTML of a mail is a document of its
// own in a frame that may do nothing.

/** The most mails that are listed; the service keeps no more either. */
const KEPT = 200;

/** Newest first. */
let mails = [];
let shown;
/** What the frame holds. */
let framed;
let source;

const isSame = (one, other) => one?.number === other?.number && one?.received_at === other?.received_at;

/** The mails that are there, in place of those that were. */
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

/** One more mail. It is shown unless an older one is being read. */
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

/** What stands for a mail in the list. */
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

/** Many mails may come between two pictures. */
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
  // The moment makes it another document after a restart, which counts from one again.
  const address = `/dev/mails/${shown.number}/html?${shown.received_at}`;
  if (framed === address) return;
  framed = address;
  // Replaced, so that going back leaves the page and not the mail.
  byId("html").contentWindow.location.replace(new URL(address, location));
}

/** A stream that begins anew brings all mails, so that none is missed. Only a page that is seen holds one: browsers have
 * few connections for all pages of a host. */
function connect() {
  source?.close();
  source = undefined;
  if (document.hidden) return;
  const stream = new EventSource("/dev/events");
  source = stream;
  stream.addEventListener("mails", (event) => takeAll(JSON.parse(event.data)));
  stream.addEventListener("mail", (event) => takeOne(JSON.parse(event.data)));
  stream.addEventListener("open", () => (byId("link").textContent = ""));
  stream.addEventListener("error", () => {
    byId("link").textContent = "The connection is lost; trying again.";
    // After an answer that is no stream the browser itself tries no more.
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

