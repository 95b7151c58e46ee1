//! An email as the peer received it, and just enough MIME to read what otpd writes: headers,
//! multipart/alternative, quoted-printable, base64. It is not a general parser and must not become
//! one; it fails on what it cannot read.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// An email that the peer accepted.
#[derive(Clone, Debug)]
pub struct ReceivedMail {
    /// The sender of the envelope; empty for the null sender.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// Headers and body with their line ends, after dot-unstuffing.
    pub raw: String,
    /// Whether the connection was encrypted.
    pub tls: bool,
    /// The user that had logged in.
    pub user: Option<String>,
}

impl ReceivedMail {
    /// Returns the one-time code: the first word of 6 to 10 digits in the text part.
    pub fn code(&self) -> String {
        find_code(&self.text()).unwrap_or_else(|| panic!("no code in the mail:\n{}", self.raw))
    }

    /// Returns the value of the first header of that name, unfolded; encoded words stay encoded.
    pub fn header(&self, name: &str) -> Option<String> {
        header(split(&self.raw).0, name)
    }

    /// Returns the decoded subject.
    pub fn subject(&self) -> String {
        decode_words(&self.header("Subject").expect("a subject"))
    }

    /// Returns the decoded text/plain part.
    pub fn text(&self) -> String {
        self.part("text/plain")
    }

    /// Returns the decoded text/html part.
    pub fn html(&self) -> String {
        self.part("text/html")
    }

    fn part(&self, media_type: &str) -> String {
        find_part(&self.raw, media_type)
            .unwrap_or_else(|| panic!("no {media_type} part in the mail:\n{}", self.raw))
    }
}

fn find_code(text: &str) -> Option<String> {
    text.split(|character: char| !character.is_alphanumeric())
        .find(|word| (6..=10).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_digit()))
        .map(str::to_owned)
}

/// Returns the decoded part of that type in an entity, which may be the part itself.
fn find_part(entity: &str, media_type: &str) -> Option<String> {
    let (headers, body) = split(entity);
    let content_type = header(headers, "Content-Type").unwrap_or_else(|| "text/plain".to_owned());
    let lower_case = content_type.to_ascii_lowercase();
    if lower_case.starts_with("multipart/") {
        let start = lower_case.find("boundary=")? + "boundary=".len();
        let value = content_type[start..].split(';').next()?;
        let delimiter = format!("\r\n--{}", value.trim().trim_matches('"'));
        // The first delimiter of the body has no line before it if there is no preamble.
        return format!("\r\n{body}")
            .split(&delimiter)
            .skip(1)
            .take_while(|part| !part.starts_with("--"))
            .find_map(|part| {
                find_part(part.trim_start_matches([' ', '\t']).strip_prefix("\r\n")?, media_type)
            });
    }
    let essence = lower_case.split(';').next()?.trim();
    (essence == media_type).then(|| {
        let encoding = header(headers, "Content-Transfer-Encoding").unwrap_or_default();
        decode(body, &encoding.to_ascii_lowercase())
    })
}

fn split(entity: &str) -> (&str, &str) {
    // A part without headers begins with the empty line that would end them.
    if let Some(body) = entity.strip_prefix("\r\n") {
        return ("", body);
    }
    entity.split_once("\r\n\r\n").unwrap_or((entity, ""))
}

fn header(headers: &str, name: &str) -> Option<String> {
    let unfolded = headers.replace("\r\n ", " ").replace("\r\n\t", "\t");
    unfolded
        .split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}

/// Decodes encoded words (RFC 2047) of UTF-8 in base64, each of whole characters. Blanks between
/// two of them are dropped.
fn decode_words(text: &str) -> String {
    let mut decoded = String::new();
    let mut was_encoded = false;
    for word in text.split(' ') {
        let encoded = word.strip_prefix("=?utf-8?b?").and_then(|word| word.strip_suffix("?="));
        if !(decoded.is_empty() || was_encoded && encoded.is_some()) {
            decoded.push(' ');
        }
        match encoded {
            Some(encoded) => {
                let bytes = STANDARD.decode(encoded).expect("an encoded word is valid base64");
                decoded.push_str(&String::from_utf8(bytes).expect("an encoded word is of whole characters"));
            }
            None => decoded.push_str(word),
        }
        was_encoded = encoded.is_some();
    }
    decoded
}

fn decode(body: &str, encoding: &str) -> String {
    let bytes = match encoding {
        "" | "7bit" | "8bit" | "binary" => body.as_bytes().to_vec(),
        "quoted-printable" => quoted_printable(body),
        "base64" => STANDARD
            .decode(body.split_ascii_whitespace().collect::<String>())
            .expect("the part is valid base64"),
        other => panic!("unknown Content-Transfer-Encoding {other}"),
    };
    String::from_utf8(bytes).expect("the part is UTF-8")
}

fn quoted_printable(body: &str) -> Vec<u8> {
    let joined = body.replace("=\r\n", "");
    let mut pieces = joined.split('=');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let byte = piece.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.expect("two hexadecimal digits follow an equals sign"));
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    bytes
}

#[cfg(test)]
mod tests {
    const MAIL: &str = "Subject: a\r\n long\r\n\tone\r\ncontent-type: Multipart/Alternative;\r\n \
        boundary=\"b=_1\"\r\n\r\npreamble\r\n--b=_1\r\nContent-Type: text/plain; charset=utf-8\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=C3=BC=C3=9Fe: 12345=\r\n6.\r\n--b=_1\r\n\
        Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+MTIz\r\nNDU2PC9iPg==\r\n\
        --b=_1--\r\n";

    #[test]
    fn a_multipart_mail_is_read_back() {
        let mail = super::ReceivedMail {
            from: String::new(),
            to: Vec::new(),
            raw: MAIL.to_owned(),
            tls: false,
            user: None,
        };
        assert_eq!(mail.header("SUBJECT").as_deref(), Some("a long\tone"));
        assert_eq!(mail.header("To"), None);
        assert_eq!(mail.text(), "Grüße: 123456.");
        assert_eq!(mail.html(), "<b>123456</b>");
        assert_eq!(mail.code(), "123456");
    }

    #[test]
    fn encoded_words_are_read_as_one_text() {
        let text = "A =?utf-8?b?w7w=?= =?utf-8?b?IGI=?= c";
        assert_eq!(super::decode_words(text), "A ü b c");
    }

    #[test]
    fn a_code_stands_alone_and_has_6_to_10_digits() {
        let found = |text: &str| super::find_code(text);
        assert_eq!(found("12345 x123456 123456x 12345678901 (654321)"), Some("654321".to_owned()));
        assert_eq!(found("in 2026: 1234567890"), Some("1234567890".to_owned()));
        assert_eq!(found("12345 678"), None);
    }
}
