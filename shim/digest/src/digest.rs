//! SHA-256 digests, as OCI writes them.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256};

use crate::hex;

const PREFIX: &str = "sha256:";
/// A refused text may be megabytes of somebody's garbage: an error needs only its beginning.
const LONGEST_QUOTE: usize = 80;

/// A content address; it reads and prints as `sha256:` and 64 lower-case hexadecimal digits.
///
/// It is valid by construction, so its text can be a file's name or part of one of containerd's filters as it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

/// The text is not a `sha256:` digest. containerd's content store uses no other algorithm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a digest: expected `sha256:` and 64 lower-case hexadecimal digits")]
pub struct InvalidDigest {
    text: String,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digest that has this hash.
    pub fn from_hash(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The 32 bytes of the hash.
    pub fn hash(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 digits, which are the blob's file name in a content store.
    pub fn hex(&self) -> String {
        hex::hex(&self.0)
    }
}

/// Makes a digest of content that comes in pieces.
#[derive(Debug, Clone, Default)]
pub struct Hasher(Sha256);

impl Hasher {
    /// A hasher that has seen nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all pieces.
    pub fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

impl Write for Hasher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let parse = || {
            let digits = text.strip_prefix(PREFIX)?.as_bytes();
            let mut hash = [0; 32];
            if digits.len() != 2 * hash.len() {
                return None;
            }
            for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = hex::value(pair[0])? << 4 | hex::value(pair[1])?;
            }
            Some(Self(hash))
        };
        parse().ok_or_else(|| InvalidDigest {
            text: text.chars().take(LONGEST_QUOTE).collect(),
        })
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        text.parse()
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    // FIPS 180-2, appendix B.1.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_at_once_and_in_pieces_give_the_published_digest() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        let mut hasher = Hasher::new();
        hasher.update(b"a");
        hasher.write_all(b"bc").unwrap();
        assert_eq!(hasher.finish().to_string(), ABC);
    }

    #[test]
    fn only_sha256_in_lower_case_hex_is_a_digest() {
        let good = Digest::of(b"abc");
        for text in [
            String::new(),
            "sha256:".into(),
            good.hex(),
            ABC.to_uppercase(),
            ABC[..70].into(),
            format!("{ABC}0"),
            format!("sha512:{}", good.hex()),
            format!("sha256:../../{}", &good.hex()[6..]),
            format!("sha256:{}é", &good.hex()[2..]),
        ] {
            let error = text.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains("64 lower-case hexadecimal digits"), "{text}: {error}");
            assert!(serde_json::from_str::<Digest>(&format!("{text:?}")).is_err());
        }
        let long = "x".repeat(1 << 20).parse::<Digest>().unwrap_err();
        assert!(long.to_string().len() < 200);
    }

    proptest! {
        #[test]
        fn hash_text_and_json_lead_back_to_the_same_digest(hash: [u8; 32]) {
            let digest = Digest::from_hash(hash);
            prop_assert_eq!(digest.hash(), &hash);
            prop_assert_eq!(digest.hex(), crate::hex(&hash));
            prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn a_text_that_parses_is_printed_as_it_was(text in "(sha256:)?[0-9a-fA-F]{62,66}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
