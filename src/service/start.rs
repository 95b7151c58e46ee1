//! Sends a code on the simple endpoint: one code an address, under the store key of its recipient.

use std::net::IpAddr;

use super::ip_charge::IpCharge;
use super::send::{OutgoingCode, StartError, admit_address, live, room, send};
use super::{Dependencies, WithLimitState};
use crate::domain::details::EncryptedDetails;
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::ports::Action;

pub(super) async fn start(
    deps: &Dependencies,
    address: &EmailAddress,
    client: IpAddr,
    languages: &[Locale],
) -> WithLimitState<Result<(), StartError>> {
    if let Err(error) = admit_address(deps, address) {
        return WithLimitState::uncharged(Err(error));
    }
    // 2. Charge the IP's sends.
    let ip_charge = match IpCharge::charge(deps, &deps.simple, Action::Send, Some(client)).await {
        Ok(ip_charge) => ip_charge,
        Err(error) => return WithLimitState::refused(StartError::from(error)),
    };
    WithLimitState::after(&ip_charge, from_room_on(deps, &ip_charge, address, languages).await)
}

async fn from_room_on(
    deps: &Dependencies,
    ip_charge: &IpCharge,
    address: &EmailAddress,
    languages: &[Locale],
) -> Result<(), StartError> {
    let permit = room(deps, ip_charge).await?;
    let index_key = &deps.secrets.index_key;
    let store_key = index_key.email_key(index_key.recipient(deps.simple.tenant.clone(), address), address);
    let outgoing = OutgoingCode {
        profile: &deps.simple,
        ip_charge,
        store_key: &store_key,
        address,
        reference: None,
        languages,
    };
    let sent = send(deps, permit, &outgoing, async |hash, entry| {
        live(deps.store.open(&store_key, hash, &deps.rules, entry, &EncryptedDetails::default()).await?)
    });
    sent.await.map(|_| ())
}
