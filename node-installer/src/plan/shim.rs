//! The shim to be installed, and the versions of it on the host.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::desired::{parents, push};
use crate::{
    error::{Error, Result},
    host::Host,
    options::Options,
    txn::{DesiredPath, DesiredState, Record, Role, Version, digest_of_file},
};

/// Digits of the digest in a version's name: enough to tell builds of one version apart.
const NAME_DIGITS: usize = 12;
/// The shim prints its version at once.
const LIMIT: Duration = Duration::from_secs(20);

/// A shim that lies in this process's file system, ready to be installed.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Where it lies.
    pub source: PathBuf,
    /// SHA-256 of it.
    pub digest: String,
    /// Its own version.
    pub version: String,
    /// Name of its directory on the host.
    pub name: String,
}

impl Candidate {
    /// Reads the shim's digest and asks it for its version.
    ///
    /// # Errors
    /// A shim that is missing or does not run.
    pub async fn read(source: &Path) -> Result<Self> {
        let digest = digest_of_file(source).map_err(Error::io("read the shim", source))?;
        let text = Host::new("/").run(source, &["-v"], LIMIT).await?.success()?;
        let version = version_of(&text).ok_or_else(|| Error::Command {
            command: format!("{} -v", source.display()),
            why: format!("printed no version: {}", text.trim()),
        })?;
        Ok(Self {
            source: source.to_owned(),
            name: format!("{version}-{}", &digest[..NAME_DIGITS]),
            digest,
            version,
        })
    }

    /// Adds its file and directories to what is desired.
    pub(super) fn add_to(&self, host: &Host, options: &Options, desired: &mut Vec<DesiredPath>) -> Result<()> {
        let file = options.version_file(&self.name);
        parents(host, &file, desired)?;
        let program = DesiredState::Program {
            source: self.source.clone(),
            digest: self.digest.clone(),
        };
        push(desired, &file, Role::File, program, None);
        Ok(())
    }

    /// Makes it the current version of a record.
    pub(super) fn become_current(&self, record: &mut Record) {
        record.rolled_back_from = None;
        if record.current().is_some_and(|current| current.digest == self.digest) {
            return;
        }
        let now = now();
        record.versions.retain(|version| version.digest != self.digest);
        if let Some(current) = record.versions.last_mut() {
            current.retired = Some(now);
        }
        record.versions.push(Version {
            name: self.name.clone(),
            digest: self.digest.clone(),
            retired: None,
        });
    }
}

/// The version in what `containerd-shim-… -v` prints: the word after `Version:`, else the first that starts with a
/// digit. It becomes part of a path.
fn version_of(text: &str) -> Option<String> {
    let mut words = text.split_whitespace().map(|word| word.trim_start_matches('v'));
    let word = words.find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'))?;
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    (word.len() <= 64 && word.chars().all(harmless)).then(|| word.to_owned())
}

/// Versions that no pod can need: neither the current one nor the one before it (to which a rollback goes), not in use
/// by any process, and retired before the oldest of the pods that still run was started.
///
/// A version is in use while the kernel refuses to open it for writing ("text file busy"). Kernels 6.11 to 6.12.1 do
/// not refuse, hence the pods' age; processes outside of CRI have no such age, hence the kernel. Neither needs to see
/// the host's processes.
pub fn obsolete<'a>(host: &Host, options: &Options, record: &'a Record, oldest_pod: Option<i64>) -> Vec<&'a Version> {
    let spared: HashSet<&str> = record
        .versions
        .iter()
        .rev()
        .take(2)
        .map(|version| version.name.as_str())
        .collect();
    let free = |version: &&Version| {
        let Some(retired) = version.retired else { return false };
        let busy = host
            .path(&options.version_file(&version.name))
            .is_ok_and(|path| is_busy(&path));
        !spared.contains(version.name.as_str()) && !busy && oldest_pod.is_none_or(|oldest| oldest > retired)
    };
    record.versions.iter().filter(free).collect()
}

fn is_busy(file: &Path) -> bool {
    let open = std::fs::OpenOptions::new().write(true).open(file);
    open.is_err_and(|error| error.raw_os_error() == Some(libc::ETXTBSY))
}

/// Nanoseconds since 1970, as CRI counts them.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn record(retired: &[Option<i64>]) -> Record {
        let mut record = Record::new("1", "test");
        let version = |(index, retired): (usize, &Option<i64>)| Version {
            name: format!("v{index}"),
            digest: format!("{index}"),
            retired: *retired,
        };
        record.versions = retired.iter().enumerate().map(version).collect();
        record
    }

    fn names(record: &Record, oldest: Option<i64>, root: &Path) -> Vec<String> {
        let found = obsolete(&Host::tree(root), &Options::default(), record, oldest);
        found.into_iter().map(|version| version.name.clone()).collect()
    }

    #[test]
    fn the_current_version_and_the_one_before_it_are_kept() {
        let root = tempfile::tempdir().unwrap();
        let record = record(&[Some(1), Some(2), Some(3), None]);
        assert_eq!(names(&record, None, root.path()), ["v0", "v1"]);
    }

    #[test]
    fn a_version_stays_while_a_pod_from_its_time_runs() {
        let root = tempfile::tempdir().unwrap();
        let record = record(&[Some(10), Some(20), Some(30), None]);
        assert_eq!(names(&record, Some(15), root.path()), ["v0"]);
        assert!(names(&record, Some(5), root.path()).is_empty());
    }

    #[test]
    fn a_version_stays_while_a_process_runs_it() {
        let root = tempfile::tempdir().unwrap();
        let record = record(&[Some(1), Some(2), None]);
        let file = root.path().join("opt/tandem/versions/v0/containerd-shim-tandem-v1");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::copy("/bin/sleep", &file).unwrap();
        let mut process = std::process::Command::new(&file).arg("30").spawn().unwrap();
        let found = names(&record, None, root.path());
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(found.is_empty());
        assert_eq!(names(&record, None, root.path()), ["v0"]);
    }

    #[test]
    fn only_a_harmless_version_becomes_a_path() {
        assert_eq!(
            version_of("containerd-shim-tandem-v1:\n  Version:  0.1.0\n").unwrap(),
            "0.1.0"
        );
        assert_eq!(version_of("v1.2.3-rc.1+build"), Some("1.2.3-rc.1+build".into()));
        assert_eq!(version_of("1.0/../../etc"), None);
        assert_eq!(version_of("no version"), None);
    }
}
