//! What email providers and the hook do, and what happens to the answer, the emails and the code;
//! providers and relays that stand in for each other; emails that are handed over twice.

use std::sync::Arc;
use std::time::Duration;

use otpd::adapters::mailer::{Transport, TransportMailer};
use otpd::adapters::message::{Composer, SampleValues};
use otpd::adapters::smtp::{Login, RESEND_IDEMPOTENCY_KEY, Relay, SmtpTransport, Tls};
use otpd::domain::code::Code;
use otpd::domain::email_address::EmailAddress;
use otpd::domain::locale::Locale;
use otpd::domain::sender::Sender;
use otpd::domain::tenant::Tenant;
use otpd::ports::{CodeMail, Delivery, Mailer as _};
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::{TestApp, eventually};
use crate::support::dialects::{Dialect, KEY};
use crate::support::http_sink::{HttpSink, Step};
use crate::support::smtp::{Fault, SmtpPeer};

/// What a provider and a relay do and the outcome: requests to the provider, the answers of both
/// APIs, emails in total, and the code.
struct Row {
    what: &'static str,
    route: Route,
    provider: Setting,
    relay: Fault,
    /// The cells of the table.
    outcome: &'static str,
    /// Those of Resend, which drops duplicates, if they differ.
    of_resend: Option<&'static str>,
}

/// The order of the transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Alone,
    ThenRelay,
    AfterRelay,
}

/// The state of the provider before each send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    Plays(&'static [Step]),
    Gone,
    HasDroppedIdle,
}

impl Row {
    /// Returns a row about a provider without a relay.
    const fn alone(what: &'static str, provider: Setting, outcome: &'static str) -> Self {
        Self { what, route: Route::Alone, provider, relay: Fault::None, outcome, of_resend: None }
    }

    /// Returns a row about a provider and a relay that is asked after it.
    const fn then(relay: Fault, what: &'static str, provider: Setting, outcome: &'static str) -> Self {
        Self { what, route: Route::ThenRelay, provider, relay, outcome, of_resend: None }
    }

    /// Returns a row about a relay and a provider that is asked after it.
    const fn after(relay: Fault, what: &'static str, outcome: &'static str) -> Self {
        let provider = Setting::Plays(&[Step::Accept]);
        Self { what, route: Route::AfterRelay, provider, relay, outcome, of_resend: None }
    }

    const fn but_resend(self, outcome: &'static str) -> Self {
        Self { of_resend: Some(outcome), ..self }
    }

    fn outcome_of(&self, dialect: Dialect) -> &'static str {
        self.of_resend.filter(|_| dialect == Dialect::Resend).unwrap_or(self.outcome)
    }
}

const SUCCESS: &str = "1 | 200 | 201 | 1 | lives";
const REFUSAL: &str = "1 | 500 | 502 | 0 | dead";
const UNKNOWN: &str = "1 | 500 | 502 with `id` | 1 | lives";
/// The email was handed over twice, and sent once.
const REPEATED: &str = "2 | 200 | 201 | 1 | lives";

