//! Captured emails of sandbox keys: what would have been mailed, for the tests of the program that
//! holds the key.
//!
//! AES-256-GCM (NIST SP 800-38D) under a key that is derived from a pepper for one mailbox, with a
//! random nonce. Access to the store alone is not enough to read them, or to move them to the
//! mailbox of another key. Must not decide who may read them.

use std::fmt;
use std::time::Duration;

use ring::aead::{Aad, Nonce};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::Zeroizing;

use super::api_key::KeyHash;
use super::details::{DecryptionError, NONCE_BYTES, derive_key, split_pepper, with_pepper_name};
use super::keyed_hash::{IndexKey, KeyedHash};
use super::pepper::{Pepper, Peppers};
use super::time::Millis;

/// How long a captured email is stored.
pub const TEST_MAIL_RETENTION: Duration = Duration::from_mins(5);
/// How many captured emails are stored for one key. Older ones are dropped.
pub const MAX_TEST_MAILS: usize = 50;
/// The largest captured email, in bytes.
pub const MAX_TEST_MAIL_BYTES: usize = 64 * 1024;
/// Bytes of the random nonce of each email.
pub const TEST_MAIL_NONCE_BYTES: usize = NONCE_BYTES;
/// The label of the keys of captured emails.
const LABEL: &[u8] = b"otpd test mail";

/// A captured email, as its reader would see it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TestMailContent {
    /// The id of its verification.
    pub id: String,
    /// The recipient.
    pub to: String,
    /// The subject.
    pub subject: String,
    /// The plain-text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The code.
    pub code: String,
    /// The reference.
    pub reference: String,
    /// The language of the email.
    pub locale: String,
    /// When the code expires.
    pub expires_at: Millis,
}

/// An email cannot be captured.
#[derive(Debug, Error)]
#[error("the email is larger than 64 KiB, and cannot be captured")]
pub struct TestMailError;

/// An encrypted [`TestMailContent`], preceded by the name of the pepper and the nonce.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptedTestMail(Vec<u8>);

impl IndexKey {
    /// Returns the hash that stands for the mailbox of a sandbox key.
    #[must_use]
    pub fn test_mailbox(&self, key: &KeyHash) -> KeyedHash {
        self.keyed_hash(b"test-mails", key.to_string())
    }
}

impl EncryptedTestMail {
    /// Encrypts an email for one mailbox. `nonce` must be random.
    ///
    /// # Errors
    /// Returns [`TestMailError`] if the email is larger than [`MAX_TEST_MAIL_BYTES`].
    pub fn new(
        mail: &TestMailContent,
        mailbox: &KeyedHash,
        pepper: &Pepper,
        nonce: [u8; TEST_MAIL_NONCE_BYTES],
    ) -> Result<Self, TestMailError> {
        let mut text = serde_json::to_vec(mail).map_err(|_| TestMailError)?;
        if text.len() > MAX_TEST_MAIL_BYTES {
            return Err(TestMailError);
        }
        let key = derive_key(LABEL, mailbox.as_bytes(), pepper).map_err(|_| TestMailError)?;
        let sealed =
            key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut text);
        sealed.map_err(|_| TestMailError)?;
        let named = with_pepper_name(pepper, &[&nonce, text.as_slice()].concat());
        named.map(Self).map_err(|_| TestMailError)
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

    /// Decrypts the email.
    ///
    /// # Errors
    /// Returns [`DecryptionError`] if it belongs to another mailbox, or if its pepper has been
    /// removed.
    pub fn open(&self, mailbox: &KeyedHash, peppers: &Peppers) -> Result<TestMailContent, DecryptionError> {
        let mail = || {
            let (pepper, rest) = split_pepper(&self.0, peppers)?;
            let (nonce, encrypted) = rest.split_first_chunk::<TEST_MAIL_NONCE_BYTES>()?;
            let mut text = Zeroizing::new(encrypted.to_vec());
            let key = derive_key(LABEL, mailbox.as_bytes(), pepper).ok()?;
            let text =
                key.open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::empty(), &mut text).ok()?;
            serde_json::from_slice(text).ok()
        };
        mail().ok_or(DecryptionError)
    }
}

impl fmt::Debug for TestMailContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestMailContent(***)")
    }
}

impl fmt::Debug for EncryptedTestMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptedTestMail({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::api_key::{self, KeyKind};
    use crate::domain::key_name::KeyName;
    use crate::domain::keyed_hash::INDEX_KEY_BYTES;
    use crate::domain::pepper::PEPPER_BYTES;

    fn pepper(name: &str, secret: u8) -> Pepper {
        Pepper::new(KeyName::parse(name).unwrap(), [secret; PEPPER_BYTES])
    }

    fn mailbox(key: u8) -> KeyedHash {
        let key = KeyHash::of(&api_key::text_of(KeyKind::Sandbox, &[key; 32])).unwrap();
        IndexKey::new([1; INDEX_KEY_BYTES]).test_mailbox(&key)
    }

    fn mail() -> TestMailContent {
        TestMailContent {
            id: "an id".to_owned(),
            to: "somebody@private.example".to_owned(),
            subject: "A subject".to_owned(),
            text: "A text".to_owned(),
            html: "<p>A text</p>".to_owned(),
            code: "271828".to_owned(),
            reference: "BCD".to_owned(),
            locale: "en".to_owned(),
            expires_at: 7,
        }
    }

    fn encrypted(mail: &TestMailContent) -> Result<EncryptedTestMail, TestMailError> {
        EncryptedTestMail::new(mail, &mailbox(1), &pepper("k1", 1), [9; TEST_MAIL_NONCE_BYTES])
    }

    #[test]
    fn a_mail_opens_in_its_own_mailbox_under_its_own_pepper() {
        let encrypted = encrypted(&mail()).unwrap();
        let rotated = Peppers::new(pepper("k2", 2), vec![pepper("k1", 1)]).unwrap();
        assert_eq!(encrypted.open(&mailbox(1), &rotated).unwrap(), mail());
        encrypted.open(&mailbox(2), &rotated).unwrap_err();
        for others in [pepper("k1", 3), pepper("k2", 1)] {
            encrypted.open(&mailbox(1), &Peppers::new(others, vec![]).unwrap()).unwrap_err();
        }
        for at in 0..encrypted.as_bytes().len() {
            let mut bytes = encrypted.as_bytes().to_vec();
            bytes[at] ^= 1;
            EncryptedTestMail::from_bytes(bytes).open(&mailbox(1), &rotated).unwrap_err();
        }
    }

    #[test]
    fn nothing_of_it_can_be_read() {
        let encrypted = encrypted(&mail()).unwrap();
        for text in ["somebody", "private", "271828", "BCD", "subject"] {
            let bytes = encrypted.as_bytes();
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
        let shown = format!("{:?}{encrypted:?}", mail());
        assert!(!shown.contains("somebody") && !shown.contains("271828"), "{shown}");
    }

    #[test]
    fn a_mail_that_is_too_large_is_refused() {
        let of = |length: usize| encrypted(&TestMailContent { html: "x".repeat(length), ..mail() });
        of(MAX_TEST_MAIL_BYTES - 1000).unwrap();
        of(MAX_TEST_MAIL_BYTES).unwrap_err();
    }
}
