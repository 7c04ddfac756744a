//! Health, switched by a file from outside.

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};

use crate::Identity;

pub fn answer(identity: &Identity) -> Response<Full<Bytes>> {
    let sick = identity.health_file.as_ref().is_some_and(|file| file.exists());
    let (status, words) = if sick {
        (StatusCode::SERVICE_UNAVAILABLE, "sick\n")
    } else {
        (StatusCode::OK, "well\n")
    };
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = status;
    response
}
