//! Accept loop for HTTP/1.1 with or without TLS: bounded in connections and patience, with a drain at the end.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::patience::{Busy, Patience, Patient};

mod peers;
#[cfg(test)]
mod tests;

use peers::Peers;

/// What is read ahead of one connection; a request's head must fit.
const BUFFER: usize = 64 * 1024;
/// How long open connections may take after the stop.
const DRAIN: Duration = Duration::from_secs(15);

/// What one server takes on.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Connections at the same time. One more is closed at once: whoever waits would only pile up.
    connections: usize,
    /// Of them from one address: idle ones cost a client nothing, and one alone must not shut out the others.
    of_one_address: usize,
    /// With each of them.
    patience: Patience,
}

impl Default for Bounds {
    fn default() -> Self {
        // Each costs some 50 KiB with TLS: together they fit the memory that the chart grants.
        Self { connections: 4096, of_one_address: 1024, patience: Patience::default() }
    }
}

/// How a server comes to its end.
#[derive(Clone)]
pub struct Ending {
    /// From here on every answer closes its connection, so that clients come back elsewhere; new ones are still served.
    pub draining: CancellationToken,
    /// From here on nobody new is served.
    pub stop: CancellationToken,
}

impl From<CancellationToken> for Ending {
    fn from(stop: CancellationToken) -> Self {
        Self { draining: stop.clone(), stop }
    }
}

/// Serves `router` on `listener` until it is to stop; then finishes the requests that are under way.
pub async fn serve(listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, ending: impl Into<Ending>) {
    serve_within(Bounds::default(), listener, tls, router, ending.into()).await;
}

async fn serve_within(bounds: Bounds, listener: TcpListener, tls: Option<Arc<ServerConfig>>, router: Router, ending: Ending) {
    let acceptor = tls.map(TlsAcceptor::from);
    let (connections, places) = (TaskTracker::new(), Arc::new(Semaphore::new(bounds.connections)));
    let mut peers = Peers::default();
    loop {
        let (stream, peer) = tokio::select! {
            () = ending.stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => (stream, peer.ip()),
                Err(error) => {
                    tracing::warn!(%error, "unable to accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(bounds.connections, "closed a connection: there are as many as can be served");
            continue;
        };
        let Some(share) = peers.enter(peer, bounds.of_one_address) else {
            tracing::debug!(bounds.of_one_address, %peer, "closed a connection: its address has as many as one may have");
            continue;
        };
        // Ticket and first answer are two writes: without this each new connection waits 40 ms for a delayed ACK.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "unable to set TCP_NODELAY");
        }
        let (acceptor, router, ending) = (acceptor.clone(), router.clone(), ending.clone());
        connections.spawn(async move {
            let _held = (place, share);
            let Some(acceptor) = acceptor else { return connection(stream, bounds.patience, router, ending).await };
            match tokio::time::timeout(bounds.patience.head, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, bounds.patience, router, ending).await,
                Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                Err(_) => tracing::debug!("TLS handshake timed out"),
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN, connections.wait()).await.is_err() {
        tracing::warn!(open = connections.len(), "connections were still open after the drain");
    }
}

async fn connection<S>(stream: S, patience: Patience, router: Router, ending: Ending)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ending { draining, stop } = ending;
    let busy = Busy::default();
    let stream = Patient::new(stream, patience, busy.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (router, draining, serving) = (router.clone(), draining.clone(), busy.begin());
        async move {
            let mut response: Response<Body> = router.oneshot(request.map(Body::new)).await?;
            if draining.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(serving);
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience.idle).max_buf_size(BUFFER);
    let serving = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended early");
    }
}
