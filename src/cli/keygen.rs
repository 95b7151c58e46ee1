//! `otpd keygen`: prints a new secret once.
//!
//! Must not store what it prints, and must take randomness only from `random`.

use std::io::{self, Read as _};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Subcommand, ValueEnum, value_parser};
use zeroize::Zeroizing;

use crate::adapters::clock::SystemClock;
use crate::domain::api_key::{self, KeyHash, KeyKind};
use crate::domain::code::{Code, CodeLength};
use crate::domain::code_hash::{HashCost, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::hook_secret::HookSecret;
use crate::domain::key_name::KeyName;
use crate::domain::proof::ProofKey;
use crate::domain::test_recipients::{MAX_TEST_PERIOD, TestCode};
use crate::domain::time::{millis, utc_date};
use crate::ports::Clock as _;
use crate::random::{self, SysRng};

/// Which secret to generate.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Keygen {
    /// Generate a pepper for `OTP_SECRETS__PEPPERS`; put it first, and keep older ones until their
    /// codes have expired
    Pepper {
        /// Name of the pepper: 1 to 16 characters of a-z 0-9 _ -
        #[arg(long, default_value = "k1", value_parser = name)]
        name: KeyName,
    },
    /// Generate the index key for `OTP_SECRETS__INDEX_KEY`; changing it invalidates every
    /// verification
    IndexKey,
    /// Generate an API key for the v1 API; prints the key, which is not shown again, and the hash
    /// for the settings
    ApiKey {
        /// Label of the key in the settings and in the log: 1 to 16 characters of a-z 0-9 _ -
        #[arg(long, default_value = "key1", value_parser = name)]
        label: KeyName,
        /// Generate a sandbox key, with which nothing is mailed, for tests
        #[arg(long)]
        sandbox: bool,
    },
    /// Generate the secret that requests to the hook are signed with, for `OTP_HOOK__SECRET` and
    /// the program that gets them
    HookSecret,
    /// Generate a signing key for proofs, for `OTP_SECRETS__PROOF_KEYS`; the first key there signs
    ProofKey {
        /// Name of the key: 1 to 16 characters of a-z 0-9 _ -
        #[arg(long, default_value = "p1", value_parser = name)]
        name: KeyName,
        /// Signature algorithm; es256 is for verifiers that do not support EdDSA
        #[arg(long, value_enum, ignore_case = true, default_value_t = ProofAlgorithm::Eddsa)]
        algorithm: ProofAlgorithm,
    },
    /// Generate the code of a test recipient, for an app-store reviewer or an end-to-end test;
    /// prints the code, which is not shown again, and the entry with its hash for
    /// `OTP_TENANT__TEST_RECIPIENTS`
    TestCode {
        /// Address of the test recipient, at a domain of your own
        #[arg(value_parser = EmailAddress::parse)]
        address: EmailAddress,
        /// Days until it is an address as any other: 1 to 90
        #[arg(long, default_value_t = MAX_DAYS, value_parser = value_parser!(u64).range(1..=MAX_DAYS))]
        days: u64,
        /// Number of digits of the code: 6 to 10
        #[arg(long, default_value = "6", value_parser = digits)]
        digits: CodeLength,
        /// Read the code from standard input instead of generating it
        #[arg(long, conflicts_with = "digits")]
        stdin: bool,
    },
}

/// The most days of a test recipient.
const MAX_DAYS: u64 = MAX_TEST_PERIOD.as_secs() / DAY.as_secs();
const DAY: Duration = Duration::from_hours(24);
/// The most bytes that are read of a code.
const CODE_MAX: u64 = 1024;
/// KiB and passes of the hash of a test code: as those of `otpd.default.toml`, so that its hash
/// threads have enough memory.
const TEST_COST: (u32, u32) = (7168, 5);

/// Signature algorithm of proofs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProofAlgorithm {
    /// EdDSA over Ed25519 (RFC 8037)
    Eddsa,
    /// ECDSA over P-256 with SHA-256 (RFC 7518 section 3.4)
    Es256,
}

