//! Peppers: secrets outside the store, without which a stolen store reveals nothing.
//!
//! Holds the active peppers under their names (`kid`), newest first. Must not derive hashes (see
//! `code_hash`) or read settings.

use std::fmt;

use zeroize::Zeroizing;

use super::key_name::KeyName;

/// Bytes of a pepper: 256 bits. NIST SP 800-63B section 5.1.1.2 requires at least 112 for a secret
/// salt.
pub const PEPPER_BYTES: usize = 32;
/// A named secret of 256 bits. Wiped when dropped.
#[derive(Clone)]
pub struct Pepper {
    id: KeyName,
    secret: Zeroizing<[u8; PEPPER_BYTES]>,
}

/// The active peppers. The first hashes new codes; all of them verify.
#[derive(Debug, Clone)]
pub struct Peppers {
    current: Pepper,
    older: Vec<Pepper>,
}

impl Pepper {
    /// Wraps a secret and its name.
    #[must_use]
    pub fn new(id: KeyName, secret: [u8; PEPPER_BYTES]) -> Self {
        Self { id, secret: Zeroizing::new(secret) }
    }

    /// Returns the name under which hashes refer to it.
    #[must_use]
    pub fn id(&self) -> &KeyName {
        &self.id
    }

    /// Returns the secret. For key derivation only.
    #[must_use]
    pub fn expose(&self) -> &[u8; PEPPER_BYTES] {
        &self.secret
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Peppers {
    /// Creates the set: `current` hashes new codes, and all peppers verify. Returns `None` if two
    /// have the same name.
    #[must_use]
    pub fn new(current: Pepper, older: Vec<Pepper>) -> Option<Self> {
        let mut names: Vec<_> = older.iter().map(Pepper::id).chain([current.id()]).collect();
        names.sort();
        let distinct = names.windows(2).all(|pair| pair.first() != pair.last());
        distinct.then_some(Self { current, older })
    }

    /// Returns the pepper for new codes.
    #[must_use]
    pub fn current(&self) -> &Pepper {
        &self.current
    }

    /// Returns the names of all peppers, the current one first.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        std::iter::once(&self.current).chain(&self.older).map(|pepper| pepper.id.as_str()).collect()
    }

    /// Returns the pepper of that name, if it is still active.
    #[must_use]
    pub fn find(&self, id: &KeyName) -> Option<&Pepper> {
        std::iter::once(&self.current).chain(&self.older).find(|pepper| pepper.id() == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper(name: &str, byte: u8) -> Pepper {
        Pepper::new(KeyName::parse(name).unwrap(), [byte; PEPPER_BYTES])
    }

    #[test]
    fn the_first_is_current_and_all_are_found() {
        let peppers = Peppers::new(pepper("k2", 2), vec![pepper("k1", 1)]).unwrap();
        assert_eq!(peppers.current().id().as_str(), "k2");
        let old = peppers.find(&KeyName::parse("k1").unwrap()).unwrap();
        assert_eq!(old.expose(), &[1; PEPPER_BYTES]);
        assert!(peppers.find(&KeyName::parse("k0").unwrap()).is_none());
        assert!(Peppers::new(pepper("k1", 2), vec![pepper("k1", 1)]).is_none());
    }

    #[test]
    fn debug_shows_the_name_only() {
        let shown = format!("{:?}", pepper("k1", 77));
        assert!(shown.contains("k1") && !shown.contains("77"), "{shown}");
    }
}
