//! The secrets of the deployment: 32 octets each, as unpadded URL-safe base64.
//!
//! Must not have defaults, and must not show a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use super::reader::{Reader, entries};
use crate::domain::key_name::KeyName;
use crate::domain::pepper::{Pepper, Peppers};
use crate::domain::proof::ProofKey;
use crate::domain::slot::IndexKey;

/// Octets of every secret: peppers, index key and seeds of proof keys.
const OCTETS: usize = 32;

/// The secrets.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// They salt every digest from outside the store.
    pub peppers: Peppers,
    /// It hides addresses from the store.
    pub index_key: IndexKey,
    /// They sign proofs.
    pub proof_keys: ProofKeys,
}

/// The keys that sign proofs.
#[derive(Debug, Clone)]
pub enum ProofKeys {
    /// No proofs are given out.
    None,
    /// The first signs; proofs of the others are still good.
    Keys {
        /// It signs.
        current: ProofKey,
        /// They signed before.
        older: Vec<ProofKey>,
    },
}

/// Reads the section `secrets`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Secrets> {
    let peppers = peppers(reader);
    let index_key = index_key(reader);
    let proof_keys = proof_keys(reader);
    Some(Secrets { peppers: peppers?, index_key: index_key?, proof_keys: proof_keys? })
}

fn peppers(reader: &mut Reader<'_>) -> Option<Peppers> {
    let what = "the secret under which codes are hashed (`otpd init` writes one)";
    let text = reader.required("secrets.peppers", what)?;
    let peppers = match named(text) {
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
    match octets(text.trim()) {
        Some(secret) => Some(IndexKey::new(*secret)),
        None => reader.refuse("secrets.index_key", "must be 32 octets as 43 characters of URL-safe base64"),
    }
}

fn proof_keys(reader: &mut Reader<'_>) -> Option<ProofKeys> {
    let text = reader.text("secrets.proof_keys")?;
    if text.is_empty() {
        return Some(ProofKeys::None);
    }
    let keys = match named(text) {
        Ok(keys) => keys,
        Err(what) => return reader.refuse("secrets.proof_keys", &what),
    };
    let mut keys = keys.into_iter().map(|(name, seed)| ProofKey::new(name, *seed));
    match keys.next() {
        Some(current) => Some(ProofKeys::Keys { current, older: keys.collect() }),
        None => reader.refuse("secrets.proof_keys", "has no entry"),
    }
}

/// A secret with its name.
type Named = (KeyName, Zeroizing<[u8; OCTETS]>);

/// `NAME:SECRET`, comma separated, each name once. What is wrong is said of the first wrong entry, which is not shown.
fn named(text: &str) -> Result<Vec<Named>, String> {
    let mut all: Vec<Named> = Vec::new();
    for (number, item) in (1..).zip(entries(text)) {
        let wrong = |what: &str| format!("entry {number} {what}");
        let (name, secret) =
            item.split_once(':').ok_or_else(|| wrong("has no name: it must be NAME:SECRET"))?;
        let name = KeyName::parse(name)
            .ok_or_else(|| wrong("has a name that is not 1 to 16 characters of a-z 0-9 _ -"))?;
        if all.iter().any(|(other, _)| *other == name) {
            return Err(wrong(&format!("has the name of another, {:?}: give each its own", name.as_str())));
        }
        let secret = octets(secret)
            .ok_or_else(|| wrong("has a secret that is not 43 characters of URL-safe base64 (32 bytes)"))?;
        all.push((name, secret));
    }
    Ok(all)
}

fn octets(text: &str) -> Option<Zeroizing<[u8; OCTETS]>> {
    let mut decoded = URL_SAFE_NO_PAD.decode(text).ok()?;
    let secret = <[u8; OCTETS]>::try_from(decoded.as_slice()).ok().map(Zeroizing::new);
    decoded.zeroize();
    secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_32_octets_with_names_of_their_own() {
        let (a, b) = (URL_SAFE_NO_PAD.encode([1; 32]), URL_SAFE_NO_PAD.encode([2; 32]));
        let all = named(&format!("k2:{a}, k1:{b}")).unwrap();
        let names: Vec<_> = all.iter().map(|(name, secret)| (name.as_str(), secret[0])).collect();
        assert_eq!(names, [("k2", 1), ("k1", 2)]);
        let short = URL_SAFE_NO_PAD.encode([1; 31]);
        assert_eq!(named(&format!("k1:{a},")).unwrap().len(), 1);
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
            assert!(named(text).is_err(), "{text}");
        }
    }
}
