//! Settings of test recipients: addresses of the operator's own domains, each with the hash of its
//! code and an end.
//!
//! Must not show an address or a hash.

use std::time::UNIX_EPOCH;

use super::defaults::Defaults;
use super::reader::{Reader, entries};
use crate::domain::code_hash::HashCost;
use crate::domain::email_address::EmailAddress;
use crate::domain::test_recipients::{MAX_TEST_PERIOD, TestCode, TestRecipient, TestRecipients};
use crate::domain::time::{Millis, millis, utc_date};

/// Maximum number of test recipients of one tenant.
const MAX_RECIPIENTS: usize = 20;
/// The most passes of a hash, if `hash.passes` are not more. It bounds how long a hash thread is
/// busy.
const MAX_PASSES: u32 = 5;

/// Why an entry is refused.
enum EntryFault {
    /// What is wrong with it.
    Entry(String),
    /// Its domain is not in the list.
    Domain(String),
    /// It needs more memory than a hash thread has.
    Memory(u32),
}

/// Reads the test recipients of the tenant whose settings are named `table.…`.
pub(super) fn read(reader: &mut Reader<'_>, table: &str, defaults: &Defaults<'_>) -> Option<TestRecipients> {
    let key = format!("{table}.test_recipients");
    let domains = read_domains(reader, &format!("{table}.test_domains"));
    if !reader.has(&key) {
        return domains.map(|_| TestRecipients::default());
    }
    let list = split(reader.text(&key)?);
    let domains = domains?;
    if list.len() > MAX_RECIPIENTS {
        let what = format!("has {} entries; {MAX_RECIPIENTS} are the most", list.len());
        return reader.refuse(&key, &what);
    }
    let mut recipients: Vec<TestRecipient> = Vec::new();
    for (number, text) in (1..).zip(&list) {
        let parsed =
            entry(text, reader.now()).and_then(|entry| check(entry, &recipients, &domains, defaults));
        match parsed {
            Ok(entry) => recipients.push(entry),
            Err(fault) => return refuse(reader, table, number, &domains, fault),
        }
    }
    Some(recipients.into_iter().collect())
}

fn read_domains(reader: &mut Reader<'_>, key: &str) -> Option<Vec<String>> {
    if !reader.has(key) {
        return Some(Vec::new());
    }
    // A domain is read as that of an address.
    reader.list_of(key, |item| {
        let address = EmailAddress::parse(&format!("a@{item}"));
        let address = address.map_err(|_| "is not a domain, such as review.example.com".to_owned())?;
        Ok(address.domain().to_owned())
    })
}

/// Returns the entries of the list. The commas between the parameters of a hash separate none.
fn split(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for part in entries(text) {
        let is_parameter = ["t=", "p="].iter().any(|name| part.starts_with(name)) && !part.contains(' ');
        match all.last_mut().filter(|_| is_parameter) {
            Some(entry) => entry.extend([",", part]),
            None => all.push(part.to_owned()),
        }
    }
    all
}

/// Parses one `ADDRESS DATE HASH`.
fn entry(text: &str, now: Millis) -> Result<TestRecipient, EntryFault> {
    let wrong = |what: &str| EntryFault::Entry(what.to_owned());
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [address, end, hash] = fields[..] else {
        return Err(wrong("is not ADDRESS DATE HASH, as `otpd keygen test-code` prints it"));
    };
    let address =
        EmailAddress::parse(address).map_err(|_| wrong("has an address that is not one to send to"))?;
    let expires_at = moment(end).ok_or_else(|| {
        wrong(
            "has an end that is neither a date nor a time in UTC, such as 2027-01-31 or 2027-01-31T12:00:00Z",
        )
    })?;
    let latest = now + millis(MAX_TEST_PERIOD);
    if expires_at > latest {
        let days = MAX_TEST_PERIOD.as_secs() / (24 * 60 * 60);
        return Err(EntryFault::Entry(format!(
            "ends in more than {days} days: today {} is the latest date",
            utc_date(latest)
        )));
    }
    let code = TestCode::parse(hash).ok_or_else(|| {
        wrong(
            "has a hash that is not $argon2id$v=19$m=…,t=…,p=1$… with 8 KiB to 2 GiB of memory, 16 bytes of salt and 32 of digest, as `otpd keygen \
             test-code` prints it; a shell and Compose replace a $ unless it is in single quotes, or written $$",
        )
    })?;
    Ok(TestRecipient { address, code, expires_at })
}

