//! The steps that every attempt has in common: take it, compare the codes, and only then approve
//! the verification.
//!
//! The numbers are those of "An attempt, step by step" in ARCHITECTURE.md. On the simple endpoints
//! a wrong code costs the same work and gets the same response as an expired, used, exhausted or
//! unknown one. On v1 the holder of an id learns the status.

use thiserror::Error;

use super::decision::Decision;
use super::error::{ServiceError, log};
use super::ip_charge::IpCharge;
use super::{Dependencies, UseCaseError};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeId, SALT_BYTES, Salt};
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::live_codes::LiveCodes;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::test_recipients::TestCode;
use crate::domain::time::{EntryId, Millis};
use crate::domain::verification::{AttemptToken, Status};
use crate::ports::{AttemptOutcome, HashPermit, HashWork, IpEntry, PendingDigest, StoreError};
use crate::random;

/// The address is confirmed.
pub struct Approved {
    /// A signed proof, if a proof key is set.
    pub proof: Option<String>,
    /// Whether it was a test.
    pub is_test: bool,
}

/// Why the address is not confirmed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The code is wrong, or was compared too late to approve the verification. On the simple
    /// endpoints this also stands for an expired, used or missing code, without saying which.
    #[error("invalid or expired code")]
    Invalid {
        /// Attempts that remain.
        left: u8,
    },
    /// The code is wrong, and no attempt remains.
    #[error("invalid code, and the last attempt")]
    Exhausted,
    /// The tenant has no verification with that id.
    #[error("there is no such verification")]
    Unknown,
    /// The verification with that id is closed.
    #[error("the verification is over")]
    Closed(Status),
    /// A limit is exceeded. The code was not compared.
    #[error("too many attempts")]
    Limited(LimitState),
    /// The attempt was not compared, its result is unknown, or the proof could not be signed.
    #[error(transparent)]
    Service(ServiceError),
}

/// A submitted code, with the permit to hash it.
pub(super) struct SubmittedCode {
    pub code: Code,
    pub permit: HashPermit,
}

/// One attempt.
pub(super) struct Attempt<'a> {
    /// The decision on it.
    pub decision: &'a Decision<'a>,
    /// The profile of its tenant.
    pub profile: &'a TenantProfile,
    /// What its IP was charged.
    pub ip_charge: &'a IpCharge<'a>,
    /// The verification that it is for.
    pub store_key: &'a StoreKey,
    /// On the simple endpoints, the charge of the client prefix for an attempt at this recipient.
    pub charge: Option<Charge<'a>>,
}

/// A correct attempt.
pub(super) struct ApprovedAttempt {
    /// When it approved the verification, on the store's clock.
    pub at: Millis,
    /// The details of a verification with an id.
    pub about: Option<VerificationDetails>,
}

/// An attempt that was taken, or a decoy that costs the same work.
#[derive(Default)]
struct TakenAttempt {
    stored: Option<LiveCodes>,
    left: u8,
    encrypted: EncryptedDetails,
    entry: Option<EntryId>,
}

/// Runs steps 2 to 6.
pub(super) async fn attempt(
    deps: &Dependencies,
    attempt: &Attempt<'_>,
    SubmittedCode { code, permit }: SubmittedCode,
) -> Result<ApprovedAttempt, CheckError> {
    // 2. Charge the IP's attempts.
    // 3. The permit of the hash queue is held already.
    // 4. Take an attempt.
    let attempts = take_attempt(deps, attempt).await?;
    let wrong = match (&attempts.stored, attempts.left) {
        (Some(_), 0) => CheckError::Exhausted,
        (_, left) => CheckError::Invalid { left },
    };
    let store_key = attempt.store_key;
    let about = match store_key {
        StoreKey::Address { .. } => None,
        StoreKey::Id(_) => deps.decrypt(store_key, &attempts.encrypted),
    };
    let is_test = about.as_ref().is_some_and(|details| details.is_test);
    if is_test {
        attempt.decision.set_test();
    }
    // 5. Hash the submitted code and compare. A test whose address is no test recipient any more
    // has no code.
    let (stored, test_code) = match about.as_ref().filter(|_| is_test && !attempt.profile.is_sandbox()) {
        None => (attempts.stored, None),
        Some(details) => match deps.test_code(attempt.profile, &details.address) {
            None => (None, None),
            test_code => (attempts.stored, test_code),
        },
    };
    let matching = compare(deps, permit, store_key, code, stored, test_code).await?;
    let Some(code) = matching else { return Err(wrong) };
    // Details that cannot be decrypted, because their pepper is gone, could not be returned after
    // the approval. So such a verification is not approved.
    if about.is_none() && matches!(store_key, StoreKey::Id(_)) {
        return Err(CheckError::Unknown);
    }
    // 6. Approve the verification.
    // 7. Refund what the attempt was charged, in the same call.
    let token = AttemptToken { code, nonce: random::bytes()? };
    let charged = attempt.charge.as_ref().map(|charge| &charge.ledger).zip(attempts.entry);
    match approve_once(deps, store_key, &token, charged, attempt.ip_charge.entry()).await? {
        Some(at) => Ok(ApprovedAttempt { at, about }),
        None => Err(CheckError::Invalid { left: attempts.left }),
    }
}

