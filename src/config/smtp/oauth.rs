//! Settings of a login by OAuth.
//!
//! Must not show a secret.

use secrecy::SecretString;

use crate::config::reader::Reader;
use crate::domain::oauth::{OAuthClient, OAuthGrant, ServiceAccount};
use crate::domain::target_url::TargetUrl;

/// Settings that only a login by OAuth uses.
const OWN: [&str; 6] = [
    "oauth_token_url",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_refresh_token",
    "oauth_scope",
    "oauth_service_account",
];
/// The token endpoint that messages show.
const MICROSOFT_TOKEN_URL: &str = "https://login.microsoftonline.com/<tenant id>/oauth2/v2.0/token";
const GOOGLE_SCOPE: &str = "https://mail.google.com/";
const OUTLOOK_SCOPE: &str = "https://outlook.office.com/SMTP.Send offline_access";

/// What is known of a relay's authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AuthorizationServer {
    Google,
    /// Of organizations.
    Microsoft365,
    /// Of personal accounts.
    Outlook,
    Other,
}

/// The grant that the settings describe, before its parts are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GrantKind {
    ClientCredentials,
    RefreshToken,
    ServiceAccount,
}

impl AuthorizationServer {
    fn of(host: &str) -> Self {
        match host.to_ascii_lowercase().as_str() {
            "smtp.gmail.com" | "smtp.googlemail.com" | "smtp-relay.gmail.com" => Self::Google,
            "smtp.office365.com" | "smtp-legacy.office365.com" => Self::Microsoft365,
            "smtp-mail.outlook.com" => Self::Outlook,
            _ => Self::Other,
        }
    }

    fn token_url(self) -> Option<&'static str> {
        match self {
            Self::Google => Some("https://oauth2.googleapis.com/token"),
            Self::Outlook => Some("https://login.microsoftonline.com/consumers/oauth2/v2.0/token"),
            // Depends on the tenant.
            Self::Microsoft365 | Self::Other => None,
        }
    }

    fn scope(self, kind: GrantKind) -> &'static str {
        match (self, kind) {
            (Self::Google, _) | (_, GrantKind::ServiceAccount) => GOOGLE_SCOPE,
            (Self::Microsoft365, GrantKind::ClientCredentials) => "https://outlook.office365.com/.default",
            (Self::Microsoft365 | Self::Outlook, _) => OUTLOOK_SCOPE,
            (Self::Other, _) => "",
        }
    }

    /// Returns why the server gives an application no tokens of its own for SMTP.
    fn refuses_client_credentials(self) -> Option<&'static str> {
        match self {
            Self::Google => {
                Some("Google gives a client no token for a mailbox without it, or a service account")
            }
            Self::Outlook => Some("for personal accounts Microsoft gives a client no token without it"),
            Self::Microsoft365 | Self::Other => None,
        }
    }
}

/// Reads the settings of a login by OAuth at the relay `host`.
pub(super) fn read(
    reader: &mut Reader<'_>,
    section: &str,
    host: Option<&str>,
    username: Option<String>,
) -> Option<OAuthClient> {
    let own = |name: &str| format!("{section}.{name}");
    let server = host.map_or(AuthorizationServer::Other, AuthorizationServer::of);
    let is_set = |reader: &mut Reader<'_>, name| reader.text(&own(name)).is_some_and(|text| !text.is_empty());
    let kind = if is_set(reader, "oauth_service_account") {
        GrantKind::ServiceAccount
    } else if is_set(reader, "oauth_refresh_token") {
        GrantKind::RefreshToken
    } else {
        GrantKind::ClientCredentials
    };
    let grant = match kind {
        GrantKind::ServiceAccount => service_account(reader, section),
        GrantKind::RefreshToken => refresh_token(reader, section),
        GrantKind::ClientCredentials => client_credentials(reader, section, server),
    };
    let token_url = token_url(reader, &own("oauth_token_url"), server, grant.as_ref());
    let scope = reader.parse(&own("oauth_scope"), "printable ASCII, scopes separated by spaces", |text| {
        text.bytes().all(|b| (b' '..=b'~').contains(&b)).then(|| text.to_owned())
    });
    let scope = scope.map(|scope| if scope.is_empty() { server.scope(kind).to_owned() } else { scope });
    Some(OAuthClient { token_url: token_url?, scope: scope?, username: username?, grant: grant? })
}

/// Warns of the settings that are set though the relay's login does not use them.
pub(super) fn warn_of_unused(reader: &mut Reader<'_>, section: &str) {
    for key in OWN.map(|name| format!("{section}.{name}")) {
        if reader.text(&key).is_some_and(|text| !text.is_empty()) {
            let auth = crate::config::name(&format!("{section}.auth"));
            reader.warn(&key, &format!("is set, but has no effect without {auth}=oauth"));
        }
    }
}

