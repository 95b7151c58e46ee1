//! The contract of every store for its ledgers: what is counted, what a refusal says, and what is
//! refunded.

use std::time::Duration;

use otpd::domain::keyed_hash::KeyedHash;
use otpd::domain::ledger::LimitState;
use otpd::domain::limit::Policy;
use otpd::domain::limits::{Action, Charge, Limits};
use otpd::domain::store_key::{ClientNetwork, Recipient, StoreKey};
use otpd::domain::tenant::Tenant;
use otpd::domain::time::EntryId;
use otpd::domain::verification::Status;
use otpd::ports::{ChargeOutcome, OpenOutcome, ReplaceOutcome};

use super::{HOUR, LIFE, TICK, at_once, attempts_left, both_kinds, end, live};
use crate::support::store::{Bench, TakenAttempt, address, attempt_charge, id, limits, network, recipient};

mod redis_only;

const MINUTE: Duration = Duration::from_mins(1);
/// A limit that no test here reaches.
const ROOMY: &str = "100000/744h";
fn another_tenant() -> Tenant {
    Tenant::parse("another").expect("a name")
}

on_both_stores! {
    a_peek_is_the_limit_state_of_the_next_send_and_charges_nothing,
    entries_are_stored_for_as_long_as_they_matter_to_any_tenant,
    a_window_admits_what_fits_and_to_the_millisecond_no_more,
    of_several_windows_the_one_with_the_longest_wait_is_named,
    a_days_window_is_half_an_hour_and_ten_seconds_longer,
    entries_in_the_future_of_a_clock_that_stepped_back_count,
    the_entries_of_a_64_rise_when_the_clock_steps_back_and_its_48_is_empty,
    a_limit_state_says_what_is_left_and_when_the_oldest_entry_leaves,
    entries_of_one_moment_have_names_of_their_own,
    the_ledger_to_wait_for_is_named_and_the_first_of_equals,
    a_refused_send_to_a_recipient_is_entered_nowhere,
    a_refused_network_is_entered_nowhere,
    an_ipv4_address_has_a_ledger_of_its_own,
    a_64_is_one_network_and_five_of_them_reach_the_limit_of_their_48,
    sends_and_attempts_and_tenants_are_counted_separately,
    the_sends_to_an_address_are_counted_over_all_tenants,
    the_share_of_an_ip_counts_that_ip_only,
    a_send_without_an_ip_drops_no_share_of_an_ip,
    a_network_is_refunded_its_own_entry_and_no_other,
    a_recipient_is_refunded_its_own_entry_and_no_other,
    a_send_that_took_longer_than_ten_seconds_opens_nothing,
    a_refused_email_may_be_refunded_if_it_opened_and_no_attempt_was_taken,
    a_refused_email_that_replaced_a_live_code_is_not_refunded,
    a_refused_email_is_not_refunded_once_an_attempt_was_taken,
    a_refused_email_leaves_the_code_of_a_later_send_alone,
    an_ip_is_charged_for_an_attempt_whether_or_not_a_code_is_live,
    a_refused_ip_takes_no_attempt,
    a_right_attempt_is_refunded_to_its_ip_and_no_other_is,
    a_repeated_approval_refunds_nothing,
    of_two_hundred_calls_at_once_as_many_as_fit_are_admitted,
    a_thousand_entries_are_counted_as_exactly_as_one,
    a_rule_without_a_window_admits_nobody,
}

/// What an IP does at a tenant.
#[derive(Debug, Clone)]
struct IpAction {
    tenant: Tenant,
    network: ClientNetwork,
    action: Action,
}

impl IpAction {
    fn charge<'a>(&self, limits: &'a Limits) -> Charge<'a> {
        limits.ip_charge(self.action, &self.tenant, &self.network)
    }
}

fn ip_action(ip: &str, action: Action) -> IpAction {
    IpAction { tenant: Tenant::Simple, network: network(ip), action }
}

fn ip_limits(text: &str) -> Limits {
    limits(&[(Policy::IpSends, text), (Policy::IpAttempts, text)])
}

fn client_prefix(ip: &str) -> KeyedHash {
    network(ip).prefix48
}

fn simple_recipient(text: &str) -> Recipient {
    recipient(Tenant::Simple, text)
}

fn sends(recipient: &str, client: &str, address: &str) -> Limits {
    limits(&[
        (Policy::EmailSends, recipient),
        (Policy::IpEmailSends, client),
        (Policy::EmailSendsTotal, address),
    ])
}

async fn charge(bench: &Bench, own: &IpAction, text: &str) -> ChargeOutcome {
    bench.store.charge(&own.charge(&ip_limits(text))).await.expect("an answer")
}

/// Charges a send from this IP.
async fn send_from(bench: &Bench, ip: &str, text: &str) -> ChargeOutcome {
    charge(bench, &ip_action(ip, Action::Send), text).await
}

async fn admit(
    bench: &Bench,
    recipient: &Recipient,
    client: Option<&KeyedHash>,
    limits: &Limits,
) -> ChargeOutcome {
    bench.store.charge(&limits.send_charge(recipient, client)).await.expect("an answer")
}

async fn refund(bench: &Bench, own: &IpAction, entry: EntryId) {
    let limits = ip_limits(ROOMY);
    let Charge { ledger, of_partition, .. } = own.charge(&limits);
    bench.store.refund(&ledger, of_partition.as_ref(), entry).await.expect("an answer");
}

