//! Replies of a relay: any data is one bounded reply, the beginning of one, or none. What is read
//! from a reply to EHLO is in it, and nothing of a text is shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use otpd::adapters::smtp::{Capabilities, FullReply, ReplyError};

const MAX_BYTES: usize = 16 * 1024;
const MAX_LINES: usize = 128;

fuzz_target!(|received: &[u8]| {
    let mut rest = received;
    loop {
        match FullReply::parse(rest) {
            Ok(Some((reply, length))) => {
                let (whole, after) = rest.split_at(length);
                is_bounded_and_whole(whole);
                has_the_codes_of_its_lines(whole, &reply);
                has_the_keywords_of_its_lines(whole, &reply);
                rest = after;
            }
            Ok(None) => {
                assert!(rest.len() <= MAX_BYTES && lines(rest).len() <= MAX_LINES + 1);
                break;
            }
            Err(ReplyError::TooLong) => {
                assert!(rest.len() > MAX_BYTES || lines(rest).len() > MAX_LINES);
                break;
            }
            Err(ReplyError::Malformed) => break,
        }
    }
});

fn lines(data: &[u8]) -> Vec<&[u8]> {
    data.split_inclusive(|byte| *byte == b'\n').collect()
}

fn is_bounded_and_whole(whole: &[u8]) {
    assert!(whole.len() <= MAX_BYTES && lines(whole).len() <= MAX_LINES && whole.ends_with(b"\n"));
    for cut in [whole.len() - 1, whole.len() / 2, 0] {
        assert!(matches!(FullReply::parse(&whole[..cut]), Ok(None)), "no part of it is a reply");
    }
}

fn has_the_codes_of_its_lines(whole: &[u8], reply: &FullReply) {
    let code = reply.reply().code();
    assert!((200..600).contains(&code));
    for line in lines(whole) {
        assert!(line.starts_with(code.to_string().as_bytes()));
    }
    let shown = format!("{reply:?}");
    let codes = shown.strip_prefix("FullReply(").and_then(|shown| shown.strip_suffix(')')).expect("the form");
    assert!(codes.len() <= 13 && codes.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b' '));
    assert_eq!(codes, reply.reply().to_string());
}

fn has_the_keywords_of_its_lines(whole: &[u8], reply: &FullReply) {
    let offered = Capabilities::of(reply);
    let says = |keyword: &str| {
        lines(whole).iter().any(|line| {
            let text = line.get(4..).unwrap_or_default().trim_ascii_start();
            text.get(..keyword.len()).is_some_and(|start| start.eq_ignore_ascii_case(keyword.as_bytes()))
        })
    };
    assert!(!offered.starttls || says("STARTTLS"));
    assert!(!offered.pipelining || says("PIPELINING"));
    assert!(offered.mechanisms.is_empty() || says("AUTH"));
    for mechanism in &offered.mechanisms {
        assert!(offered.has_mechanism(mechanism));
        assert!(!mechanism.bytes().any(|b| b.is_ascii_lowercase() || b.is_ascii_whitespace()));
    }
}
