//! Asks the engine for its lists. The client library's tasks have no networks, so these requests are made here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::history;
use super::lists::{Lists, Task};
use super::poll::CALM;
use super::trouble::Trouble;

/// How long tasks that ended are not asked for.
const WHOLE: Duration = CALM;
/// More tasks than that are not asked for one by one.
const SINGLE: usize = 100;
/// For all four lists together: a manager without a leader waits before it says so.
const PATIENCE: Duration = Duration::from_secs(20);
/// What every engine that can be worked with speaks, until it has said what it speaks itself.
const OLDEST: &str = "1.41";

/// Who has lists.
pub trait Fetch: Send {
    /// `before` is what the same one said last: what cannot be different since then may be taken from there.
    fn lists(&mut self, before: &Lists) -> impl Future<Output = Result<Lists, Trouble>> + Send;
}

/// The engine behind a socket.
pub struct Socket {
    path: Arc<Path>,
    open: Option<Connection>,
}

/// To one engine, as long as that lives.
struct Connection {
    sender: SendRequest<Empty<Bytes>>,
    /// The version of the API that it speaks.
    api: String,
    /// When all of its tasks were asked for last.
    whole: Option<Instant>,
}

impl Socket {
    pub const fn new(path: Arc<Path>) -> Self {
        Self { path, open: None }
    }

    async fn ask(&mut self, before: &Lists) -> Result<Lists, Trouble> {
        // One on which something went wrong is not used again: who knows what is still to come on it.
        let open = self.open.take().filter(|open| !open.sender.is_closed());
        let mut open = match open {
            Some(open) => open,
            None => Connection::to(&self.path).await?,
        };
        let nodes = open.list("/nodes").await?;
        let networks = open.list("/networks").await?;
        let services = open.list("/services").await?;
        // Tasks last: one whose service is not listed yet is left out, and a service without its tasks would be served badly.
        let is_still = (&before.nodes, &before.services) == (&nodes, &services);
        let tasks = open.tasks(&before.tasks, is_still).await?;
        self.open = Some(open);
        Ok(Lists {
            nodes,
            networks,
            services,
            tasks,
        })
    }
}

impl Connection {
    async fn to(path: &Path) -> Result<Self, Trouble> {
        let unreachable = |error: std::io::Error| Trouble::Unreachable(error.to_string());
        let stream = UnixStream::connect(path).await.map_err(unreachable)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Trouble::broken)?;
        // It ends with the sender.
        tokio::spawn(connection);
        let version: Version = get(&mut sender, "/version").await?;
        Ok(Self {
            sender,
            api: version.api_version.unwrap_or_else(|| OLDEST.to_owned()),
            whole: None,
        })
    }

    /// `is_still`: what tasks come from is as it was `before`.
    async fn tasks(&mut self, before: &[Task], is_still: bool) -> Result<Vec<Task>, Trouble> {
        let lately = self.whole.is_some_and(|whole| whole.elapsed() < WHOLE);
        if is_still
            && lately
            && let Some(tasks) = self.renewed(before).await?
        {
            return Ok(tasks);
        }
        self.whole = Some(Instant::now());
        self.list("/tasks").await
    }

    /// The tasks that ended, from `before`, and the others. `None`: all have to be asked for.
    async fn renewed(&mut self, before: &[Task]) -> Result<Option<Vec<Task>>, Trouble> {
        let ending = history::ending(before);
        if ending.len() > SINGLE {
            return Ok(None);
        }
        let wanted = match self.list(&filtered("desired-state", &history::WANTED)).await {
            // One that has other words for what it wants.
            Err(Trouble::Refused { .. }) => return Ok(None),
            wanted => wanted?,
        };
        let ending = match &*ending {
            [] => Vec::new(),
            ids => self.list(&filtered("id", ids)).await?,
        };
        Ok(history::renewed(before, wanted, ending))
    }

    async fn list<T: DeserializeOwned>(&mut self, path: &str) -> Result<Vec<T>, Trouble> {
        let listed: Option<Vec<T>> = get(&mut self.sender, &format!("/v{}{path}", self.api)).await?;
        Ok(listed.unwrap_or_default())
    }
}

/// Those tasks of which this is one of the values.
fn filtered(key: &str, values: &[&str]) -> String {
    let filters = serde_json::json!({ key: values }).to_string();
    format!(
        "/tasks?filters={}",
        utf8_percent_encode(&filters, NON_ALPHANUMERIC)
    )
}

impl Fetch for Socket {
    async fn lists(&mut self, before: &Lists) -> Result<Lists, Trouble> {
        let asked = tokio::time::timeout(PATIENCE, self.ask(before)).await;
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
    sender.ready().await.map_err(Trouble::broken)?;
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

#[cfg(test)]
mod tests;
