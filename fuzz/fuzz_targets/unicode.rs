//! Sets of characters by the tables of the regex library: others than those that otpd looks at.

use std::sync::LazyLock;

use regex_syntax::hir::{Class, HirKind};

/// What nobody sees, in order.
pub static BLANKS: LazyLock<Vec<char>> =
    LazyLock::new(|| set(r"[\p{White_Space}\p{Default_Ignorable_Code_Point}]"));

/// The characters of a class, in order.
pub fn set(class: &str) -> Vec<char> {
    let parsed = regex_syntax::parse(class).expect("a class").into_kind();
    let HirKind::Class(Class::Unicode(class)) = parsed else { panic!("no class of characters") };
    class.iter().flat_map(|range| range.start()..=range.end()).collect()
}

/// Whether nobody sees a character.
pub fn is_blank(c: char) -> bool {
    BLANKS.binary_search(&c).is_ok()
}
