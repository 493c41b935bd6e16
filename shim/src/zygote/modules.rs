//! The worker's answers to a confined process that wants to run a module: compiled code, as a descriptor. The process has
//! found the file by itself, with its own rights; what it cannot do is read the image's layers and the node's cache.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::MsgFlags;
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};
use tandem_aot::{Artifact, Blame, CompileError, Digest, ModuleKind, Requester, Source};
use tandem_confine::{Answer, Error, Question};

use super::Zygote;
use super::handover::Handover;
use super::wire::{self, ModuleAnswer, ModuleQuestion};
use crate::fault::{Fault, Kind, Result, chain};

/// What the confined process wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// Code for the file that comes with the question.
    File {
        /// Its name, for messages.
        name: String,
    },
    /// Code for the layer of the image that has this name in the spec.
    Layer {
        /// The name.
        name: String,
    },
}

/// What it gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// Code, with a descriptor.
    Code(CodeOf),
    /// There is no such module.
    Nothing,
}

/// What compiled code is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeOf {
    /// The module's name, for messages.
    pub name: String,
    /// Whether it is a component.
    pub component: bool,
    /// Digest of its source.
    pub digest: String,
    /// Where a server listens, if the module is of a kind that says so.
    pub http_port: Option<u16>,
}

/// How the process that asks is labelled, which decides whether its guest is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// Not at all: its guest is forked.
    None,
    /// By a security module, with SELinux' label of its files, if it is that.
    Asked(Option<String>),
}

impl Labels {
    /// Those of a process of a container with this spec.
    pub fn of(process: Option<&Process>, spec: &Spec) -> Self {
        let own = spec.process().as_ref();
        let label = |choose: fn(&Process) -> &Option<String>| {
            let label = process.and_then(|process| choose(process).clone());
            let label = label.or_else(|| own.and_then(|own| choose(own).clone()));
            label.filter(|label| !label.is_empty())
        };
        let files = spec.linux().as_ref().and_then(|linux| linux.mount_label().clone());
        match (label(Process::selinux_label), label(Process::apparmor_profile)) {
            (Some(_), _) => Self::Asked(files.filter(|label| !label.is_empty())),
            (None, Some(_)) => Self::Asked(None),
            (None, None) => Self::None,
        }
    }
}

/// Answers for one process.
pub struct Modules<'a> {
    zygote: &'a Zygote,
    service: OwnedFd,
    labels: Labels,
}

impl<'a> Modules<'a> {
    /// With the line to the service.
    pub fn new(zygote: &'a Zygote, service: OwnedFd, labels: Labels) -> Self {
        Self {
            zygote,
            service,
            labels,
        }
    }

    /// Answers a question of the confined process.
    pub fn answer(&mut self, question: Question, fds: Vec<OwnedFd>) -> tandem_confine::Result<Answer> {
        let wanted = serde_json::from_value(question)
            .map_err(|error| Error::invalid("question of the container's process", error.to_string()))?;
        let found = match wanted {
            Wanted::File { name } => self.of_file(name, fds),
            Wanted::Layer { name } => self.of_layer(name),
        };
        let (found, fds) = found.map_err(Error::from)?;
        let value = serde_json::to_value(found).map_err(|error| Error::invalid("answer", error.to_string()))?;
        Ok((value, fds))
    }

    fn of_file(&self, name: String, fds: Vec<OwnedFd>) -> Result<(Found, Vec<OwnedFd>)> {
        let file = fds.into_iter().next();
        let file = file.ok_or_else(|| Fault::internal(format!("{name}: the zygote was given no module")))?;
        let source = Source {
            name: name.clone(),
            file: File::from(file),
            expected: None,
        };
        let artifact = self.compile(&source)?;
        self.give(&artifact, name, None)
    }

