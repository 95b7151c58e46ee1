//! Tests that drive otpd from outside: real processes, a real Redis, real SMTP.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]
#![expect(unreachable_pub, reason = "nothing is exported; `pub` is what other files may use")]

mod attacks;
mod audit;
mod availability;
mod cluster;
mod commands;
mod connections;
mod dev;
mod dev_faults;
mod dns;
mod doctor;
mod documents;
mod failover;
mod faults;
mod generated;
mod healthcheck;
mod histories;
mod hook;
mod idempotency;
mod inspect;
mod layering;
mod ledger_model;
mod limits;
mod limits_of_a_request;
mod mails;
mod memory;
mod metrics;
mod oauth;
mod openapi;
mod parallel;
mod paths;
mod permissions;
mod providers;
mod proxies;
mod redis_tls;
mod relay_sessions;
mod relays;
mod reload;
mod rolling;
mod sandbox;
mod secrecy;
mod service_manager;
mod simple;
mod store;
mod store_model;
mod support;
mod tenants;
mod test_recipients;
mod tls;
mod traces;
mod use_cases;
mod verifications;
