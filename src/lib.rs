//! otpd confirms that a person controls an email address: it mails a one-time code and checks it.
//!
//! A map of the house, lowest layer first; each module may name those above it in this list and no others:
//!
//! - [`random`]: the one home of randomness.
//! - [`domain`]: values, policy and arithmetic.
//! - [`ports`]: what the service needs of the world.
//! - [`service`]: the use cases.
//! - [`adapters`] (ports, domain and randomness only): Redis, memory, SMTP, the hashing threads.
//! - [`config`] (domain only): text to typed settings.
//! - [`api`] (service and what is above it): HTTP, and what strangers may learn.
//! - [`server`]: connections; it knows nothing of the above.
//! - [`telemetry`] (config only): logs.
//! - [`app`]: the only place where all of them meet.
//! - [`cli`]: the commands.

pub mod adapters;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod domain;
pub mod ports;
pub mod random;
pub mod server;
pub mod service;
pub mod telemetry;
