//! What usually helps where a relay fails: advice on the stage that failed, by what failed there.
//!
//! Must only advise. The advice names the settings of the first relay.

use super::provider::Provider;
use crate::adapters::smtp::{Cause, CertificateFault, Offer, Reply, SendError, Stage};
use crate::config::smtp::{Auth, RelaySettings, TlsMode};

/// What usually helps.
pub fn cure(error: &SendError, relay: &RelaySettings, provider: Option<&Provider>) -> String {
    let theirs = provider.and_then(|provider| in_their_terms(error, provider));
    let general = match error.cause() {
        Cause::Certificate(error) => about_the_certificate(error),
        Cause::TlsVersion => {
            "the relay must speak TLS 1.2 or 1.3; older versions are not safe (RFC 8996). Whoever runs it must turn one of them on; \
             else use another relay"
        }
        Cause::NotTls if relay.tls == TlsMode::Implicit => {
            "the port is not for TLS from the first byte: set OTP_SMTP__TLS=starttls, or SMTP_PORT to one that is, such as 465"
        }
        Cause::NotTls | Cause::Tls(_) if relay.tls == TlsMode::Implicit => {
            "the relay, or a firewall in between, breaks the TLS handshake off: compare with openssl s_client -connect \
             SMTP_SERVER:SMTP_PORT"
        }
        Cause::NotTls | Cause::Tls(_) => {
            "the relay, or a firewall in between, breaks the TLS handshake off: compare with openssl s_client -starttls smtp \
             -connect SMTP_SERVER:SMTP_PORT"
        }
        Cause::NoStartTls => {
            "the relay must offer STARTTLS: set SMTP_PORT to a port where it does, usually 587, or to one for TLS from the first \
             byte, usually 465, with OTP_SMTP__TLS=implicit. A firewall may hide STARTTLS"
        }
        Cause::NoMechanism(Offer::Nothing) if relay.tls == TlsMode::Plaintext => {
            "many relays offer a login inside TLS only: set OTP_SMTP__TLS=starttls (implicit for port 465); for a relay that \
             takes mail from this machine without a login set OTP_SMTP__AUTH=none"
        }
        Cause::NoMechanism(offer) => about_mechanisms(*offer),
        Cause::Reply(reply) if reply.is_transient() => for_now(error.stage()),
        Cause::Reply(reply) => about_the_reply(error.stage(), *reply, relay),
        Cause::BreakerOpen | Cause::NoneFree => "the relay is slow or down: try again",
        _ => about_the_step(error.stage(), relay),
    };
    match (theirs, provider, error.stage()) {
        (Some(theirs), ..) => theirs,
        // What a provider asks of senders and recipients may be the reason, unless the reply says that the address is.
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

/// A provider's own advice on a reply: that for its enhanced code, else that for the stage.
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
        // A relay that is busy says nothing of the login.
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

fn about_the_certificate(error: &CertificateFault) -> &'static str {
    match error {
        CertificateFault::Expired => {
            "whoever runs the relay must renew its certificate; check that the clock of this machine is right"
        }
        CertificateFault::NotYetValid => "check that the clock of this machine is right",
        CertificateFault::OtherName => {
            "set SMTP_SERVER to the name that the certificate is for, which is usually the relay's public name and not an IP address"
        }
        CertificateFault::UnknownIssuer => {
            "its certificate must be from an authority that this machine trusts: install the package ca-certificates, or \
             name the relay's own authority with OTP_SMTP__CA_FILE"
        }
        CertificateFault::Other(_) => {
            "its certificate must be an X.509 version 3 certificate for SMTP_SERVER, from an authority that this machine trusts; \
             OTP_SMTP__CA_FILE names a file with others, and a relay must not show its authority's certificate as its own"
        }
    }
}

fn about_mechanisms(offer: Offer) -> &'static str {
    match offer {
        Offer::OAuth => {
            "the relay takes OAuth logins only, which otpd does not speak yet: let it take a password, where the provider still \
             does (an app password, or SMTP AUTH turned on for the mailbox), or use another relay"
        }
        Offer::Others => {
            "the relay offers only logins that otpd does not speak: turn on PLAIN or LOGIN there, which are safe inside TLS, or use \
             another relay"
        }
        Offer::Nothing => {
            "set OTP_SMTP__AUTH=none for a relay without a login; else check SMTP_PORT: many relays offer a login on \
             587 or 465 only"
        }
    }
}

