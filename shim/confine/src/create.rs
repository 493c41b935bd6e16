//! Making a container: the side of the runtime. It opens what the container needs of the host, forks the first process as
//! a sibling, and helps it with what takes the host's rights: mapping ids, systemd, hooks, and the program's questions.
//!
//! The first process of a container with a user namespace is forked by a helper, which has joined everything that only the
//! host's root can. So a container costs one fork, or two.

use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::{Hooks, Spec};

use crate::cgroups::Cgroups;
use crate::error::{Class, Error, Named, Result, shown};
use crate::gate::starter;
use crate::hooks::{self, State};
use crate::init::{self, Plan};
use crate::line::{Line, Message};
use crate::mounts::{self, Surroundings};
use crate::namespaces::{Namespaces, UserNamespace, time_offsets};
use crate::process::labels::{self, Modules};
use crate::program::{Answer, Program, Question, borrowed};
use crate::root::{devices::Devices, pivot, sysctls};
use crate::sys::clone::{EndsWhereItPanics, Forked, sibling};
use crate::unready::Unready;

/// What to make.
pub struct NewContainer<'a> {
    /// Its name.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a Path,
    /// Its spec.
    pub spec: &'a Spec,
    /// Where its root file system is mounted.
    pub rootfs: &'a Path,
    /// Whether systemd makes the cgroup.
    pub systemd: bool,
    /// Input, output and errors; none for a terminal.
    pub streams: Option<[OwnedFd; 3]>,
    /// Descriptors of the caller that the container's process must not have.
    pub private: Vec<RawFd>,
}

