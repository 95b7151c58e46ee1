//! The world outside: each module here keeps the promises of one port with one technology.
//!
//! Must not know HTTP or the use cases.

pub mod clock;
pub mod hasher;
pub mod mailbox;
pub mod memory;
pub mod message;
pub mod redis;
pub mod smtp;

pub use message::TemplateError;
