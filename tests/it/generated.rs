//! Files that are made from the code: the page of the settings, their JSON Schema, and the manual
//! pages. Each must be as the code makes it.

use std::fs;
use std::path::Path;

use clap::CommandFactory as _;
use otpd::cli::Cli;
use otpd::config::{self, Sources, Texts};
use serde_json::{Map, Value, json};

use crate::documents::read;

/// A value that no setting with a rule accepts.
const NONSENSE: &str = "?!";

/// The settings of a tenant that have a setting of another section as their rule.
const OF_TENANTS: [(&str, &str); 16] = [
    ("name", "tenant.name"),
    ("brand", "mail.brand"),
    ("locale", "mail.locale"),
    ("sender", "smtp.sender"),
    ("transport", "mail.transport"),
    ("keys", "tenant.keys"),
    ("sandbox_keys", "tenant.sandbox_keys"),
    ("purposes", "tenant.purposes"),
    ("test_domains", "tenant.test_domains"),
    ("test_recipients", "tenant.test_recipients"),
    ("limits.ip_sends", "limits.ip_sends"),
    ("limits.ip_attempts", "limits.ip_attempts"),
    ("limits.email_sends", "limits.email_sends"),
    ("limits.ip_email_sends", "limits.ip_email_sends"),
    ("limits.key_sends_per_minute", "limits.key_sends_per_minute"),
    ("limits.key_checks_per_minute", "limits.key_checks_per_minute"),
];

/// A setting of the default file.
struct Setting {
    section: String,
    key: String,
    default: toml::Value,
    /// The lines of its comment.
    comment: Vec<String>,
}

/// A section of the default file, with the lines of its comment.
struct Section {
    name: String,
    comment: Vec<String>,
    settings: Vec<Setting>,
}

/// Returns the sections of `otpd.default.toml`.
fn sections() -> Vec<Section> {
    let text = read("otpd.default.toml");
    let defaults: toml::Table = text.parse().expect("TOML");
    let mut sections: Vec<Section> = Vec::new();
    let mut comment = Vec::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("# ") {
            comment.push(words.to_owned());
            continue;
        }
        let comment = std::mem::take(&mut comment);
        if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']').to_owned();
            sections.push(Section { name, comment, settings: Vec::new() });
        } else if let (Some((key, _)), Some(section)) = (line.split_once(" = "), sections.last_mut()) {
            let default = defaults[&section.name][key].clone();
            let setting = Setting { section: section.name.clone(), key: key.to_owned(), default, comment };
            section.settings.push(setting);
        }
    }
    sections
}

/// Compares a committed file with what it must be.
fn assert_committed(path: &str, made: &str) {
    if fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).is_ok_and(|text| text == made) {
        return;
    }
    let name = Path::new(path).file_name().expect("a name");
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&fresh, made).expect("written");
    panic!("run: cp {} {path}", fresh.display());
}

/// The beginning of docs/settings.md.
const SETTINGS_HEAD: &str = "\
# Settings

This page is made from `otpd.default.toml`, which is compiled into the binary.

otpd reads its settings from four layers, each of which overrides the one before: the defaults, the
file of `--config` (TOML), `.env` in the working directory, and the environment. A setting is
`[section]` and `key` in the file, and `OTP_SECTION__KEY` in `.env` and the environment. Twelve
settings have a shorter name there, which this page shows. Secrets can also be read from a file:
`NAME_FILE` contains its path. An unknown name stops the start, and the message names the setting
that was meant. `otpd config` prints the effective settings with where each comes from.

Editors check and complete the file if its first line names its JSON Schema, which is
`deploy/otpd.schema.json` (`/usr/share/otpd/otpd.schema.json` of the Debian package):

```toml
#:schema /usr/share/otpd/otpd.schema.json
```
";

/// Returns docs/settings.md as it must be: every section of the default file with its comment, and
/// every setting with its default and its comment.
fn settings_page() -> String {
    let mut blocks = vec![SETTINGS_HEAD.to_owned()];
    let comment = |blocks: &mut Vec<String>, lines: &[String]| {
        if !lines.is_empty() {
            blocks.push(lines.join("\n") + "\n");
        }
    };
    for section in sections() {
        blocks.push(format!("## `[{}]`\n", section.name));
        comment(&mut blocks, &section.comment);
        for Setting { section, key, default, comment: lines } in &section.settings {
            let name = config::name(&format!("{section}.{key}"));
            let default = match default {
                toml::Value::String(text) if text.is_empty() => "empty".to_owned(),
                toml::Value::String(text) => format!("`{text}`"),
                toml::Value::Integer(number) => format!("`{number}`"),
                toml::Value::Boolean(switch) => format!("`{switch}`"),
                other => panic!("{key}: {other:?}"),
            };
            blocks.push(format!("### `{name}`\n\n`{key}` in the file. Default: {default}.\n"));
            comment(&mut blocks, lines);
        }
    }
    blocks.join("\n")
}

/// Returns what otpd says of each setting of a file, by its name.
fn faults(file: &str) -> Map<String, Value> {
    let texts = Texts { config: Some(("otpd.toml".into(), file.to_owned())), ..Texts::default() };
    let sources = Sources::layered(texts, &|_| Ok(NONSENSE.to_owned())).expect("TOML");
    let faults = config::serve(&sources).expect_err("a fault");
    let said = |fault: &config::Fault| (fault.name().to_owned(), Value::String(fault.to_string()));
    faults.iter().map(said).collect()
}

