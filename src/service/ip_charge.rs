//! Charges the client's IP before anything else is done: step 2 of a send and of an attempt.
//!
//! A client without an IP address (an API request that names none) is charged nothing here, and
//! neither is a client of an exempt network. An exempt client still counts towards its client
//! prefix's share of each recipient, because that share protects the recipient.

use std::net::IpAddr;

use super::error::{ServiceError, log};
use super::{Dependencies, Limited, WithLimitState};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Action;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::EntryId;
use crate::ports::ChargeOutcome;

/// What was charged, if anything.
pub(super) struct IpCharge {
    /// The client prefix whose share of a recipient's ledgers it uses.
    client_prefix: Option<KeyedHash>,
    entry: Option<Entry>,
}

struct Entry {
    ledger: LedgerKey,
    id: EntryId,
    limit_state: LimitState,
}

/// Step 2: charges the client's IP for the action at the tenant, then runs the other steps. Reports
/// the limit state of the limit that was exceeded, else that of the IP.
pub(super) async fn with_ip_charge<T, E: Limited>(
    deps: &Dependencies,
    profile: &TenantProfile,
    action: Action,
    client: Option<IpAddr>,
    other_steps: impl AsyncFnOnce(&IpCharge) -> Result<T, E>,
) -> WithLimitState<Result<T, E>> {
    let (outcome, charged) = match IpCharge::charge(deps, profile, action, client).await {
        Ok(ip_charge) => (other_steps(&ip_charge).await, ip_charge.limit_state()),
        Err(error) => (Err(error), None),
    };
    let limit_state = outcome.as_ref().err().and_then(Limited::limited).or(charged);
    WithLimitState { outcome, limit_state }
}

impl IpCharge {
    /// Charges the client's IP for a send or an attempt at the profile's tenant.
    async fn charge<E: Limited>(
        deps: &Dependencies,
        profile: &TenantProfile,
        action: Action,
        client: Option<IpAddr>,
    ) -> Result<Self, E> {
        let Some(client) = client else { return Ok(Self { client_prefix: None, entry: None }) };
        let network = deps.secrets.index_key.network(client);
        let client_prefix = Some(network.prefix48);
        if deps.exempt.contains(client) {
            return Ok(Self { client_prefix, entry: None });
        }
        let charge = profile.limits.ip_charge(action, &profile.tenant, &network);
        match deps.store.charge(&charge).await.map_err(ServiceError::from)? {
            ChargeOutcome::Admitted { entry: id, limit_state } => {
                Ok(Self { client_prefix, entry: Some(Entry { ledger: charge.ledger, id, limit_state }) })
            }
            ChargeOutcome::Refused(limit_state) => Err(E::exceeded(limit_state)),
        }
    }

    /// Returns the client prefix that the request came from: the IPv4 address or the IPv6 /48.
    pub(super) fn client_prefix(&self) -> Option<KeyedHash> {
        self.client_prefix
    }

    /// Returns the limit state of the IP, if it was charged.
    fn limit_state(&self) -> Option<LimitState> {
        self.entry.as_ref().map(|entry| entry.limit_state)
    }

    /// Returns the limit state with the longer wait: the IP's, or that of a limit that was exceeded
    /// later. A request that waits this long passes both limits.
    pub(super) fn or_longer_wait(&self, refusing: LimitState) -> LimitState {
        self.limit_state().filter(|charged| charged.wait >= refusing.wait).unwrap_or(refusing)
    }

    /// Refunds the charge. If that fails, the charge stays.
    pub(super) async fn refund(&self, deps: &Dependencies) {
        if let Some(entry) = &self.entry
            && let Err(error) = deps.store.refund(&entry.ledger, entry.id).await
        {
            log(&error, "an IP was not refunded");
        }
    }
}
