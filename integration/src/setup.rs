//! The start of a private containerd: its directory, its configuration, its environment.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};

use containerd_client::tonic::transport::Channel;

use crate::{
    Containerd, Error, Generation, Result,
    cleanup::{self, Owner},
    config,
    daemon::Launch,
    generation::{Binaries, tandem_shim},
    session::{Home, Session},
};

pub use crate::config::Cri;

/// How a private containerd is to be started; [`Containerd::start`] takes the defaults.
#[derive(Clone, Debug)]
pub struct ContainerdBuilder {
    generation: Generation,
    namespace: String,
    snapshotter: Option<&'static str>,
    level: &'static str,
    cache: Option<PathBuf>,
    cri: Option<Cri>,
    registries: Option<PathBuf>,
    shims: BTreeMap<String, PathBuf>,
    environment: BTreeMap<OsString, OsString>,
}

impl ContainerdBuilder {
    pub(crate) fn new(generation: Generation) -> Self {
        Self {
            generation,
            namespace: "tandem-test".into(),
            snapshotter: None,
            level: "info",
            cache: None,
            cri: None,
            registries: None,
            shims: BTreeMap::new(),
            environment: BTreeMap::new(),
        }
    }

    /// The containerd namespace that containers live in, `tandem-test` by default; CRI's is `k8s.io`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Snapshots by copying instead of overlayfs. Overlayfs is the default where it works.
    pub fn native_snapshotter(mut self) -> Self {
        self.snapshotter = Some("native");
        self
    }

    /// containerd and its shims log everything.
    pub fn debug(mut self) -> Self {
        self.level = "debug";
        self
    }

    /// containerd logs all it does with events too, which newer ones do not count as debugging.
    pub fn trace(mut self) -> Self {
        self.level = "trace";
        self
    }

    /// The shim's cache of compiled code, for tests that share one; each instance has its own by default.
    pub fn cache(mut self, dir: impl Into<PathBuf>) -> Self {
        self.cache = Some(dir.into());
        self
    }

    /// Turns the CRI service on.
    pub fn cri(mut self, cri: Cri) -> Self {
        self.cri = Some(cri);
        self
    }

    /// Where the CRI service looks up how to reach registries: a directory of `hosts.toml` files, as containerd's
    /// `config_path` names it.
    pub fn registries(mut self, dir: impl Into<PathBuf>) -> Self {
        self.registries = Some(dir.into());
        self
    }

    /// Lets containerd find `binary` as the shim `name`, such as `containerd-shim-floor-v1`.
    pub fn shim(mut self, name: impl Into<String>, binary: impl Into<PathBuf>) -> Self {
        self.shims.insert(name.into(), binary.into());
        self
    }

    /// Adds a variable to the environment that containerd and its shims see.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Starts containerd and waits until its gRPC answers.
    ///
    /// # Errors
    /// Where a binary is missing, a directory cannot be made, or containerd does not come up (with its log's end).
    pub async fn start(self) -> Result<Containerd> {
        let base = env::var_os("TANDEM_TEST_DIR").map_or_else(|| "/tmp".into(), PathBuf::from);
        cleanup::sweep(&base);
        let binaries = self.generation.binaries()?;
        let dir = tempfile::Builder::new()
            .prefix(cleanup::PREFIX)
            .tempdir_in(&base)
            .map_err(Error::system("cannot make a directory in", &base))?
            .keep();
        // As containerd's own directories: a pod's mapped root has to get through to its bundle.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).map_err(Error::system("cannot open", &dir))?;
        let owner = Owner::of(&dir)?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let name = name.trim_start_matches(cleanup::PREFIX).to_owned();
        let home = Arc::new(Home::new(dir, name));
        let snapshotter = self.snapshotter.unwrap_or_else(|| default_snapshotter(&home.dir));
        let launch = self.launch(&home, &binaries, snapshotter)?;

        // From here on a failure must take the process away too, which dropping the instance does.
        let mut ctd = Containerd {
            generation: self.generation,
            binaries,
            launch,
            daemon: None,
            session: Session {
                channel: lazy_channel(&home.socket())?,
                home,
                namespace: self.namespace,
                snapshotter,
            },
            ended: false,
            _owner: owner,
        };
        ctd.boot().await?;
        Ok(ctd)
    }

    fn launch(&self, home: &Home, binaries: &Binaries, snapshotter: &str) -> Result<Launch> {
        for dir in [home.bin(), home.shim_run(), home.io(), home.netns()] {
            fs::create_dir(&dir).map_err(Error::system("cannot make", &dir))?;
        }
        let config = home.dir.join("config.toml");
        let registries = self.registries.as_deref();
        let text = config::text(self.generation, home, snapshotter, self.cri.as_ref(), registries);
        fs::write(&config, text).map_err(Error::system("cannot write", &config))?;

        let mut shims = BTreeMap::from([
            ("containerd-shim-runc-v2".to_owned(), binaries.runc_shim.clone()),
            ("containerd-shim-tandem-v1".to_owned(), tandem_shim()),
        ]);
        shims.extend(self.shims.clone());
        for (name, binary) in shims {
            let link = home.bin().join(name);
            // A relative path would be taken as relative to the link.
            let binary = std::path::absolute(&binary).unwrap_or(binary);
            symlink(binary, &link).map_err(Error::system("cannot link", &link))?;
        }

        let mut path = home.bin().into_os_string();
        path.push(":");
        path.push(env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()));
        let cache = self.cache.clone().unwrap_or_else(|| home.dir.join("a"));
        let mut environment = BTreeMap::from([
            ("PATH".into(), path),
            ("TANDEM_RUN_DIR".into(), home.shim_run().into()),
            ("TANDEM_CACHE_DIR".into(), cache.into()),
        ]);
        environment.extend(self.environment.clone());
        Ok(Launch {
            binary: binaries.containerd.clone(),
            config,
            log: home.log(),
            level: self.level,
            environment,
        })
    }
}

/// Overlayfs needs an upper directory that is not itself on an overlay, as in a container.
fn default_snapshotter(dir: &Path) -> &'static str {
    let on_overlay =
        nix::sys::statfs::statfs(dir).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC);
    if on_overlay { "native" } else { "overlayfs" }
}

/// A channel that connects when it is used, and again when the daemon has been restarted.
fn lazy_channel(socket: &Path) -> Result<Channel> {
    let address = format!("unix://{}", socket.display());
    let endpoint = tonic::transport::Endpoint::from_shared(address)
        .map_err(|cause| Error::Setup(format!("{}: {cause}", socket.display())))?;
    Ok(endpoint.connect_lazy())
}
