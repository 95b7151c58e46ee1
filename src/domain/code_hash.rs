//! The stored hash of a code: an argon2id digest keyed with a pepper and bound to one key in the
//! store.
//!
//! Derives and compares digests. Must not run on an async thread, because a digest takes
//! milliseconds. Must not decide what an attempt is charged or whether it approves a verification.

use std::fmt;
use std::num::NonZeroUsize;

use argon2::{Algorithm, Argon2, Block, ParamsBuilder, Version};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::Zeroize;

use super::code::Code;
use super::key_name::KeyName;
use super::pepper::Pepper;

/// Bytes of a salt: the 128 bits that RFC 9106 section 3.1 calls sufficient.
pub const SALT_BYTES: usize = 16;
/// Bytes of a digest.
pub const DIGEST_BYTES: usize = 32;

/// The argon2id parameters that OWASP's Password Storage Cheat Sheet gives as equally strong: KiB
/// of memory, passes.
const OWASP_SETS: [(u32, u32); 5] = [(47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)];

/// The memory that a digest is derived in. Wiped when it is dropped; until then the next digest
/// overwrites what the one before left in it.
pub struct WorkMemory {
    blocks: Box<[Block]>,
    is_used: bool,
}

/// The memory and the passes of one digest, with one lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashCost {
    memory_kib: u32,
    passes: u32,
}

/// How many requests may wait for a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashQueue {
    /// As many as can be hashed within the time that a caller may wait, measured at start.
    Measured,
    /// A fixed number.
    Places(NonZeroUsize),
}

/// 16 random bytes, generated for each verification. They salt the digests of its codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Salt([u8; SALT_BYTES]);

/// 32 bytes that identify one key in the store. They are an input of the digest, so that it
/// verifies under no other key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct AssociatedData([u8; DIGEST_BYTES]);

/// Identifies a code at its verification: its digest, the argon2id output. Two codes there that are
/// the same digits are one code.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodeId([u8; DIGEST_BYTES]);

/// What the codes of one verification have in common, so that one digest of an attempt can be
/// compared with each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeSalt {
    /// The salt.
    pub salt: Salt,
    /// The name of the pepper.
    pub kid: KeyName,
}

/// The stored hash of a code: the pepper's name, the salt and the digest.
#[derive(Clone)]
pub struct CodeHash {
    kid: KeyName,
    salt: Salt,
    digest: CodeId,
}

/// argon2 rejected its input. With a [`HashCost`] and these fixed lengths that is a fault in otpd.
#[derive(Debug, Error)]
#[error("argon2 could not derive a digest: {0}")]
pub struct HashError(argon2::Error);

impl HashCost {
    /// Returns `None` unless `memory_kib` is 8 KiB to 2 GiB and `passes` is 1 to 1,000.
    #[must_use]
    pub fn new(memory_kib: u32, passes: u32) -> Option<Self> {
        let fits = (8..=2 << 20).contains(&memory_kib) && (1..=1000).contains(&passes);
        fits.then_some(Self { memory_kib, passes })
    }

    /// Returns whether it is at least as strong as one of OWASP's parameter sets.
    #[must_use]
    pub fn meets_owasp(self) -> bool {
        OWASP_SETS.iter().any(|(memory, passes)| self.memory_kib >= *memory && self.passes >= *passes)
    }

    /// Returns the fewest passes that OWASP recommends for this much memory, or `None` if every set
    /// needs more memory.
    #[must_use]
    pub fn owasp_passes(memory_kib: u32) -> Option<u32> {
        OWASP_SETS.iter().filter(|(memory, _)| *memory <= memory_kib).map(|(_, passes)| *passes).min()
    }

    /// Returns the least memory that OWASP recommends for this many passes, in KiB.
    #[must_use]
    pub fn owasp_memory_kib(passes: u32) -> u32 {
        let enough = OWASP_SETS.iter().filter(|(_, least)| *least <= passes).map(|(memory, _)| *memory);
        enough.min().unwrap_or(u32::MAX)
    }

    /// Returns OWASP's parameter sets, which are equally strong.
    pub fn owasp_sets() -> impl Iterator<Item = Self> {
        OWASP_SETS.iter().map(|&(memory_kib, passes)| Self { memory_kib, passes })
    }

    /// Returns the memory, in KiB.
    #[must_use]
    pub fn memory_kib(self) -> u32 {
        self.memory_kib
    }

    /// Returns the number of passes.
    #[must_use]
    pub fn passes(self) -> u32 {
        self.passes
    }

    /// Returns the cost of the same memory with one pass.
    #[must_use]
    pub fn single_pass(self) -> Self {
        Self { passes: 1, ..self }
    }

