//! HTTP/1.1: `/` says who answers whom, `/healthz` how it is, `/bytes/N` is N bytes, `/slow/MS` takes its time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::{Identity, health};

/// Largest answer of `/bytes/N`.
const LARGEST: usize = 256 << 20;

/// Serves one connection to its end. When the task stops, each connection gets one more answer, which says that it is
/// the last: a client that is about to ask meets no closed connection.
pub async fn serve(
    identity: Arc<Identity>,
    stream: TcpStream,
    client: SocketAddr,
    stop: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| {
        let (identity, stop) = (identity.clone(), stop.clone());
        async move {
            let mut response = answer(&identity, client, request).await;
            if *stop.borrow() {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .await;
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
        "service": identity.service.as_deref().unwrap_or_default(),
        "task": identity.task(),
        "node": identity.node.as_deref().unwrap_or_default(),
        "client": client.ip().to_string(),
        "port": client.port(),
        "received": body.len(),
    });
    let mut response = Response::new(Full::new(format!("{said}\n").into()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
