//! `otpd init`: writes a commented `.env` with new secrets, or completes an existing one.
//!
//! Never changes an existing line, never leaves a partly written file, and creates the file with
//! permissions for its owner only. Must not print a secret.

use std::borrow::Cow;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::keygen;
use crate::config;

/// File mode: for the owner only.
const MODE: u32 = 0o600;
/// Maximum number of symbolic links between a path and its file, as in Linux.
const MAX_LINKS: usize = 40;
/// The beginning of a new file.
const HEADER: &str = "# Settings of otpd: NAME=value, a line each. `otpd serve` names what is still missing.\n\
                      # Keep this file secret. All settings and their defaults are in otpd.default.toml.\n";

/// Write a commented .env file with new secrets, or add missing settings to an existing one
#[derive(Debug, Clone, Args)]
pub struct Init {
    /// Path of the file to write
    #[arg(long, default_value = ".env")]
    pub path: PathBuf,
}

/// One setting of the file.
struct InitEntry {
    key: &'static str,
    name: &'static str,
    comment: &'static str,
    value: InitValue,
}

/// What follows the `=`.
enum InitValue {
    /// Nothing, because only the operator knows the value; `otpd serve` refuses to start without
    /// it.
    ToFillIn,
    /// This value.
    Plain(&'static str),
    /// A new secret with this name.
    Named(&'static str),
    /// A new secret.
    Secret,
}

/// The entries in the order of the file: the seven settings of the Flask service that otpd
/// replaces, then the secrets.
const ENTRIES: [InitEntry; 10] = [
    InitEntry {
        key: "smtp.sender",
        name: "EMAIL_SENDER",
        comment: "The sender address of emails, such as you@example.com.",
        value: InitValue::ToFillIn,
    },
    InitEntry {
        key: "smtp.password",
        name: "EMAIL_PASSWORD",
        comment: "Its password at the relay; for Gmail an app password. In '' where it holds quotes or \" #\".",
        value: InitValue::ToFillIn,
    },
    InitEntry {
        key: "smtp.server",
        name: "SMTP_SERVER",
        comment: "The mail relay, such as smtp.gmail.com.",
        value: InitValue::ToFillIn,
    },
    InitEntry {
        key: "smtp.port",
        name: "SMTP_PORT",
        comment: "Its port: 465 is TLS from the start, any other STARTTLS.",
        value: InitValue::Plain("587"),
    },
    InitEntry {
        key: "redis.host",
        name: "REDIS_HOST",
        comment: "The host of Redis. For one on another machine add REDIS_TLS=true, and REDIS_PASSWORD if it has one.",
        value: InitValue::Plain("localhost"),
    },
    InitEntry {
        key: "redis.port",
        name: "REDIS_PORT",
        comment: "Its port.",
        value: InitValue::Plain("6379"),
    },
    InitEntry {
        key: "redis.db",
        name: "REDIS_DB",
        comment: "The number of its database.",
        value: InitValue::Plain("0"),
    },
    InitEntry {
        key: "secrets.peppers",
        name: "OTP_SECRETS__PEPPERS",
        comment: "Without these a stolen Redis says nothing. The first is for new codes: `otpd keygen pepper`.",
        value: InitValue::Named("k1"),
    },
    InitEntry {
        key: "secrets.index_key",
        name: "OTP_SECRETS__INDEX_KEY",
        comment: "Hides addresses from Redis. Keep it: changing it invalidates every verification.",
        value: InitValue::Secret,
    },
    InitEntry {
        key: "secrets.proof_keys",
        name: "OTP_SECRETS__PROOF_KEYS",
        comment: "Signs proofs. The first signs: `otpd keygen proof-key`.",
        value: InitValue::Named("p1"),
    },
];

impl Init {
    /// Writes missing settings and returns a message that names them.
    ///
    /// # Errors
    /// The file cannot be read or written; it is then unchanged.
    pub fn run(&self) -> anyhow::Result<String> {
        let path = behind_links(&self.path)?;
        let shown = self.path.display();
        let (old, metadata) = read(&path).with_context(|| format!("{shown} cannot be read"))?;
        let missing = missing(&old);
        let broken = warning(&old);
        let names: Vec<_> = missing.iter().map(|entry| entry.name).collect();
        if names.is_empty() {
            if metadata.is_some_and(|metadata| metadata.mode() & 0o777 != MODE) {
                fs::set_permissions(&path, fs::Permissions::from_mode(MODE))
                    .with_context(|| format!("the mode of {shown} cannot be set"))?;
            }
            let done = "has every setting that otpd init would write: nothing was changed.";
            return Ok(format!("{shown} {done}{broken}"));
        }
        let new = appended(&old, &missing)?;
        replace(&path, &new, metadata.as_ref()).with_context(|| format!("{shown} cannot be written"))?;
        let done = if metadata.is_some() { "Added to" } else { "Wrote" };
        Ok(format!("{done} {shown} (mode 0600): {}\n{}{broken}", names.join(", "), next_step(&missing)))
    }
}

/// Follows symbolic links to the file, which may not exist, so that a link is not replaced by a
/// file.
fn behind_links(path: &Path) -> anyhow::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return Ok(path),
        }
    }
    bail!("{} leads through too many symbolic links", path.display())
}