    /// Allocates work memory for one digest at a time. It can be reused.
    #[must_use]
    pub fn work_memory(self) -> WorkMemory {
        // argon2 rounds the memory down to a multiple of four blocks a lane.
        let blocks = vec![Block::default(); self.memory_kib as usize].into_boxed_slice();
        WorkMemory { blocks, is_used: false }
    }

    /// Derives the digest of a code.
    ///
    /// # Errors
    /// Returns [`HashError`] if `work_memory` has another size than this cost needs.
    pub fn digest(
        self,
        code: &Code,
        salt: &Salt,
        associated_data: &AssociatedData,
        pepper: &Pepper,
        work_memory: &mut WorkMemory,
    ) -> Result<CodeId, HashError> {
        let data = argon2::AssociatedData::new(&associated_data.0).map_err(HashError)?;
        self.derive(code, salt, data, pepper.expose(), work_memory)
    }

    /// Derives the digest of a code without a pepper and associated data. The work memory may be
    /// larger than this cost needs.
    ///
    /// # Errors
    /// Returns [`HashError`] if `work_memory` is smaller than this cost needs.
    pub fn unkeyed_digest(
        self,
        code: &Code,
        salt: &Salt,
        work_memory: &mut WorkMemory,
    ) -> Result<CodeId, HashError> {
        self.derive(code, salt, argon2::AssociatedData::EMPTY, &[], work_memory)
    }

    fn derive(
        self,
        code: &Code,
        salt: &Salt,
        data: argon2::AssociatedData,
        secret: &[u8],
        work_memory: &mut WorkMemory,
    ) -> Result<CodeId, HashError> {
        let params = ParamsBuilder::new()
            .m_cost(self.memory_kib)
            .t_cost(self.passes)
            .p_cost(1)
            .output_len(DIGEST_BYTES)
            .data(data)
            .build()
            .map_err(HashError)?;
        let mut digest = [0; DIGEST_BYTES];
        work_memory.is_used = true;
        let blocks = &mut work_memory.blocks[..];
        let outcome =
            Argon2::new_with_secret(secret, Algorithm::Argon2id, Version::V0x13, params).and_then(|argon2| {
                let code = code.expose().as_bytes();
                argon2.hash_password_into_with_memory(code, &salt.0, &mut digest, blocks)
            });
        outcome.map(|()| CodeId(digest)).map_err(HashError)
    }
}

impl WorkMemory {
    /// Returns whether something of a digest is left in it.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.is_used
    }

    /// Wipes it, which argon2 itself does not.
    pub fn wipe(&mut self) {
        self.blocks.iter_mut().for_each(Zeroize::zeroize);
        self.is_used = false;
    }
}

impl Drop for WorkMemory {
    fn drop(&mut self) {
        if self.is_used {
            self.wipe();
        }
    }
}

impl Salt {
    /// Wraps 16 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; SALT_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes. A salt is not secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; SALT_BYTES] {
        &self.0
    }
}

impl AssociatedData {
    /// Wraps 32 bytes that identify one key in the store.
    #[must_use]
    pub fn new(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes. They are not secret.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }
}

impl CodeId {
    /// Wraps the bytes from a store.
    #[must_use]
    pub fn new(bytes: [u8; DIGEST_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; DIGEST_BYTES] {
        &self.0
    }
}

impl ConstantTimeEq for CodeId {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl CodeHash {
    /// Creates a hash from its parts.
    #[must_use]
    pub fn new(kid: KeyName, salt: Salt, digest: CodeId) -> Self {
        Self { kid, salt, digest }
    }

    /// Returns the name of the pepper that the digest was derived with.
    #[must_use]
    pub fn kid(&self) -> &KeyName {
        &self.kid
    }

    /// Returns the salt.
    #[must_use]
    pub fn salt(&self) -> &Salt {
        &self.salt
    }

    /// Returns what identifies the code.
    #[must_use]
    pub fn id(&self) -> CodeId {
        self.digest
    }

    /// Returns the hash of another code of the same salt and pepper.
    #[must_use]
    pub fn with_id(&self, id: CodeId) -> Self {
        Self { digest: id, ..self.clone() }
    }

    /// Returns the salt and the name of the pepper.
    #[must_use]
    pub fn code_salt(&self) -> CodeSalt {
        CodeSalt { salt: self.salt, kid: self.kid.clone() }
    }

    /// Returns the stored form without the salt: the digest, then the pepper's name.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.digest.0, self.kid.as_str().as_bytes()].concat()
    }

    /// Parses the stored form. Returns `None` if it is malformed.
    #[must_use]
    pub fn from_bytes(salt: Salt, bytes: &[u8]) -> Option<Self> {
        let (digest, kid) = bytes.split_first_chunk()?;
        let kid = KeyName::parse(str::from_utf8(kid).ok()?)?;
        Some(Self { kid, salt, digest: CodeId(*digest) })
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

impl fmt::Debug for AssociatedData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AssociatedData(..)")
    }
}

impl fmt::Debug for CodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CodeId(***)")
    }
}