const MATRIX: [Row; 24] = [
    Row::alone("accepts the email", Setting::Plays(&[Step::Accept]), SUCCESS),
    Row::alone("refuses the connection", Setting::Gone, "0 | 500 | 502 | 0 | dead"),
    Row::alone(
        "closes once it has the request, without accepting it",
        Setting::Plays(&[Step::Close, Step::Accept]),
        "1 | 500 | 502 with `id` | 0 | lives",
    )
    .but_resend(REPEATED),
    Row::alone(
        "accepts it and closes without an answer",
        Setting::Plays(&[Step::AcceptAndClose, Step::Accept]),
        UNKNOWN,
    )
    .but_resend(REPEATED),
    Row::alone("accepts it and never answers", Setting::Plays(&[Step::AcceptAndHang, Step::Accept]), UNKNOWN)
        .but_resend(REPEATED),
    Row::alone("accepts it and answers 500", Setting::Plays(&[Step::AcceptAndFail, Step::Accept]), UNKNOWN)
        .but_resend(REPEATED),
    Row::alone(
        "accepts it and answers no HTTP",
        Setting::Plays(&[Step::AcceptAndGarble, Step::Accept]),
        UNKNOWN,
    )
    .but_resend(REPEATED),
    Row::alone(
        "answers 500 once, without accepting it",
        Setting::Plays(&[Step::Fail, Step::Accept]),
        "1 | 500 | 502 with `id` | 0 | lives",
    )
    .but_resend(REPEATED),
    Row::alone("answers 500 each time", Setting::Plays(&[Step::Fail]), "1 | 500 | 502 with `id` | 0 | lives")
        .but_resend("3 | 500 | 502 with `id` | 0 | lives"),
    Row::alone(
        "answers 429 twice, then accepts it",
        Setting::Plays(&[Step::Busy, Step::Busy, Step::Accept]),
        "3 | 200 | 201 | 1 | lives",
    ),
    Row::alone("answers 429 each time", Setting::Plays(&[Step::Busy]), "3 | 500 | 502 | 0 | dead"),
    Row::alone("refuses the recipient", Setting::Plays(&[Step::Refuse]), REFUSAL),
    Row::alone("answers with a redirect", Setting::Plays(&[Step::Redirect]), REFUSAL),
    Row::alone(
        "accepts it after 3 s",
        Setting::Plays(&[Step::AcceptSlowly(Duration::from_secs(3))]),
        SUCCESS,
    ),
    Row::alone("has closed its idle connections", Setting::HasDroppedIdle, SUCCESS),
    Row::then(Fault::None, "is down; the relay is up", Setting::Gone, "0 | 200 | 201 | 1 | lives"),
    Row::then(
        Fault::None,
        "refuses the recipient; the relay takes it",
        Setting::Plays(&[Step::Refuse]),
        SUCCESS,
    ),
    Row::then(Fault::None, "answers 429; the relay takes it", Setting::Plays(&[Step::Busy]), SUCCESS),
    Row::then(
        Fault::None,
        "accepts it and closes without an answer; the relay is up",
        Setting::Plays(&[Step::AcceptAndClose, Step::Accept]),
        UNKNOWN,
    )
    .but_resend(REPEATED),
    Row::then(
        Fault::None,
        "answers 500; the relay is up",
        Setting::Plays(&[Step::Fail, Step::Accept]),
        "1 | 500 | 502 with `id` | 0 | lives",
    )
    .but_resend(REPEATED),
    Row::then(
        Fault::RefuseRecipient,
        "refuses the recipient; the relay as well",
        Setting::Plays(&[Step::Refuse]),
        REFUSAL,
    ),
    Row::after(Fault::CloseOnConnect, "comes second; the relay is down", SUCCESS),
    Row::after(Fault::RefuseRecipient, "comes second; the relay answers 550", SUCCESS),
    Row::after(
        Fault::CloseAfterContent,
        "comes second; the relay closes once it has the message",
        "0 | 500 | 502 with `id` | 1 | lives",
    ),
];

/// A service with one provider, and a relay.
struct Deployment {
    app: TestApp,
    sink: HttpSink,
    dialect: Dialect,
}

impl Deployment {
    async fn start(dialect: Dialect, route: Route, is_gone: bool) -> Self {
        let sink = if is_gone { HttpSink::gone(dialect) } else { HttpSink::start(dialect).await };
        let order = match route {
            Route::Alone => dialect.word().to_owned(),
            Route::ThenRelay => format!("{},smtp", dialect.word()),
            Route::AfterRelay => format!("smtp,{}", dialect.word()),
        };
        let mut builder = TestApp::builder().keyed().set("OTP_SENDER", &order);
        for (name, value) in dialect.settings(&sink.url()) {
            builder = builder.set(name, &value);
        }
        Self { app: builder.spawn().await, sink, dialect }
    }

    /// Returns the codes in the emails to an address, of the provider and of the relay.
    fn codes_to(&self, to: &str) -> Vec<String> {
        let of_relay = self.app.smtp.mails().into_iter().filter(|mail| mail.to == [to]);
        self.sink.codes_to(to).into_iter().chain(of_relay.map(|mail| mail.code())).collect()
    }

    /// Sets everything up as before the first send of a row.
    async fn prepare(&self, row: &Row, number: usize) {
        self.sink.play(&[Step::Accept]);
        self.app.smtp.set(Fault::None);
        if row.provider != Setting::Gone {
            // A connection lies ready, and no circuit breaker counts.
            let warm = self.app.send_otp(&format!("warm{number}@example.com")).await;
            assert_eq!(warm.status, 200, "{}: {}", row.what, self.app.log());
        }
        match row.provider {
            Setting::Plays(steps) => self.sink.play(steps),
            Setting::HasDroppedIdle => self.sink.drop_idle().await,
            Setting::Gone => {}
        }
        self.app.smtp.set(row.relay);
        if row.relay == Fault::CloseOnConnect {
            self.app.smtp.set(Fault::DropIdle);
        }
    }

