//! The requests of each scenario, and what has to be stored before they are sent.

use serde_json::{Value, json};

use super::rig::Rig;
use crate::support::v1;

/// A kind of request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    Send,
    Right,
    Wrong,
    Replay,
    LimitedIp,
    LimitedIpSend,
    LimitedEmail,
    Shield,
    Malformed,
    UnknownKey,
    UnknownId,
    Show,
    Create,
    CreateIdempotent,
    CheckWrong,
    CheckRight,
}

/// The name of each, the status of its answers and how many requests a run sends.
pub const ALL: [(Scenario, &str, u16, usize); 16] = [
    (Scenario::Send, "send", 200, 6_000),
    (Scenario::Right, "right", 200, 6_000),
    (Scenario::Wrong, "wrong", 400, 15_000),
    (Scenario::Replay, "replay", 400, 12_000),
    (Scenario::LimitedIp, "limited-ip", 429, 30_000),
    (Scenario::LimitedIpSend, "limited-ip-send", 429, 30_000),
    (Scenario::LimitedEmail, "limited-email", 429, 12_000),
    (Scenario::Shield, "shield", 429, 60_000),
    (Scenario::Malformed, "malformed", 400, 60_000),
    (Scenario::UnknownKey, "unknown-key", 401, 60_000),
    (Scenario::UnknownId, "unknown-id", 404, 30_000),
    (Scenario::Show, "show", 200, 30_000),
    (Scenario::Create, "create", 201, 6_000),
    (Scenario::CreateIdempotent, "create-idempotent", 201, 6_000),
    (Scenario::CheckWrong, "check-wrong", 422, 15_000),
    (Scenario::CheckRight, "check-right", 200, 6_000),
];

/// Attempts that one code allows.
const ATTEMPTS: usize = 5;
/// Attempts that `ip_attempts` allows in an hour, and sends that `ip_sends` does.
const IP_ATTEMPTS: usize = 20;
const IP_SENDS: usize = 30;
/// Email addresses at their limit, each of whose refusals comes from another IP address.
const LIMITED: usize = 200;

impl Scenario {
    /// Returns its name, the status of its answers and how many requests a run sends.
    pub fn facts(self) -> (&'static str, u16, usize) {
        let found = ALL.into_iter().find(|(scenario, ..)| *scenario == self);
        found.map(|(_, name, status, count)| (name, status, count)).expect("a row for each")
    }

