//! WASI 0.2: the interfaces that components import.
//!
//! `wasi:filesystem` is Tandem's own, on the view of [`crate::fs`]. All others are wasmtime-wasi's. So are the types that
//! go with the interface: a guest's `descriptor` is a number of the store's table, where a [`crate::fs::Node`] is kept.

mod convert;
mod descriptor;
mod streams;

use crate::ctx::ComponentState;
use crate::fs::{Node, View};
use std::sync::Arc;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::bindings::{cli, random, sockets};
use wasmtime_wasi::p2::{FsError, FsResult};
use wasmtime_wasi::random::WasiRandom;
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsView as _};

/// What `wasi:filesystem` works on: the files, and the guest's descriptors.
pub(crate) struct Files<'a> {
    pub(crate) view: &'a Arc<View>,
    pub(crate) table: &'a mut ResourceTable,
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = Files<'a>;
}

impl Files<'_> {
    fn node(&self, descriptor: &Resource<types::Descriptor>) -> FsResult<Node> {
        let node = self.table.get(&Resource::<Node>::new_borrow(descriptor.rep()))?;
        Ok(node.clone())
    }

    fn push(&mut self, node: Node) -> FsResult<Resource<types::Descriptor>> {
        let resource = self.table.push(node)?;
        Ok(Resource::new_own(resource.rep()))
    }
}

/// Does what may block: on the calling thread of a command, which is alone on it, else on a thread for that.
async fn blocking<T: Send + 'static>(
    view: &Arc<View>,
    operate: impl FnOnce(&View) -> crate::fs::Result<T> + Send + 'static,
) -> crate::fs::Result<T> {
    if view.is_patient() {
        return operate(view);
    }
    let view = Arc::clone(view);
    // It fails only where the runtime ends, and with it the guest.
    let task = tokio::task::spawn_blocking(move || operate(&view));
    task.await.unwrap_or(Err(rustix::io::Errno::CANCELED))
}

fn failed(errno: rustix::io::Errno) -> FsError {
    crate::fs::errno::wasi_0_2(errno).into()
}

/// Adds all interfaces of WASI 0.2 but those of `wasi:http`.
pub(crate) fn add_to_linker(linker: &mut Linker<ComponentState>) -> wasmtime::Result<()> {
    type State = ComponentState;
    let l = linker;
    // wasi:io, wasi:clocks, random, and the three streams.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(l)?;
    random::insecure::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    random::insecure_seed::add_to_linker::<State, WasiRandom>(l, |state| state.ctx().ctx.random())?;
    cli::exit::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::environment::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_input::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_output::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdin::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stdout::add_to_linker::<State, WasiCli>(l, State::cli)?;
    cli::terminal_stderr::add_to_linker::<State, WasiCli>(l, State::cli)?;
    sockets::network::add_to_linker::<State, WasiSockets>(
        l,
        &sockets::network::LinkOptions::default(),
        State::sockets,
    )?;
    sockets::instance_network::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::ip_name_lookup::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::tcp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp_create_socket::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    sockets::udp::add_to_linker::<State, WasiSockets>(l, State::sockets)?;
    preopens::add_to_linker::<State, HasFiles>(l, State::files)?;
    types::add_to_linker::<State, HasFiles>(l, State::files)
}
