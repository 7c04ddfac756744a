//! Asks the engine for its lists. The client library's tasks have no networks, so these requests are made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::lists::Lists;
use super::trouble::Trouble;

/// For all four lists together: a manager without a leader waits before it says so.
const PATIENCE: Duration = Duration::from_secs(20);
/// What every engine that can be worked with speaks, until it has said what it speaks itself.
const OLDEST: &str = "1.41";

/// Who has lists.
pub trait Fetch: Send {
    fn lists(&mut self) -> impl Future<Output = Result<Lists, Trouble>> + Send;
}

/// The engine behind a socket.
pub struct Socket {
    path: Arc<Path>,
}

impl Socket {
    pub const fn new(path: Arc<Path>) -> Self {
        Self { path }
    }

    async fn ask(&self) -> Result<Lists, Trouble> {
        let unreachable = |error: std::io::Error| Trouble::Unreachable(error.to_string());
        let stream = UnixStream::connect(&*self.path).await.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Trouble::broken)?;
        // It ends with the sender.
        tokio::spawn(connection);
        let version: Version = get(&mut sender, "/version").await?;
        let api = version.api_version.unwrap_or_else(|| OLDEST.to_owned());
        // Tasks last: one whose service is not listed yet is left out, and a service without its tasks would be served badly.
        Ok(Lists {
            nodes: get(&mut sender, &format!("/v{api}/nodes")).await?,
            networks: get(&mut sender, &format!("/v{api}/networks")).await?,
            services: get(&mut sender, &format!("/v{api}/services")).await?,
            tasks: get(&mut sender, &format!("/v{api}/tasks")).await?,
        })
    }
}

impl Fetch for Socket {
    async fn lists(&mut self) -> Result<Lists, Trouble> {
        let asked = tokio::time::timeout(PATIENCE, self.ask()).await;
        asked.unwrap_or(Err(Trouble::Silent { waited: PATIENCE }))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    api_version: Option<String>,
}

/// How an engine says no.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

async fn get<T: DeserializeOwned>(sender: &mut SendRequest<Empty<Bytes>>, path: &str) -> Result<T, Trouble> {
    let request = Request::get(path)
        .header("host", "docker")
        .body(Empty::new())
        .map_err(|error| Trouble::Garbled(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(Trouble::broken)?;
    let status = response.status();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(Trouble::broken)?
        .to_bytes();
    if status.is_success() {
        return serde_json::from_slice(&body).map_err(|error| Trouble::Garbled(format!("{path}: {error}")));
    }
    let refusal = serde_json::from_slice(&body).map(|Refusal { message }| message);
    let said = refusal.unwrap_or_else(|_| String::from_utf8_lossy(&body).trim().to_owned());
    Err(Trouble::of(path, status.as_u16(), &said))
}