fn is_known(file: &str, name: &str) -> bool {
    !faults(file)
        .get(name)
        .is_some_and(|said| said.as_str().is_some_and(|said| said.contains("is not a setting")))
}

/// Returns the schema of a value, from what otpd says of one that it does not accept.
fn rule(said: &str) -> Value {
    let between =
        |before: &str, after: &str| Some(said.split_once(before)?.1.split_once(after)?.0.to_owned());
    if said.contains("entry 1") {
        return json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
    }
    if let Some(range) = between("must be a whole number from ", " (in") {
        let (least, most) = range.split_once(" to ").expect("a range");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        return json!({ "type": "integer", "minimum": number(least), "maximum": number(most) });
    }
    if said.contains("must be true or false") {
        return json!({ "enum": [true, false, "on", "off"] });
    }
    if said.contains("must be auto, true or false") {
        return json!({ "enum": ["auto", true, false] });
    }
    if let Some(words) = between("must be one of: ", " (in") {
        return json!({ "enum": words.split(", ").collect::<Vec<_>>() });
    }
    if said.contains("must be a time from") {
        return json!({ "type": "string", "pattern": "^[0-9]+[smhSMH]$" });
    }
    if said.contains("such as 5/1h") {
        return json!({ "type": "string", "pattern": "^ *[0-9]+/([0-9]+[smh]|day)( +[0-9]+/([0-9]+[smh]|day)){0,3} *$" });
    }
    if said.contains("must be unlimited, or a whole number") {
        return json!({ "anyOf": [{ "const": "unlimited" }, { "type": "integer", "minimum": 1, "maximum": 100_000 }] });
    }
    json!({ "type": "string" })
}

/// Adds what people read of a setting to its rule.
fn described(mut rule: Value, comment: &[String], default: &toml::Value) -> Value {
    if !comment.is_empty() {
        rule["description"] = comment.join(" ").into();
    }
    rule["default"] = serde_json::to_value(default).expect("JSON");
    rule
}

/// Returns deploy/otpd.schema.json as it must be.
fn schema() -> String {
    let sections = sections();
    let nonsense: Vec<_> = sections
        .iter()
        .map(|section| {
            let lines = section.settings.iter().map(|setting| format!("{} = \"{NONSENSE}\"\n", setting.key));
            format!("[{}]\n{}", section.name, lines.collect::<String>())
        })
        .collect();
    let said = faults(&nonsense.concat());
    let rule_of = |name: &str| rule(said.get(name).and_then(Value::as_str).unwrap_or_default());
    let mut properties = Map::new();
    for section in &sections {
        let mut of_section = Map::new();
        for Setting { section, key, default, comment } in &section.settings {
            let rule = rule_of(&format!("{section}.{key}"));
            of_section.insert(key.clone(), described(rule, comment, default));
            let file = format!("{key}_file");
            if is_known(&format!("[{section}]\n{file} = \"/a\"\n"), &format!("{section}.{file}")) {
                let what = format!("Path of a file that holds {key}.");
                of_section.insert(file, json!({ "type": "string", "description": what }));
            }
        }
        let mut table = json!({ "type": "object", "additionalProperties": false, "properties": of_section });
        if !section.comment.is_empty() {
            table["description"] = section.comment.join(" ").into();
        }
        properties.insert(section.name.clone(), table);
    }
    let (mut of_tenant, mut limits) = (Map::new(), Map::new());
    assert_eq!(OF_TENANTS.map(|(key, _)| key), *config::tenant_keys());
    for (key, rule) in OF_TENANTS {
        assert!(is_known(&format!("[[tenants]]\n{key} = \"a\"\n"), &format!("tenants.1.{key}")), "{key}");
        match key.strip_prefix("limits.") {
            Some(key) => limits.insert(key.to_owned(), rule_of(rule)),
            None => of_tenant.insert(key.to_owned(), rule_of(rule)),
        };
    }
    let table = |properties: Map<String, Value>| json!({ "type": "object", "additionalProperties": false, "properties": properties });
    of_tenant.insert("limits".to_owned(), table(limits));
    let mut tenant = table(of_tenant);
    tenant["required"] = json!(["name", "keys"]);
    let description = "Applications that call the v1 API, each with its own keys.";
    properties.insert(
        "tenants".to_owned(),
        json!({ "type": "array", "description": description, "items": tenant }),
    );
    let mut schema = table(properties);
    schema["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    schema["title"] = "Settings of otpd".into();
    serde_json::to_string_pretty(&schema).expect("JSON") + "\n"
}

#[test]
fn the_page_of_settings_is_made_from_the_default_file() {
    assert_committed("docs/settings.md", &settings_page());
}

#[test]
fn the_schema_of_settings_is_made_from_what_otpd_accepts() {
    assert!(
        !is_known("[log]\nnone = \"a\"\n", "log.none")
            && !is_known("[[tenants]]\nnone = 1\n", "tenants.1.none")
    );
    assert_committed("deploy/otpd.schema.json", &schema());
}

#[test]
fn the_manual_pages_are_made_from_the_commands() {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut rest = vec![&command];
    while let Some(page) = rest.pop() {
        rest.extend(page.get_subcommands());
        let name = page.get_display_name().unwrap_or(page.get_name()).to_owned();
        let mut text = Vec::new();
        // Without the version, which names the target of a build.
        let manual = clap_mangen::Man::new(page.clone().version(env!("CARGO_PKG_VERSION")));
        manual.render(&mut text).expect("written");
        assert_committed(&format!("deploy/man/{name}.1"), &String::from_utf8(text).expect("text"));
    }
}
