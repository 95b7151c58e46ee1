//! `otpd keygen`: prints a new secret, once.
//!
//! Must not keep what it prints, and must not take randomness from anywhere but its one home.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::domain::pepper::PepperId;
use crate::random;

/// Which secret to print.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Keygen {
    /// A pepper, for `OTP_SECRETS__PEPPERS`: the newest stands first, older ones stay until their codes are dead
    Pepper {
        /// Its name: 1 to 16 characters of a-z 0-9 _ -
        #[arg(long, default_value = "k1", value_parser = name)]
        name: PepperId,
    },
    /// The index key, for `OTP_SECRETS__INDEX_KEY`: changing it forgets every verification
    IndexKey,
    /// A key that signs proofs, for `OTP_SECRETS__PROOF_KEYS`: the first signs
    ProofKey {
        /// Its name: 1 to 16 characters of a-z 0-9 _ -
        #[arg(long, default_value = "p1", value_parser = name)]
        name: PepperId,
    },
}

impl Keygen {
    /// The value to configure.
    ///
    /// # Errors
    /// The system's, where it has no randomness to give.
    pub fn run(&self) -> anyhow::Result<Zeroizing<String>> {
        match self {
            Self::IndexKey => secret(),
            Self::Pepper { name } | Self::ProofKey { name } => named(name.as_str()),
        }
    }
}

/// A new secret under a name.
pub(super) fn named(name: &str) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(format!("{name}:{}", *secret()?)))
}

/// A new secret of 32 octets.
pub(super) fn secret() -> anyhow::Result<Zeroizing<String>> {
    let octets = Zeroizing::new(random::octets::<32>()?);
    Ok(Zeroizing::new(URL_SAFE_NO_PAD.encode(*octets)))
}

fn name(text: &str) -> Result<PepperId, String> {
    PepperId::parse(text).ok_or_else(|| "a name has 1 to 16 characters of a-z 0-9 _ -".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::{self, Sources, Texts};

    #[derive(Parser)]
    struct Command {
        #[command(subcommand)]
        keygen: Keygen,
    }

    fn keygen(arguments: &str) -> Result<String, clap::Error> {
        let arguments = std::iter::once("keygen").chain(arguments.split(' '));
        Command::try_parse_from(arguments).map(|command| command.keygen.run().unwrap().to_string())
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
    fn what_is_printed_is_what_serve_takes() {
        let environment = [
            (
                "OTP_SECRETS__PEPPERS",
                format!("{},{}", keygen("pepper --name k2").unwrap(), keygen("pepper").unwrap()),
            ),
            ("OTP_SECRETS__INDEX_KEY", keygen("index-key").unwrap()),
            ("OTP_SECRETS__PROOF_KEYS", keygen("proof-key").unwrap()),
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
    }
}