    /// Returns the cells of a row as observed. A part that cannot be observed fails the test.
    async fn seen(&self, row: &Row, number: usize) -> String {
        let (dialect, what) = (self.dialect.word(), row.what);
        let requests = || self.sink.requests().len();
        self.prepare(row, number).await;
        let (before, to) = (requests(), format!("simple{number}@example.com"));
        let simple = self.app.send_otp(&to).await;
        let (of_simple, codes) = (requests() - before, self.codes_to(&to));
        for code in &codes {
            assert_eq!(self.app.verify_otp(&to, code).await.status, 200, "{dialect} {what}: its code lives");
        }
        self.prepare(row, number).await;
        let (before, to) = (requests(), format!("v1{number}@example.com"));
        let created = self.app.caller(1).create(&json!({ "email": to })).await;
        let (of_v1, mails) = (requests() - before, self.codes_to(&to));
        assert_eq!((of_simple, codes.len()), (of_v1, mails.len()), "{dialect} {what}: both are alike");
        let id = created.json()["id"].as_str().map(str::to_owned);
        let code = match (&id, mails.as_slice()) {
            (Some(id), [code]) => {
                assert_eq!(self.app.caller(1).check(id, code).await.status, 200, "{dialect} {what}");
                "lives"
            }
            (Some(id), []) => {
                let shown = self.app.caller(1).show(id).await.json();
                assert_eq!(shown["status"], "pending", "{dialect} {what}");
                "lives"
            }
            (None, []) => "dead",
            other => panic!("{dialect} {what}: {other:?}"),
        };
        let v1 = match (created.status, &id) {
            (502, Some(_)) => "502 with `id`".to_owned(),
            (status, _) => status.to_string(),
        };
        format!("{of_v1} | {} | {v1} | {} | {code}", simple.status, mails.len())
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        let mut secrets = self.app.process.secrets();
        secrets.add_text(KEY);
        for mail in self.sink.mails() {
            secrets.add_text(&mail.to);
            secrets.add_text(&mail.code);
        }
    }
}

/// Returns the rows that a deployment plays.
fn rows_of(route: Route, is_gone: bool) -> Vec<usize> {
    let is_played = |row: &Row| row.route == route && (row.provider == Setting::Gone) == is_gone;
    (0..MATRIX.len()).filter(|number| is_played(&MATRIX[*number])).collect()
}

/// Plays the rows of one deployment, one after the other.
async fn play(dialect: Dialect, route: Route, is_gone: bool) -> Vec<(usize, String)> {
    let deployment = Deployment::start(dialect, route, is_gone).await;
    let mut seen = Vec::new();
    for number in rows_of(route, is_gone) {
        seen.push((number, deployment.seen(&MATRIX[number], number).await));
    }
    seen
}

#[tokio::test]
async fn what_each_provider_does_leads_to_the_answer_in_the_table() {
    let mut deployments = JoinSet::new();
    for dialect in Dialect::ALL {
        for (route, is_gone) in [
            (Route::Alone, false),
            (Route::Alone, true),
            (Route::ThenRelay, false),
            (Route::ThenRelay, true),
            (Route::AfterRelay, false),
        ] {
            deployments.spawn(async move { (dialect, play(dialect, route, is_gone).await) });
        }
    }
    let mut played = 0;
    while let Some(seen) = deployments.join_next().await {
        let (dialect, rows) = seen.expect("the rows are played");
        for (number, seen) in rows {
            let row = &MATRIX[number];
            assert_eq!(seen, row.outcome_of(dialect), "{}: {}", dialect.word(), row.what);
            played += 1;
        }
    }
    assert_eq!(played, MATRIX.len() * Dialect::ALL.len());
    let page = std::fs::read_to_string("docs/mails.md").expect("the page about mails");
    let line = |row: &Row, cells| format!("| {} | {cells} |", row.what);
    let usual: Vec<_> = MATRIX.iter().map(|row| line(row, row.outcome)).collect();
    let of_resend: Vec<_> = MATRIX.iter().filter_map(|row| Some(line(row, row.of_resend?))).collect();
    for table in [usual.join("\n"), of_resend.join("\n")] {
        assert!(page.contains(&table), "docs/mails.md lacks:\n{table}");
    }
}