/// A container whose first process is confined and waits.
#[derive(Debug)]
pub struct Created {
    /// The first process.
    pub pid: i32,
    /// A byte written here starts it; closing it ends it.
    pub start: OwnedFd,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Makes the container. `answer` answers the program's questions.
///
/// The calling process must have one thread. It changes its working directory, and is of no other use after.
pub fn create(
    new: NewContainer<'_>,
    program: impl Program,
    answer: &mut dyn FnMut(Question, Vec<OwnedFd>) -> Result<Answer>,
) -> Result<Created> {
    let NewContainer { id, bundle, spec, .. } = new;
    let cgroups = Cgroups::of(spec, id, new.systemd)?;
    cgroups.expect_unused()?;
    let (line, theirs) = Line::pair()?;
    let (waits, start) = starter()?;
    let plan = plan(new, theirs, waits)?;
    let birthplace = cgroups.prepare()?;
    // The container's processes will see the new one before it is done with what is the runtime's: its memory and its
    // descriptors are none of theirs. An execve ends this. Source: runc, CVE-2016-9962.
    nix::sys::prctl::set_dumpable(false).host(|| "hide the process from the container".into())?;
    let place = birthplace.as_ref().map(AsFd::as_fd);
    let helped = !matches!(plan.namespaces.user, UserNamespace::Host);
    let back = match helped {
        true => None,
        false => Some(plan.namespaces.enter_for_children(Some(&plan.time_offsets))?),
    };
    let born = match helped {
        true => CloneFlags::empty(),
        false => plan.namespaces.for_birth(),
    };
    // SAFETY: the caller has one thread.
    let forked = unsafe { sibling(born, place) };
    let forked = match forked {
        Ok(Forked::Child) => {
            let _ends = EndsWhereItPanics;
            drop((line, start, birthplace, back));
            match helped {
                true => init::help(plan, &cgroups, program),
                false => init::run(plan, &cgroups, program),
            }
        }
        Ok(Forked::Parent(pid, process)) => (pid, Unready::new(process)),
        Err(errno) => return Err(Error::fork(format!("fork the first process of container {id}"), errno)),
    };
    let maps = match &plan.namespaces.user {
        UserNamespace::New(mappings) => Some(mappings.clone()),
        _ => None,
    };
    drop(plan);
    if let Some(back) = back {
        back.go()?;
    }
    let maker = Maker { id, bundle, spec, line };
    let (pid, mut unready) = match helped {
        true => maker.helped(forked.1)?,
        false => forked,
    };
    let hooks = spec.hooks().as_ref();
    unready.runs_hooks(hooks.is_some_and(|all| all.create_container().is_some()));
    if let Some(mappings) = maps {
        for (file, lines) in mappings.as_files() {
            std::fs::write(format!("/proc/{pid}/{file}"), &lines)
                .asked(|| format!("map the ids \"{}\" ({file})", lines.trim().escape_debug()))?;
        }
    }
    if cgroups.is_adopted() {
        cgroups.adopt(pid)?;
    }
    if cgroups.is_adopted() || helped {
        maker.line.send(&Message::Go, &[])?;
    }
    let terminal = maker.help_until_ready(pid, &unready, answer)?;
    unready.leave();
    Ok(Created { pid, start, terminal })
}

/// Opens and checks all that the first process needs.
fn plan(new: NewContainer<'_>, line: Line, start: OwnedFd) -> Result<Plan> {
    let spec = new.spec;
    let linux = spec.linux().as_ref();
    let linux = linux.ok_or_else(|| Error::invalid("spec", "it has no \"linux\" section"))?;
    let process = spec.process().clone();
    let process = process.ok_or_else(|| Error::invalid("spec", "it has no \"process\""))?;
    if !process.cwd().is_absolute() {
        return Err(Error::invalid("process.cwd", "it is not an absolute path"));
    }
    let modules = Modules::of_node();
    labels::check(&process, modules)?;
    unsupported(linux)?;
    let namespaces = Namespaces::of(linux)?;
    sysctls::check(linux.sysctl().as_ref(), &namespaces)?;
    if (spec.hostname().is_some() || spec.domainname().is_some()) && !namespaces.has(CloneFlags::CLONE_NEWUTS) {
        return Err(Error::invalid(
            "hostname",
            "the container shares the host's uts namespace, whose name is the node's: leave it out, or add the namespace",
        ));
    }
    let label = linux
        .mount_label()
        .clone()
        .filter(|label| modules.selinux && !label.is_empty());
    let around = Surroundings {
        bundle: new.bundle,
        user: &namespaces.user,
        label: label.as_deref(),
    };
    let mappings = match &namespaces.user {
        UserNamespace::New(mappings) => Some(mappings.clone()),
        _ => crate::idmap::Mappings::of_spec(linux.uid_mappings().as_deref(), linux.gid_mappings().as_deref()),
    };
    let bound = !matches!(namespaces.user, UserNamespace::Host);
    let propagation = pivot::propagation(spec)?;
    // First of all mounts, so that it is the first in the container's table, too.
    let root = pivot::prepare(new.rootfs, propagation)?;
    let mounts = mounts::prepare(spec.mounts().as_deref().unwrap_or_default(), &around)?;
    // The child finds the place in its own mount namespace by its working directory, whose path it may not be able to walk.
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(new.rootfs, flags, Mode::empty())
        .and_then(nix::unistd::fchdir)
        .asked(|| format!("root file system {}", shown(new.rootfs)))?;
    Ok(Plan {
        id: new.id.to_owned(),
        devices: Devices::of(spec, mappings.as_ref(), bound)?,
        state: State::new(spec, new.id, new.bundle, "creating", None),
        spec: spec.clone(),
        process,
        time_offsets: time_offsets(linux),
        namespaces,
        mounts,
        root,
        propagation,
        label,
        streams: new.streams,
        private: new.private,
        line,
        start,
    })
}

/// Refuses what would otherwise be dropped.
fn unsupported(linux: &oci_spec::runtime::Linux) -> Result<()> {
    let asked = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        (
            "linux.netDevices",
            linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()),
        ),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        Some((name, _)) => Err(Error::new(
            Class::Unsupported,
            *name,
            "this runtime does not do it: remove it from the spec",
        )),
        None => Ok(()),
    }
}

struct Maker<'a> {
    id: &'a str,
    bundle: &'a Path,
    spec: &'a Spec,
    line: Line,
}

