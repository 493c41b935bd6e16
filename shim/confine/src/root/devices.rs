//! `/dev` of a container: the devices that every container has, those of the spec, and the usual links.
//! Source: OCI runtime spec, config-linux.md, "Default Devices" and "Dev symbolic links".

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat, umask};
use nix::unistd::{UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType, Spec};

use crate::error::{Error, Named, Result};
use crate::idmap::Mappings;
use crate::root::tree::{Tree, kind_of, look_here, open_here};
use crate::sys::mount;

/// Directories on the way to a device.
const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
/// Permissions of a device where the spec has none.
const MODE: u32 = 0o666;
/// Name, major and minor number.
const DEFAULTS: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// A device to be made.
#[derive(Debug)]
struct Device {
    path: String,
    kind: SFlag,
    number: u64,
    mode: u32,
    owner: u32,
    group: u32,
}

/// The devices of a container.
#[derive(Debug)]
pub struct Devices {
    all: Vec<Device>,
    /// In a user namespace nobody may make devices: there they are made on the host, on a file system of their own that is
    /// attached nowhere, and bound.
    store: Option<OwnedFd>,
}

impl Devices {
    /// Those of the spec; `mappings` are those of a new user namespace, or of none. `bound` says that they must be.
    pub fn of(spec: &Spec, mappings: Option<&Mappings>, bound: bool) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let said = linux.and_then(|linux| linux.devices().as_deref()).unwrap_or_default();
        // Of two with one name the first counts. Source: runc.
        let first = |(index, device): &(usize, &LinuxDevice)| {
            !said.iter().take(*index).any(|other| other.path() == device.path())
        };
        let named = said.iter().enumerate().filter(first);
        let mut all = named
            .map(|(_, device)| Device::of(device))
            .collect::<Result<Vec<_>>>()?;
        let defaults = DEFAULTS
            .iter()
            .filter(|(path, ..)| !said.iter().any(|one| one.path() == Path::new(path)));
        all.extend(defaults.map(|(path, major, minor)| Device {
            path: (*path).to_owned(),
            kind: SFlag::S_IFCHR,
            number: makedev(*major, *minor),
            mode: MODE,
            owner: 0,
            group: 0,
        }));
        let store = bound.then(|| store(&all, mappings)).transpose()?;
        Ok(Self { all, store })
    }

    /// Attaches the store, where there is one, in the working directory, in the container's mount namespace only: a mount
    /// that is attached nowhere cannot be copied before Linux 6.15.
    pub fn attach_store(&self) -> Result<()> {
        match &self.store {
            Some(store) => mount::attach_here(store.as_fd()).host(|| "attach the devices".into()),
            None => Ok(()),
        }
    }

    /// Makes or binds them in the tree.
    pub fn make(&self, tree: &Tree) -> Result<()> {
        for (index, device) in self.all.iter().enumerate() {
            match &self.store {
                Some(store) => device.bind(tree, store, index)?,
                None => device.make(tree)?,
            }
        }
        Ok(())
    }
}

/// A tmpfs with a file for each device, by its index.
fn store(all: &[Device], mappings: Option<&Mappings>) -> Result<OwnedFd> {
    let options = [
        (c"mode".into(), Some(c"0711".into())),
        (c"size".into(), Some(c"64k".into())),
    ];
    let store = mount::create(c"tmpfs", &options, 0)
        .map_err(|refused| Error::host("make a file system for devices", refused.errno))?;
    let mask = umask(Mode::empty());
    let made = fill(all, mappings, &store);
    umask(mask);
    made.map(|()| store)
}

fn fill(all: &[Device], mappings: Option<&Mappings>, store: &OwnedFd) -> Result<()> {
    for (index, device) in all.iter().enumerate() {
        let (owner, group) = match mappings {
            Some(mappings) => mappings.on_host(device.owner, device.group),
            None => (device.owner, device.group),
        };
        let name = index.to_string();
        let mode = Mode::from_bits_truncate(device.mode);
        let made = mknodat(store, name.as_str(), device.kind, mode, device.number).and_then(|()| {
            let (owner, group) = (Some(owner.into()), Some(group.into()));
            fchownat(store, name.as_str(), owner, group, AtFlags::AT_SYMLINK_NOFOLLOW)
        });
        made.asked(|| device.name())?;
    }
    Ok(())
}

impl Device {
    fn of(said: &LinuxDevice) -> Result<Self> {
        let path = said.path().display().to_string();
        let fault = |why: String| Error::invalid(format!("device {}", path.escape_debug()), why);
        let kind = match said.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            LinuxDeviceType::A => return Err(fault("its type is \"a\"".into())),
        };
        let number = |number: i64| u64::try_from(number).map_err(|_| fault(format!("its number is {number}")));
        Ok(Self {
            kind,
            number: makedev(number(said.major())?, number(said.minor())?),
            mode: said.file_mode().unwrap_or(MODE) & 0o7777,
            owner: said.uid().unwrap_or(0),
            group: said.gid().unwrap_or(0),
            path,
        })
    }

    fn name(&self) -> String {
        format!("device {}", self.path.escape_debug())
    }

    /// The umask must be 0, so that the mode is the spec's.
    fn make(&self, tree: &Tree) -> Result<()> {
        let name = || format!("make {}", self.name());
        let (parent, file) = tree.make_parent(Path::new(&self.path), DIRECTORY).asked(name)?;
        let mode = Mode::from_bits_truncate(self.mode);
        match mknodat(&parent, file, self.kind, mode, self.number) {
            Ok(()) => {
                let (owner, group) = (Some(self.owner.into()), Some(self.group.into()));
                fchownat(&parent, file, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW).asked(name)
            }
            Err(Errno::EEXIST) => {
                let there = look_here(&parent, file).asked(name)?;
                if kind_of(&there) == self.kind && (self.kind == SFlag::S_IFIFO || there.st_rdev == self.number) {
                    return Ok(());
                }
                Err(Error::invalid(
                    name(),
                    "the image has something else there: remove it from the image",
                ))
            }
            Err(errno) => Err(errno).asked(name),
        }
    }

    fn bind(&self, tree: &Tree, store: &OwnedFd, index: usize) -> Result<()> {
        let name = || format!("bind {}", self.name());
        let source = open_here(store, index.to_string().as_ref(), OFlag::O_PATH).host(name)?;
        let place = tree
            .make_file(Path::new(&self.path), Mode::from_bits_truncate(0o644))
            .asked(name)?;
        // Somebody's own device file, which the image cannot have.
        if fstat(&place).is_ok_and(|there| there.st_rdev == self.number && kind_of(&there) == self.kind) {
            return Ok(());
        }
        let copy = mount::copy_at(source.as_fd(), false).host(name)?;
        mount::attach_at(copy.as_fd(), place.as_fd()).asked(name)
    }
}

/// Makes the links of `/dev`. What the image has there stays, but for `ptmx`, which must be the container's own.
pub fn link(tree: &Tree) -> Result<()> {
    let core = Path::new("/proc/kcore")
        .exists()
        .then_some(("/dev/core", "/proc/kcore"));
    for (path, target) in LINKS.into_iter().chain(core) {
        let name = || format!("link {path} -> {target}");
        let (parent, file) = tree.make_parent(Path::new(path), DIRECTORY).asked(name)?;
        if path == "/dev/ptmx" {
            match unlinkat(&parent, file, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno).asked(name),
            }
        }
        match symlinkat(target, &parent, file) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno).asked(name),
        }
    }
    Ok(())
}
