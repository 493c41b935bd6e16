//! The container's namespaces: which are made for it, and which it joins. Source: OCI runtime spec, config-linux.md.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns, unshare};
use oci_spec::runtime::{Linux, LinuxNamespaceType};

use crate::error::{Class, Error, Named, Result, shown};
use crate::idmap::Mappings;
use crate::sys::clone::namespace_type;

/// CLONE_NEWTIME, which nix does not name.
const NEWTIME: CloneFlags = CloneFlags::from_bits_retain(libc::CLONE_NEWTIME);

/// Whose user and group ids the container has.
#[derive(Debug)]
pub enum UserNamespace {
    /// The host's.
    Host,
    /// Its own.
    New(Mappings),
    /// That of another container.
    Joined(File),
}

/// A namespace that is joined.
#[derive(Debug)]
struct Joined {
    flag: CloneFlags,
    path: PathBuf,
    file: File,
    /// A path, too, may lead to the namespace that this process is in.
    is_the_hosts: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Namespaces {
    /// The user namespace, which decides about the order of everything else.
    pub user: UserNamespace,
    made: CloneFlags,
    joined: Vec<Joined>,
}

impl Namespaces {
    /// Opens those that are joined.
    pub fn of(linux: &Linux) -> Result<Self> {
        let mut all = Self {
            user: UserNamespace::Host,
            made: CloneFlags::empty(),
            joined: Vec::new(),
        };
        let mut seen = CloneFlags::empty();
        for namespace in linux.namespaces().as_deref().unwrap_or_default() {
            let flag = flag_of(namespace.typ());
            let name = || format!("{} namespace", name_of(flag));
            if seen.contains(flag) {
                return Err(Error::invalid(name(), "the spec names it twice"));
            }
            seen |= flag;
            match namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty()) {
                None if flag == CloneFlags::CLONE_NEWUSER => all.user = UserNamespace::New(mappings_of(linux)?),
                None => all.made |= flag,
                Some(path) => {
                    let file = open(path, flag)?;
                    match flag {
                        CloneFlags::CLONE_NEWUSER => all.user = UserNamespace::Joined(file),
                        _ => all.joined.push(Joined {
                            flag,
                            path: path.clone(),
                            is_the_hosts: is_own(&file, flag),
                            file,
                        }),
                    }
                }
            }
        }
        if !all.made.contains(CloneFlags::CLONE_NEWNS) {
            return Err(Error::new(
                Class::Unsupported,
                "mount namespace",
                "a container needs one of its own: add it to linux.namespaces, without a path",
            ));
        }
        Ok(all)
    }

    /// Whether a namespace of this kind is made for the container.
    pub fn makes(&self, flag: CloneFlags) -> bool {
        self.made.contains(flag)
    }

    /// Whether the container has a namespace of this kind that is not the host's.
    pub fn has(&self, flag: CloneFlags) -> bool {
        self.makes(flag)
            || self
                .joined
                .iter()
                .any(|joined| joined.flag == flag && !joined.is_the_hosts)
    }

    /// Those that the first process is born into. The time namespace is made before, by who forks it; the cgroup
    /// namespace after, as its root is the cgroup that the process is in by then.
    pub fn for_birth(&self) -> CloneFlags {
        let user = match self.user {
            UserNamespace::New(_) => CloneFlags::CLONE_NEWUSER,
            _ => CloneFlags::empty(),
        };
        (self.made | user) - CloneFlags::CLONE_NEWCGROUP - NEWTIME
    }

    /// Joins what only children come into. Returns what brings the caller's later children back.
    pub fn enter_for_children(&self, time_offsets: Option<&str>) -> Result<Return> {
        let mut back = Return::empty();
        for joined in self.joined.iter().filter(|joined| for_children(joined.flag)) {
            back.remember(joined.flag)?;
            joined.enter()?;
        }
        if self.made.contains(NEWTIME) {
            back.remember(NEWTIME)?;
            unshare(NEWTIME).host(|| "make the time namespace".into())?;
            if let Some(offsets) = time_offsets.filter(|offsets| !offsets.is_empty()) {
                std::fs::write("/proc/self/timens_offsets", offsets)
                    .asked(|| format!("set the time offsets \"{}\"", offsets.trim().escape_debug()))?;
            }
        }
        Ok(back)
    }

    /// Joins the others but the user namespace, with the power of the host's root.
    pub fn enter(&self) -> Result<()> {
        let mut others = self.joined.iter().filter(|joined| !for_children(joined.flag));
        others.try_for_each(Joined::enter)
    }
}

impl Joined {
    fn enter(&self) -> Result<()> {
        setns(self.file.as_fd(), self.flag)
            .asked(|| format!("join the {} namespace {}", name_of(self.flag), shown(&self.path)))
    }
}

/// Brings the later children of a process back to its own namespaces.
#[derive(Debug)]
#[must_use]
pub struct Return(Vec<(CloneFlags, File)>);

impl Return {
    /// Nothing to come back from yet.
    pub fn empty() -> Self {
        Self(Vec::new())
    }

    /// Remembers where children come now.
    pub fn remember(&mut self, flag: CloneFlags) -> Result<()> {
        let name = if flag == NEWTIME { "time" } else { "pid" };
        let own = File::open(format!("/proc/self/ns/{name}")).host(|| format!("open the own {name} namespace"))?;
        self.0.push((flag, own));
        Ok(())
    }

