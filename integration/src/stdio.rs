//! A container's standard streams, as FIFOs that the harness reads and writes while the container runs.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe::{OpenOptions, Receiver, Sender},
    sync::watch,
    task::JoinHandle,
};

use crate::{Error, Result, deadline, deadline::within, session::Session};

#[derive(Clone, Debug, Default)]
struct Collected {
    data: Vec<u8>,
    first: Option<Instant>,
    closed: bool,
}

/// The three streams of a process.
#[derive(Debug)]
pub(crate) struct Pipes {
    pub stdin: Option<InputPipe>,
    pub stdout: OutputPipe,
    pub stderr: Option<OutputPipe>,
}

/// The paths of [`Pipes`], empty where there is none.
pub(crate) struct Names {
    pub stdin: String,
    pub stdout: String,
    pub stderr: String,
}

impl Pipes {
    /// With a terminal both outputs come by standard output.
    pub async fn new(session: &Session, terminal: bool, input: Option<Vec<u8>>) -> Result<Self> {
        // A directory of its own, as containerd's client makes it: `ctr task rm` removes it with the FIFOs.
        let fifos = session.home().io().join(session.home().unique("f"));
        std::fs::create_dir(&fifos).map_err(Error::system("cannot make", &fifos))?;
        let fifo = fifos.join("std");
        let stdout = OutputPipe::new(fifo.with_extension("out"))?;
        let stderr = match terminal {
            true => None,
            false => Some(OutputPipe::new(fifo.with_extension("err"))?),
        };
        let stdin = match input {
            None => None,
            Some(input) => {
                let mut stdin = InputPipe::new(fifo.with_extension("in"))?;
                stdin.write(&input).await?;
                Some(stdin)
            }
        };
        Ok(Self { stdin, stdout, stderr })
    }

    pub fn names(&self) -> Names {
        let name = |path: Option<&Path>| path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        Names {
            stdin: name(self.stdin.as_ref().map(InputPipe::path)),
            stdout: name(Some(self.stdout.path())),
            stderr: name(self.stderr.as_ref().map(OutputPipe::path)),
        }
    }

    pub async fn wait_closed(&self) -> Result<()> {
        self.stdout.wait_closed().await?;
        match &self.stderr {
            Some(stderr) => stderr.wait_closed().await,
            None => Ok(()),
        }
    }
}

/// Collects what is written into a FIFO.
#[derive(Debug)]
pub struct OutputPipe {
    path: PathBuf,
    collected: watch::Receiver<Collected>,
    reader: JoinHandle<()>,
}

impl OutputPipe {
    /// Makes the FIFO and starts to read.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(path: PathBuf) -> Result<Self> {
        make(&path)?;
        // Opened without waiting for a writer. Such a reader sees no end until a writer has come and gone, because
        // it waits for readiness before it reads, and epoll reports no hang-up before the first writer.
        let pipe = OpenOptions::new()
            .open_receiver(&path)
            .map_err(Error::system("cannot open", &path))?;
        let (sender, collected) = watch::channel(Collected::default());
        let reader = tokio::spawn(collect(pipe, sender));
        Ok(Self {
            path,
            collected,
            reader,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was written so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.collected.borrow().data.clone()
    }

    /// What was written so far, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.collected.borrow().data).into_owned()
    }

    /// When the first byte came.
    pub fn first_byte(&self) -> Option<Instant> {
        self.collected.borrow().first
    }

