//! Requests to the simple endpoints and a start in v1: for any body, the answer is one of a closed
//! set, and an answer that rejects a body repeats nothing of it.
//!
//! The first byte chooses the endpoint and the media type; the rest is the body. It passes through
//! all HTTP middleware, over the dependencies of `otpd dev`.

#![no_main]

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use otpd::adapters::clock::SystemClock;
use otpd::adapters::dns::EveryDomain;
use otpd::adapters::hasher::{Capacity, HashThreads};
use otpd::adapters::mailbox::MemoryMailbox;
use otpd::adapters::memory::MemoryStore;
use otpd::adapters::message::{Composer, SampleValues};
use otpd::api::{self, Keys, Proxies, Responder, TenantKeys};
use otpd::domain::api_key::{self, KeyHash};
use otpd::domain::code::CodeLength;
use otpd::domain::code_hash::{HashCost, HashQueue};
use otpd::domain::domain_policy::DomainPolicy;
use otpd::domain::email_address::EmailAddress;
use otpd::domain::exempt::ExemptNetworks;
use otpd::domain::forwarded_header::ForwardedHeader;
use otpd::domain::key_name::KeyName;
use otpd::domain::keyed_hash::IndexKey;
use otpd::domain::limit::Policy;
use otpd::domain::limits::Limits;
use otpd::domain::locale::Locale;
use otpd::domain::pepper::{Pepper, Peppers};
use otpd::domain::purpose::{Purpose, Purposes};
use otpd::domain::sender::Sender;
use otpd::domain::simple_access::SimpleAccess;
use otpd::domain::tenant::Tenant;
use otpd::domain::tenant_profile::TenantProfile;
use otpd::domain::test_recipients::TestRecipients;
use otpd::domain::verification::VerificationRules;
use otpd::ports::Clock;
use otpd::service::{self, ReloadableDependencies, Service};
use poem::http::StatusCode;
use poem::Request;
use tokio::runtime::{Builder, Runtime};

const MEDIA_TYPES: [&str; 4] =
    ["application/json", "application/json; charset=utf-8", "application/json; charset=latin1", "text/plain"];

