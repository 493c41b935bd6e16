//! `poll_oneoff`: waiting for a time, or for something to read or write.

use super::memory::Memory;
use super::{Preview1, Result, clock};
use crate::fs::errno;
use crate::fs::{File, Node, Stream};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::time::ClockId;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Bytes of a subscription.
const SUBSCRIPTION: u32 = 48;
/// Bytes of an event.
const EVENT: u32 = 32;

/// Preview 1's `eventtype`.
const CLOCK: u8 = 0;
const FD_READ: u8 = 1;
const FD_WRITE: u8 = 2;

/// What one subscription waits for.
struct Subscription {
    userdata: u64,
    kind: u8,
    source: Source,
}

enum Source {
    /// A moment of a clock.
    Time {
        clock: ClockId,
        at: u64,
    },
    /// Something that may have to be waited for.
    Stream(Stream),
    Pipe(Arc<File>),
    /// Always ready, with the number of bytes that are left to read.
    Ready(u64),
    Failed(Errno),
}

/// What came of it.
struct Event {
    error: Option<Errno>,
    bytes: u64,
    hangup: bool,
}

impl Event {
    const READY: Event = Event {
        error: None,
        bytes: 0,
        hangup: false,
    };
}

pub(super) fn oneoff(
    guest: &mut Preview1,
    memory: &mut Memory<'_>,
    subscriptions: u32,
    events: u32,
    count: u32,
    out: u32,
) -> Result<()> {
    if count == 0 {
        return Err(Errno::INVAL.into());
    }
    let (Some(size), Some(events_size)) = (count.checked_mul(SUBSCRIPTION), count.checked_mul(EVENT)) else {
        return Err(Errno::INVAL.into());
    };
    memory.slice(subscriptions, size)?;
    memory.slice(events, events_size)?;
    let mut all = Vec::new();
    for index in 0..count {
        all.push(subscription(guest, memory, subscriptions + index * SUBSCRIPTION)?);
    }
    let happened = wait(&all)?;
    let mut to = events;
    for (subscription, event) in all.iter().zip(&happened) {
        let Some(event) = event else { continue };
        put(memory, to, subscription, event)?;
        to += EVENT;
    }
    memory.put_u32(out, (to - events) / EVENT)
}

fn subscription(guest: &mut Preview1, memory: &Memory<'_>, at: u32) -> Result<Subscription> {
    let (userdata, kind, subject) = (memory.u64(at)?, memory.u8(at + 8)?, memory.u32(at + 16)?);
    let source = match kind {
        CLOCK => {
            let (timeout, absolute) = (memory.u64(at + 24)?, memory.u16(at + 40)? & 1 != 0);
            moment(subject, timeout, absolute).unwrap_or_else(Source::Failed)
        }
        FD_READ | FD_WRITE => match guest.node(subject) {
            Ok(node) => source(node, kind),
            Err(_) => Source::Failed(Errno::BADF),
        },
        _ => return Err(Errno::INVAL.into()),
    };
    Ok(Subscription { userdata, kind, source })
}

fn moment(id: u32, timeout: u64, absolute: bool) -> std::result::Result<Source, Errno> {
    let clock = match clock::clock(id)? {
        // A time span has the same length by either clock; one of them may be set meanwhile.
        ClockId::Realtime if !absolute => ClockId::Monotonic,
        clock @ (ClockId::Realtime | ClockId::Monotonic) => clock,
        _ => return Err(Errno::OPNOTSUPP),
    };
    let at = if absolute {
        timeout
    } else {
        clock::now(clock).saturating_add(timeout)
    };
    Ok(Source::Time { clock, at })
}

fn source(node: Node, kind: u8) -> Source {
    match node {
        Node::Stream(stream) => Source::Stream(stream),
        Node::File(file) if file.is_pipe() => Source::Pipe(file),
        Node::File(file) if kind == FD_READ => match left(&file) {
            Ok(left) => Source::Ready(left),
            Err(errno) => Source::Failed(errno),
        },
        Node::File(_) => Source::Ready(0),
        Node::Dir(_) => Source::Failed(Errno::BADF),
    }
}

