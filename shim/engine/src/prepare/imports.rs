//! Names of imports: which the host knows, and what to tell of those it does not.

/// The packages of WASI 0.2 whose interfaces the host provides, all of them.
const PACKAGES: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
    "wasi:http/",
];

/// The interface's name without `@version`.
pub(super) fn without_version(name: &str) -> &str {
    name.split_once('@').map_or(name, |(name, _)| name)
}

/// Whether `name` is any 0.2 version of `interface`. Minor releases of WASI 0.2 only add to it, and Wasmtime matches
/// them with each other.
pub(super) fn is_version_0_2(name: &str, interface: &str) -> bool {
    name.split_once('@').is_some_and(|(name, version)| {
        // "0.2.0-rc-2023-11-10" and its like came before the release and differ from it.
        name == interface
            && version
                .strip_prefix("0.2.")
                .is_some_and(|patch| patch.parse::<u32>().is_ok())
    })
}

/// Whether the host provides the interface, in the version that the name says.
pub(super) fn is_known_interface(name: &str) -> bool {
    PACKAGES.iter().any(|package| name.starts_with(package)) && is_version_0_2(name, without_version(name))
}

/// What to do about an unknown import of a core module.
pub(super) fn core_remedy(module: &str) -> &'static str {
    match module {
        "wasi_snapshot_preview1" => "WASI preview 1 has no such function: rebuild the guest with a released toolchain",
        "wasi_unstable" => "it is built for a draft of WASI: rebuild it for wasm32-wasip1",
        "env" => {
            "it is built for a browser or lacks a library at link time: rebuild it for wasm32-wasip1 with all its functions linked in"
        }
        module if module.starts_with("wasi:") || module.starts_with("$root") => {
            "it is the core of a component: turn it into one with `wasm-tools component new`"
        }
        module if module.starts_with("wasi") => "this WASI proposal is not supported: rebuild the guest without it",
        _ => "only WASI preview 1 (`wasi_snapshot_preview1`) is: rebuild the guest for wasm32-wasip1",
    }
}

/// What to do about an unknown import of a component.
pub(super) fn component_remedy(interface: &str) -> &'static str {
    if PACKAGES.iter().any(|package| interface.starts_with(package)) {
        "only the releases 0.2.x of it are: rebuild the guest against WASI 0.2"
    } else if interface.starts_with("wasi:") {
        "this WASI proposal is not supported: rebuild the guest without it"
    } else {
        "only the interfaces of WASI 0.2 are: rebuild the guest without it, or compose it with a component that exports it"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_of_0_2_is_known_and_no_other() {
        assert!(is_known_interface("wasi:http/types@0.2.12"));
        assert!(is_known_interface("wasi:cli/environment@0.2.0"));
        assert!(!is_known_interface("wasi:cli/environment@0.3.0"));
        assert!(!is_known_interface("wasi:cli/environment@0.2.0-rc-2023-11-10"));
        assert!(!is_known_interface("wasi:keyvalue/store@0.2.0"));
        assert!(!is_known_interface("wasi:cli/environment"));
    }

    #[test]
    fn a_version_is_cut_off_a_name() {
        assert_eq!(without_version("wasi:cli/run@0.2.3"), "wasi:cli/run");
        assert_eq!(without_version("run"), "run");
    }
}
