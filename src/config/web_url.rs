//! URLs of `http` and `https` in settings.

use crate::domain::origin;

/// Parses a URL with a host and an optional path. Strips final slashes, because paths are appended
/// to it.
///
/// # Errors
/// Describes what is wrong with the URL; `example` is the URL that messages show.
pub(super) fn parse(text: &str, example: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let scheme_missing = || format!("must begin with https:// or http://, as {example} does");
    let (scheme, rest) = text.split_once("://").ok_or_else(scheme_missing)?;
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let scheme = scheme.to_ascii_lowercase();
    let usual_port = match scheme.as_str() {
        "http" => 80,
        "https" => 443,
        _ => return Err(scheme_missing()),
    };
    if path.contains(['?', '#']) {
        return Err(format!("has a query or a fragment: leave it out, as in {example}"));
    }
    let origin = origin::web_origin(&scheme, authority, usual_port)?;
    // Path characters of RFC 3986 section 3.3, without those that are special in HTML and without
    // percent-encoding.
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$()*+,;=:@".contains(&b);
    let is_segment = |segment: &str| !["", ".", ".."].contains(&segment) && segment.bytes().all(is_plain);
    if !path.split('/').skip(1).all(is_segment) {
        let reason =
            "has a path with an empty, a . or a .. segment, or with a character that is not allowed there";
        return Err(reason.to_owned());
    }
    Ok(format!("{origin}{path}"))
}
