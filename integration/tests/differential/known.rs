//! What differs from runc on purpose, or for want of something else than a mending. Each row has its reason, and stands
//! in docs/conformance.md. Names are patterns, in which `*` stands for anything.

use std::path::Path;

/// A difference that may be.
pub struct Known {
    /// Names of specs.
    pub case: &'static str,
    /// Names of fields.
    pub field: &'static str,
    /// `linux`, `wasm`, or `*`.
    pub subject: &'static str,
    /// On which machines.
    pub on: On,
    /// What differs, and why.
    pub reason: &'static str,
}

/// Where a difference can occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "which ones are used is a matter of the table")]
pub enum On {
    Everywhere,
    CgroupV1,
    CgroupV2,
}

impl Known {
    /// Whether it is to be expected on this machine.
    pub fn applies(&self) -> bool {
        let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        match self.on {
            On::Everywhere => true,
            On::CgroupV1 => !unified,
            On::CgroupV2 => unified,
        }
    }
}

const fn known(case: &'static str, subject: &'static str, field: &'static str, reason: &'static str) -> Known {
    Known {
        case,
        field,
        subject,
        on: On::Everywhere,
        reason,
    }
}

const fn on_v1(case: &'static str, field: &'static str, reason: &'static str) -> Known {
    Known {
        case,
        field,
        subject: "*",
        on: On::CgroupV1,
        reason,
    }
}

/// Why two hierarchies are not joined.
const NAMED: &str = "On cgroup v1 a container is in the hierarchies that limit it; not in systemd's, which has no controller, \
                     nor in the unified one beside them.";

