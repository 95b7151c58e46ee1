//! Addresses: each accepted text is exactly one plain mailbox, for otpd and for the email library.

#![no_main]

mod unicode;

use libfuzzer_sys::fuzz_target;
use otpd::domain::email_address::EmailAddress;

fuzz_target!(|text: &str| {
    let Ok(address) = EmailAddress::parse(text) else { return };
    // Invisible characters around the address are dropped. Inside it, only joiners can be part of a
    // name.
    let text = text.trim_matches(unicode::is_blank);
    assert!(
        !text.chars().any(|c| unicode::is_blank(c) && !['\u{200c}', '\u{200d}'].contains(&c)),
        "{text:?}"
    );
    is_one_plain_mailbox(text, &address);
    has_one_limit_key(&address);
    is_folded_in_case_alone(&address);
});

fn is_one_plain_mailbox(text: &str, address: &EmailAddress) {
    let (local, domain) = (address.local_part(), address.domain());
    assert_eq!(address.as_str(), format!("{local}@{domain}"));
    assert_eq!(text.rsplit_once('@').map(|(local, _)| local), Some(local), "the mailbox that was named");
    // Printable ASCII, without the characters that end an address in a header or in SMTP.
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"\"(),:;<>@[\\]".contains(&b);
    assert!(local.bytes().all(is_plain) && domain.bytes().all(is_plain), "{:?}", address.as_str());
    assert!(domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b)));
    assert!((1..=64).contains(&local.len()) && address.as_str().len() <= 254);

    assert_eq!(EmailAddress::parse(address.as_str()).as_ref(), Ok(address), "it reads back");
    let library: lettre::Address = address.as_str().parse().expect("an address to the mail library");
    assert_eq!((library.user(), library.domain()), (local, domain));
    assert!(address.masked().ends_with(domain));
}

fn is_folded_in_case_alone(address: &EmailAddress) {
    let folded = address.folded();
    assert_eq!(EmailAddress::parse(folded.as_str()).as_ref(), Ok(&folded), "it is an address");
    assert!(folded.as_str().eq_ignore_ascii_case(address.as_str()));
    assert!(!folded.as_str().bytes().any(|b| b.is_ascii_uppercase()));
    assert_eq!((folded.folded(), folded.limit_key()), (folded, address.limit_key()));
}

fn has_one_limit_key(address: &EmailAddress) {
    let key = address.limit_key();
    let (local, domain) = key.expose().rsplit_once('@').expect("a key has the form of an address");
    assert!(!local.contains('+') && !local.bytes().any(|b| b.is_ascii_uppercase()), "{local:?}");
    assert!(domain != "googlemail.com" && (domain != "gmail.com" || !local.contains('.')), "{local:?}");
    // A limit key such as that of `+tag@example.com` is not an address.
    if let Ok(again) = EmailAddress::parse(key.expose()) {
        assert_eq!(again.limit_key(), key);
    }
    let shouted = format!("{}@{}", address.local_part().to_ascii_uppercase(), address.domain());
    assert_eq!(EmailAddress::parse(&shouted).map(|other| other.limit_key()), Ok(key));
}
