//! Parses the answer of a token endpoint (RFC 6749 sections 5.1 and 5.2).
//!
//! Must not keep the text of an error: it may name a mailbox.

use std::time::Duration;

use hyper::StatusCode;
use secrecy::SecretString;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::error::{TokenCause, TokenRefusal};

/// Life of a token if the answer does not say it. RFC 6749 leaves it open then; tokens of the known
/// providers live an hour. A token that ends earlier is renewed once a relay refuses it.
const USUAL_LIFE: Duration = Duration::from_mins(5);
/// Longest life that is believed. A token that lives longer is renewed earlier than necessary.
const MAX_LIFE: Duration = Duration::from_hours(24);
/// Maximum length of an error code.
const MAX_ERROR: usize = 64;

/// Error codes of a server that cannot answer now.
const TEMPORARY: [&str; 2] = ["temporarily_unavailable", "server_error"];

/// A token, as the server granted it.
pub(super) struct GrantedToken {
    pub(super) token: SecretString,
    pub(super) life: Duration,
    /// A refresh token that replaces the one of the request.
    pub(super) refresh_token: Option<SecretString>,
}

#[derive(Deserialize)]
struct TokenBody {
    access_token: String,
    token_type: String,
    expires_in: Option<Seconds>,
    refresh_token: Option<String>,
}

/// A number, or a string with one, as some servers send it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    #[serde(default)]
    error_description: serde_json::Value,
}

/// Parses an answer.
pub(super) fn parse(status: StatusCode, body: &[u8]) -> Result<GrantedToken, TokenCause> {
    if status.is_success() {
        return granted(body).map_err(|fault| TokenCause::Invalid { status, fault });
    }
    let denied: Option<ErrorBody> = serde_json::from_slice(body).ok();
    let refusal = denied.filter(|denied| is_error_code(&denied.error));
    match refusal {
        _ if is_temporary(status) => Err(TokenCause::Unavailable(status)),
        Some(denied) if TEMPORARY.contains(&denied.error.as_str()) => Err(TokenCause::Unavailable(status)),
        Some(denied) => {
            let aadsts = denied.error_description.as_str().and_then(aadsts);
            Err(TokenCause::Refused(TokenRefusal { error: denied.error, aadsts }))
        }
        None => Err(TokenCause::Invalid { status, fault: "is not one of OAuth" }),
    }
}

/// Returns whether the server cannot answer now.
fn is_temporary(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

fn granted(body: &[u8]) -> Result<GrantedToken, &'static str> {
    let granted: TokenBody = serde_json::from_slice(body).map_err(|_| "is not a token in JSON")?;
    let token = Zeroizing::new(granted.access_token);
    let refresh_token = granted.refresh_token.map(Zeroizing::new);
    if !is_token(&token) {
        return Err("has an access token with characters that no bearer token has");
    }
    if !granted.token_type.eq_ignore_ascii_case("bearer") {
        return Err("has a token that is not a bearer token");
    }
    let life = match granted.expires_in {
        None => USUAL_LIFE,
        Some(seconds) => life(&seconds).ok_or("has an expires_in that is not a number of seconds")?,
    };
    // A refresh token may contain any visible character (RFC 6749 appendix A.17).
    let refresh_token = refresh_token.filter(|token| is_visible(token));
    let refresh_token = refresh_token.map(|token| SecretString::from(token.as_str()));
    Ok(GrantedToken { token: SecretString::from(token.as_str()), life, refresh_token })
}

fn life(seconds: &Seconds) -> Option<Duration> {
    let seconds = match seconds {
        Seconds::Number(number) => *number,
        Seconds::Text(text) => f64::from(text.parse::<u32>().ok()?),
    };
    let life = Duration::try_from_secs_f64(seconds).ok().filter(|life| !life.is_zero())?;
    Some(life.min(MAX_LIFE))
}

/// Returns whether a text has the form of a bearer token (RFC 6750 section 2.1).
fn is_token(text: &str) -> bool {
    let token = text.trim_end_matches('=');
    !token.is_empty() && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b))
}

