//! Proofs: short-lived signed statements that an address was confirmed. Anyone can verify them
//! offline.
//!
//! Signs JWTs (RFC 7519) with EdDSA over Ed25519 (RFC 8037) or ES256 over P-256 (RFC 7518 section
//! 3.4), depending on the key. Must not decide whether anything was confirmed. A proof says that
//! its holder controlled an address; it claims no authentication assurance level (NIST SP 800-63B).

use std::fmt;
use std::ops::Not;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, Result as JwtResult};
use jsonwebtoken::signature::{Error as SignatureError, Signer, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::Serialize;
use thiserror::Error;
use zeroize::Zeroizing;

use super::key_name::KeyName;

/// Bytes of the private key (seed) of an Ed25519 key (RFC 8032 section 5.1.5).
pub const PROOF_SEED_BYTES: usize = 32;
/// How long a proof is valid.
pub const PROOF_LIFETIME: Duration = Duration::from_mins(5);

/// The `method` claim: how the address was confirmed.
pub const METHOD: &str = "mail_code";

/// A named signing key.
#[derive(Clone)]
pub struct ProofKey {
    kid: KeyName,
    private: PrivateKey,
}

/// The private half of a key.
#[derive(Clone)]
enum PrivateKey {
    /// The seed of an Ed25519 key.
    Ed25519(Zeroizing<[u8; PROOF_SEED_BYTES]>),
    /// A P-256 key as PKCS #8 (RFC 5958).
    P256(Zeroizing<Vec<u8>>),
}

/// The public half of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name.
    pub kid: String,
    /// Its coordinates.
    pub point: Point,
}

/// The coordinates of a public key, as unpadded URL-safe base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Point {
    /// On Ed25519 (RFC 8037 section 2).
    Ed25519 {
        /// The encoded point.
        x: String,
    },
    /// On P-256 (RFC 7518 section 6.2.1).
    P256 {
        /// The x coordinate.
        x: String,
        /// The y coordinate.
        y: String,
    },
}

/// The claims of a proof (RFC 7519 section 4.1, and `purpose`, `method` and `test`).
#[derive(Serialize)]
pub struct Claims<'a> {
    /// The issuer: who confirmed the address.
    pub iss: &'a str,
    /// The audience: the tenant.
    pub aud: &'a str,
    /// The confirmed address.
    pub sub: &'a str,
    /// What it was confirmed for.
    pub purpose: &'a str,
    /// How it was confirmed: [`METHOD`].
    pub method: &'a str,
    /// `true` if it was a test, so that nobody received an email; otherwise absent.
    #[serde(skip_serializing_if = "Not::not")]
    pub test: bool,
    /// A unique id, by which a replay can be detected.
    pub jti: &'a str,
    /// When it was confirmed, in seconds since the Unix epoch.
    pub iat: u64,
    /// When the proof expires, in seconds since the Unix epoch.
    pub exp: u64,
}

/// A proof could not be signed.
#[derive(Debug, Error)]
#[error("a proof could not be signed")]
pub struct SigningError(#[source] jsonwebtoken::errors::Error);

impl ProofKey {
    /// Wraps the seed of an Ed25519 key and its name.
    #[must_use]
    pub fn new(kid: KeyName, seed: [u8; PROOF_SEED_BYTES]) -> Self {
        Self { kid, private: PrivateKey::Ed25519(Zeroizing::new(seed)) }
    }

    /// Wraps a P-256 key in PKCS #8 form (RFC 5958) and its name. Returns `None` if it is another
    /// kind of key, or lacks the public half.
    #[must_use]
    pub fn es256(kid: KeyName, pkcs8: &[u8]) -> Option<Self> {
        p256_pair(pkcs8)?;
        Some(Self { kid, private: PrivateKey::P256(Zeroizing::new(pkcs8.to_vec())) })
    }

    /// Generates a P-256 key in PKCS #8 form. Returns `None` if the system cannot provide
    /// randomness.
    #[must_use]
    pub fn generate_p256() -> Option<Zeroizing<Vec<u8>>> {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).ok()?;
        Some(Zeroizing::new(pkcs8.as_ref().to_vec()))
    }

    /// Returns the key's name.
    #[must_use]
    pub fn kid(&self) -> &KeyName {
        &self.kid
    }

    /// Returns the public half, or `None` if the key is unusable.
    #[must_use]
    pub fn public(&self) -> Option<PublicKey> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = match &self.private {
            PrivateKey::Ed25519(seed) => {
                let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).ok()?;
                Point::Ed25519 { x: encode(pair.public_key().as_ref()) }
            }
            PrivateKey::P256(pkcs8) => {
                // Uncompressed form (SEC 1 section 2.3.3): the byte 4, then both coordinates.
                let pair = p256_pair(pkcs8)?;
                let (x, y) = pair.public_key().as_ref().strip_prefix(&[4])?.split_at_checked(32)?;
                Point::P256 { x: encode(x), y: encode(y) }
            }
        };
        Some(PublicKey { kid: self.kid.as_str().to_owned(), point })
    }

    /// Signs the claims and returns a compact JWT of type `otp-proof+jwt`.
    ///
    /// # Errors
    /// Returns [`SigningError`] if the key is unusable.
    pub fn sign(&self, claims: &Claims<'_>) -> Result<String, SigningError> {
        // An error means that it is installed already.
        let _ = RING.install_default();
        let (algorithm, key) = match &self.private {
            PrivateKey::Ed25519(seed) => (Algorithm::EdDSA, EncodingKey::from_ed_der(seed.as_slice())),
            PrivateKey::P256(pkcs8) => (Algorithm::ES256, EncodingKey::from_ec_der(pkcs8)),
        };
        let mut header = Header::new(algorithm);
        header.typ = Some("otp-proof+jwt".to_owned());
        header.kid = Some(self.kid.as_str().to_owned());
        jsonwebtoken::encode(&header, claims, &key).map_err(SigningError)
    }
}