/// Checks an entry against the others and the settings of the deployment.
fn check(
    entry: TestRecipient,
    before: &[TestRecipient],
    domains: &[String],
    defaults: &Defaults<'_>,
) -> Result<TestRecipient, EntryFault> {
    let wrong = |what: &str| Err(EntryFault::Entry(what.to_owned()));
    let cost = entry.code.cost();
    let most_passes = defaults.hash.map_or(MAX_PASSES, |hash| hash.cost.passes().max(MAX_PASSES));
    if !domains.iter().any(|domain| domain == entry.address.domain()) {
        return Err(EntryFault::Domain(entry.address.domain().to_owned()));
    }
    if before.iter().any(|other| other.address == entry.address) {
        return wrong("has the address of another: keep one of the two");
    }
    if !cost.meets_owasp() && !defaults.dangerous.weak_hash {
        return wrong("has a hash weaker than each of OWASP's argon2id sets, such as m=7168,t=5");
    }
    if cost.passes() > most_passes {
        return Err(EntryFault::Entry(format!("has a hash with more than {most_passes} passes (t)")));
    }
    if defaults.hash.is_some_and(|hash| exceeds(cost, hash.cost)) {
        return Err(EntryFault::Memory(cost.memory_kib()));
    }
    Ok(entry)
}

fn exceeds(cost: HashCost, of_deployment: HashCost) -> bool {
    cost.memory_kib() > of_deployment.memory_kib()
}

fn refuse<T>(
    reader: &mut Reader<'_>,
    table: &str,
    number: usize,
    domains: &[String],
    fault: EntryFault,
) -> Option<T> {
    let key = format!("{table}.test_recipients");
    match fault {
        EntryFault::Entry(what) => reader.refuse(&key, &format!("entry {number} {what}")),
        EntryFault::Domain(domain) => {
            let what = format!(
                "entry {number} is at a domain that is not in test_domains: anybody who knows the code can confirm the \
                 address, so list only domains of your own"
            );
            let all = [domains, &[domain]].concat().join(",");
            let line = reader.line(&format!("{table}.test_domains"), &all);
            reader.refuse_for(&key, &what, &line)
        }
        EntryFault::Memory(memory_kib) => {
            let what = format!(
                "entry {number} has a hash that needs more memory than OTP_HASH__MEMORY_KIB: raise it, or let `otpd keygen \
                 test-code` make another hash"
            );
            let line = reader.line("hash.memory_kib", &memory_kib.to_string());
            reader.refuse_for(&key, &what, &line)
        }
    }
}

/// Parses a date, which is its beginning in UTC, or a time in UTC (RFC 3339).
fn moment(text: &str) -> Option<Millis> {
    let time = if text.contains('T') { text.to_owned() } else { format!("{text}T00:00:00Z") };
    let time = humantime::parse_rfc3339(&time).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(millis)
}

#[cfg(test)]
mod tests {
    use crate::config::{self, Common, Faults, Loaded, Sources, Texts};
    use crate::domain::time::Millis;

