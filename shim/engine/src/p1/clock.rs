//! Clocks, and what else concerns the process as such.

use super::memory::Memory;
use super::{Preview1, Result};
use rustix::io::Errno;
use rustix::time::{ClockId, Timespec};

/// Nanoseconds of a second.
pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn res_get(_: &mut Preview1, memory: &mut Memory<'_>, id: u32, out: u32) -> Result<()> {
    memory.put_u64(out, nanoseconds(rustix::time::clock_getres(clock(id)?)))
}

pub(super) fn time_get(_: &mut Preview1, memory: &mut Memory<'_>, id: u32, _precision: u64, out: u32) -> Result<()> {
    memory.put_u64(out, now(clock(id)?))
}

/// The guest is alone on its thread; the kernel decides who else is to run.
pub(super) fn sched_yield(_: &mut Preview1, _: &mut Memory<'_>) -> Result<()> {
    std::thread::yield_now();
    Ok(())
}

/// Guests handle no signals, so that there is none to raise.
pub(super) fn proc_raise(_: &mut Preview1, _: &mut Memory<'_>, _signal: u32) -> Result<()> {
    Err(Errno::OPNOTSUPP.into())
}

pub(super) fn clock(id: u32) -> std::result::Result<ClockId, Errno> {
    match id {
        0 => Ok(ClockId::Realtime),
        1 => Ok(ClockId::Monotonic),
        2 => Ok(ClockId::ProcessCPUTime),
        3 => Ok(ClockId::ThreadCPUTime),
        _ => Err(Errno::INVAL),
    }
}

pub(super) fn now(clock: ClockId) -> u64 {
    nanoseconds(rustix::time::clock_gettime(clock))
}

/// A time before 1970 is 1970: preview 1 has no other.
pub(super) fn nanoseconds(time: Timespec) -> u64 {
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let rest = u64::try_from(time.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(SECOND).saturating_add(rest)
}

pub(super) fn timespec(nanoseconds: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(nanoseconds / SECOND).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(nanoseconds % SECOND).unwrap_or_default(),
    }
}
