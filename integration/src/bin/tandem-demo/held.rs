//! Commands held in their first output, so that their memory can be measured while others run: a command of a few
//! milliseconds' life leaves no time for that.
//!
//! Its standard output is a pipe that is full. The guest, instantiated and about to print, waits in the kernel until
//! the pipe is emptied.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tandem_integration::{Container, Containerd, Error, Result, Task, deadline, image::Image};

use crate::{run, workload::Workload};

/// Looks in a row at which a process must have been asleep without having used the processor in between.
const STILL_LOOKS: u32 = 10;

/// A command that waits in its first output.
#[derive(Debug)]
pub struct Held {
    /// The running side.
    pub task: Task,
    container: Container,
    pipe: FullPipe,
}

impl Held {
    /// Starts a command and waits until it is held.
    ///
    /// # Errors
    /// The first call that failed, or that it does not come to rest in time.
    pub async fn start(ctd: &Containerd, workload: &Workload, image: &Image) -> Result<Self> {
        let pipe = FullPipe::new(ctd.home().io().join(ctd.home().unique("held")))?;
        let container = run::container(ctd, workload, image).create().await?;
        let stdout = pipe.path.to_string_lossy().into_owned();
        let mut task = container.task_with(|request| request.stdout = stdout).await?;
        task.start().await?;
        at_rest(task.pid()).await?;
        Ok(Self { task, container, pipe })
    }

    /// Lets it go on to its end and removes it.
    ///
    /// # Errors
    /// The first call that failed, or an exit code other than 0.
    pub async fn end(self) -> Result<()> {
        self.pipe.empty()?;
        let exit = self.task.wait().await?;
        if exit.code != 0 {
            return Err(Error::Setup(format!(
                "it ended with exit code {} after it was held",
                exit.code
            )));
        }
        // The harness's own pipe was never opened, so there is no end of it to wait for.
        self.task.delete_only().await?;
        self.container.remove().await
    }
}

/// A FIFO that takes no more data.
#[derive(Debug)]
struct FullPipe {
    path: PathBuf,
    file: File,
}

impl FullPipe {
    fn new(path: PathBuf) -> Result<Self> {
        let failed = |source: std::io::Error| Error::System {
            what: "cannot fill",
            path: path.clone(),
            source,
        };
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|errno| failed(errno.into()))?;
        // For both directions, so that the open waits for nobody.
        let open = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&path);
        let mut file = open.map_err(failed)?;
        // The last write takes less than a page, so that not one byte of room is left.
        for size in [4096, 1] {
            until_it_would_block(|| file.write(&vec![0; size])).map_err(failed)?;
        }
        Ok(Self { path, file })
    }

    fn empty(&self) -> Result<()> {
        let mut buffer = vec![0; 64 * 1024];
        until_it_would_block(|| (&self.file).read(&mut buffer)).map_err(|source| Error::System {
            what: "cannot empty",
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for FullPipe {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn until_it_would_block(mut step: impl FnMut() -> std::io::Result<usize>) -> std::io::Result<()> {
    loop {
        match step() {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Waits until a process sleeps and has used no processor time for some looks.
async fn at_rest(pid: u32) -> Result<()> {
    let mut last = None;
    let mut looks = 0;
    let still = || {
        let now = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))
            .ok()
            .and_then(|s| rest(&s));
        looks = if now.is_some() && now == last { looks + 1 } else { 0 };
        last = now;
        (looks >= STILL_LOOKS).then_some(())
    };
    deadline::until(format!("process {pid} waiting for its output"), deadline::SOON, still).await
}

/// The processor time of a sleeping process, `None` of any other. proc_pid_stat(5): after the name in parentheses
/// come the state (field 3) and, as fields 14 and 15, the times.
fn rest(stat: &str) -> Option<[String; 2]> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let (state, user, system) = (fields.first()?, fields.get(11)?, fields.get(12)?);
    (*state == "S").then(|| [(*user).to_owned(), (*system).to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeping_process_is_at_rest() {
        let stat = |state| format!("7 (a b) c) {state} 1 2 3 4 5 6 7 8 9 10 40 41 0 0");
        assert_eq!(rest(&stat("S")), Some(["40".into(), "41".into()]));
        assert_eq!(rest(&stat("R")), None);
        assert_eq!(rest(""), None);
    }

    #[test]
    fn a_full_pipe_takes_no_byte_until_it_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = FullPipe::new(dir.path().join("p")).unwrap();
        assert_eq!((&pipe.file).write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        pipe.empty().unwrap();
        assert_eq!((&pipe.file).write(b"x").unwrap(), 1);
    }
}
