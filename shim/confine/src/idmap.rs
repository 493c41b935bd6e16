//! User and group ids of containers on the host: the spec's mappings, and user namespaces that stand for them.

use std::os::fd::OwnedFd;

use nix::errno::Errno;
use oci_spec::runtime::LinuxIdMapping;

use crate::error::{Class, Error, Result};

/// A run of ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First id inside: in the container, or in the file system that is mounted.
    pub inside: u32,
    /// First id on the host.
    pub outside: u32,
    /// How many.
    pub size: u32,
}

impl From<&LinuxIdMapping> for Range {
    fn from(mapping: &LinuxIdMapping) -> Self {
        Self {
            inside: mapping.container_id(),
            outside: mapping.host_id(),
            size: mapping.size(),
        }
    }
}

/// How users and groups are mapped; neither is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mappings {
    users: Vec<Range>,
    groups: Vec<Range>,
}

impl Mappings {
    /// Mappings of a spec, `None` where it has none of one of them.
    pub fn of_spec(users: Option<&[LinuxIdMapping]>, groups: Option<&[LinuxIdMapping]>) -> Option<Self> {
        let ranges = |mappings: Option<&[LinuxIdMapping]>| -> Vec<Range> {
            mappings.unwrap_or_default().iter().map(Range::from).collect()
        };
        let (users, groups) = (ranges(users), ranges(groups));
        (!users.is_empty() && !groups.is_empty()).then_some(Self { users, groups })
    }

    /// Mappings as containerd writes them in mount options: `inside:outside:size`, by commas.
    pub fn parse(users: &str, groups: &str) -> Result<Self> {
        Ok(Self {
            users: parse(users)?,
            groups: parse(groups)?,
        })
    }

    /// Users and groups as the kernel takes them in `uid_map` and `gid_map`.
    pub fn as_files(&self) -> [(&'static str, String); 2] {
        let lines = |ranges: &[Range]| -> String {
            let line = |range: &Range| format!("{} {} {}\n", range.inside, range.outside, range.size);
            ranges.iter().map(line).collect()
        };
        [("uid_map", lines(&self.users)), ("gid_map", lines(&self.groups))]
    }

    /// The user's and the group's id on the host of these in the container.
    pub fn on_host(&self, user: u32, group: u32) -> (u32, u32) {
        let of = |id: u32, ranges: &[Range]| {
            let found = ranges.iter().find_map(|range| {
                let offset = id.checked_sub(range.inside)?;
                (offset < range.size).then(|| range.outside.checked_add(offset))?
            });
            found.unwrap_or(id)
        };
        (of(user, &self.users), of(group, &self.groups))
    }

    /// A user namespace with these mappings, held by the descriptor alone.
    pub fn user_namespace(&self) -> Result<OwnedFd> {
        let fault =
            |what: &str, why: String| Error::new(Class::Internal, format!("{what} a user namespace for ids"), why);
        let holder = Holder::start().map_err(|errno| fault("make", errno.to_string()))?;
        for (file, lines) in self.as_files() {
            std::fs::write(format!("/proc/{}/{file}", holder.0), &lines)
                .map_err(|error| fault(&format!("map \"{}\" in", lines.trim()), error.to_string()))?;
        }
        let namespace = std::fs::File::open(format!("/proc/{}/ns/user", holder.0));
        Ok(namespace.map_err(|error| fault("open", error.to_string()))?.into())
    }
}

fn parse(text: &str) -> Result<Vec<Range>> {
    let fault = || {
        Error::invalid(
            "mount options",
            format!("id mapping \"{}\" is not inside:outside:size", text.escape_debug()),
        )
    };
    text.split(',')
        .map(|range| {
            let numbers: Vec<u32> = range
                .split(':')
                .map(|number| number.parse().map_err(|_| fault()))
                .collect::<Result<_>>()?;
            match numbers[..] {
                [inside, outside, size] if size > 0 => Ok(Range { inside, outside, size }),
                _ => Err(fault()),
            }
        })
        .collect()
}

/// A process that is there for its user namespace only: a namespace needs one while its ids are written.
struct Holder(libc::pid_t);

impl Holder {
    fn start() -> nix::Result<Self> {
        // A plain fork's copy of the address space, so whoever calls this may have threads: the child calls
        // nothing but prctl(2) and pause(2), hence no lock that a thread has held can matter to it.
        // SAFETY: see above; without CLONE_VM the child has a stack of its own.
        let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER | libc::SIGCHLD, 0, 0, 0, 0) };
        match Errno::result(pid)? {
            0 => {
                // Should the caller be killed first, nobody else would end this.
                // SAFETY: plain numbers.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                loop {
                    // SAFETY: a system call without arguments.
                    unsafe { libc::pause() };
                }
            }
            pid => Ok(Self(libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?)),
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // SAFETY: plain numbers and null; the process is our child and nobody else waits for it.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn mount_options_of_containerd_are_understood() {
        let mappings = Mappings::parse("0:100000:65536", "0:200000:1000,1000:300000:1").unwrap();
        assert_eq!(
            mappings.users,
            [Range {
                inside: 0,
                outside: 100_000,
                size: 65536
            }]
        );
        assert_eq!(mappings.groups.len(), 2);
        for bad in ["", "0:1", "0:1:0", "a:1:1", "0:1:1,"] {
            assert!(Mappings::parse(bad, "0:1:1").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_user_namespace_has_the_mappings_and_leaves_no_process() {
        let mappings = Mappings::parse("0:100000:65536", "0:100000:65536").unwrap();
        let namespace = mappings.user_namespace().unwrap();
        let link = std::fs::read_link(format!("/proc/self/fd/{}", namespace.as_raw_fd())).unwrap();
        assert!(link.to_string_lossy().starts_with("user:["), "{link:?}");
    }

    #[test]
    fn mappings_that_overlap_are_the_kernels_to_refuse() {
        let mappings = Mappings::parse("0:100000:10,5:200000:10", "0:1:1").unwrap();
        assert!(mappings.user_namespace().is_err());
    }
}
