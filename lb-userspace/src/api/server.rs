//! The control API's server side.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::backend::{BackendRow, backends};
use super::drain::{Progress, progress, resolve};
use super::explain::{Explanation, explain};
use super::node::{NodeRow, nodes};
use super::published::Published;
use super::service::{ServiceRow, ServiceView, service, services};
use super::socket::Socket;
use super::status::{Status, status};
use super::{Agent, Problem};
use crate::jobs;
use crate::names::report::{DnsAnswer, DnsQuestion};
use crate::plane::{Difference, Question, TraceReport};

type Handle = State<Arc<dyn Agent>>;
/// 200 with the view, or 422 with the problem.
type Reply<T> = Result<Json<T>, Failure>;

/// Answers until `end` is ready, then finishes the requests it has.
pub async fn serve(
    socket: Socket,
    agent: Arc<dyn Agent>,
    end: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let (listener, _file) = socket.into_parts();
    axum::serve(listener, router(agent))
        .with_graceful_shutdown(end)
        .await
}

/// All of the API.
pub fn router(agent: Arc<dyn Agent>) -> Router {
    Router::new()
        .route("/v1/status", get(get_status))
        .route("/v1/services", get(get_services))
        .route("/v1/services/{name}", get(get_service))
        .route("/v1/backends", get(get_backends))
        .route("/v1/nodes", get(get_nodes))
        .route("/v1/published", get(get_published))
        .route("/v1/explain/{name}", get(get_explanation))
        .route("/v1/trace", post(post_trace))
        .route("/v1/dns", post(post_dns))
        .route("/v1/drain", post(post_drain).get(get_drain))
        .route("/v1/differences", get(get_differences))
        .route("/v1/sockets", get(get_sockets))
        .with_state(agent)
}

/// What to mark, and how.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// A node or a task; see [`resolve`].
    pub name: String,
    pub draining: bool,
}

#[derive(Deserialize)]
struct OfService {
    service: Option<String>,
}

#[derive(Deserialize)]
struct OfName {
    name: String,
}

async fn get_status(State(agent): Handle) -> Reply<Status> {
    blocking(move || Ok(status(&agent.facts()))).await
}

async fn get_services(State(agent): Handle) -> Reply<Vec<ServiceRow>> {
    blocking(move || Ok(services(&agent.facts()))).await
}

async fn get_service(State(agent): Handle, Path(name): Path<String>) -> Reply<ServiceView> {
    blocking(move || service(&agent.facts(), &name)).await
}

async fn get_backends(State(agent): Handle, Query(of): Query<OfService>) -> Reply<Vec<BackendRow>> {
    blocking(move || {
        let facts = agent.facts();
        let service = match &of.service {
            Some(name) => Some(&*super::service::find(&facts, name)?.name),
            None => None,
        };
        Ok(backends(&facts, service))
    })
    .await
}

async fn get_nodes(State(agent): Handle) -> Reply<Vec<NodeRow>> {
    blocking(move || Ok(nodes(&agent.facts()))).await
}

async fn get_published(State(agent): Handle) -> Reply<Published> {
    blocking(move || Ok(Published::of(&agent.facts()))).await
}

async fn get_explanation(State(agent): Handle, Path(name): Path<String>) -> Reply<Explanation> {
    blocking(move || explain(&agent.facts(), &name)).await
}

async fn post_trace(State(agent): Handle, Json(question): Json<Question>) -> Reply<TraceReport> {
    blocking(move || agent.trace(&question)).await
}

async fn post_dns(State(agent): Handle, Json(question): Json<DnsQuestion>) -> Reply<DnsAnswer> {
    blocking(move || agent.ask(question)).await
}

async fn post_drain(State(agent): Handle, Json(mark): Json<Mark>) -> Reply<Progress> {
    blocking(move || {
        let object = resolve(&agent.facts(), &mark.name)?;
        agent.mark(&object, mark.draining)?;
        Ok(progress(&agent.facts(), &object))
    })
    .await
}

async fn get_drain(State(agent): Handle, Query(of): Query<OfName>) -> Reply<Progress> {
    blocking(move || {
        let facts = agent.facts();
        Ok(progress(&facts, &resolve(&facts, &of.name)?))
    })
    .await
}

async fn get_differences(State(agent): Handle) -> Reply<Vec<Difference>> {
    blocking(move || agent.differences()).await
}

async fn get_sockets(State(agent): Handle) -> Reply<BTreeSet<u64>> {
    blocking(move || agent.sockets()).await
}

/// Views may walk through kernel tables: off the threads that answer.
async fn blocking<T: Send + 'static>(view: impl FnOnce() -> Result<T, Problem> + Send + 'static) -> Reply<T> {
    match jobs::run("answer at the control socket", view).await {
        Ok(Ok(view)) => Ok(Json(view)),
        Ok(Err(problem)) => Err(Failure(problem)),
        Err(error) => Err(Failure(
            Problem::new("the agent could not answer")
                .because(error)
                .fix("see its log, and report this as a bug"),
        )),
    }
}

/// A problem as a response: 422, for what was asked cannot be done.
struct Failure(Problem);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (StatusCode::UNPROCESSABLE_ENTITY, Json(self.0)).into_response()
    }
}
