//! Typed codes: a text is a code if and only if it has 6 to 10 decimal digits of any script and
//! otherwise only white space, dashes and invisible characters, in at most 1024 bytes.

#![no_main]

mod unicode;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use otpd::domain::code::Code;

/// U+30FC and U+FF70 are what a Japanese keyboard types for a hyphen.
static DASHES: LazyLock<Vec<char>> = LazyLock::new(|| unicode::set(r"[\p{Dash}\u{30fc}\u{ff70}]"));
/// Ten digits for each script, starting at zero.
static DIGITS: LazyLock<Vec<char>> = LazyLock::new(|| unicode::set(r"\p{Nd}"));
/// Characters that these tables do not know. The tables of otpd may be of a later Unicode version.
static UNKNOWN: LazyLock<Vec<char>> =
    LazyLock::new(|| unicode::set(r"[\p{Cn}--\p{Default_Ignorable_Code_Point}]"));

fuzz_target!(|typed: &str| {
    let code = Code::parse(typed);
    if !typed.chars().any(|c| UNKNOWN.binary_search(&c).is_ok()) {
        assert_eq!(code.as_ref().map(Code::expose), meant(typed).as_deref());
    }
    if let Some(code) = code {
        assert_eq!(Code::parse(code.expose()).as_ref().map(Code::expose), Some(code.expose()));
        assert_eq!(format!("{code:?}"), "Code(***)");
    }
});

/// Returns the digits that a typed text stands for.
fn meant(typed: &str) -> Option<String> {
    let rest = typed.chars().filter(|c| !unicode::is_blank(*c) && DASHES.binary_search(c).is_err());
    let digits: Option<Vec<_>> = rest.map(|c| DIGITS.binary_search(&c).ok()).collect();
    let digits = digits?.into_iter().map(|rank| (rank % 10).to_string()).collect::<String>();
    (typed.len() <= 1024 && (6..=10).contains(&digits.len())).then_some(digits)
}
