//! Typed errors: why a guest is refused ([`PrepareError`]), and why a sound guest cannot be run ([`HostError`]).

use crate::text;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a module or component is refused when its container is created. Each message names the object and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The guest imports something that this host does not provide.
    #[error(
        "the guest imports `{}`{}, which is not provided; {remedy}",
        text::name(module),
        of_name(name)
    )]
    UnknownImport {
        /// Module of a core import, or the interface of a component's import.
        module: String,
        /// Item within it; empty where the whole interface is unknown.
        name: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// The guest imports something that is provided, but with another type.
    #[error(
        "an import of the guest has another type than the host's: {}; rebuild it against WASI preview 1 or WASI 0.2",
        text::description(reason)
    )]
    IncompatibleImport {
        /// The mismatch, as Wasmtime describes it.
        reason: String,
    },
    /// The guest needs memory that threads share.
    #[error(
        "the guest's memory `{}` is shared between threads, and no guest has threads; rebuild it for a target without them, such as wasm32-wasip1 instead of wasm32-wasip1-threads",
        text::name(memory)
    )]
    SharedMemory {
        /// Name of the memory, as it is imported or exported.
        memory: String,
    },
    /// The function to run is not there.
    #[error(
        "the guest has no exported function `{}` (it exports {}); build it as a command, or name one of its functions after `#` in the entrypoint",
        text::name(name),
        list(available)
    )]
    MissingExport {
        /// The export that was looked for.
        name: String,
        /// Functions that the guest does export.
        available: Vec<String>,
    },
    /// The function to run takes parameters, or returns what cannot become an exit code.
    #[error(
        "the entry `{}` has the type {}, but an entry takes no parameter and returns nothing{expected}",
        text::name(name),
        text::description(found)
    )]
    BadEntrySignature {
        /// The export.
        name: String,
        /// Its type.
        found: String,
        /// What it may return besides nothing, as the end of the sentence.
        expected: &'static str,
    },
    /// The component has neither of the exports that this host can run.
    #[error(
        "the component exports {} and imports {}, but only `wasi:cli/run@0.2` and `wasi:http/incoming-handler@0.2` can be run; rebuild it for one of these worlds, or name an exported function after `#` in the entrypoint",
        list(exports),
        list(imports)
    )]
    UnsupportedWorld {
        /// Names of its exports.
        exports: Vec<String>,
        /// Names of its imports.
        imports: Vec<String>,
    },
    /// The code was compiled for another engine than the host's.
    #[error(
        "the guest was compiled for another engine than the one it is to run on; compile it with this host's engine"
    )]
    ForeignEngine,
    /// The host's own functions could not be set up, which is no fault of the guest.
    #[error(
        "cannot set up the host functions for a {kind} guest: {reason}; this is a fault of the shim, please report it"
    )]
    Linker {
        /// Kind of the guest.
        kind: &'static str,
        /// Why, as Wasmtime describes it.
        reason: String,
    },
}

/// Why a sound guest could not be run. The process then exits with [`crate::EXIT_HOST`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The directory that the guest was to be given as its root cannot be opened.
    #[error("cannot open the directory {} that the guest is to see as `/`: {reason}; check the container's root file system", .root.display())]
    Root {
        /// The directory.
        root: PathBuf,
        /// Why.
        reason: std::io::Error,
    },
    /// The environment names an address that is none.
    #[error(
        "the environment variable {variable}=`{value}` is not an address to listen on; use one like `0.0.0.0:8080`, `[::]:8080` or `:8080`"
    )]
    HttpAddress {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// The address for HTTP cannot be listened on.
    #[error(
        "cannot listen for HTTP on {address}: {reason}; set {variable} to an address that is free in the pod and that its user may bind"
    )]
    HttpBind {
        /// The address.
        address: SocketAddr,
        /// The variable that sets it.
        variable: &'static str,
        /// Why.
        reason: std::io::Error,
    },
    /// A part of the host failed to start.
    #[error("cannot set up {what}: {reason}")]
    Setup {
        /// What failed.
        what: &'static str,
        /// Why.
        reason: std::io::Error,
    },
    /// The guest could not be instantiated.
    #[error(
        "cannot instantiate the guest: {}; check its memory limits",
        text::description(reason)
    )]
    Instantiate {
        /// Why, as Wasmtime describes it.
        reason: String,
    },
    /// A bug in the host, caught before it could end the process without a word.
    #[error("internal error: {reason}; this is a fault of the shim, please report it")]
    Panic {
        /// The panic's message.
        reason: String,
    },
}

fn of_name(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" `{}`", text::name(name))
    }
}

fn list(names: &[String]) -> String {
    /// A component can export hundreds of names; an error message should stay one that is read.
    const SHOWN: usize = 12;
    if names.is_empty() {
        return String::from("nothing");
    }
    let mut text = names
        .iter()
        .take(SHOWN)
        .map(|name| format!("`{}`", text::name(name)))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_export_names_what_there_is() {
        let error = PrepareError::MissingExport {
            name: "_start".into(),
            available: vec!["add".into(), "sub".into()],
        };
        let text = error.to_string();
        assert!(text.contains("`_start`") && text.contains("`add`, `sub`"), "{text}");
    }

    #[test]
    fn long_lists_are_cut() {
        let names = (0..20).map(|n| n.to_string()).collect::<Vec<_>>();
        assert!(list(&names).ends_with("and 8 more"));
        assert_eq!(list(&[]), "nothing");
    }
}
