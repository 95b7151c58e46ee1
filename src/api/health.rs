//! Health: whether the process lives, and whether it can serve.

use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};

use super::rejection::RETRY_SECONDS;
use super::spec::ApiTag;
use crate::service::Service;

/// The two probes.
pub struct HealthApi;

/// How the service is.
#[derive(Object)]
struct Health {
    /// `ok` or `unavailable`.
    status: String,
}

#[derive(ApiResponse)]
enum Liveness {
    /// The process answers.
    #[oai(status = 200)]
    Live(Json<Health>),
}

#[derive(ApiResponse)]
enum Readiness {
    /// Requests can be served.
    #[oai(status = 200)]
    Ready(Json<Health>),
    /// The store does not answer: requests would be refused.
    #[oai(status = 503)]
    NotReady(
        Json<Health>,
        /// Seconds to wait.
        #[oai(header = "Retry-After")]
        u64,
    ),
}

#[OpenApi(tag = "ApiTag::Health")]
impl HealthApi {
    /// Is the process alive?
    ///
    /// Answers 200 as long as the process serves, whatever the state of Redis.
    #[expect(clippy::unused_async, reason = "operations are async")]
    #[oai(path = "/livez", method = "get", operation_id = "live")]
    async fn live(&self) -> Liveness {
        Liveness::Live(Json(Health { status: "ok".to_owned() }))
    }

    /// Can it serve?
    ///
    /// Answers 503 while the store does not answer.
    #[oai(path = "/readyz", method = "get", operation_id = "ready")]
    async fn ready(&self, service: Data<&Service>) -> Readiness {
        if service.is_ready().await {
            Readiness::Ready(Json(Health { status: "ok".to_owned() }))
        } else {
            Readiness::NotReady(Json(Health { status: "unavailable".to_owned() }), RETRY_SECONDS)
        }
    }
}
