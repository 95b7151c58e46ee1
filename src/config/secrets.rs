//! Secrets of the deployment, as unpadded URL-safe base64: 32 bytes each, except ES256 proof keys.
//!
//! Must not have defaults, and must not show a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use super::reader::{Reader, entries};
use crate::domain::key_name::KeyName;
use crate::domain::keyed_hash::IndexKey;
use crate::domain::pepper::{Pepper, Peppers};
use crate::domain::proof::ProofKey;

/// Length of peppers, the index key and seeds of EdDSA proof keys, in bytes.
const SECRET_BYTES: usize = 32;

/// The secrets.
#[derive(Debug, Clone)]
pub struct SecretSettings {
    /// Keys of the code hashes, which the store does not contain.
    pub peppers: Peppers,
    /// Key of the hashes that stand for addresses in the store.
    pub index_key: IndexKey,
}

/// The keys that sign proofs.
#[derive(Debug, Clone)]
pub enum ProofKeys {
    /// Proofs are disabled.
    None,
    /// The first key signs; proofs of the others remain valid.
    Keys {
        /// The key that signs.
        current: ProofKey,
        /// Keys that signed earlier proofs.
        older: Vec<ProofKey>,
    },
}

impl ProofKeys {
    /// Returns the names of all keys, the current one first.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::None => Vec::new(),
            Self::Keys { current, older } => {
                std::iter::once(current).chain(older).map(|key| key.kid().as_str()).collect()
            }
        }
    }
}

/// Reads the section `secrets`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<SecretSettings> {
    let peppers = peppers(reader);
    let index_key = index_key(reader);
    Some(SecretSettings { peppers: peppers?, index_key: index_key? })
}

fn peppers(reader: &mut Reader<'_>) -> Option<Peppers> {
    let what = "the secret under which codes are hashed (`otpd init` writes one)";
    let text = reader.required("secrets.peppers", what)?;
    let peppers = match named(text, seed) {
        Ok(peppers) => peppers,
        Err(what) => return reader.refuse("secrets.peppers", &what),
    };
    let mut peppers = peppers.into_iter().map(|(name, secret)| Pepper::new(name, *secret));
    let first = peppers.next();
    let peppers = first.and_then(|first| Peppers::new(first, peppers.collect()));
    peppers.or_else(|| reader.refuse("secrets.peppers", "has no entry"))
}

fn index_key(reader: &mut Reader<'_>) -> Option<IndexKey> {
    let what = "the secret that hides addresses from Redis (`otpd init` writes one)";
    let text = reader.required("secrets.index_key", what)?;
    match bytes(text.trim()) {
        Some(secret) => Some(IndexKey::new(*secret)),
        None => reader.refuse("secrets.index_key", "must be 32 bytes as 43 characters of URL-safe base64"),
    }
}

/// Reads `secrets.proof_keys`.
pub(super) fn read_proof_keys(reader: &mut Reader<'_>) -> Option<ProofKeys> {
    let text = reader.text("secrets.proof_keys")?;
    if text.is_empty() {
        return Some(ProofKeys::None);
    }
    let keys = match named(text, proof_key) {
        Ok(keys) => keys,
        Err(what) if what.ends_with(NO_P256_KEY) => {
            let line = reader
                .line("secrets.proof_keys", "<from: otpd keygen proof-key --name e1 --algorithm es256>");
            return reader.refuse_for("secrets.proof_keys", &what, &line);
        }
        Err(what) => return reader.refuse("secrets.proof_keys", &what),
    };
    let mut keys = keys.into_iter().map(|(_, key)| key);
    match keys.next() {
        Some(current) => Some(ProofKeys::Keys { current, older: keys.collect() }),
        None => reader.refuse("secrets.proof_keys", "has no entry"),
    }
}

/// Ends the fault of an entry for ES256.
const NO_P256_KEY: &str = "has no P-256 key: after es256: there must be its PKCS #8 form, including the public key, in URL-safe base64";

/// Parses the seed of an EdDSA key, with an optional prefix `eddsa:`, or `es256:` and a P-256 key.
fn proof_key(name: &KeyName, secret: &str) -> Result<ProofKey, &'static str> {
    let (algorithm, secret) = secret.split_once(':').unwrap_or(("eddsa", secret));
    match algorithm.to_ascii_lowercase().as_str() {
        "eddsa" => seed(name, secret).map(|seed| ProofKey::new(name.clone(), *seed)),
        "es256" => {
            let pkcs8 = URL_SAFE_NO_PAD.decode(secret).map(Zeroizing::new);
            let key = pkcs8.ok().and_then(|pkcs8| ProofKey::es256(name.clone(), &pkcs8));
            key.ok_or(NO_P256_KEY)
        }
        _ => Err("has an algorithm that is neither es256 nor eddsa"),
    }
}

