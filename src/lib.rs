//! otpd confirms that a person controls an email address: it emails a one-time code and checks it.
//!
//! The modules, lowest layer first. Each may use only those that come before it in this list:
//!
//! - [`random`]: the only source of randomness.
//! - [`domain`]: values, rules and arithmetic.
//! - [`metrics`]: what the process counts and measures.
//! - [`traces`]: the spans of traces.
//! - [`audit`] (uses domain only): the events of the audit log.
//! - [`ports`]: the traits of what the service depends on.
//! - [`service`]: the use cases.
//! - [`adapters`] (uses ports, domain, traces, metrics and random only): Redis, memory, SMTP, the
//!   hashing threads.
//! - [`config`] (uses domain only): parses text into typed settings.
//! - [`api`] (uses service and the layers below it): HTTP, and what unauthenticated callers may
//!   learn.
//! - [`server`] (uses none of the above): the accept loop and its connections.
//! - [`telemetry`] (uses config, metrics, traces and audit only): logs, and the export of traces.
//! - [`app`]: the composition root, which connects all of them.
//! - [`cli`]: the commands.

pub mod adapters;
pub mod api;
pub mod app;
pub mod audit;
pub mod cli;
pub mod config;
pub mod domain;
pub mod metrics;
pub mod ports;
pub mod random;
pub mod server;
pub mod service;
pub mod telemetry;
pub mod traces;