/// The table.
pub const KNOWN: &[Known] = &[
    known(
        "capabilities/absent",
        "*",
        "*ap*",
        "A spec that says nothing of capabilities gives none. runc leaves the process all that it has itself.",
    ),
    known(
        "cwd/has-dots",
        "wasm",
        "process.cwd",
        "PWD, by which a guest learns of its directory, is as the spec spells it; WASI has no other way to ask.",
    ),
    known(
        "cwd/is-a-link",
        "wasm",
        "process.cwd",
        "PWD, by which a guest learns of its directory, is as the spec spells it; WASI has no other way to ask.",
    ),
    known(
        "exec/oom-score",
        "linux",
        "exec process.oom-score-adj",
        "What is executed has the OOM score of its own process section; runc leaves that out.",
    ),
    known(
        "exec/umask",
        "linux",
        "exec process.umask",
        "What is executed has the umask of its own process section; runc leaves that out.",
    ),
    known(
        "exec/limits-absent",
        "linux",
        "exec limits.*",
        "What is executed without limits has the container's; with runc it has those of containerd's shim.",
    ),
    known(
        "root/propagation-*",
        "*",
        "*mounts /v*",
        "A volume shares its mounts with the host only if its own options say so. With runc one that is shared on the \
         host stays so, whatever rootfsPropagation says: what the container mounts there appears on the host.",
    ),
    known(
        "options/recursive-of-tmpfs",
        "*",
        "*mounts /m/r*",
        "Recursive options (rro, rnosuid …) hold for a file system of the container's own, too; runc drops them there.",
    ),
    known(
        "namespaces/user-with-devices",
        "*",
        "*/dev/fuse*",
        "In a user namespace a device has the mode and owner that the spec gives it. runc shows the host's device file, \
         with the host's mode, of which nobody in the container is the owner.",
    ),
    known(
        "rlimits/eight-descriptors",
        "*",
        "outcome",
        "A Linux program runs with eight descriptors. runc needs more itself and refuses; so does a guest's engine, \
         which says so.",
    ),
    known(
        "args/no-program",
        "linux",
        "outcome",
        "The exit code is a shell's, 126, where runc has 255; both write the reason to standard error.",
    ),
    known(
        "*/without-its-interpreter",
        "linux",
        "*outcome",
        "The exit code is a shell's, 127, where runc has 255; both write the reason to standard error.",
    ),
    known(
        "exec/no-program",
        "linux",
        "exec outcome",
        "The exit code is a shell's, 126, where runc has 255; both write the reason to standard error.",
    ),
    known(
        "hooks/startContainer-*",
        "*",
        "outcome",
        "The exit code is a shell's, 126, where runc has 255; both write the reason to standard error.",
    ),
    known(
        "namespaces/user-*",
        "*",
        "*mounts / options",
        "The image's layers are handed to overlayfs by descriptor; runc's containerd shim mounts them below /tmp first.",
    ),
    known(
        "namespaces/user-*",
        "*",
        "*mounts /dev/*",
        "In a user namespace devices are made on a file system of their own and bound; runc binds the host's.",
    ),
    known(
        "options/*of-a-volume",
        "*",
        "outcome",
        "Options of a file system (sync, mand, lazytime …) are refused on a volume, which has none of its own; runc drops \
         those that it knows. What runc refuses, remount, is taken as a change of the mount.",
    ),
    known(
        "options/writing-of-volumes",
        "*",
        "outcome",
        "As above: sync, dirsync, lazytime and iversion are refused on a volume; runc drops them.",
    ),
    known(
        "options/remount-of-tmpfs",
        "*",
        "outcome",
        "A remount is taken as a change of the mount that is there; runc fails.",
    ),
    known(
        "spec/memory-policy",
        "*",
        "outcome",
        "linux.memoryPolicy is not done, and refused with that reason.",
    ),
    known(
        "root/missing",
        "*",
        "outcome",
        "The root file system is the one that containerd mounts in the bundle, whatever root.path says.",
    ),
    known(
        "root/propagation-runbindable",
        "*",
        "outcome",
        "A root that may not be bound takes volumes all the same: they are attached by descriptor.",
    ),
    known(
        "readonly/below-a-file",
        "*",
        "outcome",
        "A path below a file is not there, so there is nothing to make read-only; runc fails.",
    ),
    known(
        "masked/below-a-file",
        "*",
        "outcome",
        "A path below a file is not there, so there is nothing to hide; runc fails.",
    ),
    known(
        "spec/mount-label",
        "*",
        "outcome",
        "A mount label is not used where SELinux is off; runc fails.",
    ),
    known(
        "cgroups/unified",
        "*",
        "outcome",
        "linux.resources.unified is left out on cgroup v1, which has no such files; runc fails.",
    ),
    known(
        "mounts/type-bind-without-the-option",
        "*",
        "outcome",
        "A mount of type bind is a bind mount also without the option, as the specification reads; runc fails.",
    ),
    known(
        "mounts/dev-is-a-volume",
        "linux",
        "outcome",
        "Files are hidden also where the container has no /dev/null of its own; runc fails.",
    ),
    known(
        "*",
        "linux",
        "*mounts.order",
        "The kernel lists mounts by the age of their copies: volumes are copied before the container's own file systems are made. Which one covers which is the spec's order, as with runc.",
    ),
    known(
        "*",
        "linux",
        "*mounts /sys* options",
        "A read-only sysfs is so by its mount; runc makes the file system read-only, too.",
    ),
    known(
        "mounts/bind-of-a-flagged-mount-read-only",
        "*",
        "*mounts /v*",
        "A volume keeps the flags that it has on the node (nosuid, nodev, noexec) unless the spec takes them away; runc drops them with any other option.",
    ),
    known(
        "namespaces/user-*",
        "*",
        "*mounts /proc/*",
        "Files are hidden by the container's own null device, which in a user namespace is made for the container; runc binds the node's.",
    ),
    known(
        "namespaces/user-*",
        "linux",
        "*tree /dev/*",
        "In a user namespace devices are the container's own and its root's; runc binds the node's. Message queues belong to who made the namespace.",
    ),
    known(
        "namespaces/user-*",
        "linux",
        "*process.session-keyring",
        "The keyring's user may search it in a user namespace, too.",
    ),
    known(
        "args/without-a-path-to-search",
        "linux",
        "outcome",
        "Without PATH the usual directories are searched, as execvp does; runc fails.",
    ),
    known(
        "cwd/is-a-dangling-link",
        "*",
        "outcome",
        "A working directory behind a link to nothing is made where the link leads, in the container; runc fails.",
    ),
    known(
        "capabilities/unknown",
        "*",
        "outcome",
        "A capability that no kernel has is refused; runc leaves it out.",
    ),
    known(
        "cgroups/block-io-weight",
        "*",
        "outcome",
        "A weight that the node's I/O scheduler does not take is refused; runc leaves it out.",
    ),
    known(
        "options/writing-of-tmpfs",
        "*",
        "outcome",
        "An option that the file system does not know (iversion of a tmpfs) is refused; runc drops it.",
    ),
    known(
        "user/absent",
        "*",
        "outcome",
        "A process needs a user, as the specification says; runc takes root.",
    ),
    known(
        "mounts/bind-over-a-file",
        "*",
        "*process.env",
        "The home of a user whom /etc/passwd does not know is /; runc leaves HOME empty here.",
    ),
    on_v1("*", "*namespaces.cgroups", NAMED),
    on_v1("*", "*cgroups name=systemd", NAMED),
    on_v1("*", "*cgroups unified", NAMED),
    on_v1("*", "host cgroup cgroup.*", NAMED),
    on_v1("*", "*mounts /sys/fs/cgroup/systemd*", NAMED),
    on_v1("mounts/cgroup-*", "*mounts.order", NAMED),
    on_v1("namespaces/cgroup-*", "*mounts.order", NAMED),
    on_v1(
        "*/cgroup-*",
        "*mounts /sys/fs/cgroup*",
        "The directory that holds the hierarchies is as read-only as the mount says, and bounded; runc leaves it writable.",
    ),
    on_v1(
        "*",
        "host cgroup devices c 10:200",
        "Tunnels (/dev/net/tun) are for those whose spec allows them; runc allows them to everybody.",
    ),
];
