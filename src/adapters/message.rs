//! Composes emails: subject, text and HTML in the reader's language, and the headers.
//!
//! Must not by itself put a link, an image or a caller's text into an email. The code appears
//! exactly once in each part, and in the subject only if the operator's own translation puts it
//! there.

mod composed;
mod encoded;
mod headers;
mod mime;
mod prepared;
mod sources;
mod template_error;
mod templates;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use lettre::Message;
use minijinja::{Value, context};
use thiserror::Error;

pub use self::composed::Composed;
pub use self::headers::quoted;
use self::mime::Head;
pub use self::mime::MimeMessage;
use self::prepared::{CODE_MARK, PreparedEmail, PreparedEmails, PreparedKey, REFERENCE_MARK};
use self::sources::{HTML_LAYOUT, TEXT_LAYOUT, TEXT_NAMES};
pub use self::template_error::TemplateError;
use self::template_error::TemplateFault;
use self::templates::{Language, Templates};
use crate::domain::locale::Locale;
use crate::domain::reference::Reference;
use crate::domain::sender::Sender;
use crate::domain::tenant::Tenant;
use crate::ports::{CodeMail, Content};

/// Why an email could not be composed.
#[derive(Debug, Error)]
pub enum MessageError {
    /// There is no translation for any requested language.
    #[error("there is no translation for that language")]
    NoLanguage,
    /// The template engine failed.
    #[error("a template could not be rendered")]
    Template(#[from] minijinja::Error),
    /// lettre failed.
    #[error("a header could not be built")]
    Header(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The message contains a bare CR or LF, which SMTP forbids and relays treat differently.
    #[error("a line of the mail has no proper end")]
    LineEnd,
}

/// Composes emails from compiled templates.
#[derive(Debug)]
pub struct Composer {
    templates: Templates,
    /// The built-in ones, which are used if one of `templates` fails. `None`: `templates` are the
    /// built-in ones.
    built_in: Option<Templates>,
    prepared: PreparedEmails,
}

/// Values for the templates.
struct TemplateContext<'a> {
    brand: &'a str,
    reference: Option<&'a str>,
    code: &'a str,
    valid_for: Duration,
}

/// Expected values of emails, for checking the templates at the start.
#[derive(Debug, Default)]
pub struct SampleValues {
    /// All brands.
    pub brands: BTreeSet<String>,
    /// Number of digits of a code; 0: the default.
    pub digits: u8,
    /// Lifetime of a code.
    pub life: Duration,
}

impl Composer {
    /// Compiles the templates, of which those in the folder replace the built-in ones, and tests
    /// each of them.
    ///
    /// # Errors
    /// [`TemplateError`] names the file and what is wrong with it.
    pub fn load(folder: Option<&Path>, samples: &SampleValues) -> Result<Self, TemplateError> {
        let templates = Templates::load(folder)?;
        let built_in = folder.map(|_| Templates::load(None)).transpose()?;
        for language in templates.each() {
            rehearse(language, samples).map_err(|fault| language.fault(fault))?;
        }
        Ok(Self { templates, built_in, prepared: PreparedEmails::default() })
    }

    /// Returns whether there is a translation for the tenant in this language or a more general
    /// one.
    pub fn speaks(&self, tenant: &Tenant, locale: &Locale) -> bool {
        self.templates.choose(tenant, [locale]).is_some()
    }

    /// Returns the names of the tenants that have their own templates.
    pub fn tenants(&self) -> impl Iterator<Item = &str> {
        self.templates.tenants()
    }

    /// Returns what the reader sees, as [`Composer::compose`].
    ///
    /// # Errors
    /// [`MessageError`], but never for a built-in template.
    pub fn content(&self, mail: &CodeMail) -> Result<Content, MessageError> {
        Ok(match self.compose(mail)? {
            Composed::Rendered(content) => content,
            prepared @ Composed::Prepared(_) => prepared.content(mail),
        })
    }

