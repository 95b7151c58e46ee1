//! The syntax of SPF records (RFC 7208).
//!
//! Must not look anything up. Macros are recognised and not expanded.

use std::net::{Ipv4Addr, Ipv6Addr};

/// What a record says of a server that a mechanism matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Qualifier {
    /// `+`, or no qualifier.
    Pass,
    /// `-`.
    Fail,
    /// `~`.
    SoftFail,
    /// `?`.
    Neutral,
}

/// One term of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Term {
    /// `all`.
    All(Qualifier),
    /// `include:`, with its domain.
    Include(String),
    /// `a`, with its domain if it is another.
    A(Option<String>),
    /// `mx`, with its domain if it is another.
    Mx(Option<String>),
    /// `ptr`.
    Ptr,
    /// `exists:`, with its domain.
    Exists(String),
    /// `ip4:` or `ip6:`.
    Ip,
    /// `redirect=`, with its domain.
    Redirect(String),
    /// `exp=` or a modifier that is not known, which is ignored (RFC 7208 section 6).
    Modifier,
}

/// A record without a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpfRecord {
    /// The terms that count: none after `all`, and no `redirect=` beside it.
    pub terms: Vec<Term>,
}

/// Returns whether a TXT record is an SPF record (RFC 7208 section 4.5).
pub(super) fn is_spf(text: &str) -> bool {
    let version = text.split(' ').next().unwrap_or_default();
    version.eq_ignore_ascii_case("v=spf1")
}

/// Returns whether a domain of a record has macros, which depend on the mail.
pub(super) fn has_macros(domain: &str) -> bool {
    domain.contains('%')
}

impl SpfRecord {
    /// Parses a record.
    ///
    /// # Errors
    /// Returns the first term that is wrong, with the reason.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut terms = Vec::new();
        let mut has_all = false;
        let mut modifiers: Vec<String> = Vec::new();
        for word in text.split(' ').skip(1).filter(|word| !word.is_empty()) {
            let name = modifier_name(word);
            if let Some(name) = name.filter(|name| ["redirect", "exp"].contains(&name.as_str())) {
                if modifiers.contains(&name) {
                    return Err(format!("{name}= is there twice"));
                }
                modifiers.push(name);
            }
            let term = term(word).map_err(|reason| format!("{word:?} {reason}"))?;
            has_all = has_all || matches!(term, Term::All(_));
            let is_after_all = terms.iter().any(|term| matches!(term, Term::All(_)));
            if !is_after_all {
                terms.push(term);
            }
        }
        if has_all {
            terms.retain(|term| !matches!(term, Term::Redirect(_)));
        }
        Ok(Self { terms })
    }
}

impl Term {
    /// Returns whether an evaluation asks DNS for it, so that it counts towards the limit of ten
    /// (RFC 7208 section 4.6.4).
    pub(super) fn is_counted(&self) -> bool {
        !matches!(self, Self::All(_) | Self::Ip | Self::Modifier)
    }
}

/// Returns the name of a modifier in lower case, if the word is one: `name=value`.
fn modifier_name(word: &str) -> Option<String> {
    let (name, _) = word.split_once('=')?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_plain);
    is_name.then(|| name.to_ascii_lowercase())
}

fn term(word: &str) -> Result<Term, &'static str> {
    if let Some(name) = modifier_name(word) {
        let value = word.split_once('=').map_or("", |(_, value)| value);
        return match name.as_str() {
            "redirect" => Ok(Term::Redirect(domain(value)?)),
            "exp" => domain(value).map(|_| Term::Modifier),
            _ => Ok(Term::Modifier),
        };
    }
    let (qualifier, mechanism) = match word.split_at_checked(1) {
        Some(("+", rest)) => (Qualifier::Pass, rest),
        Some(("-", rest)) => (Qualifier::Fail, rest),
        Some(("~", rest)) => (Qualifier::SoftFail, rest),
        Some(("?", rest)) => (Qualifier::Neutral, rest),
        _ => (Qualifier::Pass, word),
    };
    let end = mechanism.find([':', '/']).unwrap_or(mechanism.len());
    let (name, rest) = mechanism.split_at(end);
    let value = rest.strip_prefix(':');
    match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => Ok(Term::All(qualifier)),
        "all" => Err("takes no value"),
        "include" => Ok(Term::Include(domain(value.unwrap_or_default())?)),
        "exists" => Ok(Term::Exists(domain(value.unwrap_or_default())?)),
        "a" => Ok(Term::A(with_prefix(rest)?)),
        "mx" => Ok(Term::Mx(with_prefix(rest)?)),
        "ptr" => match value {
            None if rest.is_empty() => Ok(Term::Ptr),
            value => domain(value.unwrap_or_default()).map(|_| Term::Ptr),
        },
        "ip4" if is_network::<Ipv4Addr>(value.unwrap_or_default(), 32) => Ok(Term::Ip),
        "ip4" => Err("is not an IPv4 address or network"),
        "ip6" if is_network::<Ipv6Addr>(value.unwrap_or_default(), 128) => Ok(Term::Ip),
        "ip6" => Err("is not an IPv6 address or network"),
        _ => Err("is not a mechanism of SPF"),
    }
}

/// Parses what follows `a` and `mx`: an optional domain, and optional prefix lengths.
fn with_prefix(rest: &str) -> Result<Option<String>, &'static str> {
    // The last slash of a macro such as %{d/} stands inside braces.
    let start = rest.rfind('}').map_or(0, |at| at + 1);
    let slash = rest.get(start..).and_then(|tail| tail.find('/')).map_or(rest.len(), |at| start + at);
    let (name, prefix) = rest.split_at(slash);
    let (four, six) = prefix.split_once("//").map_or((prefix, None), |(four, six)| (four, Some(six)));
    let four = if four.is_empty() { None } else { Some(four.strip_prefix('/').ok_or("has a wrong prefix")?) };
    if !four.is_none_or(|length| is_length(length, 32)) || !six.is_none_or(|length| is_length(length, 128)) {
        return Err("has a prefix length that is not one");
    }
    match name.strip_prefix(':') {
        None => Ok(None),
        Some(name) => domain(name).map(Some),
    }
}

