//! Settings of the email providers that are reached by HTTP, and of the hook.
//!
//! Must not show a key.

use secrecy::SecretString;

use crate::config::reader::Reader;
use crate::domain::hook_secret::HookSecret;
use crate::domain::target_url::TargetUrl;

/// Resend.
#[derive(Debug, Clone)]
pub struct Resend {
    /// API key.
    pub api_key: SecretString,
    /// URL of the API.
    pub url: TargetUrl,
}

/// Postmark.
#[derive(Debug, Clone)]
pub struct Postmark {
    /// Server API token.
    pub token: SecretString,
    /// Message stream.
    pub message_stream: String,
    /// URL of the API.
    pub url: TargetUrl,
}

/// Mailgun.
#[derive(Debug, Clone)]
pub struct Mailgun {
    /// API key, or the sending key of a domain.
    pub api_key: SecretString,
    /// Domain that sends.
    pub domain: String,
    /// URL of the API, which depends on the region of the domain.
    pub url: TargetUrl,
}

/// Amazon SES.
#[derive(Debug, Clone)]
pub struct Ses {
    /// AWS Region.
    pub region: String,
    /// Access key id of an IAM user.
    pub access_key_id: String,
    /// Its secret access key.
    pub secret_access_key: SecretString,
    /// URL of the API.
    pub url: TargetUrl,
}

/// The hook.
#[derive(Debug, Clone)]
pub struct Hook {
    /// URL that receives the codes.
    pub url: TargetUrl,
    /// Secret that the requests are signed with, as Standard Webhooks writes it.
    pub secret: HookSecret,
}

pub(super) fn resend(reader: &mut Reader<'_>) -> Option<Resend> {
    let api_key = key(reader, "resend.api_key", "the API key of Resend");
    let url = base_url(reader, "resend.url");
    Some(Resend { api_key: api_key?, url: url? })
}

pub(super) fn postmark(reader: &mut Reader<'_>) -> Option<Postmark> {
    let token = key(reader, "postmark.token", "the Server API token of Postmark");
    let message_stream = word(reader, "postmark.message_stream", "the id of a message stream");
    let url = base_url(reader, "postmark.url");
    Some(Postmark { token: token?, message_stream: message_stream?, url: url? })
}

pub(super) fn mailgun(reader: &mut Reader<'_>) -> Option<Mailgun> {
    let api_key = key(reader, "mailgun.api_key", "an API key, or a sending key of the domain, of Mailgun");
    let domain = word(reader, "mailgun.domain", "the domain that sends, as Mailgun lists it");
    let url = base_url(reader, "mailgun.url");
    Some(Mailgun { api_key: api_key?, domain: domain?, url: url? })
}

pub(super) fn ses(reader: &mut Reader<'_>) -> Option<Ses> {
    let region = word(reader, "ses.region", "the AWS Region, such as eu-central-1");
    let access_key_id = word(reader, "ses.access_key_id", "the access key id of an IAM user");
    let secret_access_key = key(reader, "ses.secret_access_key", "the secret access key of the IAM user");
    let url = match reader.text("ses.url")? {
        // A region without a fault is in a URL as it is.
        "" => TargetUrl::parse(&format!("https://email.{}.amazonaws.com", region.as_ref()?), "").ok(),
        _ => base_url(reader, "ses.url"),
    };
    Some(Ses {
        region: region?,
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        url: url?,
    })
}

pub(super) fn hook(reader: &mut Reader<'_>) -> Option<Hook> {
    let is_named = reader.required("hook.url", "the URL that receives the codes").is_some();
    let url = if is_named { url(reader, "hook.url") } else { None };
    let rule = "whsec_ and 24 to 64 bytes in Base64, as `otpd keygen hook-secret` prints it";
    let is_set = reader.required("hook.secret", "the secret that the requests are signed with").is_some();
    let secret = if is_set { reader.parse("hook.secret", rule, HookSecret::parse) } else { None };
    Some(Hook { url: url?, secret: secret? })
}

fn url(reader: &mut Reader<'_>, key: &str) -> Option<TargetUrl> {
    let text = reader.text(key)?;
    TargetUrl::parse(text, crate::config::names::example(key).unwrap_or(text))
        .map_or_else(|reason| reader.refuse(key, &reason), Some)
}

/// Reads a URL that paths are appended to.
fn base_url(reader: &mut Reader<'_>, key: &str) -> Option<TargetUrl> {
    let url = url(reader, key)?;
    if url.has_query() { reader.refuse(key, "has a query: leave it out") } else { Some(url) }
}

/// Reads a secret that is sent in a header.
fn key(reader: &mut Reader<'_>, key: &str, what: &str) -> Option<SecretString> {
    let text = reader.required(key, what)?.trim();
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(text.into());
    }
    reader.refuse(key, "has a space or a character that is not ASCII, which no key has")
}

/// Reads a text that becomes a part of a URL or of a header.
fn word(reader: &mut Reader<'_>, key: &str, what: &str) -> Option<String> {
    let text = reader.required(key, what)?.trim();
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if text.bytes().all(is_plain) {
        return Some(text.to_owned());
    }
    reader.refuse(key, &format!("must be {what}: letters, digits, -, . and _"))
}
