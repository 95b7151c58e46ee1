//! The limits of a tenant, and which ledger each action is charged to under which of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::keyed_hash::KeyedHash;
use super::ledger::{LimitRule, PARTITION_BYTES, Partition};
use super::ledger_key::{ATTEMPTS, LedgerKey, SANDBOX_SENDS, SENDS, email_hash_tag};
use super::limit::{Limit, Policy};
use super::store_key::{ClientNetwork, Recipient};
use super::tenant::Tenant;

/// The limit of an IPv6 /48, as a multiple of that of a /64.
pub const PREFIX48_FACTOR: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// In the ledger of sends to an email address, the bytes of a partition that stand for the tenant.
/// The others stand for the client prefix.
const TENANT_BYTES: usize = PARTITION_BYTES / 2;

/// All limits that the store enforces, by policy. A policy that is missing is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    by_policy: BTreeMap<Policy, Limit>,
    sends_retention: Duration,
}

/// What an IP is charged for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Sending an email.
    Send,
    /// Submitting a code.
    Attempt,
}

/// One entry to make in a ledger, and the rules that must have room for it.
#[derive(Debug, Clone)]
pub struct Charge<'a> {
    /// The ledger.
    pub ledger: LedgerKey,
    /// The partition of the entry.
    pub partition: Partition,
    /// A ledger of the entries of this partition alone, where a partition may have so many that a
    /// store must not search the ledger for them.
    pub of_partition: Option<LedgerKey>,
    /// At most three rules, in the order in which clients see them. One of them must count all
    /// entries, so that the size of the ledger is bounded.
    pub rules: [Option<LimitRule<'a>>; 3],
    /// How long entries are stored: at least as long as any of the rules counts them.
    pub retention: Duration,
}

impl Charge<'_> {
    /// Returns the charge with room for any number of entries, for what has happened already.
    #[must_use]
    pub fn of_what_happened(mut self) -> Self {
        self.rules.iter_mut().flatten().for_each(|rule| rule.factor = NonZeroU32::MAX);
        self
    }

    /// Returns whether a rule has no window. Such a charge must fail, because a policy that must
    /// have a limit has none.
    #[must_use]
    pub fn has_rule_without_window(&self) -> bool {
        self.rules.iter().flatten().any(|rule| rule.limit.is_unlimited())
    }
}

impl FromIterator<(Policy, Limit)> for Limits {
    fn from_iter<I: IntoIterator<Item = (Policy, Limit)>>(limits: I) -> Self {
        let by_policy = limits.into_iter().collect();
        let mut limits = Self { by_policy, sends_retention: Duration::ZERO };
        let of_sends = [Policy::EmailSends, Policy::IpEmailSends, Policy::EmailSendsTotal];
        let longest = of_sends.map(|policy| limits.of(policy).longest()).into_iter().max();
        limits.sends_retention = longest.unwrap_or_default();
        limits
    }
}

impl Limits {
    /// Returns the limit of a policy.
    #[must_use]
    pub fn of(&self, policy: Policy) -> &Limit {
        self.by_policy.get(&policy).unwrap_or(const { &Limit::UNLIMITED })
    }

    /// Returns how long sends to an email address are stored. All tenants share that ledger, and
    /// some may have longer windows than others.
    #[must_use]
    pub fn sends_retention(&self) -> Duration {
        self.sends_retention
    }

    /// Sets how long sends to an email address are stored.
    pub fn set_sends_retention(&mut self, retention: Duration) {
        self.sends_retention = retention;
    }

