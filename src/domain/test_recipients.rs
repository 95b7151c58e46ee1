//! Addresses whose code the operator has set: app-store reviewers and end-to-end tests use them.
//!
//! No email is sent to them, and everybody who knows the code can confirm them. They come from the
//! settings alone. Must not show an address or a hash.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq as _;

use super::code_hash::{CodeId, HashCost, Salt};
use super::email_address::EmailAddress;
use super::time::{Millis, parse_whole};

/// How far in the future a test recipient may end.
pub const MAX_TEST_PERIOD: Duration = Duration::from_hours(90 * 24);
/// The beginning of the hashes that are accepted: argon2id of version 1.3.
const PHC_START: &str = "$argon2id$v=19$";

/// The hash of a test recipient's code: an argon2id digest with its own cost and salt. It has no
/// pepper, so that the settings alone are enough to check it.
#[derive(Clone)]
pub struct TestCode {
    cost: HashCost,
    salt: Salt,
    digest: CodeId,
}

/// An address whose code the operator has set.
#[derive(Debug, Clone)]
pub struct TestRecipient {
    /// The address.
    pub address: EmailAddress,
    /// Its code.
    pub code: TestCode,
    /// From when on it is an address as any other.
    pub expires_at: Millis,
}

/// The test recipients of a tenant.
#[derive(Debug, Clone, Default)]
pub struct TestRecipients(Vec<TestRecipient>);

impl TestCode {
    /// Creates it from its parts.
    #[must_use]
    pub fn new(cost: HashCost, salt: Salt, digest: CodeId) -> Self {
        Self { cost, salt, digest }
    }

    /// Parses the PHC string format: `$argon2id$v=19$m=7168,t=5,p=1$SALT$DIGEST`, with one lane, a
    /// salt of 16 bytes and a digest of 32 bytes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.strip_prefix(PHC_START)?.split('$');
        let mut params = fields.next()?.split(',');
        let memory_kib = number(params.next()?.strip_prefix("m=")?)?;
        let passes = number(params.next()?.strip_prefix("t=")?)?;
        let has_one_lane = params.next() == Some("p=1") && params.next().is_none();
        let salt = bytes(fields.next()?)?;
        let digest = bytes(fields.next()?)?;
        let is_whole = has_one_lane && fields.next().is_none();
        let code = Self {
            cost: HashCost::new(memory_kib, passes)?,
            salt: Salt::new(salt),
            digest: CodeId::new(digest),
        };
        is_whole.then_some(code)
    }

    /// Returns the PHC string, for the settings.
    #[must_use]
    pub fn phc(&self) -> String {
        let cost = self.cost;
        format!(
            "{PHC_START}m={},t={},p=1${}${}",
            cost.memory_kib(),
            cost.passes(),
            STANDARD_NO_PAD.encode(self.salt.as_bytes()),
            STANDARD_NO_PAD.encode(self.digest.as_bytes())
        )
    }

    /// Returns the cost of its digest.
    #[must_use]
    pub fn cost(&self) -> HashCost {
        self.cost
    }

    /// Returns its salt.
    #[must_use]
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Returns whether the digest of a submitted code equals its own. Runs in constant time.
    #[must_use]
    pub fn matches(&self, digest: &CodeId) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

impl TestRecipients {
    /// Returns the code of the address, if it is a test recipient at this time.
    ///
    /// The address must be equal to that of the settings: another case of letters or a `+tag` in
    /// the local part makes another address.
    #[must_use]
    pub fn active(&self, address: &EmailAddress, now: Millis) -> Option<&TestCode> {
        let is_active = |entry: &&TestRecipient| entry.address == *address && now < entry.expires_at;
        self.0.iter().find(is_active).map(|entry| &entry.code)
    }

    /// Returns all of them, including those that have expired.
    pub fn iter(&self) -> impl Iterator<Item = &TestRecipient> {
        self.0.iter()
    }
}

impl FromIterator<TestRecipient> for TestRecipients {
    fn from_iter<T: IntoIterator<Item = TestRecipient>>(recipients: T) -> Self {
        Self(recipients.into_iter().collect())
    }
}

