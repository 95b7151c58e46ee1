//! The mail itself: subject, text and HTML from templates, and the headers around them.
//!
//! Must not put a link, an image or any text of a caller into a mail; the code stands once in each part and
//! never in the subject (SEC-46 to SEC-49).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use minijinja::{AutoEscape, Environment, context};
use thiserror::Error;

use crate::domain::email_address::EmailAddress;
use crate::domain::reference::Reference;
use crate::ports::CodeMail;

/// A template of ours is broken.
#[derive(Debug, Error)]
#[error("a mail template is broken")]
pub struct TemplateError(#[source] minijinja::Error);

/// A mail could not be put together.
#[derive(Debug, Error)]
pub enum MessageError {
    /// By the template engine.
    #[error("a template could not be rendered")]
    Template(#[from] minijinja::Error),
    /// By the mail library.
    #[error("a header could not be built")]
    Header(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The compiled templates.
#[derive(Debug)]
pub struct Composer {
    templates: Environment<'static>,
}

/// What the reader sees.
pub struct Content {
    pub subject: String,
    pub text: String,
    pub html: String,
}

/// The name of the HTML part's template; what is put into it is escaped.
const HTML: &str = "code.html";

impl Composer {
    /// Compiles the templates.
    pub fn new() -> Result<Self, TemplateError> {
        let mut templates = Environment::new();
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        templates.set_auto_escape_callback(
            |name| {
                if name == HTML { AutoEscape::Html } else { AutoEscape::None }
            },
        );
        for (name, source) in [
            ("code.subject", "Your code for {{ brand }}"),
            ("code.txt", include_str!("message/code.txt")),
            (HTML, include_str!("message/code.html")),
        ] {
            templates.add_template(name, source).map_err(TemplateError)?;
        }
        Ok(Self { templates })
    }

    /// Renders what the reader sees.
    pub fn content(&self, mail: &CodeMail) -> Result<Content, MessageError> {
        let context = context! {
            brand => &mail.sender.brand,
            reference => mail.reference.as_ref().map(Reference::as_str),
            code => mail.code.expose(),
            valid_for => in_words(mail.valid_for),
        };
        let render = |name| self.templates.get_template(name)?.render(&context);
        Ok(Content { subject: render("code.subject")?, text: render("code.txt")?, html: render(HTML)? })
    }

    /// The whole message, ready for a relay.
    pub fn message(&self, mail: &CodeMail, id: [u8; 16]) -> Result<Message, MessageError> {
        let content = self.content(mail)?;
        let id = format!("<{}@{}>", URL_SAFE_NO_PAD.encode(id), mail.sender.address.domain());
        Message::builder()
            .from(Mailbox::new(Some(mail.sender.brand.clone()), mailbox(&mail.sender.address)?))
            .to(Mailbox::new(None, mailbox(&mail.to)?))
            .subject(content.subject)
            .message_id(Some(id))
            .date_now()
            .header(AutoSubmitted)
            .multipart(
                MultiPart::alternative()
                    .singlepart(part(ContentType::TEXT_PLAIN, content.text))
                    .singlepart(part(ContentType::TEXT_HTML, content.html)),
            )
            .map_err(|error| MessageError::Header(error.into()))
    }
}

fn part(content_type: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(content_type).body(body)
}

fn mailbox(address: &EmailAddress) -> Result<Address, MessageError> {
    address
        .as_str()
        .parse()
        .map_err(|error: lettre::address::AddressError| MessageError::Header(error.into()))
}

/// Whole minutes from two minutes on, else whole seconds; never more than what is left.
fn in_words(valid_for: Duration) -> String {
    match valid_for.as_secs() {
        1 => "1 second".to_owned(),
        seconds @ 0..120 => format!("{seconds} seconds"),
        seconds => format!("{} minutes", seconds / 60),
    }
}

/// `Auto-Submitted: auto-generated` (RFC 3834 section 5): no out-of-office reply to this mail.
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code::Code;
    use crate::domain::sender::Sender;

    fn content(mail: &CodeMail) -> Content {
        Composer::new().unwrap().content(mail).unwrap()
    }

    fn mail(brand: &str) -> CodeMail {
        let address = EmailAddress::parse("codes@sender.example").unwrap();
        CodeMail {
            sender: Sender { address, brand: brand.to_owned() },
            reference: None,
            to: EmailAddress::parse("a@example.com").unwrap(),
            code: Code::parse("012345").unwrap(),
            valid_for: Duration::from_mins(5),
        }
    }

    #[test]
    fn the_code_stands_once_in_each_part_and_not_in_the_subject() {
        let content = content(&mail("Example"));
        assert_eq!(content.text.matches("012345").count(), 1);
        assert_eq!(content.html.matches("012345").count(), 1);
        assert!(!content.subject.contains("012345"));
        for part in [content.text, content.html] {
            assert!(part.contains("Example") && part.contains("5 minutes"), "{part}");
            assert!(!part.contains("http") && !part.contains("<img") && !part.contains('@'), "{part}");
        }
    }

    #[test]
    fn a_brand_is_text_in_html() {
        let content = content(&mail("<a href=x>\"Q&A\""));
        assert!(content.html.contains("&lt;a href"), "{}", content.html);
        assert!(!content.html.contains("<a"));
    }

    #[test]
    fn headers_are_those_of_an_automatic_mail() {
        let message = Composer::new().unwrap().message(&mail("Éxample"), [7; 16]).unwrap().formatted();
        let message = String::from_utf8(message).unwrap();
        let count = |header: &str| message.lines().filter(|line| line.starts_with(header)).count();
        assert_eq!(count("Date: "), 1);
        assert_eq!(count("To: a@example.com"), 1);
        assert_eq!(count("Auto-Submitted: auto-generated"), 1);
        assert!(message.contains("@sender.example>\r\n") && count("Message-ID: <") == 1, "{message}");
        let (text, html) = (message.find("text/plain").unwrap(), message.find("text/html").unwrap());
        assert!(message.contains("multipart/alternative") && text < html);
        assert!(message.is_ascii());
        assert!(!message.replace("\r\n", "").contains(['\r', '\n']), "each line ends as SMTP wants it");
    }

    #[test]
    fn the_reference_stands_in_each_part_where_there_is_one() {
        let reference = Reference::parse(b"XKT").unwrap();
        let with = content(&CodeMail { reference: Some(reference), ..mail("Example") });
        assert_eq!([with.text.matches("XKT").count(), with.html.matches("XKT").count()], [1, 1]);
        let without = content(&mail("Example"));
        assert!(!without.text.contains("eference") && !without.html.contains("eference"));
    }

    #[test]
    fn a_time_is_never_promised_longer_than_it_is() {
        assert_eq!(in_words(Duration::from_millis(299_999)), "4 minutes");
        assert_eq!(in_words(Duration::from_millis(119_999)), "119 seconds");
        assert_eq!(in_words(Duration::from_secs(1)), "1 second");
    }
}