async fn refund_send(bench: &Bench, recipient: &Recipient, entry: EntryId) {
    let ledger = sends(ROOMY, ROOMY, ROOMY).send_charge(recipient, None).ledger;
    bench.store.refund(&ledger, None, entry).await.expect("an answer");
}

/// Makes a request for which only this policy has a limit that matters. Each policy has its own
/// recipient and network.
async fn enter(bench: &Bench, policy: Policy, text: &str) -> Result<(), LimitState> {
    let email = format!("{}@example.com", policy.name());
    let limit = |of: Policy| if of == policy { text } else { ROOMY };
    let charged = match policy {
        Policy::IpSends => charge(bench, &ip_action("192.0.2.1", Action::Send), text).await,
        Policy::IpAttempts => charge(bench, &ip_action("192.0.2.1", Action::Attempt), text).await,
        Policy::RelayEmails => {
            let limits = limits(&[(Policy::RelayEmails, text)]);
            let charge = limits.relay_email_charge().expect("a limit");
            bench.store.charge(&charge).await.expect("an answer")
        }
        Policy::EmailSends | Policy::IpEmailSends | Policy::EmailSendsTotal => {
            let limits =
                sends(limit(Policy::EmailSends), limit(Policy::IpEmailSends), limit(Policy::EmailSendsTotal));
            admit(bench, &simple_recipient(&email), Some(&client_prefix("192.0.2.1")), &limits).await
        }
        Policy::IpEmailAttempts => {
            return match attempt(bench, &address(&email), "192.0.2.1", text).await {
                TakenAttempt::Limited(limit_state) => Err(limit_state),
                _ => Ok(()),
            };
        }
    };
    match charged {
        ChargeOutcome::Admitted { .. } => Ok(()),
        ChargeOutcome::Refused(limit_state) => Err(limit_state),
    }
}

/// Takes an attempt at an address, from an IP that has this limit.
async fn attempt(bench: &Bench, store_key: &StoreKey, ip: &str, text: &str) -> TakenAttempt {
    attempt_from(bench, store_key, ip, text).await.0
}

/// The same, and returns the entry of its charge.
async fn attempt_from(
    bench: &Bench,
    store_key: &StoreKey,
    ip: &str,
    text: &str,
) -> (TakenAttempt, Option<EntryId>) {
    let limits = attempt_limits(text);
    let charge = attempt_charge(&limits, store_key, &client_prefix(ip));
    bench.take_attempt_for(charge.as_ref(), store_key).await
}

fn attempt_limits(text: &str) -> Limits {
    limits(&[(Policy::IpEmailAttempts, text)])
}

fn entry(charged: ChargeOutcome) -> EntryId {
    match charged {
        ChargeOutcome::Admitted { entry, .. } => entry,
        ChargeOutcome::Refused(limit_state) => panic!("refused: {limit_state:?}"),
    }
}

fn refused(charged: ChargeOutcome) -> LimitState {
    match charged {
        ChargeOutcome::Admitted { .. } => panic!("admitted: {charged:?}"),
        ChargeOutcome::Refused(limit_state) => limit_state,
    }
}

fn is_admitted(charged: ChargeOutcome) -> bool {
    matches!(charged, ChargeOutcome::Admitted { .. })
}

async fn a_window_admits_what_fits_and_to_the_millisecond_no_more(bench: &Bench) {
    for policy in Policy::ALL {
        let wait = async || enter(bench, policy, "3/60s").await.err().map(|limit_state| limit_state.wait);
        let step = Duration::from_secs(10);
        for _ in 0..3 {
            assert_eq!(wait().await, None, "{policy:?}");
            bench.clock.forward(step);
        }
        for _ in 0..5 {
            let limit_state = enter(bench, policy, "3/60s").await.expect_err("three fit");
            assert_eq!(
                (limit_state.policy, limit_state.window.most.get(), limit_state.remaining),
                (policy, 3, 0)
            );
            assert_eq!((limit_state.wait, limit_state.reset), (MINUTE / 2, MINUTE / 2), "{policy:?}");
        }
        bench.clock.forward((MINUTE / 2).saturating_sub(TICK));
        assert_eq!(wait().await, Some(TICK), "{policy:?}: a millisecond early");
        bench.clock.forward(TICK);
        // Refused requests in the meantime have left no entry.
        assert_eq!(wait().await, None, "{policy:?}: after the wait");
        assert_eq!(wait().await, Some(step), "{policy:?}");
        bench.clock.forward(MINUTE);
        for _ in 0..3 {
            assert_eq!(wait().await, None, "{policy:?}: all have left");
        }
        assert!(wait().await.is_some(), "{policy:?}");
    }
}

async fn of_several_windows_the_one_with_the_longest_wait_is_named(bench: &Bench) {
    for policy in Policy::ALL {
        for span in [60, 60, 480] {
            assert_eq!(enter(bench, policy, "1/60s 3/10m").await, Ok(()), "{policy:?}");
            let limit_state = enter(bench, policy, "1/60s 3/10m").await.expect_err("it is full");
            let most = if span == 60 { 1 } else { 3 };
            assert_eq!(
                (limit_state.wait.as_secs(), limit_state.window.most.get()),
                (span, most),
                "{policy:?}"
            );
            bench.clock.forward(limit_state.wait);
        }
        assert_eq!(enter(bench, policy, "1/60s 3/10m").await, Ok(()), "{policy:?}");
    }
}

