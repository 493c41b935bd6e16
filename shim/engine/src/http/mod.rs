//! Guests that serve HTTP: `wasi:http/incoming-handler` behind hyper.
//!
//! HTTP/1.1 and HTTP/2 without TLS, told apart by how the client begins, on one address of the pod's network (see
//! [`ADDRESS_VARIABLES`]). Every request has an instance of its own: no guest sees another request's memory, and a guest
//! that traps costs its own client an answer of 500 and nobody else anything.

//!
//! # What one client can do
//!
//! A client may be slow, silent or hostile, and there may be many of it. So whatever waits for a client has its time
//! ([`HttpLimits`]), and whatever there is only so much of goes to the next in line by one rule: **what has waited longest
//! for its client makes room**. For a connection that is an idle one first; for a guest, one whose client is gone, then one
//! whose client neither sends nor takes. A client that keeps its side moving is never cut short by another one.

mod addr;
mod body;
mod connection;
mod guests;
mod host;
mod limits;
mod listener;
mod request;
mod server;

pub use addr::{ADDRESS_VARIABLES, DEFAULT_PORT, SPIN_PORT};
pub use limits::HttpLimits;
pub use server::DRAIN_GRACE;
pub(crate) use server::serve;
