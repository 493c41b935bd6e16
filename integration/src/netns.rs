//! Network namespaces for tests: one with a loopback device that is up, as a pod's has before CNI adds more.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};
use tokio::net::TcpStream;

use crate::{
    Containerd, Error, Result, deadline,
    http::{self, Response},
};

/// A network namespace, which lives as long as this value and whoever is in it.
#[derive(Debug)]
pub struct NetNs {
    path: PathBuf,
}

impl NetNs {
    /// Makes one for a container of `ctd` to join by [`crate::ContainerBuilder::netns`].
    ///
    /// # Errors
    /// Where the kernel refuses; this needs root.
    pub fn new(ctd: &Containerd) -> Result<Self> {
        let path = ctd.home().netns().join(ctd.home().unique("n"));
        File::create(&path).map_err(Error::system("cannot create", &path))?;
        let netns = Self { path };
        let target = netns.path.clone();
        // A namespace belongs to a thread: one of its own, which ends, makes it without touching the caller's.
        let made = thread::spawn(move || -> nix::Result<()> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            loopback::up()?;
            let of_thread = Some("/proc/thread-self/ns/net");
            mount(of_thread, &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        });
        let failed = Error::system("cannot make network namespace", &netns.path);
        made.join().unwrap_or(Err(nix::Error::ECANCELED)).map_err(failed)?;
        Ok(netns)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a thread inside of the namespace. A socket made there stays in it wherever it is used later.
    ///
    /// # Errors
    /// Where the namespace cannot be entered, or `work` panics.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        const FAILED: &str = "cannot enter network namespace";
        let file = File::open(&self.path).map_err(Error::system(FAILED, &self.path))?;
        let inside = thread::spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        let done = inside.join().unwrap_or(Err(nix::Error::ECANCELED));
        done.map_err(Error::system(FAILED, &self.path))
    }

    /// Connects to an address as it is inside of the namespace.
    ///
    /// # Errors
    /// Where nobody listens.
    pub fn connect(&self, address: SocketAddr) -> Result<TcpStream> {
        let stream = self.run(move || {
            let stream = std::net::TcpStream::connect_timeout(&address, deadline::SOON)?;
            stream.set_nonblocking(true)?;
            Ok(stream)
        })?;
        stream
            .and_then(TcpStream::from_std)
            .map_err(Error::system("cannot connect to", address.to_string()))
    }

    /// Gets `path` from the server at `address` inside of the namespace, once.
    ///
    /// # Errors
    /// Where nobody listens or the answer is not HTTP.
    pub async fn get(&self, address: SocketAddr, path: &str) -> Result<Response> {
        http::get(self.connect(address)?, path).await
    }

    /// Waits until somebody listens at `address` (at most [`deadline::EXIT`]), then gets `path`.
    ///
    /// # Errors
    /// As [`NetNs::get`].
    pub async fn get_soon(&self, address: SocketAddr, path: &str) -> Result<Response> {
        let what = format!("a server at {address} in {}", self.path.display());
        let stream = deadline::until(what, deadline::EXIT, || self.connect(address).ok()).await?;
        http::get(stream, path).await
    }
}

impl Drop for NetNs {
    fn drop(&mut self) {
        // The instance may have been swept away before.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

/// Brings up the loopback device of the network namespace that the calling thread is in.
///
/// # Errors
/// Where the kernel refuses; this needs root.
pub fn loopback_up() -> Result<()> {
    loopback::up().map_err(Error::system("cannot bring up", "lo"))
}

/// Brings the loopback device up, for which the kernel has no call but this ioctl (netdevice(7)).
mod loopback {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

    nix::ioctl_write_ptr_bad!(set_flags, libc::SIOCSIFFLAGS, libc::ifreq);

    pub fn up() -> nix::Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        let mut name = [0; libc::IFNAMSIZ];
        for (to, from) in name.iter_mut().zip(b"lo") {
            *to = (*from).cast_signed();
        }
        let request = libc::ifreq {
            ifr_name: name,
            ifr_ifru: libc::__c_anonymous_ifr_ifru {
                #[allow(clippy::cast_possible_truncation, reason = "IFF_UP is 1")]
                ifru_flags: libc::IFF_UP as libc::c_short,
            },
        };
        // SAFETY: the descriptor is open, and the kernel reads one `ifreq`, which is initialised and outlives the
        // call.
        unsafe { set_flags(socket.as_raw_fd(), &request) }.map(drop)
    }
}
