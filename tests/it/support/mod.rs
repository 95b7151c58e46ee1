//! What the tests share: a running otpd, and its peers.
//!
//! The project's one `mod.rs`: the benches include it by its path, and only this form then finds its parts.

pub mod app;
pub mod ledgers;
pub mod model;
pub mod redis;
pub mod smtp;
pub mod store;
pub mod v1;