async fn take_attempt(deps: &Dependencies, attempt: &Attempt<'_>) -> Result<TakenAttempt, CheckError> {
    let Attempt { ip_charge, store_key, charge, .. } = attempt;
    let (rules, charge) = (&deps.rules, charge.as_ref());
    let outcome = match ip_charge.due() {
        None => deps.store.take_attempt(store_key, rules, charge).await?,
        Some(ip) => {
            let (charged, outcome) =
                deps.store.charge_ip_and_take_attempt(ip, store_key, rules, charge).await?;
            ip_charge.record::<CheckError>(charged)?;
            outcome.ok_or(ServiceError::Fault)?
        }
    };
    match (outcome, store_key) {
        (AttemptOutcome::Compare { codes, attempts, encrypted, entry }, _) => {
            Ok(TakenAttempt { stored: Some(codes), left: deps.rules.left(attempts), encrypted, entry })
        }
        (AttemptOutcome::Limited(limit_state), _) => {
            Err(CheckError::Limited(ip_charge.or_longer_wait(limit_state)))
        }
        (AttemptOutcome::Closed(_) | AttemptOutcome::Unknown, StoreKey::Address { .. }) => {
            Ok(TakenAttempt::default())
        }
        (AttemptOutcome::Closed(status), StoreKey::Id(_)) => Err(CheckError::Closed(status)),
        (AttemptOutcome::Unknown, StoreKey::Id(_)) => Err(CheckError::Unknown),
    }
}

/// Derives the digest of the submitted code. Returns which stored code it matches, if any. If there
/// is no stored code, or its pepper is gone, a decoy costs the same work. A test code is compared
/// instead of the stored code, which nobody knows.
async fn compare(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
    code: Code,
    stored: Option<LiveCodes>,
    test_code: Option<&TestCode>,
) -> Result<Option<CodeId>, CheckError> {
    let (pending, known) = match test_code {
        Some(test_code) => (deps.hasher.test_digest(permit, code, test_code.clone()), stored),
        None => digest(deps, permit, store_key, code, stored),
    };
    let attempted = pending.await?;
    tracing::debug!(live = known.is_some(), "an attempt was compared");
    Ok(match test_code {
        Some(test_code) => known.filter(|_| test_code.matches(&attempted)).map(|codes| codes.newest.id()),
        None => known.filter(|codes| codes.contains(&attempted)).map(|_| attempted),
    })
}

/// Begins to derive the digest of the submitted code, and returns the codes that it can match.
fn digest(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
    code: Code,
    stored: Option<LiveCodes>,
) -> (PendingDigest, Option<LiveCodes>) {
    let peppers = &deps.reloadable.peppers;
    let pepper_of = |codes: &LiveCodes| peppers.find(codes.newest.kid()).cloned();
    let known = stored.and_then(|codes| pepper_of(&codes).map(|pepper| (codes, pepper)));
    let (salt, pepper) = match &known {
        Some((codes, pepper)) => (*codes.newest.salt(), pepper.clone()),
        None => (Salt::new([0; SALT_BYTES]), peppers.current().clone()),
    };
    let work = HashWork { code, salt, associated_data: store_key.associated_data(), pepper };
    (deps.hasher.digest(permit, work), known.map(|(codes, _)| codes))
}

/// Approves the verification. Retries once if the store fails. The retry is safe because the token
/// makes the call idempotent.
async fn approve_once(
    deps: &Dependencies,
    store_key: &StoreKey,
    token: &AttemptToken,
    charged: Option<(&LedgerKey, EntryId)>,
    ip: Option<IpEntry<'_>>,
) -> Result<Option<Millis>, StoreError> {
    match deps.store.approve(store_key, token, charged, ip).await {
        Err(error) => {
            log(&error, "the approval of a right attempt is retried");
            deps.store.approve(store_key, token, charged, ip).await
        }
        answer => answer,
    }
}

impl UseCaseError for CheckError {
    fn exceeded(limit_state: LimitState) -> Self {
        Self::Limited(limit_state)
    }

    fn limited(&self) -> Option<LimitState> {
        match self {
            Self::Limited(limit_state) => Some(*limit_state),
            _ => None,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "wrong",
            Self::Exhausted => "exhausted",
            Self::Unknown => "not_found",
            Self::Closed(_) => "closed",
            Self::Limited(_) => "rate_limited",
            Self::Service(error) => error.outcome(),
        }
    }
}

impl<E: Into<ServiceError>> From<E> for CheckError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}