async fn a_days_window_is_half_an_hour_and_ten_seconds_longer(bench: &Bench) {
    for policy in Policy::ALL {
        let day = Duration::from_secs(24 * 3600 + 30 * 60 + 10);
        assert_eq!(enter(bench, policy, "1/day").await, Ok(()));
        assert_eq!(enter(bench, policy, "1/day").await.map_err(|limit_state| limit_state.wait), Err(day));
        bench.clock.forward(day.saturating_sub(TICK));
        assert_eq!(enter(bench, policy, "1/day").await.map_err(|limit_state| limit_state.wait), Err(TICK));
        bench.clock.forward(TICK);
        assert_eq!(enter(bench, policy, "1/day").await, Ok(()));
    }
}

async fn entries_in_the_future_of_a_clock_that_stepped_back_count(bench: &Bench) {
    for policy in Policy::ALL {
        assert_eq!(enter(bench, policy, "2/60s").await, Ok(()));
        bench.clock.step(-30_000);
        assert_eq!(enter(bench, policy, "2/60s").await, Ok(()), "{policy:?}: there is room");
        let wait = enter(bench, policy, "2/60s").await.expect_err("both count").wait;
        assert_eq!(wait, Duration::from_secs(90), "{policy:?}");
        bench.clock.forward(wait.saturating_sub(TICK));
        assert_eq!(enter(bench, policy, "2/60s").await.map_err(|limit_state| limit_state.wait), Err(TICK));
        bench.clock.forward(TICK);
        assert_eq!(enter(bench, policy, "2/60s").await, Ok(()), "{policy:?}");
    }
}

async fn the_entries_of_a_64_rise_when_the_clock_steps_back_and_its_48_is_empty(bench: &Bench) {
    let (own, neighbour) = ("2001:db8:1:a::1", "2001:db8:1:b::1");
    let ChargeOutcome::Admitted { entry: first, .. } = send_from(bench, own, "2/60s").await else {
        panic!("there is room");
    };
    bench.clock.forward(MINUTE);
    let ChargeOutcome::Admitted { entry, .. } = send_from(bench, neighbour, "2/60s").await else {
        panic!("there is room");
    };
    refund(bench, &ip_action(neighbour, Action::Send), entry).await;
    bench.clock.step(-90_000);
    let ChargeOutcome::Admitted { entry: second, limit_state } = send_from(bench, own, "2/60s").await else {
        panic!("there is room");
    };
    assert_eq!((second, limit_state.remaining), (first + 1, 0));
}

async fn a_limit_state_says_what_is_left_and_when_the_oldest_entry_leaves(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("5/1h", ROOMY, ROOMY));
    for (sent, remaining) in [4, 3, 2, 1, 0].into_iter().enumerate() {
        let by_network = send_from(bench, "192.0.2.1", "5/1h").await;
        let by_recipient = admit(bench, &recipient, None, &limits).await;
        for (charged, ledger) in [(by_network, Policy::IpSends), (by_recipient, Policy::EmailSends)] {
            let ChargeOutcome::Admitted { limit_state, .. } = charged else { panic!("refused: {charged:?}") };
            let minutes = 10 * u64::try_from(sent).expect("a few");
            let reset = HOUR.saturating_sub(Duration::from_mins(minutes));
            let wait = if remaining == 0 { reset } else { Duration::ZERO };
            assert_eq!((limit_state.policy, limit_state.remaining), (ledger, remaining));
            assert_eq!((limit_state.reset, limit_state.wait), (reset, wait));
        }
        bench.clock.forward(MINUTE * 10);
    }
    bench.clock.forward(MINUTE * 10);
    let ChargeOutcome::Admitted { limit_state, .. } = send_from(bench, "192.0.2.1", "5/1h").await else {
        panic!("one has left")
    };
    assert_eq!((limit_state.remaining, limit_state.reset), (0, MINUTE * 10), "the second is the oldest now");
    // The first send fills the shorter window, so the answer reports that window.
    let first = send_from(bench, "192.0.2.2", "1/60s 5/1h").await;
    let ChargeOutcome::Admitted { limit_state, .. } = first else { panic!("refused: {first:?}") };
    assert_eq!(
        (limit_state.remaining, limit_state.reset, limit_state.wait),
        (0, MINUTE, MINUTE),
        "the wait decides"
    );
}

async fn entries_of_one_moment_have_names_of_their_own(bench: &Bench) {
    // Two /64 networks of one /48 are among them; they share the ledger of the /48.
    let mut names = Vec::new();
    for ip in ["2001:db8:1:1::1", "2001:db8:1:2::1", "2001:db8:1:1::2", "2001:db8:1:2::2"] {
        names.push(entry(send_from(bench, ip, "9/1h").await));
    }
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    let limits = sends(ROOMY, ROOMY, ROOMY);
    let mut names = Vec::new();
    for tenant in [Tenant::Simple, another_tenant(), Tenant::Simple] {
        names.push(entry(admit(bench, &recipient(tenant, "a@example.com"), None, &limits).await));
    }
    assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
}

