//! Proofs: short-lived signed statements that an address was confirmed, for anyone to check offline.
//!
//! Signs JWTs (RFC 7519) with EdDSA over Ed25519 (RFC 8037). Must not decide that anything was confirmed. A
//! proof says that its holder controlled an address; it claims no assurance level (SEC-01).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::key_name::KeyName;

/// Octets of the seed of an Ed25519 key (RFC 8032 section 5.1.5).
pub const PROOF_SEED_OCTETS: usize = 32;
/// How long a proof is good for.
pub const PROOF_LIFE: Duration = Duration::from_mins(5);

/// A named signing key.
#[derive(Clone)]
pub struct ProofKey {
    kid: KeyName,
    seed: Zeroizing<[u8; PROOF_SEED_OCTETS]>,
}

/// The half of a key that anyone may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name.
    pub kid: String,
    /// The point, as unpadded URL-safe base64 (RFC 8037 section 2).
    pub x: String,
}

/// What a proof says (RFC 7519 section 4.1, and `purpose`).
#[derive(Serialize)]
pub struct Claims<'a> {
    /// Who confirmed the address.
    pub iss: &'a str,
    /// For whom: the tenant.
    pub aud: &'a str,
    /// The confirmed address.
    pub sub: &'a str,
    /// What it was confirmed for.
    pub purpose: &'a str,
    /// A name of its own, by which a replay can be told.
    pub jti: &'a str,
    /// When it was confirmed, in seconds since the Unix epoch.
    pub iat: u64,
    /// When the proof ends, in seconds since the Unix epoch.
    pub exp: u64,
}

/// A proof could not be signed.
#[derive(Debug, Error)]
#[error("a proof could not be signed")]
pub struct SigningError(#[source] jsonwebtoken::errors::Error);

impl ProofKey {
    /// Names a seed.
    #[must_use]
    pub fn new(kid: KeyName, seed: [u8; PROOF_SEED_OCTETS]) -> Self {
        Self { kid, seed: Zeroizing::new(seed) }
    }

    /// The public half; `None` where the key is unusable.
    #[must_use]
    pub fn public(&self) -> Option<PublicKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.seed.as_slice()).ok()?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        Some(PublicKey { kid: self.kid.as_str().to_owned(), x })
    }

    /// Signs the claims: a compact JWT of type `otp-proof+jwt`.
    ///
    /// # Errors
    /// [`SigningError`] where the key is unusable.
    pub fn sign(&self, claims: &Claims<'_>) -> Result<String, SigningError> {
        // Refused only where it was installed before, which is as good.
        let _ = RING.install_default();
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("otp-proof+jwt".to_owned());
        header.kid = Some(self.kid.as_str().to_owned());
        let key = EncodingKey::from_ed_der(self.seed.as_slice());
        jsonwebtoken::encode(&header, claims, &key).map_err(SigningError)
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// jsonwebtoken on `ring`, which TLS brings along; the crate's own choices would add a second library. Here the
/// "DER" of a private key is the bare seed, and that of a public key the bare point.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: ed25519_signer,
    verifier_factory: ed25519_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ed25519Signer(Ed25519KeyPair);

struct Ed25519Verifier(Vec<u8>);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is the crate's")]
fn ed25519_signer(algorithm: &Algorithm, key: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let pair = Ed25519KeyPair::from_seed_unchecked(key.as_bytes()).map_err(|_| ErrorKind::InvalidEddsaKey)?;
    Ok(Box::new(Ed25519Signer(pair)))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is the crate's")]
fn ed25519_verifier(algorithm: &Algorithm, key: &DecodingKey) -> JwtResult<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::EdDSA {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    Ok(Box::new(Ed25519Verifier(key.try_get_as_bytes()?.to_vec())))
}

impl Signer<Vec<u8>> for Ed25519Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        Ok(self.0.sign(message).as_ref().to_vec())
    }
}

impl JwtSigner for Ed25519Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

impl Verifier<Vec<u8>> for Ed25519Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Ed25519Verifier {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_public_half_is_that_of_the_seed() {
        // RFC 8037 appendix A.2: the seed and the point of its example key.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = ProofKey::new(KeyName::parse("p1").unwrap(), seed.try_into().unwrap()).public().unwrap();
        assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
    }

    #[test]
    fn a_proof_is_signed_by_its_key_and_says_what_was_claimed() {
        let key = ProofKey::new(KeyName::parse("p1").unwrap(), [7; PROOF_SEED_OCTETS]);
        let claims = Claims {
            iss: "otpd",
            aud: "simple",
            sub: "a@example.com",
            purpose: "simple",
            jti: "1",
            iat: 1,
            exp: 301,
        };
        let token = key.sign(&claims).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let public = Ed25519KeyPair::from_seed_unchecked(&[7; PROOF_SEED_OCTETS]).unwrap();
        let public = UnparsedPublicKey::new(&ED25519, public.public_key().as_ref().to_vec());
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        public.verify(signed.as_bytes(), &signature).unwrap();
        public.verify(&signed.as_bytes()[1..], &signature).unwrap_err();
        let parts: Vec<serde_json::Value> = signed
            .split('.')
            .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap())
            .collect();
        assert_eq!(parts[0], serde_json::json!({ "typ": "otp-proof+jwt", "alg": "EdDSA", "kid": "p1" }));
        let said = serde_json::json!({
            "iss": "otpd", "aud": "simple", "sub": "a@example.com", "purpose": "simple", "jti": "1",
            "iat": 1, "exp": 301,
        });
        assert_eq!(parts[1], said);
    }
}