    /// Composes an email. If one of the operator's templates fails although it passed its test, the
    /// built-in one is used, so that the email is still sent.
    ///
    /// # Errors
    /// [`MessageError`], but never for a built-in template.
    pub fn compose(&self, mail: &CodeMail) -> Result<Composed, MessageError> {
        let own = choose(&self.templates, mail)?;
        // A brand with a mark in it, which nothing forbids, is rendered each time.
        if self.built_in.is_none()
            && ![CODE_MARK, REFERENCE_MARK].iter().any(|mark| mail.sender.brand.contains(mark))
        {
            return Ok(Composed::Prepared(self.prepared(own, mail)?));
        }
        let details = TemplateContext::of(mail);
        let fault = match render(own, &details).map_err(TemplateFault::Template) {
            Ok(content) => match inspect(&content, details.code) {
                Ok(()) => return Ok(Composed::Rendered(content)),
                Err(what) => TemplateFault::Outcome(what),
            },
            Err(fault) => fault,
        };
        // Logs only the kind of the fault, because messages of the template engine may repeat the
        // code.
        let language = own.tag;
        let error = fault.kind();
        tracing::error!(language, error, "a template failed: the built-in one is used");
        let built_in = self.built_in.as_ref().unwrap_or(&self.templates);
        Ok(Composed::Rendered(render(choose(built_in, mail)?, &details)?))
    }

    /// Returns an email of a built-in template, which is rendered once for each sender, language
    /// and lifetime.
    fn prepared(&self, language: Language<'_>, mail: &CodeMail) -> Result<Arc<PreparedEmail>, MessageError> {
        let (code, reference) = code_and_reference(mail);
        // The built-in templates show minutes or seconds.
        let (minutes, seconds) = shown(mail.valid_for);
        let key = PreparedKey {
            language: language.tag.to_owned(),
            brand: mail.sender.brand.clone(),
            address: mail.sender.address.as_str().to_owned(),
            seconds: minutes.map_or(seconds, |minutes| 60 * minutes),
            code_length: code.len(),
            has_reference: !reference.is_empty(),
        };
        if let Some(email) = self.prepared.find(&key) {
            return Ok(email);
        }
        let reference = mail.reference.map(|_| REFERENCE_MARK);
        let marked = TemplateContext { code: CODE_MARK, reference, ..TemplateContext::of(mail) };
        Ok(self.prepared.keep(key, PreparedEmail::new(&render(language, &marked)?)))
    }

    /// Returns the whole message. `id` identifies it ([`new_id`]).
    ///
    /// # Errors
    /// [`MessageError`] says which part failed. Does not fail for anything that was tested at the
    /// start.
    pub fn message(mail: &CodeMail, content: &Content, id: &str) -> Result<Message, MessageError> {
        let head = Head { sender: &mail.sender, to: &mail.to, id, sent_at: mime::now() };
        mime::build(&head, content, None)
    }
}

impl<'a> TemplateContext<'a> {
    fn of(mail: &'a CodeMail) -> Self {
        Self {
            brand: &mail.sender.brand,
            reference: mail.reference.as_ref().map(Reference::as_str),
            code: mail.code.expose(),
            valid_for: mail.valid_for,
        }
    }
}

/// Returns the id of an email, which must be random and different for each.
#[must_use]
pub fn new_id(random: [u8; 16]) -> String {
    URL_SAFE_NO_PAD.encode(random)
}

/// Returns the `Message-ID` of an email of this sender with this id.
#[must_use]
pub fn message_id(sender: &Sender, id: &str) -> String {
    format!("<{id}@{}>", sender.address.domain())
}

/// Returns the first requested language that is available, and otherwise English.
fn choose<'a>(templates: &'a Templates, mail: &CodeMail) -> Result<Language<'a>, MessageError> {
    let accepted = mail.languages.iter().chain([&mail.sender.locale]);
    let chosen = templates.choose(&mail.tenant, accepted);
    let chosen = chosen.or_else(|| templates.choose(&mail.tenant, [&Locale::english()]));
    chosen.ok_or(MessageError::NoLanguage)
}

/// Returns the code and the reference of an email; the latter is empty if there is none.
fn code_and_reference(mail: &CodeMail) -> (&str, &str) {
    (mail.code.expose(), mail.reference.as_ref().map_or("", Reference::as_str))
}

