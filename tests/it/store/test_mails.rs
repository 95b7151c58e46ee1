//! The contract of every store of captured emails.

use std::time::Duration;

use otpd::domain::api_key::{self, KeyHash, KeyKind};
use otpd::domain::keyed_hash::KeyedHash;
use otpd::domain::test_mail::{EncryptedTestMail, MAX_TEST_MAILS, TEST_MAIL_RETENTION};

use super::{TICK, at_once};
use crate::support::store::{Bench, index_key};

on_both_stores! {
    emails_are_listed_newest_first_with_the_times_when_they_were_added,
    each_email_is_stored_for_five_minutes,
    the_newest_fifty_emails_are_stored,
    a_mailbox_holds_its_own_emails_only,
    an_email_may_be_any_bytes_and_large,
    emails_that_are_added_at_once_are_all_stored,
}

fn mailbox(number: u8) -> KeyedHash {
    let key = api_key::text_of(KeyKind::Sandbox, &[number; 32]);
    index_key().test_mailbox(&KeyHash::of(&key).expect("a key"))
}

fn mail(text: impl Into<Vec<u8>>) -> EncryptedTestMail {
    EncryptedTestMail::from_bytes(text.into())
}

async fn put(bench: &Bench, mailbox: &KeyedHash, mail: &EncryptedTestMail) {
    bench.test_mails.put(mailbox, mail).await.expect("an answer");
}

/// Returns the emails of a mailbox, which must be in the order of their times.
async fn list(bench: &Bench, mailbox: &KeyedHash) -> Vec<EncryptedTestMail> {
    let stored = bench.test_mails.list(mailbox).await.expect("an answer");
    assert!(stored.is_sorted_by(|one, other| one.received_at >= other.received_at));
    stored.into_iter().map(|stored| stored.encrypted).collect()
}

async fn emails_are_listed_newest_first_with_the_times_when_they_were_added(bench: &Bench) {
    assert!(list(bench, &mailbox(1)).await.is_empty());
    let begun = bench.clock.millis();
    for text in ["a", "b", "c"] {
        put(bench, &mailbox(1), &mail(text)).await;
        bench.clock.forward(TICK);
    }
    let stored = bench.test_mails.list(&mailbox(1)).await.expect("an answer");
    let stored: Vec<_> = stored.into_iter().map(|stored| (stored.received_at, stored.encrypted)).collect();
    assert_eq!(stored, [(begun + 2, mail("c")), (begun + 1, mail("b")), (begun, mail("a"))]);
    assert_eq!(list(&bench.restarted(), &mailbox(1)).await.len(), 3, "another process lists them");
}

async fn each_email_is_stored_for_five_minutes(bench: &Bench) {
    put(bench, &mailbox(1), &mail("a")).await;
    bench.clock.forward(Duration::from_mins(2));
    put(bench, &mailbox(1), &mail("b")).await;
    bench.clock.forward(TEST_MAIL_RETENTION.saturating_sub(Duration::from_mins(2) + TICK));
    assert_eq!(list(bench, &mailbox(1)).await, [mail("b"), mail("a")]);
    bench.clock.forward(TICK);
    assert_eq!(list(bench, &mailbox(1)).await, [mail("b")]);
    put(bench, &mailbox(1), &mail("c")).await;
    assert_eq!(list(bench, &mailbox(1)).await, [mail("c"), mail("b")]);
    bench.clock.forward(TEST_MAIL_RETENTION);
    assert!(list(bench, &mailbox(1)).await.is_empty());
    assert_eq!(TEST_MAIL_RETENTION, Duration::from_mins(5));
}

async fn the_newest_fifty_emails_are_stored(bench: &Bench) {
    for number in 0..60_u8 {
        put(bench, &mailbox(1), &mail([number])).await;
    }
    let expected: Vec<_> = (10..60_u8).rev().map(|number| mail([number])).collect();
    assert_eq!((list(bench, &mailbox(1)).await, MAX_TEST_MAILS), (expected, 50));
}

async fn a_mailbox_holds_its_own_emails_only(bench: &Bench) {
    put(bench, &mailbox(1), &mail("a")).await;
    put(bench, &mailbox(2), &mail("b")).await;
    assert_eq!(list(bench, &mailbox(1)).await, [mail("a")]);
    assert_eq!(list(bench, &mailbox(2)).await, [mail("b")]);
    assert!(list(bench, &mailbox(3)).await.is_empty());
}

async fn an_email_may_be_any_bytes_and_large(bench: &Bench) {
    let any: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    for email in [mail(any.clone()), mail([]), mail(any)] {
        put(bench, &mailbox(1), &email).await;
        assert_eq!(list(bench, &mailbox(1)).await[0], email);
    }
    assert_eq!(list(bench, &mailbox(1)).await.len(), 3);
}

async fn emails_that_are_added_at_once_are_all_stored(bench: &Bench) {
    let calls = (0..40_u8).map(|number| {
        let bench = bench.clone();
        async move { put(&bench, &mailbox(1), &mail([number])).await }
    });
    at_once(calls).await;
    let mut stored: Vec<_> = list(bench, &mailbox(1)).await;
    stored.sort_by(|one, other| one.as_bytes().cmp(other.as_bytes()));
    assert_eq!(stored, (0..40_u8).map(|number| mail([number])).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_redis_holds_of_another_form_is_an_error_and_left_alone() {
    let bench = Bench::redis().await;
    put(&bench, &mailbox(1), &mail("a")).await;
    let (key, value, ttl) = bench.server().dump().await.remove(0);
    let most = i64::try_from(TEST_MAIL_RETENTION.as_millis()).expect("small");
    assert!((most - 60_000..=most).contains(&ttl), "{ttl}");
    let later = [&[value[0] | 0x10], &value[1..]].concat();
    for other in [later, value[..value.len() - 1].to_vec(), value[..3].to_vec(), Vec::new()] {
        let mut set = redis::cmd("SET");
        set.arg(&key).arg(&other).arg("PX").arg(100_000);
        bench.server().query::<()>(&set).await;
        assert!(bench.test_mails.list(&mailbox(1)).await.is_err(), "{other:?}");
        assert!(bench.test_mails.put(&mailbox(1), &mail("b")).await.is_err(), "{other:?}");
        assert_eq!(bench.server().dump().await[0].1, other);
    }
}
