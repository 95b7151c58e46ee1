//! The adapters: each module here implements one port with one technology.
//!
//! Must not depend on HTTP or the use cases.

pub mod clock;
pub mod dns;
pub mod fault_injection;
pub mod hasher;
pub mod http;
pub mod http_mail;
pub mod mailbox;
pub mod mailer;
pub mod memory;
pub mod message;
pub mod oauth;
pub mod redis;
pub mod smtp;
mod tcp;

pub use message::TemplateError;
