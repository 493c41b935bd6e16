//! One task from create to delete, as a client of containerd sees it.

use std::time::{Duration, Instant};

use tandem_integration::{Container, Error, Result, Task};

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

/// Runs a task and checks that it did what it should: a shim that fails must not win. A peer's task that failed is
/// run again, see [`Subject::excuse`].
///
/// # Errors
/// The first call that failed, other output, another exit status than 0.
pub async fn cycle(container: &Container, subject: &Subject) -> Result<Cycle> {
    loop {
        match attempt(container, subject).await {
            Ok(cycle) => return Ok(cycle),
            Err(error) => subject.excuse(error)?,
        }
    }
}

async fn attempt(container: &Container, subject: &Subject) -> Result<Cycle> {
    // Before the call is sent, the client asks for the root file system's mounts and makes FIFOs: not the runtime's.
    let mut sent = Instant::now();
    let mut task = container.task_with(|_| sent = Instant::now()).await?;
    let created = Instant::now();
    let first = match run(&mut task, subject).await {
        Ok(first) => first,
        Err(error) => {
            // The failure is what counts, not what its task says to being taken away.
            let _ = task.kill(9).await;
            let _ = task.wait().await;
            let _ = task.delete_only().await;
            return Err(error);
        }
    };
    let ended = Instant::now();
    task.delete_only().await?;
    Ok(Cycle {
        create: created - sent,
        output: first.saturating_duration_since(created),
        first_byte: first.saturating_duration_since(sent),
        delete: ended.elapsed(),
    })
}

/// Starts a task and waits for its end; answers when its first byte came.
async fn run(task: &mut Task, subject: &Subject) -> Result<Instant> {
    task.start().await?;
    let first = task.stdout().wait_first_byte().await;
    let exit = task.wait().await?;
    if exit.code != 0 || first.is_err() {
        let stderr = task.stderr().map(|stderr| stderr.text()).unwrap_or_default();
        return Err(Error::Setup(format!("exit status {}: {stderr}", exit.code)));
    }
    task.stdout().wait_for(subject.output).await?;
    first
}
