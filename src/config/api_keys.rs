//! Lists of API keys in the settings: the labels and hashes of a tenant's keys.
//!
//! Must not show an API key that stands where its hash belongs.

use std::iter;

use super::names;
use super::reader::{Reader, entries};
use crate::domain::api_key::{KeyHash, KeyKind};
use crate::domain::key_name::KeyName;

const BAD_LABEL: &str = "has a label that is not 1 to 16 characters of a-z 0-9 _ -";

/// Maximum number of keys in one list. It allows two keys at a time, during a rotation, for
/// several programs.
const MAX_KEYS: usize = 16;

/// Parses a comma-separated list of `LABEL:HASH` of keys of a kind. An entry with a key instead of
/// its hash is not shown.
pub(super) fn read(reader: &mut Reader<'_>, key: &str, kind: KeyKind) -> Option<Vec<(KeyName, KeyHash)>> {
    let text = reader.text(key)?;
    let (mut keys, mut mended): (Vec<(KeyName, KeyHash)>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut holds_a_key, mut of_other_kind) = (None, None);
    for (number, item) in (1..).zip(entries(text)) {
        let own_label = format!("key{number}");
        let (label, rest) = item.split_once(':').unwrap_or((&own_label, item));
        if let Some(hash) = KeyHash::of(rest) {
            // The label goes into the printed line, and may itself be a key.
            if KeyName::parse(label).is_none() {
                return reader.refuse(key, &format!("entry {number} {BAD_LABEL}"));
            }
            if KeyKind::of(rest) != Some(kind) {
                of_other_kind = of_other_kind.or(Some((number, format!("{label}:{hash}"))));
                continue;
            }
            holds_a_key = holds_a_key.or(Some(number));
            let is_new = |text: &String| !text.ends_with(&format!(":{hash}"));
            if mended.iter().all(is_new) {
                mended.push(format!("{}:{hash}", free_label(label, number, &mended)));
            }
            continue;
        }
        match entry(item, &keys) {
            Ok(entry) => keys.push(entry),
            Err(what) => return reader.refuse(key, &format!("entry {number} {what}")),
        }
        mended.push(item.to_owned());
    }
    if let Some((number, entry)) = of_other_kind {
        return refuse_other_kind(reader, key, number, &entry, &mended);
    }
    if let Some(number) = holds_a_key {
        let what = format!(
            "entry {number} holds an API key: its hash belongs here, and the key with the program that calls"
        );
        let line = reader.line(key, &mended.join(","));
        return reader.refuse_for(key, &what, &line);
    }
    if keys.len() > MAX_KEYS {
        return reader.refuse(key, &format!("has {} entries; {MAX_KEYS} are the most", keys.len()));
    }
    Some(keys)
}

/// Refuses an API key in the list of the other kind, with a line for this list without it. Nothing
/// is printed for the other list, whose entries this one does not know.
fn refuse_other_kind<T>(
    reader: &mut Reader<'_>,
    key: &str,
    number: usize,
    entry: &str,
    others: &[String],
) -> Option<T> {
    let (kind, right) = match key.strip_suffix("sandbox_keys") {
        Some(section) => ("a live", format!("{section}keys")),
        None => ("a sandbox", key.strip_suffix("keys").unwrap_or_default().to_owned() + "sandbox_keys"),
    };
    let what = format!(
        "entry {number} holds {kind} API key, which belongs with the program that calls: take it out here, and add \
         its hash, {entry}, to {}",
        names::usual_name(&right)
    );
    let line = reader.line(key, &others.join(","));
    reader.refuse_for(key, &what, &line)
}

/// Returns the label, or one such as `key2` if another entry has it.
fn free_label(label: &str, number: usize, others: &[String]) -> String {
    let is_free = |label: &String| others.iter().all(|other| !other.starts_with(&format!("{label}:")));
    let numbered = (number..=number + others.len()).map(|number| format!("key{number}"));
    iter::once(label.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}

/// Parses one `LABEL:HASH`; `before` holds the entries before it.
fn entry(item: &str, before: &[(KeyName, KeyHash)]) -> Result<(KeyName, KeyHash), String> {
    let (label, hash) = item
        .split_once(':')
        .ok_or("has no label: it must be LABEL:HASH, as `otpd keygen api-key` prints it")?;
    let label = KeyName::parse(label).ok_or(BAD_LABEL)?;
    let hash = KeyHash::parse(hash)
        .ok_or("has a hash that is not the 43 characters that `otpd keygen api-key` prints")?;
    if before.iter().any(|(other, _)| *other == label) {
        return Err(format!("has the label of another, {:?}: give each its own", label.as_str()));
    }
    if before.iter().any(|(_, other)| other.matches(&hash)) {
        return Err("has the hash of another: one of the two is enough".to_owned());
    }
    Ok((label, hash))
}
