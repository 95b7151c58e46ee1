//! Character sets by the tables of the regex library, which are independent of those that otpd
//! uses.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// Invisible characters, in order.
pub static BLANKS: LazyLock<Vec<char>> =
    LazyLock::new(|| set(r"[\p{White_Space}\p{Default_Ignorable_Code_Point}]"));

/// Returns the characters of a class, in order.
pub fn set(class: &str) -> Vec<char> {
    let parsed = regex_syntax::parse(class).expect("a class").into_kind();
    let HirKind::Class(Class::Unicode(class)) = parsed else { panic!("no class of characters") };
    class.iter().flat_map(|range| range.start()..=range.end()).collect()
}

/// Returns whether a character is invisible.
pub fn is_blank(c: char) -> bool {
    BLANKS.binary_search(&c).is_ok()
}
