//! Settings that disable a protection.
//!
//! Each one logs its risk at every start. Must not be required for any safe setup.

use super::reader::Reader;

/// Which protections are disabled.
#[derive(Debug, Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own, and off by default")]
pub(super) struct Dangerous {
    pub plaintext_redis: bool,
    pub plaintext_smtp: bool,
    pub weak_limits: bool,
    pub weak_hash: bool,
    pub public_admin: bool,
}

/// Reads the section `dangerous`.
pub(super) fn read(reader: &mut Reader<'_>) -> Dangerous {
    let mut is_on = |key, cost| {
        let is_on = reader.flag(key).unwrap_or_default();
        if is_on {
            reader.warn(key, &format!("is on: {cost}"));
        }
        is_on
    };
    Dangerous {
        plaintext_redis: is_on(
            "dangerous.plaintext_redis",
            "anyone who can read the traffic to Redis can verify any address",
        ),
        plaintext_smtp: is_on(
            "dangerous.plaintext_smtp",
            "anyone who can read the traffic to the relay sees the codes, and the password or token",
        ),
        weak_limits: is_on(
            "dangerous.weak_limits",
            "attackers get more attempts, and people more emails, than is safe",
        ),
        weak_hash: is_on(
            "dangerous.weak_hash",
            "codes can be recovered sooner from a stolen store and its pepper",
        ),
        public_admin: is_on(
            "dangerous.public_admin",
            "everybody who can reach OTP_ADMIN__LISTEN sees the metrics",
        ),
    }
}
