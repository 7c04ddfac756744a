//! The control API's client side: one request per connection, which is what a command needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::Problem;

/// An agent that does not answer for so long does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which plane serves what is for the agent to say.
const WITHOUT_AGENT: &str = "packet programs go on by themselves; what the proxy carries (with mode = \"proxy\" everything) \
     ends with its agent; changes wait for one";

/// Talks to the agent behind one socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The view at `path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Problem> {
        self.request(Method::GET, path, Bytes::new()).await
    }

    /// Sends `body`, returns what is answered.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let body = serde_json::to_vec(body).map_err(|error| self.garbled(error))?;
        self.request(Method::POST, path, body.into()).await
    }

    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Problem> {
        let exchange = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = exchange.map_err(|_| {
            Problem::new(format!("the agent at {} does not answer", self.socket.display()))
                .because(format!("waited {PATIENCE:?}"))
                .traffic("packet programs go on by themselves; the proxy does as long as the agent lives")
                .fix("see what it logs, or restart it: connections survive that")
        })??;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.garbled(error));
        }
        Err(serde_json::from_slice(&body).unwrap_or_else(|_| {
            Problem::new(format!("the agent refused {path}"))
                .because(format!("{status}: {}", String::from_utf8_lossy(&body).trim()))
                .fix("see that agent and command are of the same version: portico --version")
        }))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Problem> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| self.unreachable(&error))?;
        let broken = |error: hyper::Error| {
            Problem::new(format!(
                "the conversation with the agent at {} broke off",
                self.socket.display()
            ))
            .because(error)
            .traffic(WITHOUT_AGENT)
            .fix("see whether the agent was restarted, and try again")
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "portico")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.garbled(error))?;
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(broken)?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, error: &std::io::Error) -> Problem {
        let problem = Problem::new(format!("cannot reach the agent at {}", self.socket.display()))
            .because(error)
            .traffic(WITHOUT_AGENT);
        problem.fix(match error.kind() {
            std::io::ErrorKind::PermissionDenied => "be root or a member of group portico",
            _ => "start it (portico run), or name its socket with --socket",
        })
    }

    fn garbled(&self, error: impl std::fmt::Display) -> Problem {
        Problem::new(format!(
            "cannot understand the agent at {}",
            self.socket.display()
        ))
        .because(error)
        .fix("see that agent and command are of the same version: portico --version")
    }
}

#[cfg(test)]
mod tests;
