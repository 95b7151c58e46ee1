//! Serves the metrics beside the service, until it has ended.

use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::shutdown;
use crate::metrics::Gauge;
use crate::{api, server};

/// The most connections to the admin listener.
const MAX_CONNECTIONS: usize = 16;
/// How long a connection to the admin listener may be idle: longer than the interval of most
/// scrapes.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Serves metrics until `ended`.
pub(super) async fn serve(listener: Option<TcpListener>, ended: CancellationToken) {
    let Some(listener) = listener else { return };
    let bounds = server::Bounds {
        max_connections: MAX_CONNECTIONS,
        keep_alive: KEEP_ALIVE,
        stop_timeout: shutdown::ADMIN_TIMEOUT,
    };
    let stop = ended.cancelled_owned();
    server::serve(vec![listener], None, api::admin_responder(), bounds, Gauge::default(), stop).await;
}