/// Returns how long a code is valid: whole minutes from two minutes on, rounded down so that the
/// email never promises too much, and seconds.
fn shown(valid_for: Duration) -> (Option<u64>, u64) {
    let seconds = valid_for.as_secs();
    ((seconds >= 120).then_some(seconds / 60), seconds)
}

fn render(language: Language<'_>, about: &TemplateContext<'_>) -> Result<Content, minijinja::Error> {
    let (minutes, seconds) = shown(about.valid_for);
    let facts = context! {
        brand => about.brand,
        reference => about.reference,
        code => about.code,
        minutes => minutes,
        seconds => seconds,
    };
    let texts = TEXT_NAMES.into_iter().map(|name| Ok((name, language.text(name, &facts)?)));
    let texts: BTreeMap<&str, String> = texts.collect::<Result<_, minijinja::Error>>()?;
    let subject = texts.get("subject").cloned();
    let texts = Value::from(texts);
    let tag = language.tag;
    let given = context! { ..texts, ..facts };
    let all = context! { locale => tag, direction => language.direction.to_string(), ..given };
    Ok(Content {
        subject: subject.unwrap_or_default(),
        text: language.layout(TEXT_LAYOUT, &all)?,
        html: language.layout(HTML_LAYOUT, &all)?,
        language: tag.to_owned(),
    })
}

/// Tests a language: renders it with all kinds of values and checks the result.
fn rehearse(language: Language<'_>, samples: &SampleValues) -> Result<(), TemplateFault> {
    // The leading zero detects a template that treats the code as a number.
    let code = "0739184625";
    let code = code.get(..usize::from(samples.digits)).filter(|code| !code.is_empty()).unwrap_or("073918");
    let minutes = (2..=10).map(Duration::from_mins);
    let seconds = [0, 1, 2, 3, 10, 11, 30, 59, 60, 100, 103, 111, 119].map(Duration::from_secs);
    let lives: Vec<Duration> = minutes.chain(seconds).chain([samples.life]).collect();
    // Combines all lifetimes with one brand, and all brands with one lifetime.
    let odd = lives.into_iter().map(|life| ("<Brand> & \"Co\"", life));
    let real = samples.brands.iter().map(|brand| (brand.as_str(), samples.life));
    for (brand, valid_for) in odd.chain(real) {
        for reference in [None, Some("XKT")] {
            let about = TemplateContext { brand, reference, code, valid_for };
            let content = render(language, &about).map_err(TemplateFault::Template)?;
            inspect(&content, code).map_err(TemplateFault::Outcome)?;
        }
    }
    Ok(())
}

