//! The tests that drive otpd from outside: real processes, a real Redis, real SMTP.

mod support;
