//! Typed codes: exactly those texts are codes that have 6 to 10 ASCII digits beside white space and hyphens.

#![no_main]

use libfuzzer_sys::fuzz_target;
use otpd::domain::code::Code;

fuzz_target!(|typed: &str| {
    let rest = typed.replace(|c: char| c.is_whitespace() || c == '-', "");
    let is_code = (6..=10).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_digit());
    let code = Code::parse(typed);
    assert_eq!(code.as_ref().map(Code::expose), is_code.then_some(rest.as_str()));
    if let Some(code) = code {
        assert_eq!(Code::parse(code.expose()).as_ref().map(Code::expose), Some(code.expose()));
        assert_eq!(format!("{code:?}"), "Code(***)");
    }
});
