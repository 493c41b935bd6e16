//! A staged copy of the configuration, which the host's own containerd is asked about. The exit status of
//! `containerd config dump` proves nothing (it is 0 with a dangling import that stops the daemon, and with a drop-in
//! that is ignored): what counts is what it prints.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use toml_edit::{Array, DocumentMut, value};

use super::{Effective, Format, Version, format, imports};
use crate::{
    error::{Error, Result},
    host::Host,
};

/// `config dump` answers in milliseconds; a loaded node may be a thousand times slower.
const LIMIT: Duration = Duration::from_secs(30);

/// The host's containerd program.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its path on the host.
    pub path: PathBuf,
    /// Its version.
    pub version: Version,
}

impl Program {
    /// Asks the program for its version.
    ///
    /// # Errors
    /// A program that does not run or prints no version.
    pub async fn ask(host: &Host, path: &Path) -> Result<Self> {
        let text = host.run(path, &["--version"], LIMIT).await?.success()?;
        let version = Version::parse(&text).ok_or_else(|| Error::Command {
            command: format!("{} --version", path.display()),
            why: format!("printed no version: {}", text.trim()),
        })?;
        Ok(Self {
            path: path.to_owned(),
            version,
        })
    }

    /// Prints what containerd makes of the configuration file `path` of the host.
    async fn dump(&self, host: &Host, path: &Path) -> Result<Effective> {
        let path = host.seen_by_programs(path).to_string_lossy().into_owned();
        let args = ["--config", path.as_str(), "config", "dump"];
        let text = host.run(&self.path, &args, LIMIT).await?.success();
        let text = text.map_err(|error| Error::Validation(error.to_string()))?;
        Effective::parse(&text)
    }
}

/// A configuration to be looked at: the text of a root file that may not exist, and files imported beside those that
/// it imports already.
#[derive(Clone, Debug)]
pub struct Staged<'a> {
    /// The root file's place on the host: relative imports count from there.
    pub root: &'a Path,
    /// Its text.
    pub text: &'a str,
    /// Files that exist but are to be left out.
    pub without: &'a [PathBuf],
    /// The text of one more import.
    pub drop_in: Option<&'a str>,
}

impl Staged<'_> {
    /// Writes the copy into `dir` of the host, asks containerd, and removes the copy.
    ///
    /// # Errors
    /// A containerd that refuses it.
    pub async fn evaluate(&self, host: &Host, program: &Program, dir: &Path) -> Result<Effective> {
        let here = host.path(dir)?;
        clear(&here)?;
        fs::create_dir_all(&here).map_err(Error::io("create", &here))?;
        let answer = match self.write(host, dir) {
            Ok(root) => program.dump(host, &root).await,
            Err(error) => Err(error),
        };
        clear(&here)?;
        answer
    }

    /// Copies every imported file into `dir`, and the root with imports that name the copies.
    fn write(&self, host: &Host, dir: &Path) -> Result<PathBuf> {
        let mut document: DocumentMut = format::parse(self.root, self.text)?;
        let mut copies = Array::new();
        let mut count = 0;
        let mut add = |text: &[u8]| {
            let copy = dir.join(format!("import-{count}.toml"));
            count += 1;
            let here = host.path(&copy)?;
            fs::write(&here, text).map_err(Error::io("write", &here))?;
            copies.push(host.seen_by_programs(&copy).to_string_lossy().into_owned());
            Ok::<_, Error>(())
        };
        for pattern in imports::patterns(self.root, self.text)? {
            for file in imports::matches(host, self.root, &pattern) {
                if !self.without.contains(&file)
                    && let Some(text) = host.read(&file)?
                {
                    add(&text)?;
                }
            }
        }
        if let Some(text) = self.drop_in {
            add(text.as_bytes())?;
        }
        if copies.is_empty() {
            document.remove("imports");
        } else {
            document.insert("imports", value(copies));
        }
        let root = dir.join("config.toml");
        let here = host.path(&root)?;
        fs::write(&here, document.to_string()).map_err(Error::io("write", &here))?;
        Ok(root)
    }
}

/// An empty root file of the newest format that this containerd is sure to know.
pub fn empty_root(version: Version) -> (&'static str, Format) {
    if version.merges_drop_ins() {
        ("version = 3\n", Format::V3)
    } else {
        ("version = 2\n", Format::V2)
    }
}

fn clear(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", dir)(error)),
        _ => Ok(()),
    }
}
