//! The statements in the documents that a machine can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// Returns the numbers of the steps in the comments of these files of `src/service/`.
fn steps(files: &[&str]) -> BTreeSet<u32> {
    let numbers = files.iter().flat_map(|file| {
        let text = read(&format!("src/service/{file}"));
        let number = |line: &str| {
            let words = line.trim_start().trim_start_matches('/').trim_start();
            let is_comment = line.trim_start().starts_with("//");
            words.split_once(". ").filter(|_| is_comment)?.0.parse().ok()
        };
        text.lines().filter_map(number).collect::<Vec<_>>()
    });
    numbers.collect()
}

#[test]
fn the_steps_of_the_architecture_are_those_of_the_code() {
    let document = read("ARCHITECTURE.md");
    for (title, files) in [
        (
            "A send, step by step",
            &["simple.rs", "verifications/create.rs", "verifications/resend.rs", "send.rs"][..],
        ),
        ("An attempt, step by step", &["simple.rs", "verifications/check.rs", "attempt.rs"]),
    ] {
        let section = document.split(&format!("## {title}\n")).nth(1).expect(title);
        let section = section.split("\n## ").next().expect("its text");
        let number = |line: &str| line.split_once(". ")?.0.parse::<u32>().ok();
        let documented: BTreeSet<u32> = section.lines().filter_map(number).collect();
        assert_eq!(documented, (1..=7).collect(), "{title}");
        assert_eq!(steps(files), documented, "{title}");
    }
}

/// Every text file that people read.
fn texts() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts = sources();
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "SECURITY.md", "CONTRIBUTING.md"].map(|name| root.join(name)).into();
    let docs = fs::read_dir(root.join("docs")).expect("docs/");
    let pages = docs.map(|entry| entry.expect("an entry").path());
    documents.extend(pages.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    texts.extend(documents.into_iter().map(|path| {
        let text = fs::read_to_string(&path).expect("a document");
        (path, text)
    }));
    texts
}

#[test]
fn no_text_refers_to_an_id_that_stands_nowhere() {
    let prefix = concat!("SEC", "-");
    for (path, text) in texts() {
        let is_id = |rest: &&str| rest.starts_with(|c: char| c.is_ascii_digit());
        let found = text.split(prefix).skip(1).any(|rest| is_id(&rest));
        // Identifiers of advisories begin otherwise: RUSTSEC-2026-0194.
        let advisories = text.split(concat!("RUST", "SEC", "-")).count() > 1;
        assert!(!found || advisories, "{}", path.display());
    }
}

#[test]
fn comments_wrap_at_100_columns() {
    for (extension, mark) in [("rs", "//"), ("lua", "--"), ("js", "//")] {
        for (path, text) in files(extension) {
            for (line, number) in text.lines().zip(1..) {
                let is_comment = line.trim_start().starts_with(mark);
                assert!(!is_comment || line.chars().count() <= 100, "{}:{number}", path.display());
            }
        }
    }
}

#[test]
fn every_row_of_a_table_has_the_cells_of_its_head() {
    for document in [
        "README.md",
        "SECURITY.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "docs/api.md",
        "docs/containers.md",
        "docs/debian.md",
        "docs/deploy.md",
        "docs/getting-started.md",
        "docs/limits.md",
        "docs/mails.md",
        "docs/operations.md",
        "docs/problems.md",
        "docs/rotation.md",
        "docs/troubleshooting.md",
        "docs/upgrade.md",
    ] {
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
    for document in ["SECURITY.md", "ARCHITECTURE.md", "README.md", "CONTRIBUTING.md", "docs/decisions.md"] {
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
fn sources() -> Vec<(PathBuf, String)> {
    files("rs")
}

/// Returns every file with this extension in `src` and `tests/it`, with its text.
fn files(of: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("src"), root.join("tests/it")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == of) {
                let text = fs::read_to_string(&path).expect("text");
                found.push((path, text));
            }
        }
    }
    found
}
