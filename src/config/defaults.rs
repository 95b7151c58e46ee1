//! What tenants inherit from the deployment.

use super::codes::{Codes, Hash};
use super::dangerous::Dangerous;
use super::mail::Brand;
use crate::domain::limits::Limits;
use crate::domain::locale::Locale;

/// What tenants inherit from the deployment.
#[derive(Clone, Copy)]
pub(super) struct Defaults<'a> {
    pub codes: Option<&'a Codes>,
    pub limits: Option<&'a Limits>,
    pub brand: Option<&'a Brand>,
    pub locale: Option<&'a Locale>,
    pub hash: Option<&'a Hash>,
    pub dangerous: Dangerous,
}