/// Reads the file if it exists.
fn read(path: &Path) -> anyhow::Result<(Zeroizing<Vec<u8>>, Option<Metadata>)> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok((Zeroizing::new(fs::read(path)?), Some(metadata))),
        Ok(_) => bail!("it is not a regular file"),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok((Zeroizing::default(), None)),
        Err(error) => Err(error.into()),
    }
}

/// Returns the entries that the file has no line for, under any of their names. A secret without a
/// value counts as missing.
fn missing(old: &[u8]) -> Vec<&'static InitEntry> {
    let there = config::assigned(&String::from_utf8_lossy(old));
    let is_there = |entry: &InitEntry| {
        let has_url = entry.key.starts_with("redis.") && there.contains_key("redis.url");
        let is_secret = matches!(entry.value, InitValue::Named(_) | InitValue::Secret);
        has_url || there.get(entry.key).is_some_and(|says| *says || !is_secret)
    };
    ENTRIES.iter().filter(|entry| !is_there(entry)).collect()
}

/// Returns a warning if `otpd serve` cannot read the file. `otpd init` changes no existing line.
fn warning(old: &[u8]) -> String {
    let Ok(text) = str::from_utf8(old) else {
        return "\nIt is not UTF-8, so `otpd serve` cannot read it.".to_owned();
    };
    let lines: Vec<_> = config::broken_lines(text).iter().map(usize::to_string).collect();
    if lines.is_empty() {
        return String::new();
    }
    format!("\n`otpd serve` cannot read line {} of it: fix or remove that line first.", lines.join(", "))
}

/// Returns the old content, unchanged, followed by the entries.
fn appended(old: &[u8], entries: &[&InitEntry]) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Reserved in advance, because a growing vector would leave copies of secrets in memory.
    let mut new = Zeroizing::new(Vec::with_capacity(old.len() + 4096));
    new.extend_from_slice(old);
    match old.last() {
        None => new.extend_from_slice(HEADER.as_bytes()),
        Some(b'\n') => {}
        Some(_) => new.push(b'\n'),
    }
    for entry in entries {
        let value = match entry.value {
            InitValue::ToFillIn => Zeroizing::default(),
            InitValue::Plain(value) => Zeroizing::new(value.to_owned()),
            InitValue::Named(name) => keygen::named(name)?,
            InitValue::Secret => keygen::secret()?,
        };
        write!(*new, "\n# {}\n{}={}\n", entry.comment, entry.name, *value)?;
    }
    Ok(new)
}

