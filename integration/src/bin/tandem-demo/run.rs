//! One run of a workload, with the time it took until it could be seen to work.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_integration::{
    Container, ContainerBuilder, Containerd, Error, NetNs, Result, TANDEM, Task, deadline,
    http::{self, Response},
    image::Image,
    stdio::OutputPipe,
    task::Status,
};

use crate::workload::{Course, Workload};

/// Where a `wasi:http` component listens if its environment does not say otherwise.
const HTTP_PORT: u16 = 8080;
/// Pause between two attempts to connect: the precision of a server's start latency.
const CONNECT_PAUSE: Duration = Duration::from_micros(200);
/// How long one look for a server may take before it is asked whether the container still lives.
const CONNECT_TURN: Duration = Duration::from_millis(100);

/// A container that has shown that it works.
#[derive(Debug)]
pub struct Running {
    /// The running side.
    pub task: Task,
    /// From the call that creates the task to the first byte of output, or to the whole HTTP response.
    pub latency: Duration,
    /// What it said: the first line of output, or status and body.
    pub answer: String,
    container: Container,
    course: Course,
    /// Lives as long as the container that joined it.
    _netns: Option<NetNs>,
}

/// A container of a workload, to be created.
pub fn container(ctd: &Containerd, workload: &Workload, image: &Image) -> ContainerBuilder {
    let builder = ctd.container(image).runtime(TANDEM);
    match &workload.args {
        Some(args) => builder.args(args.iter().copied()),
        None => builder,
    }
}

impl Running {
    /// Starts a workload and waits for its first sign of life.
    ///
    /// # Errors
    /// The first call that failed, or how the container ended instead.
    pub async fn start(ctd: &Containerd, workload: &Workload, image: &Image) -> Result<Self> {
        let mut builder = container(ctd, workload, image);
        let netns = match workload.course {
            Course::Server => Some(NetNs::new(ctd)?),
            _ => None,
        };
        if let Some(netns) = &netns {
            builder = builder.netns(netns.path());
        }
        let container = builder.create().await?;
        // The moment in which the request is ready to be sent.
        let mut asked = Instant::now();
        let mut task = container.task_with(|_| asked = Instant::now()).await?;
        task.start().await?;
        let (seen, answer) = match &netns {
            Some(netns) => first_response(netns, &task).await?,
            None => first_line(&task).await?,
        };
        Ok(Self {
            latency: seen.duration_since(asked),
            answer,
            task,
            container,
            course: workload.course,
            _netns: netns,
        })
    }

    /// Waits for the end of a command, ends everything else, and removes it.
    ///
    /// # Errors
    /// The first call that failed, or a command's exit code other than 0.
    pub async fn end(self) -> Result<()> {
        match self.course {
            Course::Command => {
                let exit = self.task.wait().await?;
                if exit.code != 0 {
                    return Err(ended(&self.task).await);
                }
                self.task.delete().await?;
            }
            Course::Daemon | Course::Server => drop(self.task.kill_and_delete().await?),
        }
        self.container.remove().await
    }
}

/// When the first output came, and its first line.
async fn first_line(task: &Task) -> Result<(Instant, String)> {
    let Ok(at) = task.stdout().wait_first_byte().await else {
        return Err(ended(task).await);
    };
    task.stdout().wait_for("\n").await?;
    let text = task.stdout().text();
    Ok((at, text.lines().next().unwrap_or_default().to_owned()))
}

/// Connects as soon as somebody listens and asks for `/`.
async fn first_response(netns: &NetNs, task: &Task) -> Result<(Instant, String)> {
    let address = SocketAddr::from(([127, 0, 0, 1], HTTP_PORT));
    let since = Instant::now();
    let stream = loop {
        if let Some(stream) = connect(netns, address)? {
            break stream;
        }
        if task.status().await? == Status::Stopped {
            return Err(ended(task).await);
        }
        if since.elapsed() > deadline::EXIT {
            return Err(Error::Deadline {
                what: format!("a server on {address}"),
                after: deadline::EXIT,
            });
        }
    };
    let response: Response = http::get(stream, "/").await?;
    let seen = Instant::now();
    if !response.status.is_success() {
        return Err(Error::Setup(format!(
            "GET / was answered with {}: {}",
            response.status,
            response.text()
        )));
    }
    Ok((seen, format!("{} {}", response.status.as_u16(), response.text().trim())))
}

/// Tries for one turn. The attempts are made in a thread of the network namespace, which this one waits for: a
/// hand-over to the runtime between two attempts would take longer than an attempt.
fn connect(netns: &NetNs, address: SocketAddr) -> Result<Option<tokio::net::TcpStream>> {
    let attempts = move || {
        let since = Instant::now();
        while since.elapsed() < CONNECT_TURN {
            if let Ok(stream) = std::net::TcpStream::connect(address) {
                return Some(stream);
            }
            std::thread::sleep(CONNECT_PAUSE);
        }
        None
    };
    let stream = tokio::task::block_in_place(|| netns.run(attempts))?;
    let to_async = |stream: std::net::TcpStream| {
        stream.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(stream)
    };
    stream.map(to_async).transpose().map_err(|source| Error::System {
        what: "cannot use a connection to",
        path: address.to_string().into(),
        source,
    })
}

/// How a container ended that should not have, in the words of its own standard error.
async fn ended(task: &Task) -> Error {
    let end = match task.wait_for(deadline::SOON).await {
        Ok(exit) => format!("it ended with exit code {}", exit.code),
        Err(error) => format!("it says nothing, and {error}"),
    };
    // The last output may still be on its way.
    if let Some(stderr) = task.stderr() {
        let _ = stderr.wait_closed().await;
    }
    let stderr = task.stderr().map(OutputPipe::text).unwrap_or_default();
    Error::Setup(format!("{end}; its standard error: {}", stderr.trim()))
}