/// The answers that the endpoints may give to a body. A 500 or 503 would be a bug, because no
/// dependency is down.
const ANSWERS: [(u16, &str); 10] = [
    (200, r#"{"message":"OTP sent successfully"}"#),
    (200, r#"{"message":"OTP verified successfully"}"#),
    (400, r#"{"message":"Email is required"}"#),
    (400, r#"{"message":"Email and OTP are required"}"#),
    (400, r#"{"message":"Invalid email address"}"#),
    (400, r#"{"message":"Invalid or expired OTP"}"#),
    (400, r#"{"message":"Malformed request"}"#),
    (413, r#"{"message":"Payload too large"}"#),
    (415, r#"{"message":"Unsupported media type"}"#),
    (429, r#"{"message":"Too many requests"}"#),
];

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
static RESPONDER: LazyLock<Responder> = LazyLock::new(responder);

/// The API key of the only tenant.
const KEY: [u8; 32] = [3; 32];

/// The problems that a start in v1 may answer with.
const CODES: [(u16, &str); 6] = [
    (400, "malformed_request"),
    (413, "payload_too_large"),
    (415, "unsupported_media_type"),
    (422, "invalid_email"),
    (422, "purpose_not_allowed"),
    (429, "rate_limited"),
];

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, body)) = bytes.split_first() else { return };
    if choice & 8 != 0 {
        start(MEDIA_TYPES[usize::from(choice >> 1) % MEDIA_TYPES.len()], body);
        return;
    }
    let path = if choice & 1 == 0 { "/send-otp" } else { "/verify-otp" };
    let media_type = MEDIA_TYPES[usize::from(choice >> 1) % MEDIA_TYPES.len()];
    let (status, answer) = RUNTIME.block_on(answer(path, media_type, body.to_vec()));

    assert!(ANSWERS.contains(&(status.as_u16(), &answer)), "{status}: {answer}");
    let is_json = media_type.starts_with("application/json");
    assert_eq!(status == StatusCode::UNSUPPORTED_MEDIA_TYPE, !is_json);
    assert_eq!(status == StatusCode::PAYLOAD_TOO_LARGE, is_json && body.len() > 8 * 1024);
    // JSON is UTF-8 (RFC 8259 section 8.1), and a request is an object.
    let is_object = str::from_utf8(body)
        .is_ok_and(|text| text.strip_prefix('\u{feff}').unwrap_or(text).trim_start().starts_with('{'));
    assert!(is_object || status != StatusCode::OK);
});

/// Starts a verification in v1. The answer must be 201 or a problem of the closed set.
fn start(media_type: &str, body: &[u8]) {
    let (status, answer) = RUNTIME.block_on(answer("/v1/verifications", media_type, body.to_vec()));
    let answer: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    if status == StatusCode::CREATED {
        assert_eq!(answer["status"], "pending");
        return;
    }
    let code = answer["code"].as_str().expect("a code");
    assert!(CODES.contains(&(status.as_u16(), code)), "{status}: {answer}");
    assert_eq!(answer["status"], status.as_u16());
}

async fn answer(path: &'static str, media_type: &str, body: Vec<u8>) -> (StatusCode, String) {
    let request = Request::builder().method(poem::http::Method::POST).uri_str(path).content_type(media_type);
    let request = request.header("authorization", format!("Bearer {}", *api_key::text(&KEY)));
    let response = RESPONDER(request.body(body)).await;
    (response.status(), response.into_body().into_string().await.expect("text"))
}

fn responder() -> Responder {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let address = EmailAddress::parse("otpd@dev.example").expect("an address");
    let sender = Sender { address, brand: "otpd".to_owned(), locale: Locale::english() };
    let composer = Composer::load(None, &SampleValues::default()).expect("whole templates");
    let mailbox = MemoryMailbox::new(composer, Arc::clone(&clock));
    // The lowest cost that a hash can have.
    let cost = HashCost::new(8, 1).expect("a cost");
    let capacity = Capacity { threads: NonZeroUsize::MIN, queue: HashQueue::Places(NonZeroUsize::MIN) };
    let pepper = Pepper::new(KeyName::parse("k1").expect("a name"), [1; 32]);
    let code_length = CodeLength::new(6).expect("a length");
    let store = Arc::new(MemoryStore::new(clock));
    let service = Service::new(service::Dependencies {
        idempotency: Arc::clone(&store) as _,
        test_mails: Arc::clone(&store) as _,
        store,
        hasher: Arc::new(HashThreads::start(cost, capacity).expect("a thread")),
        index_key: IndexKey::new([2; 32]),
        clock: Arc::new(SystemClock),
        code_length,
        // So short that verifications expire about as fast as the fuzzer finds addresses.
        rules: VerificationRules { life: Duration::from_secs(1), attempts: 5, overlap: Duration::ZERO },
        at_once: 1,
        exempt: ExemptNetworks::default(),
        reloadable: Arc::new(ReloadableDependencies {
            peppers: Peppers::new(pepper, Vec::new()).expect("one pepper"),
            proof_keys: Vec::new(),
            issuer: "otpd".to_owned(),
            recipients: DomainPolicy::default(),
            mail_domains: Arc::new(EveryDomain),
            simple: TenantProfile {
                tenant: Tenant::Simple,
                sender,
                purposes: Purposes::Any,
                limits: limits(),
                test_recipients: TestRecipients::default(),
                sandbox_key: None,
            },
            mailer: Arc::new(mailbox),
        }),
    });
    api::responder(api::ApiState {
        service,
        code_length,
        simple: SimpleAccess::Open,
        keys: keys(),
        origins: Vec::new(),
        proxies: Proxies { trusted: Vec::new(), source: ForwardedHeader::XForwardedFor },
        load_shed: None,
        exempt: ExemptNetworks::default(),
        public_url: api::PublicUrl::new(String::new()),
        has_docs: true,
        security_contact: None,
        clock: Arc::new(SystemClock),
        draining: api::Draining::default(),
        dev: None,
    })
}

/// Returns one API key, of a tenant with two purposes.
fn keys() -> Keys {
    let address = EmailAddress::parse("otpd@dev.example").expect("an address");
    let purposes = ["login", "signup"].map(|purpose| Purpose::parse(purpose).expect("a purpose"));
    let profile = TenantProfile {
        tenant: Tenant::parse("fuzz").expect("a name"),
        sender: Sender { address, brand: "otpd".to_owned(), locale: Locale::english() },
        purposes: Purposes::Only(purposes.to_vec()),
        limits: limits(),
        test_recipients: TestRecipients::default(),
        sandbox_key: None,
    };
    let hash = KeyHash::of(&api_key::text(&KEY)).expect("a key");
    let most = NonZeroU32::new(10_000_000).expect("a number");
    Keys::new(&[TenantKeys {
        profile: Arc::new(profile),
        keys: vec![(KeyName::parse("k1").expect("a name"), hash)],
        sends_per_minute: most,
        checks_per_minute: most,
    }])
}

/// Returns limits with the largest counts, over a span so short that the ledgers stay short. Beyond
/// them, 429 is the right answer.
fn limits() -> Limits {
    let limit = |policy| (policy, "100000/1s".parse().expect("a limit"));
    Policy::ALL.map(limit).into_iter().collect()
}
