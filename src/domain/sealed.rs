//! What is sealed into a verification that must show, mail or prove an address again: nobody who has the store alone can
//! read it, or move it to another verification.
//!
//! AES-256-GCM (NIST SP 800-38D). The key is derived from a pepper for one slot, and a slot is sealed once, so that the
//! nonce may be fixed. Must not decide what is shown of it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha2::Sha256;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::code_hash::Binding;
use super::email_address::EmailAddress;
use super::key_name::KeyName;
use super::locale::Locale;
use super::pepper::{Pepper, Peppers};
use super::purpose::Purpose;
use super::reference::{REFERENCE_LETTERS, Reference};

/// Octets of a nonce.
const NONCE_OCTETS: usize = 12;

/// What a verification is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Particulars {
    /// The address to confirm.
    pub address: EmailAddress,
    /// What for.
    pub purpose: Purpose,
    /// Which mail belongs to it.
    pub reference: Reference,
    /// The language that was asked for.
    pub locale: Option<Locale>,
}

/// Sealed [`Particulars`], with the name of the pepper in front. Nothing at all where nothing has to be known again.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// They were sealed under a pepper that is gone, or not for this slot.
#[derive(Debug, Error)]
#[error("what was sealed cannot be opened")]
pub struct Unsealable;

impl Sealed {
    /// Seals them for one slot. Must be called once for a slot: the nonce is fixed.
    ///
    /// # Errors
    /// [`Unsealable`], never for particulars that were parsed.
    pub fn new(particulars: &Particulars, binding: &Binding, pepper: &Pepper) -> Result<Self, Unsealable> {
        let Particulars { address, purpose, reference, locale } = particulars;
        let mut text = [reference.as_str(), purpose.as_str(), "\0", address.as_str()].concat().into_bytes();
        if let Some(locale) = locale {
            text.extend([b"\0", locale.as_str().as_bytes()].concat());
        }
        let kid = pepper.id().as_str().as_bytes();
        let sealed = key(binding, pepper)?.seal_in_place_append_tag(nonce(), Aad::empty(), &mut text);
        sealed.map_err(|_| Unsealable)?;
        let kid_length = u8::try_from(kid.len()).map_err(|_| Unsealable)?;
        Ok(Self([&[kid_length], kid, &text].concat()))
    }

    /// Wraps what a store kept.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// What a store keeps.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Opens them.
    ///
    /// # Errors
    /// [`Unsealable`] where they are not this slot's, or their pepper is gone.
    pub fn open(&self, binding: &Binding, peppers: &Peppers) -> Result<Particulars, Unsealable> {
        let particulars = || {
            let (kid_length, rest) = self.0.split_first()?;
            let (kid, sealed) = rest.split_at_checked(usize::from(*kid_length))?;
            let pepper = peppers.find(&KeyName::parse(str::from_utf8(kid).ok()?)?)?;
            let mut text = Zeroizing::new(sealed.to_vec());
            let text = key(binding, pepper).ok()?.open_in_place(nonce(), Aad::empty(), &mut text).ok()?;
            parse(text)
        };
        particulars().ok_or(Unsealable)
    }
}

fn parse(text: &[u8]) -> Option<Particulars> {
    let (reference, rest) = text.split_at_checked(REFERENCE_LETTERS)?;
    let mut parts = str::from_utf8(rest).ok()?.split('\0');
    Some(Particulars {
        purpose: Purpose::parse(parts.next()?)?,
        address: EmailAddress::parse(parts.next()?).ok()?,
        locale: parts.next().map_or(Some(None), |tag| Locale::parse(tag).map(Some))?,
        reference: Reference::parse(reference)?,
    })
}

/// HMAC-SHA-256 under the pepper over a label and the slot.
fn key(binding: &Binding, pepper: &Pepper) -> Result<LessSafeKey, Unsealable> {
    let mac = <Hmac<Sha256> as KeyInit>::new_from_slice(pepper.expose()).map_err(|_| Unsealable)?;
    let mut secret =
        mac.chain_update(b"otpd sealed\0").chain_update(binding.as_bytes()).finalize().into_bytes();
    let key = UnboundKey::new(&AES_256_GCM, &secret).map_err(|_| Unsealable);
    secret.as_mut_slice().zeroize();
    key.map(LessSafeKey::new)
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_OCTETS])
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} octets)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::pepper::PEPPER_OCTETS;

    fn pepper(name: &str, secret: u8) -> Pepper {
        Pepper::new(KeyName::parse(name).unwrap(), [secret; PEPPER_OCTETS])
    }

    fn slot(number: u8) -> Binding {
        Binding::new([number; 32])
    }

    fn particulars() -> Particulars {
        Particulars {
            address: EmailAddress::parse("somebody@private.example").unwrap(),
            purpose: Purpose::parse("login").unwrap(),
            reference: Reference::parse(b"BCD").unwrap(),
            locale: Locale::parse("pt-br"),
        }
    }

    #[test]
    fn what_is_sealed_opens_at_its_own_slot_under_its_own_pepper() {
        let without = Particulars { locale: None, ..particulars() };
        let sealed = Sealed::new(&without, &slot(3), &pepper("k1", 1)).unwrap();
        let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
        assert_eq!(sealed.open(&slot(3), &peppers).unwrap(), without);
        let sealed = Sealed::new(&particulars(), &slot(1), &pepper("k1", 1)).unwrap();
        let rotated = Peppers::new(pepper("k2", 2), vec![pepper("k1", 1)]).unwrap();
        assert_eq!(sealed.open(&slot(1), &rotated).unwrap(), particulars());
        sealed.open(&slot(2), &rotated).unwrap_err();
        for others in [pepper("k1", 3), pepper("k2", 1)] {
            sealed.open(&slot(1), &Peppers::new(others, vec![]).unwrap()).unwrap_err();
        }
    }

    #[test]
    fn nothing_of_it_can_be_read() {
        let sealed = Sealed::new(&particulars(), &slot(1), &pepper("k1", 1)).unwrap();
        for text in ["somebody", "private", "login", "BCD"] {
            let bytes = sealed.as_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
        assert!(!format!("{sealed:?}").contains("BCD"));
    }

    proptest! {
        #[test]
        fn what_was_changed_does_not_open(at in 0_usize..64, bit in 0_u8..8) {
            let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
            let mut bytes = Sealed::new(&particulars(), &slot(1), &pepper("k1", 1)).unwrap().0;
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Sealed::from_bytes(bytes).open(&slot(1), &peppers).is_err());
        }

        #[test]
        fn any_octets_open_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let peppers = Peppers::new(pepper("k1", 1), vec![]).unwrap();
            prop_assert!(Sealed::from_bytes(bytes).open(&slot(1), &peppers).is_err());
        }
    }
}
