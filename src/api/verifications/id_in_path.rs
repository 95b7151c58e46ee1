//! The id of a verification in the path of a request.
//!
//! Replaces the framework's own `Path`, which only its own router fills.

use percent_encoding::percent_decode_str;
use poem::{Request, RequestBody, Result};
use poem_openapi::registry::{MetaParamIn, MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

/// The third segment of the path, which follows `/v1/verifications/`, without percent-encoding.
pub(super) struct IdInPath(pub String);

impl<'a> ApiExtractor<'a> for IdInPath {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;

    type ParamType = String;
    type ParamRawType = String;

    fn register(registry: &mut Registry) {
        <String as Type>::register(registry);
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Path)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(String::schema_ref())
    }

    fn param_raw_type(&self) -> Option<&String> {
        Some(&self.0)
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<String>,
    ) -> Result<Self> {
        let id = request.uri().path().split('/').nth(3).unwrap_or_default();
        // No route has a path that is not UTF-8.
        Ok(Self(percent_decode_str(id).decode_utf8_lossy().into_owned()))
    }
}
