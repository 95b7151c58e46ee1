//! The codes of an open verification: the newest, and the one that it replaced.
//!
//! The replaced code stays good for a while, because its email may arrive late. Both have one salt
//! and one pepper, so that one digest of an attempt is compared with both. Must not decide what an
//! attempt costs.

use subtle::ConstantTimeEq;

use super::code_hash::{CodeHash, CodeId};
use super::time::Millis;

/// The codes that an attempt is compared with.
#[derive(Debug, Clone)]
pub struct LiveCodes {
    /// The newest code.
    pub newest: CodeHash,
    /// The code that it replaced, if that is still good.
    pub earlier: Option<CodeId>,
}

/// The codes of an open verification.
#[derive(Debug, Clone)]
pub(super) struct OpenCodes {
    newest: CodeHash,
    earlier: Option<EarlierCode>,
}

/// A code that was replaced.
#[derive(Debug, Clone, Copy)]
pub(super) struct EarlierCode {
    pub id: CodeId,
    /// When it would have expired if it had not been replaced.
    pub expires_at: Millis,
    /// Until when it is good beside the newest.
    pub good_until: Millis,
}

impl LiveCodes {
    /// Returns whether the attempted code is one of them. Always compares with two, each in
    /// constant time.
    #[must_use]
    pub fn contains(&self, attempted: &CodeId) -> bool {
        let newest = self.newest.id();
        let earlier = self.earlier.unwrap_or(newest);
        (newest.ct_eq(attempted) | earlier.ct_eq(attempted)).into()
    }
}

impl OpenCodes {
    pub(super) fn new(newest: CodeHash) -> Self {
        Self { newest, earlier: None }
    }

    pub(super) fn newest(&self) -> &CodeHash {
        &self.newest
    }

    /// Returns the codes to compare an attempt with.
    pub(super) fn live(&self, now: Millis) -> LiveCodes {
        LiveCodes { newest: self.newest.clone(), earlier: self.earlier(now).map(|earlier| earlier.id) }
    }

    /// Returns whether it is one of the codes that are good.
    pub(super) fn has(&self, code: &CodeId, now: Millis) -> bool {
        self.newest.id() == *code || self.earlier(now).is_some_and(|earlier| earlier.id == *code)
    }

    /// Replaces the newest code. That one stays good as described, unless its salt or pepper is
    /// another, so that one digest could not be compared with both.
    pub(super) fn replace(&mut self, newest: CodeHash, expires_at: Millis, good_until: Millis, now: Millis) {
        let earlier = EarlierCode { id: self.newest.id(), expires_at, good_until };
        let is_good = now < good_until && self.newest.code_salt() == newest.code_salt();
        *self = Self { newest, earlier: is_good.then_some(earlier) };
    }

    /// Removes the newest code in favor of the one that it replaced, if that is still good. Returns
    /// when that one expires.
    pub(super) fn restore(&mut self, now: Millis) -> Option<Millis> {
        let earlier = self.earlier(now)?;
        *self = Self::new(self.newest.with_id(earlier.id));
        Some(earlier.expires_at)
    }

    /// Removes the replaced code if it is this one.
    pub(super) fn remove_earlier(&mut self, code: &CodeId) {
        self.earlier = self.earlier.filter(|earlier| earlier.id != *code);
    }

    fn earlier(&self, now: Millis) -> Option<EarlierCode> {
        self.earlier.filter(|earlier| now < earlier.good_until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code_hash::{DIGEST_BYTES, SALT_BYTES, Salt};

    fn hash(digest: u8, salt: u8, kid: &str) -> CodeHash {
        let stored = [&[digest; DIGEST_BYTES], kid.as_bytes()].concat();
        CodeHash::from_bytes(Salt::new([salt; SALT_BYTES]), &stored).unwrap()
    }

    fn id(digest: u8) -> CodeId {
        CodeId::new([digest; DIGEST_BYTES])
    }

    /// Returns code 2, which replaced code 1 at time 10.
    fn two(salt: u8, kid: &str) -> OpenCodes {
        let mut codes = OpenCodes::new(hash(1, 0, "k1"));
        codes.replace(hash(2, salt, kid), 100, 20, 10);
        codes
    }

    #[test]
    fn an_attempt_matches_either_code_while_it_is_good() {
        let codes = two(0, "k1");
        for (now, of_the_first) in [(10, true), (19, true), (20, false)] {
            let live = codes.live(now);
            assert_eq!(live.contains(&id(1)), of_the_first, "{now}");
            assert!(live.contains(&id(2)) && !live.contains(&id(3)), "{now}");
        }
    }

    #[test]
    fn a_code_of_another_salt_or_pepper_ends_the_one_before() {
        for codes in [two(1, "k1"), two(0, "k2")] {
            assert_eq!(codes.live(10).earlier, None);
        }
    }

    #[test]
    fn a_third_code_ends_the_first() {
        let mut codes = two(0, "k1");
        codes.replace(hash(3, 0, "k1"), 100, 20, 10);
        assert_eq!(codes.live(10).earlier, Some(id(2)));
    }

    #[test]
    fn the_first_is_restored_until_its_own_end() {
        let mut codes = two(0, "k1");
        assert_eq!(codes.restore(20), None);
        assert_eq!(codes.restore(19), Some(100));
        assert_eq!(codes.newest().id(), id(1));
        assert_eq!(codes.restore(19), None);
    }
}
