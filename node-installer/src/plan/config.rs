//! The change of containerd's configuration, by the place where the distribution keeps it.

mod refusals;

use std::path::{Path, PathBuf};

use super::desired::{parents, push};
use crate::{
    containerd::{
        Effective, Format,
        block::{self, Runtime},
        format, imports,
        stage::{Staged, empty_root},
    },
    detect::{Detected, Place},
    error::{Error, Result},
    host::Host,
    options::Options,
    txn::{DesiredPath, DesiredState, Role, State, Store, Writer},
};

/// Name of our drop-in. It sorts behind the numbered files of others; nothing depends on that.
const DROP_IN: &str = "tandem.toml";
/// Where k0s keeps what it has merged.
const K0S_MERGED: &str = "/run/k0s/containerd-cri.toml";
/// What a template of k3s must start with in order to extend the built-in one.
const BASE: &str = "{{ template \"base\" . }}\n";

/// A planned change of the configuration.
pub(super) struct Config {
    pub desired: Vec<DesiredPath>,
    pub systemd_cgroup: bool,
}

/// A file that is or will be ours in part: as it is, and as it would be without us.
struct File {
    path: PathBuf,
    now: Option<String>,
    pristine: Option<String>,
}

impl File {
    fn read(host: &Host, store: &Store, path: &Path) -> Result<Self> {
        let now = host.read_text(path)?;
        let known = store.record()?.and_then(|record| record.change(path).cloned());
        let pristine = match (&now, known) {
            (None, _) => None,
            (Some(text), Some(known)) => {
                let original = match &known.pristine {
                    State::File { digest, .. } => Some(String::from_utf8_lossy(&store.read_copy(digest)?).into_owned()),
                    _ => None,
                };
                if State::of(host, path)? == known.after {
                    original
                } else {
                    Some(without_ours(path, text, original.as_deref())?)
                }
            }
            // Without a record (its file was lost) the marks still tell what is ours.
            (Some(text), None) => Some(block::cut(text).unwrap_or_else(|| text.clone())),
        };
        Ok(Self {
            path: path.to_owned(),
            now,
            pristine,
        })
    }

    /// Adds the text to what is desired, and remembers the pristine one where that is not what the file has now.
    fn add_to(&self, host: &Host, text: String, desired: &mut Vec<DesiredPath>) -> Result<()> {
        parents(host, &self.path, desired)?;
        let pristine = self
            .pristine
            .clone()
            .filter(|_| self.pristine != self.now)
            .map(String::into_bytes);
        push(
            desired,
            &self.path,
            Role::Config,
            DesiredState::Text(text.into_bytes()),
            pristine,
        );
        Ok(())
    }
}

/// A text without our bytes, whatever others have done to it since: our block, and the imports that the original did
/// not have and that lead to a directory of ours.
///
/// # Errors
/// A text whose imports have to be edited and that is not TOML.
pub fn without_ours(path: &Path, text: &str, original: Option<&str>) -> Result<String> {
    let mut result = block::cut(text).unwrap_or_else(|| text.to_owned());
    let Some(original) = original else { return Ok(result) };
    // Templates are not TOML, and have no imports of ours.
    let (Ok(now), Ok(before)) = (imports::patterns(path, &result), imports::patterns(path, original)) else {
        return Ok(result);
    };
    for pattern in now {
        if !before.contains(&pattern) && pattern.ends_with("/conf.d/*.toml") {
            result = imports::remove(path, &result, &pattern)?;
        }
    }
    Ok(result)
}

/// Works out the configuration's change and has it judged by the host's containerd.
pub(super) async fn plan(host: &Host, options: &Options, detected: &Detected, store: &Writer) -> Result<Config> {
    let planner = Planner {
        host,
        options,
        detected,
        store,
    };
    match detected.place {
        Place::Root { path, drop_ins } => {
            let root = File::read(host, store, detected.root.as_deref().unwrap_or(Path::new(path)))?;
            let beside = root
                .path
                .parent()
                .filter(|_| detected.root.is_some())
                .map(|dir| dir.join("conf.d"));
            planner.root(root, &beside.unwrap_or_else(|| drop_ins.into())).await
        }
        Place::Template { path } => planner.edit(File::read(host, store, Path::new(path))?).await,
        Place::Rendered { dir } => planner.rendered(Path::new(dir)).await,
        Place::Watched { root, drop_ins } => planner.watched(Path::new(root), Path::new(drop_ins)).await,
    }
}

