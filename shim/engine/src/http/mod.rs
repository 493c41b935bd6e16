//! Guests that serve HTTP: `wasi:http/incoming-handler` behind hyper.
//!
//! HTTP/1.1 and HTTP/2 without TLS, told apart by how the client begins, on one address of the pod's network (see
//! [`ADDRESS_VARIABLES`]). Every request has an instance of its own: no guest sees another request's memory, and a guest
//! that traps costs its own client an answer of 500 and nobody else anything.

mod addr;
mod body;
mod request;
mod server;

pub use addr::{ADDRESS_VARIABLES, DEFAULT_PORT, SPIN_PORT};
pub use server::DRAIN_GRACE;
pub(crate) use server::serve;
