//! The command line; each command has its own module.
//!
//! Must not contain a rule of the service: a command reads settings, assembles an `App` and
//! reports.

use std::env::consts;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;
use std::thread;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::adapters::clock::SystemClock;
use crate::app::AssemblyError;
use crate::config::admin::AdminListener;
use crate::config::{self, Common, Faults, Sources};
use crate::ports::Clock as _;
use crate::telemetry::{Telemetry, TelemetryError};
use crate::{server, telemetry};

mod completions;
mod dev;
mod doctor;
mod effective;
mod healthcheck;
pub mod init;
mod inspect;
pub mod keygen;
mod openapi;
mod reload;
mod serve;
mod service_manager;

/// Exit code for settings that are missing or not usable.
const BAD_SETTINGS: u8 = 2;

/// Verifies email addresses: sends one-time codes (OTP) by email and checks them
#[derive(Debug, Parser)]
#[command(name = "otpd", version = version())]
pub struct Cli {
    /// Read settings from this TOML file; .env and environment variables override it
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try otpd without settings: in memory, with emails captured and shown in the browser
    Dev(dev::DevOptions),
    /// Run the service with Redis and an SMTP relay (the default)
    Serve,
    /// Write a commented .env file with new secrets, or add missing settings to it
    Init(init::Init),
    /// Check the settings, Redis and the SMTP relays, and suggest how to fix problems
    Doctor(doctor::Doctor),
    /// Show what counts against an email address, and the state of its verification, never a code
    Inspect(inspect::Person),
    /// Empty the limits of an email address, and with --ip those of an IP address
    Unblock(inspect::Person),
    /// Check the settings before SIGHUP reloads them
    Reload(reload::Reload),
    /// Check that the service on this machine responds; exit code 0 or 1
    Healthcheck(healthcheck::Healthcheck),
    /// Print the effective settings with where each comes from, secrets masked, and check them
    Config(effective::EffectiveSettings),
    /// Generate a secret or an API key and print it
    #[command(subcommand)]
    Keygen(keygen::Keygen),
    /// Print the OpenAPI document
    Openapi(openapi::Openapi),
    /// Print a script that completes commands and options in a shell
    Completions(completions::Completions),
}

/// Returns the version, with the commit that a release was built from, and the target.
fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let commit = option_env!("OTPD_COMMIT").unwrap_or("no release");
        let target = option_env!("OTPD_TARGET");
        let target = target.map_or_else(|| format!("{}-{}", consts::ARCH, consts::OS), str::to_owned);
        format!("{} ({commit}, {target})", env!("CARGO_PKG_VERSION"))
    });
    &VERSION
}

/// Why a command failed.
enum Failure {
    /// The settings have faults.
    Settings(Faults),
    /// The settings are valid, but something that they name is missing or broken.
    Unusable(Vec<anyhow::Error>),
    /// Any other reason.
    Other(anyhow::Error),
}