async fn the_ledger_to_wait_for_is_named_and_the_first_of_equals(bench: &Bench) {
    let cases = [
        ("1/60s", "1/1h", "1/60s", Policy::IpEmailSends),
        ("1/60s", "1/60s", "1/1h", Policy::EmailSendsTotal),
        ("1/1h", "1/60s", "1/60s", Policy::EmailSends),
        ("1/60s", "1/60s", "1/60s", Policy::EmailSends),
        ("2/1h", "1/60s", "1/60s", Policy::IpEmailSends),
        ("2/1h", "2/1h", "1/60s", Policy::EmailSendsTotal),
    ];
    for (number, (recipient, of_client, address, named)) in cases.into_iter().enumerate() {
        let (recipient, limits) =
            (simple_recipient(&format!("{number}@example.com")), sends(recipient, of_client, address));
        let client = client_prefix("192.0.2.1");
        assert!(is_admitted(admit(bench, &recipient, Some(&client), &limits).await));
        let limit_state = refused(admit(bench, &recipient, Some(&client), &limits).await);
        assert_eq!(limit_state.policy, named, "{limits:?}");
    }
}

async fn a_peek_is_the_limit_state_of_the_next_send_and_charges_nothing(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("1/60s 3/1h", "1/1h", "4/1h"));
    let peek = async || bench.store.peek(&limits.send_charge(&recipient, None)).await.expect("an answer");
    assert_eq!((peek().await.remaining, peek().await.wait), (1, Duration::ZERO));
    assert!(is_admitted(admit(bench, &recipient, Some(&client_prefix("192.0.2.1")), &limits).await));
    for _ in 0..3 {
        let seen = peek().await;
        assert_eq!((seen.policy, seen.wait), (Policy::EmailSends, Duration::from_mins(1)));
    }
    // The share of an IP is not part of it, because the IP of the next send is unknown.
    assert_eq!(peek().await, refused(admit(bench, &recipient, None, &limits).await));
    bench.clock.forward(Duration::from_mins(1));
    assert_eq!(peek().await.wait, Duration::ZERO);
    assert!(is_admitted(admit(bench, &recipient, None, &limits).await));
    assert_eq!(
        peek().await.wait,
        Duration::from_mins(1),
        "a send without an IP is in no share of an IP either"
    );
}

async fn entries_are_stored_for_as_long_as_they_matter_to_any_tenant(bench: &Bench) {
    let mut short = sends("9/60s", "9/60s", "9/60s");
    let long = sends("9/60s", "9/60s", "1/2h");
    short.set_sends_retention(long.sends_retention());
    let recipient = simple_recipient("a@example.com");
    let another = Recipient { tenant: another_tenant(), ..recipient.clone() };
    assert!(is_admitted(admit(bench, &recipient, None, &short).await));
    bench.clock.forward(HOUR);
    assert!(is_admitted(admit(bench, &recipient, None, &short).await), "this one forgets nothing");
    let told = refused(admit(bench, &another, None, &long).await);
    assert_eq!((told.policy, told.wait), (Policy::EmailSendsTotal, Duration::from_hours(2)));
    bench.clock.forward(HOUR + HOUR);
    assert!(is_admitted(admit(bench, &another, None, &long).await));
}

async fn a_refused_send_to_a_recipient_is_entered_nowhere(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("3/1h", "1/1h", "4/1h"));
    let from = async |ip: &str| admit(bench, &recipient, Some(&client_prefix(ip)), &limits).await;
    assert!(is_admitted(from("192.0.2.1").await));
    for _ in 0..5 {
        assert_eq!(refused(from("192.0.2.1").await).policy, Policy::IpEmailSends);
    }
    assert!(is_admitted(from("192.0.2.2").await));
    assert!(is_admitted(from("192.0.2.3").await));
    for _ in 0..5 {
        assert_eq!(refused(from("192.0.2.4").await).policy, Policy::EmailSends);
    }
    // The share of the refused IP is untouched, and so is what the address has left for others.
    let another = Recipient { tenant: another_tenant(), ..recipient.clone() };
    assert!(is_admitted(admit(bench, &another, Some(&client_prefix("192.0.2.4")), &limits).await));
    assert_eq!(
        refused(admit(bench, &another, Some(&client_prefix("192.0.2.5")), &limits).await).policy,
        Policy::EmailSendsTotal
    );
    bench.clock.forward(HOUR);
    assert!(is_admitted(from("192.0.2.4").await));
}

async fn a_refused_network_is_entered_nowhere(bench: &Bench) {
    let mut entries = Vec::new();
    for link in 1..=5 {
        let ip = format!("2001:db8:1:{link}::1");
        entries.push(entry(send_from(bench, &ip, "1/1h").await));
        for _ in 0..5 {
            // A refused /64 charges its /48 nothing.
            assert!(!is_admitted(send_from(bench, &ip, "1/1h").await));
        }
    }
    for _ in 0..5 {
        // A refused /48 charges its /64 networks nothing.
        assert_eq!(refused(send_from(bench, "2001:db8:1:6::1", "1/1h").await).window.most.get(), 5);
    }
    refund(bench, &ip_action("2001:db8:1:1::1", Action::Send), entries[0]).await;
    assert!(is_admitted(send_from(bench, "2001:db8:1:6::1", "1/1h").await));
}

async fn an_ipv4_address_has_a_ledger_of_its_own(bench: &Bench) {
    for _ in 0..2 {
        assert!(is_admitted(send_from(bench, "192.0.2.1", "2/1h").await));
    }
    for same in ["192.0.2.1", "::ffff:192.0.2.1"] {
        let limit_state = refused(send_from(bench, same, "2/1h").await);
        assert_eq!(limit_state.window.most.get(), 2, "no wider network is counted");
    }
    for neighbour in 2..200 {
        assert!(is_admitted(send_from(bench, &format!("192.0.2.{neighbour}"), "2/1h").await));
    }
}