impl fmt::Debug for CodeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeHash").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::pepper::PEPPER_BYTES;

    fn light() -> HashCost {
        HashCost::new(64, 1).unwrap()
    }

    fn pepper(byte: u8) -> Pepper {
        Pepper::new(KeyName::parse("k1").unwrap(), [byte; PEPPER_BYTES])
    }

    fn digest(code: &str, salt: u8, place: u8, secret: u8) -> CodeId {
        let code = Code::parse(code).unwrap();
        let salt = Salt::new([salt; SALT_BYTES]);
        let place = AssociatedData::new([place; DIGEST_BYTES]);
        light().digest(&code, &salt, &place, &pepper(secret), &mut light().work_memory()).unwrap()
    }

    fn stored(code: &str) -> CodeHash {
        let kid = KeyName::parse("k1").unwrap();
        CodeHash::new(kid, Salt::new([1; SALT_BYTES]), digest(code, 1, 1, 1))
    }

    #[test]
    fn only_the_same_code_salt_place_and_pepper_match() {
        let id = stored("123456").id();
        assert_eq!(id, digest("123456", 1, 1, 1));
        assert_ne!(id, digest("123457", 1, 1, 1));
        assert_ne!(id, digest("123456", 2, 1, 1));
        assert_ne!(id, digest("123456", 1, 2, 1));
        assert_ne!(id, digest("123456", 1, 1, 2));
        assert_ne!(id, digest("0123456", 1, 1, 1));
    }

    #[test]
    fn agrees_with_the_reference_implementation() {
        // The output of the PHC reference implementation in C for the same code, salt, secret,
        // associated data and cost.
        let expected = "c6e90395170ee9bedf2b8616aac5423c0f1cba49ecc91afb28823cdcc66119fd";
        let expected: Vec<_> =
            (0..64).step_by(2).map(|at| u8::from_str_radix(&expected[at..at + 2], 16).unwrap()).collect();
        assert_eq!(digest("123456", 1, 1, 1).0.as_slice(), expected);
    }

    #[test]
    fn work_memory_is_wiped() {
        let mut memory = light().work_memory();
        let code = Code::parse("123456").unwrap();
        let salt = Salt::new([1; SALT_BYTES]);
        let place = AssociatedData::new([1; DIGEST_BYTES]);
        let is_zero = |memory: &WorkMemory| {
            memory.blocks.iter().all(|block| block.as_ref().iter().all(|word| *word == 0))
        };
        light().digest(&code, &salt, &place, &pepper(1), &mut memory).unwrap();
        assert!(memory.is_used() && !is_zero(&memory));
        memory.wipe();
        assert!(!memory.is_used() && is_zero(&memory));
    }

    #[test]
    fn the_floor_is_owasps() {
        let meets = |memory, passes| HashCost::new(memory, passes).unwrap().meets_owasp();
        assert!(meets(7168, 5) && meets(19_456, 2) && meets(65_536, 1));
        assert!(!meets(7167, 5) && !meets(7168, 4) && !meets(64, 1));
    }

    #[test]
    fn what_owasp_asks_for_meets_it_and_less_does_not() {
        for memory in [7168, 7169, 9216, 12_288, 19_456, 47_104, 1 << 20] {
            let least = HashCost::owasp_passes(memory).unwrap();
            assert!(HashCost::new(memory, least).unwrap().meets_owasp());
            assert!(!HashCost::new(memory, least - 1).is_some_and(HashCost::meets_owasp));
        }
        assert_eq!(HashCost::owasp_passes(7167), None);
        for passes in 1..=6 {
            let least = HashCost::owasp_memory_kib(passes);
            assert!(HashCost::new(least, passes).unwrap().meets_owasp());
            assert!(!HashCost::new(least - 1, passes).unwrap().meets_owasp());
        }
    }

    #[test]
    fn debug_shows_the_peppers_name_only() {
        assert_eq!(format!("{:?}", stored("123456")), "CodeHash { kid: KeyName(\"k1\"), .. }");
    }

    proptest! {
        #[test]
        fn the_stored_form_reads_back(bytes in any::<[u8; 32]>(), salt in any::<[u8; 16]>()) {
            let hash = CodeHash::new(KeyName::parse("k-2").unwrap(), Salt::new(salt), CodeId(bytes));
            let read = CodeHash::from_bytes(Salt::new(salt), &hash.to_bytes()).unwrap();
            prop_assert!(read.id() == CodeId(bytes) && read.kid() == hash.kid());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = CodeHash::from_bytes(Salt::new([0; SALT_BYTES]), &bytes);
        }
    }
}
