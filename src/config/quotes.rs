//! Strips quotes around a whole value in the environment.
//!
//! A shell and `.env` strip them, `docker --env-file` does not. Must not show a value.

use super::names::{self, Names, Spelling};

/// Strips quotes around a whole value that contains no other quotes, because `docker --env-file`
/// keeps them. A quoted password is refused instead, because the quotes may be part of it.
pub(super) fn without(
    names: &Names,
    name: String,
    text: Result<String, String>,
) -> (String, Result<String, String>) {
    let Some(meaning) = names.meaning(Spelling::Environment, &name) else { return (name, text) };
    let text = text.and_then(|text| match inside_of_quotes(&text) {
        None => Ok(text),
        Some(_) if meaning.key.ends_with(".password") && !meaning.is_path => {
            let file = names::usual_name(&meaning.key);
            Err(format!(
                "is in quotes, which a shell or .env takes off and docker --env-file does not: write it without them, or, \
                 if they are part of it, into a file that {file}_FILE names"
            ))
        }
        Some(inside) => Ok(inside.to_owned()),
    });
    (name, text)
}

fn inside_of_quotes(text: &str) -> Option<&str> {
    let text = text.trim();
    let inside =
        |quote: char| text.strip_prefix(quote)?.strip_suffix(quote).filter(|inside| !inside.contains(quote));
    ['"', '\''].into_iter().find_map(inside)
}
