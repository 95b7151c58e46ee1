//! Which layer may use which: scans the sources for a layer that names one above it.
//!
//! The scan treats Rust paths as text: `crate::…` anywhere, `use crate::{…}` with its groups, and
//! relative paths that leave a layer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer of `src/` and the other layers that it may name.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("random", &[]),
    ("domain", &[]),
    ("ports", &["domain"]),
    ("service", &["random", "domain", "ports"]),
    ("adapters", &["random", "domain", "ports"]),
    ("config", &["domain"]),
    ("api", &["random", "domain", "ports", "service"]),
    ("server", &[]),
    ("telemetry", &["config"]),
    ("app", &["random", "domain", "ports", "service", "adapters", "config", "api", "server"]),
    // `api` for the OpenAPI document, `adapters` for what `doctor` checks.
    (
        "cli",
        &["random", "domain", "ports", "service", "adapters", "config", "api", "server", "telemetry", "app"],
    ),
];

/// One offence: the file, the line and what is wrong.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    place: String,
    what: String,
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Returns the layer of a file, by its path below `src/`. `lib` and `main` belong to none.
fn layer_of(relative: &Path) -> Option<String> {
    let first = relative.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib" && name != "main").then(|| name.to_owned())
}

/// Returns the text without comments, because comments may name any layer. Line numbers do not
/// change.
fn code_only(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the first segment of every path after `crate::`, with its line number.
fn named(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            for (offset, segment) in group_heads(group) {
                found.push((line + group[..offset].matches('\n').count(), segment));
            }
        } else {
            found.push((line, identifier(rest)));
        }
    }
    found
}

/// Returns the first segment of each member of a group, which may be nested and span lines.
fn group_heads(group: &str) -> Vec<(usize, String)> {
    let (mut depth, mut at_head, mut heads) = (0_i32, true, Vec::new());
    for (offset, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => at_head = true,
            character if at_head && !character.is_whitespace() => {
                heads.push((offset, identifier(&group[offset..])));
                at_head = false;
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the offences in one file.
fn offences_in(relative: &Path, text: &str) -> Vec<Offence> {
    let Some(layer) = layer_of(relative) else { return Vec::new() };
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let offence =
        |line: usize, what: String| Offence { place: format!("src/{}:{line}", relative.display()), what };
    let Some(may_name) = allowed.get(layer.as_str()) else {
        return vec![offence(1, format!("'{layer}' is a layer that the rules do not know"))];
    };
    let code = code_only(text);
    let mut offences: Vec<_> = named(&code)
        .into_iter()
        .filter(|(_, other)| *other != layer && !may_name.contains(&other.as_str()))
        .map(|(line, other)| offence(line, format!("'{layer}' names '{other}'")))
        .collect();
    let depth = relative.with_extension("").components().count();
    for (number, line) in code.lines().enumerate() {
        // `super` once for each folder, and once more inside a module of the file itself (its
        // tests).
        if let Some(at) = line.find("super::super") {
            let climbs = line[at..].split("::").take_while(|segment| *segment == "super").count();
            if climbs >= depth {
                offences.push(offence(number + 1, format!("'{layer}' climbs out of itself")));
            }
        }
    }
    offences
}

#[test]
fn no_layer_names_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 20, "the sources were found");
    let offences: Vec<_> = files
        .iter()
        .flat_map(|file| {
            let relative = file.strip_prefix(&root).expect("below src");
            offences_in(relative, &fs::read_to_string(file).expect("a source"))
        })
        .map(|offence| format!("{}: {}", offence.place, offence.what))
        .collect();
    assert!(offences.is_empty(), "{}", offences.join("\n"));
}

#[test]
fn the_scan_finds_each_way_to_name_a_layer() {
    let places = |path: &str, text: &str| {
        let offences = offences_in(Path::new(path), text);
        offences.into_iter().map(|offence| offence.place).collect::<Vec<_>>()
    };
    assert_eq!(places("api/simple.rs", "//! x\nuse crate::adapters;\n"), ["src/api/simple.rs:2"]);
    assert_eq!(places("api.rs", "fn f() { crate::adapters::x() }"), ["src/api.rs:1"]);
    assert_eq!(
        places(
            "api.rs",
            "use crate::{\n    domain::{code, store_key},\n    adapters::{redis,\n smtp}, app,\n};"
        ),
        ["src/api.rs:3", "src/api.rs:4"]
    );
    assert_eq!(places("domain/code.rs", "use super::super::api::x;"), ["src/domain/code.rs:1"]);
    assert_eq!(places("new.rs", ""), ["src/new.rs:1"]);
    assert!(places("api.rs", "use crate::domain::code; // crate::adapters").is_empty());
    assert!(places("config/source.rs", "pub(super) use super::names;").is_empty());
}
