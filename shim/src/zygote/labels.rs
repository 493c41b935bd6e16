//! Labels of the node's security modules. They take effect at execve: what is written here is what the process
//! becomes with the next one. Source: proc_pid_attr(5); runc writes the same files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::runtime::{Process, Spec};
use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandle};

/// Whether AppArmor confines anything. Source: the kernel's `security/apparmor/lsm.c`.
const APPARMOR: &str = "module/apparmor/parameters/enabled";
/// There where SELinux is on. Source: the kernel's `security/selinux/selinuxfs.c`.
const SELINUX: &str = "fs/selinux/enforce";

/// The security modules that are on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modules {
    /// AppArmor.
    pub apparmor: bool,
    /// SELinux, enforcing or not.
    pub selinux: bool,
}

impl Modules {
    /// Those of this node.
    pub fn of_node() -> Self {
        Self::below(Path::new("/sys"))
    }

    fn below(sys: &Path) -> Self {
        Self {
            apparmor: std::fs::read(sys.join(APPARMOR)).is_ok_and(|text| text.starts_with(b"Y")),
            selinux: sys.join(SELINUX).exists(),
        }
    }
}

/// Whether the process asks for a label, which only an execve gives it.
pub fn are_asked_for(spec: &Spec) -> bool {
    let process = spec.process().as_ref();
    let asked = |label: Option<&String>| label.is_some_and(|label| !label.is_empty());
    asked(process.and_then(|process| process.apparmor_profile().as_ref()))
        || asked(process.and_then(|process| process.selinux_label().as_ref()))
}

/// Has SELinux give the process its label with the next execve. libcontainer does so for AppArmor's profile only.
pub fn set_for_next_exec(spec: &Spec) -> io::Result<()> {
    let label = spec.process().as_ref().and_then(selinux_label);
    match label {
        Some(label) => write(&own_attribute, label),
        None => Ok(()),
    }
}

fn selinux_label(process: &Process) -> Option<&str> {
    process.selinux_label().as_deref().filter(|label| !label.is_empty())
}

fn write(open: &dyn Fn(&str) -> io::Result<File>, label: &str) -> io::Result<()> {
    let fault = |error: io::Error| io::Error::new(error.kind(), format!("SELinux label \"{label}\": {error}"));
    // In one write, as the kernel takes it.
    open("attr/exec")
        .and_then(|mut file| file.write_all(label.as_bytes()))
        .map_err(fault)
}

/// Opens a file of this very thread, in a procfs that is one: the image may have put anything at `/proc`.
fn own_attribute(name: &str) -> io::Result<File> {
    ProcfsHandle::new()
        .and_then(|proc| {
            proc.open(
                ProcfsBase::ProcThreadSelf,
                name,
                OpenFlags::O_WRONLY | OpenFlags::O_CLOEXEC,
            )
        })
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "system_u:system_r:container_t:s0:c1,c2";

    #[test]
    fn modules_are_on_only_where_the_kernel_says_so() {
        let sys = tempfile::tempdir().unwrap();
        assert_eq!(Modules::below(sys.path()), Modules::default());
        for (file, content) in [(APPARMOR, "N\n"), (SELINUX, "0")] {
            let file = sys.path().join(file);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        let modules = Modules::below(sys.path());
        assert!(!modules.apparmor && modules.selinux, "permissive is on too");
        std::fs::write(sys.path().join(APPARMOR), "Y\n").unwrap();
        assert!(Modules::below(sys.path()).apparmor);
    }

    #[test]
    fn the_label_is_written_whole_to_the_threads_exec_attribute() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("attr")).unwrap();
        std::fs::write(proc.path().join("attr/exec"), "").unwrap();
        let open = |name: &str| std::fs::OpenOptions::new().write(true).open(proc.path().join(name));
        write(&open, LABEL).unwrap();
        assert_eq!(std::fs::read_to_string(proc.path().join("attr/exec")).unwrap(), LABEL);
    }

    #[test]
    fn a_label_that_cannot_be_set_is_named() {
        let error = write(&|_| Err(io::ErrorKind::NotFound.into()), LABEL).unwrap_err();
        assert!(error.to_string().contains(LABEL), "{error}");
    }

    #[test]
    fn a_process_without_a_label_needs_none() {
        let mut spec = Spec::default();
        assert!(!are_asked_for(&spec));
        set_for_next_exec(&spec).unwrap();
        if let Some(process) = spec.process_mut() {
            process.set_selinux_label(Some(LABEL.into()));
        }
        assert!(are_asked_for(&spec));
    }
}
