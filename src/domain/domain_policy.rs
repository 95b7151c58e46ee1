//! The lists of domains that the operator allows or blocks.
//!
//! Must not judge how a domain is used: it is on a list or it is not.

use std::collections::HashSet;

use thiserror::Error;

use super::email_address::{EmailAddress, canonical_domain};

/// The domains that codes are sent to.
#[derive(Debug, Default)]
pub struct DomainPolicy {
    /// If there is a list, only these domains.
    pub allowed: Option<DomainList>,
    /// Never these domains.
    pub blocked: DomainList,
}

/// A list of domains.
#[derive(Debug, Default)]
pub struct DomainList {
    themselves: HashSet<Box<str>>,
    all_below: HashSet<Box<str>>,
}

/// A line is not a domain or a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("line {0} is neither a domain, such as example.com, nor all below one, such as *.example.com")]
pub struct InvalidLine(pub usize);

impl DomainPolicy {
    /// Returns whether codes may be sent to the address.
    #[must_use]
    pub fn allows(&self, address: &EmailAddress) -> bool {
        let domain = address.domain();
        let is_allowed = self.allowed.as_ref().is_none_or(|domains| domains.contain(domain));
        is_allowed && !self.blocked.contain(domain)
    }
}

impl DomainList {
    /// Parses a list with one domain a line. `*.example.com` covers all domains below example.com.
    /// `#` begins a comment.
    ///
    /// # Errors
    /// Returns [`InvalidLine`] with the number of the first invalid line.
    pub fn parse(text: &str) -> Result<Self, InvalidLine> {
        let mut domains = Self::default();
        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
            let pattern = line.split_once('#').map_or(line, |(before, _)| before).trim();
            if pattern.is_empty() {
                continue;
            }
            let taken = match pattern.strip_prefix("*.") {
                Some(parent) => below(parent).map(|parent| domains.all_below.insert(parent.into())),
                None => canonical_domain(pattern).map(|domain| domains.themselves.insert(domain.into())),
            };
            taken.ok_or(InvalidLine(number))?;
        }
        Ok(domains)
    }

    /// Returns the number of distinct entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.themselves.len() + self.all_below.len()
    }

    /// Returns whether the list is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the list has a domain, given in its canonical form.
    fn contain(&self, domain: &str) -> bool {
        let mut parents = std::iter::successors(Some(domain), |name| Some(name.split_once('.')?.1)).skip(1);
        self.themselves.contains(domain) || parents.any(|parent| self.all_below.contains(parent))
    }
}

/// Returns the canonical form of the parent in `*.parent`: a domain, or a top-level domain alone.
fn below(parent: &str) -> Option<String> {
    let (_, parent) =
        canonical_domain(&format!("a.{parent}"))?.split_once('.').map(|(a, b)| (a, b.to_owned()))?;
    Some(parent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn domains(text: &str) -> DomainList {
        DomainList::parse(text).unwrap()
    }

    fn address(domain: &str) -> EmailAddress {
        EmailAddress::parse(&format!("a@{domain}")).unwrap()
    }

    #[test]
    fn without_lists_all_are_mailed_to() {
        assert!(DomainPolicy::default().allows(&address("example.com")));
    }

    #[test]
    fn a_domain_stands_for_itself_and_a_star_for_all_below() {
        let list = "# disposable\n\nExample.com  # ours\r\n*.example.org\n*.BÜCHER.example\n*.zip\n";
        let blocked = DomainPolicy { blocked: domains(list), allowed: None };
        for domain in ["example.com", "a.example.org", "a.b.example.org", "a.xn--bcher-kva.example", "a.zip"]
        {
            assert!(!blocked.allows(&address(domain)), "{domain}");
        }
        for domain in
            ["a.example.com", "example.org", "badexample.org", "example.co", "xn--bcher-kva.example"]
        {
            assert!(blocked.allows(&address(domain)), "{domain}");
        }
        assert_eq!(domains(list).len(), 4);
    }

    #[test]
    fn what_is_blocked_is_not_mailed_to_though_it_is_allowed() {
        let allowed = Some(domains("*.example.com"));
        let recipients = DomainPolicy { allowed, blocked: domains("bad.example.com") };
        assert!(recipients.allows(&address("good.example.com")));
        assert!(!recipients.allows(&address("bad.example.com")));
        assert!(!recipients.allows(&address("example.org")));
        let nobody = DomainPolicy { allowed: Some(domains("# none yet")), ..DomainPolicy::default() };
        assert!(!nobody.allows(&address("example.com")), "an empty list allows nobody");
    }

    #[test]
    fn a_line_that_is_no_domain_is_named() {
        for line in
            ["localhost", "*", "*.", "a b.example", "@example.com", "a@example.com", "*example.com", "a.*"]
        {
            assert_eq!(
                DomainList::parse(&format!("example.com\n{line}")).unwrap_err(),
                InvalidLine(2),
                "{line}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_list_or_names_a_line(text in "\\PC{0,40}(\n\\PC{0,20}){0,3}") {
            if let Err(InvalidLine(number)) = DomainList::parse(&text) {
                prop_assert!((1..=text.lines().count()).contains(&number));
            }
        }
    }
}
