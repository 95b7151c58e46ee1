//! A service account of Google, and the assertions that it signs: JWTs with RS256 (RFC 7518 section
//! 3.3).
//!
//! Must not show the key.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

/// How long an assertion is valid, in seconds. Google accepts an hour at most.
const ASSERTION_SECONDS: u64 = 600;
/// How far the clock of the server may be behind, in seconds.
const CLOCK_SKEW_SECONDS: u64 = 30;

/// A service account.
#[derive(Clone)]
pub struct ServiceAccount {
    email: String,
    key_id: Option<String>,
    key: Arc<RsaKeyPair>,
    token_uri: Option<String>,
}

/// What an assertion says.
#[derive(Debug, Clone, Copy)]
pub struct Assertion<'a> {
    /// The mailbox that a token is requested for.
    pub mailbox: &'a str,
    /// What the token is for.
    pub scope: &'a str,
    /// URL of the token endpoint.
    pub audience: &'a str,
    /// Time since the Unix epoch.
    pub now: Duration,
}

/// An assertion could not be signed.
#[derive(Debug, Error)]
#[error("the assertion of the service account could not be signed")]
pub struct AssertionError;

/// The members of a key file that are used.
#[derive(Deserialize)]
struct KeyFile {
    r#type: String,
    client_email: String,
    private_key: String,
    private_key_id: Option<String>,
    token_uri: Option<String>,
}

#[derive(Serialize)]
struct AssertionHeader<'a> {
    alg: &'static str,
    typ: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<&'a str>,
}

#[derive(Serialize)]
struct AssertionClaims<'a> {
    iss: &'a str,
    sub: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    scope: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
}

impl ServiceAccount {
    /// Parses the key file that Google creates, in JSON.
    ///
    /// # Errors
    /// Describes what is wrong with the file, without its content.
    pub fn parse(json: &str) -> Result<Self, &'static str> {
        let file: KeyFile = serde_json::from_str(json).map_err(
            |_| "must be the JSON key file of a service account, with type, client_email and private_key",
        )?;
        let private_key = Zeroizing::new(file.private_key);
        if file.r#type != "service_account" {
            return Err("is the JSON of another kind of credentials: its type must be service_account");
        }
        let no_key = "has a private_key that is not an RSA key of 2048 bits or more in PEM (PKCS #8)";
        let der = PrivatePkcs8KeyDer::from_pem_slice(private_key.as_bytes()).map_err(|_| no_key)?;
        let key = RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).map_err(|_| no_key)?;
        Ok(Self {
            email: file.client_email,
            key_id: file.private_key_id,
            key: Arc::new(key),
            token_uri: file.token_uri,
        })
    }

    /// Returns the URL of the token endpoint that the key file names.
    #[must_use]
    pub fn token_uri(&self) -> Option<&str> {
        self.token_uri.as_deref()
    }

    /// Signs an assertion.
    ///
    /// # Errors
    /// [`AssertionError`] if the key cannot sign.
    pub fn sign(&self, assertion: Assertion<'_>) -> Result<SecretString, AssertionError> {
        let issued = assertion.now.as_secs().saturating_sub(CLOCK_SKEW_SECONDS);
        let header = AssertionHeader { alg: "RS256", typ: "JWT", kid: self.key_id.as_deref() };
        let claims = AssertionClaims {
            iss: &self.email,
            sub: assertion.mailbox,
            scope: assertion.scope,
            aud: assertion.audience,
            iat: issued,
            exp: issued.saturating_add(ASSERTION_SECONDS),
        };
        let signed = format!("{}.{}", part(&header)?, part(&claims)?);
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        self.key
            .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature)
            .map_err(|_| AssertionError)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)).into())
    }
}

/// Returns a part of a JWT.
fn part(value: &impl Serialize) -> Result<String, AssertionError> {
    let json = serde_json::to_vec(value).map_err(|_| AssertionError)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

impl fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServiceAccount(***)")
    }
}
