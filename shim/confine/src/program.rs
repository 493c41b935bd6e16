//! What a confined process runs, and what it may ask of the runtime while it gets ready.

use std::convert::Infallible;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use oci_spec::runtime::Process;

use crate::error::{Class, Error, Result};
use crate::gate::Gate;
use crate::line::Message;

/// A question of the program to the runtime, which has rights that the program has no more.
pub type Question = serde_json::Value;
/// The answer, with descriptors.
pub type Answer = (serde_json::Value, Vec<OwnedFd>);

/// What a confined process is to run.
pub trait Program {
    /// Descriptors that it needs when it gets ready. All others of the runtime's are closed by then: names of a hostile image
    /// could lead through them.
    fn descriptors(&self) -> Vec<RawFd>;

    /// Gets ready, in the confined process. What fails here is an error of the call that made the process.
    fn prepare(&mut self, confined: &mut Confined) -> Result<()>;

    /// Becomes the program. Where that fails after the start there is nobody to tell but the container's own output, and
    /// the process ends with the code that a shell would give.
    fn run(self, confined: Confined) -> Result<Infallible>;
}

/// A process that has only the container's rights left.
#[derive(Debug)]
pub struct Confined {
    /// Its section of the spec.
    pub process: Process,
    /// Its environment, in the spec's order.
    pub env: Vec<String>,
    /// What it has to wait for before it may run.
    pub gate: Gate,
}

impl Confined {
    /// Asks the runtime, and waits for the answer.
    pub fn ask(&self, question: Question, fds: &[BorrowedFd<'_>]) -> Result<Answer> {
        let line = self.gate.line()?;
        line.send(&Message::Program(question), fds)?;
        match line.receive()? {
            Some((Message::Program(answer), fds)) => Ok((answer, fds)),
            Some((Message::Failed(error), _)) => Err(error),
            _ => Err(gone()),
        }
    }
}

/// The runtime has ended, or is at something else.
pub fn gone() -> Error {
    Error::new(
        Class::Internal,
        "go on with the container",
        "the runtime's process that makes it has ended",
    )
}

/// Descriptors to be sent.
pub fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
