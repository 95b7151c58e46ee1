//! DKIM key records (RFC 6376 and RFC 8463).
//!
//! Must not verify a signature.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;
use x509_cert::der::asn1::UintRef;
use x509_cert::der::{Decode as _, Reader as _, SliceReader};
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::tags::Tags;

/// The shortest RSA key that receivers must accept (RFC 8301 section 3.2).
const LEAST_BITS: usize = 1024;
/// The length that RFC 8301 recommends.
const GOOD_BITS: usize = 2048;
/// The length of an ed25519 key, in bytes.
const ED25519_BYTES: usize = 32;

/// A key that receivers can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DkimKey {
    /// Its algorithm.
    pub algorithm: KeyAlgorithm,
    /// Whether the domain says that it only tests DKIM (`t=y`).
    pub is_test: bool,
}

/// The algorithm of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyAlgorithm {
    /// RSA, with the length of the modulus in bits.
    Rsa(usize),
    /// Ed25519.
    Ed25519,
}

/// Why receivers cannot use a key record.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum KeyFault {
    /// It is no list of tags, or another version.
    #[error("it is not a DKIM key record")]
    NoRecord,
    /// `p=` is empty.
    #[error("the key is revoked (p= is empty): mail that is signed with it fails")]
    Revoked,
    /// The algorithm is not known.
    #[error("its algorithm (k=) is neither rsa nor ed25519")]
    Algorithm,
    /// The key cannot be read.
    #[error("the key (p=) cannot be read: perhaps the record was cut or quoted wrongly")]
    Unreadable,
    /// The key is too short.
    #[error("the RSA key has {0} bits: receivers refuse less than {LEAST_BITS} (RFC 8301 section 3.2)")]
    TooShort(usize),
    /// It is not for SHA-256 or not for mail.
    #[error("it is not for mail signed with SHA-256 (h= or s=)")]
    OtherUse,
}

impl DkimKey {
    /// Parses a key record.
    ///
    /// # Errors
    /// Returns why receivers cannot use it.
    pub(super) fn parse(text: &str) -> Result<Self, KeyFault> {
        let tags = Tags::parse(text).ok_or(KeyFault::NoRecord)?;
        if tags.value("v").is_some_and(|version| version != "DKIM1") {
            return Err(KeyFault::NoRecord);
        }
        let key = tags.value("p").ok_or(KeyFault::NoRecord)?;
        if key.is_empty() {
            return Err(KeyFault::Revoked);
        }
        let has = |tag: &str, wanted: &[&str]| {
            tags.value(tag).is_none_or(|list| list.split(':').any(|item| wanted.contains(&item.trim())))
        };
        if !has("h", &["sha256"]) || !has("s", &["*", "email"]) {
            return Err(KeyFault::OtherUse);
        }
        let key: String = key.chars().filter(|c| !c.is_whitespace()).collect();
        let key = STANDARD.decode(key).map_err(|_| KeyFault::Unreadable)?;
        let algorithm = match tags.value("k").unwrap_or("rsa") {
            "rsa" => match rsa_bits(&key).ok_or(KeyFault::Unreadable)? {
                bits if bits < LEAST_BITS => return Err(KeyFault::TooShort(bits)),
                bits => KeyAlgorithm::Rsa(bits),
            },
            "ed25519" if key.len() == ED25519_BYTES => KeyAlgorithm::Ed25519,
            "ed25519" => return Err(KeyFault::Unreadable),
            _ => return Err(KeyFault::Algorithm),
        };
        let is_test = tags.value("t").is_some_and(|flags| flags.split(':').any(|flag| flag.trim() == "y"));
        Ok(Self { algorithm, is_test })
    }

    /// Describes the key, and what would be better.
    pub(super) fn describe(self) -> String {
        let key = match self.algorithm {
            KeyAlgorithm::Rsa(bits) if bits < GOOD_BITS => {
                format!("RSA, {bits} bits; {GOOD_BITS} are recommended (RFC 8301)")
            }
            KeyAlgorithm::Rsa(bits) => format!("RSA, {bits} bits"),
            KeyAlgorithm::Ed25519 => {
                "ed25519; sign with RSA as well, because not all receivers know it".to_owned()
            }
        };
        if self.is_test { format!("{key}; it says that DKIM is only tested (t=y): remove that") } else { key }
    }
}

