//! Reads settings one by one and collects all faults.
//!
//! A method returns `None` only if it has recorded a fault, or if the layer already recorded one. A
//! section therefore reads all its settings before it returns. Must not stop at the first fault.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Fault, Faults};
use super::source::Sources;
use super::{Loaded, names};
use crate::domain::time::{Millis, parse_duration};

/// Reads settings and collects their faults and warnings.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Creates a reader. Warns of names of other programs for settings that are used, according to
    /// `is_used`.
    pub(super) fn new(sources: &'a Sources, is_used: impl Fn(&str) -> bool) -> Self {
        let warnings = [sources.warnings.clone(), sources.foreign_warnings(is_used)].concat();
        Self { sources, faults: sources.faults.clone(), warnings }
    }

    /// Creates a reader for a few settings, which does not report the faults of others.
    pub(super) fn of_few(sources: &'a Sources) -> Self {
        Self { sources, faults: Vec::new(), warnings: Vec::new() }
    }

    /// Returns the settings if there are no faults.
    pub(super) fn finish<T>(self, settings: impl FnOnce() -> Option<T>) -> Result<Loaded<T>, Faults> {
        match settings() {
            Some(settings) if self.faults.is_empty() => Ok(Loaded { settings, warnings: self.warnings }),
            _ => Err(Faults(self.faults)),
        }
    }

    /// Returns the text exactly as written, for a secret.
    pub(super) fn verbatim(&mut self, key: &str) -> Option<&'a str> {
        match self.sources.values.get(key).map(|value| &value.text) {
            Some(Ok(text)) => Some(text),
            Some(Err(why)) => self.refuse(key, why),
            None => self.refuse(key, "is not in otpd.default.toml"),
        }
    }

    /// Returns whether an optional setting is set.
    pub(super) fn has(&self, key: &str) -> bool {
        self.sources.values.contains_key(key)
    }

    /// Returns the time at which the settings were read.
    pub(super) fn now(&self) -> Millis {
        self.sources.now
    }

    /// Returns the number of `[[tenants]]`.
    pub(super) fn tenants(&self) -> usize {
        self.sources.tenants
    }

    /// Returns the text without surrounding white space.
    pub(super) fn text(&mut self, key: &str) -> Option<&'a str> {
        self.verbatim(key).map(str::trim)
    }

    /// Returns a text that must not be empty; `what` describes the setting for the fault.
    pub(super) fn required(&mut self, key: &str, what: &str) -> Option<&'a str> {
        match self.verbatim(key)? {
            text if text.trim().is_empty() => self.refuse(key, &format!("is missing: {what}")),
            text => Some(text),
        }
    }

    /// Parses a text. If `parse` returns `None`, the fault is "must be" and `rule`.
    pub(super) fn parse<T>(
        &mut self,
        key: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(text).or_else(|| self.refuse(key, &format!("must be {rule}")))
    }

    /// Parses a whole number.
    pub(super) fn number<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, &rule, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// Parses a duration in whole seconds, minutes or hours: `300s`, `5m`, `1h`. Refuses a number
    /// without a unit and suggests the line with one.
    pub(super) fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let least = range.start().as_secs();
        let most = range.end().as_secs();
        let rule = format!("a time from {least}s to {most}s: a whole number with s, m or h");
        let text = self.text(key)?;
        match text.parse::<u64>() {
            // Nothing is nothing in every unit.
            Ok(0) if least == 0 => Some(Duration::ZERO),
            Ok(seconds) if (least..=most).contains(&seconds) => {
                let line = self.line(key, &format!("{seconds}s"));
                self.refuse_for(key, &format!("has no unit; it must be {rule}"), &line)
            }
            _ => self.parse(key, &rule, |text| {
                parse_duration(&text.to_ascii_lowercase()).filter(|duration| range.contains(duration))
            }),
        }
    }

    /// Parses one of a few words, ignoring case.
    pub(super) fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let rule = format!("one of: {}", words.join(", "));
        self.parse(key, &rule, |text| {
            choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, choice)| *choice)
        })
    }

    /// Parses `true`, `false` or a common synonym, ignoring case.
    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        self.parse(key, "true or false, or on or off", flag)
    }

    /// Parses a comma-separated list. `parse` returns what is wrong with an entry. The fault names
    /// the first wrong entry only by its position, because a secret may have been set in the wrong
    /// place. An empty text is an empty list, and a trailing comma is allowed.
    pub(super) fn list_of<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let parsed = entries(self.text(key)?)
            .zip(1..)
            .map(|(entry, number)| parse(entry).map_err(|reason| format!("entry {number}: {reason}")));
        match parsed.collect::<Result<_, _>>() {
            Ok(list) => Some(list),
            Err(what) => self.refuse(key, &what),
        }
    }

    /// Reads the path of a file or folder; it may be empty (see [`named`]).
    pub(super) fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key)?;
        // The content of the file instead, which may be a secret and must not be repeated.
        if text.contains(char::is_control) || text.contains("-----BEGIN") {
            return self.refuse(key, "must be the path of a file, and not its content");
        }
        Some(PathBuf::from(text))
    }

    /// Records a fault of the setting.
    pub(super) fn refuse<T>(&mut self, key: &str, what: &str) -> Option<T> {
        self.faults.push(self.sources.fault(key, what));
        None
    }

    /// Records a fault of the setting that a line for another setting fixes.
    pub(super) fn refuse_for<T>(&mut self, key: &str, what: &str, line: &str) -> Option<T> {
        self.faults.push(Fault { line: line.to_owned(), ..self.sources.fault(key, what) });
        None
    }

    /// Returns a line that sets the setting to this value.
    pub(super) fn line(&self, key: &str, value: &str) -> String {
        self.sources.line_with(key, value)
    }

    /// Returns an example value of the setting, which is its default if that is not empty.
    pub(super) fn example(&self, key: &str) -> &str {
        self.sources.example(key)
    }

    /// Records a warning about the setting.
    pub(super) fn warn(&mut self, key: &str, what: &str) {
        self.warnings.push(format!("{} {what}", names::usual_name(key)));
    }
}

/// Parses `true`, `false` or a common synonym, ignoring case.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Returns the entries of a comma-separated list. A trailing comma is allowed.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.strip_suffix(',').unwrap_or(text).split(',').map(str::trim).filter(move |_| !text.is_empty())
}

/// Returns the path unless it is empty.
pub(super) fn named(path: PathBuf) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then_some(path)
}
