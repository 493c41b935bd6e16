//! A person at a terminal: containerd's command-line client behind a pseudo-terminal, typed at and read from.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read, Write},
    os::fd::AsRawFd,
    process::Stdio,
};

use nix::pty::{Winsize, openpty};
use tokio::{
    process::{Child, Command},
    sync::watch,
};

use crate::{Containerd, Error, Result, TANDEM, deadline, deadline::within, image::Image};

/// Size that a terminal begins with.
const SIZE: Winsize = Winsize {
    ws_row: 24,
    ws_col: 80,
    ws_xpixel: 0,
    ws_ypixel: 0,
};

/// A client that runs on a terminal. Killed when dropped.
#[derive(Debug)]
pub struct Terminal {
    client: Child,
    keyboard: File,
    screen: watch::Receiver<Screen>,
}

#[derive(Debug, Default)]
struct Screen {
    text: Vec<u8>,
    ended: bool,
}

impl Screen {
    fn lines(&self) -> String {
        String::from_utf8_lossy(&self.text).replace('\r', "")
    }
}

impl Terminal {
    /// Runs this generation's `ctr` with the arguments that follow its global ones.
    ///
    /// # Errors
    /// Where there is no terminal or the client cannot be started.
    pub fn ctr(ctd: &Containerd, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Self> {
        let ctr = &ctd.binaries.ctr;
        let fault = |error: io::Error| Error::system("cannot run on a terminal", ctr)(error);
        let pty = openpty(&SIZE, None).map_err(|errno| fault(errno.into()))?;
        let side = || pty.slave.try_clone().map(Stdio::from).map_err(fault);
        let mut command = Command::new(ctr);
        command.arg("--address").arg(ctd.home().socket());
        command.args(["--namespace", ctd.session().namespace()]).args(args);
        command
            .stdin(side()?)
            .stdout(side()?)
            .stderr(side()?)
            .kill_on_drop(true);
        // SAFETY: between fork and exec only setsid and ioctl are called, which are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                match libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let client = command.spawn().map_err(fault)?;
        drop(pty.slave);
        let keyboard = File::from(pty.master);
        let (sender, screen) = watch::channel(Screen::default());
        let reader = keyboard.try_clone().map_err(fault)?;
        // A thread, which ends with the last process that has the terminal open.
        std::thread::spawn(move || watch_screen(reader, &sender));
        Ok(Self {
            client,
            keyboard,
            screen,
        })
    }

    /// Types the text as it is; a line ends with `\n`.
    ///
    /// # Errors
    /// Where nobody has the terminal open any more.
    pub fn enter(&mut self, text: &str) -> Result<()> {
        self.keyboard
            .write_all(text.as_bytes())
            .map_err(Error::system("cannot type on", "the terminal"))
    }

    /// What is on the screen so far, without carriage returns: the container's terminal and the client's own each add
    /// one to the end of a line.
    pub fn text(&self) -> String {
        self.screen.borrow().lines()
    }

    /// Waits until the text is on the screen, at most [`deadline::EXIT`].
    ///
    /// # Errors
    /// [`Error::Setup`] with what is there instead; at once where the client ends before.
    pub async fn wait_for(&self, text: &str) -> Result<()> {
        let has = |screen: &Screen| screen.lines().contains(text);
        let mut screen = self.screen.clone();
        let shown = screen.wait_for(|screen| screen.ended || has(screen));
        let shown = within("text", deadline::EXIT, shown).await.is_ok();
        if has(&self.screen.borrow()) {
            return Ok(());
        }
        let why = if shown { "the client ended" } else { "the client stayed" };
        Err(Error::Setup(format!(
            "{why} without {text:?} on the screen: {:?}",
            self.text()
        )))
    }

    /// Makes the window larger or smaller.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn resize(&self, width: u16, height: u16) -> Result<()> {
        let size = Winsize {
            ws_row: height,
            ws_col: width,
            ..SIZE
        };
        // SAFETY: `size` is a valid winsize for the length of the call, which only reads it.
        match unsafe { libc::ioctl(self.keyboard.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) } {
            0 => Ok(()),
            _ => Err(Error::system("cannot resize", "the terminal")(
                io::Error::last_os_error(),
            )),
        }
    }

    /// Waits for the client's end; answers its exit code.
    ///
    /// # Errors
    /// [`Error::Deadline`].
    pub async fn end(mut self) -> Result<i32> {
        let ended = within("the end of ctr", deadline::EXIT, self.client.wait()).await;
        let status = ended.map_err(|error| Error::Setup(format!("{error}; on the screen: {}", self.text())))?;
        let status = status.map_err(Error::system("cannot wait for", "ctr"))?;
        Ok(status.code().unwrap_or(-1))
    }
}

fn watch_screen(mut reader: File, sender: &watch::Sender<Screen>) {
    let mut buffer = [0; 4096];
    // The end is an error: EIO.
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        sender.send_modify(|screen| screen.text.extend_from_slice(&buffer[..length]));
    }
    sender.send_modify(|screen| screen.ended = true);
}

/// Arguments of `ctr run` for a container of our runtime that keeps to the instance's own directories and cgroup.
pub fn ctr_run(ctd: &Containerd, image: &Image, options: &[&str], args: &[&str]) -> Vec<OsString> {
    let id = ctd.home().unique("r");
    let mut line: Vec<OsString> = vec!["run".into(), "--rm".into(), "--runtime".into(), TANDEM.into()];
    line.extend(["--snapshotter".into(), ctd.session().snapshotter.into()]);
    line.extend(["--fifo-dir".into(), ctd.home().io().into()]);
    line.extend(["--cgroup".into(), format!("{}/{id}", ctd.home().cgroup()).into()]);
    line.extend(options.iter().map(OsString::from));
    line.extend([image.name.clone().into(), id.into()]);
    line.extend(args.iter().map(OsString::from));
    line
}

/// Arguments of `ctr task exec` in a container.
pub fn ctr_exec(ctd: &Containerd, container: &str, options: &[&str], args: &[&str]) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["task".into(), "exec".into()];
    line.extend(["--exec-id".into(), ctd.home().unique("x").into()]);
    line.extend(["--fifo-dir".into(), ctd.home().io().into()]);
    line.extend(options.iter().map(OsString::from));
    line.push(container.into());
    line.extend(args.iter().map(OsString::from));
    line
}