    /// Returns the charge of an IP for a send or an attempt at the tenant. The ledger is that of
    /// the IPv4 address, or of the IPv6 /48 with the /64 as the partition.
    #[must_use]
    pub fn ip_charge(&self, action: Action, tenant: &Tenant, network: &ClientNetwork) -> Charge<'_> {
        let (policy, name) = match action {
            Action::Send => (Policy::IpSends, "sends"),
            Action::Attempt => (Policy::IpAttempts, "attempts"),
        };
        let hash_tag = format_args!("n:{}", network.prefix48);
        let suffix = format_args!("{}:{name}", tenant.namespace());
        let Some(prefix64) = network.prefix64 else {
            return self.unpartitioned(LedgerKey::new(hash_tag, suffix), policy);
        };
        let rule = self.rule(policy, 0);
        let of_prefix64 = LimitRule { partition_bytes: PARTITION_BYTES, ..rule };
        let of_prefix48 = LimitRule { factor: PREFIX48_FACTOR, ..rule };
        Charge {
            of_partition: Some(LedgerKey::new(hash_tag, format_args!("{suffix}:64:{prefix64}"))),
            // Without the number it was a ledger with partitions in it.
            ledger: LedgerKey::new(hash_tag, format_args!("{suffix}:48")),
            partition: partition(*prefix64.as_bytes()),
            rules: [Some(of_prefix64), Some(of_prefix48), None],
            retention: rule.limit.longest(),
        }
    }

    /// Returns the charges of an IP for a send and for an attempt at the tenant.
    #[must_use]
    pub fn ip_charges(&self, tenant: &Tenant, network: &ClientNetwork) -> Vec<Charge<'_>> {
        [Action::Send, Action::Attempt].map(|action| self.ip_charge(action, tenant, network)).into()
    }

    /// Returns the charge of a send to the recipient: the tenant's sends to the email address, the
    /// client prefix's share of them if the client is known, and the sends of all tenants. Those of
    /// sandboxes are in another ledger, so that tests use up nothing that people need.
    #[must_use]
    pub fn send_charge(&self, recipient: &Recipient, client: Option<&KeyedHash>) -> Charge<'_> {
        let ip_email = client.map(|_| self.rule(Policy::IpEmailSends, PARTITION_BYTES));
        let email = Some(self.rule(Policy::EmailSends, TENANT_BYTES));
        let rules = [email, ip_email, Some(self.rule(Policy::EmailSendsTotal, 0))];
        let namespace = recipient.tenant.namespace();
        let tenant = Sha256::digest(namespace.as_bytes()).into_iter().take(TENANT_BYTES);
        let suffix = if recipient.tenant.is_sandbox() { SANDBOX_SENDS } else { SENDS };
        let client = client.into_iter().flat_map(|client| *client.as_bytes());
        Charge {
            ledger: LedgerKey::partitioned(email_hash_tag(&recipient.email), suffix),
            partition: partition(tenant.chain(client)),
            of_partition: None,
            rules,
            retention: self.sends_retention,
        }
    }

    /// Returns the charge of a client prefix for an attempt at a recipient.
    #[must_use]
    pub fn ip_email_attempt_charge(&self, recipient: &Recipient, client: &KeyedHash) -> Charge<'_> {
        let suffix = format_args!("{}{ATTEMPTS}{client}", recipient.tenant.namespace());
        self.attempts_of(LedgerKey::new(email_hash_tag(&recipient.email), suffix))
    }

    /// Returns the charge of an attempt in a ledger that counts attempts at an email address.
    #[must_use]
    pub fn attempts_of(&self, ledger: LedgerKey) -> Charge<'_> {
        self.unpartitioned(ledger, Policy::IpEmailAttempts)
    }

    /// Returns the charge of an email that is handed to the relay, if such emails are limited.
    #[must_use]
    pub fn relay_email_charge(&self) -> Option<Charge<'_>> {
        if self.of(Policy::RelayEmails).is_unlimited() {
            return None;
        }
        let ledger = LedgerKey::new("relay", "emails");
        Some(self.unpartitioned(ledger, Policy::RelayEmails))
    }

    fn unpartitioned(&self, ledger: LedgerKey, policy: Policy) -> Charge<'_> {
        let rule = self.rule(policy, 0);
        let retention = rule.limit.longest();
        let rules = [Some(rule), None, None];
        Charge { ledger, partition: Partition::default(), of_partition: None, rules, retention }
    }

    fn rule(&self, policy: Policy, partition_bytes: usize) -> LimitRule<'_> {
        LimitRule { policy, limit: self.of(policy), factor: NonZeroU32::MIN, partition_bytes }
    }
}

