//! `otpd keygen`: prints a new secret once.
//!
//! Must not store what it prints, and must take randomness only from `random`.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Subcommand, ValueEnum};
use zeroize::Zeroizing;

use crate::domain::api_key::{self, KeyHash};
use crate::domain::hook_secret::HookSecret;
use crate::domain::key_name::KeyName;
use crate::domain::proof::ProofKey;
use crate::random;

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
}

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
            Self::ApiKey { label } => api_key(label),
        }
    }
}

/// Returns a new API key, followed by its hash for the settings.
fn api_key(label: &KeyName) -> anyhow::Result<Zeroizing<String>> {
    let key = api_key::text(&Zeroizing::new(random::bytes()?));
    let hash = KeyHash::of(&key).context("a key of our own form")?;
    let label = label.as_str();
    Ok(Zeroizing::new(format!(
        "key   {}\n      for the program that calls, as \"Authorization: Bearer <key>\"; it is not shown again\n\
         hash  {label}:{hash}\n      for OTP_TENANT__KEYS, or keys in [[tenants]]",
        *key
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
            ("EMAIL_SENDER", "you@example.com".to_owned()),
            ("EMAIL_PASSWORD", "x".to_owned()),
            ("SMTP_SERVER", "smtp.example.com".to_owned()),
            ("REDIS_HOST", "localhost".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value.into()));
        let texts = Texts { environment: environment.into(), ..Texts::default() };
        let sources = Sources::layered(texts, &|_| panic!("no file is named")).unwrap();
        let settings = config::serve(&sources).unwrap().settings;
        assert_eq!(settings.secrets.peppers.current().id().as_str(), "k2");
        assert_eq!(settings.common.tenants[0].keys[0].0.as_str(), "key1");
    }
}
