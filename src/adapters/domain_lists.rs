//! Lists of domains, from files.
//!
//! Must not be half taken: a list with a fault is none.

use std::path::Path;
use std::{fs, io};

use thiserror::Error;

use crate::domain::recipients::{Domains, InvalidLine};

/// Why there is no list.
#[derive(Debug, Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("cannot be read")]
    Unreadable(#[from] io::Error),
    /// The file is no list.
    #[error(transparent)]
    Invalid(#[from] InvalidLine),
}

/// Reads one list.
///
/// # Errors
/// [`ListError`] says why there is none.
pub fn read(path: &Path) -> Result<Domains, ListError> {
    Ok(Domains::parse(&fs::read_to_string(path)?)?)
}
