//! HTTP/1.1: `/` says who answers whom, `/healthz` how it is, `/bytes/N` is N bytes, `/slow/MS` takes its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::{Identity, health};

/// Largest answer of `/bytes/N`.
const LARGEST: usize = 256 << 20;

/// Serves one connection to its end; when the task stops, after the request that is under way.
pub async fn serve(
    identity: Arc<Identity>,
    stream: TcpStream,
    client: SocketAddr,
    mut stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let identity = identity.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(&identity, client, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    identity: &Identity,
    client: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    // A body that nobody reads would break keep-alive.
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let number = |prefix| {
        path.strip_prefix(prefix)
            .and_then(|rest: &str| rest.parse::<usize>().ok())
    };
    if path == "/healthz" {
        return health::answer(identity);
    }
    if let Some(count) = number("/bytes/") {
        return Response::new(Full::new(vec![b'x'; count.min(LARGEST)].into()));
    }
    if let Some(milliseconds) = number("/slow/") {
        tokio::time::sleep(Duration::from_millis(milliseconds as u64)).await;
    }
    let said = serde_json::json!({
        "service": identity.service,
        "task": identity.task,
        "node": identity.node,
        "client": client.ip().to_string(),
        "port": client.port(),
        "received": body.len(),
    });
    let mut response = Response::new(Full::new(format!("{said}\n").into()));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(
        "content-type",
        hyper::header::HeaderValue::from_static("application/json"),
    );
    response
}