fn is_length(text: &str, most: u8) -> bool {
    let is_canonical = text == "0" || !text.starts_with(['0', '+']);
    is_canonical && text.parse::<u8>().is_ok_and(|length| length <= most)
}

fn is_network<T: std::str::FromStr>(text: &str, most: u8) -> bool {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    address.parse::<T>().is_ok() && length.is_none_or(|length| is_length(length, most))
}

/// Parses a domain, which may have macros.
fn domain(text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("names no domain");
    }
    if has_macros(text) {
        return macros(text).then(|| text.to_owned()).ok_or("has a macro that is not one");
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let is_plain = |b: u8| b.is_ascii_graphic() && b != b'/';
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_plain);
    let is_name = name.len() <= 253 && name.contains('.') && name.split('.').all(is_label);
    is_name.then_some(name).ok_or("names a domain that is not one")
}

/// Returns whether each `%` begins a macro (RFC 7208 section 7.1).
fn macros(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        rest = match after.split_at_checked(1) {
            Some(("%" | "_" | "-", after)) => after,
            Some(("{", after)) => {
                let Some((inside, after)) = after.split_once('}') else { return false };
                let mut inside = inside.chars();
                let letter = inside.next().map(|letter| letter.to_ascii_lowercase());
                let is_delimiter = |c: char| c.is_ascii_digit() || "rR.-+,/_=".contains(c);
                if !letter.is_some_and(|letter| "slodiphv".contains(letter)) || !inside.all(is_delimiter) {
                    return false;
                }
                after
            }
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<Term> {
        SpfRecord::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}")).terms
    }

    #[test]
    fn only_the_whole_version_makes_a_record_of_spf() {
        for text in ["v=spf1", "v=spf1 -all", "V=SPF1 -all"] {
            assert!(is_spf(text), "{text}");
        }
        for text in ["", "v=spf10 -all", "v=spf1-all", " v=spf1", "v=spf2.0/pra", "spf1"] {
            assert!(!is_spf(text), "{text}");
        }
    }

    #[test]
    fn each_mechanism_is_parsed_with_its_qualifier_domain_and_prefix() {
        let record = "v=spf1 a a:b.example/24 mx//64 MX:b.example/24//64 ptr exists:%{i}._spf.%{d} \
                      ip4:192.0.2.0/24 ip6:2001:db8::/32 include:c.example. ?all";
        let name = |name: &str| name.to_owned();
        assert_eq!(
            terms(record),
            [
                Term::A(None),
                Term::A(Some(name("b.example"))),
                Term::Mx(None),
                Term::Mx(Some(name("b.example"))),
                Term::Ptr,
                Term::Exists(name("%{i}._spf.%{d}")),
                Term::Ip,
                Term::Ip,
                Term::Include(name("c.example")),
                Term::All(Qualifier::Neutral),
            ]
        );
        let all = |qualifier| vec![Term::All(qualifier)];
        assert_eq!(terms("v=spf1 all"), all(Qualifier::Pass));
        assert_eq!(terms("v=spf1 +ALL"), all(Qualifier::Pass));
        assert_eq!(terms("v=spf1 -all"), all(Qualifier::Fail));
        assert_eq!(terms("v=spf1 ~all"), all(Qualifier::SoftFail));
    }

    #[test]
    fn nothing_after_all_counts_and_no_redirect_beside_it() {
        assert_eq!(terms("v=spf1 -all a mx"), [Term::All(Qualifier::Fail)]);
        assert_eq!(terms("v=spf1 redirect=b.example -all"), [Term::All(Qualifier::Fail)]);
        assert_eq!(terms("v=spf1 redirect=b.example"), [Term::Redirect("b.example".into())]);
        assert_eq!(terms("v=spf1 x-new=1 exp=why.b.example"), [Term::Modifier, Term::Modifier]);
    }

    #[test]
    fn a_record_with_a_fault_names_the_term() {
        for (text, reason) in [
            ("v=spf1 include -all", "\"include\" names no domain"),
            ("v=spf1 include: -all", "\"include:\" names no domain"),
            ("v=spf1 include:b -all", "names a domain that is not one"),
            ("v=spf1 ip4:192.0.2.256", "is not an IPv4 address or network"),
            ("v=spf1 ip4:192.0.2.0/33", "is not an IPv4 address or network"),
            ("v=spf1 ip4:2001:db8::1", "is not an IPv4 address or network"),
            ("v=spf1 ip6:192.0.2.1", "is not an IPv6 address or network"),
            ("v=spf1 ipv4:192.0.2.1", "is not a mechanism of SPF"),
            ("v=spf1 a/33", "has a prefix length"),
            ("v=spf1 a/024", "has a prefix length"),
            ("v=spf1 mx//129", "has a prefix length"),
            ("v=spf1 all:b.example", "takes no value"),
            ("v=spf1 exists:%{z}.b.example", "has a macro that is not one"),
            ("v=spf1 exists:%b.example", "has a macro that is not one"),
            ("v=spf1 redirect=b.example redirect=c.example", "redirect= is there twice"),
            ("v=spf1 redirect= a", "names no domain"),
            ("v=spf1 -all nonsense", "\"nonsense\" is not a mechanism"),
        ] {
            let said = SpfRecord::parse(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in "\\PC{0,80}") {
            let _ = SpfRecord::parse(&format!("v=spf1 {text}"));
        }
    }
}