impl fmt::Debug for TestCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestCode(***)")
    }
}

fn number(text: &str) -> Option<u32> {
    parse_whole(text).and_then(|number| u32::try_from(number).ok())
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    STANDARD_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::code::Code;

    /// The output of the PHC reference implementation in C for the code 424242, the salt "sixteen
    /// bytes of" and this cost.
    const OF_REFERENCE: &str =
        "$argon2id$v=19$m=7168,t=5,p=1$c2l4dGVlbiBieXRlcyBvZg$4dCsVFf5MTY/ilgpuZnAH4fPbSvZL3ed7n9fv3bAm1o";

    fn recipient(address: &str, expires_at: Millis) -> TestRecipient {
        let address = EmailAddress::parse(address).unwrap();
        TestRecipient { address, code: TestCode::parse(OF_REFERENCE).unwrap(), expires_at }
    }

    #[test]
    fn agrees_with_the_reference_implementation() {
        let stored = TestCode::parse(OF_REFERENCE).unwrap();
        assert_eq!(stored.phc(), OF_REFERENCE);
        assert_eq!((stored.cost().memory_kib(), stored.cost().passes()), (7168, 5));
        let matches = |code: &str| {
            let mut memory = stored.cost().work_memory();
            let code = Code::parse(code).unwrap();
            stored.matches(&stored.cost().unkeyed_digest(&code, stored.salt(), &mut memory).unwrap())
        };
        assert!(matches("424242") && !matches("424243"));
    }

    #[test]
    fn anything_but_a_hash_of_argon2id_is_refused() {
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=7168", "m=7"),
            ("m=7168", "m=+7168"),
            ("t=5", "t=0"),
            ("t=5,", ""),
            ("p=1", "p=2"),
            ("p=1", "p=1,data=AAAA"),
            ("p=1$", "p=1$AA"),
            ("p=1$", "p=1$$"),
            ("$argon2id", "argon2id"),
        ] {
            assert!(OF_REFERENCE.contains(from));
            assert!(TestCode::parse(&OF_REFERENCE.replacen(from, to, 1)).is_none(), "{to}");
        }
        for text in ["", "424242", PHC_START, &format!("{OF_REFERENCE}$"), &format!("{OF_REFERENCE}A")] {
            assert!(TestCode::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn only_the_very_address_is_one_and_only_until_it_expires() {
        let recipients = TestRecipients::from_iter([
            recipient("reviewer@review.example.com", 1000),
            recipient("b@review.example.com", 5),
        ]);
        let is_active =
            |address: &str, now| recipients.active(&EmailAddress::parse(address).unwrap(), now).is_some();
        assert!(is_active("reviewer@review.example.com", 999));
        assert!(is_active(" reviewer@REVIEW.example.com", 0));
        assert!(!is_active("reviewer@review.example.com", 1000));
        assert!(!is_active("b@review.example.com", 5));
        for other in [
            "Reviewer@review.example.com",
            "reviewer+a@review.example.com",
            "reviewer@example.com",
            "reviewer@a.review.example.com",
            "c@review.example.com",
        ] {
            assert!(!is_active(other, 0), "{other}");
        }
    }

    #[test]
    fn debug_shows_no_address_and_no_hash() {
        let shown = format!("{:?}", TestRecipients::from_iter([recipient("reviewer@review.example.com", 1)]));
        assert!(!shown.contains("reviewer@") && !shown.contains("argon2id"), "{shown}");
        assert!(shown.contains("TestCode(***)"), "{shown}");
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(digest in any::<[u8; 32]>(), salt in any::<[u8; 16]>(), passes in 1_u32..1000) {
            let cost = HashCost::new(8, passes).unwrap();
            let code = TestCode::new(cost, Salt::new(salt), CodeId::new(digest));
            let read = TestCode::parse(&code.phc()).unwrap();
            prop_assert!(read.matches(&CodeId::new(digest)) && read.salt() == code.salt() && read.cost() == cost);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(\\$argon2id\\$v=19\\$)?.{0,90}") {
            let _ = TestCode::parse(&text);
        }
    }
}
