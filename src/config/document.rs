//! Flattens TOML: tables of scalars become `section.key` and text.
//!
//! Must not know which keys exist. Errors name the line of a TOML error but never repeat its
//! content.

use toml::{Table, Value};

/// A key as written in the document, with its value as text or a description of the fault.
pub(super) type Flat = (String, Result<String, String>);

/// Why a text is not TOML, with the line number.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotToml(pub String);

/// Returns every value of the document.
pub(super) fn flatten(text: &str) -> Result<Vec<Flat>, NotToml> {
    Ok(parse(text)?.into_iter().flat_map(|(name, value)| section(name, value)).collect())
}

/// Returns every value of the document, and separately the values of each table of the array
/// `array`.
pub(super) fn flatten_with(text: &str, array: &str) -> Result<(Vec<Flat>, Vec<Vec<Flat>>), NotToml> {
    let mut document = parse(text)?;
    let tables = match document.get(array) {
        Some(Value::Array(items)) if items.iter().all(Value::is_table) => {
            document.remove(array).and_then(|value| value.as_array().cloned()).unwrap_or_default()
        }
        _ => Vec::new(),
    };
    let of_table = |table: Value| match table {
        Value::Table(table) => table.into_iter().flat_map(|(name, value)| section(name, value)).collect(),
        _ => Vec::new(),
    };
    let rest = document.into_iter().flat_map(|(name, value)| section(name, value)).collect();
    Ok((rest, tables.into_iter().map(of_table).collect()))
}

fn parse(text: &str) -> Result<Table, NotToml> {
    text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        NotToml(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })
}

fn section(name: String, value: Value) -> Vec<Flat> {
    match value {
        Value::Table(table) => {
            table.into_iter().map(|(key, value)| (format!("{name}.{key}"), scalar(value))).collect()
        }
        value => vec![(name, scalar(value))],
    }
}

fn scalar(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Float(number) => Ok(number.to_string()),
        Value::Boolean(flag) => Ok(flag.to_string()),
        Value::Array(items) => list(items),
        Value::Datetime(_) | Value::Table(_) => Err("must be a text, a number, true or false".to_owned()),
    }
}

fn list(items: Vec<Value>) -> Result<String, String> {
    let texts: Option<Vec<String>> = items
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Some(text),
            _ => None,
        })
        .collect();
    texts
        .map(|texts| texts.join(","))
        .ok_or_else(|| "must be a text, a number, true, false or a list of texts".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_and_lists_become_text() {
        let text = "top = 1\n[s]\na = \"x\"\nb = 2\nc = true\nd = [\"p\", \"q\"]\n";
        let pairs: Vec<_> = flatten(text).unwrap().into_iter().map(|(k, v)| (k, v.unwrap())).collect();
        let expected = [("s.a", "x"), ("s.b", "2"), ("s.c", "true"), ("s.d", "p,q"), ("top", "1")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in ["[s.t]\na = 1", "[[s]]\na = 1", "s.a = [1]", "s.a = 2020-01-01", "s.a = { b = 1 }"] {
            assert!(flatten(text).unwrap().iter().all(|(_, value)| value.is_err()), "{text}");
        }
    }

    #[test]
    fn what_is_no_toml_is_named_by_its_line_only() {
        for broken in ["password = hunter2", "password = \"hunter2", "password = \"hunter2\" x", "hunter2"] {
            let NotToml(why) = flatten(&format!("[smtp]\nport = 25\n{broken}\n")).unwrap_err();
            assert!(why.starts_with("line 3: ") && !why.contains("hunter2"), "{why}");
        }
    }
}