async fn a_64_is_one_network_and_five_of_them_reach_the_limit_of_their_48(bench: &Bench) {
    for host in 1..=100 {
        let charged = send_from(bench, &format!("2001:db8:1:1::{host:x}"), "2/1h").await;
        assert_eq!(is_admitted(charged), host <= 2, "address {host} of one /64");
    }
    for link in 2..=5 {
        for host in 1..=3 {
            let charged = send_from(bench, &format!("2001:db8:1:{link}::{host}"), "2/1h").await;
            assert_eq!(is_admitted(charged), host <= 2, "address {host} of /64 number {link}");
        }
    }
    let limit_state = refused(send_from(bench, "2001:db8:1:6::1", "2/1h").await);
    assert_eq!((limit_state.policy, limit_state.window.most.get()), (Policy::IpSends, 10));
    assert_eq!(limit_state.wait, HOUR);
    assert!(is_admitted(send_from(bench, "2001:db8:2:1::1", "2/1h").await), "another /48");
    bench.clock.forward(HOUR);
    assert!(is_admitted(send_from(bench, "2001:db8:1:6::1", "2/1h").await));
}

async fn sends_and_attempts_and_tenants_are_counted_separately(bench: &Bench) {
    for ip in ["192.0.2.1", "2001:db8::1"] {
        for tenant in [Tenant::Simple, another_tenant()] {
            for action in [Action::Send, Action::Attempt] {
                let own = IpAction { tenant: tenant.clone(), ..ip_action(ip, action) };
                assert!(is_admitted(charge(bench, &own, "1/1h").await), "{own:?}");
                let named = match action {
                    Action::Send => Policy::IpSends,
                    Action::Attempt => Policy::IpAttempts,
                };
                assert_eq!(refused(charge(bench, &own, "1/1h").await).policy, named);
            }
        }
    }
    let store_key = |tenant| match address("a@example.com") {
        StoreKey::Address { address, .. } => {
            StoreKey::Address { recipient: recipient(tenant, "a@example.com"), address }
        }
        StoreKey::Id(_) => panic!("a store_key of an address"),
    };
    for tenant in [Tenant::Simple, another_tenant()] {
        assert_eq!(
            attempt(bench, &store_key(tenant.clone()), "192.0.2.1", "1/1h").await,
            TakenAttempt::Unknown
        );
        assert!(matches!(
            attempt(bench, &store_key(tenant), "192.0.2.1", "1/1h").await,
            TakenAttempt::Limited(_)
        ));
    }
}

async fn the_sends_to_an_address_are_counted_over_all_tenants(bench: &Bench) {
    let limits = sends("2/1h", "2/1h", "3/1h");
    let by = async |tenant, email: &str| {
        admit(bench, &recipient(tenant, email), Some(&client_prefix("192.0.2.1")), &limits).await
    };
    assert!(is_admitted(by(Tenant::Simple, "a@example.com").await));
    // Spellings of one mailbox are one recipient.
    assert!(is_admitted(by(Tenant::Simple, "A+x@EXAMPLE.com").await));
    assert_eq!(refused(by(Tenant::Simple, "a@example.com").await).policy, Policy::EmailSends);
    assert!(is_admitted(by(another_tenant(), "a@example.com").await));
    assert_eq!(refused(by(another_tenant(), "a+y@example.com").await).policy, Policy::EmailSendsTotal);
    assert!(is_admitted(by(another_tenant(), "b@example.com").await), "another person");
}

async fn the_share_of_an_ip_counts_that_ip_only(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("5/1h", "1/1h", ROOMY));
    let from = async |ip: &str| admit(bench, &recipient, Some(&client_prefix(ip)), &limits).await;
    assert!(is_admitted(from("2001:db8:1:1::1").await));
    assert_eq!(refused(from("2001:db8:1:2::1").await).policy, Policy::IpEmailSends, "one /48 is one client");
    assert!(is_admitted(from("2001:db8:2:1::1").await));
    assert!(is_admitted(from("192.0.2.1").await));
    assert!(is_admitted(from("192.0.2.2").await));
    assert_eq!(refused(from("192.0.2.1").await).policy, Policy::IpEmailSends);
    let nowhere = async || admit(bench, &recipient, None, &limits).await;
    assert!(is_admitted(nowhere().await));
    assert_eq!(refused(nowhere().await).policy, Policy::EmailSends, "without an IP there is no share");
}

async fn a_send_without_an_ip_drops_no_share_of_an_ip(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("9/60s", "1/24h", "9/60s"));
    let client = client_prefix("192.0.2.1");
    assert!(is_admitted(admit(bench, &recipient, Some(&client), &limits).await));
    bench.clock.forward(HOUR);
    assert!(is_admitted(admit(bench, &recipient, None, &limits).await));
    let limit_state = refused(admit(bench, &recipient, Some(&client), &limits).await);
    assert_eq!((limit_state.policy, limit_state.wait), (Policy::IpEmailSends, HOUR * 23));
}

