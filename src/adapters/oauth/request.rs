//! Requests to a token endpoint (RFC 6749 section 4.4.2, section 6; RFC 7523 section 2.1).
//!
//! Must not keep a secret in readable form longer than the request takes.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::error::TokenCause;
use crate::domain::oauth::{Assertion, OAuthClient, OAuthGrant};

const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// What is encoded in a form.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'*');

/// A form; it is wiped when it is dropped.
struct Form(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Form {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Returns a request for a token. `rotated` is the refresh token that has replaced the one of the
/// settings.
pub(super) fn request(
    client: &OAuthClient,
    rotated: Option<&SecretString>,
    now: SystemTime,
) -> Result<Request<Full<Bytes>>, TokenCause> {
    let form = form(client, rotated, now)?;
    let body = Bytes::from_owner(Form(Zeroizing::new(form.as_bytes().to_vec())));
    let mut request = Request::post(client.token_url.as_str())
        .body(Full::new(body))
        .map_err(|_| TokenCause::Request("the URL of the token endpoint cannot be used"))?;
    request.headers_mut().insert(CONTENT_TYPE, FORM);
    request.headers_mut().insert(ACCEPT, JSON);
    Ok(request)
}

fn form(
    client: &OAuthClient,
    rotated: Option<&SecretString>,
    now: SystemTime,
) -> Result<Zeroizing<String>, TokenCause> {
    match &client.grant {
        OAuthGrant::ClientCredentials { client_id, client_secret } => Ok(encoded(&[
            ("grant_type", Some("client_credentials")),
            ("client_id", Some(client_id)),
            ("client_secret", Some(client_secret.expose_secret())),
            ("scope", Some(&client.scope)),
        ])),
        OAuthGrant::RefreshToken { client_id, client_secret, refresh_token } => Ok(encoded(&[
            ("grant_type", Some("refresh_token")),
            ("client_id", Some(client_id)),
            ("client_secret", client_secret.as_ref().map(ExposeSecret::expose_secret)),
            ("refresh_token", Some(rotated.unwrap_or(refresh_token).expose_secret())),
            ("scope", Some(&client.scope)),
        ])),
        OAuthGrant::ServiceAccount(account) => {
            let now = now
                .duration_since(UNIX_EPOCH)
                .map_err(|_| TokenCause::Request("the clock of this machine is wrong"))?;
            let assertion = account.sign(Assertion {
                mailbox: &client.username,
                scope: &client.scope,
                audience: client.token_url.as_str(),
                now,
            });
            let assertion = assertion
                .map_err(|_| TokenCause::Request("the key of the service account could not sign"))?;
            // The scope is in the assertion.
            Ok(encoded(&[("grant_type", Some(JWT_BEARER)), ("assertion", Some(assertion.expose_secret()))]))
        }
    }
}

/// Returns the fields that have a value, as a form.
fn encoded(fields: &[(&str, Option<&str>)]) -> Zeroizing<String> {
    let capacity: usize =
        fields.iter().map(|(name, value)| name.len() + 2 + 3 * value.map_or(0, str::len)).sum();
    // Is not moved while it grows, which would leave a copy.
    let mut form = Zeroizing::new(String::with_capacity(capacity));
    for (name, value) in fields {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        let separator = if form.is_empty() { "" } else { "&" };
        // Writing to a string cannot fail.
        let _ = write!(form, "{separator}{name}={}", utf8_percent_encode(value, ENCODED));
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_and_has_no_empty_field() {
        let form = encoded(&[("a", Some("x y&z=é+%")), ("b", None), ("c", Some("")), ("d", Some("-._*~"))]);
        assert_eq!(*form, "a=x%20y%26z%3D%C3%A9%2B%25&d=-._*%7E");
    }
}
