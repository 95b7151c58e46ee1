//! What an operator may see of one email address, and do for it.
//!
//! Must not show a code, and must not change a verification.

use std::net::IpAddr;

use crate::domain::email_address::EmailAddress;
use crate::domain::keyed_hash::{IndexKey, KeyedHash};
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limit::Policy;
use crate::domain::limits::{Action, Charge, Limits};
use crate::domain::tenant::Tenant;
use crate::domain::verification::{VerificationRules, View};
use crate::ports::{LedgerAdmin, Store, StoreError};

/// The address that an operator asks about, and the IP address of its user if it is known.
pub struct Subject<'a> {
    /// The email address.
    pub address: &'a EmailAddress,
    /// The IP address.
    pub client: Option<IpAddr>,
}

/// Each tenant with its limits, the simple endpoints first.
pub type TenantLimits<'a> = [(Tenant, &'a Limits)];

/// What an operator sees.
pub struct Inspection {
    /// What stands for the address in logs and in the store.
    pub email: KeyedHash,
    /// The verification of the simple endpoints, while its code has not expired.
    pub verification: Option<View>,
    /// The limits of each tenant, by policy.
    pub limits: Vec<(Tenant, LimitState)>,
    /// The number of client prefixes whose attempts at the address are stored.
    pub attempting_prefixes: usize,
}

/// Returns what the store has about an address.
///
/// # Errors
/// Returns the error of the store.
pub async fn inspect(
    store: &(impl Store + LedgerAdmin),
    index_key: &IndexKey,
    rules: &VerificationRules,
    tenants: &TenantLimits<'_>,
    subject: &Subject<'_>,
) -> Result<Inspection, StoreError> {
    let recipient = index_key.recipient(Tenant::Simple, subject.address);
    let email = recipient.email;
    let store_key = index_key.email_key(recipient, subject.address);
    let mut limits = Vec::new();
    for (tenant, of_tenant) in tenants {
        for charge in charges(index_key, tenant, of_tenant, subject) {
            for rule in charge.rules.iter().filter(|rule| is_shown(rule.policy, tenant)) {
                let one = Charge { rules: vec![*rule], ..charge.clone() };
                limits.push((tenant.clone(), store.peek(&one).await?));
            }
        }
    }
    let ledgers = store.ledgers_of(&email).await?;
    let attempting_prefixes = ledgers.iter().filter(|ledger| ledger.counts_attempts()).count();
    let verification = store.find(&store_key, rules).await?;
    Ok(Inspection { email, verification, limits, attempting_prefixes })
}

/// Empties the ledgers of an address at all tenants, and those of the client if it is known.
/// Returns the hash of the address and the ledgers that had entries.
///
/// # Errors
/// Returns the error of the store. Some ledgers may have been emptied.
pub async fn unblock(
    store: &impl LedgerAdmin,
    index_key: &IndexKey,
    tenants: &TenantLimits<'_>,
    subject: &Subject<'_>,
) -> Result<(KeyedHash, Vec<LedgerKey>), StoreError> {
    let email = index_key.recipient(Tenant::Simple, subject.address).email;
    let mut ledgers = store.ledgers_of(&email).await?;
    for (tenant, limits) in tenants {
        ledgers.extend(
            client_charges(index_key, tenant, limits, subject).into_iter().map(|charge| charge.ledger),
        );
    }
    let mut emptied = Vec::new();
    for ledger in ledgers {
        if store.empty(&ledger).await? {
            emptied.push(ledger);
        }
    }
    Ok((email, emptied))
}

/// Returns what a send and an attempt of the subject would charge at a tenant.
fn charges<'a>(
    index_key: &IndexKey,
    tenant: &Tenant,
    limits: &'a Limits,
    subject: &Subject<'_>,
) -> Vec<Charge<'a>> {
    let recipient = index_key.recipient(tenant.clone(), subject.address);
    let client = subject.client.map(|client| index_key.network(client).prefix48);
    let mut charges = vec![limits.send_charge(&recipient, client.as_ref())];
    if let (Tenant::Simple, Some(client)) = (tenant, client) {
        charges.push(limits.ip_email_attempt_charge(&recipient, &client));
    }
    charges.extend(client_charges(index_key, tenant, limits, subject));
    charges
}

/// Returns what a send and an attempt would charge the client's IP at a tenant.
fn client_charges<'a>(
    index_key: &IndexKey,
    tenant: &Tenant,
    limits: &'a Limits,
    subject: &Subject<'_>,
) -> Vec<Charge<'a>> {
    let network = subject.client.map(|client| index_key.network(client));
    let charge = |action| network.map(|network| limits.ip_charge(action, tenant, &network));
    [Action::Send, Action::Attempt].into_iter().filter_map(charge).collect()
}

/// Returns whether a policy is shown with this tenant. The sends of all tenants are shown once.
fn is_shown(policy: Policy, tenant: &Tenant) -> bool {
    policy != Policy::EmailSendsTotal || *tenant == Tenant::Simple
}