async fn a_network_is_refunded_its_own_entry_and_no_other(bench: &Bench) {
    for (ip, neighbour) in [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:1::1", "2001:db8:3:1::1")] {
        let own = ip_action(ip, Action::Send);
        let [first, second] =
            [charge(bench, &own, "3/1h").await, charge(bench, &own, "3/1h").await].map(entry);
        bench.clock.forward(MINUTE);
        let third = entry(charge(bench, &own, "3/1h").await);
        // An entry of another network or action is not refunded.
        for other in [ip_action(neighbour, Action::Send), ip_action(ip, Action::Attempt)] {
            refund(bench, &other, first).await;
        }
        refund(bench, &own, third + 1).await;
        assert_eq!(refused(charge(bench, &own, "3/1h").await).wait, HOUR.saturating_sub(MINUTE));
        for _ in 0..2 {
            refund(bench, &own, first).await;
        }
        assert!(is_admitted(charge(bench, &own, "3/1h").await));
        let wait = refused(charge(bench, &own, "3/1h").await).wait;
        assert_eq!(
            wait,
            HOUR.saturating_sub(MINUTE) + TICK * u32::try_from(second - first).expect("a moment")
        );
        for entry in [second, third, third] {
            refund(bench, &own, entry).await;
        }
        for _ in 0..2 {
            assert!(is_admitted(charge(bench, &own, "3/1h").await), "two were given back");
        }
        assert!(!is_admitted(charge(bench, &own, "3/1h").await));
    }
    // The entry of a /64 leaves the ledger of its /48 too.
    let mut entries = Vec::new();
    for link in 1..=5 {
        entries.push(entry(send_from(bench, &format!("2001:db8:2:{link}::1"), "1/1h").await));
    }
    assert!(!is_admitted(send_from(bench, "2001:db8:2:6::1", "1/1h").await));
    refund(bench, &ip_action("2001:db8:2:3::1", Action::Send), entries[2]).await;
    assert!(is_admitted(send_from(bench, "2001:db8:2:6::1", "1/1h").await));
    assert!(!is_admitted(send_from(bench, "2001:db8:2:7::1", "1/1h").await));
}

async fn a_recipient_is_refunded_its_own_entry_and_no_other(bench: &Bench) {
    let limits = sends("2/1h", "1/1h", "3/1h");
    let recipient = simple_recipient("a@example.com");
    let another = Recipient { tenant: another_tenant(), ..recipient.clone() };
    let from = async |recipient, ip: &str| admit(bench, recipient, Some(&client_prefix(ip)), &limits).await;
    let first = entry(from(&recipient, "192.0.2.1").await);
    entry(from(&recipient, "192.0.2.2").await);
    entry(from(&another, "192.0.2.1").await);
    refund_send(bench, &simple_recipient("b@example.com"), first).await;
    assert!(!is_admitted(from(&recipient, "192.0.2.3").await));
    for _ in 0..2 {
        refund_send(bench, &recipient, first).await;
    }
    // The entry left all three ledgers, and the entries of others left none.
    assert_eq!(refused(from(&recipient, "192.0.2.2").await).policy, Policy::IpEmailSends);
    assert_eq!(refused(from(&another, "192.0.2.1").await).policy, Policy::IpEmailSends);
    assert!(is_admitted(from(&recipient, "192.0.2.1").await));
    assert_eq!(refused(from(&recipient, "192.0.2.3").await).policy, Policy::EmailSends);
    assert_eq!(refused(from(&another, "192.0.2.3").await).policy, Policy::EmailSendsTotal);
}

async fn a_send_that_took_longer_than_ten_seconds_opens_nothing(bench: &Bench) {
    let slowest = Duration::from_secs(10);
    for store_key in both_kinds(1) {
        let entry = bench.clock.millis();
        bench.clock.forward(slowest + TICK);
        assert_eq!(bench.open_for(&store_key, 1, entry).await, OpenOutcome::Late);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown, "nothing is opened");
    }
    for store_key in both_kinds(2) {
        let entry = bench.clock.millis();
        bench.clock.forward(slowest);
        assert_eq!(
            live(ReplaceOutcome::Opened(bench.open_for(&store_key, 1, entry).await)),
            Some(LIFE),
            "just in time"
        );
        assert_eq!(live(bench.replace_code_for(&store_key, 2, entry).await), Some(LIFE), "just in time");
        bench.clock.forward(TICK);
        assert_eq!(bench.open_for(&store_key, 3, entry).await, OpenOutcome::Late);
        assert_eq!(
            bench.replace_code_for(&store_key, 3, entry).await,
            ReplaceOutcome::Opened(OpenOutcome::Late)
        );
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2), "the code before is live");
        bench.clock.forward(LIFE.saturating_sub(TICK * 2));
        assert!(!bench.approve(&store_key, 3, 1).await);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2), "for its own life");
        bench.clock.forward(TICK);
        assert!(!bench.approve(&store_key, 2, 1).await, "and no longer");
    }
}

async fn a_refused_email_may_be_refunded_if_it_opened_and_no_attempt_was_taken(bench: &Bench) {
    for store_key in both_kinds(0) {
        let entry = bench.fresh_entry();
        assert!(!bench.mark_failed_for(&store_key, 1, entry).await, "nothing is known of it");
        bench.open_for(&store_key, 1, entry).await;
        assert!(bench.mark_failed_for(&store_key, 1, entry).await);
        assert!(bench.mark_failed_for(&store_key, 1, entry).await, "asked again");
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
        assert!(bench.mark_failed_for(&store_key, 1, entry).await, "that attempt was none");
    }
    for how in [Status::Approved, Status::Expired, Status::Failed] {
        for store_key in both_kinds(how as u8) {
            end(bench, &store_key, 1, how).await;
            let entry = bench.fresh_entry();
            bench.open_for(&store_key, 2, entry).await;
            assert!(bench.mark_failed_for(&store_key, 2, entry).await, "after one that was {how:?}");
        }
    }
}

