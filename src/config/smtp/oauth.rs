//! Settings of a login by OAuth.
//!
//! Must not show a secret.

use secrecy::SecretString;

use crate::config::reader::Reader;
use crate::domain::oauth::{OAuthClient, OAuthGrant, ServiceAccount};
use crate::domain::target_url::TargetUrl;

/// Settings that only a login by OAuth uses.
pub(super) const OWN: [&str; 6] = [
    "oauth_token_url",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_refresh_token",
    "oauth_scope",
    "oauth_service_account",
];
/// The token endpoint that messages show.
const MICROSOFT_TOKEN_URL: &str = "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token";
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

/// The settings of a grant as text, each read once; `None` is a text with a fault.
struct GrantTexts<'a> {
    service_account: Option<&'a str>,
    refresh_token: Option<&'a str>,
    client_id: Option<&'a str>,
    client_secret: Option<&'a str>,
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
    let texts = GrantTexts {
        service_account: reader.text(&own("oauth_service_account")),
        refresh_token: reader.text(&own("oauth_refresh_token")),
        client_id: reader.text(&own("oauth_client_id")),
        client_secret: reader.text(&own("oauth_client_secret")),
    };
    let kind = texts.kind();
    let grant = match kind {
        GrantKind::ServiceAccount => service_account(reader, section, &texts),
        GrantKind::RefreshToken => refresh_token(reader, section, &texts),
        GrantKind::ClientCredentials => client_credentials(reader, section, &texts, server),
    };
    let token_url = token_url(reader, &own("oauth_token_url"), server, grant.as_ref());
    let scope = reader.parse(&own("oauth_scope"), "printable ASCII, scopes separated by spaces", |text| {
        text.bytes().all(|b| (b' '..=b'~').contains(&b)).then(|| text.to_owned())
    });
    let scope = scope.map(|scope| if scope.is_empty() { server.scope(kind).to_owned() } else { scope });
    Some(OAuthClient { token_url: token_url?, scope: scope?, username: username?, grant: grant? })
}

impl GrantTexts<'_> {
    fn kind(&self) -> GrantKind {
        if self.service_account != Some("") {
            GrantKind::ServiceAccount
        } else if self.refresh_token != Some("") {
            GrantKind::RefreshToken
        } else {
            GrantKind::ClientCredentials
        }
    }
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

fn service_account(reader: &mut Reader<'_>, section: &str, texts: &GrantTexts<'_>) -> Option<OAuthGrant> {
    let key = format!("{section}.oauth_service_account");
    let rivals = [
        ("oauth_client_id", texts.client_id),
        ("oauth_client_secret", texts.client_secret),
        ("oauth_refresh_token", texts.refresh_token),
    ];
    let what = format!(
        "is set together with {}, which is another way to get a token: leave one of them out",
        crate::config::name(&key)
    );
    let set = rivals.into_iter().filter(|(_, text)| text.is_some_and(|text| !text.is_empty()));
    let set: Vec<_> = set.map(|(name, _)| format!("{section}.{name}")).collect();
    for rival in &set {
        let line = reader.line(rival, "");
        reader.refuse_for::<()>(rival, &what, &line);
    }
    let account = match ServiceAccount::parse(texts.service_account?) {
        Ok(account) => account,
        Err(what) => return reader.refuse(&key, what),
    };
    set.is_empty().then_some(OAuthGrant::ServiceAccount(account))
}

fn refresh_token(reader: &mut Reader<'_>, section: &str, texts: &GrantTexts<'_>) -> Option<OAuthGrant> {
    let client_id = client_id(reader, section, texts);
    let client_secret = match texts.client_secret {
        Some("") => Some(None),
        text => secret(reader, &format!("{section}.oauth_client_secret"), text).map(Some),
    };
    let refresh_token = secret(reader, &format!("{section}.oauth_refresh_token"), texts.refresh_token);
    Some(OAuthGrant::RefreshToken {
        client_id: client_id?,
        client_secret: client_secret?,
        refresh_token: refresh_token?,
    })
}

fn client_credentials(
    reader: &mut Reader<'_>,
    section: &str,
    texts: &GrantTexts<'_>,
    server: AuthorizationServer,
) -> Option<OAuthGrant> {
    let client_id = client_id(reader, section, texts);
    let refresh_token = format!("{section}.oauth_refresh_token");
    if let Some(why) = server.refuses_client_credentials() {
        return reader.refuse(&refresh_token, &format!("is missing: {why}"));
    }
    let key = format!("{section}.oauth_client_secret");
    let client_secret = match texts.client_secret {
        Some("") => {
            let another = crate::config::name(&refresh_token);
            reader.refuse(&key, &format!("is missing: the secret of the application; or set {another}"))
        }
        text => secret(reader, &key, text),
    };
    Some(OAuthGrant::ClientCredentials { client_id: client_id?, client_secret: client_secret? })
}

