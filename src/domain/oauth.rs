//! How otpd gets access tokens from an OAuth 2.0 authorization server (RFC 6749).
//!
//! Must not send a request, and must not show a secret.

mod service_account;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

pub use self::service_account::{Assertion, AssertionError, ServiceAccount};
use super::target_url::TargetUrl;

/// A client of an authorization server.
#[derive(Clone)]
pub struct OAuthClient {
    /// URL of the token endpoint.
    pub token_url: TargetUrl,
    /// What the token is for, separated by spaces. Empty: what the server grants by default.
    pub scope: String,
    /// The mailbox that the token is for.
    pub username: String,
    /// What otpd gets a token for.
    pub grant: OAuthGrant,
}

/// What a client gets a token for.
#[derive(Clone)]
pub enum OAuthGrant {
    /// Its own credentials (RFC 6749 section 4.4).
    ClientCredentials {
        /// Id of the client.
        client_id: String,
        /// Its secret.
        client_secret: SecretString,
    },
    /// A refresh token of the mailbox's owner (RFC 6749 section 6).
    RefreshToken {
        /// Id of the client.
        client_id: String,
        /// Its secret. A public client has none.
        client_secret: Option<SecretString>,
        /// The refresh token.
        refresh_token: SecretString,
    },
    /// An assertion that a service account signs (RFC 7523 section 2.1).
    ServiceAccount(ServiceAccount),
}

impl OAuthClient {
    /// Returns whether a refresh token that the server sent replaces the one of the settings.
    #[must_use]
    pub fn replaces(&self, sent: Option<&SecretString>) -> bool {
        match (&self.grant, sent) {
            (OAuthGrant::RefreshToken { refresh_token, .. }, Some(sent)) => {
                sent.expose_secret() != refresh_token.expose_secret()
            }
            _ => false,
        }
    }
}

impl fmt::Debug for OAuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuthClient")
            .field("token_url", &self.token_url)
            .field("grant", &self.grant)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OAuthGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientCredentials { .. } => "ClientCredentials(***)",
            Self::RefreshToken { .. } => "RefreshToken(***)",
            Self::ServiceAccount(_) => "ServiceAccount(***)",
        })
    }
}