async fn a_refused_email_that_replaced_a_live_code_is_not_refunded(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        let second = bench.fresh_entry();
        bench.open_for(&store_key, 2, second).await;
        assert!(!bench.mark_failed_for(&store_key, 2, second).await);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
    }
    for store_key in both_kinds(1) {
        bench.open(&store_key, 1).await;
        let second = bench.fresh_entry();
        bench.replace_code_for(&store_key, 2, second).await;
        assert!(!bench.mark_failed_for(&store_key, 2, second).await);
    }
}

async fn a_refused_email_is_not_refunded_once_an_attempt_was_taken(bench: &Bench) {
    for store_key in both_kinds(0) {
        let entry = bench.fresh_entry();
        bench.open_for(&store_key, 1, entry).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        assert!(!bench.mark_failed_for(&store_key, 1, entry).await);
    }
    // An attempt at the code that replaced it counts as well.
    for store_key in both_kinds(1) {
        let entry = bench.fresh_entry();
        bench.open_for(&store_key, 1, entry).await;
        bench.replace_code(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert!(!bench.mark_failed_for(&store_key, 1, entry).await);
    }
}

async fn a_refused_email_leaves_the_code_of_a_later_send_alone(bench: &Bench) {
    for store_key in both_kinds(0) {
        let (first, second) = (bench.fresh_entry(), bench.fresh_entry());
        bench.open_for(&store_key, 1, first).await;
        bench.open_for(&store_key, 2, second).await;
        assert!(bench.mark_failed_for(&store_key, 1, first).await, "it replaced nothing");
        assert_eq!(attempts_left(bench, &store_key).await, 5);
        assert!(bench.approve(&store_key, 2, 1).await);
        // Nor does it affect a verification that began after its own.
        let third = bench.fresh_entry();
        bench.open_for(&store_key, 3, third).await;
        assert!(!bench.mark_failed_for(&store_key, 1, first).await);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(3));
    }
}

async fn an_ip_is_charged_for_an_attempt_whether_or_not_a_code_is_live(bench: &Bench) {
    let (store_key, alike) = (address("a+x@example.com"), address("a+y@example.com"));
    assert_eq!(attempt(bench, &store_key, "2001:db8:1:1::1", "5/1h").await, TakenAttempt::Unknown);
    bench.open(&store_key, 1).await;
    assert_eq!(attempt(bench, &store_key, "2001:db8:1:2::1", "5/1h").await, TakenAttempt::Compare(1));
    // All spellings of one mailbox are one recipient.
    assert_eq!(attempt(bench, &alike, "2001:db8:1:3::1", "5/1h").await, TakenAttempt::Unknown);
    end(bench, &store_key, 2, Status::Failed).await;
    assert_eq!(
        attempt(bench, &store_key, "2001:db8:1:4::1", "5/1h").await,
        TakenAttempt::Closed(Status::Failed)
    );
    bench.clock.forward(LIFE);
    assert_eq!(attempt(bench, &store_key, "2001:db8:1:5::1", "5/1h").await, TakenAttempt::Unknown);
    for store_key in [store_key, alike] {
        let TakenAttempt::Limited(limit_state) = attempt(bench, &store_key, "2001:db8:1:6::1", "5/1h").await
        else {
            panic!("five attempts were made")
        };
        assert_eq!(
            (limit_state.policy, limit_state.wait),
            (Policy::IpEmailAttempts, HOUR.saturating_sub(LIFE))
        );
    }
    assert_eq!(
        attempt(bench, &address("b@example.com"), "2001:db8:1::1", "5/1h").await,
        TakenAttempt::Unknown
    );
    // Attempts by the holder of an id are not counted.
    bench.open(&id(1), 3).await;
    assert_eq!(attempt(bench, &id(1), "2001:db8:1:1::1", "1/1h").await, TakenAttempt::Compare(3));
    assert_eq!(attempt(bench, &id(1), "2001:db8:1:1::1", "1/1h").await, TakenAttempt::Compare(3));
}

async fn a_refused_ip_takes_no_attempt(bench: &Bench) {
    let store_key = address("a@example.com");
    bench.open(&store_key, 1).await;
    assert_eq!(attempt(bench, &store_key, "192.0.2.1", "1/1h").await, TakenAttempt::Compare(1));
    for _ in 0..10 {
        assert!(matches!(attempt(bench, &store_key, "192.0.2.1", "1/1h").await, TakenAttempt::Limited(_)));
    }
    for _ in 0..4 {
        assert_eq!(
            attempt(bench, &store_key, "192.0.2.2", "9/1h").await,
            TakenAttempt::Compare(1),
            "another IP"
        );
    }
    assert_eq!(
        attempt(bench, &store_key, "192.0.2.2", "9/1h").await,
        TakenAttempt::Closed(Status::Exhausted)
    );
}

