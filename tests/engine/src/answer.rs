//! The engine's side of the socket.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::{Fault, State};

/// Answers at `socket` until it is told to stop; then everything that is open is cut off.
pub fn serve(socket: &Path, state: Arc<State>) -> io::Result<(oneshot::Sender<()>, JoinHandle<()>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let listener = {
        let _inside = runtime.enter();
        UnixListener::bind(socket)?
    };
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new().name("engine".into()).spawn(move || {
        let answer = move |uri: Uri| answer(Arc::clone(&state), uri);
        runtime.block_on(async {
            tokio::select! {
                _ = axum::serve(listener, Router::new().fallback(answer)) => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok((stop, thread))
}

async fn answer(state: Arc<State>, uri: Uri) -> Response {
    let path = bare(uri.path()).to_owned();
    let fault = {
        let mut known = state.known();
        known.asked.push(path.clone());
        let mut faults = known.faults.iter();
        let whole = uri
            .query()
            .map_or_else(|| path.clone(), |query| format!("{path}?{query}"));
        faults
            .find(|(begin, _)| whole.starts_with(*begin))
            .map(|(_, fault)| fault.clone())
    };
    match fault {
        Some(Fault::Refuse(status, message)) => return refused(status, &message),
        Some(Fault::Nonsense(text)) => return json_text(text),
        Some(Fault::Late(time)) => tokio::time::sleep(time).await,
        Some(Fault::Hang) => std::future::pending().await,
        None => {}
    }
    if path == "/events" {
        return events(&state);
    }
    if path == "/_ping" {
        return ([("Api-Version", "1.41")], "OK").into_response();
    }
    match found(&state, &path) {
        Some(mut answer) => {
            if path == "/tasks" {
                filter(&mut answer, &uri);
            }
            let text = answer.to_string();
            *state.known().sent.entry(path).or_default() += text.len();
            json_text(text)
        }
        None => refused(404, &format!("no such thing: {path}")),
    }
}

fn found(state: &State, path: &str) -> Option<Value> {
    let known = state.known();
    if let Some(answer) = known.answers.get(path) {
        return Some(answer.clone());
    }
    if path == "/containers/json" {
        return Some(
            known
                .containers
                .values()
                .map(|container| container.listed())
                .collect(),
        );
    }
    if let Some(network) = path.strip_prefix("/networks/") {
        let networks = known.answers.get("/networks")?.as_array()?;
        let mut networks = networks.iter();
        return networks
            .find(|known| known["Name"] == network || known["Id"] == network)
            .cloned();
    }
    let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
    known.containers.get(id).map(|container| container.inspected())
}

/// Leaves the tasks that are asked for, by what is desired of them or by their ids.
fn filter(tasks: &mut Value, uri: &Uri) {
    let query = Query::<BTreeMap<String, String>>::try_from_uri(uri).unwrap_or_default();
    let filters = query
        .get("filters")
        .and_then(|filters| serde_json::from_str::<Value>(filters).ok());
    let (Some(filters), Some(tasks)) = (filters, tasks.as_array_mut()) else {
        return;
    };
    for (filter, key) in [("desired-state", "DesiredState"), ("id", "ID")] {
        if let Some(values) = filters[filter].as_array() {
            tasks.retain(|task| values.contains(&task[key]));
        }
    }
}

/// Everything that is told from now on, one to a line.
fn events(state: &State) -> Response {
    let lines = BroadcastStream::new(state.events.subscribe());
    let lines = lines.map(|line| line.map(|line| Bytes::copy_from_slice(line.as_bytes())));
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}

fn json_text(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn refused(status: u16, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, json_text(json!({ "message": message }).to_string())).into_response()
}

/// Without the version of the API: `/v1.41/info` is `/info`.
fn bare(path: &str) -> &str {
    let Some(versioned) = path.strip_prefix("/v") else {
        return path;
    };
    match versioned.find('/') {
        Some(end) if versioned.as_bytes()[0].is_ascii_digit() => &versioned[end..],
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::bare;

    #[test]
    fn the_version_of_the_api_is_no_part_of_a_path() {
        assert_eq!(bare("/v1.41/containers/json"), "/containers/json");
        assert_eq!(bare("/version"), "/version");
        assert_eq!(bare("/v1.41/version"), "/version");
        assert_eq!(bare("/volumes/x"), "/volumes/x");
    }
}
