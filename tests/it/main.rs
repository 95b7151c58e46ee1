//! The tests that drive otpd from outside: real processes, a real Redis, real SMTP.

mod commands;
mod faults;
mod layering;
mod limits_of_a_request;
mod openapi;
mod parallel;
mod secrecy;
mod simple;
mod support;
