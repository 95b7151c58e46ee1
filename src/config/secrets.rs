//! The secrets of the deployment: 32 octets each, as unpadded URL-safe base64.
//!
//! Must not have defaults, and must not show a secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize, Zeroizing};

use super::reader::Reader;
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
    let peppers = named(text).and_then(|peppers| {
        let mut peppers = peppers.into_iter().map(|(name, secret)| Pepper::new(name, *secret));
        Peppers::new(peppers.next()?, peppers.collect())
    });
    peppers.or_else(|| refuse_list(reader, "secrets.peppers"))
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
    let keys = named(text).and_then(|keys| {
        let mut keys = keys.into_iter().map(|(name, seed)| ProofKey::new(name, *seed));
        Some(ProofKeys::Keys { current: keys.next()?, older: keys.collect() })
    });
    keys.or_else(|| refuse_list(reader, "secrets.proof_keys"))
}

fn refuse_list<T>(reader: &mut Reader<'_>, key: &str) -> Option<T> {
    let what = "must be NAME:SECRET, comma separated, each name once and of 1 to 16 characters a-z 0-9 _ -, each \
                secret 32 octets as 43 characters of URL-safe base64";
    reader.refuse(key, what)
}

/// `NAME:SECRET`, comma separated, each name once.
fn named(text: &str) -> Option<Vec<(KeyName, Zeroizing<[u8; OCTETS]>)>> {
    let mut all: Vec<(KeyName, _)> = Vec::new();
    for item in text.split(',') {
        let (name, secret) = item.trim().split_once(':')?;
        let name = KeyName::parse(name).filter(|name| all.iter().all(|(other, _)| other != name))?;
        all.push((name, octets(secret)?));
    }
    Some(all)
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
        for text in [
            "",
            "k1",
            "k1:",
            &a,
            &format!(":{a}"),
            &format!("K1:{a}"),
            &format!("k1:{a},"),
            &format!("k1:{a}="),
            &format!("k1:{a},k1:{b}"),
            &format!("k1:{short}"),
            &format!("k1:{a}AA"),
            &format!("k1:{}+", &a[..42]),
        ] {
            assert!(named(text).is_none(), "{text}");
        }
    }
}
