//! `wasi:filesystem/types` and `preopens`.

use super::streams::{Listing, ReadFile, WriteFile};
use super::{Files, blocking, convert, failed};
use crate::fs::{At, File, Node, OpenHow, Stream};
use crate::stdio::Output;
use rustix::io::Errno;
use std::io::IoSlice;
use std::sync::Arc;
use wasmtime::component::Resource;
use wasmtime_wasi::cli::{StdinStream as _, StdoutStream as _};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::pipe::ClosedInputStream;
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

/// Bytes that one `read` returns at most, whatever the guest asks for.
const MAX_READ: u64 = 64 * 1024;

fn follow(flags: PathFlags) -> bool {
    flags.contains(PathFlags::SYMLINK_FOLLOW)
}

impl Files<'_> {
    fn file(&self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<File>> {
        match self.node(descriptor)? {
            Node::File(file) => Ok(file),
            Node::Dir(_) | Node::Stream(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn dir(&self, descriptor: &Resource<Descriptor>) -> FsResult<Arc<crate::fs::Dir>> {
        let node = self.node(descriptor)?;
        node.dir().cloned().map_err(failed)
    }

    async fn stat_path(
        &mut self,
        descriptor: &Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<rustix::fs::Stat> {
        let dir = self.dir(descriptor)?;
        let stat = blocking(self.view, move |view| view.stat(&dir, path.as_bytes(), follow(flags)));
        stat.await.map_err(failed)
    }

    async fn stat_node(&mut self, descriptor: &Resource<Descriptor>) -> FsResult<rustix::fs::Stat> {
        let node = self.node(descriptor)?;
        blocking(self.view, move |_| node.stat()).await.map_err(failed)
    }

    fn writer(&mut self, descriptor: &Resource<Descriptor>, at: Option<u64>) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = match self.node(descriptor)? {
            Node::File(file) if !file.writable => return Err(ErrorCode::BadDescriptor.into()),
            Node::File(file) => Box::new(WriteFile::new(file, at, Arc::clone(self.view))),
            Node::Stream(Stream::Stdout) => Output::Stdout.p2_stream(),
            Node::Stream(Stream::Stderr) => Output::Stderr.p2_stream(),
            Node::Stream(Stream::Stdin) => return Err(ErrorCode::BadDescriptor.into()),
            Node::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        Ok(self.table.push(stream)?)
    }
}

impl preopens::Host for Files<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let root = Node::Dir(Arc::new(self.view.root()));
        let root = self.table.push(root)?;
        Ok(vec![(Resource::new_own(root.rep()), String::from("/"))])
    }
}

impl types::Host for Files<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let error = self.table.get(&error)?.downcast_ref::<std::io::Error>();
        let errno = error.and_then(Errno::from_io_error);
        Ok(errno.map(crate::fs::errno::wasi_0_2))
    }
}

