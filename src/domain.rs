//! Values, policy and arithmetic: what otpd knows without asking anybody.
//!
//! Must not be async, do I/O, or read a clock.

pub mod code;
pub mod code_hash;
pub mod email_address;
pub mod ledger;
pub mod limit;
pub mod pepper;
pub mod proof;
pub mod relay_day;
pub mod risk;
pub mod slot;
pub mod verification;
pub mod verification_id;
