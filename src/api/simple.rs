//! The two simple endpoints: the seed's bodies and messages, to the letter.
//!
//! Wrong, expired, used, exhausted and never sent get the same answer, octet for octet (SEC-13).

mod error;

use poem::Request;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Deserialize;

use self::error::{NO_ADDRESS, SimpleError};
use super::auth::{CheckToken, SendToken};
use super::client_ip::Client;
use super::json::{self, Body, StrictJson};
use super::languages;
use super::rate_limit::LimitReport;
use super::rejection::Rejection;
use super::spec::ApiTag;
use crate::domain::code::CodeLength;
use crate::domain::email_address::EmailAddress;
use crate::domain::typed;
use crate::service::{Service, WithLimitState};

/// The two simple endpoints.
pub struct SimpleApi;

/// What every answer of the simple endpoints says.
#[derive(Debug, Object)]
pub struct Message {
    /// The outcome, in words that do not change.
    message: String,
}

/// Whom to send a code to.
#[derive(Debug, Object)]
#[oai(rename = "SendOtpRequest", example)]
struct SendOtpSchema {
    /// The address to confirm: at most 254 octets, with a fully qualified domain.
    email: String,
}

/// Which code to verify for whom.
#[derive(Debug, Object)]
#[oai(rename = "VerifyOtpRequest", example)]
struct VerifyOtpSchema {
    /// The address that the code was sent to; before the @, upper and lower case are the same.
    email: String,
    /// The code as typed: digits of any script; white space, dashes and invisible characters are
    /// ignored. A JSON number is taken too, where it has exactly as many digits as codes have.
    otp: String,
}

impl poem_openapi::types::Example for SendOtpSchema {
    fn example() -> Self {
        Self { email: "recipient@example.com".to_owned() }
    }
}

impl poem_openapi::types::Example for VerifyOtpSchema {
    fn example() -> Self {
        Self { email: "recipient@example.com".to_owned(), otp: "123456".to_owned() }
    }
}

#[derive(Deserialize)]
struct SendOtpBody {
    email: Option<String>,
}

#[derive(Deserialize)]
struct VerifyOtpBody {
    email: Option<String>,
    otp: Option<TypedCode>,
}

/// A code as a person or a careless program gives it.
#[derive(Deserialize)]
#[serde(untagged)]
enum TypedCode {
    Text(String),
    Number(u64),
}

impl Body for SendOtpBody {
    type Schema = SendOtpSchema;

    fn read(octets: &[u8]) -> Result<Self, Rejection> {
        json::parse(octets)
    }
}

impl Body for VerifyOtpBody {
    type Schema = VerifyOtpSchema;

    fn read(octets: &[u8]) -> Result<Self, Rejection> {
        json::parse(octets)
    }
}

#[derive(ApiResponse)]
enum SendOtpResponse {
    /// A code was mailed: `OTP sent successfully`.
    #[oai(status = 200)]
    Sent(Json<Message>),
}

#[derive(ApiResponse)]
enum VerifyOtpResponse {
    /// The address is confirmed: `OTP verified successfully`.
    #[oai(status = 200)]
    Verified(
        Json<Message>,
        /// A signed statement of it (JWT, EdDSA or ES256), where the service has proof keys.
        #[oai(header = "OTP-Proof")]
        Option<String>,
    ),
}

#[OpenApi(
    tag = "ApiTag::Simple",
    response_header(
        name = "RateLimit-Policy",
        ty = "Option<String>",
        description = "The tightest limit of the caller: its name, the most (`q`) and in how many seconds (`w`)."
    ),
    response_header(
        name = "RateLimit",
        ty = "Option<String>",
        description = "How that limit stands: what is left (`r`), and in how many seconds it is more (`t`)."
    )
)]
impl SimpleApi {
    /// Send a code
    ///
    /// Mails a new one-time code to the address, in the first language of `Accept-Language` that there is. A code sent
    /// before dies; the wrong guesses made on it still count.
    #[oai(path = "/send-otp", method = "post", operation_id = "sendOtp")]
    async fn send_otp(
        &self,
        _token: SendToken,
        service: Data<&Service>,
        client: Data<&Client>,
        report: Data<&LimitReport>,
        request: &Request,
        body: StrictJson<SendOtpBody>,
    ) -> Result<SendOtpResponse, SimpleError> {
        let email = filled(body.0.email).ok_or_else(|| SimpleError::bad_request("Email is required"))?;
        let address = parse_address(&email)?;
        let languages = languages::wanted(request.headers());
        report_limits(service.start(address, client.address, languages).await, &client, &report)?;
        Ok(SendOtpResponse::Sent(Json(Message::new("OTP sent successfully"))))
    }

    /// Verify a code
    ///
    /// Confirms the address if the code is its live one. Each code serves once; a guess is spent before it is
    /// compared. Wrong, expired, used and never sent get the same answer.
    #[oai(path = "/verify-otp", method = "post", operation_id = "verifyOtp")]
    async fn verify_otp(
        &self,
        _token: CheckToken,
        service: Data<&Service>,
        code_length: Data<&CodeLength>,
        client: Data<&Client>,
        report: Data<&LimitReport>,
        body: StrictJson<VerifyOtpBody>,
    ) -> Result<VerifyOtpResponse, SimpleError> {
        let otp = body.0.otp.map(|otp| otp.into_text(**code_length)).transpose()?;
        let (Some(email), Some(otp)) = (filled(body.0.email), filled(otp)) else {
            return Err(SimpleError::bad_request("Email and OTP are required"));
        };
        let address = parse_address(&email)?;
        let approved = report_limits(service.check(address, otp, client.address).await, &client, &report)?;
        Ok(VerifyOtpResponse::Verified(Json(Message::new("OTP verified successfully")), approved.proof))
    }
}

/// The outcome; what the caller is to be told of its limits goes to the report.
fn report_limits<T, E>(
    metered: WithLimitState<Result<T, E>>,
    client: &Client,
    report: &LimitReport,
) -> Result<T, SimpleError>
where
    SimpleError: From<E>,
{
    if let Some(limit_state) = metered.limit_state {
        report.show(limit_state);
        if metered.outcome.is_err() && limit_state.policy.is_per_ip() && !limit_state.wait.is_zero() {
            client.warn_once();
        }
    }
    Ok(metered.outcome?)
}

/// A member with something in it that can be seen.
fn filled(member: Option<String>) -> Option<String> {
    member.filter(|text| !typed::trim(text).is_empty())
}

fn parse_address(text: &str) -> Result<EmailAddress, SimpleError> {
    EmailAddress::parse(text).map_err(|_| SimpleError::bad_request(NO_ADDRESS))
}

impl TypedCode {
    /// A number has lost its leading zeros, so it stands for a code only where it has all the digits.
    fn into_text(self, length: CodeLength) -> Result<String, SimpleError> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Number(number) => {
                let text = number.to_string();
                let whole = text.len() == usize::from(length.digits());
                whole.then_some(text).ok_or_else(SimpleError::malformed)
            }
        }
    }
}

impl Message {
    /// A message in words of ours.
    pub fn new(message: &str) -> Self {
        Self { message: message.to_owned() }
    }
}
