//! JSON responses.
//!
//! Replaces the framework's own `Json`, which builds a tree of values first.

use std::cell::RefCell;

use bytes::Bytes;
use poem::http::HeaderValue;
use poem::http::header::CONTENT_TYPE;
use poem::{IntoResponse, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaSchemaRef, Registry};
use poem_openapi::types::Type;
use serde::Serialize;

/// The media type of JSON responses.
const JSON: &str = "application/json; charset=utf-8";

/// A JSON response body.
pub struct Json<T>(pub T);

impl<T: Type> Payload for Json<T> {
    const CONTENT_TYPE: &'static str = JSON;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        response(JSON, &self.0)
    }
}

/// Returns a response with this media type and value.
pub(super) fn response(media_type: &'static str, value: &impl Serialize) -> Response {
    thread_local! {
        static TEXT: RefCell<Vec<u8>> = RefCell::default();
    }
    let body = TEXT.with_borrow_mut(|text| {
        text.clear();
        // Writing to memory fails only for maps whose keys are not text, and there are none.
        let _ = serde_json::to_writer(&mut *text, value);
        // A copy has no spare room, which would take a second allocation to share.
        Bytes::copy_from_slice(text)
    });
    let mut response = Response::from(poem::Body::from(body));
    // Room for the headers that all responses have, at once.
    response.headers_mut().reserve(12);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}
