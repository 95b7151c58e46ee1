//! Proofs of what was confirmed, if proof keys are set.

use super::Dependencies;
use crate::domain::email_address::EmailAddress;
use crate::domain::proof::{Claims, METHOD, PROOF_LIFETIME, SigningError};
use crate::domain::tenant::Tenant;
use crate::domain::time::Millis;
use crate::domain::verification_id::VerificationId;

/// What was confirmed.
pub(super) struct Proven<'a> {
    /// The tenant that the proof is for.
    pub audience: &'a Tenant,
    /// The confirmed address.
    pub address: &'a EmailAddress,
    /// The purpose.
    pub purpose: &'a str,
    /// The verification.
    pub id: &'a VerificationId,
    /// Whether it was a test.
    pub is_test: bool,
    /// When it was confirmed, on the store's clock.
    pub at: Millis,
}

/// Signs a proof. The claims are the same each time for one confirmation; an ES256 signature
/// differs.
pub(super) fn prove(deps: &Dependencies, proven: &Proven<'_>) -> Result<Option<String>, SigningError> {
    let Some(key) = deps.reloadable.proof_keys.first() else { return Ok(None) };
    let iat = proven.at / 1000;
    let claims = Claims {
        iss: &deps.reloadable.issuer,
        aud: proven.audience.name(),
        sub: proven.address.as_str(),
        purpose: proven.purpose,
        method: METHOD,
        test: proven.is_test,
        jti: &proven.id.to_string(),
        iat,
        exp: iat + PROOF_LIFETIME.as_secs(),
    };
    key.sign(&claims).map(Some)
}
