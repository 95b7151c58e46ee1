//! Advice for failures of a relay, by the stage and cause of the failure.
//!
//! Must only advise. The advice names the settings of the first relay.

use super::provider::Provider;
use super::token;
use crate::adapters::oauth::TokenError;
use crate::adapters::smtp::{Cause, CertificateFault, Offer, Reply, SendError, Stage};
use crate::config::smtp::{Auth, RelaySettings, TlsMode};

/// Returns what usually helps.
pub(super) fn cure(error: &SendError, relay: &RelaySettings, provider: Option<&Provider>) -> String {
    if let (Auth::OAuth(_), Cause::Reply(reply), Stage::Login) = (&relay.auth, error.cause(), error.stage())
        && reply.is_permanent()
    {
        return token::login_refused(*reply, provider).to_owned();
    }
    if let Cause::Token(error) = error.cause() {
        return about_the_token(error, relay);
    }
    let theirs = provider.and_then(|provider| in_their_terms(error, provider));
    let general = in_general(error, relay);
    match (theirs, provider, error.stage()) {
        (Some(theirs), ..) => theirs,
        // The provider's requirements for senders and recipients may be the reason, unless the
        // reply says that an address is.
        (None, Some(provider), Stage::Sender | Stage::Recipient | Stage::Data | Stage::Message)
            if matches!(error.cause(), Cause::Reply(reply)
                if reply.is_permanent() && (error.stage() == Stage::Sender || !reply.has_address_status())) =>
        {
            format!("{general}\n      {}: {}", provider.name, provider.mail)
        }
        (None, Some(provider), Stage::Connect | Stage::Tls | Stage::Greeting | Stage::StartTls)
            if !matches!(error.cause(), Cause::Certificate(_)) =>
        {
            format!("{general}\n      {} has {}", provider.name, provider.ports)
        }
        _ => general.to_owned(),
    }
}

/// Returns the advice that does not depend on the provider.
fn in_general(error: &SendError, relay: &RelaySettings) -> &'static str {
    match error.cause() {
        Cause::NoOAuth => {
            "the relay takes no access tokens (XOAUTH2 or OAUTHBEARER) here: check SMTP_SERVER and \
             SMTP_PORT, or set OTP_SMTP__AUTH=password"
        }
        Cause::Certificate(error) => about_the_certificate(error),
        Cause::TlsVersion => {
            "the relay supports only old TLS versions, which are not secure (RFC 8996): its \
             operator must enable TLS 1.2 or 1.3; otherwise use another relay"
        }
        Cause::NotTls if relay.tls == TlsMode::Implicit => {
            "the port does not use TLS from the first byte (implicit TLS): set \
             OTP_SMTP__TLS=starttls, or set SMTP_PORT to a port with implicit TLS, usually 465"
        }
        Cause::NotTls | Cause::Tls(_) if relay.tls == TlsMode::Implicit => {
            "the TLS handshake failed at the relay or at a firewall in between: for details run \
             openssl s_client -connect SMTP_SERVER:SMTP_PORT"
        }
        Cause::NotTls | Cause::Tls(_) => {
            "the TLS handshake failed at the relay or at a firewall in between: for details run \
             openssl s_client -starttls smtp -connect SMTP_SERVER:SMTP_PORT"
        }
        Cause::NoStartTls => {
            "the port does not offer STARTTLS, or a firewall removes the offer: set SMTP_PORT to \
             a port with STARTTLS, usually 587, or to one with implicit TLS, usually 465, \
             together with OTP_SMTP__TLS=implicit"
        }
        Cause::NoMechanism(Offer::Nothing) if relay.tls == TlsMode::Plaintext => {
            "many relays offer SMTP authentication only over TLS: set OTP_SMTP__TLS=starttls \
             (implicit for port 465); if the relay accepts mail from this machine without \
             authentication, set OTP_SMTP__AUTH=none"
        }
        Cause::NoMechanism(offer) => about_mechanisms(*offer),
        Cause::Reply(reply) if reply.is_transient() => for_now(error.stage()),
        Cause::Reply(reply) => about_the_reply(error.stage(), *reply, relay),
        Cause::BreakerOpen | Cause::NoneFree => "the relay is slow or down: try again later",
        _ => about_the_step(error.stage(), relay),
    }
}

