//! The chain ID that names a stack of layers.

use crate::Digest;

/// The chain ID of a stack of layers, bottom first, as the OCI image specification defines it ("Layer ChainID");
/// containerd names the snapshot of an unpacked image by it. None for no layers.
pub fn chain_id<'a>(diff_ids: impl IntoIterator<Item = &'a Digest>) -> Option<Digest> {
    diff_ids.into_iter().fold(None, |chain, diff| {
        Some(match chain {
            None => *diff,
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
    fn a_chain_id_is_the_layer_itself_then_the_hash_of_chain_and_layer() {
        assert_eq!(chain_id([]), None);
        assert_eq!(chain_id([&digest('a')]), Some(digest('a')));
        let two = Digest::of(format!("{} {}", digest('a'), digest('b')).as_bytes());
        assert_eq!(chain_id([&digest('a'), &digest('b')]), Some(two));
        let three = Digest::of(format!("{two} {}", digest('c')).as_bytes());
        assert_eq!(chain_id([&digest('a'), &digest('b'), &digest('c')]), Some(three));
    }
}