    /// 2027-01-01, 12:00 UTC.
    const NOW: Millis = 1_798_804_800_000;
    const HASH: &str =
        "$argon2id$v=19$m=7168,t=5,p=1$c2l4dGVlbiBieXRlcyBvZg$4dCsVFf5MTY/ilgpuZnAH4fPbSvZL3ed7n9fv3bAm1o";
    const KEY: &str = "a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn read(config: &str, variables: &[(&str, &str)]) -> Result<Common, Faults> {
        let config = Some(("otpd.toml".into(), config.to_owned()));
        let texts = Texts { config, now: NOW, ..Texts::only(variables) };
        let sources = Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into()))?;
        config::dev(&sources).map(|Loaded { settings, .. }| settings)
    }

    /// Reads the test recipients of a tenant of the file.
    fn of_file(domains: &str, recipients: &[String], variables: &[(&str, &str)]) -> Result<Common, Faults> {
        let config = format!(
            "[[tenants]]\nname = \"shop\"\nkeys = \"{KEY}\"\ntest_domains = \"{domains}\"\ntest_recipients = {recipients:?}\n"
        );
        read(&config, variables)
    }

    fn taken(common: &Common) -> Vec<(String, Millis)> {
        let all = common.tenants[0].test_recipients.iter();
        all.map(|one| (one.address.as_str().to_owned(), one.expires_at)).collect()
    }

    /// Returns the fault of settings that have exactly one.
    fn refused(outcome: Result<Common, Faults>) -> String {
        let faults = outcome.unwrap_err();
        assert_eq!(faults.iter().count(), 1, "{faults}");
        let said = faults.to_string();
        assert!(!said.contains("reviewer") && !said.contains("c2l4dGVlbiBieXRlcyBvZg"), "{said}");
        said
    }

    #[test]
    fn a_list_of_the_file_and_one_of_the_environment_are_read_alike() {
        let entries = [
            format!("reviewer@Review.example.com 2027-04-01 {HASH}"),
            format!("t=1@b.example  2027-03-31T23:59:59Z  {HASH}"),
            format!("past@b.example 2020-02-29 {HASH}"),
        ];
        let expected = [
            ("reviewer@review.example.com".to_owned(), 1_806_537_600_000),
            ("t=1@b.example".to_owned(), 1_806_537_599_000),
            ("past@b.example".to_owned(), 1_582_934_400_000),
        ];
        let common = of_file("review.example.com, B.example", &entries, &[]).unwrap();
        assert_eq!(taken(&common), expected);
        let joined = entries.join(", ") + ",";
        let variables = [
            ("OTP_TENANT__KEYS", KEY),
            ("OTP_TENANT__TEST_DOMAINS", "review.example.com,b.example"),
            ("OTP_TENANT__TEST_RECIPIENTS", &joined),
        ];
        assert_eq!(taken(&read("", &variables).unwrap()), expected);
        assert!(taken(&read("", &variables[..2]).unwrap()).is_empty());
    }

    #[test]
    fn what_is_wrong_with_an_entry_is_named_by_its_number() {
        let entry = |text: &str| refused(of_file("review.example.com", &[good("a"), text.to_owned()], &[]));
        let with = |from: &str, to: &str| entry(&good("reviewer").replacen(from, to, 1));
        for (said, what) in [
            (entry("reviewer"), "entry 2 is not ADDRESS DATE HASH"),
            (with("@", ""), "entry 2 has an address that is not"),
            (with("2027-02-01", "2027-02-29"), "entry 2 has an end that is neither"),
            (with("2027-02-01", "01.02.2027"), "entry 2 has an end that is neither"),
            (with("2027-02-01", "2027-02-01T00:00:00+01:00"), "entry 2 has an end that is neither"),
            (
                with("2027-02-01", "2027-04-02"),
                "entry 2 ends in more than 90 days: today 2027-04-01 is the latest",
            ),
            (with("2027-02-01", "2027-04-01T12:00:01Z"), "entry 2 ends in more than 90 days"),
            (with("argon2id", "argon2i"), "entry 2 has a hash that is not $argon2id$"),
            (with(HASH, "424242"), "entry 2 has a hash that is not $argon2id$"),
            (with("m=7168,", ""), "entry 2 has a hash that is not $argon2id$"),
            (with("t=5", "t=4"), "entry 2 has a hash weaker than each of OWASP's"),
            (with("t=5", "t=6"), "entry 2 has a hash with more than 5 passes"),
            (with("reviewer", "a"), "entry 2 has the address of another"),
        ] {
            let start = format!("- tenants.1.test_recipients: {what}");
            assert!(said.starts_with(&start), "{said}\nis not\n{start}");
            let line = "\n    test_recipients = \"<ADDRESS DATE HASH, from: otpd keygen test-code ADDRESS>\"";
            assert!(said.contains(line), "{said}");
        }
        let latest = good("reviewer").replacen("2027-02-01", "2027-04-01T12:00:00Z", 1);
        of_file("review.example.com", &[latest], &[]).unwrap();
        let many: Vec<_> = (1..=21).map(|number| good(&format!("reviewer{number}"))).collect();
        assert!(
            refused(of_file("review.example.com", &many, &[])).contains("has 21 entries; 20 are the most")
        );
        of_file("review.example.com", &many[1..], &[]).unwrap();
    }

    fn good(local: &str) -> String {
        format!("{local}@review.example.com 2027-02-01 {HASH}")
    }

    #[test]
    fn an_address_is_at_a_listed_domain_and_at_no_other() {
        for domains in ["", "example.com", "a.review.example.com", "eview.example.com"] {
            let said = refused(of_file(domains, &[good("reviewer")], &[]));
            assert!(said.contains("entry 1 is at a domain that is not in test_domains"), "{said}");
            let comma = if domains.is_empty() { "" } else { "," };
            let line = format!("\n    test_domains = \"{domains}{comma}review.example.com\"");
            assert!(said.contains(&line), "{said}");
        }
        for domain in ["*.example.com", "example", "a@example.com", "@", "a b.example"] {
            let said = refused(of_file(domain, &[], &[]));
            assert!(said.starts_with("- tenants.1.test_domains: entry 1: is not a domain"), "{said}");
        }
    }

    #[test]
    fn a_hash_needs_no_more_memory_than_the_threads_have() {
        let large = good("reviewer").replacen("m=7168", "m=9216", 1);
        let said = refused(of_file("review.example.com", std::slice::from_ref(&large), &[]));
        assert!(
            said.contains("entry 1 has a hash that needs more memory than OTP_HASH__MEMORY_KIB"),
            "{said}"
        );
        assert!(said.ends_with("\n    OTP_HASH__MEMORY_KIB=9216"), "{said}");
        of_file("review.example.com", &[large], &[("OTP_HASH__MEMORY_KIB", "9216")]).unwrap();
        let weak = good("reviewer").replacen("t=5", "t=1", 1);
        of_file("review.example.com", &[weak], &[("OTP_DANGEROUS__WEAK_HASH", "true")]).unwrap();
        let more = good("reviewer").replacen("t=5", "t=6", 1);
        of_file("review.example.com", &[more], &[("OTP_HASH__PASSES", "6")]).unwrap();
    }

    #[test]
    fn the_effective_settings_do_not_show_them() {
        let variables = [("OTP_TENANT__TEST_RECIPIENTS", good("reviewer"))];
        let config = format!("[[tenants]]\nname = \"shop\"\ntest_recipients = [\"{}\"]\n", good("reviewer"));
        let config = Some(("otpd.toml".into(), config));
        let variables = variables.map(|(name, value)| (name.to_owned(), value.into()));
        let texts = Texts { config, environment: variables.into(), now: NOW, ..Texts::default() };
        let sources = Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
        let shown = sources.effective(false, None);
        assert!(!shown.contains("reviewer") && !shown.contains("argon2id"), "{shown}");
        assert_eq!(shown.matches("********").count(), 2, "{shown}");
    }
}