#[tokio::test]
async fn a_success_without_the_id_of_the_email_is_one_at_the_hook_alone() {
    for dialect in Dialect::ALL {
        let expected = match dialect {
            Dialect::Hook => SUCCESS,
            Dialect::Resend => "3 | 500 | 502 with `id` | 1 | lives",
            _ => UNKNOWN,
        };
        let row = Row::alone(
            "accepts it and closes within the answer's body",
            Setting::Plays(&[Step::AcceptAndTruncate]),
            expected,
        );
        let deployment = Deployment::start(dialect, Route::Alone, false).await;
        assert_eq!(deployment.seen(&row, 0).await, expected, "{}", dialect.word());
    }
}

#[tokio::test]
async fn resend_is_asked_again_with_the_same_bytes_while_it_may_have_accepted_an_email() {
    let deployment = Deployment::start(Dialect::Resend, Route::ThenRelay, false).await;
    for (number, steps) in [
        [Step::AcceptAndClose, Step::Accept].as_slice(),
        &[Step::AcceptAndFail, Step::Concurrent, Step::Accept],
        &[Step::Concurrent, Step::Accept],
        &[Step::Fail, Step::Busy, Step::Accept],
    ]
    .into_iter()
    .enumerate()
    {
        let before = deployment.sink.requests().len();
        deployment.sink.play(steps);
        let to = format!("{number}@example.com");
        assert_eq!(deployment.app.send_otp(&to).await.status, 200, "{steps:?}");
        let requests = deployment.sink.requests().split_off(before);
        assert_eq!(requests.len(), steps.len());
        for request in &requests {
            assert_eq!(request.header("idempotency-key"), requests[0].header("idempotency-key"));
            assert_eq!(request.body, requests[0].body);
        }
        let codes = deployment.codes_to(&to);
        assert_eq!(codes.len(), 1, "{steps:?}");
        assert_eq!(deployment.app.verify_otp(&to, &codes[0]).await.status, 200);
    }
    assert!(deployment.app.smtp.mails().is_empty(), "the relay never gets what Resend may have");
    let keys: std::collections::BTreeSet<_> = deployment
        .sink
        .requests()
        .iter()
        .map(|request| request.header("idempotency-key").expect("a key").to_owned())
        .collect();
    assert_eq!(keys.len(), 4, "each email has its own key");
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    let deployment = Deployment::start(Dialect::Resend, Route::ThenRelay, false).await;
    deployment.sink.play(&[Step::AcceptAndClose, Step::Refuse]);
    let created = deployment.app.caller(1).create(&json!({ "email": "a@example.com" })).await;
    assert_eq!(created.status, 502);
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let codes = deployment.codes_to("a@example.com");
    assert_eq!((deployment.sink.requests().len(), codes.len()), (3, 1));
    assert_eq!(deployment.app.caller(1).check(&id, &codes[0]).await.status, 200);
    assert!(deployment.app.smtp.mails().is_empty());
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_leads_to_one_email_or_to_none() {
    // Whether the request was on its way is a matter of microseconds.
    for dialect in Dialect::ALL {
        let deployment = Deployment::start(dialect, Route::ThenRelay, false).await;
        deployment.sink.close_at_once().await;
        for number in 0..4 {
            let to = format!("{number}@example.com");
            let status = deployment.app.send_otp(&to).await.status;
            let codes = deployment.codes_to(&to);
            assert_eq!(codes.len(), usize::from(status == 200), "{}: {status}", dialect.word());
        }
        assert!(deployment.sink.requests().is_empty());
    }
}

#[tokio::test]
async fn the_log_has_the_providers_word_and_nothing_of_its_text() {
    for (dialect, said) in [
        (Dialect::Resend, "refused with status 422 (validation_error)"),
        (Dialect::Postmark, "refused with status 422 (406)"),
        (Dialect::Mailgun, "refused with status 400\""),
        (Dialect::Ses, "refused with status 400 (MessageRejected)"),
        (Dialect::Hook, "refused with status 400\""),
    ] {
        let deployment = Deployment::start(dialect, Route::Alone, false).await;
        deployment.sink.play(&[Step::Refuse]);
        assert_eq!(deployment.app.send_otp("a@example.com").await.status, 500);
        // The address is found in the log by the test of every process.
        let log = deployment.app.whole_log().await;
        assert!(log.contains(said), "{}: {log}", dialect.word());
    }
}

#[tokio::test]
async fn a_tenant_can_have_its_own_provider() {
    let sink = HttpSink::start(Dialect::Postmark).await;
    let tenant = format!(
        "[[tenants]]\nname = \"shop\"\nkeys = [\"{}\"]\ntransport = \"postmark\"\n",
        crate::support::v1::hash(3)
    );
    let mut builder = TestApp::builder().keyed().config(&tenant);
    for (name, value) in Dialect::Postmark.settings(&sink.url()) {
        builder = builder.set(name, &value);
    }
    let app = builder.spawn().await;
    app.caller(1).start("default@example.com").await;
    app.caller(3).start("shop@example.com").await;
    assert_eq!(app.smtp.mails().len(), 1);
    assert_eq!((sink.mails().len(), sink.codes_to("shop@example.com").len()), (1, 1));
    // The key of Postmark is searched for in the output.
    app.secrets().add_text(KEY);
}

/// Hands one email over to a relay that closes the connection after the first message. Returns the
/// outcome and the messages that the relay received.
async fn handed_over(idempotency_header: Option<&'static str>) -> (Delivery, Vec<String>) {
    let relay = SmtpPeer::builder().start().await;
    relay.set(Fault::CloseAfterContent);
    let address =
        Relay { host: "localhost".to_owned(), port: relay.port(), tls: Tls::Plaintext, login: Login::None };
    let transport = SmtpTransport::new(address, "sender.example", 1, idempotency_header);
    let composer = Composer::load(None, &SampleValues::default()).expect("templates");
    let route: Vec<Arc<dyn Transport>> = vec![Arc::new(transport)];
    let mailer = TransportMailer::new(composer, route, [].into());
    let parsed = |text| EmailAddress::parse(text).expect("an address");
    let mail = CodeMail {
        to: parsed("a@example.com"),
        code: Code::parse("012345").expect("a code"),
        valid_for: Duration::from_mins(5),
        sender: Sender {
            address: parsed("codes@sender.example"),
            brand: "Example".to_owned(),
            locale: Locale::english(),
        },
        reference: None,
        tenant: Tenant::Simple,
        purpose: None,
        expires_at: 0,
        languages: Vec::new(),
    };
    let second_is_taken = async {
        relay.await_mail(1).await;
        relay.set(Fault::None);
    };
    let (delivery, ()) = tokio::join!(mailer.deliver(&mail), second_is_taken);
    (delivery, relay.mails().into_iter().map(|mail| mail.raw).collect())
}

#[tokio::test]
async fn a_relay_that_drops_duplicates_gets_an_email_again_under_the_same_key() {
    let (delivery, messages) = handed_over(Some(RESEND_IDEMPOTENCY_KEY)).await;
    assert!(matches!(delivery, Delivery::Accepted { .. }), "{delivery:?}");
    let [first, second] = messages.as_slice() else { panic!("{messages:?}") };
    assert_eq!(first, second);
    let value = |name: &str| {
        let lines: Vec<_> = first.lines().filter_map(|line| line.strip_prefix(name)).collect();
        let [value] = lines.as_slice() else { panic!("{name} in {first}") };
        (*value).to_owned()
    };
    assert_eq!(value("Resend-Idempotency-Key: "), value("X-Entity-Ref-ID: "));
}

#[tokio::test]
async fn any_other_relay_gets_an_email_once() {
    let (delivery, messages) = handed_over(None).await;
    assert!(matches!(delivery, Delivery::Unknown(_)), "{delivery:?}");
    assert_eq!(messages.len(), 1);
    assert!(!messages[0].contains("Idempotency-Key"));
}

#[tokio::test]
async fn the_audit_log_has_the_id_that_the_provider_gave_to_an_email() {
    for dialect in Dialect::ALL {
        let deployment = Deployment::start(dialect, Route::Alone, false).await;
        assert_eq!(deployment.app.send_otp("audited@example.com").await.status, 200);
        let sent = || deployment.app.audited().into_iter().find(|line| line["event"] == "send");
        eventually("the line of the send", async || sent().is_some()).await;
        let line = sent().expect("it is there");
        assert_eq!(line["email.provider_id"].is_string(), dialect != Dialect::Hook, "{line}");
    }
}
