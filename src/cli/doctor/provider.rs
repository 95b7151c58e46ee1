//! Requirements and limits of well-known email providers: ports, usernames, passwords, daily
//! quotas, and the DNS records of the sender's domain.
//!
//! Must only advise, because providers change their terms.

/// A provider.
#[derive(Debug)]
pub(super) struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Host names of its relays; `*` matches any text.
    hosts: &'static [&'static str],
    /// Its ports.
    pub ports: &'static str,
    /// Advice if it refuses the login.
    pub login: &'static str,
    /// Advice if it refuses with one of these enhanced status codes.
    pub replies: &'static [(&'static str, &'static str)],
    /// Advice if it refuses an email.
    pub mail: &'static str,
    /// How many emails it accepts.
    pub quota: &'static str,
    /// Whose SPF record receivers check.
    pub envelope: EnvelopeDomain,
    /// The DKIM selectors that it usually has; none: each customer has others.
    pub selectors: &'static [&'static str],
    /// Where it shows the DKIM records to add.
    pub dkim: &'static str,
}

/// The domain of the envelope sender (MAIL FROM), whose SPF record receivers check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnvelopeDomain {
    /// The domain of the sender, whose SPF record must have this include.
    Sender(&'static str),
    /// A domain of the provider, or one that it sets up; with what aligns it.
    Provider(&'static str),
}

/// The most common providers.
const PROVIDERS: [Provider; 11] = [
    Provider {
        name: "Gmail",
        hosts: &["smtp.gmail.com", "smtp.googlemail.com"],
        ports: "587 (STARTTLS) or 465 (implicit TLS)",
        login: "Gmail does not accept the password of the account: turn on 2-Step Verification, \
                create an app password in the Google Account (Security, App passwords) and set it \
                as EMAIL_PASSWORD; the username is the full address",
        replies: &[
            (
                "5.7.14",
                "Gmail requires that you sign in by browser first: sign in to the account there \
                 and confirm that it was you",
            ),
            (
                "5.4.5",
                "the account has reached its daily sending limit: wait a day, and set \
                 OTP_LIMITS__RELAY_EMAILS_PER_DAY",
            ),
        ],
        mail: "Gmail sends only from the account's own address and its confirmed aliases: set \
               EMAIL_SENDER to one of them",
        quota: "about 500 recipients a day, 2000 with Google Workspace",
        envelope: EnvelopeDomain::Sender("_spf.google.com"),
        selectors: &["google"],
        dkim: "the Google Admin console: Apps, Google Workspace, Gmail, Authenticate email",
    },
    Provider {
        name: "Google Workspace SMTP relay",
        hosts: &["smtp-relay.gmail.com"],
        ports: "587 (STARTTLS) or 465 (implicit TLS)",
        login: "allow the IP address of this machine, or SMTP authentication, in the Google Admin \
                console (Gmail, Routing, SMTP relay service); the password is an app password",
        replies: &[],
        mail: "EMAIL_SENDER must belong to a domain of the organization, and the Admin console \
               must allow this machine",
        quota: "10000 recipients a day for each user",
        envelope: EnvelopeDomain::Sender("_spf.google.com"),
        selectors: &["google"],
        dkim: "the Google Admin console: Apps, Google Workspace, Gmail, Authenticate email",
    },
    Provider {
        name: "Microsoft 365",
        hosts: &["smtp.office365.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "set OTP_SMTP__AUTH=oauth (docs/oauth.md): Microsoft turns basic authentication (logins \
                by password) off by default at the end of December 2026. Until then 'Authenticated \
                SMTP' must be enabled for the mailbox in the Microsoft 365 admin center, with security \
                defaults off",
        replies: &[
            (
                "5.7.139",
                "Microsoft blocks basic authentication (logins by password) for this account: \
                 because of security defaults, an authentication policy or Conditional Access, or \
                 because 'Authenticated SMTP' is off for the mailbox. Set OTP_SMTP__AUTH=oauth \
                 (docs/oauth.md)",
            ),
            (
                "5.7.30",
                "Microsoft accepts no passwords for SMTP any more: set OTP_SMTP__AUTH=oauth \
                 (docs/oauth.md)",
            ),
            (
                "5.2.252",
                "the login has no permission to send as EMAIL_SENDER: grant it 'Send As', or set \
                 EMAIL_SENDER to its own address",
            ),
            (
                "5.7.60",
                "the login has no permission to send as EMAIL_SENDER: grant it 'Send As', or set \
                 EMAIL_SENDER to its own address",
            ),
        ],
        mail: "EMAIL_SENDER must be the mailbox of the login, or one that the login may send as",
        quota: "10000 recipients a day and 30 emails a minute",
        envelope: EnvelopeDomain::Sender("spf.protection.outlook.com"),
        selectors: &["selector1", "selector2"],
        dkim: "the Microsoft Defender portal: Email authentication settings, DKIM",
    },
    Provider {
        name: "Outlook.com",
        hosts: &["smtp-mail.outlook.com", "smtp.live.com", "smtp.hotmail.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "Outlook.com no longer accepts basic authentication (passwords, app passwords \
                included): set OTP_SMTP__AUTH=oauth (docs/oauth.md)",
        replies: &[],
        mail: "EMAIL_SENDER must be the address of the account",
        quota: "300 emails a day, fewer for new accounts",
        envelope: EnvelopeDomain::Provider("the domain is Microsoft's"),
        selectors: &[],
        dkim: "no page: Microsoft signs for its own domains",
    },
    Provider {
        name: "Amazon SES",
        hosts: &["email-smtp.*.amazonaws.com"],
        ports: "587 or 2587 (STARTTLS), 465 or 2465 (implicit TLS); 25 is throttled on EC2",
        login: "SES has its own SMTP credentials for each region (SES console, SMTP settings); an \
                IAM access key and its secret do not work. Set OTP_SMTP__USERNAME and \
                EMAIL_PASSWORD",
        replies: &[],
        mail: "verify EMAIL_SENDER or its domain in the same region; in the sandbox each recipient \
               must be verified too: request production access",
        quota: "200 emails a day in the sandbox; the SES console shows the quota of the account",
        envelope: EnvelopeDomain::Provider("set a custom MAIL FROM domain in the SES console"),
        selectors: &[],
        dkim: "the SES console: Identities, the domain, Authentication (Easy DKIM)",
    },
    Provider {
        name: "Mailgun",
        hosts: &["smtp.mailgun.org", "smtp.eu.mailgun.org"],
        ports: "587 or 2525 (STARTTLS), 465 (implicit TLS)",
        login: "the username is an SMTP user of the domain, such as postmaster@mg.example.com \
                (Sending, Domain settings, SMTP credentials), and the password is not the API \
                key; domains in the EU use smtp.eu.mailgun.org",
        replies: &[],
        mail: "EMAIL_SENDER must belong to the domain of the SMTP user; a sandbox domain sends to \
               authorized recipients only",
        quota: "100 emails a day on the free plan",
        envelope: EnvelopeDomain::Sender("mailgun.org"),
        selectors: &["mx", "smtp", "mailo", "pic", "k1", "pdk1", "pdk2", "email", "s1"],
        dkim: "Mailgun: Sending, Domain settings, DNS records",
    },
    Provider {
        name: "Postmark",
        hosts: &["smtp.postmarkapp.com"],
        ports: "587, 2525 or 25 (STARTTLS); there is no 465",
        login: "username and password are both the Server API token, or the access key and secret \
                key of an SMTP token: set OTP_SMTP__USERNAME and EMAIL_PASSWORD",
        replies: &[],
        mail: "EMAIL_SENDER needs a confirmed Sender Signature or a verified domain; until \
               Postmark approves the account, it sends to its own domain only",
        quota: "100 emails a month without a paid plan",
        envelope: EnvelopeDomain::Provider("set a custom Return-Path in Postmark"),
        selectors: &[],
        dkim: "Postmark: Sender Signatures, the domain, DNS Settings",
    },
    Provider {
        name: "Resend",
        hosts: &["smtp.resend.com"],
        ports: "587, 2587 or 25 (STARTTLS), 465 or 2465 (implicit TLS)",
        login: "the username is the word resend (OTP_SMTP__USERNAME=resend), and the password is \
                an API key",
        replies: &[],
        mail: "EMAIL_SENDER must belong to a verified domain",
        quota: "100 emails a day on the free plan",
        envelope: EnvelopeDomain::Provider(
            "verify the domain in Resend, with the records of its subdomain send",
        ),
        selectors: &["resend"],
        dkim: "Resend: Domains, the domain, DNS Records",
    },
    Provider {
        name: "SendGrid",
        hosts: &["smtp.sendgrid.net"],
        ports: "587, 2525 or 25 (STARTTLS), 465 (implicit TLS)",
        login: "the username is the word apikey (OTP_SMTP__USERNAME=apikey), and the password is \
                an API key with the permission Mail Send",
        replies: &[],
        mail: "EMAIL_SENDER needs Single Sender Verification or an authenticated domain",
        quota: "100 emails a day on a trial",
        envelope: EnvelopeDomain::Provider("authenticate the domain in SendGrid with Automated Security"),
        selectors: &["s1", "s2"],
        dkim: "SendGrid: Settings, Sender Authentication",
    },
    Provider {
        name: "Brevo",
        hosts: &["smtp-relay.brevo.com", "smtp-relay.sendinblue.com"],
        ports: "587 or 2525 (STARTTLS), 465 (implicit TLS)",
        login: "the username is the login shown under SMTP & API, and the password is an SMTP \
                key, not an API key",
        replies: &[],
        mail: "EMAIL_SENDER must be a verified sender or belong to an authenticated domain",
        quota: "300 emails a day on the free plan",
        envelope: EnvelopeDomain::Provider("it aligns with a dedicated IP address only"),
        selectors: &["mail", "brevo1", "brevo2"],
        dkim: "Brevo: Senders, Domains & Dedicated IPs, Domains",
    },
    Provider {
        name: "iCloud Mail",
        hosts: &["smtp.mail.me.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "the username is the iCloud Mail address, and the password is an app-specific \
                password (account.apple.com, Sign-In and Security)",
        replies: &[],
        mail: "EMAIL_SENDER must be an address of the account",
        quota: "1000 emails a day",
        envelope: EnvelopeDomain::Sender("icloud.com"),
        selectors: &["sig1"],
        dkim: "iCloud Settings: Custom Email Domain",
    },
];

/// Returns the provider of a relay, if it is a known one.
pub(super) fn of(host: &str) -> Option<&'static Provider> {
    let host = host.to_ascii_lowercase();
    let is_theirs = |known: &str| match known.split_once('*') {
        None => host == known,
        Some((front, back)) => {
            host.strip_prefix(front).is_some_and(|rest| rest.len() > back.len() && rest.ends_with(back))
        }
    };
    PROVIDERS.iter().find(|provider| provider.hosts.iter().any(|known| is_theirs(known)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_is_known_by_the_name_of_its_relay() {
        for (host, name) in [
            ("smtp.gmail.com", "Gmail"),
            ("SMTP.office365.com", "Microsoft 365"),
            ("email-smtp.eu-central-1.amazonaws.com", "Amazon SES"),
            ("smtp.eu.mailgun.org", "Mailgun"),
            ("smtp.postmarkapp.com", "Postmark"),
        ] {
            assert_eq!(of(host).map(|provider| provider.name), Some(name), "{host}");
        }
        for host in [
            "localhost",
            "ec2-1.compute.amazonaws.com",
            "email-smtp.amazonaws.com",
            "smtp.gmail.com.evil.example",
            "xsmtp.gmail.com",
            "smtp.example.com",
        ] {
            assert!(of(host).is_none(), "{host}");
        }
    }
}
