//! Code that the tests share: a running otpd, and its peers.
//!
//! The only `mod.rs` of the project: the benches include it by its path, and only in this form does
//! it find its submodules.

pub mod app;
pub mod collector;
pub mod dialects;
pub mod dns;
pub mod haproxy;
pub mod history;
pub mod hook;
pub mod host;
pub mod http_sink;
pub mod ledgers;
pub mod load;
pub mod model;
pub mod proxies;
pub mod redis;
pub mod secrets;
pub mod sentinel;
pub mod smtp;
pub mod store;
pub mod token_server;
pub mod traffic;
pub mod v1;

/// Returns a variable that sets how the tests run.
pub fn of_run(name: &str) -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "it is no setting of otpd")]
    std::env::var(name).ok()
}