    /// Waits until the first byte has come, at most [`deadline::EXIT`]; answers when it came.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub async fn wait_first_byte(&self) -> Result<Instant> {
        self.wait(|collected| collected.first.is_some() || collected.closed, "output")
            .await?;
        self.first_byte()
            .ok_or_else(|| Error::Setup(format!("{}: closed without output", self.path.display())))
    }

    /// Waits until `text` has been written, at most [`deadline::EXIT`].
    ///
    /// # Errors
    /// [`Error::Deadline`], and at once where the end comes without the text.
    pub async fn wait_for(&self, text: &str) -> Result<()> {
        let has = |collected: &Collected| String::from_utf8_lossy(&collected.data).contains(text);
        let what = format!("output of {text:?}");
        self.wait(|collected| collected.closed || has(collected), &what).await?;
        if has(&self.collected.borrow()) {
            return Ok(());
        }
        Err(Error::Setup(format!(
            "{} ended without {text:?}: {:?}",
            self.path.display(),
            self.text()
        )))
    }

    /// Waits until the last writer has closed the FIFO, at most [`deadline::SOON`].
    ///
    /// # Errors
    /// [`Error::Deadline`]: a shim that does not close it would let every client of containerd hang.
    pub async fn wait_closed(&self) -> Result<()> {
        let what = format!("the end of {}", self.path.display());
        let mut collected = self.collected.clone();
        within(what, deadline::SOON, collected.wait_for(|c| c.closed))
            .await
            .map(drop)
    }

    async fn wait(&self, ready: impl FnMut(&Collected) -> bool, what: &str) -> Result<()> {
        let mut collected = self.collected.clone();
        let what = format!("{what} in {}", self.path.display());
        // The sender ends only after it has set `closed`.
        within(what, deadline::EXIT, collected.wait_for(ready)).await.map(drop)
    }
}

impl Drop for OutputPipe {
    fn drop(&mut self) {
        self.reader.abort();
        let _ = fs::remove_file(&self.path);
    }
}

async fn collect(mut pipe: Receiver, sender: watch::Sender<Collected>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        let now = Instant::now();
        sender.send_modify(|collected| {
            collected.first.get_or_insert(now);
            collected.data.extend_from_slice(&buffer[..length]);
        });
    }
    sender.send_modify(|collected| collected.closed = true);
}

/// The writing end of a container's standard input.
#[derive(Debug)]
pub struct InputPipe {
    path: PathBuf,
    pipe: Option<Sender>,
}

impl InputPipe {
    /// Makes the FIFO. What is written before the shim opens it waits in it.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(path: PathBuf) -> Result<Self> {
        make(&path)?;
        // Open for reading too, since there is no reader yet.
        let pipe = OpenOptions::new()
            .read_write(true)
            .open_sender(&path)
            .map_err(Error::system("cannot open", &path))?;
        Ok(Self { path, pipe: Some(pipe) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of `data`, at most for [`deadline::CALL`].
    ///
    /// # Errors
    /// [`Error::Deadline`] where nobody reads, or the kernel's.
    pub async fn write(&mut self, data: &[u8]) -> Result<()> {
        let Some(pipe) = &mut self.pipe else {
            return Err(Error::Setup(format!("{} is closed", self.path.display())));
        };
        within("a read of stdin", deadline::CALL, pipe.write_all(data))
            .await?
            .map_err(Error::system("cannot write", &self.path))
    }

    /// Closes this end. The reader sees the end of the file when the shim too has closed its writing end, if it
    /// holds one (that is what the call CloseIO is for).
    pub fn close(&mut self) {
        self.pipe = None;
    }
}

impl Drop for InputPipe {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn make(path: &Path) -> Result<()> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(Error::system("cannot make FIFO", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_is_collected_from_the_first_writer_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = OutputPipe::new(dir.path().join("out")).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        assert!(!pipe.collected.borrow().closed, "no writer yet");
        let path = pipe.path().to_owned();
        tokio::task::spawn_blocking(move || fs::write(path, "hello"))
            .await
            .unwrap()
            .unwrap();
        pipe.wait_closed().await.unwrap();
        assert_eq!(pipe.text(), "hello");
        assert!(pipe.first_byte().is_some());
    }

    #[tokio::test]
    async fn a_wait_for_output_that_never_comes_ends_with_the_stream() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = OutputPipe::new(dir.path().join("out")).unwrap();
        let path = pipe.path().to_owned();
        tokio::task::spawn_blocking(move || fs::write(path, "other"))
            .await
            .unwrap()
            .unwrap();
        let error = pipe.wait_for("hello").await.unwrap_err();
        assert!(error.message().contains("other"), "{error}");
    }
}