/// Returns the provider's own advice for a reply: that for its enhanced status code, or otherwise
/// that for the stage.
fn in_their_terms(error: &SendError, provider: &Provider) -> Option<String> {
    if matches!(error.cause(), Cause::Certificate(_)) {
        return None;
    }
    if let Cause::Reply(reply) = error.cause()
        && let Some((_, advice)) = provider.replies.iter().find(|(code, _)| reply.is_enhanced(code))
    {
        return Some((*advice).to_owned());
    }
    let advice = match (error.stage(), error.cause()) {
        // A temporary failure says nothing about the login.
        (_, Cause::Reply(reply)) if reply.is_transient() => return None,
        (Stage::Login, Cause::NoMechanism(offer @ Offer::OAuth)) => {
            return Some(format!("{}\n      {}", about_mechanisms(*offer), provider.login));
        }
        (_, Cause::Reply(reply)) if [530, 538].contains(&reply.code()) => return None,
        (Stage::Login, _) => provider.login,
        _ => return None,
    };
    Some(advice.to_owned())
}

fn about_the_token(error: &TokenError, relay: &RelaySettings) -> String {
    match &relay.auth {
        Auth::OAuth(client) => token::cure(error.cause(), client),
        Auth::None | Auth::Password { .. } => String::new(),
    }
}

fn about_the_certificate(error: &CertificateFault) -> &'static str {
    match error {
        CertificateFault::Expired => {
            "the relay's operator must renew the certificate, unless the clock of this machine is \
             wrong: check the clock first"
        }
        CertificateFault::NotYetValid => "check that the clock of this machine is right",
        CertificateFault::OtherName => {
            "set SMTP_SERVER to the name in the certificate, usually the relay's public host name \
             and not an IP address"
        }
        CertificateFault::UnknownIssuer => {
            "the certificate is not from a certificate authority (CA) that this machine trusts: \
             install the package ca-certificates, or set OTP_SMTP__CA_FILE to a PEM file with the \
             relay's own CA"
        }
        CertificateFault::Other(_) => {
            "the relay must present an X.509 version 3 certificate for SMTP_SERVER from a trusted \
             certificate authority (CA), and not the certificate of the CA itself; \
             OTP_SMTP__CA_FILE names a PEM file with other CAs"
        }
    }
}

fn about_mechanisms(offer: Offer) -> &'static str {
    match offer {
        Offer::OAuth => {
            "the relay accepts only OAuth (XOAUTH2 or OAUTHBEARER): set OTP_SMTP__AUTH=oauth \
             (docs/oauth.md), or allow password authentication if the provider still offers it (an app \
             password, or SMTP AUTH enabled for the mailbox)"
        }
        Offer::Others => {
            "the relay offers only authentication mechanisms that otpd does not support: turn on \
             PLAIN or LOGIN at the relay, which are safe over TLS, or use another relay"
        }
        Offer::Nothing => {
            "set OTP_SMTP__AUTH=none if the relay needs no authentication; otherwise check \
             SMTP_PORT, because many relays offer authentication on 587 or 465 only"
        }
    }
}

/// Returns advice for a temporary failure (4yz).
fn for_now(stage: Stage) -> &'static str {
    match stage {
        Stage::Login => {
            "the relay cannot check logins now, or has seen too many of them (rate limit): wait \
             some minutes and try again; if it continues, ask the relay's operator"
        }
        Stage::Greeting | Stage::Hello | Stage::StartTls => {
            "the relay is busy, or temporarily accepts no more connections from this machine \
             (rate limit): wait some minutes and try again; if it continues, ask the relay's \
             operator"
        }
        _ => {
            "a temporary failure: the relay is busy, greylists the email, or this login or \
             machine has reached a sending limit. Wait and try again; to make otpd stop at a \
             daily limit, set OTP_LIMITS__RELAY_EMAILS_PER_DAY"
        }
    }
}

