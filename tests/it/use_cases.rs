//! Scenarios that take longer than a test may run: the use cases themselves, over the store in
//! memory, on a clock that is set.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use otpd::adapters::dns::EveryDomain;
use otpd::adapters::hasher::{Capacity, HashThreads};
use otpd::adapters::mailbox::MemoryMailbox;
use otpd::adapters::message::{Composer, SampleValues};
use otpd::domain::api_key::{self, KeyHash, KeyKind};
use otpd::domain::code::CodeLength;
use otpd::domain::code_hash::{HashCost, HashQueue};
use otpd::domain::domain_policy::DomainPolicy;
use otpd::domain::email_address::EmailAddress;
use otpd::domain::exempt::ExemptNetworks;
use otpd::domain::key_name::KeyName;
use otpd::domain::limit::Policy;
use otpd::domain::limits::Limits;
use otpd::domain::locale::Locale;
use otpd::domain::pepper::{Pepper, Peppers};
use otpd::domain::proof::ProofKey;
use otpd::domain::purpose::{Purpose, Purposes};
use otpd::domain::sender::Sender;
use otpd::domain::tenant::Tenant;
use otpd::domain::tenant_profile::TenantProfile;
use otpd::domain::test_recipients::TestRecipients;
use otpd::domain::verification::Status;
use otpd::ports::Mailbox as _;
use otpd::service::{
    CheckError, CreateError, Creation, Dependencies, ReloadableDependencies, ResendError, Service, ShowError,
};

use crate::support::store::{Bench, RULES, index_key, tenant};

/// The use cases, their clock, and the sent emails.
struct Fixture {
    service: Service,
    bench: Bench,
    mailbox: Arc<MemoryMailbox>,
    profile: Arc<TenantProfile>,
}

fn fixture() -> Fixture {
    fixture_of(&limits(), ExemptNetworks::default())
}

fn fixture_of(limits: &Limits, exempt: ExemptNetworks) -> Fixture {
    let bench = Bench::memory();
    let mailbox = Arc::new(MemoryMailbox::new(
        Composer::load(None, &SampleValues::default()).expect("whole templates"),
        bench.clock.clone(),
    ));
    let name = KeyName::parse("k1").expect("a name");
    let capacity = Capacity { threads: NonZeroUsize::MIN, queue: HashQueue::Places(NonZeroUsize::MIN) };
    let profile = |tenant| TenantProfile {
        tenant,
        sender: Sender { address: address(), brand: "Shop".to_owned(), locale: Locale::english() },
        purposes: Purposes::Any,
        limits: limits.clone(),
        test_recipients: TestRecipients::default(),
        sandbox_key: None,
    };
    let service = Service::new(Dependencies {
        store: bench.store.clone(),
        idempotency: bench.idempotency.clone(),
        test_mails: bench.test_mails.clone(),
        hasher: Arc::new(
            HashThreads::start(HashCost::new(64, 1).expect("a cost"), capacity).expect("a thread"),
        ),
        index_key: index_key(),
        clock: bench.clock.clone(),
        code_length: CodeLength::new(6).expect("a length"),
        rules: RULES,
        exempt,
        at_once: 8,
        reloadable: Arc::new(ReloadableDependencies {
            peppers: Peppers::new(Pepper::new(name.clone(), [1; 32]), Vec::new()).expect("one pepper"),
            proof_keys: vec![ProofKey::new(name, [2; 32])],
            issuer: "otpd".to_owned(),
            recipients: DomainPolicy::default(),
            mail_domains: Arc::new(EveryDomain),
            simple: profile(Tenant::Simple),
            mailer: mailbox.clone(),
        }),
    });
    Fixture { service, bench, mailbox, profile: Arc::new(profile(tenant("shop"))) }
}

fn address() -> EmailAddress {
    EmailAddress::parse("a@example.com").expect("an address")
}

fn limits() -> Limits {
    let limit = |policy| (policy, "1000/1h".parse().expect("a limit"));
    Policy::ALL.map(limit).into_iter().collect()
}

impl Fixture {
    async fn create(&self) -> Result<otpd::service::Snapshot, CreateError> {
        self.create_for(None).await
    }

    async fn create_for(&self, client: Option<IpAddr>) -> Result<otpd::service::Snapshot, CreateError> {
        let purpose = Purpose::parse("login").expect("a purpose");
        let creation = Creation { address: address(), purpose, locale: None, client, idempotency: None };
        self.service.create(self.profile.clone(), creation).await.outcome
    }

    /// Returns the code in the newest email.
    fn code(&self) -> String {
        let mail = self.mailbox.captured(None).remove(0);
        let code = mail.text.lines().find(|line| line.len() == 6 && line.bytes().all(|b| b.is_ascii_digit()));
        code.expect("a code").to_owned()
    }
}

#[tokio::test]
async fn the_proof_of_an_approval_is_shown_for_300_seconds_and_no_longer() {
    let fixture = fixture();
    let id = fixture.create().await.expect("created").id;
    fixture.bench.clock.forward(Duration::from_secs(200));
    let checked = fixture.service.check(fixture.profile.clone(), id, fixture.code(), None).await;
    let proof = checked.outcome.unwrap_or_else(|error| panic!("{error}")).proof;
    assert!(proof.is_some());
    let shown =
        async || fixture.service.show(&fixture.profile, &id).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(shown().await.proof, proof);
    fixture.bench.clock.forward(Duration::from_millis(299_999));
    assert_eq!(
        (shown().await.status, shown().await.proof),
        (Status::Approved, proof),
        "the same to the byte"
    );
    fixture.bench.clock.forward(Duration::from_millis(1));
    assert_eq!((shown().await.status, shown().await.proof), (Status::Approved, None));
}