    fn of_layer(&self, name: String) -> Result<(Found, Vec<OwnedFd>)> {
        let (answer, _) = self.ask(&ModuleQuestion::Layer { name })?;
        let (name, digest, http_port) = match answer {
            ModuleAnswer::Layer {
                name,
                digest,
                http_port,
            } => (name, digest, http_port),
            ModuleAnswer::None => return Ok((Found::Nothing, Vec::new())),
            other => return Err(unexpected(other)),
        };
        let expected: Digest = digest
            .parse()
            .map_err(|error| Fault::invalid(format!("{name}: {error}")))?;
        let engine = self.zygote.host.engine();
        let artifact = match self.zygote.cache.get(engine, &expected) {
            Ok(Some(artifact)) => artifact,
            Ok(None) => {
                let file = match self.ask(&ModuleQuestion::Bytes)? {
                    (ModuleAnswer::Bytes, Some(file)) => file,
                    (other, _) => return Err(unexpected(other)),
                };
                let source = Source {
                    name: name.clone(),
                    file: File::from(file),
                    expected: Some(expected),
                };
                self.compile(&source)?
            }
            Err(error) => return Err(Fault::internal(format!("{name}: {}", chain(&error)))),
        };
        self.give(&artifact, name, Some(http_port))
    }

    fn compile(&self, source: &Source) -> Result<Artifact> {
        let engine = self.zygote.host.engine();
        let requester = Requester {
            // The service closes its end when nobody waits for the container any more.
            hangup: Some(self.service.as_fd()),
            cgroups: Vec::new(),
        };
        let compiled = self.zygote.cache.get_or_compile_for(engine, source, &requester);
        compiled.map_err(|error| uncompiled(&error))
    }

    fn give(&self, artifact: &Artifact, name: String, http_port: Option<u16>) -> Result<(Found, Vec<OwnedFd>)> {
        let fault = |error: std::io::Error| Fault::internal(format!("{name}: its compiled code: {error}"));
        // It is on a read-only mount that nobody else refers to, so that whoever may look into the guest's process cannot
        // change the code of all containers of that module.
        let file: OwnedFd = artifact.file().try_clone().map_err(fault)?.into();
        let fds = match &self.labels {
            Labels::None => vec![file],
            Labels::Asked(label) => {
                let handover = Handover::prepare(file.as_fd(), label.as_deref());
                let Handover { code, binary, job } = handover.map_err(|error| {
                    Fault::internal(format!("{name}: prepare its execution with a security label: {error}"))
                })?;
                vec![code, binary, job]
            }
        };
        let code = CodeOf {
            name,
            component: artifact.kind() == ModuleKind::Component,
            digest: artifact.digest().to_string(),
            http_port,
        };
        Ok((Found::Code(code), fds))
    }

    fn ask(&self, question: &ModuleQuestion) -> Result<(ModuleAnswer, Option<OwnedFd>)> {
        let gone = |why: &str| Fault::internal(format!("cannot ask the shim's service for the module: {why}"));
        wire::send(self.service.as_fd(), question, &[], MsgFlags::empty()).map_err(|errno| gone(errno.desc()))?;
        let received = wire::receive::<ModuleAnswer>(self.service.as_fd(), MsgFlags::empty());
        let received = received.map_err(|errno| gone(errno.desc()))?;
        let received = received.ok_or_else(|| gone("it has ended, or the call was given up"))?;
        match received.message {
            ModuleAnswer::Failed(fault) => Err(fault),
            message => Ok((message, received.fds?.into_iter().next())),
        }
    }
}

fn unexpected(answer: ModuleAnswer) -> Fault {
    match answer {
        ModuleAnswer::Failed(fault) => fault,
        other => Fault::internal(format!(
            "the shim's service gave an answer to another question: {other:?}"
        )),
    }
}

fn uncompiled(error: &CompileError) -> Fault {
    let kind = match error.blame() {
        Blame::Module => Kind::InvalidArgument,
        Blame::Cost => Kind::ResourceExhausted,
        Blame::Busy => Kind::Unavailable,
        Blame::Node => Kind::Internal,
    };
    Fault {
        kind,
        message: chain(error),
    }
}
