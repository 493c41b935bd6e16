//! WASI preview 1: the functions that core modules import from `wasi_snapshot_preview1`.
//!
//! A core module is always a command, alone in its process, so that each function is a plain one that makes the kernel's
//! call of the same meaning and waits where that waits. Signals end the process meanwhile (see [`crate::signals`]).
//!
//! Functions answer with an error's number. A pointer that leads out of the guest's memory is a trap, as WASI has it.

#![allow(clippy::too_many_arguments, reason = "a function has as many as preview 1 gave it")]

mod arguments;
mod clock;
mod descriptors;
mod fd;
mod memory;
mod path;
mod poll;
mod stat;

use self::descriptors::Descriptors;
use self::memory::Memory;
use crate::ctx::CoreState;
use crate::fs::View;
use crate::fs::errno;
use rustix::io::Errno;
use std::sync::Arc;
use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::I32Exit;

/// The module that guests import.
const MODULE: &str = "wasi_snapshot_preview1";

/// What preview 1 keeps for a guest.
pub(crate) struct Preview1 {
    view: Arc<View>,
    descriptors: Descriptors,
    args: Vec<Vec<u8>>,
    env: Vec<Vec<u8>>,
}

impl Preview1 {
    /// A guest with these arguments and this environment, its three streams, and the root as its preopened directory.
    pub(crate) fn new(view: Arc<View>, args: &[String], env: &[(String, String)]) -> Self {
        Self {
            descriptors: Descriptors::new(view.root()),
            view,
            args: args.iter().map(|arg| arg.clone().into_bytes()).collect(),
            env: env
                .iter()
                .map(|(name, value)| format!("{name}={value}").into_bytes())
                .collect(),
        }
    }
}

/// Why a function does not succeed.
enum Failure {
    /// The guest is told.
    Errno(Errno),
    /// The guest ends.
    Trap(wasmtime::Error),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Failure::Errno(errno)
    }
}

type Result<T> = std::result::Result<T, Failure>;

/// Calls a function with the guest's state and memory, and turns what it answers into preview 1's number.
fn call(
    caller: &mut Caller<'_, CoreState>,
    function: impl FnOnce(&mut Preview1, &mut Memory<'_>) -> Result<()>,
) -> wasmtime::Result<i32> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::format_err!(
            "the guest calls WASI preview 1 but exports no memory of the name `memory`"
        ));
    };
    let (bytes, state) = memory.data_and_store_mut(caller);
    match function(&mut state.wasi, &mut Memory::new(bytes)) {
        Ok(()) => Ok(0),
        Err(Failure::Errno(errno)) => Ok(i32::from(errno::preview1(errno))),
        Err(Failure::Trap(error)) => Err(error),
    }
}

macro_rules! define {
    ($linker:ident: $( $function:path as $name:literal ( $($arg:ident: $ty:ty),* ); )*) => {
        $(
            $linker.func_wrap(MODULE, $name, |mut caller: Caller<'_, CoreState>, $($arg: $ty),*| {
                call(&mut caller, |guest, memory| $function(guest, memory, $($arg),*))
            })?;
        )*
    };
}

