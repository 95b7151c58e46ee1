//! The proof keys, public half (RFC 7517), for whoever checks proofs.
//!
//! Must not hold or show a private key.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::spec::ApiTag;
use crate::domain::proof::{Point, ProofKey, PublicKey};
use crate::service::Service;

/// The well-known address of the keys.
pub struct ProofKeysApi;

/// Keys, the one that signs first (RFC 7517 section 5).
#[derive(Debug, Object)]
#[oai(rename = "JsonWebKeySet")]
struct KeySet {
    /// The keys; none where the service gives no proofs.
    keys: Vec<Key>,
}

/// An Ed25519 key (RFC 8037 section 2) or a P-256 key (RFC 7518 section 6.2).
#[derive(Debug, Object)]
#[oai(rename = "JsonWebKey")]
struct Key {
    /// `OKP` or `EC`
    kty: String,
    /// `Ed25519` or `P-256`
    crv: String,
    /// The key itself, or its first coordinate, as URL-safe base64.
    x: String,
    /// The second coordinate of a P-256 key.
    #[oai(skip_serializing_if_is_none)]
    y: Option<String>,
    /// Its name, as the header of a proof says it.
    kid: String,
    /// `sig`
    r#use: String,
    /// `EdDSA` or `ES256`: the algorithm that its proofs are signed with.
    alg: String,
}

#[derive(ApiResponse)]
enum KeysResponse {
    /// The keys whose proofs are good.
    #[oai(status = 200)]
    Keys(Json<KeySet>),
}

#[OpenApi(prefix_path = "/.well-known", tag = "ApiTag::Proofs")]
impl ProofKeysApi {
    /// Show the proof keys
    ///
    /// A JWT library that knows the `alg` of a key (EdDSA or ES256) checks its proofs with it, offline. Keys overlap while one takes over from another: look again
    /// where a proof names a key that is not known yet.
    #[expect(clippy::unused_async, reason = "operations are async")]
    #[oai(path = "/jwks.json", method = "get", operation_id = "proofKeys")]
    async fn keys(&self, service: Data<&Service>) -> KeysResponse {
        let keys = service.proof_keys().iter().filter_map(ProofKey::public).map(Key::from).collect();
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