fn client_id(reader: &mut Reader<'_>, section: &str, texts: &GrantTexts<'_>) -> Option<String> {
    let key = format!("{section}.oauth_client_id");
    match texts.client_id? {
        "" => reader.refuse(&key, "is missing: the id of the application, as the provider registered it"),
        text if text.bytes().all(|b| b.is_ascii_graphic()) => Some(text.to_owned()),
        _ => reader.refuse(&key, "has a space or a character that is not ASCII, which no id has"),
    }
}

/// Returns a text as a secret.
fn secret(reader: &mut Reader<'_>, key: &str, text: Option<&str>) -> Option<SecretString> {
    let text = text?;
    if text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Some(text.into());
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::config::smtp::Auth;
    use crate::config::{Faults, Loaded, Settings, Sources, Texts, serve};

    const CLIENT: [(&str, &str); 2] =
        [("OTP_SMTP__OAUTH_CLIENT_ID", "app"), ("OTP_SMTP__OAUTH_CLIENT_SECRET", "s3cret~value")];
    const REFRESH: [(&str, &str); 2] =
        [("OTP_SMTP__OAUTH_CLIENT_ID", "app"), ("OTP_SMTP__OAUTH_REFRESH_TOKEN", "1//s3cret refresh")];

    fn with(more: &[&[(&str, &str)]]) -> Result<Loaded<Settings>, Faults> {
        let oauth = [("OTP_SMTP__AUTH", "oauth"), ("EMAIL_PASSWORD", "")];
        let mut settings = oauth.to_vec();
        settings.extend(more.concat());
        let texts = Texts::enough_and(&settings);
        serve(&Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap())
    }

    fn client(more: &[&[(&str, &str)]]) -> OAuthClient {
        let loaded = with(more).unwrap_or_else(|faults| panic!("{more:?}: {faults}"));
        assert_eq!(loaded.warnings, [""; 0]);
        let relay = loaded.settings.smtp.relays.into_iter().next().unwrap();
        assert!(!format!("{relay:?}").contains("s3cret"));
        match relay.auth {
            Auth::OAuth(client) => client,
            other => panic!("{other:?}"),
        }
    }

    /// Returns the fault of these settings, which must be one of this setting.
    fn refused(name: &str, more: &[&[(&str, &str)]]) -> String {
        let faults = with(more).expect_err(&format!("{more:?}"));
        let names: Vec<_> = faults.iter().map(|fault| fault.name().to_owned()).collect();
        assert_eq!(names, [name], "{more:?}: {faults}");
        let said = faults.to_string();
        assert!(!said.contains("s3cret"), "{said}");
        said
    }

    #[test]
    fn the_grant_follows_from_what_is_set_and_the_rest_from_the_relay() {
        let url = ("OTP_SMTP__OAUTH_TOKEN_URL", "https://login.microsoftonline.com/t/oauth2/v2.0/token");
        let office = client(&[&[("SMTP_SERVER", "SMTP.office365.com"), url], &CLIENT]);
        assert_eq!(office.token_url.as_str(), url.1);
        assert_eq!(office.scope, "https://outlook.office365.com/.default");
        assert_eq!(office.username, "you@example.com");
        assert!(matches!(office.grant, OAuthGrant::ClientCredentials { client_id, client_secret }
            if client_id == "app" && client_secret.expose_secret() == "s3cret~value"));

        let gmail = client(&[&[("SMTP_SERVER", "smtp.gmail.com")], &REFRESH]);
        assert_eq!(gmail.token_url.as_str(), "https://oauth2.googleapis.com/token");
        assert_eq!(gmail.scope, "https://mail.google.com/");
        assert!(matches!(gmail.grant, OAuthGrant::RefreshToken { client_secret: None, refresh_token, .. }
            if refresh_token.expose_secret() == "1//s3cret refresh"));

        let name = ("OTP_SMTP__USERNAME", "box@example.com");
        let outlook = client(&[&[("SMTP_SERVER", "smtp-mail.outlook.com"), name], &REFRESH, &CLIENT[1..]]);
        assert!(outlook.token_url.as_str().ends_with("/consumers/oauth2/v2.0/token"));
        assert_eq!(outlook.scope, "https://outlook.office.com/SMTP.Send offline_access");
        assert_eq!(outlook.username, "box@example.com");
        assert!(matches!(outlook.grant, OAuthGrant::RefreshToken { client_secret: Some(_), .. }));

        let other = client(&[&[("OTP_SMTP__OAUTH_TOKEN_URL", "http://localhost:9/t")], &CLIENT]);
        assert_eq!((other.token_url.as_str(), other.scope.as_str()), ("http://localhost:9/t", ""));
    }

    #[test]
    fn what_is_missing_or_contradicts_is_told_with_a_line_that_helps() {
        let url = [("OTP_SMTP__OAUTH_TOKEN_URL", "https://id.example/token")];
        let office = [("SMTP_SERVER", "smtp.office365.com")];
        let said = refused("OTP_SMTP__OAUTH_TOKEN_URL", &[&office, &CLIENT]);
        let line =
            "OTP_SMTP__OAUTH_TOKEN_URL='https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token'";
        assert!(said.contains(line) || said.contains(&line.replace('\'', "")), "{said}");
        refused("OTP_SMTP__OAUTH_TOKEN_URL", &[&CLIENT]);
        refused(
            "OTP_SMTP__OAUTH_TOKEN_URL",
            &[&CLIENT, &[("OTP_SMTP__OAUTH_TOKEN_URL", "http://id.example/token")]],
        );
        refused("OTP_SMTP__OAUTH_CLIENT_ID", &[&url, &CLIENT[1..]]);
        refused("OTP_SMTP__OAUTH_CLIENT_ID", &[&url, &REFRESH[1..]]);
        refused("OTP_SMTP__OAUTH_CLIENT_ID", &[&url, &CLIENT[1..], &[("OTP_SMTP__OAUTH_CLIENT_ID", "a b")]]);
        refused("OTP_SMTP__OAUTH_CLIENT_SECRET", &[&url, &CLIENT[..1]]);
        refused("OTP_SMTP__OAUTH_SCOPE", &[&url, &CLIENT, &[("OTP_SMTP__OAUTH_SCOPE", "a\u{1}b")]]);
        for server in ["smtp.gmail.com", "smtp-mail.outlook.com"] {
            refused("OTP_SMTP__OAUTH_REFRESH_TOKEN", &[&[("SMTP_SERVER", server)], &CLIENT]);
        }
        let account = [("OTP_SMTP__OAUTH_SERVICE_ACCOUNT", "{\"type\":\"s3cret\"}")];
        let said = refused("OTP_SMTP__OAUTH_SERVICE_ACCOUNT", &[&url, &account]);
        assert!(said.contains("must be the JSON key file of a service account"), "{said}");
        // All at once.
        let faults = with(&[&office]).unwrap_err();
        assert_eq!(faults.iter().count(), 3, "{faults}");
        let faults = with(&[&account, &REFRESH]).unwrap_err();
        assert!(
            faults.to_string().contains("is set together with OTP_SMTP__OAUTH_SERVICE_ACCOUNT"),
            "{faults}"
        );
    }

    #[test]
    fn the_second_relay_has_settings_of_its_own() {
        let second = [
            ("OTP_SMTP_FALLBACK__SERVER", "smtp.gmail.com"),
            ("OTP_SMTP_FALLBACK__AUTH", "oauth"),
            ("OTP_SMTP_FALLBACK__OAUTH_CLIENT_ID", "app"),
        ];
        let url = [("OTP_SMTP__OAUTH_TOKEN_URL", "https://id.example/token")];
        let said = refused("OTP_SMTP_FALLBACK__OAUTH_REFRESH_TOKEN", &[&url, &CLIENT, &second]);
        assert!(said.contains("Google gives a client no token"), "{said}");
        for name in OWN.map(|name| format!("OTP_SMTP_FALLBACK__{}", name.to_uppercase())) {
            let said = refused(&name, &[&url, &CLIENT, &[(&name, "x")]]);
            assert!(said.contains("is set, but OTP_SMTP_FALLBACK__SERVER is not"), "{said}");
        }
    }

    #[test]
    fn settings_without_an_effect_and_passwords_at_microsoft_are_warned_of() {
        let password = [("OTP_SMTP__AUTH", "password"), ("EMAIL_PASSWORD", "hunter2")];
        let warnings = |more: &[(&str, &str)]| {
            let texts = Texts::enough_and(&[&password, more].concat());
            let sources = Sources::layered(texts, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap();
            serve(&sources).unwrap().warnings.join("\n")
        };
        assert_eq!(warnings(&[]), "");
        let unused = warnings(&CLIENT);
        assert!(
            unused
                .contains("OTP_SMTP__OAUTH_CLIENT_ID is set, but has no effect without OTP_SMTP__AUTH=oauth")
        );
        assert!(unused.contains("OTP_SMTP__OAUTH_CLIENT_SECRET") && !unused.contains("s3cret"), "{unused}");
        for server in ["smtp.office365.com", "SMTP-mail.Outlook.com", "smtp-legacy.office365.com"] {
            let said = warnings(&[("SMTP_SERVER", server)]);
            assert!(said.contains("OTP_SMTP__AUTH is password") && said.contains("550 5.7.30"), "{said}");
        }
        for server in ["outlook.com.example", "smtp.notoutlook.example", "smtp.gmail.com"] {
            assert_eq!(warnings(&[("SMTP_SERVER", server)]), "", "{server}");
        }
    }
}