/// Returns advice for a permanent failure (5yz).
fn about_the_reply(stage: Stage, reply: Reply, relay: &RelaySettings) -> &'static str {
    match (stage, reply.code()) {
        (_, 530 | 538) if relay.tls == TlsMode::Plaintext => {
            "the relay requires TLS or authentication: set OTP_SMTP__TLS=starttls (implicit for \
             port 465) and, for authentication, OTP_SMTP__AUTH=password with EMAIL_PASSWORD"
        }
        (_, 530) if matches!(relay.auth, Auth::None) => {
            "the relay requires authentication: set OTP_SMTP__AUTH=password with EMAIL_PASSWORD, \
             and OTP_SMTP__USERNAME if the username is not EMAIL_SENDER"
        }
        (Stage::Login, 534) => {
            "the relay does not accept this kind of password: create an app password (or \
             application-specific password) in the account and set it as EMAIL_PASSWORD"
        }
        (Stage::Login, _) => {
            "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME if the username is not EMAIL_SENDER"
        }
        (Stage::Greeting | Stage::Hello, _) => {
            "the relay turns this machine away: its operator must allow the IP address of this \
             machine, or the relay accepts mail on another SMTP_PORT"
        }
        (Stage::Data | Stage::Message, _) if reply.is_enhanced("5.7.60") => {
            "the relay refuses the sender address: check EMAIL_SENDER, and what the login may \
             send as"
        }
        (Stage::Sender, _) if reply.has_policy_status() => {
            "the relay's policy refuses mail from this machine or login: check EMAIL_SENDER, what \
             the login may send as, and whether the relay blocks this machine's IP address"
        }
        _ => about_the_step(stage, relay),
    }
}

fn about_the_step(stage: Stage, relay: &RelaySettings) -> &'static str {
    match stage {
        Stage::Token => "check the OTP_SMTP__OAUTH_… settings; docs/oauth.md describes them",
        Stage::Resolve => {
            "check the spelling of SMTP_SERVER, and that DNS works on this machine \
             (or in this container)"
        }
        Stage::Connect => {
            "check SMTP_SERVER and SMTP_PORT (587 for STARTTLS, 465 for implicit TLS), and that \
             no firewall blocks the connection: many hosting providers block port 25, some all \
             SMTP ports"
        }
        Stage::Tls if relay.tls == TlsMode::Implicit => {
            "the relay accepts the connection but does not start TLS: if the port is for \
             STARTTLS, set OTP_SMTP__TLS=starttls"
        }
        Stage::Greeting if relay.tls == TlsMode::Implicit => {
            "the relay accepts the connection but sends no greeting: it may turn this machine \
             away or be too busy"
        }
        Stage::Greeting => {
            "the relay accepts the connection but sends no greeting: if the port is for implicit \
             TLS, as 465 is, set OTP_SMTP__TLS=implicit; otherwise the relay may turn this \
             machine away or be too busy"
        }
        Stage::Hello => {
            "the relay does not reply to EHLO as SMTP requires: check that SMTP_PORT \
             is the port of an SMTP server"
        }
        Stage::Tls | Stage::StartTls => {
            "STARTTLS failed, which the relay must support on this port: for port 465, or another \
             port with implicit TLS, set OTP_SMTP__TLS=implicit"
        }
        Stage::Login => {
            "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME if the username is not \
             EMAIL_SENDER"
        }
        Stage::Sender => {
            "the relay refuses the sender address: check EMAIL_SENDER, and what the \
             login may send as"
        }
        Stage::Recipient => {
            "the relay refuses the recipient: check the address, and whether the login may send \
             to it"
        }
        Stage::Data | Stage::Message => {
            "the relay refuses the email itself, and its reply code says why: often SPF, DKIM or \
             DMARC are not set up for the domain of EMAIL_SENDER, or the relay takes the email \
             for spam"
        }
    }
}
