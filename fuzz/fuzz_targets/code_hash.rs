//! Stored hashes: a value that is read is written back byte for byte, and any other value is
//! refused.

#![no_main]

use libfuzzer_sys::fuzz_target;
use otpd::domain::code_hash::{CodeHash, DIGEST_BYTES, SALT_BYTES, Salt};
use otpd::domain::key_name::KeyName;

fuzz_target!(|bytes: &[u8]| {
    let Some((salt, stored)) = bytes.split_first_chunk::<SALT_BYTES>() else { return };
    let name = stored.get(DIGEST_BYTES..).and_then(|name| str::from_utf8(name).ok());
    let is_name = |name: &&str| {
        (1..=16).contains(&name.len())
            && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
    };
    let hash = CodeHash::from_bytes(Salt::new(*salt), stored);
    assert_eq!(hash.as_ref().map(|hash| hash.kid().as_str()), name.filter(is_name));
    if let Some(hash) = hash {
        assert_eq!(hash.to_bytes(), stored);
        assert_eq!(hash.salt().as_bytes(), salt);
        assert_eq!(KeyName::parse(hash.kid().as_str()).as_ref(), Some(hash.kid()));
        assert_eq!(
            format!("{hash:?}"),
            format!("CodeHash {{ kid: KeyName({:?}), .. }}", hash.kid().as_str())
        );
    }
});
