//! Settings of how emails are sent: which transports, in which order, and how each is reached.
//!
//! The settings of a transport that nobody uses are not checked. Must not connect.

mod providers;

use std::collections::BTreeSet;

pub use self::providers::{Hook, Mailgun, Postmark, Resend, Ses};
use super::reader::Reader;
use crate::domain::target_url::TargetUrl;

/// A way to send an email.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TransportKind {
    /// The relay, and the fallback relay after it.
    Smtp,
    /// Resend, by HTTP.
    Resend,
    /// Postmark, by HTTP.
    Postmark,
    /// Mailgun, by HTTP.
    Mailgun,
    /// Amazon SES, by HTTP.
    Ses,
    /// A URL of the operator's.
    Hook,
}

/// The words of the settings.
const KINDS: [(&str, TransportKind); 6] = [
    ("smtp", TransportKind::Smtp),
    ("resend", TransportKind::Resend),
    ("postmark", TransportKind::Postmark),
    ("mailgun", TransportKind::Mailgun),
    ("ses", TransportKind::Ses),
    ("hook", TransportKind::Hook),
];

/// How emails are sent. The settings of a transport are `None` if nobody uses it.
#[derive(Debug, Clone)]
pub struct Senders {
    /// The transports of the deployment, in the order in which they are tried.
    pub order: Vec<TransportKind>,
    /// Settings of Resend.
    pub resend: Option<Resend>,
    /// Settings of Postmark.
    pub postmark: Option<Postmark>,
    /// Settings of Mailgun.
    pub mailgun: Option<Mailgun>,
    /// Settings of Amazon SES.
    pub ses: Option<Ses>,
    /// Settings of the hook.
    pub hook: Option<Hook>,
}

impl Senders {
    /// Returns the URL of each transport by HTTP that is used.
    pub fn targets(&self) -> impl Iterator<Item = (TransportKind, &TargetUrl)> {
        let targets = [
            (TransportKind::Resend, self.resend.as_ref().map(|it| &it.url)),
            (TransportKind::Postmark, self.postmark.as_ref().map(|it| &it.url)),
            (TransportKind::Mailgun, self.mailgun.as_ref().map(|it| &it.url)),
            (TransportKind::Ses, self.ses.as_ref().map(|it| &it.url)),
            (TransportKind::Hook, self.hook.as_ref().map(|it| &it.url)),
        ];
        targets.into_iter().filter_map(|(kind, url)| Some((kind, url?)))
    }
}

impl TransportKind {
    /// Returns the word of the settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Reads a list of transports, such as `mail.transport`.
pub(super) fn read_order(reader: &mut Reader<'_>, key: &str) -> Option<Vec<TransportKind>> {
    let words: Vec<_> = KINDS.iter().map(|(word, _)| *word).collect();
    let rule = format!("must be one of: {}", words.join(", "));
    let kind = |entry: &str| {
        let found = KINDS.iter().find(|(word, _)| word.eq_ignore_ascii_case(entry));
        found.map(|(_, kind)| *kind).ok_or_else(|| rule.clone())
    };
    let order = reader.list_of(key, kind)?;
    let distinct: BTreeSet<_> = order.iter().collect();
    if order.is_empty() {
        return reader.refuse(key, "is empty: name at least one way to send emails");
    }
    if distinct.len() < order.len() {
        return reader.refuse(key, "names a way to send emails twice");
    }
    Some(order)
}

/// Reads the settings of every transport in `used`; `order` is that of the deployment.
pub(super) fn read(
    reader: &mut Reader<'_>,
    order: Vec<TransportKind>,
    used: &BTreeSet<TransportKind>,
) -> Option<Senders> {
    let is_used = |kind| used.contains(&kind);
    let resend = is_used(TransportKind::Resend).then(|| providers::resend(reader));
    let postmark = is_used(TransportKind::Postmark).then(|| providers::postmark(reader));
    let mailgun = is_used(TransportKind::Mailgun).then(|| providers::mailgun(reader));
    let ses = is_used(TransportKind::Ses).then(|| providers::ses(reader));
    let hook = is_used(TransportKind::Hook).then(|| providers::hook(reader));
    Some(Senders {
        order,
        resend: known(resend)?,
        postmark: known(postmark)?,
        mailgun: known(mailgun)?,
        ses: known(ses)?,
        hook: known(hook)?,
    })
}

/// Returns `None` if a transport is used and its settings have a fault.
#[expect(clippy::option_option, reason = "the inner one is a fault, the outer one an unused transport")]
fn known<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        Some(settings) => settings.map(Some),
        None => Some(None),
    }
}
