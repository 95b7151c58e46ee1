//! Health probes: whether the process is alive, and whether it can serve.

use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::context::Context;
use super::payload::Json;
use super::problem::RETRY_SECONDS;
use super::spec::ApiTag;

/// The two health probes.
#[derive(Clone, Copy)]
pub(super) struct HealthApi;

/// The health of the service.
#[derive(Serialize, Object)]
struct Health {
    /// `ok` or `unavailable`.
    status: String,
}

#[derive(ApiResponse)]
enum Liveness {
    /// The process is alive.
    #[oai(status = 200)]
    Live(Json<Health>),
}

#[derive(ApiResponse)]
enum Readiness {
    /// The service can serve requests.
    #[oai(status = 200)]
    Ready(Json<Health>),
    /// Redis does not respond, so requests would fail, or the service is about to stop.
    #[oai(status = 503)]
    NotReady(
        Json<Health>,
        /// Seconds to wait before the next request.
        #[oai(header = "Retry-After")]
        u64,
    ),
}

#[OpenApi(tag = "ApiTag::Health")]
impl HealthApi {
    /// Check liveness
    ///
    /// Returns 200 while the process is running, whether or not Redis responds.
    #[expect(clippy::unused_async, reason = "operations are async")]
    #[oai(path = "/livez", method = "get", operation_id = "live")]
    async fn live(&self) -> Liveness {
        Liveness::Live(Json(Health { status: "ok".to_owned() }))
    }

    /// Check readiness
    ///
    /// Returns 200 if the service can serve requests, and 503 while Redis does not respond, or if
    /// the service is about to stop.
    #[oai(path = "/readyz", method = "get", operation_id = "ready")]
    async fn ready(&self, context: Context<'_>) -> Readiness {
        if !context.shared.draining.has_begun() && context.service().is_ready().await {
            Readiness::Ready(Json(Health { status: "ok".to_owned() }))
        } else {
            Readiness::NotReady(Json(Health { status: "unavailable".to_owned() }), RETRY_SECONDS)
        }
    }
}
