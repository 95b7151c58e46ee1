//! Advice for relays that otpd logs in to with an access token: about the token endpoint, the
//! token, and a login that the relay refuses.
//!
//! Must only advise: what a token says is not verified, and providers change their terms. The
//! advice names the settings of the first relay.

use std::time::Duration;

use super::provider::Provider;
use crate::adapters::http::{HttpCause, HttpError, HttpStage};
use crate::adapters::oauth::{AccessToken, TokenCause, TokenClaims, TokenRefusal};
use crate::adapters::smtp::Reply;
use crate::domain::oauth::{OAuthClient, OAuthGrant};

/// The name of Exchange Online as the audience of a token, beside its URLs.
const EXCHANGE_ONLINE: &str = "00000002-0000-0ff1-ce00-000000000000";

/// Returns what is known of a token, and what may be wrong with it.
pub(super) fn described(token: &AccessToken, client: &OAuthClient) -> String {
    let minutes = token.life().max(Duration::from_mins(1)).as_secs() / 60;
    let host = client.token_url.host();
    let line = format!("{host} gives an access token, valid for {minutes} min");
    match token.claims().and_then(|claims| doubt(claims, client)) {
        Some(doubt) => format!("{line}\nnote  {doubt}"),
        None => line,
    }
}

/// Returns what the claims of a token of Microsoft speak against.
fn doubt(claims: TokenClaims, client: &OAuthClient) -> Option<&'static str> {
    if !is_of_microsoft(client) {
        return None;
    }
    if claims.aud.is_some_and(|aud| !aud.contains("outlook.office") && !aud.contains(EXCHANGE_ONLINE)) {
        return Some(
            "the token is for another service than Exchange Online (its claim aud): correct \
             OTP_SMTP__OAUTH_SCOPE; a token of Microsoft Graph does not open SMTP",
        );
    }
    match client.grant {
        OAuthGrant::ClientCredentials { .. } if !claims.roles.iter().any(|role| role == "SMTP.SendAsApp") => {
            Some(
                "the token names no application permission SMTP.SendAsApp (claim roles). With RBAC for \
             Applications that is right; otherwise grant it to the application, with admin consent",
            )
        }
        OAuthGrant::RefreshToken { .. }
            if claims.scp.is_some_and(|scp| !scp.split(' ').any(|scope| scope == "SMTP.Send")) =>
        {
            Some("the token names no delegated permission SMTP.Send (claim scp): authorize again with it")
        }
        _ => None,
    }
}

fn is_of_microsoft(client: &OAuthClient) -> bool {
    client.token_url.host().to_string().ends_with("login.microsoftonline.com")
}

/// Returns what usually helps if there is no token.
pub(super) fn cure(cause: &TokenCause, client: &OAuthClient) -> String {
    match cause {
        TokenCause::Http(error) => about_the_connection(error),
        TokenCause::Timeout | TokenCause::Unavailable(_) | TokenCause::Expired => {
            "the provider's token endpoint is slow, down or has had too many requests: try again later"
        }
        TokenCause::Invalid { .. } => {
            "what answers is no token endpoint: correct OTP_SMTP__OAUTH_TOKEN_URL, and look for a proxy \
             in between"
        }
        TokenCause::Refused(refusal) => about_the_refusal(refusal, client),
        _ => "check the clock of this machine, and OTP_SMTP__OAUTH_SERVICE_ACCOUNT",
    }
    .to_owned()
}

fn about_the_connection(error: &HttpError) -> &'static str {
    match (error.stage(), error.cause()) {
        (_, HttpCause::NotAllowed) => "see docs/settings.md on OTP_OUTBOUND__ALLOWED_NETWORKS",
        (HttpStage::Resolve, _) => {
            "check the host of OTP_SMTP__OAUTH_TOKEN_URL, and that DNS works on this machine (or in this \
             container)"
        }
        (HttpStage::Tls, _) => {
            "check that nothing between this machine and the provider replaces its certificate; \
             OTP_OUTBOUND__CA_FILE names a PEM file with other CAs"
        }
        _ => {
            "check that a firewall lets this machine connect to the host of OTP_SMTP__OAUTH_TOKEN_URL, \
             usually on port 443"
        }
    }
}

