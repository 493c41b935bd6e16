//! The guest's descriptors: numbers, as in POSIX, from the lowest free one.

use super::{Preview1, Result};
use crate::fs::{Dir, Node, Stream};
use rustix::io::Errno;
use std::sync::Arc;

/// Descriptors at most. Files are bounded by the container's own limit; the streams can be opened without the kernel
/// knowing.
const MAX: usize = 1 << 20;

/// One descriptor of the guest.
#[derive(Debug)]
pub(super) struct Descriptor {
    pub(super) node: Node,
    /// Whether it is the directory that the guest was given.
    pub(super) preopened: bool,
    /// For a stream: whether the guest asked for errors instead of waiting.
    pub(super) nonblock: bool,
}

impl Descriptor {
    pub(super) fn new(node: Node, nonblock: bool) -> Self {
        Self {
            node,
            preopened: false,
            nonblock,
        }
    }
}

#[derive(Debug)]
pub(super) struct Descriptors {
    slots: Vec<Option<Descriptor>>,
}

impl Descriptors {
    pub(super) fn new(root: Dir) -> Self {
        let streams = [Stream::Stdin, Stream::Stdout, Stream::Stderr];
        let streams = streams.map(|stream| Descriptor::new(Node::Stream(stream), false));
        let root = Descriptor {
            preopened: true,
            ..Descriptor::new(Node::Dir(Arc::new(root)), false)
        };
        Self {
            slots: streams.into_iter().chain([root]).map(Some).collect(),
        }
    }

    fn slot(&mut self, fd: u32) -> Option<&mut Option<Descriptor>> {
        self.slots.get_mut(usize::try_from(fd).ok()?)
    }

    pub(super) fn add(&mut self, descriptor: Descriptor) -> Result<u32> {
        let free = self.slots.iter().position(Option::is_none).unwrap_or(self.slots.len());
        if free >= MAX {
            return Err(Errno::MFILE.into());
        }
        match self.slots.get_mut(free) {
            Some(slot) => *slot = Some(descriptor),
            None => self.slots.push(Some(descriptor)),
        }
        Ok(u32::try_from(free).map_err(|_| Errno::MFILE)?)
    }

    pub(super) fn remove(&mut self, fd: u32) -> Result<Descriptor> {
        let descriptor = self.slot(fd).and_then(Option::take);
        Ok(descriptor.ok_or(Errno::BADF)?)
    }

    /// Moves a descriptor to the number of another one, which is closed.
    pub(super) fn renumber(&mut self, from: u32, to: u32) -> Result<()> {
        if !matches!(self.slot(to), Some(Some(_))) {
            return Err(Errno::BADF.into());
        }
        let moved = self.remove(from)?;
        if let Some(slot) = self.slot(to) {
            *slot = Some(moved);
        }
        Ok(())
    }
}

impl Preview1 {
    pub(super) fn descriptor(&mut self, fd: u32) -> Result<&mut Descriptor> {
        let descriptor = self.descriptors.slot(fd).and_then(Option::as_mut);
        Ok(descriptor.ok_or(Errno::BADF)?)
    }

    pub(super) fn node(&mut self, fd: u32) -> Result<Node> {
        Ok(self.descriptor(fd)?.node.clone())
    }

    pub(super) fn dir(&mut self, fd: u32) -> Result<Arc<Dir>> {
        Ok(Arc::clone(self.descriptor(fd)?.node.dir()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::View;
    use std::path::Path;

    fn descriptors() -> Descriptors {
        Descriptors::new(View::new(Path::new("/"), true).unwrap().root())
    }

    #[test]
    fn the_lowest_free_number_is_taken() {
        let mut descriptors = descriptors();
        let stream = || Descriptor::new(Node::Stream(Stream::Stdout), false);
        assert_eq!(descriptors.add(stream()).ok(), Some(4));
        assert!(descriptors.remove(1).is_ok());
        assert!(descriptors.remove(1).is_err());
        assert_eq!(descriptors.add(stream()).ok(), Some(1));
        assert_eq!(descriptors.add(stream()).ok(), Some(5));
    }

    #[test]
    fn a_descriptor_moves_to_another_open_one_only() {
        let mut descriptors = descriptors();
        assert!(descriptors.renumber(3, 9).is_err());
        assert!(descriptors.renumber(9, 3).is_err());
        assert!(descriptors.renumber(3, 3).is_ok());
        assert!(descriptors.renumber(1, 0).is_ok());
        assert!(descriptors.remove(1).is_err());
        let moved = descriptors.remove(0).ok().unwrap();
        assert!(matches!(moved.node, Node::Stream(Stream::Stdout)));
    }
}