/// Adds all functions of preview 1.
pub(crate) fn add_to_linker(linker: &mut Linker<CoreState>) -> wasmtime::Result<()> {
    define!(linker:
        arguments::args_get as "args_get"(pointers: u32, text: u32);
        arguments::args_sizes_get as "args_sizes_get"(count: u32, size: u32);
        arguments::environ_get as "environ_get"(pointers: u32, text: u32);
        arguments::environ_sizes_get as "environ_sizes_get"(count: u32, size: u32);
        arguments::random_get as "random_get"(buffer: u32, len: u32);
        clock::res_get as "clock_res_get"(id: u32, out: u32);
        clock::time_get as "clock_time_get"(id: u32, precision: u64, out: u32);
        clock::sched_yield as "sched_yield"();
        fd::advise as "fd_advise"(fd: u32, offset: u64, len: u64, advice: u32);
        fd::allocate as "fd_allocate"(fd: u32, offset: u64, len: u64);
        fd::close as "fd_close"(fd: u32);
        fd::datasync as "fd_datasync"(fd: u32);
        fd::read as "fd_read"(fd: u32, buffers: u32, count: u32, out: u32);
        fd::pread as "fd_pread"(fd: u32, buffers: u32, count: u32, offset: u64, out: u32);
        fd::write as "fd_write"(fd: u32, buffers: u32, count: u32, out: u32);
        fd::pwrite as "fd_pwrite"(fd: u32, buffers: u32, count: u32, offset: u64, out: u32);
        fd::readdir as "fd_readdir"(fd: u32, buffer: u32, len: u32, cookie: u64, out: u32);
        fd::renumber as "fd_renumber"(from: u32, to: u32);
        fd::seek as "fd_seek"(fd: u32, offset: i64, whence: u32, out: u32);
        fd::sync as "fd_sync"(fd: u32);
        fd::tell as "fd_tell"(fd: u32, out: u32);
        stat::fdstat_get as "fd_fdstat_get"(fd: u32, out: u32);
        stat::fdstat_set_flags as "fd_fdstat_set_flags"(fd: u32, flags: u32);
        stat::fdstat_set_rights as "fd_fdstat_set_rights"(fd: u32, base: u64, inheriting: u64);
        stat::filestat_get as "fd_filestat_get"(fd: u32, out: u32);
        stat::filestat_set_size as "fd_filestat_set_size"(fd: u32, size: u64);
        stat::filestat_set_times as "fd_filestat_set_times"(fd: u32, accessed: u64, modified: u64, flags: u32);
        stat::prestat_get as "fd_prestat_get"(fd: u32, out: u32);
        stat::prestat_dir_name as "fd_prestat_dir_name"(fd: u32, buffer: u32, len: u32);
        path::create_directory as "path_create_directory"(fd: u32, path: u32, len: u32);
        path::filestat_get as "path_filestat_get"(fd: u32, follow: u32, path: u32, len: u32, out: u32);
        path::filestat_set_times as "path_filestat_set_times"(
            fd: u32, follow: u32, path: u32, len: u32, accessed: u64, modified: u64, flags: u32);
        path::link as "path_link"(
            from: u32, follow: u32, path: u32, len: u32, to: u32, new: u32, new_len: u32);
        path::open as "path_open"(
            fd: u32, follow: u32, path: u32, len: u32, how: u32, rights: u64, inheriting: u64, flags: u32, out: u32);
        path::readlink as "path_readlink"(fd: u32, path: u32, len: u32, buffer: u32, size: u32, out: u32);
        path::remove_directory as "path_remove_directory"(fd: u32, path: u32, len: u32);
        path::rename as "path_rename"(from: u32, path: u32, len: u32, to: u32, new: u32, new_len: u32);
        path::symlink as "path_symlink"(target: u32, target_len: u32, fd: u32, path: u32, len: u32);
        path::unlink_file as "path_unlink_file"(fd: u32, path: u32, len: u32);
        poll::oneoff as "poll_oneoff"(subscriptions: u32, events: u32, count: u32, out: u32);
        fd::sock_accept as "sock_accept"(fd: u32, flags: u32, out: u32);
        fd::sock_recv as "sock_recv"(fd: u32, buffers: u32, count: u32, flags: u32, out: u32, out_flags: u32);
        fd::sock_send as "sock_send"(fd: u32, buffers: u32, count: u32, flags: u32, out: u32);
        fd::sock_shutdown as "sock_shutdown"(fd: u32, how: u32);
        clock::proc_raise as "proc_raise"(signal: u32);
    );
    linker.func_wrap(MODULE, "proc_exit", |code: i32| -> wasmtime::Result<()> {
        Err(I32Exit(code).into())
    })?;
    Ok(())
}
