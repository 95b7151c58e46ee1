//! The public proof keys (RFC 7517), for anyone who verifies proofs.
//!
//! Must not hold or show a private key.

use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::context::Context;
use super::payload::Json;
use super::spec::ApiTag;
use crate::domain::proof::{Point, PublicKey};

/// The endpoint of the public proof keys.
#[derive(Clone, Copy)]
pub(super) struct ProofKeysApi;

/// A JSON Web Key Set (RFC 7517 section 5). The key that signs new proofs comes first.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "JsonWebKeySet")]
struct KeySet {
    /// The public keys. Empty if the service does not issue proofs.
    keys: Vec<Key>,
}

/// A public key: Ed25519 (RFC 8037 section 2) or P-256 (RFC 7518 section 6.2).
#[derive(Debug, Serialize, Object)]
#[oai(rename = "JsonWebKey")]
struct Key {
    /// The key type: `OKP` for Ed25519, `EC` for P-256.
    kty: String,
    /// The curve: `Ed25519` or `P-256`.
    crv: String,
    /// The public key, or the x coordinate of a P-256 key, in base64url.
    x: String,
    /// The y coordinate of a P-256 key, in base64url.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    /// The key ID. Matches the `kid` in the header of a proof.
    kid: String,
    /// The use of the key. Always `sig`.
    r#use: String,
    /// The signature algorithm: `EdDSA` or `ES256`.
    alg: String,
}

#[derive(ApiResponse)]
enum KeysResponse {
    /// The keys that verify current proofs.
    #[oai(status = 200)]
    Keys(Json<KeySet>),
}

#[OpenApi(prefix_path = "/.well-known", tag = "ApiTag::Proofs")]
impl ProofKeysApi {
    /// List the proof keys
    ///
    /// Returns the public keys as a JSON Web Key Set. Any JWT library that supports the key's `alg`
    /// (EdDSA or ES256) can verify proofs with them offline. During a key rotation the set holds
    /// both the old and the new key. Fetch it again if a proof has an unknown `kid`.
    #[expect(clippy::unused_async, reason = "operations are async")]
    #[oai(path = "/jwks.json", method = "get", operation_id = "proofKeys")]
    async fn keys(&self, context: Context<'_>) -> KeysResponse {
        let keys = context.service().public_proof_keys().into_iter().map(Key::from).collect();
        KeysResponse::Keys(Json(KeySet { keys }))
    }
}

impl From<PublicKey> for Key {
    fn from(key: PublicKey) -> Self {
        let (kty, crv, alg, x, y) = match key.point {
            Point::Ed25519 { x } => ("OKP", "Ed25519", "EdDSA", x, None),
            Point::P256 { x, y } => ("EC", "P-256", "ES256", x, Some(y)),
        };
        Self {
            kty: kty.to_owned(),
            crv: crv.to_owned(),
            x,
            y,
            kid: key.kid,
            r#use: "sig".to_owned(),
            alg: alg.to_owned(),
        }
    }
}
