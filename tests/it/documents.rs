//! The statements in the documents that a machine can check.

use std::fs;
use std::path::Path;

/// The settings that are not named `OTP_<SECTION>__<KEY>`.
const SEEDS_NAMES: [(&str, &str); 11] = [
    ("smtp.server", "SMTP_SERVER"),
    ("smtp.port", "SMTP_PORT"),
    ("smtp.sender", "EMAIL_SENDER"),
    ("smtp.password", "EMAIL_PASSWORD"),
    ("redis.url", "REDIS_URL"),
    ("redis.host", "REDIS_HOST"),
    ("redis.port", "REDIS_PORT"),
    ("redis.db", "REDIS_DB"),
    ("redis.username", "REDIS_USERNAME"),
    ("redis.password", "REDIS_PASSWORD"),
    ("redis.tls", "REDIS_TLS"),
];

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

#[test]
fn the_readme_has_every_setting_with_its_default_and_no_other() {
    let defaults: toml::Table = read("otpd.default.toml").parse().expect("TOML");
    let mut expected: Vec<(String, String)> = Vec::new();
    for (section, keys) in &defaults {
        for (key, value) in keys.as_table().expect("a section") {
            let path = format!("{section}.{key}");
            let seeds = SEEDS_NAMES.iter().find(|(known, _)| *known == path);
            let ours = || format!("OTP_{}__{}", section.to_uppercase(), key.to_uppercase());
            let name = seeds.map_or_else(ours, |(_, name)| (*name).to_owned());
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                other => panic!("{path}: {other:?}"),
            };
            expected.push((name, value));
        }
    }
    let readme = read("README.md");
    let table = readme.split("| setting | default | |").nth(1).expect("the table of settings");
    let table = table.split("\n\n").next().expect("its rows");
    let mut found: Vec<(String, String)> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1].to_owned(), cells[2].to_owned())
        })
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn every_row_of_a_table_has_the_cells_of_its_head() {
    for document in ["README.md", "SECURITY.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let mut head = None;
        for line in read(document).lines() {
            let cells = line.starts_with('|').then(|| line.replace("\\|", "").matches('|').count());
            if let (Some(head), Some(cells)) = (head, cells) {
                assert_eq!(cells, head, "{document}: {line}");
            }
            head = head.filter(|_| cells.is_some()).or(cells);
        }
    }
}

#[test]
fn every_test_that_the_security_document_names_is_there() {
    let document = read("SECURITY.md");
    let named: Vec<&str> = document
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.contains("::") && !code.contains(char::is_whitespace))
        .collect();
    assert!(named.len() > 30, "the table is there: {named:?}");
    for name in named {
        let (module, test) = name.rsplit_once("::").expect("a module and a test");
        let module = module.rsplit("::").next().expect("a module");
        let there = sources().iter().any(|(path, text)| {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            stem == Some(module) && text.contains(&format!("fn {test}("))
        });
        assert!(there, "{name}");
    }
}

#[test]
fn every_file_that_the_documents_name_is_there() {
    for document in ["SECURITY.md", "ARCHITECTURE.md", "README.md", "CONTRIBUTING.md"] {
        let text = read(document);
        let paths = text.split('`').skip(1).step_by(2).filter(|code| {
            [".rs", ".lua", ".toml", ".html"].iter().any(|ending| code.ends_with(ending))
                && !code.contains(char::is_whitespace)
                && !code.contains('*')
        });
        for path in paths {
            let root = Path::new(env!("CARGO_MANIFEST_DIR"));
            assert!(root.join(path).exists() || root.join("src").join(path).exists(), "{document}: {path}");
        }
    }
}

/// Returns every Rust file of the package with its text.
fn sources() -> Vec<(std::path::PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests/it")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    found
}
