//! What the email providers and the hook expect of a request, and how they answer: the facts of
//! their documentation, not of otpd's code.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use super::hook::SECRET;
use super::http_sink::{SinkAnswer, SinkMail, SinkRequest};
use super::smtp::ReceivedMail;

/// The key of the test accounts. It must not be in the log.
pub const KEY: &str = "key-of-the-test-account";
/// The AWS Region of the test account.
const REGION: &str = "eu-central-1";

/// A provider, or the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Resend,
    Postmark,
    Mailgun,
    Ses,
    Hook,
}

impl Dialect {
    pub const ALL: [Self; 5] = [Self::Resend, Self::Postmark, Self::Mailgun, Self::Ses, Self::Hook];

    /// Returns its word in `OTP_SENDER`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Resend => "resend",
            Self::Postmark => "postmark",
            Self::Mailgun => "mailgun",
            Self::Ses => "ses",
            Self::Hook => "hook",
        }
    }

    /// Returns the settings of an account at this URL.
    pub fn settings(self, url: &str) -> Vec<(&'static str, String)> {
        let key = KEY.to_owned();
        match self {
            Self::Resend => vec![("OTP_RESEND__API_KEY", key), ("OTP_RESEND__URL", url.to_owned())],
            Self::Postmark => vec![("OTP_POSTMARK__TOKEN", key), ("OTP_POSTMARK__URL", url.to_owned())],
            Self::Mailgun => vec![
                ("OTP_MAILGUN__API_KEY", key),
                ("OTP_MAILGUN__DOMAIN", "mg.example".to_owned()),
                ("OTP_MAILGUN__URL", url.to_owned()),
            ],
            Self::Ses => vec![
                ("OTP_SES__ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
                ("OTP_SES__SECRET_ACCESS_KEY", key),
                ("OTP_SES__REGION", REGION.to_owned()),
                ("OTP_SES__URL", url.to_owned()),
            ],
            Self::Hook => {
                vec![("OTP_HOOK__URL", format!("{url}/codes")), ("OTP_HOOK__SECRET", SECRET.to_owned())]
            }
        }
    }

    /// Reads the email of a request, or says what the provider would refuse.
    pub fn read(self, request: &SinkRequest) -> Result<SinkMail, String> {
        let path = match self {
            Self::Resend => "/emails",
            Self::Postmark => "/email",
            Self::Mailgun => "/v3/mg.example/messages",
            Self::Ses => "/v2/email/outbound-emails",
            Self::Hook => "/codes",
        };
        if request.line != format!("POST {path} HTTP/1.1") {
            return Err(format!("{} is not its call", request.line));
        }
        if !self.is_authorized(request) {
            return Err("wrong key".to_owned());
        }
        let json = || serde_json::from_slice::<Value>(&request.body).map_err(|error| error.to_string());
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or("a text is missing");
        let (to, text) = match self {
            Self::Resend => (text(&json()?["to"][0])?, text(&json()?["text"])?),
            Self::Postmark => (text(&json()?["To"])?, text(&json()?["TextBody"])?),
            Self::Hook => (text(&json()?["to"])?, text(&json()?["text"])?),
            Self::Mailgun => {
                let fields: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
                let field = |name: &str| {
                    let found = fields.iter().find(|(other, _)| other == name);
                    found.map(|(_, value)| value.clone()).ok_or(format!("{name} parameter is missing"))
                };
                (field("to")?, field("text")?)
            }
            Self::Ses => {
                let body = json()?;
                let raw = STANDARD.decode(text(&body["Content"]["Raw"]["Data"])?);
                let raw = raw.map_err(|error| error.to_string())?;
                let raw = String::from_utf8(raw).map_err(|error| error.to_string())?;
                let mail = ReceivedMail { from: String::new(), to: Vec::new(), raw, tls: false, user: None };
                (text(&body["Destination"]["ToAddresses"][0])?, mail.text())
            }
        };
        let is_code = |line: &&str| line.len() == 6 && line.bytes().all(|b| b.is_ascii_digit());
        let code = text.lines().map(str::trim).find(is_code).ok_or("no code")?.to_owned();
        Ok(SinkMail { to, code })
    }

    fn is_authorized(self, request: &SinkRequest) -> bool {
        let header = |name: &str| request.header(name).unwrap_or_default();
        match self {
            Self::Resend => header("authorization") == format!("Bearer {KEY}"),
            Self::Postmark => header("x-postmark-server-token") == KEY,
            Self::Mailgun => {
                header("authorization") == format!("Basic {}", STANDARD.encode(format!("api:{KEY}")))
            }
            Self::Ses => {
                let date = header("x-amz-date").get(..8).unwrap_or_default();
                let scope = format!("Credential=AKIDEXAMPLE/{date}/{REGION}/ses/aws4_request, ");
                header("authorization").contains(&scope)
            }
            Self::Hook => {
                let time = header("webhook-timestamp").parse().unwrap_or_default();
                let webhook = Webhook::new(SECRET).expect("a secret");
                let signature = webhook.sign(header("webhook-id"), time, &request.body);
                signature.is_ok_and(|signature| signature == header("webhook-signature"))
            }
        }
    }

    /// Returns the answer to an email that it accepts under this id.
    pub fn accepted(self, id: &str) -> SinkAnswer {
        SinkAnswer::json(
            200,
            &match self {
                Self::Resend => json!({ "id": id }),
                Self::Postmark => json!({ "MessageID": id, "ErrorCode": 0, "Message": "OK" }),
                Self::Mailgun => json!({ "id": id, "message": "Queued. Thank you." }),
                Self::Ses => json!({ "MessageId": id }),
                Self::Hook => return SinkAnswer::empty(204),
            },
        )
    }

    /// Returns the answer to a recipient that it refuses. It repeats the address.
    pub fn refused(self, to: &str) -> SinkAnswer {
        match self {
            Self::Resend => SinkAnswer::json(
                422,
                &json!({ "statusCode": 422, "name": "validation_error", "message": format!("Invalid `to`: {to}") }),
            ),
            Self::Postmark => SinkAnswer::json(
                422,
                &json!({ "ErrorCode": 406, "Message": format!("Inactive recipient: {to}") }),
            ),
            Self::Mailgun => {
                SinkAnswer::json(400, &json!({ "message": format!("{to} is not a valid address") }))
            }
            Self::Ses => {
                SinkAnswer::json(400, &json!({ "message": format!("Email address is not verified: {to}") }))
                    .with("x-amzn-ErrorType", "MessageRejected")
            }
            Self::Hook => SinkAnswer::json(400, &json!({ "error": format!("no such {to}") })),
        }
    }

    /// Returns the answer while it gets too many requests.
    pub fn busy(self) -> SinkAnswer {
        let answer = SinkAnswer::json(
            429,
            &match self {
                Self::Resend => {
                    json!({ "statusCode": 429, "name": "rate_limit_exceeded", "message": "Later" })
                }
                Self::Postmark => json!({ "ErrorCode": 429, "Message": "Rate limit exceeded" }),
                Self::Mailgun => {
                    json!({ "message": "Domain mg.example is not allowed to send: request limit" })
                }
                Self::Ses => {
                    json!({ "__type": "TooManyRequestsException", "message": "Maximum sending rate" })
                }
                Self::Hook => return SinkAnswer::empty(429),
            },
        );
        if self == Self::Resend { answer.with("retry-after", "1") } else { answer }
    }
}
