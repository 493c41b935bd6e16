//! The first process of a container, from the fork to its program: a table of contents.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::{Mode, umask};
use oci_spec::runtime::{Process, Spec};

use crate::cgroups::{self, Cgroups};
use crate::create::has_runtime_hooks;
use crate::error::{Class, Error, Named, Result, shown};
use crate::gate::{Gate, Waiting};
use crate::hooks::{self, State};
use crate::line::{Line, Message};
use crate::mounts::{self, Hierarchies, Prepared};
use crate::namespaces::{Namespaces, UserNamespace};
use crate::process::identity::become_root;
use crate::process::{Becoming, keyring, limits};
use crate::program::{Confined, Program, gone};
use crate::root::devices::{self, Devices};
use crate::root::terminal::{self, Terminal};
use crate::root::tree::Tree;
use crate::root::{hidden, pivot, sysctls};
use crate::sys::clone::{Forked, sibling};
use crate::sys::{descriptors, loopback};

/// Exit code of a process that told its error to the runtime.
const FAILED: i32 = 1;
/// Codes of a shell for a program that is not there, or that cannot be executed.
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// All that the process needs of the host, opened before the fork.
pub struct Plan {
    pub id: String,
    pub spec: Spec,
    pub process: Process,
    pub namespaces: Namespaces,
    pub time_offsets: String,
    pub mounts: Vec<Prepared>,
    pub devices: Devices,
    pub root: OwnedFd,
    pub propagation: (u64, bool),
    pub label: Option<String>,
    pub streams: Option<[OwnedFd; 3]>,
    pub private: Vec<RawFd>,
    pub state: State,
    pub line: Line,
    pub start: OwnedFd,
}

/// Forks the first process in its user namespace, as the host's root who has joined all else. Then this one is done.
pub fn help(plan: Plan, cgroups: &Cgroups, program: impl Program) -> ! {
    let forked = join_by_host_root(&plan, cgroups).and_then(|()| {
        // Whoever this process forks next comes there; it ends itself, so it does not have to return.
        let _stays = plan.namespaces.enter_for_children(Some(&plan.time_offsets))?;
        if let UserNamespace::Joined(namespace) = &plan.namespaces.user {
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER).asked(|| "join the user namespace".into())?;
            become_root()?;
        }
        // SAFETY: a fork of a process with one thread has one.
        unsafe { sibling(plan.namespaces.for_birth(), None) }
            .map_err(|errno| Error::fork(format!("fork the first process of container {}", plan.id), errno))
    });
    match forked {
        Ok(Forked::Child) => run_born(plan, cgroups, program, true),
        Ok(Forked::Parent(pid, process)) => {
            let _ = plan.line.send(&Message::Forked(pid), &[process.as_fd()]);
            std::process::exit(0)
        }
        Err(error) => {
            let _ = plan.line.send(&Message::Failed(error), &[]);
            std::process::exit(FAILED)
        }
    }
}

/// Goes on as the container's first process.
pub fn run(plan: Plan, cgroups: &Cgroups, program: impl Program) -> ! {
    if let Err(error) = join_by_host_root(&plan, cgroups) {
        let _ = plan.line.send(&Message::Failed(error), &[]);
        std::process::exit(FAILED)
    }
    run_born(plan, cgroups, program, false)
}

fn run_born(mut plan: Plan, cgroups: &Cgroups, mut program: impl Program, helped: bool) -> ! {
    for fd in plan.private.drain(..) {
        // SAFETY: these descriptors are copies that the fork made; their owners are never dropped in this process, which
        // ends with exit() or execve().
        unsafe { libc::close(fd) };
    }
    let waits = helped || cgroups.is_adopted();
    let env = confine(&mut plan, cgroups, waits, &program.descriptors());
    let Plan {
        spec,
        process,
        state,
        line,
        start,
        ..
    } = plan;
    let env = match env {
        Ok(env) => env,
        Err(error) => {
            let _ = line.send(&Message::Failed(error), &[]);
            std::process::exit(FAILED)
        }
    };
    let start_hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
    let waiting = Waiting::new(start_hooks, state.with_status("created"));
    let mut confined = Confined {
        process,
        env,
        gate: Gate::of_first(line, start, waiting),
    };
    if let Err(error) = program.prepare(&mut confined) {
        confined.gate.fail(&error);
        std::process::exit(FAILED)
    }
    let error = match confined.gate.open() {
        Ok(()) => match program.run(confined) {
            Ok(never) => match never {},
            Err(error) => error,
        },
        Err(error) => error,
    };
    // After Start there is nobody to return an error to but the container's own output; codes as a shell's.
    let _ = writeln!(std::io::stderr(), "tandem: {error}");
    std::process::exit(if error.class == Class::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    })
}

/// What takes the rights of the host's root, before the user namespace.
fn join_by_host_root(plan: &Plan, cgroups: &Cgroups) -> Result<()> {
    if cgroups.is_entered() {
        cgroups.enter()?;
    }
    if let Some(score) = plan.process.oom_score_adj() {
        cgroups::set_oom_score(score)?;
    }
    limits::raise(plan.process.rlimits().as_deref().unwrap_or_default())?;
    plan.namespaces.enter()
}

