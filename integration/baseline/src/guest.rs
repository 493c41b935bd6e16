//! Runs a guest to its end.

use anyhow::{Context, Result, bail};
use containerd_shim_wasm::sandbox::context::{RuntimeContext, WasmBinaryType};
use tokio::signal::unix::{SignalKind, signal};
use wasmtime::component::{self, Component, ResourceTable};
use wasmtime::{Engine, Module, Precompiled, Store};
use wasmtime_wasi::p2::bindings::Command;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::http;

/// The host's state for a component.
pub struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl State {
    pub fn new(wasi: WasiCtx) -> Self {
        Self {
            wasi,
            http: WasiHttpCtx::new(),
            table: ResourceTable::new(),
        }
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: Default::default(),
        }
    }
}

/// What there is to run.
enum Program {
    Module(Module),
    Component(Component),
}

/// Runs the guest that `ctx` describes; returns its exit status.
pub async fn run(engine: &Engine, ctx: &impl RuntimeContext) -> Result<i32> {
    let entry = ctx.entrypoint();
    let program = load(engine, &entry.source.as_bytes()?)?;
    match program {
        Program::Module(it) => module(it, ctx, &entry.func).await,
        Program::Component(it) => component(it, ctx, &entry.func).await,
    }
}

/// Takes compiled code as it is and compiles anything else.
fn load(engine: &Engine, bytes: &[u8]) -> Result<Program> {
    Ok(match Engine::detect_precompiled(bytes) {
        // SAFETY: the bytes come from containerd's content store, where the precompiler put them. (They may also be
        // a layer that the image's author compiled: that is runwasi's trust model, and one Tandem does not share.)
        Some(Precompiled::Module) => Program::Module(unsafe { Module::deserialize(engine, bytes) }?),
        Some(Precompiled::Component) => {
            // SAFETY: as above.
            Program::Component(unsafe { Component::deserialize(engine, bytes) }?)
        }
        None if WasmBinaryType::from_bytes(bytes).is_some_and(is_component) => {
            Program::Component(Component::from_binary(engine, bytes)?)
        }
        // A module, or the text of one.
        None => Program::Module(Module::new(engine, bytes)?),
    })
}

fn is_component(kind: WasmBinaryType) -> bool {
    matches!(kind, WasmBinaryType::Component)
}

/// Runs a p1 module.
async fn module(module: Module, ctx: &impl RuntimeContext, func: &str) -> Result<i32> {
    let mut store = Store::new(module.engine(), wasi(ctx)?.build_p1());
    let mut linker = wasmtime::Linker::new(module.engine());
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |state| state)?;
    let instance = linker.instantiate_async(&mut store, &module).await?;
    let func = instance
        .get_func(&mut store, func)
        .with_context(|| format!("the module exports no function {func:?}"))?;
    exit_code(func.call_async(&mut store, &[], &mut []).await)
}

/// Runs a component until it is done or the container is asked to stop.
async fn component(component: Component, ctx: &impl RuntimeContext, func: &str) -> Result<i32> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        status = serve_or_call(component, ctx, func) => status,
        _ = terminate.recv() => Ok(128 + libc::SIGTERM),
        _ = interrupt.recv() => Ok(128 + libc::SIGINT),
    }
}

async fn serve_or_call(component: Component, ctx: &impl RuntimeContext, func: &str) -> Result<i32> {
    let engine = component.engine();
    let exports = |interface: &str| {
        component
            .component_type()
            .exports(engine)
            .any(|(name, _)| name.starts_with(interface))
    };
    let mut linker = component::Linker::<State>::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;

    if exports("wasi:http/incoming-handler") {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        let proxy = ProxyPre::new(linker.instantiate_pre(&component)?)?;
        http::serve(proxy, environment(ctx)).await?;
        return Ok(0);
    }

    let mut store = Store::new(engine, State::new(wasi(ctx)?.build()));
    if exports("wasi:cli/run") {
        let command = Command::instantiate_async(&mut store, &component, &linker).await?;
        return match command.wasi_cli_run().call_run(&mut store).await {
            Ok(Err(())) => bail!("the command failed"),
            Ok(Ok(())) => Ok(0),
            Err(error) => exit_code(Err(error)),
        };
    }
    let instance = linker.instantiate_async(&mut store, &component).await?;
    let func = instance
        .get_func(&mut store, func)
        .with_context(|| format!("the component exports no function {func:?}"))?;
    exit_code(func.call_async(&mut store, &[], &mut []).await)
}

/// The status a guest left with: its own, or 0 if it just returned.
fn exit_code(result: wasmtime::Result<()>) -> Result<i32> {
    match result {
        Ok(()) => Ok(0),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(exit) => Ok(exit.0),
            None => Err(error.into()),
        },
    }
}

/// What a guest may reach: everything in its container.
fn wasi(ctx: &impl RuntimeContext) -> Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .args(ctx.args())
        .envs(&environment(ctx))
        .inherit_stdio()
        .inherit_network()
        .allow_ip_name_lookup(true)
        .preopened_dir("/", "/", FsPerms::ReadWrite)?;
    Ok(builder)
}

fn environment(ctx: &impl RuntimeContext) -> Vec<(String, String)> {
    let pair = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    };
    ctx.envs().iter().map(pair).collect()
}
