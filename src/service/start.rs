//! The simple endpoints' send: one code an address, kept on its subject's slot.

use std::net::IpAddr;

use super::send::{Errand, StartError, admit_address, live, room, send};
use super::toll::Toll;
use super::{Metered, Parts};
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::domain::sealed::Sealed;
use crate::ports::Action;

pub(super) async fn start(
    parts: &Parts,
    address: &EmailAddress,
    client: IpAddr,
    languages: &[Locale],
) -> Metered<Result<(), StartError>> {
    if let Err(error) = admit_address(parts, address) {
        return Metered::not_at_all(Err(error));
    }
    // 2. The network's sends.
    let toll = match Toll::charge(parts, &parts.simple, Action::Send, Some(client)).await {
        Ok(toll) => toll,
        Err(error) => return Metered::refused(StartError::from(error)),
    };
    Metered::after(&toll, from_room_on(parts, &toll, address, languages).await)
}

async fn from_room_on(
    parts: &Parts,
    toll: &Toll,
    address: &EmailAddress,
    languages: &[Locale],
) -> Result<(), StartError> {
    let place = room(parts, toll).await?;
    let index_key = &parts.secrets.index_key;
    let slot = index_key.address_slot(index_key.subject(parts.simple.tenant.clone(), address), address);
    let errand = Errand { account: &parts.simple, toll, slot: &slot, address, reference: None, languages };
    let sent = send(parts, place, &errand, async |hash, entry| {
        live(parts.store.open(&slot, hash, &parts.policy, entry, &Sealed::default()).await?)
    });
    sent.await.map(|_| ())
}