/// Returns the partition with these first bytes.
fn partition(bytes: impl IntoIterator<Item = u8>) -> Partition {
    let mut partition = Partition::default();
    partition.0.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    partition
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::keyed_hash::{INDEX_KEY_BYTES, IndexKey};

    fn limits() -> Limits {
        Policy::ALL.map(|policy| (policy, "1/1h".parse().unwrap())).into_iter().collect()
    }

    fn client(ip: &str) -> ClientNetwork {
        IndexKey::new([1; INDEX_KEY_BYTES]).network(ip.parse().unwrap())
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::parse(name).unwrap()
    }

    #[test]
    fn the_partition_of_a_send_tells_tenants_and_client_prefixes_apart() {
        let email = client("192.0.2.1").prefix48;
        let limits = limits();
        let partition = |name, ip| {
            let recipient = Recipient { email, tenant: tenant(name) };
            limits.send_charge(&recipient, Some(&client(ip).prefix48)).partition.0
        };
        let own = partition("a", "192.0.2.1");
        let other_client = partition("a", "192.0.2.2");
        let other_tenant = partition("b", "192.0.2.1");
        assert_eq!(own[..TENANT_BYTES], other_client[..TENANT_BYTES]);
        assert_ne!(own[TENANT_BYTES..], other_client[TENANT_BYTES..]);
        assert_ne!(own[..TENANT_BYTES], other_tenant[..TENANT_BYTES]);
        assert_eq!(own[TENANT_BYTES..], other_tenant[TENANT_BYTES..]);
    }

    #[test]
    fn a_sandbox_has_ledgers_apart_from_its_tenants_and_from_those_of_all_tenants() {
        let limits = limits();
        let network = client("2001:db8::1");
        let email = client("192.0.2.1").prefix48;
        let charges = |tenant: Tenant| {
            let recipient = Recipient { email, tenant: tenant.clone() };
            let of_ip = limits.ip_charges(&tenant, &network).into_iter();
            let charges = of_ip.chain([limits.send_charge(&recipient, None)]);
            charges
                .flat_map(|charge| [Some(charge.ledger), charge.of_partition])
                .flatten()
                .collect::<Vec<_>>()
        };
        let own = charges(tenant("a"));
        let of_sandbox = charges(tenant("a").sandbox());
        assert!(own.iter().all(|ledger| !of_sandbox.contains(ledger)), "{own:?} {of_sandbox:?}");
        let sends = LedgerKey::of_email(&email, SANDBOX_SENDS).unwrap();
        assert!(of_sandbox.contains(&sends), "it can be emptied with those of the address");
    }

    #[test]
    fn the_64s_of_a_48_are_partitions_of_one_ledger() {
        let limits = limits();
        let charge = |ip| limits.ip_charge(Action::Send, &tenant("a"), &client(ip));
        let one = charge("2001:db8:1:1::1");
        let other = charge("2001:db8:1:2::1");
        assert_eq!(one.ledger, other.ledger);
        assert_ne!((one.partition, &one.of_partition), (other.partition, &other.of_partition));
        let same = charge("2001:db8:1:1::2");
        assert_eq!((one.partition, &one.of_partition), (same.partition, &same.of_partition));
        assert_ne!(one.ledger, charge("2001:db8:2:1::1").ledger);
    }

    #[test]
    fn every_ledger_has_a_rule_that_bounds_its_size() {
        let limits = limits();
        let recipient = Recipient { email: client("192.0.2.1").prefix48, tenant: tenant("a") };
        let network = client("2001:db8::1");
        let charges = [
            limits.ip_charge(Action::Send, &tenant("a"), &network),
            limits.ip_charge(Action::Attempt, &tenant("a"), &client("192.0.2.1")),
            limits.send_charge(&recipient, None),
            limits.send_charge(&recipient, Some(&network.prefix48)),
            limits.ip_email_attempt_charge(&recipient, &network.prefix48),
            limits.relay_email_charge().unwrap(),
        ];
        for charge in charges {
            assert!(charge.rules.iter().flatten().any(|rule| rule.partition_bytes == 0), "{charge:?}");
        }
    }

    #[test]
    fn a_policy_without_a_limit_is_unlimited() {
        let limits = Limits::from_iter([]);
        assert!(limits.of(Policy::RelayEmails).is_unlimited());
        assert!(limits.relay_email_charge().is_none());
    }
}
