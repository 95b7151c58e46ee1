//! Allocations and instructions of a request: valgrind's totals (DHAT) with few and with more
//! requests, so that the start and the end of the process cancel out.
//!
//! `--bound` fails if they exceed [`BOUNDS`], which are those of a debug build: CI has no other.

use std::fs;
use std::process::{Command, exit};

use tokio::runtime::Builder;

use super::driver::Pace;
use super::rig::Rig;
use super::scenario::Scenario;

const FEW: usize = 50;
const MORE: usize = 150;

/// The most allocations, and the most thousands of instructions, of a request to a debug build:
/// four allocations, and a sixth of the instructions, more than were counted. Runs differ by an
/// allocation and a tenth of the instructions.
const BOUNDS: [(Scenario, f64, f64); 10] = [
    (Scenario::Malformed, 28.0, 205.0),
    (Scenario::UnknownKey, 26.0, 260.0),
    (Scenario::UnknownId, 63.0, 480.0),
    (Scenario::Show, 90.0, 765.0),
    (Scenario::LimitedIp, 54.0, 570.0),
    (Scenario::Wrong, 59.0, 1_235.0),
    (Scenario::Right, 82.0, 2_045.0),
    (Scenario::Send, 84.0, 2_135.0),
    (Scenario::Create, 116.0, 2_390.0),
    (Scenario::CheckWrong, 88.0, 1_440.0),
];

/// Prints both for each scenario.
pub fn run(is_bound: bool) {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("counts: valgrind is not installed");
        return exit_if(is_bound);
    }
    let mut exceeded = 0;
    for (scenario, allocations, kilo_instructions) in BOUNDS {
        let [few, more] = std::thread::scope(|scope| {
            [FEW, MORE]
                .map(|count| scope.spawn(move || Counts::of(scenario, count)))
                .map(|counts| counts.join().expect("no panic"))
        });
        if few.allocations == 0.0 {
            println!("counts: valgrind does not see what a static binary allocates; see tests/counts/run");
            return exit_if(is_bound);
        }
        let each = |figure: fn(&Counts) -> f64| (figure(&more) - figure(&few)) / (MORE - FEW) as f64;
        let counted = [each(|counts| counts.allocations), each(|counts| counts.instructions) / 1e3];
        println!(
            "{}: {:.1} allocations of {:.0} bytes in all, {:.0} thousand instructions a request",
            scenario.facts().0,
            counted[0],
            each(|counts| counts.bytes),
            counted[1]
        );
        if is_bound && (counted[0] > allocations || counted[1] > kilo_instructions) {
            println!("more than {allocations} allocations or {kilo_instructions} thousand instructions");
            exceeded += 1;
        }
    }
    if is_bound {
        println!("counts: {} passed, {exceeded} failed", BOUNDS.len() - exceeded);
        exit(i32::from(exceeded > 0));
    }
}

/// Ends the process with an error if counts are required.
fn exit_if(is_required: bool) {
    if is_required {
        exit(1);
    }
}

struct Counts {
    allocations: f64,
    bytes: f64,
    instructions: f64,
}

impl Counts {
    /// Counts those of a process that serves so many requests.
    fn of(scenario: Scenario, requests: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [log, profile] = ["log", "profile"].map(|name| folder.path().join(name));
        let options = [
            "valgrind",
            "--tool=dhat",
            &format!("--log-file={}", log.display()),
            &format!("--dhat-out-file={}", profile.display()),
        ];
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut rig = Rig::start_under(&options, &[("PATH", "/usr/local/bin:/usr/bin:/bin")]).await;
            // What is prepared is the same for any number of requests.
            let mut all = scenario.requests(&rig, MORE);
            all.truncate(requests);
            rig.measure(all, 1, Pace::Closed);
            rig.stop();
        });
        // "Total: 1,234,567 bytes in 8,901 blocks"
        let log = fs::read_to_string(log).expect("a summary");
        let total = log.split("Total:").nth(1).expect("a total").replace(',', "");
        let mut numbers = total.split_whitespace().filter_map(|word| word.parse().ok());
        let [bytes, allocations] = [(); 2].map(|()| numbers.next().expect("a number"));
        // "te" is the time at the end, counted in instructions.
        let profile = fs::read_to_string(profile).expect("a profile");
        let time = profile.split("\"te\":").nth(1).and_then(|rest| rest.split([',', '\n']).next());
        let instructions = time.and_then(|time| time.trim().parse().ok()).expect("a number");
        Self { allocations, bytes, instructions }
    }
}
