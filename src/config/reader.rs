//! Reads settings one by one and remembers everything that is wrong with them.
//!
//! Each method gives `None` only where it has recorded a fault (or the setting had one from its layer), so that a
//! section reads all its settings first and gives up afterwards. Must not stop at the first fault.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::fault::{Fault, Faults};
use super::source::Sources;
use super::{Loaded, names};

/// A look at all settings.
pub(super) struct Reader<'a> {
    sources: &'a Sources,
    faults: Vec<Fault>,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    /// Looks at all settings, and warns of other programs' names for those that `is_used` says matter.
    pub fn new(sources: &'a Sources, is_used: impl Fn(&str) -> bool) -> Self {
        let warnings = [sources.warnings.clone(), sources.foreign_warnings(is_used)].concat();
        Self { sources, faults: sources.faults.clone(), warnings }
    }

    /// The settings, if nothing was wrong.
    pub fn finish<T>(self, settings: impl FnOnce() -> Option<T>) -> Result<Loaded<T>, Faults> {
        match settings() {
            Some(settings) if self.faults.is_empty() => Ok(Loaded { settings, warnings: self.warnings }),
            _ => Err(Faults(self.faults)),
        }
    }

    /// The text exactly as it stands there, for a secret.
    pub fn verbatim(&mut self, key: &str) -> Option<&'a str> {
        match self.sources.values.get(key).map(|value| &value.text) {
            Some(Ok(text)) => Some(text),
            Some(Err(why)) => self.refuse(key, why),
            None => self.refuse(key, "is not in otpd.default.toml"),
        }
    }

    /// Whether anybody has said something of a setting that may be left out.
    pub fn has(&self, key: &str) -> bool {
        self.sources.values.contains_key(key)
    }

    /// How many `[[tenants]]` there are.
    pub fn tenants(&self) -> usize {
        self.sources.tenants
    }

    /// The text without the white space around it.
    pub fn text(&mut self, key: &str) -> Option<&'a str> {
        self.verbatim(key).map(str::trim)
    }

    /// A text that must be there; `what` tells who does not know the setting.
    pub fn required(&mut self, key: &str, what: &str) -> Option<&'a str> {
        match self.verbatim(key)? {
            text if text.trim().is_empty() => self.refuse(key, &format!("is missing: {what}")),
            text => Some(text),
        }
    }

    /// A text that `parse` takes; where it does not, the setting "must be" what `rule` says.
    pub fn parse<T>(&mut self, key: &str, rule: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        parse(text).or_else(|| self.refuse(key, &format!("must be {rule}")))
    }

    /// A whole number.
    pub fn number<T>(&mut self, key: &str, range: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr + PartialOrd + Display,
    {
        let rule = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(key, &rule, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// A whole number of seconds, minutes or hours: `300s`, `5m`, `1h`. A number without a unit is refused with the line
    /// that has one.
    pub fn duration(&mut self, key: &str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let (least, most) = (range.start().as_secs(), range.end().as_secs());
        let rule = format!("a time from {least}s to {most}s: a whole number with s, m or h");
        let text = self.text(key)?;
        match text.parse::<u64>() {
            Ok(seconds) if (least..=most).contains(&seconds) => {
                let line = self.line(key, &format!("{seconds}s"));
                self.refuse_for(key, &format!("has no unit; it must be {rule}"), &line)
            }
            _ => self.parse(key, &rule, |text| duration(text).filter(|duration| range.contains(duration))),
        }
    }

    /// One of a few words, in any case.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let rule = format!("one of: {}", words.join(", "));
        self.parse(key, &rule, |text| {
            choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, choice)| *choice)
        })
    }

    /// `true` or `false`, or another usual word for either, in any case.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        let is_on = |text: &str| match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        };
        self.parse(key, "true or false, or on or off", is_on)
    }

    /// Returns a comma separated list; `parse` says what is wrong with an entry. The first wrong entry is named by its
    /// position alone: a secret may stand in the wrong layer. Empty text is an empty list, and a comma may end it.
    pub fn list_of<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
        let parsed = entries(self.text(key)?)
            .zip(1..)
            .map(|(entry, number)| parse(entry).map_err(|reason| format!("entry {number}: {reason}")));
        match parsed.collect::<Result<_, _>>() {
            Ok(list) => Some(list),
            Err(what) => self.refuse(key, &what),
        }
    }

    /// The path of a file or a folder, which may be empty (see [`named`]).
    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        self.text(key).map(PathBuf::from)
    }

    /// Records what is wrong with the setting.
    pub fn refuse<T>(&mut self, key: &str, what: &str) -> Option<T> {
        self.faults.push(self.sources.fault(key, what));
        None
    }

    /// Records what is wrong with the setting where another one mends it.
    pub fn refuse_for<T>(&mut self, key: &str, what: &str, line: &str) -> Option<T> {
        self.faults.push(Fault { line: line.to_owned(), ..self.sources.fault(key, what) });
        None
    }

    /// The line that gives the setting this value.
    pub fn line(&self, key: &str, value: &str) -> String {
        self.sources.line_with(key, value)
    }

    /// Records what the operator should hear of a setting that is no fault.
    pub fn warn(&mut self, key: &str, what: &str) {
        self.warnings.push(format!("{} {what}", names::usual_name(key)));
    }
}

/// The entries of a comma separated list. A comma may end it.
pub(super) fn entries(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.strip_suffix(',').unwrap_or(text).split(',').map(str::trim).filter(move |_| !text.is_empty())
}

/// A path that is not empty.
pub(super) fn named(path: PathBuf) -> Option<PathBuf> {
    (!path.as_os_str().is_empty()).then_some(path)
}

fn duration(text: &str) -> Option<Duration> {
    let seconds_each = match text.chars().last()?.to_ascii_lowercase() {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    let number: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    number.checked_mul(seconds_each).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_take_seconds_minutes_and_hours() {
        let seconds = |text| duration(text).map(|d| d.as_secs());
        assert_eq!([seconds("90s"), seconds("5m"), seconds("1h")], [Some(90), Some(300), Some(3600)]);
        for text in ["", "s", "5", "5d", "5 m", "-5s", "1.5h", "5é", "18446744073709551615h"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_none(text in ".{0,12}") {
            duration(&text);
        }
    }
}
