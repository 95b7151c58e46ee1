//! What providers of relays ask for that others do not: ports, users, passwords and daily quotas.
//!
//! Must only advise: providers change their terms, and a relay that works is right.

/// A provider, as far as a doctor needs to know it.
#[derive(Debug)]
pub struct Provider {
    /// What it is called.
    pub name: &'static str,
    /// The names of its relays; a star stands for whatever is there.
    hosts: &'static [&'static str],
    /// Its ports.
    pub ports: &'static str,
    /// What to do where it refuses the login.
    pub login: &'static str,
    /// What to do where it refuses with one of these enhanced status codes.
    pub replies: &'static [(&'static str, &'static str)],
    /// What to do where it refuses a mail.
    pub mail: &'static str,
    /// How much it takes.
    pub quota: &'static str,
}

/// Those that are asked about most.
const PROVIDERS: [Provider; 10] = [
    Provider {
        name: "Gmail",
        hosts: &["smtp.gmail.com", "smtp.googlemail.com"],
        ports: "587 (STARTTLS) or 465 (implicit TLS)",
        login: "Gmail takes no account passwords: turn on 2-Step Verification, make an app password in the Google \
                account (Security, App passwords) and set it as EMAIL_PASSWORD; the user is the whole address",
        replies: &[
            (
                "5.7.14",
                "Gmail wants a login by browser first: log in to the account there and confirm that it was you",
            ),
            (
                "5.4.5",
                "the account has sent as much as it may: wait a day, and set OTP_LIMITS__RELAY_EMAILS_PER_DAY",
            ),
        ],
        mail: "Gmail sends from the account itself and its confirmed aliases: set EMAIL_SENDER to one of them",
        quota: "about 500 recipients a day, 2000 with Google Workspace",
    },
    Provider {
        name: "Google Workspace SMTP relay",
        hosts: &["smtp-relay.gmail.com"],
        ports: "587 (STARTTLS) or 465 (implicit TLS)",
        login: "allow this machine's address, or SMTP authentication, in the Admin console (Gmail, Routing, SMTP relay \
                service); the password is an app password",
        replies: &[],
        mail: "EMAIL_SENDER must be of a domain of the organisation, and this machine be allowed in the Admin console",
        quota: "10000 recipients a day for each user",
    },
    Provider {
        name: "Microsoft 365",
        hosts: &["smtp.office365.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "allow 'Authenticated SMTP' for the mailbox in the Microsoft 365 admin center, with security defaults off; \
                Microsoft is about to end logins by password (basic authentication), so plan for another relay",
        replies: &[
            (
                "5.7.139",
                "Microsoft refuses logins by password for this account: its security defaults, an authentication policy or \
                 Conditional Access block them, or 'Authenticated SMTP' is off for the mailbox. An administrator can allow \
                 both in the Microsoft 365 admin center for now; otpd does not speak OAuth yet, so plan for another relay",
            ),
            (
                "5.7.60",
                "the login may not send as EMAIL_SENDER: give it 'Send As', or set EMAIL_SENDER to its own address",
            ),
        ],
        mail: "EMAIL_SENDER must be the mailbox of the login, or one that it may send as",
        quota: "10000 recipients a day and 30 mails a minute",
    },
    Provider {
        name: "Outlook.com",
        hosts: &["smtp-mail.outlook.com", "smtp.live.com", "smtp.hotmail.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "Outlook.com no longer takes passwords of programs (basic authentication, app passwords included): use \
                another relay",
        replies: &[],
        mail: "EMAIL_SENDER must be the address of the account",
        quota: "300 mails a day, fewer for new accounts",
    },
    Provider {
        name: "Amazon SES",
        hosts: &["email-smtp.*.amazonaws.com"],
        ports: "587 or 2587 (STARTTLS), 465 or 2465 (implicit TLS); 25 is throttled on EC2",
        login: "SES has SMTP credentials of its own, for each region (SES console, SMTP settings): the IAM access key and \
                its secret are not they. Set OTP_SMTP__USERNAME and EMAIL_PASSWORD",
        replies: &[],
        mail: "verify EMAIL_SENDER or its domain in the same region; in the sandbox each recipient must be verified too: \
               request production access",
        quota: "200 mails a day in the sandbox; the account's own quota is in the SES console",
    },
    Provider {
        name: "Mailgun",
        hosts: &["smtp.mailgun.org", "smtp.eu.mailgun.org"],
        ports: "587 or 2525 (STARTTLS), 465 (implicit TLS)",
        login: "the user is an SMTP user of the domain, such as postmaster@mg.example.com (Sending, Domain settings, SMTP \
                credentials), and not the API key; domains in the EU are at smtp.eu.mailgun.org",
        replies: &[],
        mail: "EMAIL_SENDER must be of the domain of the SMTP user; a sandbox domain mails to authorised recipients only",
        quota: "100 mails a day on the free plan",
    },
    Provider {
        name: "Postmark",
        hosts: &["smtp.postmarkapp.com"],
        ports: "587, 2525 or 25 (STARTTLS); there is no 465",
        login: "user and password are both the Server API token, or an SMTP token's access and secret key: set \
                OTP_SMTP__USERNAME and EMAIL_PASSWORD",
        replies: &[],
        mail: "EMAIL_SENDER needs a confirmed Sender Signature or a verified domain; until the account is approved, it \
               mails to its own domain only",
        quota: "100 mails a month without a plan",
    },
    Provider {
        name: "SendGrid",
        hosts: &["smtp.sendgrid.net"],
        ports: "587, 2525 or 25 (STARTTLS), 465 (implicit TLS)",
        login: "the user is the word apikey (OTP_SMTP__USERNAME=apikey) and the password an API key that may send mail",
        replies: &[],
        mail: "EMAIL_SENDER needs Single Sender Verification or an authenticated domain",
        quota: "100 mails a day on a trial",
    },
    Provider {
        name: "Brevo",
        hosts: &["smtp-relay.brevo.com", "smtp-relay.sendinblue.com"],
        ports: "587 or 2525 (STARTTLS), 465 (implicit TLS)",
        login: "the user is the login that SMTP & API shows, and the password an SMTP key, not an API key",
        replies: &[],
        mail: "EMAIL_SENDER must be a verified sender or of an authenticated domain",
        quota: "300 mails a day on the free plan",
    },
    Provider {
        name: "iCloud Mail",
        hosts: &["smtp.mail.me.com"],
        ports: "587 (STARTTLS); there is no 465",
        login: "the user is the iCloud address and the password an app-specific password (account.apple.com, Sign-In and \
                Security)",
        replies: &[],
        mail: "EMAIL_SENDER must be an address of the account",
        quota: "1000 mails a day",
    },
];

/// The provider of a relay, if it is one of them.
pub fn of(host: &str) -> Option<&'static Provider> {
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
