//! The streams of files and directories.

use crate::fs::{At, Entry, File, Lister, View};
use bytes::{Bytes, BytesMut};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use tokio::task::JoinHandle;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// Bytes that are read or written at once.
const CHUNK: usize = 64 * 1024;

/// What a directory holds, a few entries at a time.
pub(super) struct Listing {
    lister: Arc<Lister>,
    entries: VecDeque<Entry>,
    ended: bool,
}

impl Listing {
    pub(super) fn new(lister: Lister) -> Self {
        Self {
            lister: Arc::new(lister),
            entries: VecDeque::new(),
            ended: false,
        }
    }

    pub(super) fn lister(&self) -> Arc<Lister> {
        Arc::clone(&self.lister)
    }

    pub(super) fn is_used_up(&self) -> bool {
        self.entries.is_empty() && !self.ended
    }

    pub(super) fn refill(&mut self, entries: Vec<Entry>) {
        self.ended = entries.is_empty();
        self.entries = entries.into();
    }

    pub(super) fn next(&mut self) -> Option<Entry> {
        self.entries.pop_front()
    }
}

/// What a thread is at for a stream.
enum Task<T> {
    None,
    Running(JoinHandle<crate::fs::Result<T>>),
    Done(crate::fs::Result<T>),
}

impl<T> Task<T> {
    async fn finish(&mut self) {
        if let Task::Running(handle) = self {
            *self = Task::Done(handle.await.unwrap_or(Err(Errno::CANCELED)));
        }
    }
}

fn error(errno: Errno) -> StreamError {
    match errno {
        Errno::PIPE => StreamError::Closed,
        errno => StreamError::LastOperationFailed(std::io::Error::from(errno).into()),
    }
}

/// Reads a file from an offset on.
pub(super) struct ReadFile {
    file: Arc<File>,
    offset: u64,
    view: Arc<View>,
    task: Task<Bytes>,
    closed: bool,
}

impl ReadFile {
    pub(super) fn new(file: Arc<File>, offset: u64, view: Arc<View>) -> Self {
        Self {
            file,
            offset,
            view,
            task: Task::None,
            closed: false,
        }
    }

    /// What may take its time goes to a thread: a file of a server, and whatever waits for somebody else.
    fn takes_time(&self) -> bool {
        !self.view.is_patient() || self.file.is_pipe()
    }

    fn start(&mut self, size: usize) {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.task = Task::Running(tokio::task::spawn_blocking(move || read(&file, offset, size)));
    }

    fn take(&mut self, result: crate::fs::Result<Bytes>, size: usize) -> StreamResult<Bytes> {
        match result {
            Ok(bytes) if bytes.is_empty() && size > 0 => {
                self.closed = true;
                Err(StreamError::Closed)
            }
            Ok(mut bytes) => {
                let now = bytes.split_to(bytes.len().min(size));
                if !bytes.is_empty() {
                    self.task = Task::Done(Ok(bytes));
                }
                self.offset += u64::try_from(now.len()).unwrap_or_default();
                Ok(now)
            }
            Err(errno) => {
                self.closed = true;
                Err(error(errno))
            }
        }
    }
}

fn read(file: &File, offset: u64, size: usize) -> crate::fs::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(size.min(CHUNK));
    let at = if file.is_pipe() {
        At::Position
    } else {
        At::Offset(offset)
    };
    let got = file.read(&mut buffer, at)?;
    buffer.truncate(got);
    Ok(buffer.freeze())
}

#[async_trait::async_trait]
impl InputStream for ReadFile {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        match std::mem::replace(&mut self.task, Task::None) {
            Task::Done(result) => self.take(result, size),
            task @ Task::Running(_) => {
                self.task = task;
                Ok(Bytes::new())
            }
            Task::None if size == 0 => Ok(Bytes::new()),
            Task::None if self.takes_time() => {
                self.start(size);
                Ok(Bytes::new())
            }
            Task::None => {
                let result = read(&self.file, self.offset, size);
                self.take(result, size)
            }
        }
    }

    async fn cancel(&mut self) {
        // What was begun ends by itself; nobody reads what came of it.
        self.closed = true;
    }
}

#[async_trait::async_trait]
impl Pollable for ReadFile {
    async fn ready(&mut self) {
        if self.closed || !self.takes_time() {
            return;
        }
        if matches!(self.task, Task::None) {
            self.start(CHUNK);
        }
        self.task.finish().await;
    }
}

/// Writes to a file, from an offset on or to its end.
pub(super) struct WriteFile {
    file: Arc<File>,
    /// None is the end.
    offset: Option<u64>,
    view: Arc<View>,
    task: Task<()>,
    closed: bool,
}

impl WriteFile {
    pub(super) fn new(file: Arc<File>, offset: Option<u64>, view: Arc<View>) -> Self {
        Self {
            file,
            offset,
            view,
            task: Task::None,
            closed: false,
        }
    }

    fn takes_time(&self) -> bool {
        !self.view.is_patient() || self.file.is_pipe()
    }

    fn settle(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.task, Task::None) {
            Task::Done(Err(errno)) => {
                self.closed = true;
                Err(error(errno))
            }
            Task::Done(Ok(())) | Task::None => Ok(()),
            task @ Task::Running(_) => {
                self.task = task;
                Ok(())
            }
        }
    }
}

fn write(file: &File, offset: Option<u64>, bytes: &[u8]) -> crate::fs::Result<()> {
    let mut rest = bytes;
    let mut offset = offset;
    while !rest.is_empty() {
        let written = match offset {
            _ if file.is_pipe() => file.write(&[IoSlice::new(rest)], At::Position)?,
            Some(offset) => file.write(&[IoSlice::new(rest)], At::Offset(offset))?,
            None => file.append(rest)?,
        };
        if written == 0 {
            return Err(Errno::IO);
        }
        rest = rest.get(written..).unwrap_or_default();
        if let Some(offset) = &mut offset {
            *offset += u64::try_from(written).map_err(|_| Errno::OVERFLOW)?;
        }
    }
    Ok(())
}

#[async_trait::async_trait]
impl OutputStream for WriteFile {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.settle()?;
        if self.closed {
            return Err(StreamError::Closed);
        }
        if matches!(self.task, Task::Running(_)) {
            return Err(StreamError::Trap(wasmtime::format_err!(
                "the guest writes to a stream without asking whether it may"
            )));
        }
        let (offset, len) = (self.offset, bytes.len());
        if let Some(offset) = &mut self.offset {
            *offset += u64::try_from(len).unwrap_or_default();
        }
        if self.takes_time() {
            let file = Arc::clone(&self.file);
            let writing = tokio::task::spawn_blocking(move || write(&file, offset, &bytes));
            self.task = Task::Running(writing);
            return Ok(());
        }
        self.task = Task::Done(write(&self.file, offset, &bytes));
        self.settle()
    }

    fn flush(&mut self) -> StreamResult<()> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        self.settle()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        if self.closed {
            return Err(StreamError::Closed);
        }
        self.settle()?;
        Ok(if matches!(self.task, Task::Running(_)) {
            0
        } else {
            CHUNK
        })
    }

    async fn cancel(&mut self) {
        // The guest may close the file next, or read what it wrote.
        self.task.finish().await;
        self.closed = true;
    }
}

#[async_trait::async_trait]
impl Pollable for WriteFile {
    async fn ready(&mut self) {
        self.task.finish().await;
    }
}
