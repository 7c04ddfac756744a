//! The messages of `proto/mesh.proto`, as they are generated.

#![allow(
    clippy::doc_markdown,
    clippy::doc_lazy_continuation,
    clippy::large_enum_variant,
    clippy::derive_partial_eq_without_eq,
    missing_docs,
    reason = "generated"
)]

tonic::include_proto!("portico.mesh.v1");
