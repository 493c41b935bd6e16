//! Files that do not open: a volume whose server is gone keeps the call that needs it, and nothing else of the pod.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tandem_integration::task::Status;
use tandem_integration::{Container, Result, Task, deadline, on_both_generations};

use super::support::{end, running, tandem, with_tools};

/// A file that nobody can open for as long as this exists: the kernel asks for a permission that does not come.
struct Hung(OwnedFd);

impl Hung {
    fn new(file: &Path) -> Self {
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC;
        // SAFETY: fanotify_init(2) takes plain numbers.
        let fd = unsafe { libc::fanotify_init(flags, libc::O_RDONLY.unsigned_abs()) };
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        // SAFETY: the kernel has just made this descriptor for us.
        let group = unsafe { OwnedFd::from_raw_fd(fd) };
        let path = std::ffi::CString::new(file.as_os_str().as_bytes()).unwrap();
        let mark = libc::FAN_MARK_ADD;
        // SAFETY: fanotify_mark(2) takes an open descriptor, plain numbers and a C string that outlives the call.
        let marked = unsafe {
            libc::fanotify_mark(
                group.as_raw_fd(),
                mark,
                libc::FAN_OPEN_PERM,
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        assert_eq!(marked, 0, "{}", io::Error::last_os_error());
        Self(group)
    }

    /// Returns when somebody waits for the file.
    async fn is_waited_for(&self) -> Result<()> {
        let asked = || {
            let mut fd = libc::pollfd {
                fd: self.0.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one structure, which outlives the call.
            (unsafe { libc::poll(&raw mut fd, 1, 0) } > 0).then_some(())
        };
        deadline::until("somebody who opens the file", deadline::SOON, asked).await
    }
}

/// A volume with a module and a log, and the other containers of its pod.
struct Pod {
    ctd: tandem_integration::Containerd,
    image: tandem_integration::image::Image,
    volume: tempfile::TempDir,
    sandbox: Container,
    pause: Task,
}

impl Pod {
    async fn start(generation: tandem_integration::Generation) -> Result<Self> {
        let (ctd, image) = with_tools(generation).await?;
        let volume = tempfile::tempdir().unwrap();
        std::fs::write(
            volume.path().join("tool.wasm"),
            tandem_integration::guests::bytes("exit7.wasm")?,
        )
        .unwrap();
        File::create(volume.path().join("log")).unwrap();
        let sandbox = tandem(&ctd, &image).args(["sleep", "1000"]).sandbox();
        let (sandbox, pause) = running(sandbox.bind(volume.path(), "/v", true)).await?;
        Ok(Self {
            ctd,
            image,
            volume,
            sandbox,
            pause,
        })
    }

    fn hang(&self, name: &str) -> Hung {
        Hung::new(&self.volume.path().join(name))
    }

    /// Every other call is answered.
    async fn runs_on(&self) -> Result<()> {
        let calls = async {
            assert_eq!(self.pause.status().await?, Status::Running);
            self.pause.stats().await?;
            assert_eq!(self.pause.exec(["true"]).run().await?.code, 0);
            let other = tandem(&self.ctd, &self.image).args(["/echo.wasm", "print", "up"]);
            assert_eq!(other.in_sandbox(self.sandbox.id()).run_to_end().await?.stdout, "up\n");
            Result::Ok(())
        };
        deadline::within("answers of the other containers", deadline::SOON, calls).await?
    }

    async fn stop(self) -> Result<()> {
        end(self.sandbox, &self.pause).await?;
        self.ctd.stop().await
    }
}

on_both_generations! {
    async fn a_module_on_a_volume_that_hangs_keeps_its_own_create_only(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation).await?;
        let member = tandem(&pod.ctd, &pod.image)
            .args(["/v/tool.wasm"])
            .bind(pod.volume.path(), "/v", true)
            .in_sandbox(pod.sandbox.id())
            .create()
            .await?;
        let hung = pod.hang("tool.wasm");
        let others = async {
            hung.is_waited_for().await?;
            pod.runs_on().await?;
            drop(hung);
            Result::Ok(())
        };
        // Once the volume answers, so does the call.
        let (task, others) = tokio::join!(member.task(), others);
        others?;
        let mut task = task?;
        task.start().await?;
        assert_eq!(task.wait().await?.code, 7);
        task.delete().await?;
        member.remove().await?;
        pod.stop().await
    }

    async fn a_program_on_a_volume_that_hangs_keeps_its_own_exec_only(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation).await?;
        let member = tandem(&pod.ctd, &pod.image)
            .args(["sleep", "1000"])
            .bind(pod.volume.path(), "/v", true)
            .in_sandbox(pod.sandbox.id());
        let (container, task) = running(member).await?;
        let hung = pod.hang("tool.wasm");
        let exec = task.exec(["/v/tool.wasm"]).add().await?;
        let others = async {
            hung.is_waited_for().await?;
            pod.runs_on().await?;
            // Its own container can be looked at, used, stopped and killed too.
            assert_eq!(task.exec(["true"]).run().await?.code, 0);
            task.pause().await?;
            task.resume().await?;
            task.kill(9).await?;
            assert_eq!(task.wait_for(deadline::SOON).await?.code, 137);
            drop(hung);
            Result::Ok(())
        };
        let (started, others) = tokio::join!(exec.start(), others);
        others?;
        assert!(started.is_err(), "its container has ended");
        end(container, &task).await?;
        pod.stop().await
    }

    async fn a_log_on_a_volume_that_hangs_keeps_its_own_container_only(generation: Generation) -> Result<()> {
        let pod = Pod::start(generation).await?;
        let member = tandem(&pod.ctd, &pod.image)
            .args(["echo", "logged"])
            .in_sandbox(pod.sandbox.id())
            .create()
            .await?;
        let log = pod.volume.path().join("log");
        let uri = format!("file://{}", log.display());
        let hung = pod.hang("log");
        let others = async {
            hung.is_waited_for().await?;
            pod.runs_on().await?;
            drop(hung);
            Result::Ok(())
        };
        let created = member.task_with(|request| {
            request.stdout = uri.clone();
            request.stderr = uri.clone();
        });
        let (task, others) = tokio::join!(created, others);
        others?;
        let mut task = task?;
        task.start().await?;
        assert_eq!(task.wait().await?.code, 0);
        task.delete_only().await?;
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "logged\n");
        member.remove().await?;
        pod.stop().await
    }
}