fn service_account(reader: &mut Reader<'_>, section: &str) -> Option<OAuthGrant> {
    let key = format!("{section}.oauth_service_account");
    let mut is_alone = true;
    for other in ["oauth_client_id", "oauth_client_secret", "oauth_refresh_token"] {
        let other = format!("{section}.{other}");
        if reader.text(&other).is_some_and(|text| !text.is_empty()) {
            let what = format!(
                "is set together with {}, which is another way to get a token: leave one of them out",
                crate::config::name(&key)
            );
            let line = reader.line(&other, "");
            is_alone = reader.refuse_for::<()>(&other, &what, &line).is_some();
        }
    }
    let account = match ServiceAccount::parse(reader.text(&key)?) {
        Ok(account) => account,
        Err(what) => return reader.refuse(&key, what),
    };
    is_alone.then_some(OAuthGrant::ServiceAccount(account))
}

fn refresh_token(reader: &mut Reader<'_>, section: &str) -> Option<OAuthGrant> {
    let own = |name: &str| format!("{section}.{name}");
    let client_id = client_id(reader, &own("oauth_client_id"));
    let client_secret = secret(reader, &own("oauth_client_secret"));
    let refresh_token = secret(reader, &own("oauth_refresh_token"));
    Some(OAuthGrant::RefreshToken {
        client_id: client_id?,
        client_secret: client_secret?,
        refresh_token: refresh_token??,
    })
}

fn client_credentials(
    reader: &mut Reader<'_>,
    section: &str,
    server: AuthorizationServer,
) -> Option<OAuthGrant> {
    let own = |name: &str| format!("{section}.{name}");
    if let Some(why) = server.refuses_client_credentials() {
        client_id(reader, &own("oauth_client_id"));
        return reader.refuse(&own("oauth_refresh_token"), &format!("is missing: {why}"));
    }
    let client_id = client_id(reader, &own("oauth_client_id"));
    let what = "the secret of the application, or with OTP_SMTP__OAUTH_REFRESH_TOKEN none";
    let what =
        what.replace("OTP_SMTP__OAUTH_REFRESH_TOKEN", &crate::config::name(&own("oauth_refresh_token")));
    let is_set = reader.required(&own("oauth_client_secret"), &what).is_some();
    let client_secret = if is_set { secret(reader, &own("oauth_client_secret")) } else { None };
    Some(OAuthGrant::ClientCredentials { client_id: client_id?, client_secret: client_secret?? })
}

fn client_id(reader: &mut Reader<'_>, key: &str) -> Option<String> {
    let text = reader.required(key, "the id of the application, as the provider registered it")?.trim();
    if text.bytes().all(|b| b.is_ascii_graphic()) {
        return Some(text.to_owned());
    }
    reader.refuse(key, "has a space or a character that is not ASCII, which no id has")
}

/// Reads a secret; `None` inside if it is empty.
#[expect(clippy::option_option, reason = "the outer one is a fault, the inner one an empty setting")]
fn secret(reader: &mut Reader<'_>, key: &str) -> Option<Option<SecretString>> {
    let text = reader.text(key)?;
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Some((!text.is_empty()).then(|| text.into()));
    }
    reader.refuse(key, "has a line break or a character that is not ASCII, which no secret of OAuth has")
}

/// Reads the URL of the token endpoint, which the relay or the key file of a service account may
/// imply.
fn token_url(
    reader: &mut Reader<'_>,
    key: &str,
    server: AuthorizationServer,
    grant: Option<&OAuthGrant>,
) -> Option<TargetUrl> {
    let text = reader.text(key)?;
    let of_account = match grant {
        Some(OAuthGrant::ServiceAccount(account)) => account.token_uri(),
        _ => None,
    };
    let usual = of_account.or_else(|| server.token_url());
    let example = if server == AuthorizationServer::Microsoft365 {
        MICROSOFT_TOKEN_URL
    } else {
        usual.unwrap_or(MICROSOFT_TOKEN_URL)
    };
    let url = match (text, usual) {
        ("", Some(usual)) => usual,
        ("", None) => {
            let what = match server {
                AuthorizationServer::Microsoft365 => {
                    "is missing: the token endpoint, with the id of the tenant (directory)"
                }
                _ => "is missing: the token endpoint of the relay's provider",
            };
            let line = reader.line(key, example);
            return reader.refuse_for(key, what, &line);
        }
        (text, _) => text,
    };
    TargetUrl::parse(url, example).map_or_else(
        |reason| {
            let line = reader.line(key, example);
            reader.refuse_for(key, &reason, &line)
        },
        Some,
    )
}
