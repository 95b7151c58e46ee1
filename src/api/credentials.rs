//! What operations require of a caller: an API key, and a token from one of its buckets.
//!
//! The middleware has authenticated the caller before. Must not read a key.

use std::sync::Arc;

use poem::{Error, Request, RequestBody};
use poem_openapi::auth::Bearer;
use poem_openapi::registry::Registry;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, SecurityScheme};

use super::auth::{Caller, POLICY};
use super::context::RequestContext;
use super::rejection::{self, ErrorFormat, Rejection};
use crate::domain::limits::Action;
use crate::domain::simple_access::SimpleAccess;

/// An API key of a tenant, as `otpd keygen api-key` prints it: `Authorization: Bearer otpd_…`.
#[derive(SecurityScheme)]
#[oai(rename = "apiKey", ty = "bearer")]
#[expect(dead_code, reason = "only describes the scheme: its own extractor would parse the header again")]
struct ApiKeyScheme(Bearer);

/// The caller that the middleware has authenticated.
pub(super) struct Authenticated(pub Arc<Caller>);

/// Extractor that takes a token for a send or resend, before the body is read.
pub(super) struct SendToken;

/// Extractor that takes a token for any other request, before the body is read.
pub(super) struct CheckToken;

impl<'a> ApiExtractor<'a> for Authenticated {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <ApiKeyScheme as ApiExtractor>::register(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        <ApiKeyScheme as ApiExtractor>::security_schemes()
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let caller = RequestContext::of(request)?.caller.clone();
        caller.map(Self).ok_or_else(|| Rejection::Unauthenticated.into())
    }
}

impl<'a> ApiExtractor<'a> for SendToken {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::PoemExtractor];

    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        take_token(request, Action::Send).map(|()| Self)
    }
}

impl<'a> ApiExtractor<'a> for CheckToken {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::PoemExtractor];

    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        take_token(request, Action::Attempt).map(|()| Self)
    }
}

/// Takes a token from a bucket of the authenticated key. Without a key, lets the request through if
/// the simple endpoints are open; v1 requires [`Authenticated`].
fn take_token(request: &Request, action: Action) -> poem::Result<()> {
    let context = RequestContext::of(request)?;
    match &context.caller {
        Some(caller) => caller.take_token(action, &context.report).map_err(|wait| {
            let format = ErrorFormat::of(request.uri().path());
            Error::from_response(rejection::limited(format, POLICY, wait))
        }),
        None if context.shared.simple == SimpleAccess::Open => Ok(()),
        None => Err(Rejection::Unauthenticated.into()),
    }
}