/// Returns whether a text is an error code as the registered ones are: a word of lower-case
/// letters, digits and underscores. Anything else may be text.
fn is_error_code(text: &str) -> bool {
    (1..=MAX_ERROR).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// Returns the number of Microsoft's error at the beginning of a description.
fn aadsts(description: &str) -> Option<u32> {
    let digits = description.strip_prefix("AADSTS")?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn said(status: u16, body: &str) -> String {
        match parse(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Ok(grant) => format!(
                "{} for {} s, refresh {:?}",
                grant.token.expose_secret(),
                grant.life.as_secs(),
                grant.refresh_token.as_ref().map(ExposeSecret::expose_secret)
            ),
            Err(cause) => cause.to_string(),
        }
    }

    #[test]
    fn a_token_is_taken_in_the_forms_that_servers_send() {
        for (body, expected) in [
            (
                r#"{"access_token":"ya29.a-b_c~d+e/f==","token_type":"Bearer","expires_in":3599}"#,
                "ya29.a-b_c~d+e/f== for 3599 s, refresh None",
            ),
            (
                r#"{"token_type":"bearer","expires_in":"120","access_token":"t","x":{}}"#,
                "t for 120 s, refresh None",
            ),
            (r#"{"token_type":"BEARER","access_token":"t"}"#, "t for 300 s, refresh None"),
            (
                r#"{"token_type":"Bearer","access_token":"t","expires_in":1e12}"#,
                "t for 86400 s, refresh None",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"t","expires_in":90,"refresh_token":"1//r *"}"#,
                "t for 90 s, refresh Some(\"1//r *\")",
            ),
            (
                r#"{"token_type":"Bearer","access_token":"t","expires_in":90,"refresh_token":"a\r\nb"}"#,
                "t for 90 s, refresh None",
            ),
        ] {
            assert_eq!(said(200, body), expected, "{body}");
        }
    }

    #[test]
    fn anything_else_is_no_token_and_its_text_is_not_kept() {
        for (status, body, expected) in [
            (200, "<html>secret</html>", "is not a token in JSON"),
            (200, "", "is not a token in JSON"),
            (200, "[]", "is not a token in JSON"),
            (200, r#"{"access_token":7,"token_type":"Bearer"}"#, "is not a token in JSON"),
            (200, r#"{"access_token":"secret","token_type":null}"#, "is not a token in JSON"),
            (200, r#"{"access_token":"secret\r\nMAIL","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"secret secret","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"sécret","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"===","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"sec=ret","token_type":"Bearer"}"#, "no bearer token has"),
            (200, r#"{"access_token":"secret","token_type":"mac"}"#, "not a bearer token"),
            (200, r#"{"access_token":"secret","token_type":"Bearer","expires_in":"1h"}"#, "not a number"),
            (200, r#"{"access_token":"secret","token_type":"Bearer","expires_in":-1}"#, "not a number"),
            (200, r#"{"access_token":"secret","token_type":"Bearer","expires_in":0}"#, "not a number"),
            (302, "secret", "(status 302) is not one of OAuth"),
            (404, "<html>secret</html>", "(status 404) is not one of OAuth"),
            (400, r#"{"error":"Secret text"}"#, "(status 400) is not one of OAuth"),
            (400, r#"{"error":{"message":"secret"}}"#, "(status 400) is not one of OAuth"),
            (503, "secret", "answered with status 503"),
            (500, r#"{"error":"invalid_client"}"#, "answered with status 500"),
            (429, r#"{"error":"invalid_request"}"#, "answered with status 429"),
            (400, r#"{"error":"temporarily_unavailable"}"#, "answered with status 400"),
        ] {
            let said = said(status, body);
            assert!(said.contains(expected) && !said.to_lowercase().contains("secret"), "{body}: {said}");
        }
    }

    #[test]
    fn of_a_refusal_only_the_code_and_the_number_of_microsoft_are_kept() {
        for (body, expected) in [
            (r#"{"error":"invalid_grant","error_description":"Bad secret"}"#, "refused: invalid_grant"),
            (
                r#"{"error":"invalid_client","error_description":"AADSTS7000215: Secret of a@b.example"}"#,
                "refused: invalid_client (AADSTS7000215)",
            ),
            (r#"{"error":"invalid_client","error_description":"AADSTS: x"}"#, "refused: invalid_client"),
            (r#"{"error":"invalid_client","error_description":["AADSTS1"]}"#, "refused: invalid_client"),
            (r#"{"error":"a","error_description":"AADSTS99999999999"}"#, "refused: a"),
        ] {
            assert_eq!(said(400, body), format!("the token endpoint {expected}"), "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_text_of_an_answer_is_repeated(status in 100_u16..600, text in "SECRET[ -~]{0,40}") {
            let json = serde_json::json!({"error": text, "error_description": text});
            for body in [text.clone(), json.to_string()] {
                prop_assert!(!said(status, &body).contains("SECRET"));
            }
        }

        #[test]
        fn a_token_can_be_written_into_a_command(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let json = serde_json::json!({"access_token": String::from_utf8_lossy(&body), "token_type": "Bearer"});
            if let Ok(grant) = parse(StatusCode::OK, json.to_string().as_bytes()) {
                prop_assert!(grant.token.expose_secret().bytes().all(|b| b.is_ascii_graphic()));
            }
        }
    }
}
