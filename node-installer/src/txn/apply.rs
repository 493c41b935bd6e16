//! Doing and undoing the changes of an operation.

use std::path::{Path, PathBuf};

use super::{
    Change, Journal, Role, State, Store, Writer, digest,
    durable::{self, Source},
    state::digest_of_file,
};
use crate::{
    error::{Error, Result},
    host::Host,
};

/// What is to be at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredState {
    /// Nothing.
    Absent,
    /// A file of this content. An existing file's owner and mode are kept.
    Text(Vec<u8>),
    /// An executable copy of a file of this process's file system, if that still is what it was when it was read.
    Program {
        /// The file.
        source: PathBuf,
        /// SHA-256 of it.
        digest: String,
    },
    /// A symbolic link.
    Link(PathBuf),
    /// A directory.
    Dir,
}

/// A path of the host with what is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredPath {
    /// The path on the host.
    pub path: PathBuf,
    /// What it is for.
    pub role: Role,
    /// What is to be there.
    pub state: DesiredState,
    /// The content that there would be without Tandem, where that is not what there is now.
    pub pristine: Option<Vec<u8>>,
}

/// Compares what is to be with what is on the host. Paths that are as desired already are left out. Nothing is written.
///
/// # Errors
/// What cannot be read.
pub fn compare(host: &Host, store: &Store, desired: &[DesiredPath]) -> Result<Vec<Change>> {
    let record = store.record()?;
    let mut changes = Vec::new();
    for item in desired {
        let before = State::of(host, &item.path)?;
        let after = expected(&item.state, &before)?;
        if before == after {
            continue;
        }
        let known = record.as_ref().and_then(|record| record.change(&item.path));
        let pristine = match (&item.pristine, known, &before) {
            (Some(bytes), _, State::File { mode, owner, .. }) => State::File {
                digest: digest(bytes),
                mode: *mode,
                owner: *owner,
            },
            (None, Some(known), _) => known.pristine.clone(),
            _ => before.clone(),
        };
        changes.push(Change {
            path: item.path.clone(),
            role: item.role,
            before,
            after,
            pristine,
        });
    }
    Ok(changes)
}

/// As [`compare`], and keeps a copy of every file that will be replaced and of every pristine text.
///
/// # Errors
/// What cannot be read or copied; only the store was written.
pub fn prepare(host: &Host, store: &Writer, desired: &[DesiredPath]) -> Result<Vec<Change>> {
    let changes = compare(host, store, desired)?;
    for change in &changes {
        let State::File { digest: before, .. } = &change.before else {
            continue;
        };
        store.keep(&host.path_of_link(&change.path)?, before)?;
        let item = desired.iter().find(|item| item.path == change.path);
        if let Some(bytes) = item.and_then(|item| item.pristine.as_deref()) {
            store.keep_bytes(bytes)?;
        }
    }
    Ok(changes)
}

fn expected(desired: &DesiredState, before: &State) -> Result<State> {
    let (mode, owner) = match before {
        State::File { mode, owner, .. } => (*mode, *owner),
        _ => (0o644, (0, 0)),
    };
    Ok(match desired {
        DesiredState::Absent => State::Absent,
        DesiredState::Text(bytes) => State::File {
            digest: digest(bytes),
            mode,
            owner,
        },
        DesiredState::Program { digest, .. } => State::File {
            digest: digest.clone(),
            mode: 0o755,
            owner: (0, 0),
        },
        DesiredState::Link(target) => State::Link { target: target.clone() },
        DesiredState::Dir => State::Dir,
    })
}

impl Journal {
    /// Makes every change that is not made yet.
    ///
    /// # Errors
    /// The first change that fails; [`Journal::undo`] goes back from there.
    pub fn apply(&self, host: &Host, store: &Writer, desired: &[DesiredPath], label_from: Option<&Path>) -> Result<()> {
        for change in &self.changes {
            let item = desired.iter().find(|item| item.path == change.path);
            let path = host.path_of_link(&change.path)?;
            match (&change.after, item.map(|item| &item.state)) {
                (State::File { mode, owner, .. }, Some(DesiredState::Text(bytes))) => {
                    // An edited file keeps its own label; a new one gets its directory's by the policy.
                    let label = path.exists().then_some(path.as_path());
                    durable::replace(&path, &Source::Bytes(bytes), *mode, Some(*owner), label)?;
                }
                (State::File { digest, mode, owner }, Some(DesiredState::Program { source, .. })) => {
                    durable::replace(&path, &Source::File(source), *mode, Some(*owner), label_from)?;
                    let found = digest_of_file(&path).map_err(Error::io("read", &path))?;
                    if found != *digest {
                        let why = std::io::Error::other(format!("its digest is {found} after the copy, not {digest}"));
                        return Err(Error::io("install", path)(why));
                    }
                }
                (after, _) => put(store, &path, after)?,
            }
        }
        Ok(())
    }