/// Returns what a refusal of the token endpoint means: by Microsoft's number, otherwise by the
/// error code.
fn about_the_refusal(refusal: &TokenRefusal, client: &OAuthClient) -> &'static str {
    if let Some(advice) = refusal.aadsts.and_then(by_number) {
        return advice;
    }
    let is_account = matches!(client.grant, OAuthGrant::ServiceAccount(_));
    match refusal.error.as_str() {
        "invalid_client" if is_account => {
            "the key of the service account is not valid (any more): create a new JSON key and set \
             OTP_SMTP__OAUTH_SERVICE_ACCOUNT_FILE"
        }
        "invalid_client" => {
            "the id or the secret of the application is wrong, or the secret has expired: check \
             OTP_SMTP__OAUTH_CLIENT_ID and OTP_SMTP__OAUTH_CLIENT_SECRET"
        }
        "unauthorized_client" | "access_denied" if is_account => {
            "the service account may not act for the mailbox: in the Google Admin console (Security, API \
             controls, Domain-wide delegation) add its numeric client id with the scope \
             https://mail.google.com/; this can take up to 24 hours"
        }
        "invalid_grant" if is_account => {
            "OTP_SMTP__USERNAME is no mailbox of the organization, the clock of this machine is wrong, or \
             the key of the service account was deleted"
        }
        "invalid_grant" => {
            "the refresh token has expired or was revoked, for example by a new password, by long disuse, \
             or after 7 days if the consent screen is in testing: authorize again and set \
             OTP_SMTP__OAUTH_REFRESH_TOKEN"
        }
        "unauthorized_client" => {
            "the application may not use this grant or belongs to another tenant: check \
             OTP_SMTP__OAUTH_CLIENT_ID and OTP_SMTP__OAUTH_TOKEN_URL"
        }
        "invalid_scope" => {
            "correct OTP_SMTP__OAUTH_SCOPE: https://mail.google.com/ for Google, \
             https://outlook.office365.com/.default for Microsoft 365"
        }
        _ => "check the OTP_SMTP__OAUTH_… settings; docs/oauth.md describes them for each provider",
    }
}

/// Returns what a number of Microsoft means.
fn by_number(number: u32) -> Option<&'static str> {
    Some(match number {
        7_000_215 => {
            "the secret is wrong: set OTP_SMTP__OAUTH_CLIENT_SECRET to the value of the application's \
             secret, and not to its id"
        }
        7_000_222 => {
            "the secret has expired: create a new one in the app registration (Certificates & secrets) and \
             set OTP_SMTP__OAUTH_CLIENT_SECRET"
        }
        7_000_218 => "the application needs a secret: set OTP_SMTP__OAUTH_CLIENT_SECRET",
        700_016 => {
            "the tenant does not know the application: check OTP_SMTP__OAUTH_CLIENT_ID, and the tenant id in \
             OTP_SMTP__OAUTH_TOKEN_URL"
        }
        7_000_112 | 70_001 => "the application is disabled in the tenant: enable it",
        90_002 | 900_023 => "there is no such tenant: correct the tenant id in OTP_SMTP__OAUTH_TOKEN_URL",
        9_001_023 | 9_002_332 | 50_194 => {
            "this grant needs the tenant id in OTP_SMTP__OAUTH_TOKEN_URL, not common or consumers"
        }
        70_011 | 1_002_012 => {
            "the scope is wrong: for client credentials it must be https://outlook.office365.com/.default \
             (OTP_SMTP__OAUTH_SCOPE)"
        }
        500_011 | 500_014 | 650_057 => {
            "the tenant has no such service: OTP_SMTP__OAUTH_SCOPE must name Exchange Online, which the \
             tenant must have licensed"
        }
        65_001 | 90_094 | 650_056 => "an administrator must grant consent to the application's permissions",
        70_000 | 70_008 | 70_043 | 50_173 | 700_082 => {
            "the refresh token has expired or was revoked: authorize again and set \
             OTP_SMTP__OAUTH_REFRESH_TOKEN"
        }
        50_076 | 50_079 | 53_003 | 530_035 => {
            "a policy of the tenant (multi-factor authentication, Conditional Access, security defaults) \
             refuses the application: exempt it, or authorize again"
        }
        _ => return None,
    })
}

