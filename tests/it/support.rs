//! What the tests share: a running otpd, and its peers.

pub mod app;
pub mod redis;
pub mod smtp;
