//! The language that a person reads, as a language tag (BCP 47).
//!
//! Must not depend on the available translations.

/// The most characters of a tag. RFC 5646 section 4.4.1 requires at least 35.
const TAG_MAX: usize = 35;

/// A language tag in lower case, such as `de` or `pt-br`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locale(String);

impl Locale {
    /// Parses a tag in any case: subtags of 1 to 8 letters and digits, the first of 2 to 8 letters,
    /// at most 35 characters in total. Accepts `_` for `-`, because POSIX and Java write `pt_BR`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut subtags = text.split(['-', '_']);
        let first = subtags.next()?;
        let is_first = (2..=8).contains(&first.len()) && first.bytes().all(|b| b.is_ascii_alphabetic());
        let is_rest = |subtag: &str| {
            (1..=8).contains(&subtag.len()) && subtag.bytes().all(|b| b.is_ascii_alphanumeric())
        };
        let fits = is_first && text.len() <= TAG_MAX && subtags.all(is_rest);
        fits.then(|| Self(text.to_ascii_lowercase().replace('_', "-")))
    }

    /// Returns English.
    #[must_use]
    pub fn english() -> Self {
        Self("en".to_owned())
    }

    /// Returns the tag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tag, then ever more general ones: `zh-hant-tw`, `zh-hant`, `zh` (RFC 4647
    /// section 3.4).
    pub fn and_more_general(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.0.as_str()), |tag| {
            let (general, _) = tag.rsplit_once('-')?;
            // A single letter introduces the subtag after it, so it is removed together with that
            // subtag.
            Some(
                general
                    .rsplit_once('-')
                    .filter(|(_, last)| last.len() == 1)
                    .map_or(general, |(rest, _)| rest),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_has_the_form_of_a_language_tag() {
        for locale in ["de", "pt-BR", "zh-Hant-TW", "sl-rozaj-biske-1994", "en-x-a", "de_DE"] {
            assert!(Locale::parse(locale).is_some(), "{locale}");
        }
        for bad in
            ["", "d", "de-", "de_", "de-_AT", "-de", "d3", "de DE", "é", "toolongtag", &"de-".repeat(20)]
        {
            assert!(Locale::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Locale::parse("PT-br"), Locale::parse("pt-BR"));
        assert_eq!(Locale::parse("zh_Hant-TW"), Locale::parse("zh-hant-tw"));
    }

    #[test]
    fn a_tag_loses_one_subtag_after_the_other() {
        let tags =
            |text| Locale::parse(text).unwrap().and_more_general().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(tags("zh-Hant-TW"), ["zh-hant-tw", "zh-hant", "zh"]);
        assert_eq!(tags("de-x-private"), ["de-x-private", "de"]);
        assert_eq!(tags("de"), ["de"]);
    }
}
