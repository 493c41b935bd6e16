//! Times of single tasks: the runtimes take turns, one task each per round.

use std::time::Duration;

use tandem_integration::{Containerd, Result};

use crate::{
    cycle::{Cycle, cycle},
    samples::Samples,
    settle::settle,
    subject::Subject,
};

/// Tasks that each subject runs before anything is measured: the first fills the caches of compiled code.
const WARM_UPS: usize = 3;

/// The times of one subject's tasks, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Latency {
    /// See [`Cycle::create`].
    pub create: Samples,
    /// See [`Cycle::output`].
    pub output: Samples,
    /// See [`Cycle::first_byte`].
    pub first_byte: Samples,
    /// See [`Cycle::delete`].
    pub delete: Samples,
}

impl Latency {
    fn add(&mut self, cycle: Cycle) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        self.create.add(ms(cycle.create));
        self.output.add(ms(cycle.output));
        self.first_byte.add(ms(cycle.first_byte));
        self.delete.add(ms(cycle.delete));
    }
}

/// Runs every subject until its caches are warm.
///
/// # Errors
/// The first task that failed.
pub async fn warm_up(ctd: &Containerd, subjects: &[Subject]) -> Result<()> {
    measure(ctd, subjects, WARM_UPS).await.map(drop)
}

/// Measures in rounds; the answer is in the order of `subjects`.
///
/// # Errors
/// The first task that failed, or a shim that did not end.
pub async fn measure(ctd: &Containerd, subjects: &[Subject], rounds: usize) -> Result<Vec<Latency>> {
    let mut latencies = vec![Latency::default(); subjects.len()];
    for round in 0..rounds {
        if round % 10 == 0 {
            eprintln!("  round {} of {rounds}", round + 1);
        }
        for index in order(round, subjects.len()) {
            let cycle = alone(ctd, &subjects[index]).await?;
            latencies[index].add(cycle);
        }
    }
    Ok(latencies)
}

/// Every round begins with another subject, and every second one goes backwards, so that none has always the same
/// neighbour before it: what that one left to the kernel to do comes out of the next one's time.
fn order(round: usize, subjects: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..subjects).collect();
    if subjects > 0 {
        order.rotate_left(round % subjects);
    }
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// Runs a task with nothing else going on: the shim before must have gone.
async fn alone(ctd: &Containerd, subject: &Subject) -> Result<Cycle> {
    let container = subject.container(ctd).await?;
    let cycle = cycle(&container, subject).await?;
    container.remove().await?;
    settle(ctd).await.map_err(|error| subject.failed(&error))?;
    Ok(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_subject_once() {
        for round in 0..12 {
            let mut order = order(round, 6);
            order.sort_unstable();
            assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        }
    }

    #[test]
    fn the_subject_before_changes_from_round_to_round() {
        assert_eq!(order(0, 3), [0, 1, 2]);
        assert_eq!(order(1, 3), [0, 2, 1]);
        assert_eq!(order(2, 3), [2, 0, 1]);
    }
}
