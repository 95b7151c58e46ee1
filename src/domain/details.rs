//! The encrypted details of a verification that must show, email or prove its address later. Access
//! to the store alone is not enough to read them or to move them to another verification.
//!
//! AES-256-GCM (NIST SP 800-38D). The key is derived from a pepper for one store key, and details
//! are encrypted once under a store key, so the nonce may be fixed. Must not decide which details
//! are shown.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::code_hash::AssociatedData;
use super::email_address::EmailAddress;
use super::key_name::KeyName;
use super::locale::Locale;
use super::pepper::{Pepper, Peppers};
use super::purpose::Purpose;
use super::reference::{REFERENCE_LETTERS, Reference};

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;
/// The label of the keys of details.
const LABEL: &[u8] = b"otpd details";
/// The end of the details of a test: no locale ends so.
const TEST_MARK: &[u8] = b"\0\0";

/// The details of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationDetails {
    /// The address to confirm.
    pub address: EmailAddress,
    /// The purpose of the confirmation.
    pub purpose: Purpose,
    /// The reference in its email.
    pub reference: Reference,
    /// The requested language.
    pub locale: Option<Locale>,
    /// Whether it is a test, for which no email is sent.
    pub is_test: bool,
}

/// Encrypted [`VerificationDetails`], preceded by the name of the pepper. Empty if no details have
/// to be stored.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EncryptedDetails(Vec<u8>);

/// The details were encrypted under a pepper that has been removed, or for another store key.
#[derive(Debug, Error)]
#[error("what was encrypted cannot be opened")]
pub struct DecryptionError;

impl EncryptedDetails {
    /// Encrypts the details for one store key. Must be called once for a store key, because the
    /// nonce is fixed.
    ///
    /// # Errors
    /// Returns [`DecryptionError`] if encryption fails, which does not happen for parsed details.
    pub fn new(
        details: &VerificationDetails,
        associated_data: &AssociatedData,
        pepper: &Pepper,
    ) -> Result<Self, DecryptionError> {
        let VerificationDetails { address, purpose, reference, locale, is_test } = details;
        let mut text = [reference.as_str(), purpose.as_str(), "\0", address.as_str()].concat().into_bytes();
        if let Some(locale) = locale {
            text.extend([b"\0", locale.as_str().as_bytes()].concat());
        }
        if *is_test {
            text.extend(TEST_MARK);
        }
        let key = derive_key(LABEL, associated_data.as_bytes(), pepper)?;
        key.seal_in_place_append_tag(nonce(), Aad::empty(), &mut text).map_err(|_| DecryptionError)?;
        with_pepper_name(pepper, &text).map(Self)
    }

    /// Wraps the bytes from a store.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Decrypts the details.
    ///
    /// # Errors
    /// Returns [`DecryptionError`] if they belong to another store key, or if their pepper has been
    /// removed.
    pub fn open(
        &self,
        associated_data: &AssociatedData,
        peppers: &Peppers,
    ) -> Result<VerificationDetails, DecryptionError> {
        let details = || {
            let (pepper, encrypted) = split_pepper(&self.0, peppers)?;
            let mut text = Zeroizing::new(encrypted.to_vec());
            let key = derive_key(LABEL, associated_data.as_bytes(), pepper).ok()?;
            let text = key.open_in_place(nonce(), Aad::empty(), &mut text).ok()?;
            parse(text)
        };
        details().ok_or(DecryptionError)
    }
}

fn parse(text: &[u8]) -> Option<VerificationDetails> {
    let (text, is_test) = text.strip_suffix(TEST_MARK).map_or((text, false), |text| (text, true));
    let (reference, rest) = text.split_at_checked(REFERENCE_LETTERS)?;
    let mut parts = str::from_utf8(rest).ok()?.split('\0');
    Some(VerificationDetails {
        purpose: Purpose::parse(parts.next()?)?,
        address: EmailAddress::parse(parts.next()?).ok()?,
        locale: parts.next().map_or(Some(None), |tag| Locale::parse(tag).map(Some))?,
        reference: Reference::parse(reference)?,
        is_test,
    })
}