/// Returns what usually helps if the relay refuses a login with a token.
pub(super) fn login_refused(reply: Reply, provider: Option<&Provider>) -> &'static str {
    match provider.map(|provider| provider.name) {
        Some("Microsoft 365" | "Outlook.com") if reply.is_enhanced("5.7.139") => {
            "SMTP AUTH is disabled for the mailbox or the tenant, which applies to tokens too: \
             Set-CASMailbox <mailbox> -SmtpClientAuthenticationDisabled $false; this can take an hour"
        }
        Some("Microsoft 365") => {
            "the token is fine, but not for this mailbox. Check in this order: the application permission \
             SMTP.SendAsApp with admin consent; New-ServicePrincipal with the object id of the Enterprise \
             application (not of the app registration); Add-MailboxPermission for OTP_SMTP__USERNAME. \
             docs/oauth.md has the commands"
        }
        Some("Outlook.com") => {
            "OTP_SMTP__USERNAME must be the account that authorized the application, with the permission \
             SMTP.Send"
        }
        Some("Gmail" | "Google Workspace SMTP relay") => {
            "the token is not for this mailbox: OTP_SMTP__USERNAME must be the account that authorized the \
             application, or that the service account acts for, and the scope https://mail.google.com/"
        }
        _ => {
            "the relay does not accept the token: check OTP_SMTP__USERNAME, which must be the mailbox of the \
             token, and OTP_SMTP__OAUTH_SCOPE"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::provider;
    use crate::domain::target_url::TargetUrl;

    fn client(grant: OAuthGrant) -> OAuthClient {
        let url = "https://login.microsoftonline.com/t/oauth2/v2.0/token";
        OAuthClient {
            token_url: TargetUrl::parse(url, url).unwrap(),
            scope: String::new(),
            username: "codes@example.com".to_owned(),
            grant,
        }
    }

    fn credentials() -> OAuthGrant {
        OAuthGrant::ClientCredentials { client_id: "a".to_owned(), client_secret: "b".into() }
    }

    fn refresh() -> OAuthGrant {
        let client_id = "a".to_owned();
        OAuthGrant::RefreshToken { client_id, client_secret: None, refresh_token: "c".into() }
    }

    #[test]
    fn a_refusal_is_explained_by_its_number_or_else_by_its_code() {
        for (error, aadsts, advice) in [
            ("invalid_client", Some(7_000_215), "not to its id"),
            ("invalid_client", Some(7_000_222), "create a new one"),
            ("unauthorized_client", Some(700_016), "OTP_SMTP__OAUTH_CLIENT_ID"),
            ("invalid_request", Some(90_002), "no such tenant"),
            ("invalid_scope", Some(70_011), ".default"),
            ("invalid_grant", Some(700_082), "authorize again"),
            ("invalid_client", Some(1), "the id or the secret"),
            ("invalid_grant", None, "authorize again"),
            ("invalid_scope", None, "https://mail.google.com/"),
            ("a_new_one", None, "docs/oauth.md"),
        ] {
            let cause = TokenCause::Refused(TokenRefusal { error: error.to_owned(), aadsts });
            let said = cure(&cause, &client(refresh()));
            assert!(said.contains(advice), "{error} {aadsts:?}: {said}");
        }
    }

    #[test]
    fn a_token_for_another_service_or_without_the_permission_is_doubted_and_no_other() {
        for (grant, claims, doubted) in [
            (
                credentials(),
                r#"{"aud":"https://graph.microsoft.com","roles":["SMTP.SendAsApp"]}"#,
                "claim aud",
            ),
            (
                credentials(),
                r#"{"aud":"https://outlook.office365.com"}"#,
                "With RBAC for Applications that is right",
            ),
            (credentials(), r#"{"aud":"https://outlook.office365.com","roles":["SMTP.SendAsApp"]}"#, ""),
            (
                credentials(),
                r#"{"aud":"00000002-0000-0ff1-ce00-000000000000","roles":["SMTP.SendAsApp"]}"#,
                "",
            ),
            (refresh(), r#"{"aud":"https://outlook.office.com","scp":"IMAP.AccessAsUser.All"}"#, "SMTP.Send"),
            (refresh(), r#"{"aud":"https://outlook.office.com","scp":"SMTP.Send"}"#, ""),
        ] {
            let claims = serde_json::from_str(claims).unwrap();
            let said = doubt(claims, &client(grant)).unwrap_or_default();
            assert!(said.contains(doubted) && said.is_empty() == doubted.is_empty(), "{said}");
        }
        let mut google = client(credentials());
        google.token_url = TargetUrl::parse("https://oauth2.googleapis.com/token", "").unwrap();
        assert_eq!(doubt(serde_json::from_str(r#"{"aud":"x"}"#).unwrap(), &google), None);
    }

    #[test]
    fn a_refused_login_is_explained_in_the_providers_terms() {
        for (host, text, advice) in [
            ("smtp.office365.com", "5.7.3 x", "New-ServicePrincipal"),
            ("smtp.office365.com", "5.7.139 x", "Set-CASMailbox"),
            ("smtp-mail.outlook.com", "5.7.139 x", "Set-CASMailbox"),
            ("smtp-mail.outlook.com", "5.7.3 x", "SMTP.Send"),
            ("smtp.gmail.com", "5.7.8 x", "https://mail.google.com/"),
            ("relay.example", "5.7.8 x", "OTP_SMTP__USERNAME"),
        ] {
            let said = login_refused(Reply::new(535, text), provider::of(host));
            assert!(said.contains(advice) && !said.contains("PASSWORD"), "{host}: {said}");
        }
    }
}
