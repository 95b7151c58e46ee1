//! The Flask service that otpd replaces, in turn with otpd on the same peers: gunicorn with two
//! workers of 16 threads, in a virtual environment below `target/`.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::driver::Pace;
use super::rig::Rig;
use super::scenario::Scenario;
use crate::support::app::SENDER;
use crate::support::redis::free_port;

const ROUNDS: usize = 3;
const WARM_UP: usize = 200;
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peers/flask");
/// Scenarios, callers, and the requests of each run at Flask; otpd gets four times as many.
const RUNS: [(Scenario, usize, usize); 5] = [
    (Scenario::Send, 16, 1_000),
    (Scenario::Send, 64, 1_000),
    (Scenario::Wrong, 16, 4_000),
    (Scenario::Right, 16, 1_000),
    (Scenario::Malformed, 16, 4_000),
];

/// Prints the medians of both, and their ratios.
pub async fn run() {
    let Some(gunicorn) = install() else {
        println!("flask: Python with venv, or what requirements.txt names, is not available");
        return;
    };
    println!(
        "| otpd and Flask, medians of {ROUNDS} rounds | callers | requests/s | | ratio | CPU us | | ratio |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (scenario, callers, count) in RUNS {
        let mut own = [const { Vec::new() }; 2];
        let mut theirs = [const { Vec::new() }; 2];
        for _ in 0..ROUNDS {
            record(&mut own, one(&Rig::start(&[]).await, scenario, callers, 4 * count));
            record(&mut theirs, one(&start(&gunicorn).await, scenario, callers, count));
        }
        let [rate, cpu] = own.map(median);
        let [their_rate, their_cpu] = theirs.map(median);
        println!(
            "| {} | {callers} | {rate:.0} | {their_rate:.0} | {:.1} | {cpu:.1} | {their_cpu:.1} | {:.3} |",
            scenario.facts().0,
            rate / their_rate,
            cpu / their_cpu
        );
    }
}

fn record(figures: &mut [Vec<f64>; 2], measured: [f64; 2]) {
    for (figures, measured) in figures.iter_mut().zip(measured) {
        figures.push(measured);
    }
}

/// Returns requests a second, and CPU time of the service in microseconds a request.
fn one(rig: &Rig, scenario: Scenario, callers: usize, count: usize) -> [f64; 2] {
    let mut requests = scenario.requests(rig, WARM_UP + count);
    let measured = requests.split_off(WARM_UP);
    rig.measure(requests, callers, Pace::Closed);
    let (outcome, spent) = rig.measure(measured, callers, Pace::Closed);
    let (name, status, _) = scenario.facts();
    assert!(outcome.count(status) > count * 98 / 100, "{name}: {:?}", outcome.statuses);
    [outcome.rate(), spent.service.micros_each(count)]
}

/// Makes the virtual environment, and returns the program that serves in it.
fn install() -> Option<PathBuf> {
    let requirements = format!("{FOLDER}/requirements.txt");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("flask");
    let installed = folder.join("requirements.txt");
    let is_installed =
        fs::read(&installed).is_ok_and(|old| fs::read(&requirements).is_ok_and(|new| old == new));
    if !is_installed {
        let run = |command: &mut Command| command.stdout(Stdio::null()).status().is_ok_and(|s| s.success());
        let made = run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
        let pip = folder.join("bin/pip");
        if !made || !run(Command::new(pip).args(["install", "--quiet", "-r", &requirements])) {
            return None;
        }
        fs::copy(&requirements, installed).ok()?;
    }
    Some(folder.join("bin/gunicorn"))
}

async fn start(gunicorn: &PathBuf) -> Rig {
    let port = free_port().expect("a free port");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    Rig::start_with(|redis, relay, _, log, output| {
        let mut command = Command::new(gunicorn);
        command.args(["--workers", "2", "--threads", "16", "--chdir", FOLDER, "--bind"]);
        command.arg(address.to_string()).arg("app:app").env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("REDIS_HOST", "127.0.0.1").env("REDIS_PORT", redis.port().to_string());
        command.env("SMTP_SERVER", "localhost").env("SMTP_PORT", relay.port().to_string());
        command.env("EMAIL_SENDER", SENDER).env("EMAIL_PASSWORD", "relay password");
        let process = command.stdin(Stdio::null()).stdout(output).stderr(log).spawn();
        (process.expect("gunicorn starts"), Some(address))
    })
    .await
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
