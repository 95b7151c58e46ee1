//! What a caller's network is charged before anything else is done: step 2 of a send and of a guess.
//!
//! A caller without a client address (a key holder that names none) is charged nothing here.

use std::net::IpAddr;

use super::{Parts, log};
use crate::domain::ledger::{Stamp, Standing};
use crate::domain::slot::Tag;
use crate::domain::tenant::Account;
use crate::ports::{Action, Charged, NetworkAccount, StoreError};

/// What was charged, if anything was.
pub(super) struct Toll(Option<Paid>);

struct Paid {
    account: NetworkAccount,
    entry: Stamp,
    standing: Standing,
}

/// Why a caller does not pass.
pub(super) enum TollError {
    /// Its network has done this too often.
    Refused(Standing),
    /// The store did not do its part.
    Store(StoreError),
}

impl Toll {
    /// Charges the client's network for a send or a guess at the account's tenant.
    pub async fn charge(
        parts: &Parts,
        account: &Account,
        action: Action,
        client: Option<IpAddr>,
    ) -> Result<Self, TollError> {
        let Some(client) = client else { return Ok(Self(None)) };
        let network = parts.secrets.index_key.network(client);
        let limit = match action {
            Action::Send => &account.limits.network_sends,
            Action::Guess => &account.limits.network_guesses,
        };
        let account = NetworkAccount { tenant: account.tenant.clone(), network, action };
        match parts.store.charge(&account, limit).await.map_err(TollError::Store)? {
            Charged::Admitted { entry, standing } => Ok(Self(Some(Paid { account, entry, standing }))),
            Charged::Refused(standing) => Err(TollError::Refused(standing)),
        }
    }

    /// The site that was charged.
    pub fn site(&self) -> Option<Tag> {
        self.0.as_ref().map(|paid| paid.account.network.site)
    }

    /// How the network stands.
    pub fn standing(&self) -> Option<Standing> {
        self.0.as_ref().map(|paid| paid.standing)
    }

    /// The ledger to wait for where a later one refuses: a request that waits as long as it says passes both.
    pub fn or_longer(&self, refusing: Standing) -> Standing {
        self.standing().filter(|charged| charged.wait >= refusing.wait).unwrap_or(refusing)
    }

    /// Gives it back; where that fails it stays charged.
    pub async fn give_back(&self, parts: &Parts) {
        if let Some(paid) = &self.0
            && let Err(error) = parts.store.refund(&paid.account, paid.entry).await
        {
            log(&error, "a network was not given back what it was charged");
        }
    }
}
