//! Health, switched by a file from outside, or by the program itself inside a container.

use std::path::Path;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use crate::Identity;

/// Where a container keeps that it is sick.
pub const SICK: &str = "/sick";

pub fn answer(identity: &Identity) -> Response<Full<Bytes>> {
    let file = identity.health_file.as_deref().unwrap_or(Path::new(SICK));
    let sick = file.exists();
    let (status, words) = if sick {
        (StatusCode::SERVICE_UNAVAILABLE, "sick\n")
    } else {
        (StatusCode::OK, "well\n")
    };
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response
}
