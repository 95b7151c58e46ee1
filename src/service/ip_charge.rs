//! Charges the client's IP before anything else is done: step 2 of a send and of an attempt.
//!
//! A client without an IP address (an API request that names none) is charged nothing here, and
//! neither is a client of an exempt network. An exempt client still counts towards its client
//! prefix's share of each recipient, because that share protects the recipient.

use std::net::IpAddr;

use super::decision::Decision;
use super::error::{ServiceError, log};
use super::{Dependencies, UseCaseError, WithLimitState};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::{Action, Charge};
use crate::domain::store_key::ClientNetwork;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::EntryId;
use crate::ports::ChargeOutcome;

/// What was charged, if anything.
pub(super) struct IpCharge {
    /// The client prefix whose share of a recipient's ledgers it uses.
    client_prefix: Option<KeyedHash>,
    entry: Option<Entry>,
}

/// The client of a request.
struct ClientIp {
    network: ClientNetwork,
    is_exempt: bool,
}

struct Entry {
    ledger: LedgerKey,
    of_partition: Option<LedgerKey>,
    id: EntryId,
    limit_state: LimitState,
}

/// Step 2: if step 1 succeeded, charges the client's IP for the action at the tenant, then runs the
/// other steps. Reports the limit state of the limit that was exceeded, else that of the IP, and
/// ends the decision.
pub(super) async fn with_ip_charge<S, T, E: UseCaseError>(
    deps: &Dependencies,
    profile: &TenantProfile,
    decision: &Decision<'_>,
    client: Option<IpAddr>,
    step_1: Result<S, E>,
    other_steps: impl AsyncFnOnce(&IpCharge, S) -> Result<T, E>,
) -> WithLimitState<Result<T, E>> {
    let client = client.map(|address| ClientIp::new(deps, address));
    if let Some(client) = &client {
        decision.set_client(client.network.prefix48);
    }
    let ip_charge = match &step_1 {
        Ok(_) => IpCharge::charge(deps, profile, decision.action, client).await,
        Err(_) => Ok(IpCharge { client_prefix: None, entry: None }),
    };
    let charged = ip_charge.as_ref().ok().and_then(IpCharge::limit_state);
    let outcome = match (step_1, ip_charge) {
        (Ok(of_step_1), Ok(ip_charge)) => other_steps(&ip_charge, of_step_1).await,
        (Err(error), _) | (_, Err(error)) => Err(error),
    };
    decision.end(&outcome);
    let limit_state = outcome.as_ref().err().and_then(UseCaseError::limited).or(charged);
    WithLimitState { outcome, limit_state }
}

impl ClientIp {
    fn new(deps: &Dependencies, address: IpAddr) -> Self {
        Self { network: deps.index_key.network(address), is_exempt: deps.exempt.contains(address) }
    }
}

impl IpCharge {
    /// Charges the client's IP for a send or an attempt at the profile's tenant.
    async fn charge<E: UseCaseError>(
        deps: &Dependencies,
        profile: &TenantProfile,
        action: Action,
        client: Option<ClientIp>,
    ) -> Result<Self, E> {
        let Some(client) = client else { return Ok(Self { client_prefix: None, entry: None }) };
        let ClientIp { network, is_exempt } = client;
        let client_prefix = Some(network.prefix48);
        if is_exempt {
            return Ok(Self { client_prefix, entry: None });
        }
        let charge = profile.limits.ip_charge(action, &profile.tenant, &network);
        match deps.store.charge(&charge).await.map_err(ServiceError::from)? {
            ChargeOutcome::Admitted { entry: id, limit_state } => {
                let Charge { ledger, of_partition, .. } = charge;
                Ok(Self { client_prefix, entry: Some(Entry { ledger, of_partition, id, limit_state }) })
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
            && let Err(error) = deps.store.refund(&entry.ledger, entry.of_partition.as_ref(), entry.id).await
        {
            log(&error, "an IP was not refunded");
        }
    }
}