async fn a_right_attempt_is_refunded_to_its_ip_and_no_other_is(bench: &Bench) {
    let store_key = address("a@example.com");
    let limits = attempt_limits("3/1h");
    let [near, far] = ["192.0.2.1", "192.0.2.2"]
        .map(|ip| attempt_charge(&limits, &store_key, &client_prefix(ip)).expect("the key of an address"));
    let take_attempt =
        async |charge| bench.take_attempt_for(Some(charge), &store_key).await.1.expect("it is charged");
    bench.open(&store_key, 1).await;
    let wrong = take_attempt(&near).await;
    let right = take_attempt(&near).await;
    let elsewhere = take_attempt(&far).await;
    let approve =
        async |code, attempt, charged| bench.approve_for(&store_key, code, attempt, Some(charged)).await;
    assert!(!approve(9, 1, (&near.ledger, wrong)).await, "a code that is not live");
    assert!(approve(1, 2, (&near.ledger, right)).await);
    assert!(!approve(1, 3, (&far.ledger, elsewhere)).await, "it has been approved");
    for (charge, left) in [(&near, 2), (&far, 2)] {
        bench.clock.forward(TICK);
        for _ in 0..left {
            assert_eq!(
                bench.take_attempt_for(Some(charge), &store_key).await.0,
                TakenAttempt::Closed(Status::Approved)
            );
        }
        assert!(matches!(bench.take_attempt_for(Some(charge), &store_key).await.0, TakenAttempt::Limited(_)));
    }
}

async fn a_repeated_approval_refunds_nothing(bench: &Bench) {
    let store_key = address("a@example.com");
    let limits = attempt_limits("1/1h");
    let charge = attempt_charge(&limits, &store_key, &client_prefix("192.0.2.1")).expect("a charge");
    let take_attempt = async || bench.take_attempt_for(Some(&charge), &store_key).await;
    bench.open(&store_key, 1).await;
    let right = take_attempt().await.1.map(|entry| (&charge.ledger, entry));
    assert!(bench.approve_for(&store_key, 1, 1, right).await);
    // A later attempt of the same millisecond may get the entry id that the right one had.
    assert_eq!(take_attempt().await.0, TakenAttempt::Closed(Status::Approved));
    assert!(bench.approve_for(&store_key, 1, 1, right).await);
    assert!(matches!(take_attempt().await.0, TakenAttempt::Limited(_)));
}

async fn of_two_hundred_calls_at_once_as_many_as_fit_are_admitted(bench: &Bench) {
    for policy in Policy::ALL {
        let calls = at_once((0..200).map(|_| {
            let bench = bench.clone();
            async move { enter(&bench, policy, "7/1h").await.is_ok() }
        }));
        assert_eq!(calls.await.into_iter().filter(|admitted| *admitted).count(), 7, "{policy:?}");
    }
    let calls = at_once((0..200).map(|call| {
        let bench = bench.clone();
        async move {
            let link = call % 10;
            is_admitted(send_from(&bench, &format!("2001:db8:1:{link}::1"), "2/1h").await)
        }
    }));
    assert_eq!(calls.await.into_iter().filter(|admitted| *admitted).count(), 10, "of a /48");
}

async fn a_thousand_entries_are_counted_as_exactly_as_one(bench: &Bench) {
    let (recipient, limits) = (simple_recipient("a@example.com"), sends("1000/1h", ROOMY, ROOMY));
    let send = async || admit(bench, &recipient, None, &limits).await;
    let mut entries = Vec::new();
    for _ in 0..1000 {
        entries.push(entry(send().await));
        bench.clock.forward(TICK * 10);
    }
    assert_eq!(refused(send().await).wait, HOUR.saturating_sub(TICK * 10_000));
    refund_send(bench, &recipient, entries[500]).await;
    assert!(is_admitted(send().await));
    bench.clock.forward(HOUR.saturating_sub(TICK * 10_001));
    assert_eq!(refused(send().await).wait, TICK);
    bench.clock.forward(TICK);
    assert!(is_admitted(send().await));
    assert_eq!(refused(send().await).wait, TICK * 10, "each leaves when its own time comes");
}

async fn a_rule_without_a_window_admits_nobody(bench: &Bench) {
    let none = limits(&[]);
    let recipient = simple_recipient("a@example.com");
    let charges = [
        ip_action("192.0.2.1", Action::Send).charge(&none),
        ip_action("2001:db8::1", Action::Attempt).charge(&none),
        none.send_charge(&recipient, Some(&client_prefix("192.0.2.1"))),
    ];
    let incomplete = limits(&[(Policy::EmailSends, ROOMY), (Policy::IpEmailSends, ROOMY)]);
    let charges = charges.into_iter().chain([incomplete.send_charge(&recipient, None)]);
    for charge in charges {
        assert!(bench.store.charge(&charge).await.is_err(), "{charge:?}");
        assert!(bench.store.peek(&charge).await.is_err(), "{charge:?}");
    }
    let store_key = address("a@example.com");
    bench.open(&store_key, 1).await;
    let charge = none.ip_email_attempt_charge(&recipient, &client_prefix("192.0.2.1"));
    assert!(bench.store.take_attempt(&store_key, &bench.rules, Some(&charge)).await.is_err());
    assert_eq!(attempts_left(bench, &store_key).await, 5);
}

#[tokio::test]
async fn sweeping_the_memory_forgets_no_entry_that_counts() {
    let bench = Bench::memory();
    for policy in Policy::ALL {
        assert_eq!(enter(&bench, policy, "1/1h").await, Ok(()));
    }
    bench.clock.forward(HOUR.saturating_sub(TICK));
    for number in 0..3000 {
        let ip = format!("10.0.{}.{}", number / 256, number % 256);
        assert!(is_admitted(send_from(&bench, &ip, "1/60s").await));
    }
    for policy in Policy::ALL {
        assert_eq!(enter(&bench, policy, "1/1h").await.map_err(|limit_state| limit_state.wait), Err(TICK));
    }
}