    /// Goes back.
    pub fn go(self) -> Result<()> {
        for (flag, own) in self.0 {
            setns(own, flag).host(|| format!("return to the host's {} namespace", name_of(flag)))?;
        }
        Ok(())
    }
}

fn for_children(flag: CloneFlags) -> bool {
    flag == CloneFlags::CLONE_NEWPID || flag == NEWTIME
}

fn open(path: &PathBuf, flag: CloneFlags) -> Result<File> {
    let name = || format!("{} namespace {}", name_of(flag), shown(path));
    let file = File::open(path).asked(name)?;
    match namespace_type(file.as_fd()) {
        Ok(kind) if kind == flag => Ok(file),
        _ => Err(Error::invalid(name(), "this file is no such namespace")),
    }
}

/// Whether the calling process is in it.
fn is_own(file: &File, flag: CloneFlags) -> bool {
    let own = match flag {
        CloneFlags::CLONE_NEWNS => "mnt",
        CloneFlags::CLONE_NEWNET => "net",
        _ => name_of(flag),
    };
    let own = std::fs::metadata(Path::new("/proc/self/ns").join(own));
    let same =
        |own: std::fs::Metadata| Some((own.dev(), own.ino())) == file.metadata().ok().map(|m| (m.dev(), m.ino()));
    own.is_ok_and(same)
}

fn mappings_of(linux: &Linux) -> Result<Mappings> {
    let (users, groups) = (linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref());
    Mappings::of_spec(users, groups).ok_or_else(|| {
        Error::invalid(
            "user namespace",
            "a new one needs linux.uidMappings and linux.gidMappings",
        )
    })
}

fn flag_of(kind: LinuxNamespaceType) -> CloneFlags {
    match kind {
        LinuxNamespaceType::Mount => CloneFlags::CLONE_NEWNS,
        LinuxNamespaceType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        LinuxNamespaceType::Uts => CloneFlags::CLONE_NEWUTS,
        LinuxNamespaceType::Ipc => CloneFlags::CLONE_NEWIPC,
        LinuxNamespaceType::User => CloneFlags::CLONE_NEWUSER,
        LinuxNamespaceType::Pid => CloneFlags::CLONE_NEWPID,
        LinuxNamespaceType::Network => CloneFlags::CLONE_NEWNET,
        LinuxNamespaceType::Time => NEWTIME,
    }
}

/// As the specification calls them.
pub fn name_of(flag: CloneFlags) -> &'static str {
    match flag {
        CloneFlags::CLONE_NEWNS => "mount",
        CloneFlags::CLONE_NEWCGROUP => "cgroup",
        CloneFlags::CLONE_NEWUTS => "uts",
        CloneFlags::CLONE_NEWIPC => "ipc",
        CloneFlags::CLONE_NEWUSER => "user",
        CloneFlags::CLONE_NEWPID => "pid",
        CloneFlags::CLONE_NEWNET => "network",
        _ => "time",
    }
}

/// The lines of `/proc/self/timens_offsets`. Source: time_namespaces(7).
pub fn time_offsets(linux: &Linux) -> String {
    let offsets = linux.time_offsets().iter().flatten();
    offsets
        .map(|(clock, offset)| {
            let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
            format!("{clock} {seconds} {nanoseconds}\n")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(json: serde_json::Value) -> Linux {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_file_that_is_no_such_namespace_is_refused() {
        let joined = |path: &str| {
            Namespaces::of(&linux(serde_json::json!({"namespaces": [
                {"type": "mount"}, {"type": "network", "path": path}]})))
        };
        assert!(joined("/proc/self/ns/net").is_ok());
        for path in ["/proc/self/ns/pid", "/dev/null", "/nonexistent"] {
            let error = joined(path).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
        }
    }

    #[test]
    fn the_hosts_own_namespace_is_not_the_containers_however_it_is_named() {
        let joined = |path: &str| {
            let namespaces = serde_json::json!({"namespaces": [{"type": "mount"}, {"type": "network", "path": path}]});
            Namespaces::of(&linux(namespaces))
                .unwrap()
                .has(CloneFlags::CLONE_NEWNET)
        };
        assert!(!joined("/proc/self/ns/net"));
        let (mut other, _pipe) = in_a_network_of_its_own();
        assert!(joined(&format!("/proc/{}/ns/net", other.id())));
        other.wait().unwrap();
    }

    /// A process that lives for long enough to be looked at.
    fn in_a_network_of_its_own() -> (std::process::Child, std::process::ChildStdout) {
        use std::io::Read;
        let mut child = std::process::Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; sleep 1"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut [0]).unwrap();
        (child, pipe)
    }

    #[test]
    fn what_cannot_be_isolated_is_refused() {
        let error = |json| Namespaces::of(&linux(json)).unwrap_err().to_string();
        assert!(error(serde_json::json!({"namespaces": []})).contains("mount namespace"));
        let twice = serde_json::json!({"namespaces": [{"type": "mount"}, {"type": "mount"}]});
        assert!(error(twice).contains("twice"));
        let unmapped = serde_json::json!({"namespaces": [{"type": "mount"}, {"type": "user"}]});
        assert!(error(unmapped).contains("uidMappings"));
    }

    #[test]
    fn a_cgroup_namespace_is_made_after_the_cgroup_is_joined() {
        let all = Namespaces::of(&linux(serde_json::json!({"namespaces": [
            {"type": "mount"}, {"type": "cgroup"}, {"type": "pid"}, {"type": "time"}]})));
        let born = all.unwrap().for_birth();
        assert_eq!(born, CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID);
    }
}
