//! Parses `Accept-Language` (RFC 9110 section 12.5.4).
//!
//! Must not reject anything: an unreadable header counts as absent.

use poem::http::HeaderMap;
use poem::http::header::ACCEPT_LANGUAGE;

use crate::domain::locale::Locale;

/// The maximum number of languages that are considered.
const MOST: usize = 16;

/// Returns the languages of `Accept-Language`, the most preferred first.
pub(super) fn accepted_languages(headers: &HeaderMap) -> Vec<Locale> {
    let values = headers.get_all(ACCEPT_LANGUAGE).iter().filter_map(|value| value.to_str().ok());
    let mut ranges: Vec<_> = values.flat_map(|value| value.split(',')).filter_map(range).take(MOST).collect();
    // The sort is stable: among equal weights, the header's order decides.
    ranges.sort_by_key(|(quality, _)| std::cmp::Reverse(*quality));
    ranges.into_iter().map(|(_, locale)| locale).collect()
}

/// Parses a language and its weight in thousandths. Returns `None` for a weight of 0, a wildcard or
/// an invalid range.
fn range(text: &str) -> Option<(u16, Locale)> {
    let (tag, quality) =
        text.split_once(';').map_or((text, Some(1000)), |(tag, weight)| (tag, thousandths(weight)));
    let quality = quality.filter(|quality| *quality > 0)?;
    Some((quality, Locale::parse(tag.trim())?))
}

/// Parses a weight: `q=0.8` is 800.
fn thousandths(weight: &str) -> Option<u16> {
    let (name, value) = weight.trim().split_once('=')?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let fits =
        name.eq_ignore_ascii_case("q") && fraction.len() <= 3 && fraction.bytes().all(|b| b.is_ascii_digit());
    let fraction: u16 = fits.then(|| format!("{fraction:0<3}").parse().ok())??;
    match whole {
        "0" => Some(fraction),
        "1" => (fraction == 0).then_some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[&str]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_LANGUAGE, HeaderValue::from_str(value).unwrap());
        }
        accepted_languages(&headers).iter().map(|locale| locale.as_str().to_owned()).collect()
    }

    #[test]
    fn languages_come_in_the_order_in_which_they_are_wanted() {
        assert_eq!(of(&["fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5"]), ["fr-ch", "fr", "en", "de"]);
        assert_eq!(of(&["en;q=0.5,de;q=1.000,fr ; Q=0.51"]), ["de", "fr", "en"]);
        assert_eq!(of(&["de", "fr"]), ["de", "fr"]);
        assert_eq!(of(&["pt_BR;q=0.5, zh_Hant_TW"]), ["zh-hant-tw", "pt-br"]);
        assert_eq!(of(&["de;q=0, fr;q=0.000, en;q=0.001"]), ["en"]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn what_cannot_be_read_says_nothing() {
        assert_eq!(of(&["*, , ;q=1, de;q=2, fr;q=x, es;level=1, d_, ja;q=0.1234, ar;q=1.1, en"]), ["en"]);
        assert_eq!(of(&[&"de,".repeat(5000)]).len(), MOST);
    }

    proptest! {
        #[test]
        fn any_header_says_something_or_nothing(text in "[ -~]{0,60}") {
            of(&[&text]);
        }
    }
}