/// All steps up to the program. Returns its environment.
fn confine(plan: &mut Plan, cgroups: &Cgroups, waits: bool, of_program: &[RawFd]) -> Result<Vec<String>> {
    if waits {
        expect_go(&plan.line)?;
    }
    if !matches!(plan.namespaces.user, UserNamespace::Host) {
        become_root()?;
    }
    terminal::lead_session();
    umask(Mode::empty());
    if let Some([stdin, stdout, stderr]) = plan.streams.take() {
        descriptors::set_streams(stdin, stdout, stderr).host(|| "set the standard streams".into())?;
    }
    set_up_namespaces(plan)?;
    let tree = build_tree(plan, cgroups)?;
    run_hooks(plan)?;
    close_tree(plan, &tree)?;
    drop(tree);
    keyring::leave(&plan.id);
    if let Some(personality) = plan
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.personality().as_ref())
    {
        limits::set_personality(personality)?;
    }
    let own = [plan.line.as_fd().as_raw_fd(), plan.start.as_raw_fd()];
    let kept = [&own, of_program].concat();
    descriptors::close_all_but(kept).host(|| "close the runtime's descriptors".into())?;
    let becoming = Becoming {
        process: &plan.process,
        capabilities: plan.process.capabilities().as_ref(),
        seccomp: plan.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
    };
    becoming.take(&|listener| {
        plan.line.send(&Message::Listener, &[listener.as_fd()])?;
        expect_go(&plan.line)
    })
}

fn set_up_namespaces(plan: &Plan) -> Result<()> {
    let namespaces = &plan.namespaces;
    if namespaces.makes(CloneFlags::CLONE_NEWCGROUP) {
        unshare(CloneFlags::CLONE_NEWCGROUP).host(|| "make the cgroup namespace".into())?;
    }
    if namespaces.makes(CloneFlags::CLONE_NEWNET) {
        loopback::up().host(|| "bring the loopback interface up".into())?;
    }
    if let Some(name) = plan.spec.hostname() {
        nix::unistd::sethostname(name).asked(|| format!("set the hostname \"{}\"", name.escape_debug()))?;
    }
    if let Some(name) = plan.spec.domainname() {
        crate::sys::clone::set_domain_name(name).asked(|| format!("set the domainname \"{}\"", name.escape_debug()))?;
    }
    Ok(())
}

/// Mounts, devices, terminal and working directory.
fn build_tree(plan: &mut Plan, cgroups: &Cgroups) -> Result<Tree> {
    let root = plan.root.try_clone().host(|| "duplicate a descriptor".into())?;
    pivot::cut_off()?;
    plan.devices.attach_store()?;
    let tree = pivot::attach(root)?;
    let hierarchies: Hierarchies = cgroups.hierarchies(plan.namespaces.makes(CloneFlags::CLONE_NEWCGROUP));
    let owns_dev = !mounts::binds(&plan.mounts, "/dev");
    let late = mounts::attach(
        std::mem::take(&mut plan.mounts),
        &tree,
        plan.label.as_deref(),
        &hierarchies,
    )?;
    if owns_dev {
        plan.devices.make(&tree)?;
        devices::link(&tree)?;
    }
    if plan.process.terminal().unwrap_or(false) {
        let terminal = Terminal::make(&tree, &plan.process)?;
        terminal.bind_console(&tree)?;
        terminal::take(&terminal.peer)?;
        plan.line.send(&Message::Terminal, &[terminal.master.as_fd()])?;
    }
    let cwd = plan.process.cwd();
    if !cwd.as_os_str().is_empty() {
        tree.make_directories(cwd, Mode::from_bits_truncate(0o755))
            .asked(|| format!("make the working directory {}", shown(cwd)))?;
    }
    mounts::make_read_only(late)?;
    Ok(tree)
}

fn run_hooks(plan: &Plan) -> Result<()> {
    let all = plan.spec.hooks().as_ref();
    if has_runtime_hooks(all) {
        plan.line.send(&Message::Mounted, &[])?;
        expect_go(&plan.line)?;
    }
    let hooks = all.and_then(|hooks| hooks.create_container().as_ref());
    hooks::run("createContainer", hooks, &plan.state)
}

/// What nothing may come after in the tree; then it is the root.
fn close_tree(plan: &Plan, tree: &Tree) -> Result<()> {
    if let Some(linux) = plan.spec.linux() {
        sysctls::set(linux.sysctl().as_ref(), tree)?;
        hidden::cover(linux, tree, plan.label.as_deref())?;
    }
    if plan
        .spec
        .root()
        .as_ref()
        .is_some_and(|root| root.readonly() == Some(true))
    {
        pivot::make_read_only(tree)?;
    }
    pivot::enter(tree, plan.propagation)
}

fn expect_go(line: &Line) -> Result<()> {
    match line.receive()? {
        Some((Message::Go, _)) => Ok(()),
        Some((Message::Failed(error), _)) => Err(error),
        _ => Err(gone()),
    }
}
