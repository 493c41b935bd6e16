//! containerd's own version.

use std::fmt;

/// Major, minor and patch of a containerd release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Version {
    /// 1 or 2.
    pub major: u32,
    /// The minor version.
    pub minor: u32,
    /// The patch version.
    pub patch: u32,
}

impl Version {
    /// Finds the version in the output of `containerd --version`, or in a bare version: the first word that is a
    /// number with dots, with or without a `v`. Distributions add suffixes (`1.6.20~ds1`, `1.7.23-k3s2`).
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(|word| {
            let word = word.strip_prefix('v').unwrap_or(word);
            let mut parts = word.splitn(3, '.');
            let mut number = || {
                let part = parts.next()?;
                let digits: String = part.chars().take_while(char::is_ascii_digit).collect();
                digits.parse::<u32>().ok()
            };
            Some(Self {
                major: number()?,
                minor: number()?,
                patch: number().unwrap_or(0),
            })
        })
    }

    /// Whether it merges drop-in files table by table. Before 2.0 a drop-in replaces whole plugin sections.
    pub fn merges_drop_ins(self) -> bool {
        self.major >= 2
    }

    /// Whether it takes the CRI tables of a file of version 1. 2.0 to 2.2 ignore them, and so does their
    /// `config migrate`.
    pub fn reads_cri_of_version_1(self) -> bool {
        self.major < 2 || (self.major, self.minor) >= (2, 3)
    }

    /// Whether this program has been tried with it.
    pub fn is_supported(self) -> bool {
        (self.major, self.minor) >= (1, 6)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_builds_print() {
        for (text, version) in [
            (
                "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3",
                "1.6.20",
            ),
            ("containerd github.com/containerd/containerd/v2 v2.3.7 abcdef", "2.3.7"),
            ("containerd github.com/k3s-io/containerd v1.7.23-k3s2 abc", "1.7.23"),
            (
                "containerd github.com/containerd/containerd/v2 2.1.0-rc.1+unknown ",
                "2.1.0",
            ),
            ("v2.0", "2.0.0"),
        ] {
            assert_eq!(Version::parse(text).unwrap().to_string(), version, "{text}");
        }
        assert_eq!(Version::parse("containerd (unknown)"), None);
    }

    #[test]
    fn what_versions_read_differs() {
        assert!(!Version::parse("1.7.28").unwrap().merges_drop_ins());
        assert!(Version::parse("2.0.0").unwrap().merges_drop_ins());
        let reads = |text| Version::parse(text).unwrap().reads_cri_of_version_1();
        assert!(reads("1.7.28") && !reads("2.0.0") && !reads("2.2.9") && reads("2.3.0"));
        assert!(!Version::parse("1.5.9").unwrap().is_supported());
    }
}