impl Maker<'_> {
    fn ended(&self) -> Error {
        Error::new(
            Class::Internal,
            format!("first process of container {}", self.id),
            "it ended before it was ready: it may have been killed, for want of memory or by its limits",
        )
    }

    /// The process that the helper has forked.
    fn helped(&self, helper: Unready) -> Result<(i32, Unready)> {
        match helper.receive(&self.line)? {
            Some((Message::Forked(pid), fds)) => {
                helper.leave();
                let process = fds.into_iter().next().ok_or_else(|| self.ended())?;
                Ok((pid, Unready::new(process)))
            }
            Some((Message::Failed(error), _)) => Err(error),
            _ => Err(self.ended()),
        }
    }

    /// Does what it is asked for, until the first process is ready. Returns the terminal's master.
    fn help_until_ready(
        &self,
        pid: i32,
        unready: &Unready,
        answer: &mut dyn FnMut(Question, Vec<OwnedFd>) -> Result<Answer>,
    ) -> Result<Option<OwnedFd>> {
        let mut terminal = None;
        loop {
            let Some((message, fds)) = unready.receive(&self.line)? else {
                return Err(self.ended());
            };
            match message {
                Message::Ready => return Ok(terminal),
                Message::Failed(error) => return Err(error),
                Message::Mounted => self.answer(self.run_hooks(pid).map(|()| (Message::Go, Vec::new())))?,
                Message::Terminal => terminal = fds.into_iter().next(),
                Message::Listener => {
                    let passed = fds.into_iter().next().ok_or_else(|| self.ended());
                    let passed = passed.and_then(|fd| pass_listener(self.spec, &self.state(pid), pid, &fd));
                    self.answer(passed.map(|()| (Message::Go, Vec::new())))?;
                }
                Message::Program(question) => {
                    let answered = answer(question, fds);
                    self.answer(answered.map(|(value, fds)| (Message::Program(value), fds)))?;
                }
                Message::Go | Message::Forked(_) => return Err(self.ended()),
            }
        }
    }

    /// The other side tells the error: so it ends by itself, and in one way only.
    fn answer(&self, answer: Result<(Message, Vec<OwnedFd>)>) -> Result<()> {
        match answer {
            Ok((message, fds)) => self.line.send(&message, &borrowed(&fds)),
            Err(error) => self.line.send(&Message::Failed(error), &[]),
        }
    }

    fn state(&self, pid: i32) -> State {
        State::new(self.spec, self.id, self.bundle, "creating", Some(pid))
    }

    fn run_hooks(&self, pid: i32) -> Result<()> {
        let Some(all) = self.spec.hooks() else { return Ok(()) };
        let state = self.state(pid);
        #[allow(deprecated)]
        hooks::run("prestart", all.prestart().as_ref(), &state)?;
        hooks::run("createRuntime", all.create_runtime().as_ref(), &state)
    }
}

/// Whether hooks are to run while the container is made, in the runtime's namespaces.
pub fn has_runtime_hooks(hooks: Option<&Hooks>) -> bool {
    let any = |hooks: &Option<Vec<_>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
    #[allow(deprecated)]
    hooks.is_some_and(|hooks| any(hooks.prestart()) || any(hooks.create_runtime()))
}

/// Hands the seccomp filter's listener to the agent that the spec names.
/// Source: OCI runtime spec, config-linux.md, "The Container Process State".
pub fn pass_listener(spec: &Spec, state: &State, pid: i32, listener: &OwnedFd) -> Result<()> {
    let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let path = seccomp.and_then(|seccomp| seccomp.listener_path().clone());
    let path = path.ok_or_else(|| Error::invalid("seccomp profile", "it notifies, and has no listenerPath"))?;
    let metadata = seccomp.and_then(|seccomp| seccomp.listener_metadata().clone());
    let what = || format!("pass the seccomp listener to {}", shown(&path));
    let told = serde_json::json!({
        "ociVersion": spec.version(),
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata.unwrap_or_default(),
        "state": state,
    });
    let bytes = serde_json::to_vec(&told).map_err(|error| Error::invalid(what(), error.to_string()))?;
    let agent = std::os::unix::net::UnixStream::connect(&path).asked(what)?;
    use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
    use std::os::fd::AsRawFd;
    let fds = [listener.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&fds)];
    let slices = [std::io::IoSlice::new(&bytes)];
    sendmsg::<UnixAddr>(agent.as_raw_fd(), &slices, &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .host(what)
}
