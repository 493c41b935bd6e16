//! Finds out what the host is, without writing anything.

pub mod presets;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    containerd::stage::Program,
    error::{Error, Result},
    host::{CgroupMode, Host, Os, cgroup_mode},
    options::Options,
};

pub use presets::{Evidence, Place, Preset, Restart, Support};

/// A host that can be set up.
#[derive(Clone, Debug)]
pub struct Detected {
    /// Name of its preset.
    pub preset: &'static str,
    /// Its operating system.
    pub os: Os,
    /// Its cgroups.
    pub cgroups: CgroupMode,
    /// containerd's program and version.
    pub program: Program,
    /// containerd's socket on the host.
    pub socket: PathBuf,
    /// Its configuration.
    pub place: Place,
    /// Another root file than the preset's.
    pub root: Option<PathBuf>,
    /// How it is restarted.
    pub restart: RestartBy,
}

/// A restart, with everything known that it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartBy {
    /// `systemctl restart` of this unit.
    Unit(String),
    /// A command of the admin's, run by the host's shell.
    Command(String),
    /// None is needed.
    ByItself,
    /// The operator must do it, as told.
    Operator(&'static str),
}

/// The preset that fits the host.
///
/// # Errors
/// [`Error::Refused`] with what to do instead, [`Error::Usage`] for a distribution that is not known.
pub fn preset(host: &Host, named: Option<&str>) -> Result<&'static Preset> {
    let os = Os::of(host)?;
    let found = match named {
        Some(name) => presets::by_name(name).ok_or_else(|| {
            let names: Vec<&str> = presets::PRESETS.iter().map(|preset| preset.name).collect();
            Error::Usage(format!(
                "the distribution {name:?} is not known; known are {}",
                names.join(", ")
            ))
        })?,
        None => {
            let fits = |preset: &&Preset| preset.evidence.iter().all(|evidence| holds(host, &os, *evidence));
            presets::PRESETS
                .iter()
                .find(fits)
                .ok_or_else(|| Error::Usage("no preset fits".into()))?
        }
    };
    match found.support {
        Support::Supported { .. } => Ok(found),
        Support::Refused { why, instead } => Err(Error::Refused {
            host: found.name.into(),
            why: why.into(),
            instead: instead.into(),
        }),
    }
}

fn holds(host: &Host, os: &Os, evidence: Evidence) -> bool {
    // The directory that systemd itself makes at boot, by which `sd_booted` recognises it.
    let systemd = || host.exists("/run/systemd/system");
    match evidence {
        Evidence::Path(path) => host.exists(path),
        Evidence::NoPath(path) => !host.exists(path),
        Evidence::Os(id) => os.id == id,
        Evidence::Systemd => systemd(),
        Evidence::NoSystemd => !systemd(),
    }
}

/// Finds out everything that a plan depends on.
///
/// # Errors
/// [`Error::Refused`] where the host cannot be set up.
pub async fn detect(host: &Host, options: &Options) -> Result<Detected> {
    let preset = preset(host, options.distribution.as_deref())?;
    let Support::Supported {
        programs,
        socket,
        place,
        restart,
    } = preset.support
    else {
        return Err(Error::Usage(format!("{} cannot be set up", preset.name)));
    };
    let refused = |why: String, instead: &str| Error::Refused {
        host: preset.name.into(),
        why,
        instead: instead.into(),
    };
    let found = programs
        .iter()
        .map(Path::new)
        .find(|path| host.exists(path))
        .map(Path::to_owned);
    let path = options.containerd.clone().or(found).ok_or_else(|| {
        let why = format!("there is no containerd at {}", programs.join(" or "));
        refused(why, "use nodes with containerd, or name its program with --containerd")
    })?;
    let program = Program::ask(host, &path).await?;
    if !program.version.is_supported() {
        let why = format!("containerd {} is older than 1.6", program.version);
        return Err(refused(why, "upgrade containerd"));
    }
    let restart = match &options.restart_command {
        Some(command) => RestartBy::Command(command.clone()),
        None => match restart {
            Restart::Unit(units) => RestartBy::Unit(unit(host, units)),
            Restart::ByItself => RestartBy::ByItself,
            Restart::Operator(how) => RestartBy::Operator(how),
        },
    };
    Ok(Detected {
        preset: preset.name,
        os: Os::of(host)?,
        cgroups: cgroup_mode(host),
        program,
        socket: options.socket.clone().unwrap_or_else(|| socket.into()),
        place,
        root: options.config.clone(),
        restart,
    })
}

/// The first unit that the host has a file of, else the first.
fn unit(host: &Host, units: &[&str]) -> String {
    let dirs = [
        "/etc/systemd/system",
        "/run/systemd/system",
        "/usr/local/lib/systemd/system",
        "/usr/lib/systemd/system",
        "/lib/systemd/system",
    ];
    let present = |unit: &&&str| dirs.iter().any(|dir| host.exists(Path::new(dir).join(unit)));
    units
        .iter()
        .find(present)
        .or(units.first())
        .map(|unit| (*unit).to_owned())
        .unwrap_or_default()
}

/// What `detect` prints.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    /// Name of the preset.
    pub distribution: &'a str,
    /// Name of the operating system.
    pub os: &'a str,
    /// Architecture, as Rust names it.
    pub architecture: &'a str,
    /// Cgroup hierarchies.
    pub cgroups: CgroupMode,
    /// containerd's program.
    pub containerd: &'a Path,
    /// Its version.
    pub containerd_version: String,
    /// Its socket.
    pub socket: &'a Path,
    /// Whether the socket is there.
    pub running: bool,
    /// How it is restarted.
    pub restart: String,
}

impl Detected {
    /// The facts, for people and programs.
    pub fn report(&self, host: &Host) -> Report<'_> {
        Report {
            distribution: self.preset,
            os: &self.os.name,
            architecture: std::env::consts::ARCH,
            cgroups: self.cgroups,
            containerd: &self.program.path,
            containerd_version: self.program.version.to_string(),
            socket: &self.socket,
            running: host.exists(&self.socket),
            restart: self.restart.to_string(),
        }
    }
}

impl std::fmt::Display for RestartBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "systemctl restart {unit}"),
            Self::Command(command) => write!(f, "command: {command}"),
            Self::ByItself => f.write_str("none: the distribution notices the change"),
            Self::Operator(how) => write!(f, "by the operator: {how}"),
        }
    }
}