impl Keygen {
    /// Returns the text to print.
    ///
    /// # Errors
    /// The system's error if it has no randomness.
    pub fn run(&self) -> anyhow::Result<Zeroizing<String>> {
        match self {
            Self::IndexKey => secret(),
            Self::HookSecret => Ok(HookSecret::text(&Zeroizing::new(random::bytes()?))),
            Self::Pepper { name } | Self::ProofKey { name, algorithm: ProofAlgorithm::Eddsa } => {
                named(name.as_str())
            }
            Self::ProofKey { name, algorithm: ProofAlgorithm::Es256 } => es256(name),
            Self::ApiKey { label, sandbox: false } => api_key(label, KeyKind::Live, "keys"),
            Self::ApiKey { label, sandbox: true } => api_key(label, KeyKind::Sandbox, "sandbox_keys"),
            Self::TestCode { address, days, digits, stdin: false } => {
                let code = Code::generate(*digits, &mut SysRng)?;
                let entry = test_entry(address, *days, &code)?;
                Ok(Zeroizing::new(format!(
                    "code   {}\n       for the reviewer or the test; it is not shown again\n{}",
                    code.expose(),
                    *entry
                )))
            }
            Self::TestCode { address, days, stdin: true, .. } => {
                let mut typed = Zeroizing::new(String::new());
                let read = io::stdin().take(CODE_MAX).read_to_string(&mut typed);
                read.context("standard input cannot be read")?;
                let code = Code::parse(&typed).context("standard input is not a code of 6 to 10 digits")?;
                test_entry(address, *days, &code)
            }
        }
    }
}

/// Returns a new API key, followed by its hash for this setting of a tenant.
fn api_key(label: &KeyName, kind: KeyKind, setting: &str) -> anyhow::Result<Zeroizing<String>> {
    let key = api_key::text_of(kind, &Zeroizing::new(random::bytes()?));
    let hash = KeyHash::of(&key).context("a key of our own form")?;
    let label = label.as_str();
    Ok(Zeroizing::new(format!(
        "key   {}\n      for the program that calls, as \"Authorization: Bearer <key>\"; it is not shown again\n\
         hash  {label}:{hash}\n      for OTP_TENANT__{}, or {setting} in [[tenants]]",
        *key,
        setting.to_uppercase()
    )))
}

/// Returns the entry of the settings for a test recipient with this code.
fn test_entry(address: &EmailAddress, days: u64, code: &Code) -> anyhow::Result<Zeroizing<String>> {
    let (memory_kib, passes) = TEST_COST;
    let cost = HashCost::new(memory_kib, passes).context("the cost of a test code")?;
    let salt = Salt::new(random::bytes()?);
    let digest = cost.unkeyed_digest(code, &salt, &mut cost.work_memory())?;
    let hash = TestCode::new(cost, salt, digest).phc();
    let now = SystemClock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
    let end = utc_date(now + days * millis(DAY));
    Ok(Zeroizing::new(format!(
        "entry  {} {end} {hash}\n       for test_recipients in the file of --config, or in single quotes for \
         OTP_TENANT__TEST_RECIPIENTS; test_domains must list {}",
        address.as_str(),
        address.domain()
    )))
}

/// Returns a new P-256 key with a name.
fn es256(name: &KeyName) -> anyhow::Result<Zeroizing<String>> {
    let pkcs8 = ProofKey::generate_p256().context("the system has no randomness to give")?;
    let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*pkcs8));
    Ok(Zeroizing::new(format!("{}:es256:{}", name.as_str(), *text)))
}

/// Returns a new secret with a name.
pub(super) fn named(name: &str) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(format!("{name}:{}", *secret()?)))
}

/// Returns a new secret of 32 bytes.
pub(super) fn secret() -> anyhow::Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(random::bytes::<32>()?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*bytes)))
}

fn digits(text: &str) -> Result<CodeLength, String> {
    text.parse().ok().and_then(CodeLength::new).ok_or_else(|| "a code has 6 to 10 digits".to_owned())
}

