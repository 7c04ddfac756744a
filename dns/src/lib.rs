//! Portico's name server: answers for the services of a [directory](https://en.wikipedia.org/wiki/Directory_service)
//! and forwards the rest. Nothing is served yet; the crate holds the place that `lb-userspace` will depend on.
