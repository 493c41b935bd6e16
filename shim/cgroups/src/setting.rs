//! A value for a cgroup file, and writing it.

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::Error;

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Whose file it is.
    pub controller: &'static str,
    /// Name of the file.
    pub file: Cow<'static, str>,
    /// What to write.
    pub value: String,
}

/// One step of applying limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A value of its own.
    Set(Setting),
    /// Two values that limit each other: if they cannot be set in this order, then in the other.
    EitherOrder(Setting, Setting),
}

impl Setting {
    /// `value` for `file`.
    pub fn new(controller: &'static str, file: impl Into<Cow<'static, str>>, value: impl ToString) -> Self {
        Self {
            controller,
            file: file.into(),
            value: value.to_string(),
        }
    }

    fn write(&self, path: PathBuf) -> Result<(), Error> {
        match write(&path, &self.value) {
            // What the kernel does not count (swap, often) it does not limit either.
            Err(error) if error.kind() == ErrorKind::NotFound && ["-1", "max"].contains(&&*self.value) => Ok(()),
            result => result.map_err(Error::io(format!("write \"{}\" to", self.value), path)),
        }
    }
}

/// Writes to a file of a cgroup. It is never made: where it is missing the directory is no cgroup, and a file that anybody could
/// make there would limit and hold nothing.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(text.as_bytes())
}

impl Step {
    /// Writes it; `path` tells where a setting's file is.
    pub fn take(&self, path: impl Fn(&Setting) -> Result<PathBuf, Error>) -> Result<(), Error> {
        let write = |setting: &Setting| setting.write(path(setting)?);
        match self {
            Step::Set(setting) => write(setting),
            // The kernel takes neither of two values that would contradict each other for a moment, and which order
            // avoids that depends on the old values.
            Step::EitherOrder(first, second) => match write(first).and_then(|()| write(second)) {
                Ok(()) => Ok(()),
                Err(error) => write(second).and_then(|()| write(first)).map_err(|_| error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_no_cgroup_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = write(&dir.path().join("tasks"), "0").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(dir.path().read_dir().unwrap().next().is_none());
    }
}
