//! Content addresses, and the chain ID that names a stack of layers.

use std::fmt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "sha256:";

/// A `sha256:<64 lower-case hex digits>` content address.
///
/// Valid by construction, so that it can be used as a file name or in a containerd filter as it is.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(String);

/// The text is not a `sha256:` digest; other algorithms are not used by containerd's content store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a sha256 digest (sha256: and 64 lower-case hex digits)")]
pub struct InvalidDigest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what was fed to a hasher.
    pub(crate) fn from_hash(hash: Sha256) -> Self {
        let mut text = String::with_capacity(PREFIX.len() + 64);
        text.push_str(PREFIX);
        for byte in hash.finalize() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
            }
        }
        Self(text)
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits, which are the blob's file name in a content store.
    pub fn hex(&self) -> &str {
        &self.0[PREFIX.len()..]
    }
}

impl std::str::FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, InvalidDigest> {
        let valid = text
            .strip_prefix(PREFIX)
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
        if valid {
            Ok(Self(text))
        } else {
            // The text may be megabytes of somebody's garbage: an error needs only its beginning.
            Err(InvalidDigest(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The chain ID of a stack of layers, bottom first, as the OCI image specification defines it ("Layer ChainID");
/// containerd names the snapshot of an unpacked image by it. None for no layers.
pub fn chain_id<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> Option<Digest> {
    diff_ids.into_iter().fold(None, |chain, diff| {
        Some(match chain {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(byte: char) -> Digest {
        format!("sha256:{}", byte.to_string().repeat(64)).parse().unwrap()
    }

    #[test]
    fn only_sha256_in_lower_case_hex_is_a_digest() {
        let good = Digest::of(b"");
        assert_eq!(
            good.hex(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(good.as_str().parse::<Digest>(), Ok(good.clone()));
        for bad in [
            String::new(),
            "sha256:".into(),
            good.hex().into(),
            good.as_str().to_uppercase(),
            format!("{good}0"),
            format!("sha512:{}", good.hex()),
            format!("sha256:../../{}", &good.hex()[6..]),
            format!("sha256:{}é", &good.hex()[2..]),
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_chain_id_is_the_layer_itself_then_the_hash_of_chain_and_layer() {
        assert_eq!(chain_id([]), None);
        assert_eq!(chain_id([&digest('a')]), Some(digest('a')));
        let two = Digest::of(format!("{} {}", digest('a'), digest('b')).as_bytes());
        assert_eq!(chain_id([&digest('a'), &digest('b')]), Some(two.clone()));
        let three = Digest::of(format!("{two} {}", digest('c')).as_bytes());
        assert_eq!(chain_id([&digest('a'), &digest('b'), &digest('c')]), Some(three));
    }
}
