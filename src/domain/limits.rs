//! The limits of a tenant: which policies apply, and with which windows.

use std::num::NonZeroU32;
use std::time::Duration;

use super::ledger::{LimitRule, PARTITION_BYTES, TENANT_BYTES};
use super::limit::{Limit, Policy};

/// The limit of a /48, as a multiple of that of a /64.
pub const PREFIX48_FACTOR: u32 = 5;

/// The limit of an IP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpLimit {
    /// For an IPv4 address or an IPv6 /64.
    pub prefix64: Limit,
    /// For an IPv6 /48.
    pub prefix48: Limit,
}

/// The limits of sends to one email address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendLimits {
    /// For one tenant.
    pub email: Limit,
    /// For one tenant, from one IPv4 address or IPv6 /48.
    pub ip_email: Limit,
    /// For all tenants.
    pub email_total: Limit,
    /// How long entries are stored. Tenants share the log, and some may have longer windows than
    /// others.
    pub retention: Duration,
}

/// All limits that the store enforces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sends of an IP.
    pub ip_sends: IpLimit,
    /// Attempts of an IP.
    pub ip_attempts: IpLimit,
    /// Sends to an email address.
    pub sends: SendLimits,
    /// Attempts of one client prefix at a recipient.
    pub ip_email_attempts: Limit,
    /// Emails that the relay accepts.
    pub relay_mails: RelayMails,
}

/// How many emails the relay accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayMails {
    /// No limit.
    Unlimited,
    /// A daily limit.
    PerDay(NonZeroU32),
}

impl IpLimit {
    /// Creates the limit of an IP, and from it that of a /48.
    #[must_use]
    pub fn new(network: Limit) -> Self {
        let prefix48 = network.times(PREFIX48_FACTOR);
        Self { prefix64: network, prefix48 }
    }

    /// Returns the longest time that an entry counts in one of them.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.prefix64.longest().max(self.prefix48.longest())
    }
}

impl SendLimits {
    /// Returns the limits of one tenant alone.
    #[must_use]
    pub fn new(email: Limit, ip_email: Limit, email_total: Limit) -> Self {
        let retention = email.longest().max(ip_email.longest()).max(email_total.longest());
        Self { email, ip_email, email_total, retention }
    }

    /// Returns the rules over the log of sends to one email address, in the order in which clients
    /// see them. The rule for one client prefix's share applies only if the client is known.
    #[must_use]
    pub fn rules(&self, has_client: bool) -> Vec<LimitRule<'_>> {
        let rule = |policy, limit, partition_bytes| LimitRule { policy, limit, partition_bytes };
        let email = rule(Policy::EmailSends, &self.email, TENANT_BYTES);
        let ip_email = rule(Policy::IpEmailSends, &self.ip_email, PARTITION_BYTES);
        let email_total = rule(Policy::EmailSendsTotal, &self.email_total, 0);
        if has_client { vec![email, ip_email, email_total] } else { vec![email, email_total] }
    }
}
