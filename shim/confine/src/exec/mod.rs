//! A further process in a running container. It takes the steps of a first process but for those that make the container:
//! cgroups and namespaces are joined, and the tree is there. Source: runc `setns_init_linux.go`.

mod entrance;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::{Process, Spec};

use crate::cgroups;
use crate::create::pass_listener;
use crate::error::{Class, Error, Named, Result};
use crate::gate::Gate;
use crate::hooks::State;
use crate::line::{Line, Message};
use crate::process::identity::become_root;
use crate::process::labels::{self, Modules};
use crate::process::{Becoming, keyring, limits};
use crate::program::{Answer, Confined, Program, Question, borrowed, gone};
use crate::root::terminal::{self, Terminal};
use crate::root::tree::Tree;
use crate::sys::clone::{EndsWhereItPanics, Forked, sibling};
use crate::sys::descriptors;
use crate::unready::Unready;
use entrance::Entrance;

/// What to execute.
pub struct NewProcess<'a> {
    /// The container.
    pub id: &'a str,
    /// Its bundle.
    pub bundle: &'a std::path::Path,
    /// Its spec.
    pub spec: &'a Spec,
    /// Its first process, a child of the caller's parent.
    pub init: i32,
    /// The process's own section.
    pub process: Process,
    /// Input, output and errors; none for a terminal.
    pub streams: Option<[OwnedFd; 3]>,
    /// Descriptors of the caller that the process must not have.
    pub private: Vec<RawFd>,
}

/// A process that runs.
#[derive(Debug)]
pub struct Executed {
    /// The process.
    pub pid: i32,
    /// The master of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Executes a process; it runs when this returns. `answer` answers the program's questions.
///
/// The calling process must have one thread, and is of no other use after.
pub fn exec(
    mut new: NewProcess<'_>,
    program: impl Program,
    answer: &mut dyn FnMut(Question, Vec<OwnedFd>) -> Result<Answer>,
) -> Result<Executed> {
    inherit_labels(&mut new.process, new.spec.process().as_ref());
    labels::check(&new.process, Modules::of_node())?;
    let mut entrance = Entrance::open(new.init)?;
    let (line, theirs) = Line::pair()?;
    // As for a first process. Source: runc, CVE-2016-9962.
    nix::sys::prctl::set_dumpable(false).host(|| "hide the process from the container".into())?;
    let back = entrance.enter_for_children()?;
    // SAFETY: the caller has one thread.
    let forked = unsafe { sibling(CloneFlags::empty(), None) };
    let (pid, unready) = match forked {
        Ok(Forked::Child) => {
            let _ends = EndsWhereItPanics;
            drop((line, back));
            become_program(new, theirs, entrance, program)
        }
        Ok(Forked::Parent(pid, process)) => (pid, Unready::new(process)),
        Err(errno) => {
            return Err(Error::fork(
                format!("fork into container {}, which may be ending", new.id),
                errno,
            ));
        }
    };
    drop((theirs, entrance));
    back.go()?;
    let terminal = help_until_it_runs(&new, pid, &line, &unready, answer)?;
    unready.leave();
    Ok(Executed { pid, terminal })
}

fn help_until_it_runs(
    new: &NewProcess<'_>,
    pid: i32,
    line: &Line,
    unready: &Unready,
    answer: &mut dyn FnMut(Question, Vec<OwnedFd>) -> Result<Answer>,
) -> Result<Option<OwnedFd>> {
    let (mut terminal, mut ready) = (None, false);
    loop {
        let Some((message, fds)) = unready.receive(line)? else {
            if ready {
                return Ok(terminal);
            }
            return Err(Error::new(
                Class::Precondition,
                "process",
                "it was killed before it could run: its container may have ended",
            ));
        };
        let answered = match message {
            Message::Failed(error) => return Err(error),
            Message::Terminal => {
                terminal = fds.into_iter().next();
                continue;
            }
            Message::Ready => {
                ready = true;
                continue;
            }
            Message::Listener => {
                let state = State::new(new.spec, new.id, new.bundle, "running", Some(new.init));
                let passed = fds.into_iter().next().ok_or_else(gone);
                let passed = passed.and_then(|fd| pass_listener(new.spec, &state, pid, &fd));
                passed.map(|()| (Message::Go, Vec::new()))
            }
            Message::Program(question) => answer(question, fds).map(|(value, fds)| (Message::Program(value), fds)),
            Message::Go | Message::Forked(_) | Message::Mounted => Err(gone()),
        };
        match answered {
            Ok((message, fds)) => line.send(&message, &borrowed(&fds))?,
            // The other side tells the error: so it ends by itself, and in one way only.
            Err(error) => line.send(&Message::Failed(error), &[])?,
        }
    }
}

/// Where the exec does not say, it is confined as the container is.
fn inherit_labels(process: &mut Process, own: Option<&Process>) {
    let Some(own) = own else { return };
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(own.selinux_label().clone());
    }
}

