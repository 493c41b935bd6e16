//! Labels of the node's security modules. They take effect at execve: what is written here is what the process
//! becomes with the next one. Source: proc_pid_attr(5); runc writes the same files.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use oci_spec::runtime::Process;
use pathrs::flags::OpenFlags;
use pathrs::procfs::{ProcfsBase, ProcfsHandle};

use crate::error::{Class, Error, Result};

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
pub fn are_asked_for(process: &Process) -> bool {
    let asked = |label: &Option<String>| label.as_ref().is_some_and(|label| !label.is_empty());
    asked(process.apparmor_profile()) || asked(process.selinux_label())
}

/// Has the security modules give the process its labels with the next execve.
pub fn set_for_next_exec(process: &Process) -> io::Result<()> {
    set(&own_attribute, process)
}

/// With `open` for the files of this thread, by their names below `/proc/thread-self`.
fn set(open: &dyn Fn(&str) -> io::Result<File>, process: &Process) -> io::Result<()> {
    let given = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
    if let Some(profile) = given(process.apparmor_profile()) {
        // A directory of its own since Linux 5.8; before, the module that was loaded first had the files.
        let own = || open("attr/apparmor/exec").or_else(|_| open("attr/exec"));
        write(own(), &format!("exec {profile}"))
            .map_err(|error| io::Error::new(error.kind(), format!("AppArmor profile \"{profile}\": {error}")))?;
    }
    if let Some(label) = given(process.selinux_label()) {
        write(open("attr/exec"), &label)
            .map_err(|error| io::Error::new(error.kind(), format!("SELinux label \"{label}\": {error}")))?;
    }
    Ok(())
}

/// Gives a file an SELinux label. Source: selinux(8), the attribute `security.selinux`.
pub fn set_file_label(path: &Path, label: &str) -> nix::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let c = |text: &[u8]| std::ffi::CString::new(text).map_err(|_| nix::errno::Errno::EINVAL);
    let (path, label) = (c(path.as_os_str().as_bytes())?, c(label.as_bytes())?);
    let name = c"security.selinux";
    let value = label.as_bytes_with_nul();
    // SAFETY: C strings and bytes that outlive the call, with their length.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    nix::errno::Errno::result(result).map(drop)
}

/// Refuses a label that the node cannot give: as runc, a confinement that is asked for and not to be had is an error.
pub fn check(process: &Process, modules: Modules) -> Result<()> {
    let asked = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
    if let (Some(profile), false) = (asked(process.apparmor_profile()), modules.apparmor) {
        return Err(Error::new(
            Class::Precondition,
            format!("AppArmor profile \"{}\"", profile.escape_debug()),
            "AppArmor is not enabled on this node: enable it or remove the profile from the pod",
        ));
    }
    if let (Some(label), false) = (asked(process.selinux_label()), modules.selinux) {
        return Err(Error::new(
            Class::Precondition,
            format!("SELinux label \"{}\"", label.escape_debug()),
            "SELinux is not enabled on this node: enable it or set enable_selinux = false in containerd's configuration",
        ));
    }
    Ok(())
}

/// In one write, as the kernel takes it.
fn write(file: io::Result<File>, text: &str) -> io::Result<()> {
    file?.write_all(text.as_bytes())
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

    fn labelled(edit: impl FnOnce(&mut Process)) -> Process {
        let mut process = Process::default();
        edit(&mut process);
        process
    }

    /// A directory that stands for `/proc/thread-self`.
    struct Attributes(tempfile::TempDir);

    impl Attributes {
        fn with(names: &[&str]) -> Self {
            let proc = tempfile::tempdir().unwrap();
            for name in names {
                let file = proc.path().join(name);
                std::fs::create_dir_all(file.parent().unwrap()).unwrap();
                std::fs::write(file, "").unwrap();
            }
            Self(proc)
        }

        fn set(&self, process: &Process) -> io::Result<()> {
            let open = |name: &str| std::fs::OpenOptions::new().write(true).open(self.0.path().join(name));
            set(&open, process)
        }

        fn read(&self, name: &str) -> String {
            std::fs::read_to_string(self.0.path().join(name)).unwrap()
        }
    }

    #[test]
    fn an_selinux_label_is_written_whole_to_the_exec_attribute() {
        let attributes = Attributes::with(&["attr/exec", "attr/apparmor/exec"]);
        let process = labelled(|process| _ = process.set_selinux_label(Some(LABEL.into())));
        attributes.set(&process).unwrap();
        assert_eq!(attributes.read("attr/exec"), LABEL);
        assert_eq!(attributes.read("attr/apparmor/exec"), "");
    }

    #[test]
    fn an_apparmor_profile_goes_to_its_modules_own_attribute_where_there_is_one() {
        let process = labelled(|process| _ = process.set_apparmor_profile(Some("p".into())));
        for (names, expected) in [
            (&["attr/exec", "attr/apparmor/exec"] as &[&str], "attr/apparmor/exec"),
            (&["attr/exec"], "attr/exec"),
        ] {
            let attributes = Attributes::with(names);
            attributes.set(&process).unwrap();
            assert_eq!(attributes.read(expected), "exec p");
        }
    }

    #[test]
    fn a_label_that_cannot_be_set_is_named() {
        let process = labelled(|process| _ = process.set_selinux_label(Some(LABEL.into())));
        let error = Attributes::with(&[]).set(&process).unwrap_err();
        assert!(error.to_string().contains(LABEL), "{error}");
    }

    #[test]
    fn a_process_without_a_label_needs_none() {
        let mut process = Process::default();
        process
            .set_apparmor_profile(Some(String::new()))
            .set_selinux_label(None);
        assert!(!are_asked_for(&process));
        set_for_next_exec(&process).unwrap();
        check(&process, Modules::default()).unwrap();
        process.set_selinux_label(Some(LABEL.into()));
        assert!(are_asked_for(&process));
        assert!(
            check(&process, Modules::default())
                .unwrap_err()
                .to_string()
                .contains(LABEL)
        );
    }
}
