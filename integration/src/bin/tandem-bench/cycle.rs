//! One task from create to delete, as a client of containerd sees it.

use std::time::{Duration, Instant};

use tandem_integration::{Container, Error, Result};

use crate::subject::Subject;

/// The times of one task. The container and its snapshot exist before.
#[derive(Clone, Copy, Debug)]
pub struct Cycle {
    /// The call Create.
    pub create: Duration,
    /// From sending the call Start to the first byte of output.
    pub output: Duration,
    /// From sending the call Create to the first byte of output.
    pub first_byte: Duration,
    /// The call Delete, after the task's end.
    pub delete: Duration,
}

/// Runs a task and checks that it did what it should: a shim that fails must not win.
///
/// # Errors
/// The first call that failed, other output, another exit status than 0.
pub async fn cycle(container: &Container, subject: &Subject) -> Result<Cycle> {
    run(container, subject).await.map_err(|error| subject.failed(&error))
}

async fn run(container: &Container, subject: &Subject) -> Result<Cycle> {
    // Before the call is sent, the client asks for the root file system's mounts and makes FIFOs: not the runtime's.
    let mut sent = Instant::now();
    let mut task = container.task_with(|_| sent = Instant::now()).await?;
    let created = Instant::now();
    task.start().await?;
    let first = task.stdout().wait_first_byte().await;
    let exit = task.wait().await?;
    if exit.code != 0 || first.is_err() {
        let stderr = task.stderr().map(|stderr| stderr.text()).unwrap_or_default();
        return Err(Error::Setup(format!("exit status {}: {stderr}", exit.code)));
    }
    let first = first?;
    task.stdout().wait_for(subject.output).await?;
    let ended = Instant::now();
    task.delete_only().await?;
    Ok(Cycle {
        create: created - sent,
        output: first.saturating_duration_since(created),
        first_byte: first.saturating_duration_since(sent),
        delete: ended.elapsed(),
    })
}
