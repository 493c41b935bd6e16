//! Freezing and thawing all processes of a container.

use std::path::Path;
use std::time::Duration;

use crate::Error;

/// How often the kernel is asked whether all processes have come to rest.
const TRIES: u32 = 1000;
/// Pause between two questions.
const PAUSE: Duration = Duration::from_millis(1);
/// Questions after which the write is repeated: processes that fork meanwhile may have slipped through.
const REPEAT: u32 = 25;

/// Returns when all are frozen, or fails and leaves them running.
pub fn freeze(dir: &Path) -> Result<(), Error> {
    let mut state = String::new();
    for question in 0..TRIES {
        if question % REPEAT == 0 {
            if question > 0 {
                write(dir, "THAWED")?;
            }
            write(dir, "FROZEN")?;
        }
        let path = dir.join("freezer.state");
        state = std::fs::read_to_string(&path).map_err(Error::io("read", path))?;
        if state.trim() == "FROZEN" {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    write(dir, "THAWED")?;
    Err(Error::NotFrozen {
        path: dir.to_owned(),
        state: state.trim().to_owned(),
    })
}

/// Lets them run again.
pub fn thaw(dir: &Path) -> Result<(), Error> {
    write(dir, "THAWED")
}

fn write(dir: &Path, state: &str) -> Result<(), Error> {
    let path = dir.join("freezer.state");
    std::fs::write(&path, state).map_err(Error::io(format!("write {state} to"), path))
}