/// Returns the limits of `otpd serve`, except those per IP, which a single call does not reach.
fn usual_limits() -> Limits {
    crate::support::store::limits(&[
        (Policy::IpSends, "1/24h"),
        (Policy::IpAttempts, "1/24h"),
        (Policy::EmailSends, "1/60s 5/1h 10/day"),
        (Policy::IpEmailSends, "3/1h 4/day"),
        (Policy::IpEmailAttempts, "10/day"),
        (Policy::EmailSendsTotal, "30/day"),
    ])
}

#[tokio::test]
async fn from_exempt_networks_an_address_gets_fifty_attempts_a_day_and_no_more() {
    let exempt = ExemptNetworks::new(vec!["10.0.0.0/8".parse().expect("a network")]);
    let fixture = fixture_of(&usual_limits(), exempt);
    // Sends of one IP, which is limited to its share of the email address.
    let mut sent_by_one = 0;
    let mut compared = 0;
    for minute in 0_u32..24 * 60 {
        // Every IP of the network sends, and one of them more often than the others.
        let client = Ipv4Addr::from(0x0a00_0000 + if minute % 2 == 0 { 0 } else { minute });
        if let Ok(created) = fixture.create_for(Some(client.into())).await {
            sent_by_one += u32::from(minute % 2 == 0);
            let wrong = if fixture.code() == "000000" { "000001" } else { "000000" };
            for _ in 0..6 {
                let check = fixture.service.check(
                    fixture.profile.clone(),
                    created.id,
                    wrong.to_owned(),
                    Some(client.into()),
                );
                match check.await.outcome {
                    Err(CheckError::Invalid { .. } | CheckError::Exhausted) => compared += 1,
                    Err(CheckError::Closed(Status::Exhausted)) => {}
                    outcome => panic!("{:?}", outcome.err()),
                }
            }
        }
        fixture.bench.clock.forward(Duration::from_mins(1));
    }
    assert_eq!(compared, 50);
    assert!((1..=4).contains(&sent_by_one), "{sent_by_one} of one IP");
}

#[tokio::test]
async fn a_captured_email_is_listed_for_five_minutes_and_no_longer() {
    let mut fixture = fixture();
    let key = KeyHash::of(&api_key::text_of(KeyKind::Sandbox, &[1; 32])).expect("a key");
    fixture.profile = Arc::new(fixture.profile.sandbox(key));
    let first = fixture.create().await.expect("created").id.to_string();
    let listed = async || -> Vec<String> {
        let mails = fixture.service.test_mails(&fixture.profile, None).await;
        let mails = mails.unwrap_or_else(|error| panic!("{error}"));
        mails.into_iter().map(|captured| captured.mail.id).collect()
    };
    fixture.bench.clock.forward(Duration::from_mins(3));
    let second = fixture.create().await.expect("created").id.to_string();
    assert_eq!(listed().await, [second.clone(), first.clone()]);
    fixture.bench.clock.forward(Duration::from_millis(119_999));
    assert_eq!(listed().await, [second.clone(), first]);
    fixture.bench.clock.forward(Duration::from_millis(1));
    assert_eq!(listed().await, [second], "five minutes after the first");
    fixture.bench.clock.forward(Duration::from_mins(3));
    assert!(listed().await.is_empty());
    assert!(fixture.mailbox.captured(None).is_empty(), "nothing was handed to the mailer");
}

#[tokio::test]
async fn an_expired_one_is_shown_for_an_hour_and_then_unknown() {
    let fixture = fixture();
    let id = fixture.create().await.expect("created").id;
    let code = fixture.code();
    fixture.bench.clock.forward(RULES.life);
    let check = || fixture.service.check(fixture.profile.clone(), id, code.clone(), None);
    let resend = || fixture.service.resend(fixture.profile.clone(), id, None);
    for _ in 0..2 {
        assert!(matches!(check().await.outcome, Err(CheckError::Closed(Status::Expired))));
        assert!(matches!(resend().await.outcome, Err(ResendError::Closed(Status::Expired))));
        let shown =
            fixture.service.show(&fixture.profile, &id).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((shown.status, shown.attempts_remaining, shown.resend_at), (Status::Expired, 0, None));
        fixture.bench.clock.forward(Duration::from_mins(59));
    }
    fixture.bench.clock.forward(Duration::from_mins(1));
    assert!(matches!(check().await.outcome, Err(CheckError::Unknown)));
    assert!(matches!(fixture.service.show(&fixture.profile, &id).await, Err(ShowError::Unknown)));
}

#[tokio::test]
async fn a_resend_restarts_the_life_and_the_old_code_stays_dead() {
    let fixture = fixture();
    let created = fixture.create().await.expect("created");
    let first = fixture.code();
    fixture.bench.clock.forward(Duration::from_secs(200));
    let resent = fixture.service.resend(fixture.profile.clone(), created.id, None).await.outcome;
    let resent = resent.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(resent.expires_at, created.expires_at + 200_000);
    fixture.bench.clock.forward(Duration::from_secs(200));
    let second = fixture.code();
    let check =
        |code: &str| fixture.service.check(fixture.profile.clone(), created.id, code.to_owned(), None);
    if first != second {
        assert!(matches!(check(&first).await.outcome, Err(CheckError::Invalid { left: 4 })));
    }
    assert!(check(&second).await.outcome.is_ok());
}