/// Parses a secret of 32 bytes.
fn seed(_: &KeyName, text: &str) -> Result<Zeroizing<[u8; SECRET_BYTES]>, &'static str> {
    bytes(text).ok_or("has a secret that is not 43 characters of URL-safe base64 (32 bytes)")
}

/// Parses a comma-separated list of `NAME:SECRET` with unique names; `parse` turns a name and its
/// secret into a key. The fault describes the first wrong entry without showing it.
fn named<T>(
    text: &str,
    parse: impl Fn(&KeyName, &str) -> Result<T, &'static str>,
) -> Result<Vec<(KeyName, T)>, String> {
    let mut all: Vec<(KeyName, T)> = Vec::new();
    for (number, item) in (1..).zip(entries(text)) {
        let wrong = |what: &str| format!("entry {number} {what}");
        let (name, secret) =
            item.split_once(':').ok_or_else(|| wrong("has no name: it must be NAME:SECRET"))?;
        let name = KeyName::parse(name)
            .ok_or_else(|| wrong("has a name that is not 1 to 16 characters of a-z 0-9 _ -"))?;
        if all.iter().any(|(other, _)| *other == name) {
            return Err(wrong(&format!("has the name of another, {:?}: give each its own", name.as_str())));
        }
        let value = parse(&name, secret).map_err(wrong)?;
        all.push((name, value));
    }
    Ok(all)
}

fn bytes(text: &str) -> Option<Zeroizing<[u8; SECRET_BYTES]>> {
    let mut decoded = URL_SAFE_NO_PAD.decode(text).ok()?;
    let secret = <[u8; SECRET_BYTES]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new);
    decoded.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::proof::Point;

    #[test]
    fn secrets_are_32_octets_with_names_of_their_own() {
        let a = URL_SAFE_NO_PAD.encode([1; 32]);
        let b = URL_SAFE_NO_PAD.encode([2; 32]);
        let all = named(&format!("k2:{a}, k1:{b}"), seed).unwrap();
        let names: Vec<_> = all.iter().map(|(name, secret)| (name.as_str(), secret[0])).collect();
        assert_eq!(names, [("k2", 1), ("k1", 2)]);
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        assert_eq!(named(&format!("k1:{a},"), seed).unwrap().len(), 1);
        for text in [
            "k1",
            "k1:",
            &a,
            &format!(":{a}"),
            &format!("K1:{a}"),
            &format!("k1:{a},,"),
            &format!("k1:{a}="),
            &format!("k1:{a},k1:{b}"),
            &format!("k1:{short}"),
            &format!("k1:{a}AA"),
            &format!("k1:{}+", &a[..42]),
        ] {
            assert!(named(text, seed).is_err(), "{text}");
        }
    }

    #[test]
    fn a_proof_key_is_eddsa_unless_its_entry_says_es256() {
        let (a, p256) = (URL_SAFE_NO_PAD.encode([1; 32]), ProofKey::generate_p256().unwrap());
        let p256 = URL_SAFE_NO_PAD.encode(&*p256);
        let keys = named(&format!("p1:{a},e1:es256:{p256},p2:EdDSA:{a},e2:ES256:{p256}"), proof_key).unwrap();
        let points: Vec<_> = keys.into_iter().map(|(_, key)| key.public().unwrap().point).collect();
        assert!(matches!(
            points[..],
            [Point::Ed25519 { .. }, Point::P256 { .. }, Point::Ed25519 { .. }, Point::P256 { .. }]
        ));
        for (text, reason) in [
            (format!("p1:{p256}"), "entry 1 has a secret that is not 43 characters"),
            (format!("p1:{a},e1:es256:{a}"), "entry 2 has no P-256 key"),
            (format!("p1:rs256:{a}"), "entry 1 has an algorithm that is neither es256 nor eddsa"),
            (format!("p1:{a},p1:es256:{p256}"), "entry 2 has the name of another, \"p1\""),
        ] {
            let said = named(&text, proof_key).err().unwrap();
            assert!(said.starts_with(reason) && !said.contains(&a) && !said.contains(&p256), "{said}");
        }
    }
}
