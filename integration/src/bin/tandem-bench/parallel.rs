//! Tasks per second with several at a time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use tandem_integration::{Container, Containerd, Error, Result};
use tokio::task::JoinSet;

use crate::{cycle::cycle, samples::Samples, settle::settle, subject::Subject};

/// Tasks at a time.
pub const WORKERS: usize = 8;
/// Tasks of one batch.
pub const TASKS: usize = 64;

/// Measures batches, the subjects in turn; tasks per second in the order of `subjects`.
///
/// # Errors
/// The first task that failed, or a shim that did not end.
pub async fn measure(ctd: &Containerd, subjects: &[Subject], batches: usize) -> Result<Vec<Samples>> {
    let mut rates = vec![Samples::default(); subjects.len()];
    for number in 1..=batches {
        eprintln!("  {WORKERS} in parallel, batch {number} of {batches}");
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            rates.add(batch(ctd, subject).await?);
        }
    }
    Ok(rates)
}

/// Whole cycles, from create to delete, per second.
async fn batch(ctd: &Containerd, subject: &Subject) -> Result<f64> {
    let mut containers = Vec::new();
    for _ in 0..TASKS {
        containers.push(subject.container(ctd).await?);
    }
    let queue = Arc::new(Mutex::new(containers));
    let mut workers = JoinSet::new();
    let since = Instant::now();
    for _ in 0..WORKERS {
        workers.spawn(work(queue.clone(), subject.clone()));
    }
    let mut done = Vec::new();
    while let Some(worked) = workers.join_next().await {
        done.extend(worked.map_err(|cause| Error::Setup(format!("a worker: {cause}")))??);
    }
    let took = since.elapsed();
    let rate = done.len() as f64 / took.as_secs_f64();
    for container in done {
        container.remove().await?;
    }
    settle(ctd).await.map_err(|error| subject.failed(&error))?;
    Ok(rate)
}

/// Runs tasks until the queue is empty; answers the containers that are done with.
async fn work(queue: Arc<Mutex<Vec<Container>>>, subject: Subject) -> Result<Vec<Container>> {
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut done = Vec::new();
    while let Some(container) = next() {
        cycle(&container, &subject).await?;
        done.push(container);
    }
    Ok(done)
}