/// 4yz.
fn for_now(stage: Stage) -> &'static str {
    match stage {
        Stage::Login => {
            "the relay cannot check logins now, or has seen too many of them: wait some minutes and try again; if it goes on, ask whoever \
             runs it"
        }
        Stage::Greeting | Stage::Hello | Stage::StartTls => {
            "the relay is busy, or takes no more connections from this machine for now: wait some minutes; if it goes on, ask whoever \
             runs it"
        }
        _ => {
            "the relay refuses for now: it is busy, greylists, or has taken as much as it does from this login or machine: wait, and see \
             OTP_LIMITS__RELAY_EMAILS_PER_DAY"
        }
    }
}

/// 5yz.
fn about_the_reply(stage: Stage, reply: Reply, relay: &RelaySettings) -> &'static str {
    match (stage, reply.code()) {
        (_, 530 | 538) if relay.tls == TlsMode::Plaintext => {
            "the relay asks for TLS or a login first: set OTP_SMTP__TLS=starttls (implicit for port 465), and, for a login, \
             OTP_SMTP__AUTH=password with EMAIL_PASSWORD"
        }
        (_, 530) if matches!(relay.auth, Auth::None) => {
            "the relay asks for a login: set OTP_SMTP__AUTH=password, with EMAIL_PASSWORD and, where it is not EMAIL_SENDER, \
             OTP_SMTP__USERNAME"
        }
        (Stage::Login, 534) => {
            "the relay refuses this kind of password: make an app password, or whatever the provider calls one for programs, and set it as \
             EMAIL_PASSWORD"
        }
        (Stage::Login, _) => {
            "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME where the login is not EMAIL_SENDER"
        }
        (Stage::Greeting | Stage::Hello, _) => {
            "the relay answers and turns this machine away: whoever runs it must let this address in, or it takes mail \
             on another port"
        }
        (Stage::Data | Stage::Message, _) if reply.is_enhanced("5.7.60") => {
            "the relay refuses the sender: check EMAIL_SENDER, and what the login may send as"
        }
        (Stage::Sender, _) if reply.has_policy_status() => {
            "the relay's policy refuses what comes from this machine or login: check EMAIL_SENDER, what the login may send as, \
             and whether the relay blocks this machine's address"
        }
        _ => about_the_step(stage, relay),
    }
}

fn about_the_step(stage: Stage, relay: &RelaySettings) -> &'static str {
    match stage {
        Stage::Resolve => "check the spelling of SMTP_SERVER, and that this machine (or container) has DNS",
        Stage::Connect => {
            "check SMTP_SERVER and SMTP_PORT (587 for STARTTLS, 465 for implicit TLS), and that no firewall is between: \
             many hosts close port 25, some all of them"
        }
        Stage::Tls if relay.tls == TlsMode::Implicit => {
            "the relay takes the connection and no TLS: where the port is for STARTTLS, set OTP_SMTP__TLS=starttls"
        }
        Stage::Greeting if relay.tls == TlsMode::Implicit => {
            "the relay takes the connection and does not greet: it may turn this machine away, or be too busy"
        }
        Stage::Greeting => {
            "the relay takes the connection and does not greet: where the port is for TLS from the first byte, as 465 is, set \
             OTP_SMTP__TLS=implicit; else it may turn this machine away, or be too busy"
        }
        Stage::Hello => "the relay does not answer EHLO as SMTP has it: check that SMTP_PORT is a relay's",
        Stage::Tls | Stage::StartTls => {
            "the relay must do STARTTLS on this port; for port 465 or implicit TLS set OTP_SMTP__TLS=implicit"
        }
        Stage::Login => "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME where the login is not EMAIL_SENDER",
        Stage::Sender => "the relay refuses the sender: check EMAIL_SENDER, and what the login may send as",
        Stage::Recipient => {
            "the relay refuses the recipient: check the address, and whether the login may send to it"
        }
        Stage::Data | Stage::Message => {
            "the relay refuses the mail itself: its reply's code says why. Often SPF, DKIM or DMARC are not set for the domain \
             of EMAIL_SENDER, or the relay takes the mail for spam"
        }
    }
}