/// Replaces the file atomically.
fn replace(path: &Path, content: &[u8], old: Option<&Metadata>) -> anyhow::Result<()> {
    let name = path.file_name().context("the path names no file")?.to_string_lossy();
    let temporary = path.with_file_name(format!("{name}.{}.new", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary)?;
    let written = fill(&mut file, content, old).and_then(|()| Ok(fs::rename(&temporary, path)?));
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes the content to disk, with the owner of the old file.
fn fill(file: &mut File, content: &[u8], old: Option<&Metadata>) -> anyhow::Result<()> {
    let own = file.metadata()?;
    if let Some(old) = old.filter(|old| (old.uid(), old.gid()) != (own.uid(), own.gid())) {
        fchown(&*file, Some(old.uid()), Some(old.gid())).context("its owner cannot be kept")?;
    }
    file.write_all(content)?;
    Ok(file.sync_all()?)
}

fn next_step(written: &[&InitEntry]) -> String {
    let to_fill_in: Vec<_> =
        written.iter().filter(|e| matches!(e.value, InitValue::ToFillIn)).map(|e| e.name).collect();
    let first = match to_fill_in.as_slice() {
        [] => Cow::Borrowed(""),
        names => Cow::Owned(format!("fill in {}, then ", names.join(", "))),
    };
    format!("Next: {first}run `otpd serve`.")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;
    use crate::config::{Sources, Texts, serve};

    fn init(path: &Path) -> String {
        Init { path: path.to_owned() }.run().unwrap()
    }

    fn folder() -> TempDir {
        tempfile::tempdir().unwrap()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    /// Returns the faults that remain with this file.
    fn faults(path: &Path) -> Vec<String> {
        let texts = Texts { dotenv: Some(fs::read_to_string(path).unwrap()), ..Texts::default() };
        let sources = Sources::layered(texts, &|_| Ok("hunter2".to_owned())).unwrap();
        match serve(&sources) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.iter().map(|fault| fault.name().to_owned()).collect(),
        }
    }

    #[test]
    fn a_new_file_lacks_only_what_the_operator_knows() {
        let folder = folder();
        let path = folder.path().join(".env");
        let said = init(&path);
        assert_eq!(mode(&path), MODE);
        assert_eq!(faults(&path), ["EMAIL_SENDER", "SMTP_SERVER", "EMAIL_PASSWORD"]);
        let content = fs::read_to_string(&path).unwrap();
        for (name, secret) in
            content.lines().filter(|l| l.starts_with("OTP_SECRETS")).filter_map(|l| l.split_once('='))
        {
            assert!(said.contains(name) && !said.contains(secret) && secret.len() >= 43, "{said}");
        }
        assert_eq!(content.lines().filter(|line| line.starts_with("OTP_SECRETS")).count(), 3);
        assert!(
            said.ends_with("Next: fill in EMAIL_SENDER, EMAIL_PASSWORD, SMTP_SERVER, then run `otpd serve`.")
        );
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn a_second_run_changes_nothing() {
        let folder = folder();
        let path = folder.path().join(".env");
        init(&path);
        let before = (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino());
        assert!(init(&path).contains("nothing was changed"));
        assert_eq!((fs::read(&path).unwrap(), fs::metadata(&path).unwrap().ino()), before);
    }

    #[test]
    fn what_is_there_stays_byte_for_byte() {
        let folder = folder();
        let path = folder.path().join(".env");
        let old = b"# mine\r\nEMAIL_SENDER=me@example.com\nbroken line\nOTHER=\xff\nOTP_SECRETS__PEPPERS_FILE=/run/p\nSMTP_PORT = 25";
        fs::write(&path, old).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let said = init(&path);
        let new = fs::read(&path).unwrap();
        assert!(new.starts_with(&[old.as_slice(), b"\n\n# "].concat()));
        let added = String::from_utf8(new[old.len() + 1..].to_vec()).unwrap();
        let names: Vec<_> = added
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, _)| name)
            .filter(|n| !n.starts_with('#'))
            .collect();
        let expected = [
            "EMAIL_PASSWORD",
            "SMTP_SERVER",
            "REDIS_HOST",
            "REDIS_PORT",
            "REDIS_DB",
            "OTP_SECRETS__INDEX_KEY",
            "OTP_SECRETS__PROOF_KEYS",
        ];
        assert_eq!(names, expected);
        assert_eq!(mode(&path), MODE);
        assert!(said.starts_with("Added to") && !said.contains("me@example.com"), "{said}");
    }

    #[test]
    fn a_secret_without_a_value_gets_one_and_what_cannot_be_read_is_named() {
        let folder = folder();
        let path = folder.path().join(".env");
        fs::write(&path, "OTP_SECRETS__PEPPERS=\nexport OTP_SECRETS__INDEX_KEY=\ngarbage\n").unwrap();
        let said = init(&path);
        assert!(said.contains("OTP_SECRETS__PEPPERS, OTP_SECRETS__INDEX_KEY"), "{said}");
        assert!(
            said.ends_with("`otpd serve` cannot read line 3 of it: fix or remove that line first."),
            "{said}"
        );
        assert_eq!(faults(&path), [".env", "EMAIL_SENDER", "SMTP_SERVER", "EMAIL_PASSWORD"]);
        assert!(init(&path).contains("nothing was changed"));
    }

    #[test]
    fn a_url_of_redis_is_enough() {
        let folder = folder();
        let path = folder.path().join(".env");
        fs::write(&path, "REDIS_URL=unix:///run/redis.sock\n").unwrap();
        assert!(!init(&path).contains("REDIS_"));
    }

    #[test]
    fn an_open_file_is_closed_to_others_even_if_it_is_complete() {
        let folder = folder();
        let path = folder.path().join(".env");
        init(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        init(&path);
        assert_eq!(mode(&path), MODE);
    }

    #[test]
    fn a_link_is_followed_and_stays_a_link() {
        let folder = folder();
        fs::create_dir(folder.path().join("real")).unwrap();
        let link = folder.path().join(".env");
        let real = folder.path().join("real/env");
        symlink("real/env", &link).unwrap();
        init(&link);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(mode(&real), MODE);
        assert!(init(&link).contains("nothing was changed"));
        let circle = folder.path().join("circle");
        symlink("circle", &circle).unwrap();
        assert!(Init { path: circle }.run().is_err());
    }

    #[test]
    fn what_is_no_file_is_left_alone() {
        let folder = folder();
        assert!(Init { path: folder.path().to_owned() }.run().is_err());
        assert!(Init { path: folder.path().join("none/.env") }.run().is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    }
}