fn become_program(mut new: NewProcess<'_>, line: Line, entrance: Entrance, mut program: impl Program) -> ! {
    for fd in new.private.drain(..) {
        // SAFETY: these descriptors are copies that the fork made; their owners are never dropped in this process, which
        // ends with exit() or execve().
        unsafe { libc::close(fd) };
    }
    let env = confine(&mut new, &line, entrance, &program.descriptors());
    let gate = Gate::of_executed(line);
    let error = match env {
        Ok(env) => {
            let process = new.process;
            let mut confined = Confined { process, env, gate };
            match program.prepare(&mut confined).and_then(|()| confined.gate.open()) {
                Ok(()) => match program.run(confined) {
                    Ok(never) => match never {},
                    // The line is closed: what there is to say the program has said.
                    Err(error) => (error, None),
                },
                Err(error) => (error, Some(confined.gate)),
            }
        }
        Err(error) => (error, Some(gate)),
    };
    let (error, gate) = error;
    if !gate.is_some_and(|gate| gate.fail(&error)) {
        let _ = writeln!(std::io::stderr(), "tandem: {error}");
    }
    std::process::exit(if error.class == Class::NotFound { 127 } else { 126 })
}

/// All steps up to the program. Returns its environment.
fn confine(new: &mut NewProcess<'_>, line: &Line, mut entrance: Entrance, of_program: &[RawFd]) -> Result<Vec<String>> {
    let own = new.spec.process().as_ref();
    terminal::lead_session();
    entrance.enter_cgroups()?;
    if let Some(score) = new
        .process
        .oom_score_adj()
        .or_else(|| own.and_then(Process::oom_score_adj))
    {
        cgroups::set_oom_score(score)?;
    }
    if new.process.rlimits().is_none() {
        new.process.set_rlimits(own.and_then(|own| own.rlimits().clone()));
    }
    limits::raise(new.process.rlimits().as_deref().unwrap_or_default())?;
    if let Some(affinity) = new.process.exec_cpu_affinity() {
        limits::set_affinity(affinity)?;
    }
    if let Some([stdin, stdout, stderr]) = new.streams.take() {
        descriptors::set_streams(stdin, stdout, stderr).host(|| "set the standard streams".into())?;
    }
    if entrance.enter_namespaces()? {
        become_root()?;
    }
    keyring::leave(new.id);
    if new.process.terminal().unwrap_or(false) {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let root = nix::fcntl::open("/", flags, Mode::empty()).host(|| "open the container's root".into())?;
        let terminal = Terminal::make(&Tree::new(root), &new.process)?;
        terminal::take(&terminal.peer)?;
        line.send(&Message::Terminal, &[terminal.master.as_fd()])?;
    }
    if let Some(personality) = new.spec.linux().as_ref().and_then(|linux| linux.personality().as_ref()) {
        limits::set_personality(personality)?;
    }
    let kept = [&[line.as_fd().as_raw_fd()], of_program].concat();
    descriptors::close_all_but(kept).host(|| "close the runtime's descriptors".into())?;
    let becoming = Becoming {
        process: &new.process,
        capabilities: new
            .process
            .capabilities()
            .as_ref()
            .or_else(|| own.and_then(|own| own.capabilities().as_ref())),
        seccomp: new.spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()),
    };
    becoming.take(&|listener| {
        line.send(&Message::Listener, &[listener.as_fd()])?;
        match line.receive()? {
            Some((Message::Go, _)) => Ok(()),
            Some((Message::Failed(error), _)) => Err(error),
            _ => Err(gone()),
        }
    })
}
