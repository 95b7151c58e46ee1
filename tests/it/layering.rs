//! Which layer may use which: scans the sources for a layer that names one above it.
//!
//! The scan treats Rust paths as text: `crate::…` anywhere, `use crate::{…}` with its groups, and
//! relative paths that leave a layer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each layer of `src/` and the other layers that it may name.
const ALLOWED: [(&str, &[&str]); 14] = [
    ("random", &[]),
    ("domain", &[]),
    ("metrics", &[]),
    ("traces", &[]),
    ("audit", &["domain"]),
    ("ports", &["domain"]),
    ("service", &["random", "domain", "metrics", "audit", "ports"]),
    ("adapters", &["random", "domain", "metrics", "traces", "ports"]),
    ("config", &["domain"]),
    ("api", &["random", "domain", "metrics", "traces", "audit", "ports", "service"]),
    ("server", &["metrics"]),
    ("telemetry", &["metrics", "traces", "audit", "config"]),
    ("app", &["random", "domain", "metrics", "ports", "service", "adapters", "config", "api", "server"]),
    // `api` for the OpenAPI document, `adapters` for what `doctor` checks.
    (
        "cli",
        &[
            "random",
            "domain",
            "metrics",
            "audit",
            "ports",
            "service",
            "adapters",
            "config",
            "api",
            "server",
            "telemetry",
            "app",
        ],
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

/// The modules of `src/` by their paths, such as `domain::limit`, and the modules that each names
/// outside its tests.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the members of a `use` tree as full paths.
fn members(prefix: &str, tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let joined = |rest: &str| if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}::{rest}") };
    let Some((head, group)) = tree.split_once('{') else { return vec![joined(tree)] };
    let prefix = joined(head.trim_end_matches("::"));
    let (mut depth, mut start, mut found) = (0_usize, 0, Vec::new());
    let group = group.trim_end_matches('}');
    for (at, character) in group.char_indices().chain([(group.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 && !group[start..at].trim().is_empty() => {
                found.extend(members(&prefix, &group[start..at]));
                start = at + 1;
            }
            ',' if depth == 0 => start = at + 1,
            _ => {}
        }
    }
    found
}

/// Returns the module that a path in `module` leads to, if it is one of these.
fn target(module: &str, path: &str, modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").collect();
    let mut segments = path.split("::").map(str::trim).peekable();
    match segments.peek() {
        Some(&"crate") => at.clear(),
        Some(&"self" | &"super") => {}
        _ => return None,
    }
    for segment in segments {
        match segment {
            "crate" | "self" => {}
            "super" => drop(at.pop()),
            name => at.push(name),
        }
    }
    while !at.is_empty() {
        let name = at.join("::");
        if modules.contains(&name) {
            return Some(name);
        }
        at.pop();
    }
    None
}

fn graph(files: &[(String, String)]) -> Graph {
    let modules: BTreeSet<String> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut graph = Graph::new();
    for (module, text) in files {
        let code = code_only(text.split("#[cfg(test)]\nmod tests").next().expect("a part"));
        let mut paths = Vec::new();
        for statement in code.split("use ").skip(1) {
            paths.extend(members("", statement.split(';').next().expect("a part")));
        }
        for root in ["crate::", "self::", "super::"] {
            paths.extend(code.match_indices(root).map(|(at, _)| {
                let is_path = |c: &char| c.is_alphanumeric() || "_:".contains(*c);
                code[at..].chars().take_while(is_path).collect()
            }));
        }
        let is_relative = |other: &String| {
            other == module
                || other.starts_with(&format!("{module}::"))
                || module.starts_with(&format!("{other}::"))
        };
        let named = paths.iter().filter_map(|path| target(module, path, &modules));
        graph.insert(module.clone(), named.filter(|other| !is_relative(other)).collect());
    }
    graph
}

/// Returns a way from a module of one layer back to itself that stays in the layer. A parent and
/// its own children do not count.
fn cycle(graph: &Graph) -> Option<Vec<String>> {
    fn walk(graph: &Graph, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        let module = way.last()?.clone();
        for other in &graph[&module] {
            if other.split("::").next() != module.split("::").next() {
                continue;
            }
            if let Some(start) = way.iter().position(|known| known == other) {
                way.push(other.clone());
                return Some(way.split_off(start));
            }
            if !done.contains(other) {
                way.push(other.clone());
                if let Some(found) = walk(graph, way, done) {
                    return Some(found);
                }
                way.pop();
            }
        }
        done.insert(module);
        None
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| {
        if done.contains(module) { None } else { walk(graph, &mut vec![module.clone()], &mut done) }
    })
}

fn modules() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let module = |file: &PathBuf| {
        let relative = file.strip_prefix(&root).expect("below src").with_extension("");
        relative.to_str().expect("a name").replace('/', "::")
    };
    files.iter().map(|file| (module(file), fs::read_to_string(file).expect("a source"))).collect()
}

#[test]
fn no_files_of_a_layer_name_each_other_in_a_cycle() {
    let found = cycle(&graph(&modules()));
    assert_eq!(found.map(|way| way.join(" -> ")), None);
}

#[test]
fn the_scan_finds_a_cycle_and_prints_its_way() {
    let files = |texts: &[(&str, &str)]| {
        let owned = texts.iter().map(|(module, text)| ((*module).to_owned(), (*text).to_owned()));
        cycle(&graph(&owned.collect::<Vec<_>>())).map(|way| way.join(" -> "))
    };
    let found = files(&[
        ("a::x", "use super::y::{self, Y};"),
        ("a::y", "fn f() { crate::a::z::g() }"),
        ("a::z", "use crate::{a::x::X, b::B};"),
        ("b", ""),
    ]);
    assert_eq!(found.as_deref(), Some("a::x -> a::y -> a::z -> a::x"));
    // Another layer, a parent with its child, comments and tests do not count.
    let none = files(&[
        ("a", "use self::x::X;"),
        ("a::x", "use super::A; // super::y\nuse crate::b::B;"),
        ("a::y", "use super::x;\n#[cfg(test)]\nmod tests { use crate::a::y; }"),
        ("b", "use crate::a::x;"),
    ]);
    assert_eq!(none, None);
}

#[test]
fn no_type_has_the_name_of_another() {
    let mut places: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (module, text) in modules() {
        for line in code_only(&text).lines() {
            let line = line.trim_start();
            let line = line
                .strip_prefix("pub")
                .map_or(line, |rest| rest.split_once(' ').map_or("", |(_, rest)| rest));
            let kinds = ["struct ", "enum ", "trait "];
            let declared = kinds.iter().find_map(|kind| line.strip_prefix(kind));
            if let Some(name) = declared.map(identifier) {
                places.entry(name).or_default().push(module.clone());
            }
        }
    }
    assert!(places.len() > 150, "the types were found");
    places.retain(|_, modules| modules.len() > 1);
    assert!(places.is_empty(), "{places:?}");
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
