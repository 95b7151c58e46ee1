// The steps: send, resend and verify, with either API.

/** The v1 verification whose code is checked. */
let verification;

const isV1 = () => new FormData(byId("send")).get("api") === "v1";
const locale = () => byId("locale").value;

function forgetVerification() {
  verification = undefined;
  showVerification();
}

/** Shows the controls that depend on the selected API. */
function showVerification() {
  const isOpen = isV1() && verification?.status === "pending";
  // Move the focus before its element is hidden.
  if (!isOpen && document.activeElement === byId("resend")) byId("code").focus();
  byId("resend").hidden = !isOpen;
  byId("about").textContent = isOpen && verification.reference
    ? `The mail must show the reference ${verification.reference}. Attempts left: ${verification.attempts_remaining}.`
    : "As in the mail; spaces and dashes do no harm.";
}

/** Summarizes a response in one line. */
function outcome({ status, headers, body }) {
  const left = body.attempts_remaining === undefined ? "" : `, attempts left: ${body.attempts_remaining}`;
  const wait = headers.has("Retry-After") ? `, again in ${headers.get("Retry-After")} s` : "";
  return `${status} ${body.message ?? body.title ?? body.status ?? ""}${left}${wait}`;
}

/** Returns whether the input was rejected. */
const isRefused = ({ status }) => status === 400 || status === 422;

/** Handles the response to a send or resend, and moves on to the code. */
function sent(email, answer) {
  showVerification();
  say(outcome(answer), !answer.isOk);
  noteWait(email, answer);
  byId("email").setAttribute("aria-invalid", String(isRefused(answer)));
  if (!answer.isOk) return;
  byId("code").value = "";
  byId("code").removeAttribute("aria-invalid");
  byId("code").focus();
}

byId("send").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [byIds, email] = [isV1(), byId("email").value];
  const asked = byIds
    ? request("/v1/verifications", { email, locale: locale() })
    : request("/send-otp", { email }, { "Accept-Language": locale() });
  const answer = await call(asked);
  if (!answer) return;
  if (answer.isOk && byIds) verification = { ...answer.body, address: email.trim() };
  // The email of a verification whose outcome is unknown may arrive, and its code can be checked.
  else if (answer.body.id) verification = { id: answer.body.id, status: "pending", address: email.trim() };
  sent(email.trim(), answer);
});

byId("resend").addEventListener("click", async () => {
  const { id, address } = verification;
  const answer = await call(request(`/v1/verifications/${id}/resend`, {}));
  if (!answer) return;
  learn(id, answer.isOk ? answer.body : changed(answer.body));
  sent(address, answer);
});

byId("verify").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [byIds, code] = [isV1(), byId("code").value];
  if (byIds && !verification) {
    say("Send a code first: v1 checks a verification by its id.", true);
    byId("email").focus();
    return;
  }
  const id = verification?.id;
  const asked = byIds
    ? request(`/v1/verifications/${id}/check`, { code })
    : request("/verify-otp", { email: byId("email").value, otp: code });
  const answer = await call(asked);
  if (!answer) return;
  if (byIds) learn(id, changed(answer.body));
  say(outcome(answer), !answer.isOk);
  byId("code").setAttribute("aria-invalid", String(isRefused(answer)));
  if (!answer.isOk) byId("code").select();
});

/** Updates the current verification, unless another one has replaced it. */
function learn(id, news) {
  if (verification?.id === id) verification = { ...verification, ...news };
  showVerification();
}

/** Returns the properties of the verification that a response changes. */
function changed({ status, verification_status: closed, attempts_remaining }) {
  if (typeof status === "string") return { status };
  if (closed) return { status: closed };
  return attempts_remaining === undefined ? {} : { attempts_remaining };
}

for (const choice of document.getElementsByName("api")) choice.addEventListener("change", showVerification);

byId("app").hidden = false;
showVerification();
tick();
connect();
