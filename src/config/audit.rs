//! Settings of the audit log.
//!
//! Must not open a file.

use std::path::PathBuf;

use super::reader::Reader;

/// Where the audit log is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditOutput {
    /// Nowhere.
    Off,
    /// To standard output.
    Stdout,
    /// To the end of this file.
    File(PathBuf),
}

/// Reads the section `audit`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<AuditOutput> {
    let rule = "off, stdout, or the path of a file with a slash in it, such as /var/log/otpd/audit.jsonl";
    reader.parse("audit.output", rule, |text| match text.to_ascii_lowercase().as_str() {
        "off" => Some(AuditOutput::Off),
        "stdout" => Some(AuditOutput::Stdout),
        // A word without a slash is more likely a mistyped choice than a file.
        _ => (text.contains('/') && !text.ends_with('/')).then(|| AuditOutput::File(text.into())),
    })
}
