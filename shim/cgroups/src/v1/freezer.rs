//! Freezing and thawing all processes of a container.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::{Error, setting};

/// How long the processes may take to come to rest. Each has to run once more for it, on a node that may be busy.
const LIMIT: Duration = Duration::from_secs(10);
/// Pause between two questions whether they have.
const PAUSE: Duration = Duration::from_millis(1);
/// After this time the write is repeated: processes that fork meanwhile may have slipped through. The next time is
/// twice as long, as those that only wait for their turn to run begin anew.
const REPEAT: Duration = Duration::from_millis(25);

/// Returns when all are frozen, or fails and leaves them running.
pub fn freeze(dir: &Path) -> Result<(), Error> {
    let frozen = come_to_rest(dir);
    if frozen.is_err() {
        let _ = thaw(dir);
    }
    frozen
}

fn come_to_rest(dir: &Path) -> Result<(), Error> {
    let path = dir.join("freezer.state");
    let since = Instant::now();
    let (mut repeat, mut written) = (REPEAT, since);
    begin(dir)?;
    loop {
        let state = std::fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        if since.elapsed() > LIMIT {
            return Err(Error::NotFrozen {
                path: dir.to_owned(),
                state: state.trim().to_owned(),
            });
        }
        if written.elapsed() > repeat {
            write(dir, "THAWED")?;
            write(dir, "FROZEN")?;
            (repeat, written) = (repeat * 2, Instant::now());
        }
        std::thread::sleep(PAUSE);
    }
}

/// Has them come to rest, and does not wait for it.
pub fn begin(dir: &Path) -> Result<(), Error> {
    write(dir, "FROZEN")
}

/// Lets them run again.
pub fn thaw(dir: &Path) -> Result<(), Error> {
    write(dir, "THAWED")
}

fn write(dir: &Path, state: &str) -> Result<(), Error> {
    let path = dir.join("freezer.state");
    setting::write(&path, state).map_err(Error::io(format!("write {state} to"), path))
}
