//! `/metrics`, `/healthz` and `/readyz`, on the addresses of `[metrics] listen`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use super::metrics;
use crate::api::status::status;
use crate::api::{Agent, Facts, Problem};
use crate::jobs;

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers on `address` for as long as it is polled. An address that cannot be had is not worth ending the agent for.
pub async fn serve(address: SocketAddr, agent: Arc<dyn Agent>) {
    if let Err(error) = listen(address, agent).await {
        let problem = Problem::new(format!("cannot serve metrics on {address}"))
            .because(error)
            .fix("free the address, or set [metrics] listen in portico.toml");
        tracing::warn!("{problem}");
    }
}

async fn listen(address: SocketAddr, agent: Arc<dyn Agent>) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    axum::serve(listener, router(agent)).await
}

fn router(agent: Arc<dyn Agent>) -> Router {
    Router::new()
        .route("/metrics", get(get_metrics))
        .route("/healthz", get(|| async { "the agent runs\n" }))
        .route("/readyz", get(get_ready))
        .with_state(agent)
}

async fn get_metrics(State(agent): State<Arc<dyn Agent>>) -> Response {
    match jobs::run("tell the metrics", move || metrics::text(&agent.facts())).await {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn get_ready(State(agent): State<Arc<dyn Agent>>) -> (StatusCode, String) {
    match jobs::run("tell whether it is ready", move || ready(&agent.facts())).await {
        Ok(Ok(())) => (StatusCode::OK, "ready\n".into()),
        Ok(Err(reason)) => (StatusCode::SERVICE_UNAVAILABLE, reason),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// Ready: a source has spoken, and every plane carries out the latest snapshot.
fn ready(facts: &Facts) -> Result<(), String> {
    if facts.snapshot.generation == 0 {
        return Err("no source has given a picture yet\n".into());
    }
    let late = |plane: &&crate::api::facts::Plane| {
        plane.problem.is_some() || plane.report.generation < facts.snapshot.generation
    };
    if facts.planes.iter().any(|plane| late(&plane)) {
        let problems = status(facts).problems;
        return Err(problems.iter().map(|problem| format!("{problem}\n")).collect());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::sample;

    #[test]
    fn ready_is_who_carries_out_the_latest_snapshot() {
        let mut facts = sample::facts();
        assert_eq!(ready(&facts), Ok(()));
        facts.planes[0].report.generation = 4;
        assert!(ready(&facts).unwrap_err().starts_with("plane ebpf is behind"));
        sample::change(&mut facts, |snapshot| snapshot.generation = 0);
        assert!(ready(&facts).unwrap_err().starts_with("no source"));
    }
}