fn name(text: &str) -> Result<KeyName, String> {
    KeyName::parse(text).ok_or_else(|| "a name has 1 to 16 characters of a-z 0-9 _ -".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{self, Sources, Texts};

    #[derive(Parser)]
    struct TestCommand {
        #[command(subcommand)]
        keygen: Keygen,
    }

    fn keygen(arguments: &str) -> Result<String, clap::Error> {
        let arguments = std::iter::once("keygen").chain(arguments.split(' '));
        TestCommand::try_parse_from(arguments).map(|command| command.keygen.run().unwrap().to_string())
    }

    #[test]
    fn a_secret_has_its_name_and_43_characters() {
        for (arguments, start) in [
            ("pepper", "k1:"),
            ("pepper --name k2", "k2:"),
            ("index-key", ""),
            ("proof-key", "p1:"),
            ("proof-key --name p-2", "p-2:"),
        ] {
            let printed = keygen(arguments).unwrap();
            assert_eq!(printed.strip_prefix(start).map(str::len), Some(43), "{arguments}");
            assert_ne!(printed, keygen(arguments).unwrap());
        }
        assert!(keygen("pepper --name K:1").is_err());
        assert!(keygen("index-key --name k1").is_err());
    }

    #[test]
    fn an_api_key_is_printed_with_its_hash() {
        let printed = keygen("api-key --label backend").unwrap();
        let word = |line: &str| {
            printed.lines().find_map(|found| found.strip_prefix(line)).unwrap().trim().to_owned()
        };
        let key = word("key ");
        let hash = word("hash ");
        assert_eq!(hash, format!("backend:{}", KeyHash::of(&key).unwrap()));
        assert_eq!(KeyKind::of(&key), Some(KeyKind::Live));
        assert!(printed.ends_with("for OTP_TENANT__KEYS, or keys in [[tenants]]"), "{printed}");
        let printed = keygen("api-key --sandbox").unwrap();
        assert!(printed.starts_with("key   otpd_test_") && printed.contains("\nhash  key1:"), "{printed}");
        assert!(
            printed.ends_with("for OTP_TENANT__SANDBOX_KEYS, or sandbox_keys in [[tenants]]"),
            "{printed}"
        );
    }

    fn entry_of(printed: &str) -> String {
        printed.lines().find_map(|line| line.strip_prefix("entry  ")).unwrap().to_owned()
    }

    #[test]
    fn a_test_code_is_printed_with_an_entry_that_has_its_hash() {
        let printed = keygen("test-code a@review.example.com --digits 8 --days 7").unwrap();
        let code = printed.lines().next().unwrap().strip_prefix("code   ").unwrap();
        assert_eq!(code.len(), 8);
        let entry = entry_of(&printed);
        let [address, end, hash] = entry.split(' ').collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(address, "a@review.example.com");
        let days = |days| SystemClock.now() + days * DAY;
        // Midnight may pass meanwhile.
        let ends = [days(7), days(7) - Duration::from_mins(1)]
            .map(|at| utc_date(at.duration_since(UNIX_EPOCH).map_or(0, millis)));
        assert!(ends.iter().any(|of_date| of_date == end), "{end}");
        let stored = TestCode::parse(hash).unwrap();
        assert!(stored.cost().meets_owasp());
        let digest = |code: &str| {
            let code = Code::parse(code).unwrap();
            stored.cost().unkeyed_digest(&code, stored.salt(), &mut stored.cost().work_memory()).unwrap()
        };
        assert!(stored.matches(&digest(code)) && !stored.matches(&digest("000000")));
        for wrong in
            ["", " nobody", " a@b.example --days 91", " a@b.example --days 0", " a@b.example --digits 5"]
        {
            assert!(keygen(&format!("test-code{wrong}")).is_err(), "{wrong}");
        }
        assert!(keygen("test-code a@b.example --stdin --digits 8").is_err());
    }

    #[test]
    fn what_is_printed_is_what_serve_takes() {
        let environment = [
            (
                "OTP_SECRETS__PEPPERS",
                format!("{},{}", keygen("pepper --name k2").unwrap(), keygen("pepper").unwrap()),
            ),
            ("OTP_SECRETS__INDEX_KEY", keygen("index-key").unwrap()),
            (
                "OTP_SECRETS__PROOF_KEYS",
                format!(
                    "{},{}",
                    keygen("proof-key --name e1 --algorithm es256").unwrap(),
                    keygen("proof-key").unwrap()
                ),
            ),
            ("OTP_TENANT__KEYS", {
                let printed = keygen("api-key").unwrap();
                let hash = printed.lines().find_map(|line| line.strip_prefix("hash  ")).unwrap();
                hash.to_owned()
            }),
            ("OTP_TENANT__TEST_DOMAINS", "review.example.com".to_owned()),
            ("OTP_TENANT__TEST_RECIPIENTS", entry_of(&keygen("test-code a@review.example.com").unwrap())),
            ("EMAIL_SENDER", "you@example.com".to_owned()),
            ("EMAIL_PASSWORD", "x".to_owned()),
            ("SMTP_SERVER", "smtp.example.com".to_owned()),
            ("REDIS_HOST", "localhost".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()));
        let now = SystemClock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
        let texts = Texts { environment: environment.into(), now, ..Texts::default() };
        let sources = Sources::layered(texts, &|_| panic!("no file is named")).unwrap();
        let settings = config::serve(&sources).unwrap().settings;
        assert_eq!(settings.secrets.peppers.current().id().as_str(), "k2");
        assert_eq!(settings.common.tenants[0].keys[0].0.as_str(), "key1");
        assert_eq!(settings.common.tenants[0].test_recipients.iter().count(), 1);
    }
}
