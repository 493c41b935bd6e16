//! Quiet between two measurements.

use std::time::Instant;

use tandem_integration::{Containerd, Error, Leftover, Leftovers, Result, deadline};

/// Waits until every process of the tasks before has ended: a shim that is still busy with its own end would slow
/// down whoever comes next.
///
/// # Errors
/// [`Error::Leftovers`] names those that do not end.
pub async fn settle(ctd: &Containerd) -> Result<()> {
    let leftovers = Leftovers::of(ctd);
    let since = Instant::now();
    loop {
        let mut found = leftovers.found().await?;
        found.retain(|one| matches!(one, Leftover::Process { .. } | Leftover::Task(_)));
        if found.is_empty() {
            return Ok(());
        }
        if since.elapsed() > deadline::SOON {
            return Err(Error::Leftovers(found));
        }
        tokio::time::sleep(deadline::POLL).await;
    }
}
