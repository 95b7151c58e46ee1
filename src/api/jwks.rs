//! The proof keys, public half (RFC 7517), for whoever checks proofs.
//!
//! Must not hold or show a private key.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::spec::Tag;
use crate::domain::proof::{ProofKey, PublicKey};
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

/// An Ed25519 key (RFC 8037 section 2).
#[derive(Debug, Object)]
#[oai(rename = "JsonWebKey")]
struct Key {
    /// `OKP`
    kty: String,
    /// `Ed25519`
    crv: String,
    /// The key itself, as URL-safe base64.
    x: String,
    /// Its name, as the header of a proof says it.
    kid: String,
    /// `sig`
    r#use: String,
    /// `EdDSA`
    alg: String,
}

#[derive(ApiResponse)]
enum KeysResponse {
    /// The keys whose proofs are good.
    #[oai(status = 200)]
    Keys(Json<KeySet>),
}

#[OpenApi(prefix_path = "/.well-known", tag = "Tag::Proofs")]
impl ProofKeysApi {
    /// Show the proof keys
    ///
    /// Any JWT library can check a proof with them, offline. Keys overlap while one takes over from another: look again
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
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: key.x,
            kid: key.kid,
            r#use: "sig".to_owned(),
            alg: "EdDSA".to_owned(),
        }
    }
}
