//! A guest that is ready to run.

use crate::command;
use crate::ctx::{ComponentState, CoreState};
use crate::error::HostError;
use crate::exit::Outcome;
use crate::http;
use crate::signals;
use crate::spec::GuestSpec;
use std::panic::AssertUnwindSafe;
use wasmtime::component::ComponentExportIndex;
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// A checked guest, with its imports resolved. Made by [`crate::Host::prepare`].
pub struct Guest {
    pub(crate) program: Program,
}

/// What running a guest means.
pub(crate) enum Program {
    /// Call one export of a core module.
    Core {
        pre: wasmtime::InstancePre<CoreState>,
        /// Name of the export.
        entry: String,
        /// Whether `_initialize` must be called first, as the module is a library rather than a command.
        initialize: bool,
    },
    /// Call `wasi:cli/run`.
    Command(CommandPre<ComponentState>),
    /// Call one exported function of a component.
    Export {
        pre: wasmtime::component::InstancePre<ComponentState>,
        function: ComponentExportIndex,
    },
    /// Serve HTTP until told to stop.
    Http(ProxyPre<ComponentState>),
}

impl Guest {
    /// Whether this guest serves HTTP rather than running to its end.
    #[must_use]
    pub fn is_http(&self) -> bool {
        matches!(self.program, Program::Http(_))
    }

    /// Runs the guest to its end and returns the code that this process must now exit with.
    ///
    /// Takes the process over: its signal handlers, its timers and its standard streams. Reasons for a code that is not
    /// the guest's own are printed to stderr. See the crate's documentation for the codes.
    pub fn run(self, spec: GuestSpec) -> i32 {
        // A panic is a bug of the host. The process ends either way, but it should end with a code that says so.
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| self.run_to_end(spec))).unwrap_or_else(|panic| {
            Outcome::Failed(HostError::Panic {
                reason: message(panic.as_ref()),
            })
        });
        outcome.report()
    }

    fn run_to_end(self, spec: GuestSpec) -> Outcome {
        let ready = signals::install().and_then(|()| match self.engine_with_turns() {
            Some(engine) => signals::start_ticking(engine),
            None => Ok(()),
        });
        if let Err(reason) = ready {
            return Outcome::Failed(HostError::Setup {
                what: "signal handling",
                reason,
            });
        }
        let outcome = match self.program {
            Program::Core { pre, entry, initialize } => command::run_core(&pre, &entry, initialize, &spec),
            Program::Command(pre) => command::run_command(&pre, &spec),
            Program::Export { pre, function } => command::run_export(&pre, &function, &spec),
            Program::Http(pre) => http::serve(pre, spec),
        };
        outcome.unwrap_or_else(Outcome::Failed)
    }

    /// The engine whose guests take turns. A core module has nobody to take turns with.
    fn engine_with_turns(&self) -> Option<&wasmtime::Engine> {
        match &self.program {
            Program::Core { .. } => None,
            Program::Command(pre) => Some(pre.engine()),
            Program::Export { pre, .. } => Some(pre.engine()),
            Program::Http(pre) => Some(pre.engine()),
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| String::from("a panic without a message"))
}