/// Returns the length of the modulus of an RSA key, which is in a `SubjectPublicKeyInfo` or bare.
fn rsa_bits(key: &[u8]) -> Option<usize> {
    let bare = SubjectPublicKeyInfoRef::from_der(key).ok();
    let bare = bare.as_ref().and_then(|info| info.subject_public_key.as_bytes()).unwrap_or(key);
    let mut reader = SliceReader::new(bare).ok()?;
    let modulus = reader.sequence(|inner| {
        let modulus = UintRef::decode(inner)?;
        UintRef::decode(inner)?;
        Ok::<_, x509_cert::der::Error>(modulus)
    });
    let bytes = modulus.ok()?.as_bytes();
    let first = bytes.first()?;
    Some(bytes.len() * 8 - usize::try_from(first.leading_zeros()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns an RSA key whose modulus has so many bits. It is none that could sign.
    fn rsa_key(bits: usize) -> String {
        let length = |len: usize| match len {
            0..128 => vec![u8::try_from(len).unwrap()],
            128..256 => vec![0x81, u8::try_from(len).unwrap()],
            _ => [&[0x82][..], &u16::try_from(len).unwrap().to_be_bytes()].concat(),
        };
        let tlv = |tag: u8, value: &[u8]| [&[tag][..], &length(value.len()), value].concat();
        let modulus = [vec![0], vec![0xff; bits / 8]].concat();
        let key = tlv(0x30, &[tlv(2, &modulus), tlv(2, &[1, 0, 1])].concat());
        let rsa_encryption = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
        let info = [tlv(0x30, &rsa_encryption), tlv(3, &[vec![0], key].concat())].concat();
        STANDARD.encode(tlv(0x30, &info))
    }

    fn key(text: &str) -> Result<KeyAlgorithm, KeyFault> {
        DkimKey::parse(text).map(|key| key.algorithm)
    }

    #[test]
    fn the_length_of_an_rsa_key_is_read() {
        for bits in [1024, 2048, 4096] {
            assert_eq!(key(&format!("v=DKIM1; k=rsa; p={}", rsa_key(bits))), Ok(KeyAlgorithm::Rsa(bits)));
        }
        // The version and the algorithm are optional, and white space is no part of the key.
        let split = rsa_key(2048).replacen('A', "A ", 1);
        assert_eq!(key(&format!("p={split}")), Ok(KeyAlgorithm::Rsa(2048)));
        assert_eq!(key(&format!("v=DKIM1; p={}", rsa_key(512))), Err(KeyFault::TooShort(512)));
        let weak = DkimKey::parse(&format!("p={}", rsa_key(1024))).unwrap().describe();
        assert!(weak.contains("2048 are recommended"), "{weak}");
    }

    #[test]
    fn an_ed25519_key_has_32_bytes() {
        let text = |bytes: usize| format!("v=DKIM1; k=ed25519; p={}", STANDARD.encode(vec![7; bytes]));
        assert_eq!(key(&text(32)), Ok(KeyAlgorithm::Ed25519));
        assert_eq!(key(&text(31)), Err(KeyFault::Unreadable));
    }

    #[test]
    fn a_record_that_receivers_cannot_use_says_why() {
        let good = rsa_key(2048);
        for (text, fault) in [
            ("v=DKIM1; p=".to_owned(), KeyFault::Revoked),
            ("v=DKIM1; k=rsa".to_owned(), KeyFault::NoRecord),
            (format!("v=DKIM2; p={good}"), KeyFault::NoRecord),
            ("v=spf1 -all".to_owned(), KeyFault::NoRecord),
            (format!("k=dsa; p={good}"), KeyFault::Algorithm),
            (format!("h=sha1; p={good}"), KeyFault::OtherUse),
            (format!("s=tlsrpt; p={good}"), KeyFault::OtherUse),
            ("p=!".to_owned(), KeyFault::Unreadable),
            (format!("p={}", &good[..200]), KeyFault::Unreadable),
        ] {
            assert_eq!(key(&text), Err(fault), "{text}");
        }
        assert!(key(&format!("h=sha1:sha256; s=email; p={good}")).is_ok());
        assert!(DkimKey::parse(&format!("t=y:s; p={good}")).unwrap().is_test);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_key_or_not(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = rsa_bits(&bytes);
        }
    }
}
