//! The settings that a `.env` assigns, for `otpd init`.

use std::collections::BTreeMap;

use super::document;
use super::dotenv;
use super::names::{DEFAULTS, Names, Spelling};

/// Returns the settings, as `section.key`, that a `.env` of this content has a line for, and
/// whether that line has a value.
#[must_use]
pub fn assigned(dotenv: &str) -> BTreeMap<String, bool> {
    let defaults = document::flatten(DEFAULTS).unwrap_or_default();
    let names = Names::of(defaults.iter().map(|(key, _)| key.as_str()));
    let assignments = dotenv::parse(dotenv).assignments.into_iter();
    let known = assignments.filter_map(|(name, value)| {
        let meaning = names.meaning(Spelling::Environment, &name)?;
        Some((meaning.key.clone(), !value.trim().is_empty()))
    });
    known.collect()
}

/// Returns the numbers of the lines of a `.env` that cannot be read.
#[must_use]
pub fn broken_lines(dotenv: &str) -> Vec<usize> {
    dotenv::parse(dotenv).broken_lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_dotenv_count_under_all_their_names() {
        let keys = assigned("EMAIL_SENDER=\nexport OTP_REDIS__URL_FILE='x'\n# SMTP_PORT=1\nOTHER=1\n");
        let expected = [("redis.url".to_owned(), true), ("smtp.sender".to_owned(), false)];
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), expected);
    }
}
