//! Reports the test recipients of each tenant: how many, at which domains, and when they end.
//!
//! Must not show an address.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::Common;
use crate::domain::test_recipients::{TestRecipient, TestRecipients};
use crate::domain::time::{Millis, millis, utc_date};

/// How long before its end a test recipient is reported.
const SOON: Duration = Duration::from_hours(7 * 24);

/// Returns the lines to print.
pub(super) fn lines(common: &Common, now: SystemTime) -> Vec<String> {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, millis);
    let tenants = common.tenants.iter();
    tenants.flat_map(|tenant| of_tenant(tenant.name.name(), &tenant.test_recipients, now)).collect()
}

fn of_tenant(name: &str, recipients: &TestRecipients, now: Millis) -> Vec<String> {
    let (expired, active): (Vec<_>, Vec<_>) = recipients.iter().partition(|one| one.expires_at <= now);
    let soon = active.iter().filter(|one| one.expires_at <= now + millis(SOON)).count();
    let mut lines = Vec::new();
    if let Some(next) = active.iter().map(|one| one.expires_at).min() {
        lines.push(format!(
            "note  test recipients of tenant {name}: {} at {}; no email is sent to them, and anybody who knows the \
             code can confirm them; the next one ends on {}",
            active.len(),
            domains(&active),
            utc_date(next)
        ));
    }
    if soon > 0 {
        lines.push(format!(
            "note  test recipients of tenant {name} that end within 7 days: {soon}; `otpd keygen test-code` prints \
             an entry with a new end, or remove them"
        ));
    }
    if !expired.is_empty() {
        lines.push(format!(
            "note  test recipients of tenant {name} that have expired: {} at {}; they are addresses as any other: \
             remove them",
            expired.len(),
            domains(&expired)
        ));
    }
    lines
}

fn domains(recipients: &[&TestRecipient]) -> String {
    let domains: BTreeSet<_> = recipients.iter().map(|one| one.address.domain()).collect();
    domains.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code_hash::{CodeId, HashCost, Salt};
    use crate::domain::email_address::EmailAddress;
    use crate::domain::test_recipients::TestCode;

    fn recipients(all: &[(&str, u64)]) -> TestRecipients {
        let code = TestCode::new(HashCost::new(8, 1).unwrap(), Salt::new([0; 16]), CodeId::new([0; 32]));
        let day = millis(Duration::from_hours(24));
        let recipient = |(address, days): &(&str, u64)| TestRecipient {
            address: EmailAddress::parse(address).unwrap(),
            code: code.clone(),
            expires_at: days * day,
        };
        all.iter().map(recipient).collect()
    }

    #[test]
    fn the_lines_have_numbers_domains_and_the_next_end_and_no_address() {
        let day = millis(Duration::from_hours(24));
        let all = [("a@b.example", 100), ("c@d.example", 101), ("e@b.example", 120), ("f@g.example", 50)];
        let lines = of_tenant("shop", &recipients(&all), 50 * day);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("note  test recipients of tenant shop: 3 at b.example, d.example; "));
        assert!(lines[0].ends_with("the next one ends on 1970-04-11"), "{}", lines[0]);
        assert!(lines[1].contains("that have expired: 1 at g.example"), "{}", lines[1]);
        let soon = of_tenant("shop", &recipients(&all), 94 * day);
        assert!(soon[1].contains("that end within 7 days: 2;"), "{soon:?}");
        assert!(!lines.concat().contains('@') && !soon.concat().contains('@'));
        assert_eq!(of_tenant("shop", &TestRecipients::default(), 0), [""; 0]);
    }
}
