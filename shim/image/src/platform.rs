//! Which platforms can be run here, and which of them is wanted most.

use crate::manifest::Platform;

/// How much a platform is wanted; less is more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// WASI on Wasm: what this shim is for.
    Wasm,
    /// The node's own.
    Host,
    /// None given; the config may say.
    Unknown,
    /// Anything else.
    Foreign,
    /// Not an image at all: build attestations are given the platform `unknown/unknown`.
    NoImage,
}

impl Rank {
    /// Ranks a platform on a node whose architecture has this name in Go.
    pub fn of(platform: Option<&Platform>, host_arch: &str) -> Self {
        let Some(Platform { os, architecture }) = platform else {
            return Self::Unknown;
        };
        match (os.as_str(), architecture.as_str()) {
            ("", "") => Self::Unknown,
            ("unknown", "unknown") => Self::NoImage,
            ("wasi" | "wasip1" | "wasip2", "" | "wasm" | "wasm32") | (_, "wasm" | "wasm32") => Self::Wasm,
            // Docker's first Wasm images were built with `--platform wasi/<architecture of the builder>`.
            ("wasi" | "wasip1" | "wasip2", _) => Self::Wasm,
            ("linux", arch) if arch == host_arch => Self::Host,
            _ => Self::Foreign,
        }
    }

    /// Whether an image of this platform can be run here.
    pub fn runnable(self) -> bool {
        self < Self::Foreign
    }
}

/// The node's architecture in Go's names.
pub fn host_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wasm_platforms_come_before_the_hosts_and_attestations_come_last() {
        let rank = |os: &str, arch: &str| {
            Rank::of(
                Some(&Platform {
                    os: os.into(),
                    architecture: arch.into(),
                }),
                "amd64",
            )
        };
        for (os, arch) in [
            ("wasi", "wasm"),
            ("wasip1", "wasm"),
            ("wasip2", "wasm32"),
            ("wasi", "amd64"),
            ("js", "wasm"),
        ] {
            assert_eq!(rank(os, arch), Rank::Wasm, "{os}/{arch}");
        }
        assert_eq!(rank("linux", "amd64"), Rank::Host);
        assert_eq!((rank("", ""), Rank::of(None, "amd64")), (Rank::Unknown, Rank::Unknown));
        assert_eq!(
            (rank("linux", "arm64"), rank("windows", "amd64")),
            (Rank::Foreign, Rank::Foreign)
        );
        assert_eq!(rank("unknown", "unknown"), Rank::NoImage);
        assert!(Rank::Wasm < Rank::Host && Rank::Host < Rank::Unknown && Rank::Unknown.runnable());
        assert!(!Rank::Foreign.runnable() && !Rank::NoImage.runnable());
    }
}
