//! The one error type that leaves the shim: a category that becomes a gRPC code, and a sentence that
//! reaches `kubectl describe`.

use containerd_shim_protos::ttrpc::{self, Code};
use serde::{Deserialize, Serialize};
use tandem_confine::Class;

/// Category of a failure; each maps to exactly one gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// What the caller sent (request, bundle, options, image) cannot work however often it is retried.
    InvalidArgument,
    /// The named container, process or file does not exist.
    NotFound,
    /// A container of that id exists already.
    AlreadyExists,
    /// The object exists but is not in the state that the call needs.
    FailedPrecondition,
    /// The node lacks the resources (disk, memory, time) that the call needs.
    ResourceExhausted,
    /// A peer (containerd) cannot be reached at the moment.
    Unavailable,
    /// The shim does not offer this call.
    Unimplemented,
    /// The host or the shim failed.
    Internal,
}

/// A failure as containerd and a person see it: what failed, on which object, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Category, for the status code.
    pub kind: Kind,
    /// One sentence; no trailing full stop.
    pub message: String,
}

/// Result of everything that can end in a reply to containerd.
pub type Result<T> = std::result::Result<T, Fault>;

macro_rules! constructors {
    ($($name:ident => $kind:ident),+ $(,)?) => {
        impl Fault {
            $(
                #[doc = concat!("A fault of kind [`Kind::", stringify!($kind), "`].")]
                pub fn $name(message: impl Into<String>) -> Self {
                    Self { kind: Kind::$kind, message: message.into() }
                }
            )+
        }
    };
}

constructors! {
    invalid => InvalidArgument,
    not_found => NotFound,
    exists => AlreadyExists,
    precondition => FailedPrecondition,
    exhausted => ResourceExhausted,
    unavailable => Unavailable,
    unimplemented => Unimplemented,
    internal => Internal,
}

/// Longest message that is passed on, in bytes: names of a hostile image may be any length.
const MAX_MESSAGE: usize = 4096;

impl Fault {
    /// The same fault with a message of a length that a person can read and every channel can carry.
    #[must_use]
    pub fn shortened(mut self) -> Self {
        if self.message.len() > MAX_MESSAGE {
            let end = self.message.floor_char_boundary(MAX_MESSAGE);
            self.message.truncate(end);
            self.message.push('…');
        }
        self
    }
}

impl From<Fault> for ttrpc::Error {
    fn from(fault: Fault) -> Self {
        let fault = fault.shortened();
        let code = match fault.kind {
            Kind::InvalidArgument => Code::INVALID_ARGUMENT,
            Kind::NotFound => Code::NOT_FOUND,
            Kind::AlreadyExists => Code::ALREADY_EXISTS,
            Kind::FailedPrecondition => Code::FAILED_PRECONDITION,
            Kind::ResourceExhausted => Code::RESOURCE_EXHAUSTED,
            Kind::Unavailable => Code::UNAVAILABLE,
            Kind::Unimplemented => Code::UNIMPLEMENTED,
            Kind::Internal => Code::INTERNAL,
        };
        ttrpc::Error::RpcStatus(ttrpc::get_status(code, fault.message))
    }
}

impl From<tandem_confine::Error> for Fault {
    fn from(error: tandem_confine::Error) -> Self {
        let kind = match error.class {
            Class::Invalid => Kind::InvalidArgument,
            Class::NotFound => Kind::NotFound,
            Class::Precondition => Kind::FailedPrecondition,
            Class::Exhausted => Kind::ResourceExhausted,
            Class::Unavailable => Kind::Unavailable,
            Class::Unsupported => Kind::Unimplemented,
            Class::Internal => Kind::Internal,
        };
        let message = error.to_string();
        Self { kind, message }
    }
}

impl From<Fault> for tandem_confine::Error {
    fn from(fault: Fault) -> Self {
        let class = match fault.kind {
            Kind::InvalidArgument => Class::Invalid,
            Kind::NotFound => Class::NotFound,
            Kind::AlreadyExists | Kind::FailedPrecondition => Class::Precondition,
            Kind::ResourceExhausted => Class::Exhausted,
            Kind::Unavailable => Class::Unavailable,
            Kind::Unimplemented => Class::Unsupported,
            Kind::Internal => Class::Internal,
        };
        // What it is about is the beginning of its sentence.
        let shortened = fault.shortened().message;
        let (what, why) = shortened.split_once(": ").unwrap_or((&shortened, ""));
        Self::new(class, what, why)
    }
}

/// Renders an error with all its causes (`outer: inner: innermost`), each once: libraries often repeat the
/// cause in their own message.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reaches_containerd_with_its_code_and_message() {
        let error: ttrpc::Error = Fault::invalid("no args").into();
        match error {
            ttrpc::Error::RpcStatus(status) => {
                assert_eq!(status.code(), Code::INVALID_ARGUMENT);
                assert_eq!(status.message(), "no args");
            }
            other => panic!("not a status: {other:?}"),
        }
    }

    #[test]
    fn a_message_of_any_length_is_cut_to_one_that_can_be_read() {
        assert_eq!(Fault::invalid("short").shortened().message, "short");
        for pad in 0..4 {
            let long = "x".repeat(pad) + &"ü€😀".repeat(10_000);
            let cut = Fault::invalid(long.clone()).shortened().message;
            assert!(cut.len() <= MAX_MESSAGE + '…'.len_utf8() && cut.ends_with('…'));
            assert!(long.starts_with(cut.trim_end_matches('…')));
        }
    }

    #[test]
    fn a_chain_names_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: inner")]
        struct Outer(#[source] Inner);
        #[derive(Debug, thiserror::Error)]
        #[error("inner")]
        struct Inner(#[source] std::fmt::Error);
        let text = chain(&Outer(Inner(std::fmt::Error)));
        assert_eq!(text, format!("outer: inner: {}", std::fmt::Error));
    }
}
