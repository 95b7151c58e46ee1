//! What a caller's network is charged before anything else is done: step 2 of a send and of an attempt.
//!
//! A caller without a client address (a key holder that names none) is charged nothing here, and neither is one of an exempt
//! network: only the shares of its site at each recipient are counted, because they protect that person's day.

use std::net::IpAddr;

use super::{Dependencies, log};
use crate::domain::ledger::{EntryId, LimitState};
use crate::domain::store_key::KeyedHash;
use crate::domain::tenant::TenantProfile;
use crate::ports::{Action, ChargeOutcome, IpLedger, StoreError};

/// What was charged, if anything was.
pub(super) struct IpCharge {
    /// Whose share of a recipient's ledgers it is.
    client_prefix: Option<KeyedHash>,
    charge: Option<Charge>,
}

struct Charge {
    profile: IpLedger,
    entry: EntryId,
    limit_state: LimitState,
}

/// Why a caller does not pass.
pub(super) enum IpChargeError {
    /// Its network has done this too often.
    Refused(LimitState),
    /// The store did not do its part.
    Store(StoreError),
}

impl IpCharge {
    /// Charges the client's network for a send or an attempt at the profile's tenant.
    pub async fn charge(
        deps: &Dependencies,
        profile: &TenantProfile,
        action: Action,
        client: Option<IpAddr>,
    ) -> Result<Self, IpChargeError> {
        let Some(client) = client else { return Ok(Self { client_prefix: None, charge: None }) };
        let network = deps.secrets.index_key.network(client);
        let client_prefix = Some(network.prefix48);
        if deps.exempt.contains(client) {
            return Ok(Self { client_prefix, charge: None });
        }
        let limit = match action {
            Action::Send => &profile.limits.ip_sends,
            Action::Attempt => &profile.limits.ip_attempts,
        };
        let profile = IpLedger { tenant: profile.tenant.clone(), network, action };
        match deps.store.charge(&profile, limit).await.map_err(IpChargeError::Store)? {
            ChargeOutcome::Admitted { entry, limit_state } => {
                Ok(Self { client_prefix, charge: Some(Charge { profile, entry, limit_state }) })
            }
            ChargeOutcome::Refused(limit_state) => Err(IpChargeError::Refused(limit_state)),
        }
    }

    /// The site that the request came from.
    pub fn client_prefix(&self) -> Option<KeyedHash> {
        self.client_prefix
    }

    /// How the network stands, where it was charged.
    pub fn limit_state(&self) -> Option<LimitState> {
        self.charge.as_ref().map(|charge| charge.limit_state)
    }

    /// The ledger to wait for where a later one refuses: a request that waits as long as it says passes both.
    pub fn or_longer_wait(&self, refusing: LimitState) -> LimitState {
        self.limit_state().filter(|charged| charged.wait >= refusing.wait).unwrap_or(refusing)
    }

    /// Gives it back; where that fails it stays charged.
    pub async fn give_back(&self, deps: &Dependencies) {
        if let Some(charge) = &self.charge
            && let Err(error) = deps.store.refund(&charge.profile, charge.entry).await
        {
            log(&error, "a network was not given back what it was charged");
        }
    }
}