impl Cli {
    /// Runs the command. Errors go to standard error.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let sources = || Sources::read(self.config.as_deref(), SystemClock.now()).map_err(Failure::Settings);
        let outcome = match self.command.unwrap_or(Command::Serve) {
            Command::Dev(dev) => done(sources().and_then(|sources| dev.run(sources))),
            Command::Serve => done(serve::run(self.config.as_deref())),
            Command::Init(init) => done(init.run().and_then(print).map_err(Failure::Other)),
            Command::Doctor(doctor) => doctor::run(&doctor, sources()),
            Command::Inspect(person) => done(inspect::inspect(&person, sources())),
            Command::Unblock(person) => done(inspect::unblock(&person, sources())),
            Command::Reload(reload::Reload { .. }) => done(reload::check(sources())),
            Command::Healthcheck(healthcheck) => {
                done(healthcheck::run(&healthcheck, sources()).map_err(Failure::Other))
            }
            Command::Config(settings) => done(effective::run(&settings, sources())),
            Command::Keygen(keygen) => {
                done(keygen.run().and_then(|secret| print(&*secret)).map_err(Failure::Other))
            }
            Command::Openapi(openapi) => done(print(openapi.document()).map_err(Failure::Other)),
            Command::Completions(completions) => done(print(completions.script()).map_err(Failure::Other)),
        };
        match outcome {
            Ok(code) => code,
            Err(Failure::Settings(faults)) => report(&faults),
            Err(Failure::Unusable(errors)) => {
                let errors: Vec<_> = errors.iter().map(|error| format!("- {error:#}")).collect();
                complain(&format!("otpd cannot start with these settings:\n{}", errors.join("\n")));
                ExitCode::from(BAD_SETTINGS)
            }
            Err(Failure::Other(error)) => {
                complain(&format!("otpd: {error:#}"));
                ExitCode::FAILURE
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<AssemblyError> for Failure {
    fn from(error: AssemblyError) -> Self {
        match error {
            AssemblyError::Settings(errors) => Self::Unusable(errors),
            AssemblyError::System(error) => Self::Other(error),
        }
    }
}

/// Turns the outcome of a command without its own exit code into one.
fn done(outcome: Result<(), Failure>) -> Result<ExitCode, Failure> {
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Prints all faults of the settings.
fn report(faults: &Faults) -> ExitCode {
    let hint = "'otpd init' writes a .env with fresh secrets; 'otpd dev' needs no settings at all.";
    complain(&format!("otpd cannot start with these settings:\n{faults}\n\n{hint}"));
    ExitCode::from(BAD_SETTINGS)
}

/// Prints to standard error, without characters that a terminal acts on. If that cannot be written,
/// the exit code says what there is to say.
fn complain(text: &str) {
    use std::io::Write as _;
    let shown = |c: char| if c.is_control() && c != '\n' { char::REPLACEMENT_CHARACTER } else { c };
    let text: String = text.chars().map(shown).collect();
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints to standard output. A closed pipe is not an error, because `head`, for example, closes it
/// early.
fn print(text: impl AsRef<str>) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut stdout = io::stdout();
    match writeln!(stdout, "{}", text.as_ref().trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        _ => Ok(()),
    }
}

/// Starts the logs, writes the warnings to the log, and returns the settings. The other value is
/// dropped at the end, so that no line is lost.
fn announce<T>(loaded: config::Loaded<T>, common: impl Fn(&T) -> &Common) -> Result<(T, Telemetry), Failure> {
    let Common { log, audit, traces, .. } = common(&loaded.settings);
    let telemetry = telemetry::start(*log, audit, traces).map_err(|error| match error {
        TelemetryError::AuditFile(error) => unusable(&format!(
            "OTP_AUDIT__OUTPUT: the file cannot be opened: {error}\n    OTP_AUDIT__OUTPUT=stdout"
        )),
        TelemetryError::Collector(error) => {
            unusable(&format!("OTP_TRACES__ENDPOINT: the collector cannot be used: {error}"))
        }
        TelemetryError::Thread(error) => Failure::Other(anyhow::Error::from(error).context("the logs")),
    })?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Ok((loaded.settings, telemetry))
}

fn unusable(what: &str) -> Failure {
    Failure::Unusable(vec![anyhow::Error::msg(what.to_owned())])
}

/// How many cores there are for each thread that serves requests. Hashes take the time of the
/// others: a core makes some hundred a second, and such a thread serves thousands of requests. More
/// threads than are needed cost time, because they wake each other.
const CORES_PER_WORKER: usize = 4;

/// Runs a future to completion.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = cores.div_ceil(CORES_PER_WORKER);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let runtime = runtime.context("the asynchronous runtime could not be started")?;
    let outcome = runtime.block_on(future);
    // Does not wait for blocking work, such as reading a long list.
    runtime.shutdown_background();
    outcome
}

/// Listens on the address of this setting.
async fn listen(setting: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    server::listen(address).await.map_err(|error| cannot_listen(setting, address, error))
}

/// Returns the error of a failed listen. It is the setting's fault only if this machine does not
/// have the address, not if the address is in use or needs a privilege.
fn cannot_listen(setting: &str, address: SocketAddr, error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::AddrNotAvailable {
        let what = format!(
            "{setting}: this machine has no address {}\n    {setting}=127.0.0.1:{}",
            address.ip(),
            address.port()
        );
        return unusable(&what);
    }
    let other = match address.port() {
        port if setting == ADMIN_LISTEN => port.checked_add(1).unwrap_or(5001),
        5050 => 5051,
        _ => 5050,
    };
    let what = format!("cannot listen on {address}; {setting}=127.0.0.1:{other} sets another address");
    Failure::Other(anyhow::Error::from(error).context(what))
}

/// The names of the settings of the two listeners.
const HTTP_LISTEN: &str = "OTP_HTTP__LISTEN";
const ADMIN_LISTEN: &str = "OTP_ADMIN__LISTEN";

/// Listens for scrapes of the metrics, if they are served.
async fn listen_admin(admin: AdminListener) -> Result<Option<TcpListener>, Failure> {
    let AdminListener::On(address) = admin else { return Ok(None) };
    let listener = listen(ADMIN_LISTEN, address).await?;
    let address = listener.local_addr().context("the admin listener has no address")?;
    tracing::info!(%address, "serving metrics");
    Ok(Some(listener))
}

/// A signal to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopSignal {
    /// SIGTERM, which service managers send.
    Terminate,
    /// SIGINT, which a terminal sends for Ctrl-C.
    Interrupt,
}

/// The signals to stop, from its creation on. Before, they end the process, except process 1 of a
/// container, which does not receive them.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals cannot be received");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    /// Completes at the next signal.
    async fn next(&mut self) -> StopSignal {
        tokio::select! {
            _ = self.terminate.recv() => StopSignal::Terminate,
            _ = self.interrupt.recv() => StopSignal::Interrupt,
        }
    }
}