struct Planner<'a> {
    host: &'a Host,
    options: &'a Options,
    detected: &'a Detected,
    /// The staged copy is written into its directory.
    store: &'a Writer,
}

impl Planner<'_> {
    fn runtime(&self) -> Runtime {
        Runtime {
            handler: self.options.handler.clone(),
            shim: self.options.shim_link().to_string_lossy().into_owned(),
        }
    }

    /// A root file of the admin's.
    async fn root(&self, root: File, drop_ins: &Path) -> Result<Config> {
        let version = self.detected.program.version;
        let (empty, _) = empty_root(version);
        let text = root.pristine.clone().unwrap_or_else(|| empty.to_owned());
        let format = Format::of(&root.path, &text)?;
        self.require_cri(&root.path, &text, format)?;
        if format == Format::V1 && root.pristine.is_some() && !version.reads_cri_of_version_1() {
            return Err(Error::Config {
                path: root.path,
                why: format!("is of version 1, of which containerd {version} ignores all that concerns CRI"),
                fix: "write its settings anew as version 3 (`containerd config default` is a start), restart containerd, \
                      and install then"
                    .into(),
            });
        }
        // containerd migrates a file of version 1 as a whole: drop-ins of its names are not merged into the result.
        if !version.merges_drop_ins() || format == Format::V1 {
            return self.edit(root).await;
        }
        let patterns = imports::patterns(&root.path, &text)?;
        let known = imports::drop_in_dir(&patterns);
        let drop_in = known.clone().unwrap_or_else(|| drop_ins.to_owned()).join(DROP_IN);
        let mut desired = Vec::new();
        let systemd_cgroup = self.drop_in(&root.path, &text, format, &drop_in, &mut desired).await?;
        if known.is_none() {
            let pattern = format!("{}/*.toml", drop_ins.display());
            root.add_to(self.host, imports::add(&root.path, &text, &pattern)?, &mut desired)?;
        } else if root.now != root.pristine {
            root.add_to(self.host, text, &mut desired)?;
        }
        Ok(Config {
            desired,
            systemd_cgroup,
        })
    }

    /// A file that our block goes into.
    async fn edit(&self, file: File) -> Result<Config> {
        let version = self.detected.program.version;
        let (empty, _) = empty_root(version);
        let text = file.pristine.clone().unwrap_or_else(|| empty.to_owned());
        let format = Format::of(&file.path, &text)?;
        self.require_cri(&file.path, &text, format)?;
        self.require_no_damage(&file.path, &text)?;
        let before = self.evaluate(&file.path, &text, None).await?;
        self.require_free(&file.path, &before)?;
        let others = if version.merges_drop_ins() {
            String::new()
        } else {
            let document = format::parse(&file.path, &text)?;
            let named = format::find(&document, &format.runtimes()).and_then(|item| item.as_table_like());
            let mut missing = before.handlers();
            missing.retain(|(name, _)| named.is_none_or(|named| named.get(name).is_none()));
            block::handler_tables(format, &missing)
        };
        let result = block::insert(&file.path, &text, &self.runtime(), format, &others)?;
        let after = self.evaluate(&file.path, &result, None).await?;
        self.judge(&before, &after)?;
        let mut desired = Vec::new();
        file.add_to(self.host, result, &mut desired)?;
        Ok(Config {
            desired,
            systemd_cgroup: before.systemd_cgroup(),
        })
    }

    /// A root file that the distribution renders.
    async fn rendered(&self, dir: &Path) -> Result<Config> {
        let path = dir.join("config.toml");
        let rendered = self.host.read_text(&path)?.ok_or_else(|| Error::Config {
            path: path.clone(),
            why: "is not there yet: the distribution renders it when it starts".into(),
            fix: "start the distribution's service on this node first".into(),
        })?;
        let text = block::cut(&rendered).unwrap_or(rendered);
        let format = Format::of(&path, &text)?;
        let known = imports::drop_in_dir(&imports::patterns(&path, &text)?);
        let mut desired = Vec::new();
        if let Some(drop_ins) = known.filter(|_| self.detected.program.version.merges_drop_ins()) {
            let drop_in = drop_ins.join(DROP_IN);
            let systemd_cgroup = self.drop_in(&path, &text, format, &drop_in, &mut desired).await?;
            return Ok(Config {
                desired,
                systemd_cgroup,
            });
        }
        // Which template was used shows in what came out of it.
        let name = if format >= Format::V3 {
            "config-v3.toml.tmpl"
        } else {
            "config.toml.tmpl"
        };
        let template = File::read(self.host, self.store, &dir.join(name))?;
        let base = template.pristine.clone().unwrap_or_else(|| BASE.to_owned());
        self.require_no_damage(&template.path, &base)?;
        let before = self.evaluate(&path, &text, None).await?;
        self.require_free(&path, &before)?;
        let after = block::insert(&path, &text, &self.runtime(), format, "")?;
        let after = self.evaluate(&path, &after, None).await?;
        self.judge(&before, &after)?;
        template.add_to(
            self.host,
            block::append(&base, &self.runtime().tables(format)),
            &mut desired,
        )?;
        Ok(Config {
            desired,
            systemd_cgroup: before.systemd_cgroup(),
        })
    }

    /// A directory that the distribution watches.
    async fn watched(&self, root: &Path, drop_ins: &Path) -> Result<Config> {
        let root = self.detected.root.as_deref().unwrap_or(root);
        let refused = |why: &str, fix: &str| Error::Config {
            path: root.to_owned(),
            why: why.into(),
            fix: fix.into(),
        };
        let text = self.host.read_text(root)?;
        let text = text.ok_or_else(|| refused("is not there", "start k0s on this node first"))?;
        if !text.contains("k0s_managed=true") {
            return Err(refused(
                "is not managed by k0s, so that its drop-in directory is not read",
                "restore the first line `# k0s_managed=true`, or install with `--distribution vanilla --config` and \
                 this file, and a --restart-command",
            ));
        }
        let format = Format::of(root, &text)?;
        // k0s merges CRI's part of all drop-ins into this file, which its root file imports: an import of the drop-in
        // itself would be something else on containerd 1.x. On a node that has ours already it is in there.
        let merged_path = Path::new(K0S_MERGED);
        let merged = self.host.read_text(merged_path)?.unwrap_or_default();
        let file = File::read(self.host, self.store, &drop_ins.join(DROP_IN))?;
        self.require_ours(&file)?;
        let merged = match file.now {
            Some(_) => format::without_runtime(merged_path, &merged, format, &self.options.handler)?,
            None => merged,
        };
        let before = self.evaluate(merged_path, &merged, None).await?;
        self.require_free(merged_path, &before)?;
        let after = block::insert(merged_path, &merged, &self.runtime(), format, "")?;
        self.judge(&before, &self.evaluate(merged_path, &after, None).await?)?;
        let mut desired = Vec::new();
        parents(self.host, &file.path, &mut desired)?;
        let ours = block::drop_in(&self.runtime().tables(format));
        push(
            &mut desired,
            &file.path,
            Role::Config,
            DesiredState::Text(ours.into_bytes()),
            None,
        );
        Ok(Config {
            desired,
            systemd_cgroup: before.systemd_cgroup(),
        })
    }

    /// A drop-in of our own. It has no `version` and the names of the root file's: containerd 2.0 to 2.2 lose handlers
    /// or options otherwise, 2.3 may not start.
    async fn drop_in(
        &self,
        root: &Path,
        text: &str,
        format: Format,
        path: &Path,
        desired: &mut Vec<DesiredPath>,
    ) -> Result<bool> {
        let ours = block::drop_in(&self.runtime().tables(format));
        let file = File::read(self.host, self.store, path)?;
        self.require_ours(&file)?;
        let staged = Staged {
            root,
            text,
            without: &[path.to_owned()],
            drop_in: None,
        };
        let before = self.stage(&staged).await?;
        self.require_free(root, &before)?;
        let after = Staged {
            drop_in: Some(&ours),
            ..staged
        };
        self.judge(&before, &self.stage(&after).await?)?;
        parents(self.host, path, desired)?;
        push(desired, path, Role::Config, DesiredState::Text(ours.into_bytes()), None);
        Ok(before.systemd_cgroup())
    }

    async fn evaluate(&self, root: &Path, text: &str, drop_in: Option<&str>) -> Result<Effective> {
        let staged = Staged {
            root,
            text,
            without: &[],
            drop_in,
        };
        self.stage(&staged).await
    }

    async fn stage(&self, staged: &Staged<'_>) -> Result<Effective> {
        let dir = self.store.dir().join("stage");
        staged.evaluate(self.host, &self.detected.program, &dir).await
    }

    fn judge(&self, before: &Effective, after: &Effective) -> Result<()> {
        after.require_only_adds(before, &self.options.handler, &self.runtime().shim)
    }
}
