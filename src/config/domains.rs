//! Where the lists of domains are.
//!
//! Must not read them.

use std::path::PathBuf;

use super::reader::{Reader, named};

/// Files with lists of domains.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DomainFiles {
    /// Only these domains are mailed to.
    pub allowed: Option<PathBuf>,
    /// These domains are not mailed to.
    pub blocked: Option<PathBuf>,
}

/// Reads the section `domains`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<DomainFiles> {
    let allowed = reader.path("domains.allow_file");
    let blocked = reader.path("domains.block_file");
    Some(DomainFiles { allowed: named(allowed?), blocked: named(blocked?) })
}
