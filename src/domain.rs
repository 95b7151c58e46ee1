//! Values, policy and arithmetic: what otpd knows without asking anybody.
//!
//! Must not be async, do I/O, or read a clock.

pub mod api_key;
pub mod code;
pub mod code_hash;
pub mod email_address;
pub mod exempt;
pub mod idempotency;
pub mod key_name;
pub mod ledger;
pub mod limit;
pub mod locale;
pub mod pepper;
pub mod proof;
pub mod purpose;
pub mod recipients;
pub mod reference;
pub mod relay_day;
pub mod risk;
pub mod sealed;
pub mod sender;
pub mod slot;
pub mod tenant;
pub mod typed;
pub mod verification;
pub mod verification_id;