fn left(file: &File) -> std::result::Result<u64, Errno> {
    if !file.is_regular() {
        return Ok(1);
    }
    let size = u64::try_from(file.stat()?.st_size).unwrap_or_default();
    Ok(size.saturating_sub(file.seek(rustix::fs::SeekFrom::Current(0))?))
}

impl Subscription {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Stream(stream) => Some(stream.as_fd()),
            Source::Pipe(file) => Some(file.as_fd()),
            Source::Time { .. } | Source::Ready(_) | Source::Failed(_) => None,
        }
    }

    fn flags(&self) -> PollFlags {
        if self.kind == FD_READ {
            PollFlags::IN
        } else {
            PollFlags::OUT
        }
    }

    /// What has come of it so far, with what the kernel said of its descriptor.
    fn event(&self, polled: PollFlags) -> Option<Event> {
        match &self.source {
            Source::Failed(errno) => Some(Event {
                error: Some(*errno),
                ..Event::READY
            }),
            Source::Ready(bytes) => Some(Event {
                bytes: *bytes,
                hangup: self.kind == FD_READ && *bytes == 0,
                ..Event::READY
            }),
            Source::Time { clock, at } => (clock::now(*clock) >= *at).then_some(Event::READY),
            Source::Stream(_) | Source::Pipe(_) => {
                if polled.is_empty() {
                    return None;
                }
                let bytes = self.descriptor().and_then(|fd| rustix::io::ioctl_fionread(fd).ok());
                Some(Event {
                    error: polled.contains(PollFlags::NVAL).then_some(Errno::BADF),
                    bytes: if self.kind == FD_READ { bytes.unwrap_or(1) } else { 1 },
                    hangup: polled.contains(PollFlags::HUP),
                })
            }
        }
    }

    /// Nanoseconds until its moment.
    fn remaining(&self) -> Option<u64> {
        match &self.source {
            Source::Time { clock, at } => Some(at.saturating_sub(clock::now(*clock))),
            _ => None,
        }
    }
}

/// Waits until at least one of them has happened.
fn wait(all: &[Subscription]) -> Result<Vec<Option<Event>>> {
    let mut ready = all
        .iter()
        .any(|one| matches!(one.source, Source::Ready(_) | Source::Failed(_)));
    loop {
        let remaining = all.iter().filter_map(Subscription::remaining).min();
        let patience = if ready { Some(0) } else { remaining };
        let polled = poll(all, patience)?;
        let events = all
            .iter()
            .zip(polled)
            .map(|(one, polled)| one.event(polled))
            .collect::<Vec<_>>();
        if events.iter().any(Option::is_some) {
            return Ok(events);
        }
        ready = false;
    }
}

/// What the kernel says of each subscription's descriptor; nothing for those without one.
fn poll(all: &[Subscription], patience: Option<u64>) -> Result<Vec<PollFlags>> {
    let descriptors = all.iter().map(Subscription::descriptor).collect::<Vec<_>>();
    let watched = all.iter().zip(&descriptors);
    let mut polls = watched
        .filter_map(|(one, fd)| fd.as_ref().map(|fd| PollFd::new(fd, one.flags())))
        .collect::<Vec<_>>();
    let timeout = patience.map(clock::timespec);
    match rustix::event::poll(&mut polls, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut results = polls.iter().map(PollFd::revents);
    let of_each = descriptors.iter().map(|fd| match fd {
        Some(_) => results.next().unwrap_or(PollFlags::empty()),
        None => PollFlags::empty(),
    });
    Ok(of_each.collect())
}

fn put(memory: &mut Memory<'_>, at: u32, subscription: &Subscription, event: &Event) -> Result<()> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&subscription.userdata.to_le_bytes());
    bytes[8..10].copy_from_slice(&event.error.map_or(0, errno::preview1).to_le_bytes());
    bytes[10] = subscription.kind;
    bytes[16..24].copy_from_slice(&event.bytes.to_le_bytes());
    bytes[24] = u8::from(event.hangup);
    memory.put(at, &bytes)
}
