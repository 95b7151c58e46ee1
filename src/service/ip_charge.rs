//! Charges the client's IP before anything else is charged: step 2 of a send and of an attempt.
//!
//! A client without an IP address (an API request that names none) is charged nothing here, and
//! neither is a client of an exempt network. An exempt client still counts towards its client
//! prefix's share of each recipient, because that share protects the recipient.

use std::net::IpAddr;
use std::sync::OnceLock;

use super::decision::Decision;
use super::error::{ServiceError, log};
use super::{Dependencies, UseCaseError, WithLimitState};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::limits::{Action, Charge};
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::EntryId;
use crate::ports::{ChargeOutcome, IpEntry};

/// The charge of the client's IP, which is made with the first step that can be made with it.
pub(super) struct IpCharge<'a> {
    /// The client prefix whose share of a recipient's ledgers it uses.
    client_prefix: Option<KeyedHash>,
    /// `None`: nothing is to be charged.
    charge: Option<Charge<'a>>,
    charged: OnceLock<(EntryId, LimitState)>,
}

/// Step 2: if step 1 succeeded, runs the other steps, which charge the client's IP for the action
/// at the tenant before anything else. Reports the limit state of the limit that was exceeded, else
/// that of the IP, and ends the decision.
pub(super) async fn with_ip_charge<S, T, E: UseCaseError>(
    deps: &Dependencies,
    profile: &TenantProfile,
    decision: &Decision<'_>,
    client: Option<IpAddr>,
    step_1: Result<S, E>,
    other_steps: impl AsyncFnOnce(&IpCharge<'_>, S) -> Result<T, E>,
) -> WithLimitState<Result<T, E>> {
    let ip_charge = IpCharge::new(deps, profile, decision.action, client);
    if let Some(client_prefix) = ip_charge.client_prefix {
        decision.set_client(client_prefix);
    }
    let outcome = match step_1 {
        Ok(of_step_1) => other_steps(&ip_charge, of_step_1).await,
        Err(error) => Err(error),
    };
    decision.end(&outcome);
    let exceeded = outcome.as_ref().err().and_then(UseCaseError::limited);
    let refused_client = ip_charge.client_prefix.filter(|_| exceeded.is_some() && ip_charge.due().is_some());
    WithLimitState { limit_state: exceeded.or(ip_charge.limit_state()), outcome, refused_client }
}

impl<'a> IpCharge<'a> {
    /// Prepares the charge of a client's IP for a send or an attempt at the profile's tenant.
    pub(super) fn new(
        deps: &Dependencies,
        profile: &'a TenantProfile,
        action: Action,
        client: Option<IpAddr>,
    ) -> Self {
        let network = client.map(|address| deps.index_key.network(address));
        let is_exempt = client.is_some_and(|address| deps.exempt.contains(address));
        let charged = network.as_ref().filter(|_| !is_exempt);
        Self {
            charge: charged.map(|network| profile.limits.ip_charge(action, &profile.tenant, network)),
            client_prefix: network.map(|network| network.prefix48),
            charged: OnceLock::new(),
        }
    }

    /// Makes the charge now, if it is not made.
    pub(super) async fn make<E: UseCaseError>(&self, deps: &Dependencies) -> Result<(), E> {
        match self.due() {
            Some(charge) => self.record(deps.store.charge(charge).await.map_err(ServiceError::from)?),
            None => Ok(()),
        }
    }

    /// Returns the charge, if it is yet to be made.
    pub(super) fn due(&self) -> Option<&Charge<'a>> {
        self.charge.as_ref().filter(|_| self.charged.get().is_none())
    }

    /// Records that the charge was made or refused.
    pub(super) fn record<E: UseCaseError>(&self, outcome: ChargeOutcome) -> Result<(), E> {
        match outcome {
            ChargeOutcome::Refused(limit_state) => Err(E::exceeded(limit_state)),
            ChargeOutcome::Admitted { entry, limit_state } => {
                // It is charged once.
                let _ = self.charged.set((entry, limit_state));
                Ok(())
            }
        }
    }

    /// Returns the client prefix that the request came from: the IPv4 address or the IPv6 /48.
    pub(super) fn client_prefix(&self) -> Option<KeyedHash> {
        self.client_prefix
    }

    /// Returns the entry, by which the charge can be refunded.
    pub(super) fn entry(&self) -> Option<IpEntry<'_>> {
        let (id, _) = self.charged.get()?;
        self.charge.as_ref().map(|charge| IpEntry { charge, id: *id })
    }

    /// Refunds the charge, if it was made. If that fails, the charge stays.
    pub(super) async fn refund(&self, deps: &Dependencies) {
        let Some(IpEntry { charge, id }) = self.entry() else { return };
        if let Err(error) = deps.store.refund(&charge.ledger, charge.of_partition.as_ref(), id).await {
            log(&error, "an IP was not refunded");
        }
    }

    /// Returns the limit state of the IP, if it was charged.
    fn limit_state(&self) -> Option<LimitState> {
        self.charged.get().map(|(_, limit_state)| *limit_state)
    }

    /// Returns the limit state with the longer wait: the IP's, or that of a limit that was exceeded
    /// later. A request that waits this long passes both limits.
    pub(super) fn or_longer_wait(&self, refusing: LimitState) -> LimitState {
        self.limit_state().filter(|charged| charged.wait >= refusing.wait).unwrap_or(refusing)
    }
}
