//! Reads a `.env` file: `NAME=value`, one per line.
//!
//! Reads a line as python-dotenv does, which the Flask service that otpd replaces used, but expands
//! no variables: a `$` in a password is a `$`. Must not repeat the content of a line, because it
//! may be a secret.

/// The content of a `.env` file.
#[derive(Default)]
pub(super) struct DotEnv {
    /// Names and values, in the order of the file.
    pub assignments: Vec<(String, String)>,
    /// Numbers, starting at 1, of lines that cannot be read.
    pub broken_lines: Vec<usize>,
}

/// Parses every line that can be read.
pub(super) fn parse(text: &str) -> DotEnv {
    let mut file = DotEnv::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match assignment(line) {
            Some(assignment) => file.assignments.push(assignment),
            None => file.broken_lines.push(index + 1),
        }
    }
    file
}

fn assignment(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim().strip_prefix("export ").unwrap_or(name).trim();
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
    if !is_name {
        return None;
    }
    let quoted = value.trim_start();
    let value = match quoted.chars().next() {
        Some(quote @ ('\'' | '"')) => unquote(quoted.get(1..)?, quote)?,
        _ => without_comment(value).to_owned(),
    };
    Some((name.to_owned(), value))
}

/// Returns the text before the closing quote; only a comment may follow the quote.
fn unquote(text: &str, quote: char) -> Option<String> {
    let mut value = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push_str(&unescape(chars.next()?, quote)),
            c if c == quote => {
                let rest = chars.as_str().trim_start();
                return (rest.is_empty() || rest.starts_with('#')).then_some(value);
            }
            c => value.push(c),
        }
    }
    None
}

/// Decodes an escape: `\\` and `\'` in single quotes, also line ends and tabs in double quotes. Any
/// other backslash is literal.
fn unescape(c: char, quote: char) -> String {
    match c {
        '\\' | '\'' => c.to_string(),
        '"' if quote == '"' => c.to_string(),
        'n' if quote == '"' => "\n".to_owned(),
        'r' if quote == '"' => "\r".to_owned(),
        't' if quote == '"' => "\t".to_owned(),
        c => format!("\\{c}"),
    }
}

/// Strips a comment. It begins with a `#` after white space, so `pass#word` contains none.
fn without_comment(value: &str) -> &str {
    let end = value.match_indices('#').map(|(at, _)| value.split_at(at).0).find(|v| v.ends_with([' ', '\t']));
    end.unwrap_or(value).trim()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(line: &str) -> Option<String> {
        let mut file = parse(line);
        assert_eq!(file.assignments.len() + file.broken_lines.len(), 1, "{line}");
        file.assignments.pop().map(|(name, value)| {
            assert_eq!(name, "A", "{line}");
            value
        })
    }

    #[test]
    fn values_are_read_as_the_seed_reads_them() {
        for (line, expected) in [
            ("A=b", "b"),
            ("export A = b ", "b"),
            ("  A=b # c", "b"),
            ("A=", ""),
            ("A= # c", ""),
            ("A=b#c", "b#c"),
            ("A=#b", "#b"),
            ("A=b=c", "b=c"),
            ("A=abcd efgh ijkl mnop", "abcd efgh ijkl mnop"),
            ("A=pa$word${B}", "pa$word${B}"),
            ("A='b # c' # d", "b # c"),
            ("A=\"b\\\"c\\n\"", "b\"c\n"),
            ("A='b\\n\\'c'", "b\\n'c"),
            ("A=b'c", "b'c"),
            ("A='é'", "é"),
            ("\u{feff}A=b", "b"),
        ] {
            assert_eq!(value(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_counted_and_not_repeated() {
        for line in ["A", "A'=b", "=b", "1A=b", "A B=c", "A='b", "A=\"b", "A='b'c", "A=\"b\\"] {
            assert_eq!(value(line), None, "{line}");
        }
        let file = parse("# c\nA=1\r\nsecret\n\nB='2'\nA=3\n");
        assert_eq!(file.broken_lines, [3]);
        let pairs: Vec<_> = file.assignments.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("A", "1"), ("B", "2"), ("A", "3")]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_counted(text in "(?s).{0,80}") {
            parse(&text);
        }

        #[test]
        fn any_printable_value_survives_single_quotes(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            let file = parse(&format!("A='{quoted}'"));
            prop_assert_eq!(&file.assignments, &[("A".to_owned(), value)]);
        }
    }
}
