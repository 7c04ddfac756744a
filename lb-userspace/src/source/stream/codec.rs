//! What a source wants as messages, and back: the one encoding of streams and of kept copies.
//!
//! Total in both directions: bytes from anywhere give a picture or a [`Fault`] that says where it is. What a picture may
//! hold is not judged here but by `model::validate`.

mod decode;
mod encode;
mod fault;
mod intern;
mod rules;

#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;

use super::wire::Picture;
use crate::model::Desired;

pub use fault::{Fault, Problem};

pub(super) use decode::Decoder;
pub(super) use encode::{backend, node, picture, service};

/// All of it but the guests, who are this node's own affair.
pub fn encode(desired: &Desired) -> Bytes {
    picture(desired).encode_to_vec().into()
}

/// The reverse. Whatever is as in `base` is shared with it.
pub fn decode(bytes: &[u8], base: Option<&Desired>) -> Result<Desired, Fault> {
    let picture = Picture::decode(bytes).map_err(Fault::bytes)?;
    Decoder::new(base).picture(picture)
}
