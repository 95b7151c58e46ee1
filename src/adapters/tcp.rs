//! TCP connections to hosts that have several addresses.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

/// Time limit for connecting to one address, so that an unreachable one leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Connects to the first reachable address.
///
/// # Errors
/// The error of the last address; `None` if there is no address.
pub(super) async fn connect(
    addresses: impl IntoIterator<Item = SocketAddr>,
) -> Result<TcpStream, Option<io::Error>> {
    let mut last = None;
    for address in addresses {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Without it, data may wait for an acknowledgement.
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = Some(error),
            Err(_) => last = Some(io::ErrorKind::TimedOut.into()),
        }
    }
    Err(last)
}
