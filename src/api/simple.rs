//! The two simple endpoints, with exactly the bodies and messages of the Flask service that otpd
//! replaces.
//!
//! A wrong, expired, used or exhausted code and one that was never sent get the same answer, byte
//! for byte.

mod error;

use poem_openapi::{ApiResponse, Object, OpenApi};

use self::error::{NO_ADDRESS, SimpleError};
use super::client_ip::Client;
use super::context::Context;
use super::credentials::{CheckToken, SendToken};
use super::json::{Body, Members, StrictJson};
use super::languages;
use super::message::Message;
use super::payload::Json;
use super::rate_limit::report_limits;
use super::rejection::{MalformedReason, Rejection};
use super::spec::ApiTag;
use crate::domain::code::CodeLength;
use crate::domain::email_address::EmailAddress;
use crate::domain::typed;
use crate::service::UseCaseError;

/// The two simple endpoints.
#[derive(Clone, Copy)]
pub(super) struct SimpleApi;

/// A request to send a code.
#[derive(Debug, Object)]
#[oai(rename = "SendOtpRequest", example)]
struct SendOtpSchema {
    /// The email address to verify, at most 254 bytes, with a fully qualified domain.
    email: String,
}

/// A request to verify a code.
#[derive(Debug, Object)]
#[oai(rename = "VerifyOtpRequest", example)]
struct VerifyOtpSchema {
    /// The email address that the code was sent to. The part before the @ is not case-sensitive.
    email: String,
    /// The code as the user typed it. Digits of any script are accepted; whitespace, dashes and
    /// invisible characters are ignored. A JSON number is accepted if it has exactly as many digits
    /// as a code.
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

struct SendOtpBody {
    email: Option<String>,
}

struct VerifyOtpBody {
    email: Option<String>,
    otp: Option<TypedCode>,
}

/// A code as a string, or as a number from a careless client.
enum TypedCode {
    Text(String),
    Number(u64),
}

impl Body for SendOtpBody {
    type Schema = SendOtpSchema;

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let email = Members::read(bytes)?.text("email")?;
        Ok(Self { email })
    }
}

impl Body for VerifyOtpBody {
    type Schema = VerifyOtpSchema;

    fn read(bytes: &[u8]) -> Result<Self, Rejection> {
        let mut members = Members::read(bytes)?;
        let email = members.text("email")?;
        let otp = members.raw("otp").map(TypedCode::read).transpose()?;
        Ok(Self { email, otp })
    }
}

#[derive(ApiResponse)]
enum SendOtpResponse {
    /// A code was sent: `OTP sent successfully`.
    #[oai(status = 200)]
    Sent(Json<Message>),
}

#[derive(ApiResponse)]
enum VerifyOtpResponse {
    /// The email address is verified: `OTP verified successfully`.
    #[oai(status = 200)]
    Verified(
        Json<Message>,
        /// A proof of the verification: a JWT signed with EdDSA or ES256. Absent if the service has
        /// no proof keys.
        #[oai(header = "OTP-Proof")]
        Option<String>,
    ),
}

#[OpenApi(
    tag = "ApiTag::Simple",
    response_header(
        name = "RateLimit-Policy",
        ty = "Option<String>",
        description = "The tightest limit that applies to the request: its name, maximum (`q`) and window in seconds (`w`)."
    ),
    response_header(
        name = "RateLimit",
        ty = "Option<String>",
        description = "The state of that limit: what remains (`r`), and the seconds until more is available (`t`)."
    )
)]
impl SimpleApi {
    /// Send a code
    ///
    /// Sends a new one-time code to the email address. The email is in the first language of
    /// `Accept-Language` that the service supports. The previous code for the address stays good
    /// for a short time, by default two minutes, and failed attempts on it still count.
    #[oai(path = "/send-otp", method = "post", operation_id = "sendOtp")]
    async fn send_otp(
        &self,
        _token: SendToken,
        context: Context<'_>,
        body: StrictJson<SendOtpBody>,
    ) -> Result<SendOtpResponse, SimpleError> {
        let email = non_blank(body.0.email).ok_or_else(|| SimpleError::bad_request("Email is required"))?;
        let address = parse_address(&email)?;
        let languages = languages::accepted_languages(context.headers);
        let client = &context.client;
        let sent = context.service().send_otp(address, client.address, languages).await;
        report_limits(sent, &context.report).inspect_err(|error| warn_of_proxy(error, client))?;
        Ok(SendOtpResponse::Sent(Json(Message::new("OTP sent successfully"))))
    }

    /// Verify a code
    ///
    /// Verifies the email address if the code is the most recent one sent to it. A code can be used
    /// once. Each attempt is counted before the code is compared. The response is the same for a
    /// wrong, expired or used code and for one that was never sent.
    #[oai(path = "/verify-otp", method = "post", operation_id = "verifyOtp")]
    async fn verify_otp(
        &self,
        _token: CheckToken,
        context: Context<'_>,
        body: StrictJson<VerifyOtpBody>,
    ) -> Result<VerifyOtpResponse, SimpleError> {
        let otp = body.0.otp.map(|otp| otp.into_text(context.shared.code_length)).transpose()?;
        let (Some(email), Some(otp)) = (non_blank(body.0.email), non_blank(otp)) else {
            return Err(SimpleError::bad_request("Email and OTP are required"));
        };
        let address = parse_address(&email)?;
        let client = &context.client;
        let checked = context.service().verify_otp(address, otp, client.address).await;
        let checked = report_limits(checked, &context.report);
        let approved = checked.inspect_err(|error| warn_of_proxy(error, client))?;
        Ok(VerifyOtpResponse::Verified(Json(Message::new("OTP verified successfully")), approved.proof))
    }
}

/// Warns that the client may be a proxy, if it exceeded a limit per IP.
fn warn_of_proxy(error: &impl UseCaseError, client: &Client) {
    if error.limited().is_some_and(|limit_state| limit_state.policy.is_per_ip()) {
        client.warn_once();
    }
}

/// Returns a member's text if it has visible characters.
fn non_blank(member: Option<String>) -> Option<String> {
    member.filter(|text| !typed::trim(text).is_empty())
}

fn parse_address(text: &str) -> Result<EmailAddress, SimpleError> {
    EmailAddress::parse(text).map_err(|_| SimpleError::bad_request(NO_ADDRESS))
}

impl TypedCode {
    /// Parses the JSON of a string or a number.
    fn read(json: &str) -> Result<Self, Rejection> {
        let text = serde_json::from_str(json).map(Self::Text);
        let either = text.or_else(|_| serde_json::from_str(json).map(Self::Number));
        either.map_err(|_| Rejection::Malformed(MalformedReason::Format("otp", "a string")))
    }

    /// Returns the code as text. A number has lost its leading zeros, so it is accepted only if it
    /// has all the digits of a code.
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