/// Returns what is wrong with an email that contains this code.
fn inspect(content: &Content, code: &str) -> Result<(), String> {
    for (part, text) in [(TEXT_LAYOUT, &content.text), (HTML_LAYOUT, &content.html)] {
        let times = text.matches(code).count();
        if times != 1 {
            return Err(format!("with {part} shows the code {times} times: it must stand there once"));
        }
        if text.replace("\r\n", "\n").contains(|c: char| c.is_control() && !['\n', '\t'].contains(&c)) {
            return Err(format!("with {part} has a control character, such as a carriage return alone"));
        }
    }
    if content.subject.trim().is_empty() || content.subject.contains(char::is_control) {
        return Err("has a subject that is not one line of text".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::code::Code;
    use crate::domain::email_address::EmailAddress;

    fn composer() -> Composer {
        Composer::load(None, &SampleValues::default()).unwrap()
    }

    fn content(mail: &CodeMail) -> Content {
        composer().content(mail).unwrap()
    }

    fn mail(brand: &str) -> CodeMail {
        let address = EmailAddress::parse("codes@sender.example").unwrap();
        CodeMail {
            sender: Sender { address, brand: brand.to_owned(), locale: Locale::english() },
            reference: None,
            to: EmailAddress::parse("a@example.com").unwrap(),
            code: Code::parse("012345").unwrap(),
            valid_for: Duration::from_mins(5),
            tenant: Tenant::Simple,
            purpose: None,
            expires_at: 0,
            languages: Vec::new(),
        }
    }

    fn bytes(mail: &CodeMail) -> Vec<u8> {
        let message = composer().compose(mail).unwrap().message(mail, &new_id([7; 16])).unwrap();
        message.as_bytes().to_vec()
    }

    fn mail_in(languages: &[&str]) -> CodeMail {
        let languages = languages.iter().map(|tag| Locale::parse(tag).unwrap()).collect();
        CodeMail { languages, ..mail("Example") }
    }

    /// Creates a folder with these files.
    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn refused(files: &[(&str, &str)]) -> String {
        Composer::load(Some(folder(files).path()), &SampleValues::default()).unwrap_err().to_string()
    }

    #[test]
    fn each_language_reads_as_it_was_written() {
        for tag in ["ar", "de", "en", "es", "fr", "ja", "pt"] {
            let reference = Some(Reference::parse(b"XKT").unwrap());
            let content = content(&CodeMail { reference, ..mail_in(&[tag]) });
            assert_eq!(content.language, tag);
            let Content { subject, text, html, .. } = content;
            insta::assert_snapshot!(tag, format!("{subject}\n\n{text}\n{html}"));
        }
    }

    #[test]
    fn an_email_from_what_was_rendered_before_is_as_one_that_is_rendered() {
        let composer = composer();
        let lives = [30, 119, 120, 299, 300, 600].map(Duration::from_secs);
        for language in composer.templates.each() {
            for (reference, valid_for) in [None, Some(b"XKT"), Some(b"BCD")]
                .into_iter()
                .zip(lives)
                .chain([Some(b"XKT"), None, None].into_iter().zip(lives.into_iter().rev()))
            {
                for code in ["012345", "9876543210"] {
                    let reference = reference.map(|letters| Reference::parse(letters).unwrap());
                    let code = Code::parse(code).unwrap();
                    let mail = CodeMail { code, valid_for, reference, ..mail_in(&[language.tag]) };
                    let mail = CodeMail {
                        sender: Sender { brand: "<Brand> & Co".to_owned(), ..mail.sender },
                        ..mail
                    };
                    let details = TemplateContext {
                        brand: &mail.sender.brand,
                        reference: mail.reference.as_ref().map(Reference::as_str),
                        code: mail.code.expose(),
                        valid_for,
                    };
                    let rendered = render(language, &details).unwrap();
                    inspect(&rendered, details.code).unwrap();
                    for _ in 0..2 {
                        let content = composer.content(&mail).unwrap();
                        assert_eq!(
                            (content.subject, content.text, content.html, content.language),
                            (
                                rendered.subject.clone(),
                                rendered.text.clone(),
                                rendered.html.clone(),
                                rendered.language.clone()
                            )
                        );
                    }
                }
            }
        }
        let with_mark = mail("a\u{e000}b");
        assert_eq!(
            content(&with_mark).text.matches('\u{e000}').count(),
            content(&mail("axb")).text.matches("axb").count()
        );
    }

    #[test]
    fn a_time_is_never_promised_longer_than_it_is() {
        let said = |tag: &str, valid_for| content(&CodeMail { valid_for, ..mail_in(&[tag]) }).text;
        assert!(said("en", Duration::from_millis(299_999)).contains("valid for 4 minutes."));
        assert!(said("en", Duration::from_millis(119_999)).contains("valid for 119 seconds."));
        for (seconds, words) in
            [(120, "دقيقتين"), (600, "10 دقائق"), (30, "30 ثانية"), (105, "105 ثوانٍ"), (111, "111 ثانية")]
        {
            let text = said("ar", Duration::from_secs(seconds));
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn the_code_stands_once_in_each_part_and_not_in_the_subject() {
        for language in composer().templates.each() {
            let content = content(&mail_in(&[language.tag]));
            assert_eq!(content.text.lines().filter(|line| *line == "012345").count(), 1);
            assert_eq!(content.html.matches("012345").count(), 1);
            assert!(!content.subject.contains("012345"));
            for part in [&content.text, &content.html] {
                assert!(part.contains("Example") && !part.contains("eference:"), "{part}");
                for no in ["http", "<img", "<a ", "url(", "src="] {
                    assert!(!part.contains(no), "{no} in {part}");
                }
            }
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
        let message = bytes(&mail("Éxample"));
        let message = String::from_utf8(message).unwrap();
        let count = |header: &str| message.lines().filter(|line| line.starts_with(header)).count();
        assert_eq!(count("Date: "), 1);
        assert_eq!(count("To: a@example.com"), 1);
        assert_eq!(count("Auto-Submitted: auto-generated"), 1);
        assert_eq!(count("Content-Language: en"), 1);
        assert_eq!(count("X-Entity-Ref-ID: BwcHBwcHBwcHBwcHBwcHBw"), 1);
        assert!(message.contains("@sender.example>\r\n") && count("Message-ID: <") == 1, "{message}");
        let (text, html) = (message.find("text/plain").unwrap(), message.find("text/html").unwrap());
        assert!(message.contains("multipart/alternative") && text < html);
        assert!(message.is_ascii());
    }

    #[test]
    fn a_name_is_quoted_or_encoded_as_it_must_be() {
        let from = |brand: &str| {
            let message = String::from_utf8(bytes(&mail(brand))).unwrap();
            message.lines().find(|line| line.starts_with("From: ")).unwrap().to_owned()
        };
        assert_eq!(from("sender.example"), "From: \"sender.example\" <codes@sender.example>");
        assert_eq!(
            from("a \"b\" \\, <c@d.ef>"),
            "From: \"a \\\"b\\\" \\\\, <c@d.ef>\" <codes@sender.example>"
        );
        assert!(from("Söhne").starts_with("From: =?utf-8?b?"), "{}", from("Söhne"));
    }

    #[test]
    fn the_language_is_the_first_that_there_is() {
        let language = |languages: &[&str], usual: &str| {
            let mut mail = mail_in(languages);
            mail.sender.locale = Locale::parse(usual).unwrap();
            content(&mail).language
        };
        assert_eq!(language(&["fr"], "de"), "fr");
        assert_eq!(language(&["pt-BR", "fr"], "de"), "pt");
        assert_eq!(language(&["xx", "JA-jp", "fr"], "de"), "ja");
        assert_eq!(language(&["xx"], "de-AT"), "de");
        assert_eq!(language(&[], "de"), "de");
        assert_eq!(language(&[], "xx"), "en");
    }

    #[test]
    fn a_folder_takes_the_place_of_what_is_built_in() {
        let files = [
            ("de.toml", "subject = \"Dein Code\""),
            ("shop/de.toml", "lead = \"Hallo von {{ brand }}:\""),
            ("shop/layout.html", "<b>{{ code }}</b>{{ lead }}"),
            (
                "nl.toml",
                concat!(
                    "subject = \"S\"\nlead = \"L\"\nvalidity = \"V\"\nplace = \"P\"\n",
                    "secrecy = \"G\"\nstranger = \"X\""
                ),
            ),
            ("simple/en.toml", "subject = \"{{ code }} is your code\""),
            (".hidden", "anything"),
        ];
        let composer = Composer::load(Some(folder(&files).path()), &SampleValues::default()).unwrap();
        let of = |tenant: &str, tag: &str| {
            let tenant = Tenant::parse(tenant).unwrap_or(Tenant::Simple);
            composer.content(&CodeMail { tenant, ..mail_in(&[tag]) }).unwrap()
        };
        assert_eq!(of("bank", "de").subject, "Dein Code");
        assert!(of("bank", "de").text.starts_with("Ihr Code"));
        assert_eq!(of("shop", "de").subject, "Dein Code");
        assert!(of("shop", "de").text.starts_with("Hallo von Example:"));
        assert_eq!(of("shop", "nl").html, "<b>012345</b>L");
        assert!(of("bank", "nl").html.starts_with("<!doctype html>"));
        assert_eq!(of("simple", "en").subject, "012345 is your code");
        assert!(composer.speaks(&Tenant::Simple, &Locale::parse("nl-BE").unwrap()));
        assert!(!composer.speaks(&Tenant::Simple, &Locale::parse("fi").unwrap()));
    }

    #[test]
    fn a_broken_template_is_named_with_what_is_wrong() {
        for (name, text, what) in [
            ("de.toml", "subject = 1", "/de.toml: cannot be read: invalid type"),
            ("de.toml", "subjet = \"a\"", "/de.toml: cannot be read: subjet is neither one of subject, "),
            ("de.toml", "direction = \"up\"", "/de.toml: cannot be read: direction must be ltr or rtl"),
            ("de.toml", "place = \"{{ reference }}\"", "de.toml: undefined value: nothing to show here"),
            ("de.toml", "validity = \"{{ minutes }}\"", "de.toml: undefined value: nothing to show here"),
            ("de.toml", "secrecy = \"a\\rb\"", "de.toml: with layout.txt has a control character"),
            ("layout.txt", "{{ code|int }}", "with layout.txt shows the code 0 times"),
            ("de.toml", "subject = ", "/de.toml: cannot be read: "),
            ("de.toml", "subject = \"{{ brand\"", "de.toml subject: "),
            ("de.toml", "subject = \"{{ name }}\"", "de.toml: undefined value"),
            ("de.toml", "subject = \" \"", "de.toml: has a subject that is not one line of text"),
            ("de.toml", "subject = \"a\\nb\"", "de.toml: has a subject that is not one line of text"),
            ("de.toml", "lead = \"{{ code }}\"", "de.toml: with layout.txt shows the code 2 times"),
            ("it.toml", "subject = \"Codice\"", "it.toml: has no lead"),
            ("layout.html", "none", "with layout.html shows the code 0 times"),
            ("layout.txt", "{% if %}", "layout.txt: "),
            ("readme.md", "", "/readme.md: is neither LOCALE.toml"),
            ("Shop/de.toml", "", "/Shop: is neither LOCALE.toml"),
            ("shop/sub/de.toml", "", "/sub: is neither LOCALE.toml"),
            ("shop/de.toml", "stranger = \"{% for %}\"", "shop/de.toml stranger: "),
        ] {
            let said = refused(&[(name, text)]);
            assert!(said.contains(what), "{name} {text}: {said}");
        }
        // A tenant with its own translations is not blamed for a fault in those of all tenants.
        let said = refused(&[("de.toml", "subject = \"{{ x }}\""), ("shop/en.toml", "subject = \"S\"")]);
        assert!(said.starts_with("de.toml: undefined value"), "{said}");
        let said = refused(&[("pt-BR.toml", "subject = \"S\""), ("pt-br.toml", "subject = \"S\"")]);
        assert!(said.contains("/pt-br.toml: is the second file of that language"), "{said}");
        let said = Composer::load(Some(Path::new("/no/such/folder")), &SampleValues::default())
            .unwrap_err()
            .to_string();
        assert!(said.starts_with("/no/such/folder: cannot be read: "), "{said}");
    }

    #[test]
    fn templates_are_tried_with_the_brands_and_codes_that_mails_will_have() {
        let samples =
            SampleValues { brands: ["Acme".to_owned()].into(), digits: 8, life: Duration::from_secs(45) };
        for words in [
            "subject = \"{% if '&' in brand %}x{% else %}{{ brnd }}{% endif %}\"",
            "validity = \"{% if seconds == 45 %}{{ secs }}{% endif %}\"",
        ] {
            let folder = folder(&[("de.toml", words)]);
            Composer::load(Some(folder.path()), &samples).unwrap_err();
            Composer::load(Some(folder.path()), &SampleValues::default()).unwrap();
        }
        let folder = folder(&[("layout.txt", "{{ code[:6] }}")]);
        Composer::load(Some(folder.path()), &samples).unwrap_err();
        let endless = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        assert!(refused(&[("layout.txt", endless)]).contains("fuel"), "a start that never ends");
    }

    #[test]
    fn a_template_that_fails_after_all_costs_no_mail() {
        for words in [
            "subject = \"{% if brand == 'Rare' %}{{ x }}{% endif %}a\"",
            "lead = \"{% if brand == 'Rare' %}{{ code }}{% endif %}\"",
            "subject = \"{% if brand != 'Rare' %}S{% endif %}\"",
        ] {
            let folder = folder(&[("de.toml", words)]);
            let composer = Composer::load(Some(folder.path()), &SampleValues::default()).unwrap();
            let languages = vec![Locale::parse("de").unwrap()];
            let content = composer.content(&CodeMail { languages, ..mail("Rare") }).unwrap();
            assert!(content.text.starts_with("Ihr Code für Rare lautet:\n\n012345"), "{}", content.text);
            assert_eq!(content.subject, "Ihr Code für Rare");
        }
    }

    #[test]
    fn the_reference_stands_in_each_part_where_there_is_one() {
        let reference = Reference::parse(b"XKT").unwrap();
        for language in composer().templates.each() {
            let with = content(&CodeMail { reference: Some(reference), ..mail_in(&[language.tag]) });
            assert_eq!([with.text.matches("XKT").count(), with.html.matches("XKT").count()], [1, 1]);
        }
        assert!(!content(&mail("Example")).text.contains("eference"));
    }

    #[test]
    fn the_subject_has_the_reference_in_each_language_where_there_is_one() {
        let reference = Reference::parse(b"XKT").unwrap();
        for language in composer().templates.each() {
            let without = content(&mail_in(&[language.tag])).subject;
            let with = content(&CodeMail { reference: Some(reference), ..mail_in(&[language.tag]) }).subject;
            assert_eq!(with.matches("XKT").count(), 1, "{with}");
            assert!(with.starts_with(&without) && with.len() > without.len(), "{with}");
            assert!(without.contains("Example") && !without.contains(['(', '（']), "{without}");
        }
    }

    #[test]
    fn what_is_put_into_words_from_right_to_left_is_isolated() {
        // Without isolation, Unicode's bidirectional algorithm would reorder brand, brackets and
        // reference.
        let reference = Some(Reference::parse(b"XKT").unwrap());
        let Content { subject, text, .. } = content(&CodeMail { reference, ..mail_in(&["ar"]) });
        for line in [&subject, &text] {
            for inserted in ["Example", "XKT"] {
                let isolated = format!("\u{2068}{inserted}\u{2069}");
                assert_eq!(line.matches(inserted).count(), line.matches(&isolated).count(), "{line}");
            }
        }
    }

    #[test]
    fn a_subject_of_an_operator_shows_what_it_names_and_no_more() {
        let reference = Some(Reference::parse(b"XKT").unwrap());
        for (subject, with, without) in [
            ("Code", "Code", "Code"),
            ("{{ code }} for {{ brand }}", "012345 for Example", "012345 for Example"),
            ("{% if reference %}{{ reference }}: {% endif %}Code", "XKT: Code", "Code"),
        ] {
            let folder = folder(&[("en.toml", &format!("subject = \"{subject}\""))]);
            let composer = Composer::load(Some(folder.path()), &SampleValues::default()).unwrap();
            assert_eq!(composer.content(&mail("Example")).unwrap().subject, without);
            assert_eq!(composer.content(&CodeMail { reference, ..mail("Example") }).unwrap().subject, with);
        }
    }

    proptest! {
        #[test]
        fn any_brand_gives_a_mail_whose_lines_end_as_they_must(
            brand in "[^\\p{C}]{0,64}", tag in "ar|en|ja", has_reference in any::<bool>()
        ) {
            let reference = has_reference.then(|| Reference::parse(b"XKT").unwrap());
            let sender = mail(&brand).sender;
            let bytes = bytes(&CodeMail { sender, reference, ..mail_in(&[&tag]) });
            prop_assert!(bytes.is_ascii());
            let head = String::from_utf8(bytes).unwrap();
            let head = head.split("\r\n\r\n").next().unwrap().to_owned();
            let names = ["From: ", "To: ", "Subject: ", "Message-ID: ", "X-Entity-Ref-ID: ", "Date: "];
            prop_assert!(names.iter().all(|name| head.lines().filter(|line| line.starts_with(name)).count() == 1), "{}", head);
            prop_assert!(!head.contains("Bcc:"), "{}", head);
            // RFC 5322 section 2.1.1.
            prop_assert!(head.lines().all(|line| line.len() <= 998), "{}", head);
        }
    }
}
