//! DNS: bounded look-ups of the records that mail depends on.
//!
//! Tells a name that has no such record from a failure that may pass. Must not decide what a record
//! means.

mod mail_domains;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};
use thiserror::Error;
use tokio::time::timeout;

pub use self::mail_domains::{EveryDomain, MxCheck, is_null_mx};

/// Time limit of one attempt; a look-up has two.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
/// Time limit of a look-up, with all its attempts and servers.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(4);

/// Asks name servers.
pub struct DnsResolver {
    resolver: TokioResolver,
}

/// The type of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// An IPv4 address.
    A,
    /// An IPv6 address.
    Aaaa,
    /// Another name that stands for this one.
    Cname,
    /// A host that takes the domain's mail.
    Mx,
    /// The name of an address.
    Ptr,
    /// A text.
    Txt,
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsRecord {
    /// Of A and AAAA.
    Address(IpAddr),
    /// Of CNAME, MX and PTR: a name in lower case without its final dot. It is empty for the root,
    /// which as a mail host means that the domain takes no mail (RFC 7505).
    Name(String),
    /// Of TXT: its strings, joined.
    Text(String),
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LookupError {
    /// The name does not exist (NXDOMAIN).
    #[error("the name does not exist (NXDOMAIN)")]
    NoName,
    /// The name has no record of this type (NODATA).
    #[error("the name has no such record")]
    NoRecord,
    /// The text is not a name.
    #[error("it is not a domain name")]
    NotAName,
    /// The server failed, refused or did not answer.
    #[error("{0}")]
    Temporary(&'static str),
}

/// Why no name server can be asked.
#[derive(Debug, Error)]
#[error("no name server is known")]
pub struct NoNameServer(#[source] NetError);

impl LookupError {
    /// Returns whether the answer was that there is no such record.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::NoName | Self::NoRecord)
    }
}

impl DnsResolver {
    /// Creates a resolver that asks these servers, or those of the system if there are none.
    ///
    /// # Errors
    /// Returns [`NoNameServer`] if the system's configuration cannot be read or names none.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NoNameServer> {
        let config = if servers.is_empty() {
            let (config, _) = system_conf::read_system_conf().map_err(NoNameServer)?;
            ResolverConfig::from_name_servers(config.into_parts().2)
        } else {
            ResolverConfig::from_name_servers(servers.iter().map(name_server).collect())
        };
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.timeout = ATTEMPT_TIMEOUT;
        options.attempts = 1;
        // An answer can have 64 KiB, and whoever asks for codes chooses the domains.
        options.cache_size = 0;
        // Other mail servers do not see this machine's file.
        options.use_hosts_file = ResolveHosts::Never;
        Ok(Self { resolver: builder.build().map_err(NoNameServer)? })
    }

    /// Returns the records of this type, of the name that a CNAME leads to. There is at least one.
    ///
    /// # Errors
    /// Returns a [`LookupError`] that says whether there is no such record.
    pub async fn lookup(&self, kind: RecordKind, name: &str) -> Result<Vec<DnsRecord>, LookupError> {
        let mut name = Name::from_ascii(name).map_err(|_| LookupError::NotAName)?;
        // An absolute name, which the search domains of this machine are not appended to.
        name.set_fqdn(true);
        let lookup = timeout(LOOKUP_TIMEOUT, self.resolver.lookup(name, kind.record_type())).await;
        let lookup = lookup.map_err(|_| no_answer())?.map_err(|error| lookup_error(&error))?;
        let answers = lookup.answers().iter().filter(|record| record.record_type() == kind.record_type());
        let records: Vec<_> = answers.filter_map(|record| DnsRecord::of(&record.data)).collect();
        if records.is_empty() { Err(LookupError::NoRecord) } else { Ok(records) }
    }
}

fn name_server(address: &SocketAddr) -> NameServerConfig {
    let on_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(on_port);
    NameServerConfig::new(address.ip(), true, connections.to_vec())
}

fn no_answer() -> LookupError {
    LookupError::Temporary("the name servers do not answer")
}

fn lookup_error(error: &NetError) -> LookupError {
    match error {
        error if error.is_nx_domain() => LookupError::NoName,
        error if error.is_no_records_found() => LookupError::NoRecord,
        NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail)) => {
            LookupError::Temporary("the name servers fail (SERVFAIL)")
        }
        NetError::Dns(DnsError::ResponseCode(ResponseCode::Refused)) => {
            LookupError::Temporary("the name servers refuse the question (REFUSED)")
        }
        NetError::Timeout | NetError::NoConnections | NetError::Io(_) => no_answer(),
        // The text of the error can name the domain.
        _ => LookupError::Temporary("the answer of the name servers cannot be used"),
    }
}

impl RecordKind {
    fn record_type(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Cname => RecordType::CNAME,
            Self::Mx => RecordType::MX,
            Self::Ptr => RecordType::PTR,
            Self::Txt => RecordType::TXT,
        }
    }
}

impl DnsRecord {
    fn of(data: &RData) -> Option<Self> {
        Some(match data {
            RData::A(address) => Self::Address(address.0.into()),
            RData::AAAA(address) => Self::Address(address.0.into()),
            RData::CNAME(name) => Self::name(&name.0),
            RData::MX(host) => Self::name(&host.exchange),
            RData::PTR(name) => Self::name(&name.0),
            RData::TXT(text) => {
                let bytes: Vec<u8> = text.txt_data.iter().flatten().copied().collect();
                Self::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            _ => return None,
        })
    }

    fn name(name: &Name) -> Self {
        Self::Name(name.to_ascii().trim_end_matches('.').to_ascii_lowercase())
    }
}