    /// Returns the settings that it needs in addition.
    pub fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Shield => {
                &[("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1"), ("OTP_LIMITS__IP_REQUESTS_BURST", "1")]
            }
            _ => &[],
        }
    }

    /// Prepares so many requests.
    pub fn requests(self, rig: &Rig, count: usize) -> Vec<Vec<u8>> {
        let limited = ip(0xFF_FFFF);
        let verify_limited = || verify(&limited, "somebody@example.com", "000000");
        let send_limited = |number| send(&limited, &format!("l{number}@example.com"));
        match self {
            Self::Send => (0..count).map(|number| send(&ip(number), &email(number))).collect(),
            Self::Right => attempts(rig, count, 1, true),
            Self::Wrong => attempts(rig, count, ATTEMPTS, false),
            Self::Replay => {
                let all = attempts(rig, count, ATTEMPTS, true);
                rig.prepare(all.iter().step_by(ATTEMPTS).cloned().collect(), 200);
                all
            }
            Self::LimitedIp => {
                rig.prepare((0..IP_ATTEMPTS).map(|n| verify(&limited, &email(n), "000000")).collect(), 400);
                vec![verify_limited(); count]
            }
            Self::LimitedIpSend => {
                rig.prepare((0..IP_SENDS).map(send_limited).collect(), 200);
                (0..count).map(|_| send_limited(IP_SENDS)).collect()
            }
            Self::LimitedEmail => {
                rig.prepare((0..LIMITED).map(|n| send(&ip(n), &email(n))).collect(), 200);
                (0..count).map(|n| send(&ip(LIMITED + n), &email(n % LIMITED))).collect()
            }
            Self::Shield => vec![verify_limited(); count],
            Self::Malformed => vec![post("/send-otp", &proxied(&limited), r#"{"email":"#); count],
            Self::UnknownKey => {
                let headers = bearer(2);
                vec![post("/v1/verifications", &headers, &create_body(0)); count]
            }
            Self::UnknownId => {
                let id = created(rig, 1).pop().expect("an id");
                // The last digit of an id carries less than all of its bits; the one before does
                // not.
                let (start, end) = id.split_at(id.len() - 2);
                let other = if end.starts_with('a') { 'b' } else { 'a' };
                vec![get(&format!("/v1/verifications/{start}{other}{}", &end[1..])); count]
            }
            Self::Show => {
                let shown = created(rig, 500);
                (0..count).map(|n| get(&format!("/v1/verifications/{}", shown[n % shown.len()]))).collect()
            }
            Self::Create => {
                (0..count).map(|n| post("/v1/verifications", &bearer(1), &create_body(n))).collect()
            }
            Self::CreateIdempotent => (0..count)
                .map(|n| {
                    let headers = format!("{}Idempotency-Key: key-{n}\r\n", bearer(1));
                    post("/v1/verifications", &headers, &create_body(n))
                })
                .collect(),
            Self::CheckWrong => checks(rig, count, ATTEMPTS, false),
            Self::CheckRight => checks(rig, count, 1, true),
        }
    }
}

/// Returns attempts on the simple endpoints, so many of them for each code.
fn attempts(rig: &Rig, count: usize, each: usize, right: bool) -> Vec<Vec<u8>> {
    let codes = count.div_ceil(each);
    rig.prepare((0..codes).map(|number| send(&ip(number), &email(number))).collect(), 200);
    let received = rig.relay.take_codes();
    let code = |number: usize| code(received.get(&email(number)).expect("an email"), right);
    // Attempts at one code are far apart, as they are in practice.
    let number = |at: usize| if each == 1 { at } else { at % codes };
    let all = (0..count).map(|at| {
        let number = number(at);
        verify(&ip(number), &email(number), &code(number))
    });
    let mut all: Vec<_> = all.collect();
    if right && each > 1 {
        // One code after another, so that the first attempt at each can be made in advance.
        all = (0..count).map(|at| verify(&ip(at / each), &email(at / each), &code(at / each))).collect();
    }
    all
}

/// Returns checks of the v1 API, so many of them for each verification.
fn checks(rig: &Rig, count: usize, each: usize, right: bool) -> Vec<Vec<u8>> {
    let codes = count.div_ceil(each);
    let ids = created(rig, codes);
    let received = rig.relay.take_codes();
    let check = |at: usize| {
        let number = at % codes;
        let code = code(received.get(&email(number)).expect("an email"), right);
        let body = json!({ "code": code, "end_user_ip": ip(number) }).to_string();
        post(&format!("/v1/verifications/{}/check", ids[number]), &bearer(1), &body)
    };
    (0..count).map(check).collect()
}

/// Creates so many verifications and returns their ids.
fn created(rig: &Rig, count: usize) -> Vec<String> {
    let requests = (0..count).map(|n| post("/v1/verifications", &bearer(1), &create_body(n)));
    let bodies = rig.prepare(requests.collect(), 201);
    let id = |body: &String| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        body["id"].as_str().expect("an id").to_owned()
    };
    bodies.iter().map(id).collect()
}

fn code(received: &str, right: bool) -> String {
    let number: usize = received.parse().expect("a number");
    format!("{:06}", if right { number } else { (number + 1) % 1_000_000 })
}

/// Returns a client address by number.
pub fn ip(number: usize) -> String {
    format!("10.{}.{}.{}", number / 65_536 % 256, number / 256 % 256, number % 256)
}

/// Returns a recipient by number.
pub fn email(number: usize) -> String {
    format!("recipient{number}@example.com")
}

fn create_body(number: usize) -> String {
    json!({ "email": email(number), "end_user_ip": ip(number) }).to_string()
}

/// Returns `POST /send-otp` as a trusted proxy forwards it for a client.
pub fn send(client: &str, email: &str) -> Vec<u8> {
    post("/send-otp", &proxied(client), &format!(r#"{{"email":"{email}"}}"#))
}

/// Returns `POST /verify-otp` as a trusted proxy forwards it for a client.
pub fn verify(client: &str, email: &str, code: &str) -> Vec<u8> {
    post("/verify-otp", &proxied(client), &format!(r#"{{"email":"{email}","otp":"{code}"}}"#))
}

/// Returns the header by which a trusted proxy names the client.
pub fn proxied(client: &str) -> String {
    format!("X-Forwarded-For: {client}\r\n")
}

fn bearer(number: u8) -> String {
    format!("Authorization: Bearer {}\r\n", v1::key(number))
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{}\r\n", bearer(1)).into_bytes()
}

/// Returns a POST of JSON.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{headers}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