impl fmt::Debug for ProofKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProofKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

fn p256_pair(pkcs8: &[u8]) -> Option<EcdsaKeyPair> {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &SystemRandom::new()).ok()
}

/// Runs jsonwebtoken on `ring`, which TLS depends on already. The crate's built-in backends would
/// add a second library. Here the "DER" of an Ed25519 private key is the bare seed, and that of a
/// public key is the bare point.
static RING: CryptoProvider = CryptoProvider {
    signer_factory: signer,
    verifier_factory: ed25519_verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

struct Ed25519Signer(Ed25519KeyPair);

struct P256Signer(EcdsaKeyPair);

struct Ed25519Verifier(Vec<u8>);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is the crate's")]
fn signer(algorithm: &Algorithm, key: &EncodingKey) -> JwtResult<Box<dyn JwtSigner>> {
    match algorithm {
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::from_seed_unchecked(key.as_bytes());
            Ok(Box::new(Ed25519Signer(pair.map_err(|_| ErrorKind::InvalidEddsaKey)?)))
        }
        Algorithm::ES256 => {
            Ok(Box::new(P256Signer(p256_pair(key.as_bytes()).ok_or(ErrorKind::InvalidEcdsaKey)?)))
        }
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
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

impl Signer<Vec<u8>> for P256Signer {
    fn try_sign(&self, message: &[u8]) -> Result<Vec<u8>, SignatureError> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| SignatureError::new())?;
        Ok(signature.as_ref().to_vec())
    }
}

impl JwtSigner for P256Signer {
    fn algorithm(&self) -> Algorithm {
        Algorithm::ES256
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
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned();
        assert_eq!(key.point, Point::Ed25519 { x });
    }

    fn claims() -> Claims<'static> {
        Claims {
            iss: "otpd",
            aud: "simple",
            sub: "a@example.com",
            purpose: "simple",
            method: METHOD,
            test: false,
            jti: "1",
            iat: 1,
            exp: 301,
        }
    }

    #[test]
    fn an_es256_proof_is_verified_by_the_published_point() {
        let pkcs8 = ProofKey::generate_p256().unwrap();
        let key = ProofKey::es256(KeyName::parse("e1").unwrap(), &pkcs8).unwrap();
        let Point::P256 { x, y } = key.public().unwrap().point else { panic!("a P-256 key") };
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
        let point = [vec![4], decode(&x), decode(&y)].concat();
        assert_eq!(point.len(), 65);
        let token = key.sign(&claims()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let public = UnparsedPublicKey::new(&ring::signature::ECDSA_P256_SHA256_FIXED, point);
        public.verify(signed.as_bytes(), &decode(signature)).unwrap();
        public.verify(&signed.as_bytes()[1..], &decode(signature)).unwrap_err();
        let header: serde_json::Value =
            serde_json::from_slice(&decode(signed.split_once('.').unwrap().0)).unwrap();
        assert_eq!(header, serde_json::json!({ "typ": "otp-proof+jwt", "alg": "ES256", "kid": "e1" }));
        let shown = format!("{key:?}");
        assert_eq!(shown, "ProofKey { kid: KeyName(\"e1\"), .. }");
    }

    #[test]
    fn what_is_no_p256_key_is_refused() {
        let pkcs8 = ProofKey::generate_p256().unwrap();
        let name = || KeyName::parse("e1").unwrap();
        assert!(ProofKey::es256(name(), &pkcs8[1..]).is_none());
        assert!(ProofKey::es256(name(), &[7; PROOF_SEED_BYTES]).is_none());
        // The public half belongs to another key.
        let mut mixed = pkcs8.to_vec();
        let other = ProofKey::generate_p256().unwrap();
        let at = mixed.len() - 65;
        mixed[at..].copy_from_slice(&other[at..]);
        assert!(ProofKey::es256(name(), &mixed).is_none());
    }

    #[test]
    fn a_proof_is_signed_by_its_key_and_says_what_was_claimed() {
        let key = ProofKey::new(KeyName::parse("p1").unwrap(), [7; PROOF_SEED_BYTES]);
        let token = key.sign(&claims()).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let public = Ed25519KeyPair::from_seed_unchecked(&[7; PROOF_SEED_BYTES]).unwrap();
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
            "iss": "otpd", "aud": "simple", "sub": "a@example.com", "purpose": "simple", "method": "mail_code",
            "jti": "1", "iat": 1, "exp": 301,
        });
        assert_eq!(parts[1], said);
    }
}
