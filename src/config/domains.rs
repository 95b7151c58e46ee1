//! Paths of the lists of domains.
//!
//! Must not read these files.

use std::path::PathBuf;

use super::reader::{Reader, named};

/// Files with lists of domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFiles {
    /// otpd sends emails to these domains only.
    pub allowed: Option<PathBuf>,
    /// otpd sends no email to these domains.
    pub blocked: Option<PathBuf>,
}

/// Reads the section `domains`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<DomainFiles> {
    let allowed = reader.path("domains.allow_file");
    let blocked = reader.path("domains.block_file");
    Some(DomainFiles { allowed: named(allowed?), blocked: named(blocked?) })
}
