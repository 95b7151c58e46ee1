//! What stands on the wire of the v1 API, and how it is read.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use poem_openapi::{Enum, Object};

use crate::api::json::{Body, Members};
use crate::api::problem::{Problem, ProblemCode};
use crate::api::rejection::Rejection;
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::domain::purpose::Purpose;
use crate::domain::verification::{Millis, Status};
use crate::service::Snapshot;

/// What `end_user_ip` must be.
const IP_FORM: &str = "an IPv4 or IPv6 address";

/// How a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum VerificationStatus {
    /// A code is live and a guess is left.
    Pending,
    /// The address was confirmed.
    Approved,
    /// The time was up.
    Expired,
    /// Every guess was spent.
    Exhausted,
    /// Its tenant took it back.
    Canceled,
    /// The relay refused its mail.
    Failed,
}

/// A verification as its tenant sees it.
#[derive(Object)]
#[oai(rename = "Verification")]
pub struct VerificationBody {
    /// Its name: 128 random bits.
    id: String,
    /// How it stands.
    status: VerificationStatus,
    /// The address, masked.
    email: String,
    /// What it is for, as its proof says it.
    purpose: String,
    /// Three letters that its mail shows too: show them beside the field for the code.
    reference: String,
    /// When its code dies, or did.
    expires_at: String,
    /// While it is pending: when the limits of the address admit the next code. Where the request named no `end_user_ip`,
    /// without those of its site.
    #[oai(skip_serializing_if_is_none)]
    resend_at: Option<String>,
    /// Attempts that are left; 0 once it is over.
    attempts_remaining: u8,
    /// For 300 seconds after approval, where the service has proof keys: a signed statement of it (JWT).
    #[oai(skip_serializing_if_is_none)]
    proof: Option<String>,
}

/// A verification that was just approved.
#[derive(Object)]
pub struct Approval {
    /// Its name.
    pub id: String,
    /// `approved`.
    pub status: VerificationStatus,
    /// A signed statement of it (JWT, EdDSA or ES256), where the service has proof keys.
    #[oai(skip_serializing_if_is_none)]
    pub proof: Option<String>,
}

/// A verification to be started.
#[derive(Debug, Object)]
#[oai(rename = "CreateVerificationRequest")]
pub struct CreateSchema {
    /// The address to confirm: at most 254 octets, with a fully qualified domain.
    email: String,
    /// What it is for: 1 to 64 characters of `a-z 0-9 _ . -`, one of the tenant's purposes. Where it is left out: the
    /// tenant's first, or `verification`.
    purpose: Option<String>,
    /// The language of the person, as a BCP 47 tag such as `pt-BR` (or `pt_BR`); the mail is in it, or in
    /// a more general one, where there are words of it: `ar`, `de`, `en`, `es`, `fr`, `ja`, `pt` and what
    /// the operator added. Else it is in the tenant's usual language.
    locale: Option<String>,
    /// The IPv4 or IPv6 address of the person's device, where a program calls for a person: the limits of networks then
    /// hold for it.
    end_user_ip: Option<String>,
}

/// A code to be checked.
#[derive(Debug, Object)]
#[oai(rename = "CheckVerificationRequest")]
pub struct CheckSchema {
    /// The code as typed: digits of any script; white space, dashes and invisible characters are ignored.
    code: String,
    /// The IPv4 or IPv6 address of the person's device, as for a start.
    end_user_ip: Option<String>,
}

/// A code to be sent again; nothing has to be said.
#[derive(Debug, Object)]
#[oai(rename = "ResendVerificationRequest")]
pub struct ResendSchema {
    /// The IPv4 or IPv6 address of the person's device, as for a start.
    end_user_ip: Option<String>,
}

/// A start as it was asked for.
pub struct CreateBody {
    email: String,
    asked: Asked,
    members: Vec<Option<String>>,
}

/// What a start may say beside the address.
pub struct Asked {
    pub purpose: Option<Purpose>,
    pub locale: Option<Locale>,
    pub end_user_ip: Option<IpAddr>,
}

/// A check as it was asked for.
pub struct CheckBody {
    pub code: String,
    pub end_user_ip: Option<IpAddr>,
}

/// A resend as it was asked for.
pub struct ResendBody {
    pub end_user_ip: Option<IpAddr>,
}

impl CreateBody {
    /// The members as they were, for a fingerprint; the address; and the rest.
    pub fn parse(self) -> Result<(Vec<Option<String>>, EmailAddress, Asked), Problem> {
        let address =
            EmailAddress::parse(&self.email).map_err(|_| Problem::new(ProblemCode::InvalidEmail))?;
        Ok((self.members, address, self.asked))
    }
}

impl Body for CreateBody {
    type Schema = CreateSchema;

    fn read(octets: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(octets)?;
        let email = members.required_text("email")?;
        let form = "1 to 64 characters of a-z 0-9 _ . -, the first a letter or a digit";
        let purpose = members.parsed("purpose", form, Purpose::parse)?;
        let locale = members.parsed("locale", "a language tag such as pt-BR", Locale::parse)?;
        let end_user_ip = members.parsed("end_user_ip", IP_FORM, parse_ip)?;
        members.finish(&["email", "purpose", "locale", "end_user_ip"])?;
        let said = vec![
            Some(email.clone()),
            purpose.as_ref().map(|purpose| purpose.as_str().to_owned()),
            locale.as_ref().map(|locale| locale.as_str().to_owned()),
            end_user_ip.map(|address| address.to_string()),
        ];
        Ok(Self { email, asked: Asked { purpose, locale, end_user_ip }, members: said })
    }
}

impl Body for CheckBody {
    type Schema = CheckSchema;

    fn read(octets: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(octets)?;
        let code = members.required_text("code")?;
        let end_user_ip = members.parsed("end_user_ip", IP_FORM, parse_ip)?;
        members.finish(&["code", "end_user_ip"])?;
        Ok(Self { code, end_user_ip })
    }
}

impl Body for ResendBody {
    type Schema = ResendSchema;
    const IS_REQUIRED: bool = false;

    fn read(octets: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(octets)?;
        let end_user_ip = members.parsed("end_user_ip", IP_FORM, parse_ip)?;
        members.finish(&["end_user_ip"])?;
        Ok(Self { end_user_ip })
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
}

impl From<Status> for VerificationStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Approved => Self::Approved,
            Status::Expired => Self::Expired,
            Status::Exhausted => Self::Exhausted,
            Status::Canceled => Self::Canceled,
            Status::Failed => Self::Failed,
        }
    }
}

impl From<Snapshot> for VerificationBody {
    fn from(snapshot: Snapshot) -> Self {
        let about = snapshot.details;
        Self {
            id: snapshot.id.to_string(),
            status: snapshot.status.into(),
            email: about.address.masked(),
            purpose: about.purpose.as_str().to_owned(),
            reference: about.reference.as_str().to_owned(),
            // Whole seconds, such that neither promises more than is true.
            expires_at: rfc3339(snapshot.expires_at / 1000),
            resend_at: snapshot.resend_at.map(|at| rfc3339(at.div_ceil(1000))),
            attempts_remaining: snapshot.attempts_remaining,
            proof: snapshot.proof,
        }
    }
}

/// A moment in UTC (RFC 3339), from seconds since the Unix epoch.
fn rfc3339(seconds: Millis) -> String {
    // The library takes no year beyond 9999.
    let last = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(last))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
