//! What a caller's network is charged before anything else is done: step 2 of a send and of a guess.
//!
//! A caller without a client address (a key holder that names none) is charged nothing here, and neither is one of an exempt
//! network: only the shares of its site at each subject are counted, because they protect that person's day.

use std::net::IpAddr;

use super::{Parts, log};
use crate::domain::ledger::{Stamp, Standing};
use crate::domain::slot::Tag;
use crate::domain::tenant::Account;
use crate::ports::{Action, Charged, NetworkAccount, StoreError};

/// What was charged, if anything was.
pub(super) struct Toll {
    /// Whose share of a subject's ledgers it is.
    site: Option<Tag>,
    paid: Option<Paid>,
}

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
        let Some(client) = client else { return Ok(Self { site: None, paid: None }) };
        let network = parts.secrets.index_key.network(client);
        let site = Some(network.site);
        if parts.exempt.contains(client) {
            return Ok(Self { site, paid: None });
        }
        let limit = match action {
            Action::Send => &account.limits.ip_sends,
            Action::Guess => &account.limits.ip_attempts,
        };
        let account = NetworkAccount { tenant: account.tenant.clone(), network, action };
        match parts.store.charge(&account, limit).await.map_err(TollError::Store)? {
            Charged::Admitted { entry, standing } => {
                Ok(Self { site, paid: Some(Paid { account, entry, standing }) })
            }
            Charged::Refused(standing) => Err(TollError::Refused(standing)),
        }
    }

    /// The site that the request came from.
    pub fn site(&self) -> Option<Tag> {
        self.site
    }

    /// How the network stands, where it was charged.
    pub fn standing(&self) -> Option<Standing> {
        self.paid.as_ref().map(|paid| paid.standing)
    }

    /// The ledger to wait for where a later one refuses: a request that waits as long as it says passes both.
    pub fn or_longer(&self, refusing: Standing) -> Standing {
        self.standing().filter(|charged| charged.wait >= refusing.wait).unwrap_or(refusing)
    }

    /// Gives it back; where that fails it stays charged.
    pub async fn give_back(&self, parts: &Parts) {
        if let Some(paid) = &self.paid
            && let Err(error) = parts.store.refund(&paid.account, paid.entry).await
        {
            log(&error, "a network was not given back what it was charged");
        }
    }
}
