//! The bodies of the v1 API, and how they are parsed.

use std::net::IpAddr;

use poem_openapi::Object;
use serde::Serialize;

use super::delivery::DeliveryBody;
use crate::api::json::{Body, Members};
use crate::api::problem::{Problem, ProblemCode};
use crate::api::rejection::Rejection;
use crate::api::timestamp::rfc3339;
use crate::api::verification_status::VerificationStatus;
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::domain::purpose::Purpose;
use crate::service::Snapshot;

/// The required format of `end_user_ip`.
const IP_FORM: &str = "an IPv4 or IPv6 address";

/// A verification of an email address.
#[derive(Serialize, Object)]
#[oai(rename = "Verification")]
pub(super) struct VerificationBody {
    /// A unique identifier with 128 random bits.
    id: String,
    /// The status of the verification.
    status: VerificationStatus,
    /// The email address, masked.
    email: String,
    /// The purpose of the verification. Its proof contains it too.
    purpose: String,
    /// Three letters that are also in the email. Show them next to the input for the code.
    reference: String,
    /// When the code expires or expired.
    expires_at: String,
    /// The earliest time at which the limits of the email address allow another code. Present while
    /// the status is `pending`. If the request has no `end_user_ip`, the limit for one IP address
    /// and this email address (`ip_email_sends`) is not considered.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    resend_at: Option<String>,
    /// What is known of the newest email.
    delivery: DeliveryBody,
    /// The number of attempts that remain; 0 once the verification has ended.
    attempts_remaining: u8,
    /// A proof of the verification, as a signed JWT. Present for 300 seconds after approval, if the
    /// service has proof keys.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    /// Present and `true` if it is a test: no email is sent for it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<bool>,
}

/// A verification that has just been approved.
#[derive(Serialize, Object)]
pub(super) struct Approval {
    /// The id of the verification.
    pub id: String,
    /// Always `approved`.
    pub status: VerificationStatus,
    /// A proof of the verification: a JWT signed with EdDSA or ES256. Absent if the service has no
    /// proof keys.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Present and `true` if it is a test: no email was sent for it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<bool>,
}

/// A request to create a verification.
#[derive(Debug, Object)]
#[oai(rename = "CreateVerificationRequest")]
pub(super) struct CreateSchema {
    /// The email address to verify, at most 254 bytes, with a fully qualified domain.
    email: String,
    /// The purpose of the verification, 1 to 64 characters of `a-z 0-9 _ . -`. If the tenant
    /// restricts purposes, it must be one of them and defaults to the first; otherwise it defaults
    /// to `verification`.
    purpose: Option<String>,
    /// The user's language, as a BCP 47 tag such as `pt-BR` (`pt_BR` is accepted). The email is in
    /// this language or a more general one, if there is a translation: `ar`, `de`, `en`, `es`,
    /// `fr`, `ja`, `pt` and those that the operator has added. Otherwise it is in the tenant's
    /// default language.
    locale: Option<String>,
    /// The IPv4 or IPv6 address of the user's device. Send it if you call on behalf of a user: the
    /// limits per IP then apply to that address.
    end_user_ip: Option<String>,
}

/// A request to check a code.
#[derive(Debug, Object)]
#[oai(rename = "CheckVerificationRequest")]
pub(super) struct CheckSchema {
    /// The code as the user typed it. Digits of any script are accepted; whitespace, dashes and
    /// invisible characters are ignored.
    code: String,
    /// The IPv4 or IPv6 address of the user's device, as when creating a verification.
    end_user_ip: Option<String>,
}

/// A request to resend a code. All members are optional.
#[derive(Debug, Object)]
#[oai(rename = "ResendVerificationRequest")]
pub(super) struct ResendSchema {
    /// The IPv4 or IPv6 address of the user's device, as when creating a verification.
    end_user_ip: Option<String>,
}

/// A parsed request to create a verification.
pub(super) struct CreateBody {
    email: String,
    asked: Asked,
    members: Vec<Option<String>>,
}

/// The optional members of a request to create a verification.
pub(super) struct Asked {
    pub purpose: Option<Purpose>,
    pub locale: Option<Locale>,
    pub end_user_ip: Option<IpAddr>,
}

/// A parsed request to check a code.
pub(super) struct CheckBody {
    pub code: String,
    pub end_user_ip: Option<IpAddr>,
}

/// A parsed request to resend a code.
pub(super) struct ResendBody {
    pub end_user_ip: Option<IpAddr>,
}

impl CreateBody {
    /// Returns the members for the idempotency fingerprint, the address, and the optional members.
    pub(super) fn parse(self) -> Result<(Vec<Option<String>>, EmailAddress, Asked), Problem> {
        let address =
            EmailAddress::parse(&self.email).map_err(|_| Problem::new(ProblemCode::InvalidEmail))?;
        Ok((self.members, address, self.asked))
    }
}

impl Body for CreateBody {
    type Schema = CreateSchema;

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(bytes)?;
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

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(bytes)?;
        let code = members.required_text("code")?;
        let end_user_ip = members.parsed("end_user_ip", IP_FORM, parse_ip)?;
        members.finish(&["code", "end_user_ip"])?;
        Ok(Self { code, end_user_ip })
    }
}

impl Body for ResendBody {
    type Schema = ResendSchema;
    const IS_REQUIRED: bool = false;

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(bytes)?;
        let end_user_ip = members.parsed("end_user_ip", IP_FORM, parse_ip)?;
        members.finish(&["end_user_ip"])?;
        Ok(Self { end_user_ip })
    }
}

fn parse_ip(text: &str) -> Option<IpAddr> {
    text.parse().ok().map(|address: IpAddr| address.to_canonical())
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
            // Round to whole seconds, in the direction that promises no more than is true.
            expires_at: rfc3339(snapshot.expires_at / 1000),
            resend_at: snapshot.resend_at.map(|at| rfc3339(at.div_ceil(1000))),
            delivery: snapshot.delivery.into(),
            attempts_remaining: snapshot.attempts_remaining,
            proof: snapshot.proof,
            test: about.is_test.then_some(true),
        }
    }
}
