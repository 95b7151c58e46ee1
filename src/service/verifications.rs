//! The use cases of the v1 API: verifications with their own ids.

pub(super) mod cancel;
pub(super) mod check;
pub(super) mod create;
pub(super) mod resend;
pub(super) mod show;
