//! What an access token says about itself, to advise the operator.
//!
//! Must not decide anything by it: a token is for the relay, and nothing of it is verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Claims of a JWT that say what it is for. Contains no name of a person.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct TokenClaims {
    /// The service that the token is for.
    #[serde(default)]
    pub aud: Option<String>,
    /// Permissions of an application (Microsoft).
    #[serde(default)]
    pub roles: Vec<String>,
    /// Permissions that a user has delegated, separated by spaces (Microsoft).
    #[serde(default)]
    pub scp: Option<String>,
}

impl TokenClaims {
    /// Reads the claims of a token, if it is a JWT.
    pub(super) fn read(token: &str) -> Option<Self> {
        let mut parts = token.split('.');
        let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
        serde_json::from_slice(&json).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_claims_of_a_jwt_are_read_and_other_tokens_have_none() {
        let payload = URL_SAFE_NO_PAD.encode(
            r#"{"aud":"https://outlook.office365.com","roles":["SMTP.SendAsApp"],"upn":"a@b.example","iat":1}"#,
        );
        let claims = TokenClaims::read(&format!("e30.{payload}.c2ln")).unwrap();
        assert_eq!(claims.aud.as_deref(), Some("https://outlook.office365.com"));
        assert_eq!((claims.roles, claims.scp), (vec!["SMTP.SendAsApp".to_owned()], None));
        let none = TokenClaims::read(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode("{}")));
        assert_eq!(none, Some(TokenClaims::default()));
        for token in [
            "ya29.a0AfH6SM",
            "opaque",
            "a.b.c",
            "..",
            "e30.e30",
            &format!("a.{}.c", URL_SAFE_NO_PAD.encode("[1]")),
        ] {
            assert_eq!(TokenClaims::read(token), None, "{token}");
        }
    }
}
