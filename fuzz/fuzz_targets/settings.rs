//! Settings: any text is read or rejected, and no error message repeats a value.
//!
//! An input is a `.env` file, a TOML file and an environment (NAME=value, one per line), separated
//! by lines of `---`. `@@` in a value stands for a secret that must not be shown.

#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use otpd::config::{self, Faults, Sources, Texts};

/// In lower case, so that it is not similar to the name of any variable.
const SECRET: &str = "hunter2hunter2hunter2";
/// When the settings are read, in milliseconds since the epoch: 2026-11-30.
const NOW: u64 = 1_796_000_000_000;

fuzz_target!(|input: &str| {
    if input.contains(SECRET) {
        return;
    }
    let mut texts = input.splitn(3, "---\n");
    let dotenv = in_values(texts.next().unwrap_or_default());
    let toml = texts.next();
    let environment = in_values(texts.next().unwrap_or_default());
    assert!(config::assigned(&dotenv).keys().all(|key| key.contains('.')), "keys have a section");
    let read = |toml: Option<String>| {
        let variables = environment.lines().filter_map(|line| line.split_once('='));
        let texts = Texts {
            config: toml.map(|toml| ("otpd.toml".into(), toml)),
            dotenv: Some(dotenv.clone()),
            environment: variables.map(|(name, value)| (name.to_owned(), value.into())).collect(),
            now: NOW,
        };
        Sources::layered(texts, &|_| Ok(SECRET.to_owned()))
    };
    match read(toml.map(str::to_owned)) {
        Ok(sources) => settings_of(&sources),
        Err(faults) => shows_no_value(&faults),
    }
    // An unknown TOML name is repeated in the error, and it may contain anything. Text that is not
    // TOML is never repeated.
    let toml = toml.filter(|toml| toml.contains("@@"));
    if let Some(Err(faults)) = toml.map(|toml| read(Some(toml.replace("@@", SECRET)))) {
        shows_no_value(&faults);
    }
});

/// Returns the lines with the secret in the values. A line without a name is all value. The path of
/// a file is not secret and may be shown.
fn in_values(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| match line.split_once('=') {
        Some((name, _)) if name.trim().ends_with("_FILE") => line.to_owned(),
        Some((name, value)) => format!("{name}={}", value.replace("@@", SECRET)),
        None => line.replace("@@", SECRET),
    });
    lines.collect()
}

fn settings_of(sources: &Sources) {
    assert!(!format!("{sources:?}").contains(SECRET));
    match config::serve(sources) {
        Ok(loaded) => {
            let codes = loaded.settings.common.codes;
            assert!((1..=100).contains(&codes.rules.attempts));
            assert!((Duration::from_secs(30)..=Duration::from_secs(600)).contains(&codes.rules.life));
            assert!(!loaded.warnings.join("\n").contains(SECRET));
            assert!(!format!("{:?}{:?}", loaded.settings.redis, loaded.settings.secrets).contains(SECRET));
        }
        Err(faults) => shows_no_value(&faults),
    }
    match config::dev(sources) {
        Ok(loaded) => assert!(!loaded.warnings.join("\n").contains(SECRET)),
        Err(faults) => shows_no_value(&faults),
    }
}

fn shows_no_value(faults: &Faults) {
    let shown = format!("{faults}\n{faults:?}");
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(faults.iter().count() > 0);
}
