//! Values, rules and arithmetic that need no other service.
//!
//! Must not be async, do I/O, or read a clock.

pub mod api_key;
pub mod code;
pub mod code_hash;
pub mod delivery;
pub mod details;
pub mod domain_policy;
pub mod email_address;
pub mod exempt;
pub mod fault_plan;
pub mod forwarded_header;
pub mod hook_secret;
pub mod host;
pub mod idempotency;
pub mod ip_prefix;
pub mod key_name;
pub mod keyed_hash;
pub mod ledger;
pub mod ledger_key;
pub mod limit;
pub mod limits;
pub mod live_codes;
pub mod locale;
pub mod oauth;
pub mod origin;
pub mod pepper;
pub mod proof;
pub mod provider_id;
pub mod public_address;
pub mod purpose;
pub mod reference;
pub mod risk_estimate;
pub mod sender;
pub mod simple_access;
pub mod store_key;
pub mod target_url;
pub mod tenant;
pub mod tenant_profile;
pub mod test_mail;
pub mod test_recipients;
pub mod time;
pub mod typed;
pub mod verification;
pub mod verification_id;