/// Returns the encrypted bytes, preceded by the name of the pepper.
pub(super) fn with_pepper_name(pepper: &Pepper, encrypted: &[u8]) -> Result<Vec<u8>, DecryptionError> {
    let kid = pepper.id().as_str().as_bytes();
    let kid_length = u8::try_from(kid.len()).map_err(|_| DecryptionError)?;
    Ok([&[kid_length], kid, encrypted].concat())
}

/// Returns the pepper that the bytes name, if it is still active, and what was encrypted under it.
pub(super) fn split_pepper<'a>(bytes: &'a [u8], peppers: &'a Peppers) -> Option<(&'a Pepper, &'a [u8])> {
    let (kid_length, rest) = bytes.split_first()?;
    let (kid, encrypted) = rest.split_at_checked(usize::from(*kid_length))?;
    Some((peppers.find(&KeyName::parse(str::from_utf8(kid).ok()?)?)?, encrypted))
}

/// Derives a key: HMAC-SHA-256 under the pepper over a label, which says what it encrypts, and the
/// place in the store.
pub(super) fn derive_key(
    label: &[u8],
    place: &[u8],
    pepper: &Pepper,
) -> Result<LessSafeKey, DecryptionError> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(pepper.expose()).map_err(|_| DecryptionError)?;
    let mut secret = mac.chain_update(label).chain_update([0]).chain_update(place).finalize().into_bytes();
    let key = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| DecryptionError);
    secret.as_mut_slice().zeroize();
    key.map(LessSafeKey::new)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_BYTES])
}

impl fmt::Debug for EncryptedDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedDetails({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::pepper::PEPPER_BYTES;

    fn pepper(name: &str, secret: u8) -> Pepper {
        Pepper::new(KeyName::parse(name).unwrap(), [secret; PEPPER_BYTES])
    }

    fn store_key(number: u8) -> AssociatedData {
        AssociatedData::new([number; 32])
    }

    fn details() -> VerificationDetails {
        VerificationDetails {
            address: EmailAddress::parse("somebody@private.example").unwrap(),
            purpose: Purpose::parse("login").unwrap(),
            reference: Reference::parse(b"BCD").unwrap(),
            locale: Locale::parse("pt-br"),
            is_test: false,
        }
    }

    #[test]
    fn what_is_sealed_opens_at_its_own_slot_under_its_own_pepper() {
        let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
        let without = VerificationDetails { locale: None, ..details() };
        let test = VerificationDetails { is_test: true, ..details() };
        let test_without = VerificationDetails { is_test: true, ..without.clone() };
        for details in [without, test, test_without] {
            let encrypted = EncryptedDetails::new(&details, &store_key(3), &pepper("k1", 1)).unwrap();
            assert_eq!(encrypted.open(&store_key(3), &peppers).unwrap(), details);
        }
        let encrypted = EncryptedDetails::new(&details(), &store_key(1), &pepper("k1", 1)).unwrap();
        let rotated = Peppers::new(pepper("k2", 2), vec![pepper("k1", 1)]).unwrap();
        assert_eq!(encrypted.open(&store_key(1), &rotated).unwrap(), details());
        encrypted.open(&store_key(2), &rotated).unwrap_err();
        for others in [pepper("k1", 3), pepper("k2", 1)] {
            encrypted.open(&store_key(1), &Peppers::new(others, vec![]).unwrap()).unwrap_err();
        }
    }

    #[test]
    fn nothing_of_it_can_be_read() {
        let encrypted = EncryptedDetails::new(&details(), &store_key(1), &pepper("k1", 1)).unwrap();
        for text in ["somebody", "private", "login", "BCD"] {
            let bytes = encrypted.as_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
        assert!(!format!("{encrypted:?}").contains("BCD"));
    }

    proptest! {
        #[test]
        fn what_was_changed_does_not_open(at in 0_usize..64, bit in 0_u8..8) {
            let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
            let mut bytes = EncryptedDetails::new(&details(), &store_key(1), &pepper("k1", 1)).unwrap().0;
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(EncryptedDetails::from_bytes(bytes).open(&store_key(1), &peppers).is_err());
        }

        #[test]
        fn any_octets_open_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
            prop_assert!(EncryptedDetails::from_bytes(bytes).open(&store_key(1), &peppers).is_err());
        }
    }
}