impl HostDescriptor for Files<'_> {
    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let stream: DynInputStream = match self.node(&fd)? {
            Node::File(file) if !file.readable => return Err(ErrorCode::BadDescriptor.into()),
            Node::File(file) => Box::new(ReadFile::new(file, offset, Arc::clone(self.view))),
            // A server has no input.
            Node::Stream(Stream::Stdin) if !self.view.is_patient() => Box::new(ClosedInputStream),
            Node::Stream(Stream::Stdin) => std::io::stdin().p2_stream(),
            Node::Stream(Stream::Stdout | Stream::Stderr) => return Err(ErrorCode::BadDescriptor.into()),
            Node::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
        };
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, Some(offset))
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        self.writer(&fd, None)
    }

    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: Advice,
    ) -> FsResult<()> {
        let file = self.file(&fd)?;
        let advise = blocking(self.view, move |_| file.advise(offset, len, convert::advice(advice)));
        advise.await.map_err(failed)
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        let node = self.node(&fd)?;
        blocking(self.view, move |_| node.sync(true)).await.map_err(failed)
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(match self.node(&fd)? {
            Node::Dir(_) => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            Node::File(file) => convert::flags(file.status().map_err(failed)?, file.readable, file.writable),
            Node::Stream(Stream::Stdin) => DescriptorFlags::READ,
            Node::Stream(Stream::Stdout | Stream::Stderr) => DescriptorFlags::WRITE,
        })
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        Ok(convert::stat(&self.stat_node(&fd).await?).type_)
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        let file = self.file(&fd)?;
        blocking(self.view, move |_| file.set_size(size)).await.map_err(failed)
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let node = self.node(&fd)?;
        let times = convert::times(accessed, modified).map_err(failed)?;
        blocking(self.view, move |_| node.set_times(&times))
            .await
            .map_err(failed)
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        let file = match self.node(&fd)? {
            Node::File(file) => file,
            Node::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
            Node::Stream(_) => return Err(ErrorCode::InvalidSeek.into()),
        };
        let read = blocking(self.view, move |_| {
            let mut buffer = vec![0; usize::try_from(len.min(MAX_READ)).unwrap_or_default()];
            let got = file.read(&mut buffer, At::Offset(offset))?;
            buffer.truncate(got);
            Ok(buffer)
        });
        let bytes = read.await.map_err(failed)?;
        let end = bytes.is_empty() && len > 0;
        Ok((bytes, end))
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let file = match self.node(&fd)? {
            Node::File(file) => file,
            Node::Dir(_) => return Err(ErrorCode::IsDirectory.into()),
            Node::Stream(_) => return Err(ErrorCode::InvalidSeek.into()),
        };
        let write = blocking(self.view, move |_| {
            file.write(&[IoSlice::new(&bytes)], At::Offset(offset))
        });
        let written = write.await.map_err(failed)?;
        Filesize::try_from(written).map_err(|_| ErrorCode::Overflow.into())
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>> {
        let dir = self.dir(&fd)?;
        let lister = blocking(self.view, move |_| dir.lister()).await.map_err(failed)?;
        let listing = self.table.push(Listing::new(lister))?;
        Ok(Resource::new_own(listing.rep()))
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        let node = self.node(&fd)?;
        blocking(self.view, move |_| node.sync(false)).await.map_err(failed)
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let make = blocking(self.view, move |view| view.make_dir(&dir, path.as_bytes()));
        make.await.map_err(failed)
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(convert::stat(&self.stat_node(&fd).await?))
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        Ok(convert::stat(&self.stat_path(&fd, flags, path).await?))
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let times = convert::times(accessed, modified).map_err(failed)?;
        let set = blocking(self.view, move |view| {
            view.set_times(&dir, path.as_bytes(), follow(flags), &times)
        });
        set.await.map_err(failed)
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        let (from, to) = (self.dir(&fd)?, self.dir(&to)?);
        let link = blocking(self.view, move |view| {
            view.link((&from, old.as_bytes()), follow(flags), (&to, new.as_bytes()))
        });
        link.await.map_err(failed)
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let dir = self.dir(&fd)?;
        let how: OpenHow = convert::open_how(open, flags);
        let node = blocking(self.view, move |view| {
            view.open(&dir, path.as_bytes(), follow(path_flags), how)
        });
        let node = node.await.map_err(failed)?;
        self.push(node)
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        let dir = self.dir(&fd)?;
        let target = blocking(self.view, move |view| view.read_link(&dir, path.as_bytes()));
        let target = target.await.map_err(failed)?;
        String::from_utf8(target).map_err(|_| ErrorCode::IllegalByteSequence.into())
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let remove = blocking(self.view, move |view| view.remove_dir(&dir, path.as_bytes()));
        remove.await.map_err(failed)
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        old: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        let (from, to) = (self.dir(&fd)?, self.dir(&to)?);
        let rename = blocking(self.view, move |view| {
            view.rename((&from, old.as_bytes()), (&to, new.as_bytes()))
        });
        rename.await.map_err(failed)
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, target: String, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let link = blocking(self.view, move |view| {
            view.make_link(target.as_bytes(), &dir, path.as_bytes())
        });
        link.await.map_err(failed)
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let unlink = blocking(self.view, move |view| view.unlink(&dir, path.as_bytes()));
        unlink.await.map_err(failed)
    }

    async fn is_same_object(&mut self, a: Resource<Descriptor>, b: Resource<Descriptor>) -> wasmtime::Result<bool> {
        let (a, b) = (self.stat_node(&a).await, self.stat_node(&b).await);
        Ok(match (a, b) {
            (Ok(a), Ok(b)) => (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino),
            _ => false,
        })
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(convert::hash(&self.stat_node(&fd).await?))
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(convert::hash(&self.stat_path(&fd, flags, path).await?))
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Node>::new_own(fd.rep()))?;
        Ok(())
    }
}

impl HostDirectoryEntryStream for Files<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = Resource::<Listing>::new_borrow(stream.rep());
        let listing = self.table.get_mut(&listing)?;
        if listing.is_used_up() {
            let lister = listing.lister();
            let more = blocking(self.view, move |_| lister.next_few()).await.map_err(failed)?;
            listing.refill(more);
        }
        let Some(entry) = listing.next() else {
            return Ok(None);
        };
        let name = String::from_utf8(entry.name).map_err(|_| ErrorCode::IllegalByteSequence)?;
        Ok(Some(DirectoryEntry {
            type_: convert::kind(entry.kind),
            name,
        }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(Resource::<Listing>::new_own(stream.rep()))?;
        Ok(())
    }
}
