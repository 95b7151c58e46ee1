// The steps: send, resend and verify, with either API.

/** The verification of v1 that a code is checked for. */
let verification;

const isV1 = () => new FormData(byId("send")).get("api") === "v1";
const locale = () => byId("locale").value;

function forgetVerification() {
  verification = undefined;
  showVerification();
}

/** What belongs to the chosen API beside the code. */
function showVerification() {
  const isOpen = isV1() && verification?.status === "pending";
  // What has the focus does not vanish without handing it on.
  if (!isOpen && document.activeElement === byId("resend")) byId("code").focus();
  byId("resend").hidden = !isOpen;
  byId("about").textContent = isOpen
    ? `The mail must show the reference ${verification.reference}. Guesses left: ${verification.attempts_remaining}.`
    : "As in the mail; spaces and dashes do no harm.";
}

/** What an answer says, in a line. */
function outcome({ status, headers, body }) {
  const left = body.attempts_remaining === undefined ? "" : `, guesses left: ${body.attempts_remaining}`;
  const wait = headers.has("Retry-After") ? `, again in ${headers.get("Retry-After")} s` : "";
  return `${status} ${body.message ?? body.title ?? body.status ?? ""}${left}${wait}`;
}

/** Whether what was typed is at fault. */
const isRefused = ({ status }) => status === 400 || status === 422;

/** A code was asked for: the next step is to type it. */
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

/** What is known now of a verification, unless another one has taken its place. */
function learn(id, news) {
  if (verification?.id === id) verification = { ...verification, ...news };
  showVerification();
}

/** What an answer changes of what is known. */
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
