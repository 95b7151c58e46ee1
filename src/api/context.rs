//! What the operations of the API know besides the request: the caller, its client, and the
//! service.

use std::ops::Deref;
use std::sync::Arc;

use poem::http::HeaderMap;
use poem::{Request, RequestBody};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::auth::Caller;
use super::client_ip::Client;
use super::draining::Draining;
use super::public_url::PublicUrl;
use super::rate_limit::LimitReport;
use super::rejection::Rejection;
use crate::domain::code::CodeLength;
use crate::domain::simple_access::SimpleAccess;
use crate::service::Service;

/// What the middleware knows of a request. It is in the extensions of the request, as the only one,
/// because each costs an allocation.
pub(super) struct RequestContext {
    /// The caller, if the request has a valid API key.
    pub caller: Option<Arc<Caller>>,
    /// The client that made the request.
    pub client: Client,
    /// Collects the limits to report in the response.
    pub report: LimitReport,
    /// What all requests share.
    pub shared: Arc<SharedContext>,
}

/// What all requests share.
pub(super) struct SharedContext {
    /// The use cases.
    pub service: Service,
    /// The number of digits of a code.
    pub code_length: CodeLength,
    /// Who may call the simple endpoints.
    pub simple: SimpleAccess,
    /// The URL under which callers reach the service.
    pub public_url: PublicUrl,
    /// Whether the service is about to stop.
    pub draining: Draining,
}

/// Extractor for the context of a request, and for its headers: the framework's own extractor of
/// these allocates.
pub(super) struct Context<'a> {
    known: &'a RequestContext,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
}

impl Deref for Context<'_> {
    type Target = RequestContext;

    fn deref(&self) -> &RequestContext {
        self.known
    }
}

impl<'a> ApiExtractor<'a> for Context<'a> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::PoemExtractor];

    type ParamType = ();
    type ParamRawType = ();

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self { known: RequestContext::of(request)?, headers: request.headers() })
    }
}

impl RequestContext {
    /// Returns the context that the middleware has added to a request.
    pub(super) fn of(request: &Request) -> Result<&Self, Rejection> {
        request.data::<Arc<Self>>().map(AsRef::as_ref).ok_or(Rejection::Internal)
    }

    /// Returns the use cases.
    pub(super) fn service(&self) -> &Service {
        &self.shared.service
    }
}
