//! Guests that run to their end: core modules, `wasi:cli/run`, and single functions.
//!
//! All of it happens on the calling thread. File operations block it, as they would block a native program; a second
//! thread starts only where a component reads its stdin, waits for a pipe, or looks up a name.

use crate::ctx::{self, ComponentState, CoreState};
use crate::error::HostError;
use crate::exit::Outcome;
use crate::spec::GuestSpec;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use tokio::runtime::Runtime;
use wasmtime::Val as CoreVal;
use wasmtime::component::{ComponentExportIndex, Val};
use wasmtime_wasi::p2::bindings::CommandPre;

/// Name of the function that a library module wants called before any other.
pub(crate) const INITIALIZE: &str = "_initialize";

/// Runs an export of a core module.
pub(crate) fn run_core(
    pre: &wasmtime::InstancePre<CoreState>,
    entry: &str,
    initialize: bool,
    spec: &GuestSpec,
) -> Result<Outcome, HostError> {
    let mut store = ctx::core_store(pre.module().engine(), spec)?;
    Ok(run_at_once(async {
        let instance = match pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Outcome::of_instantiation(error),
        };
        let functions = initialize.then_some(INITIALIZE).into_iter().chain([entry]);
        let mut results = Vec::new();
        for name in functions {
            // The export and its type were checked when the guest was prepared.
            let Some(function) = instance.get_func(&mut store, name) else {
                return gone(name);
            };
            results = vec![CoreVal::I32(0); function.ty(&store).results().len()];
            if let Err(error) = function.call_async(&mut store, &[], &mut results).await {
                return Outcome::of_call(error);
            }
        }
        Outcome::Exited(results.first().and_then(CoreVal::i32).unwrap_or(0))
    }))
}

/// Runs a component's `wasi:cli/run`.
pub(crate) fn run_command(pre: &CommandPre<ComponentState>, spec: &GuestSpec) -> Result<Outcome, HostError> {
    let mut store = ctx::component_store(pre.engine(), spec)?;
    block_on(async {
        let command = match pre.instantiate_async(&mut store).await {
            Ok(command) => command,
            Err(error) => return Outcome::of_instantiation(error),
        };
        match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Ok(())) => Outcome::Exited(0),
            Ok(Err(())) => Outcome::Exited(1),
            Err(error) => Outcome::of_call(error),
        }
    })
}

/// Runs one exported function of a component.
pub(crate) fn run_export(
    pre: &wasmtime::component::InstancePre<ComponentState>,
    function: &ComponentExportIndex,
    spec: &GuestSpec,
) -> Result<Outcome, HostError> {
    let mut store = ctx::component_store(pre.engine(), spec)?;
    block_on(async {
        let instance = match pre.instantiate_async(&mut store).await {
            Ok(instance) => instance,
            Err(error) => return Outcome::of_instantiation(error),
        };
        let Some(function) = instance.get_func(&mut store, function) else {
            return gone("the entry");
        };
        let mut results = vec![Val::Bool(false); function.ty(&store).results().len()];
        match function.call_async(&mut store, &[], &mut results).await {
            Ok(()) => Outcome::Exited(results.first().map_or(0, exit_code)),
            Err(error) => Outcome::of_call(error),
        }
    })
}

/// The exit code that a function's result means; its type was checked when the guest was prepared.
fn exit_code(result: &Val) -> i32 {
    match result {
        Val::Result(Err(_)) => 1,
        Val::U8(code) => i32::from(*code),
        Val::S32(code) => *code,
        Val::U32(code) => code.cast_signed(),
        _ => 0,
    }
}

fn gone(name: &str) -> Outcome {
    Outcome::Failed(HostError::Instantiate {
        reason: format!("`{name}` is not there any more"),
    })
}

/// Runs what never waits but in the kernel, as core modules do. It is asynchronous only to have the guest on a stack of
/// its own, and needs no event loop.
fn run_at_once<T>(run: impl Future<Output = T>) -> T {
    let mut run = pin!(run);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(result) = run.as_mut().poll(&mut context) {
            return result;
        }
    }
}

fn block_on<T>(run: impl Future<Output = T>) -> Result<T, HostError> {
    let runtime = runtime()?;
    let result = runtime.block_on(run);
    // Without waiting: a name lookup whose answer nobody needs any more may still be blocked in libc.
    runtime.shutdown_background();
    Ok(result)
}

fn runtime() -> Result<Runtime, HostError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|reason| HostError::Setup {
            what: "the event loop",
            reason,
        })
}
