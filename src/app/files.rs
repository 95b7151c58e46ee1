//! Files that the settings name, and errors that name the setting.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, anyhow, ensure};

use crate::config;

/// The maximum size of a file, in bytes.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// Names the setting that caused an error, and adds a line that sets it to another value.
pub(super) fn cured(error: &anyhow::Error, key: &str) -> anyhow::Error {
    anyhow!("{}: {error:#}\n    {}", config::name(key), config::example(key))
}

/// Reads a regular file of limited size. Anything else, such as a pipe, might never end.
pub(super) fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path).with_context(|| shown(path))?;
    ensure!(
        metadata.is_file() && metadata.len() <= FILE_MAX,
        "{} is not a regular file, or is larger than 64 MiB",
        shown(path)
    );
    fs::read(path).with_context(|| shown(path))
}

pub(super) fn shown(path: &Path) -> String {
    path.display().to_string()
}
