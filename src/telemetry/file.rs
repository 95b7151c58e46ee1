//! A log file that can be opened again, after it was renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file that lines are appended to. Clones share it.
#[derive(Clone)]
pub(super) struct LogFile {
    path: Arc<PathBuf>,
    file: Arc<Mutex<File>>,
}

impl LogFile {
    /// Opens the file, or creates it: its owner may write it, and its group may read it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = append(path)?;
        Ok(Self { path: Arc::new(path.to_owned()), file: Arc::new(Mutex::new(file)) })
    }

    /// Opens the path again. If that fails, the old file continues to be written.
    pub(super) fn reopen(&self) -> io::Result<()> {
        let file = append(&self.path)?;
        *self.held() = file;
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.held().write(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.held().flush()
    }
}

/// Returns an error if the file cannot be appended to. Does not create it.
///
/// # Errors
/// Returns the system's error.
pub fn check(path: &Path) -> io::Result<()> {
    if path.exists() {
        return append(path).map(drop);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_folder = fs::metadata(folder)?.is_dir();
    if is_folder { Ok(()) } else { Err(ErrorKind::NotADirectory.into()) }
}

/// Opens a file for appending. Anything but a file or a device, such as a pipe, might block.
fn append(path: &Path) -> io::Result<File> {
    if let Ok(metadata) = fs::metadata(path)
        && !(metadata.is_file() || metadata.file_type().is_char_device())
    {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is neither a file nor a device"));
    }
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
