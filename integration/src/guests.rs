//! The guest programs that `integration/guests/build` makes from source, found by file name.

use std::{env, path::PathBuf};

use crate::{Error, Result, generation::cache_dir};

/// The directory of built guests: `$TANDEM_GUESTS`, or `guests` in the cache of test runs.
pub fn dir() -> PathBuf {
    env::var_os("TANDEM_GUESTS").map_or_else(|| cache_dir().join("guests"), PathBuf::from)
}

/// Path of a built guest such as `hello.wasm`.
///
/// # Errors
/// [`Error::Setup`] where it has not been built.
pub fn path(name: &str) -> Result<PathBuf> {
    let file = dir().join(name);
    if file.is_file() {
        return Ok(file);
    }
    Err(Error::Setup(format!(
        "guest {name} is not in {}; build the guests with `integration/guests/build OUT CACHE` (`make test` does) \
         or let TANDEM_GUESTS name their directory",
        dir().display(),
    )))
}

/// The bytes of a built guest.
///
/// # Errors
/// As [`path`], and where the file cannot be read.
pub fn bytes(name: &str) -> Result<Vec<u8>> {
    let file = path(name)?;
    std::fs::read(&file).map_err(Error::system("cannot read", file))
}