    /// Goes back to what was before, from whatever point the operation was stopped at. Answers the paths that somebody
    /// else has changed since and that were left alone.
    ///
    /// # Errors
    /// A change that cannot be undone.
    pub fn undo(&self, host: &Host, store: &Writer) -> Result<Vec<PathBuf>> {
        let mut foreign = Vec::new();
        for change in self.changes.iter().rev() {
            let path = host.path_of_link(&change.path)?;
            durable::discard(&durable::temporary(&path))?;
            let now = State::of(host, &change.path)?;
            if now == change.before {
                continue;
            }
            if now == change.after {
                put(store, &path, &change.before)?;
            } else {
                foreign.push(change.path.clone());
            }
        }
        Ok(foreign)
    }

    /// Whether every change is made and nobody has changed anything since.
    ///
    /// # Errors
    /// Where something cannot be read.
    pub fn is_applied(&self, host: &Host) -> Result<bool> {
        for change in &self.changes {
            if State::of(host, &change.path)? != change.after {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Makes `path` be `state`, files from the store's copies.
fn put(store: &Store, path: &Path, state: &State) -> Result<()> {
    match state {
        State::Absent => match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => durable::discard_dir(path).map(|_| ()),
            _ => durable::discard(path),
        },
        State::File { digest, mode, owner } => {
            let copy = store.copy_of(digest)?;
            let label = path.exists().then_some(path);
            durable::replace(path, &Source::File(&copy), *mode, Some(*owner), label)
        }
        State::Link { target } => durable::link(path, target),
        State::Dir => durable::make_dir(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::Operation;
    use std::fs;

    struct Fixture {
        dir: tempfile::TempDir,
        host: Host,
        store: Writer,
    }

    fn fixture() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::tree(dir.path());
        let store = Store::new(&host, Path::new("/var/lib/tandem/install")).lock().unwrap();
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/config.toml"), "old").unwrap();
        Fixture { dir, host, store }
    }

    fn text(path: &str, content: &str) -> DesiredPath {
        DesiredPath {
            path: path.into(),
            role: Role::Config,
            state: DesiredState::Text(content.into()),
            pristine: None,
        }
    }

    fn desired_paths() -> Vec<DesiredPath> {
        let dir = DesiredPath {
            path: "/etc/conf.d".into(),
            role: Role::File,
            state: DesiredState::Dir,
            pristine: None,
        };
        vec![
            dir,
            text("/etc/conf.d/tandem.toml", "ours"),
            text("/etc/config.toml", "new"),
        ]
    }

    #[test]
    fn an_operation_stopped_after_any_number_of_changes_is_undone() {
        for done in 0..=3 {
            let f = fixture();
            let changes = prepare(&f.host, &f.store, &desired_paths()).unwrap();
            let journal = Journal::new(Operation::Install, "t", changes, None);
            f.store.write_journal(&journal).unwrap();
            let mut partial = journal.clone();
            partial.changes.truncate(done);
            partial.apply(&f.host, &f.store, &desired_paths(), None).unwrap();
            assert_eq!(journal.undo(&f.host, &f.store).unwrap(), [] as [PathBuf; 0]);
            assert_eq!(fs::read_to_string(f.dir.path().join("etc/config.toml")).unwrap(), "old");
            assert!(!f.dir.path().join("etc/conf.d").exists());
        }
    }

    #[test]
    fn what_is_as_wanted_already_is_no_change() {
        let f = fixture();
        let changes = prepare(&f.host, &f.store, &desired_paths()).unwrap();
        Journal::new(Operation::Install, "t", changes, None)
            .apply(&f.host, &f.store, &desired_paths(), None)
            .unwrap();
        assert_eq!(prepare(&f.host, &f.store, &desired_paths()).unwrap(), []);
    }

    #[test]
    fn a_file_that_somebody_else_changed_is_left_alone_and_named() {
        let f = fixture();
        let changes = prepare(&f.host, &f.store, &desired_paths()).unwrap();
        let journal = Journal::new(Operation::Install, "t", changes, None);
        journal.apply(&f.host, &f.store, &desired_paths(), None).unwrap();
        fs::write(f.dir.path().join("etc/config.toml"), "theirs").unwrap();
        let foreign = journal.undo(&f.host, &f.store).unwrap();
        assert_eq!(foreign, [Path::new("/etc/config.toml")]);
        assert_eq!(
            fs::read_to_string(f.dir.path().join("etc/config.toml")).unwrap(),
            "theirs"
        );
        assert!(!f.dir.path().join("etc/conf.d").exists());
    }

    #[test]
    fn copies_live_as_long_as_somebody_may_need_them() {
        let f = fixture();
        let changes = prepare(&f.host, &f.store, &desired_paths()).unwrap();
        let mut record = crate::txn::Record::new("1", "test");
        changes.iter().for_each(|change| record.absorb(change));
        let journal = Journal::new(Operation::Install, "t", changes, Some(record));
        f.store.write_journal(&journal).unwrap();
        f.store.commit(&journal).unwrap();
        assert_eq!(f.store.read_copy(&digest(b"old")).unwrap(), b"old");
        assert!(f.store.journal().unwrap().is_none());
        let gone = Journal::new(Operation::Uninstall, "t", Vec::new(), None);
        f.store.commit(&gone).unwrap();
        assert!(f.store.read_copy(&digest(b"old")).is_err());
    }
}
