//! What takes more time than a test has: the use cases themselves, over the store in memory, on a clock that is set.

use std::num::NonZeroUsize;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use otpd::adapters::hasher::{Capacity, HashThreads};
use otpd::adapters::mailbox::MemoryMailbox;
use otpd::adapters::message::{Composer, Prospects};
use otpd::domain::code::CodeLength;
use otpd::domain::code_hash::{HashCost, HashQueue};
use otpd::domain::email_address::EmailAddress;
use otpd::domain::key_name::KeyName;
use otpd::domain::limit::{Limit, Limits, NetworkLimit, RelayMails, SendLimits};
use otpd::domain::locale::Locale;
use otpd::domain::pepper::{Pepper, Peppers};
use otpd::domain::proof::ProofKey;
use otpd::domain::purpose::{Purpose, Purposes};
use otpd::domain::sender::Sender;
use otpd::domain::tenant::{Account, Tenant};
use otpd::domain::verification::Status;
use otpd::ports::Mailbox as _;
use otpd::service::{CheckError, CreateError, Creation, Parts, ResendError, Secrets, Service, ShowError};

use crate::support::store::{Bench, POLICY, index_key, tenant};

/// The use cases, the clock below them, and what was mailed.
struct World {
    service: Service,
    bench: Bench,
    mailbox: Arc<MemoryMailbox>,
    account: Arc<Account>,
}

fn world() -> World {
    let bench = Bench::memory();
    let mailbox = Arc::new(MemoryMailbox::new(
        Composer::load(None, &Prospects::default()).expect("whole templates"),
        bench.clock.clone(),
    ));
    let name = KeyName::parse("k1").expect("a name");
    let capacity = Capacity { threads: NonZeroUsize::MIN, queue: HashQueue::Places(NonZeroUsize::MIN) };
    let account = |tenant| Account {
        tenant,
        sender: Sender { address: address(), brand: "Shop".to_owned(), locale: Locale::english() },
        purposes: Purposes::Any,
        limits: limits(),
    };
    let service = Service::new(Parts {
        store: bench.store.clone(),
        claims: bench.claims.clone(),
        mailer: mailbox.clone(),
        hasher: Arc::new(
            HashThreads::start(HashCost::new(64, 1).expect("a cost"), capacity).expect("a thread"),
        ),
        secrets: Secrets {
            peppers: Peppers::new(Pepper::new(name.clone(), [1; 32]), Vec::new()).expect("one pepper"),
            index_key: index_key(),
            proof_keys: vec![ProofKey::new(name, [2; 32])],
        },
        code_length: CodeLength::new(6).expect("a length"),
        policy: POLICY,
        simple: account(Tenant::Simple),
        relay_mails: RelayMails::Unlimited,
        at_once: 8,
        issuer: "otpd".to_owned(),
        recipients: RwLock::default(),
    });
    World { service, bench, mailbox, account: Arc::new(account(tenant("shop"))) }
}

fn address() -> EmailAddress {
    EmailAddress::parse("a@example.com").expect("an address")
}

fn limits() -> Limits {
    let limit: Limit = "1000/1h".parse().expect("a limit");
    Limits {
        network_sends: NetworkLimit::new(limit.clone()),
        network_guesses: NetworkLimit::new(limit.clone()),
        sends: SendLimits::new(limit.clone(), limit.clone(), limit.clone()),
        site_guesses: limit,
        relay_mails: RelayMails::Unlimited,
    }
}

impl World {
    async fn create(&self) -> Result<otpd::service::Snapshot, CreateError> {
        let purpose = Purpose::parse("login").expect("a purpose");
        let creation =
            Creation { address: address(), purpose, locale: None, client: None, idempotency: None };
        self.service.create(self.account.clone(), creation).await.outcome
    }

    /// The code in the newest mail.
    fn code(&self) -> String {
        let mail = self.mailbox.captured(None).remove(0);
        let code = mail.text.lines().find(|line| line.len() == 6 && line.bytes().all(|b| b.is_ascii_digit()));
        code.expect("a code").to_owned()
    }
}

#[tokio::test]
async fn the_proof_of_an_approval_is_shown_for_300_seconds_and_no_longer() {
    let world = world();
    let id = world.create().await.expect("created").id;
    world.bench.clock.forward(Duration::from_secs(200));
    let checked = world.service.check_by_id(world.account.clone(), id, world.code(), None).await;
    let proof = checked.outcome.unwrap_or_else(|error| panic!("{error}")).proof;
    assert!(proof.is_some());
    let shown =
        async || world.service.show(&world.account, &id).await.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(shown().await.proof, proof);
    world.bench.clock.forward(Duration::from_millis(299_999));
    assert_eq!(
        (shown().await.status, shown().await.proof),
        (Status::Approved, proof),
        "the same to the octet"
    );
    world.bench.clock.forward(Duration::from_millis(1));
    assert_eq!((shown().await.status, shown().await.proof), (Status::Approved, None));
}

#[tokio::test]
async fn an_expired_one_is_told_for_an_hour_and_then_unknown() {
    let world = world();
    let id = world.create().await.expect("created").id;
    let code = world.code();
    world.bench.clock.forward(POLICY.life);
    let check = || world.service.check_by_id(world.account.clone(), id, code.clone(), None);
    let resend = || world.service.resend(world.account.clone(), id, None);
    for _ in 0..2 {
        assert!(matches!(check().await.outcome, Err(CheckError::Closed(Status::Expired))));
        assert!(matches!(resend().await.outcome, Err(ResendError::Closed(Status::Expired))));
        let shown = world.service.show(&world.account, &id).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((shown.status, shown.attempts_remaining, shown.resend_at), (Status::Expired, 0, None));
        world.bench.clock.forward(Duration::from_mins(59));
    }
    world.bench.clock.forward(Duration::from_mins(1));
    assert!(matches!(check().await.outcome, Err(CheckError::Unknown)));
    assert!(matches!(world.service.show(&world.account, &id).await, Err(ShowError::Unknown)));
}

#[tokio::test]
async fn a_resend_restarts_the_life_and_the_old_code_stays_dead() {
    let world = world();
    let created = world.create().await.expect("created");
    let first = world.code();
    world.bench.clock.forward(Duration::from_secs(200));
    let resent = world.service.resend(world.account.clone(), created.id, None).await.outcome;
    let resent = resent.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(resent.expires_at, created.expires_at + 200_000);
    world.bench.clock.forward(Duration::from_secs(200));
    let second = world.code();
    let check =
        |code: &str| world.service.check_by_id(world.account.clone(), created.id, code.to_owned(), None);
    if first != second {
        assert!(matches!(check(&first).await.outcome, Err(CheckError::Invalid { left: 4 })));
    }
    assert!(check(&second).await.outcome.is_ok());
}
