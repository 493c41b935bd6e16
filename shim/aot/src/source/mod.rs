//! A module as its owner delivers it: untrusted bytes, looked at before they are read.
//!
//! What can be refused from the outside or from the first bytes is refused there: a gigabyte of something else, or of
//! holes, costs a few system calls, not a gigabyte of reads. Here the content is only ever hashed, piece by piece; it is
//! read into memory and interpreted by the compiler's confined process alone.

mod holes;
mod sections;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::unistd::{Whence, lseek};
use tandem_digest::{Digest, Hasher, ModuleKind};

use crate::error::CompileError;
use crate::limits::Limits;

/// A module to compile.
#[derive(Debug)]
pub struct Source {
    /// How messages name it, for example `/app.wasm` or `layer sha256:…`.
    pub name: String,
    /// The content, opened for reading by the caller; its position is neither used nor changed.
    pub file: File,
    /// The digest that the content must have, where the image names one. With it a cached module is found without
    /// reading the content at all.
    pub expected: Option<Digest>,
}

/// How a source is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Binary(ModuleKind),
    Text,
}

/// What precedes every binary: <https://webassembly.github.io/spec/core/binary/modules.html#binary-module>.
const MAGIC: &[u8] = b"\0asm";
const HEADER: usize = 8;
/// Of an ELF file: <https://refspecs.linuxfoundation.org/elf/gabi4+/ch4.eheader.html>.
const ELF_MAGIC: &[u8] = b"\x7fELF";
const ELF_OS_ABI: usize = 7;
/// The `EI_OSABI` of wasmtime's artifacts (`wasmtime_environ::obj::ELFOSABI_WASMTIME`).
const ELF_OS_ABI_WASMTIME: u8 = 200;
/// How much is looked at to tell what a file is; text may begin with a comment or white space.
const HEAD: usize = 4096;
/// Smaller modules are read at once: their validation finds the same faults with better words.
const WALK_FROM: u64 = 1 << 20;
/// Bytes that are hashed at a time.
const CHUNK: usize = 256 << 10;
/// What a file may have of holes in all: some tools write a page of zeros as one.
const HOLES_ALLOWED: u64 = 1 << 20;

/// Tells the kind of a binary from its header.
pub(crate) fn kind_of_header(head: &[u8]) -> Result<ModuleKind, String> {
    let Some((header, _)) = head.split_first_chunk::<HEADER>() else {
        return Err(format!("it ends within its header, after {} bytes", head.len()));
    };
    let [_, _, _, _, version @ ..] = *header;
    // The component model splits what was one 32-bit version into a version and a layer.
    match version {
        [1, 0, 0, 0] => Ok(ModuleKind::Core),
        [0x0d, 0, 1, 0] => Ok(ModuleKind::Component),
        [low, high, 0, 0] => Err(format!(
            "its binary format has version {}, only 1 is known",
            u16::from_le_bytes([low, high])
        )),
        [low, high, 1, 0] => Err(format!(
            "its component format has version {}, only 13 is known; build it with current tools",
            u16::from_le_bytes([low, high])
        )),
        [_, _, low, high] => Err(format!(
            "its header names the unknown layer {}",
            u16::from_le_bytes([low, high])
        )),
    }
}

impl Source {
    /// Refuses what can be told from the outside; returns the format and the size.
    pub(crate) fn inspect(&self, limits: &Limits) -> Result<(Format, u64), CompileError> {
        let metadata = self.file.metadata().map_err(|source| self.unreadable(source))?;
        if !metadata.is_file() {
            return Err(self.not_wasm("it is not a regular file"));
        }
        let size = metadata.len();
        if size == 0 {
            return Err(self.not_wasm("it is empty"));
        }
        let mut head = vec![0; HEAD];
        let count = read_full(&self.file, &mut head, 0).map_err(|source| self.unreadable(source))?;
        head.truncate(count);

        let format = self.format(&head)?;
        let (form, limit) = match format {
            Format::Binary(_) => ("binary module", limits.module_bytes),
            Format::Text => ("module in text format", limits.text_bytes),
        };
        if size > limit {
            return Err(CompileError::TooLarge {
                name: self.name.clone(),
                form,
                size,
                limit,
            });
        }
        self.refuse_holes(size)?;
        if matches!(format, Format::Binary(_)) && size >= WALK_FROM {
            sections::walk(&self.file, size)
                .map_err(|source| self.unreadable(source))?
                .map_err(|why| self.not_wasm(why))?;
        }
        Ok((format, size))
    }

    /// Refuses a sparse file: its size says what reading it costs, and the image that brought it did not pay for that.
    fn refuse_holes(&self, size: u64) -> Result<(), CompileError> {
        let sparse = |why: String| Err(self.not_wasm(format!("it is a sparse file ({why}): store it without holes")));
        let before = lseek(&self.file, 0, Whence::SeekCur).map_err(|errno| self.unreadable(errno.into()))?;
        let found = holes::count(&self.file, size);
        lseek(&self.file, before, Whence::SeekSet).map_err(|errno| self.unreadable(errno.into()))?;
        match found.map_err(|errno| self.unreadable(errno.into()))? {
            None => sparse(format!("more than {} holes", holes::MOST)),
            Some(bytes) if bytes > HOLES_ALLOWED => sparse(format!("{bytes} of its {size} bytes are not stored")),
            Some(_) => Ok(()),
        }
    }

    /// The digest of the `size` bytes that [`inspect`](Self::inspect) has found.
    pub(crate) fn digest(&self, size: u64) -> Result<Digest, CompileError> {
        let mut hasher = Hasher::new();
        let mut buffer = vec![0; CHUNK];
        let mut position = 0;
        while position < size {
            let wanted = usize::try_from(size - position).map_or(CHUNK, |left| left.min(CHUNK));
            let count =
                read_full(&self.file, &mut buffer[..wanted], position).map_err(|source| self.unreadable(source))?;
            hasher.update(&buffer[..count]);
            position += count as u64;
            if count < wanted {
                return Err(self.not_wasm(format!("it shrank from {size} to {position} bytes while it was read")));
            }
        }
        Ok(hasher.finish())
    }

    fn format(&self, head: &[u8]) -> Result<Format, CompileError> {
        if head.starts_with(ELF_MAGIC) {
            let what = match head.get(ELF_OS_ABI) {
                Some(&ELF_OS_ABI_WASMTIME) => "code that wasmtime has precompiled elsewhere (.cwasm)",
                _ => "a native executable (ELF)",
            };
            return Err(CompileError::Native {
                name: self.name.clone(),
                what,
            });
        }
        if head.starts_with(MAGIC) {
            return kind_of_header(head)
                .map(Format::Binary)
                .map_err(|why| self.not_wasm(why));
        }
        if MAGIC.starts_with(head) {
            return Err(self.not_wasm(format!("it ends within its header, after {} bytes", head.len())));
        }
        let text = head.iter().find(|byte| !byte.is_ascii_whitespace());
        if matches!(text, Some(b'(' | b';')) {
            return Ok(Format::Text);
        }
        let hint = match head {
            [0x1f, 0x8b, ..] => ", which is a gzip archive: unpack it before it is pushed",
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ", which is a zstd archive: unpack it before it is pushed",
            [b'#', b'!', ..] => ", which is a script",
            _ => "",
        };
        let start = &head[..head.len().min(4)];
        Err(self.not_wasm(format!(
            "it starts with {start:02x?}{hint}; a binary starts with {MAGIC:02x?}"
        )))
    }

    fn unreadable(&self, source: io::Error) -> CompileError {
        CompileError::Unreadable {
            name: self.name.clone(),
            source,
        }
    }

    fn not_wasm(&self, why: impl Into<String>) -> CompileError {
        CompileError::NotWasm {
            name: self.name.clone(),
            why: why.into(),
        }
    }
}

/// Reads at `offset` until `buffer` is full or the file ends; returns how much was read.
pub(crate) fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::{Duration, Instant};

    use super::*;

    fn source(content: &[u8]) -> Source {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        Source {
            name: "/app.wasm".into(),
            file,
            expected: None,
        }
    }

    fn refusal(source: &Source) -> String {
        let error = source.inspect(&Limits::default()).unwrap_err();
        assert!(error.is_module_fault(), "{error}");
        error.to_string()
    }

    #[test]
    fn core_modules_components_and_text_are_told_apart() {
        let format = |content: &[u8]| source(content).inspect(&Limits::default()).unwrap().0;
        assert_eq!(format(b"\0asm\x01\0\0\0"), Format::Binary(ModuleKind::Core));
        assert_eq!(format(b"\0asm\x0d\0\x01\0"), Format::Binary(ModuleKind::Component));
        assert_eq!(format(b"\n ;; a comment\n(module)"), Format::Text);
    }

    #[test]
    fn what_is_not_wasm_is_refused_with_the_file_and_the_reason() {
        for (content, reason) in [
            (&b""[..], "it is empty"),
            (b"\0as", "it ends within its header, after 3 bytes"),
            (b"\0asm\x01\0", "it ends within its header, after 6 bytes"),
            (b"\0asm\x02\0\0\0", "version 2"),
            (b"\0asm\x0c\0\x01\0", "component format has version 12"),
            (b"\0asm\x01\0\x07\0", "unknown layer 7"),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"#!/bin/sh\n", "a script"),
            (b"hello", "starts with [68, 65, 6c, 6c]"),
        ] {
            let message = refusal(&source(content));
            assert!(message.contains(reason) && message.contains("/app.wasm"), "{message}");
        }
    }

    #[test]
    fn native_code_is_refused_with_the_remedy() {
        for (content, reason) in [
            (&b"\x7fELF\x02\x01\x01\xc8"[..], "precompiled"),
            (b"\x7fELF\x02\x01\x01\0", "native executable"),
        ] {
            let message = refusal(&source(content));
            assert!(
                message.contains(reason) && message.contains("push the .wasm"),
                "{message}"
            );
        }
    }

    #[test]
    fn a_directory_is_refused() {
        let source = Source {
            name: "/".into(),
            file: File::open("/").unwrap(),
            expected: None,
        };
        assert!(refusal(&source).contains("not a regular file"));
    }

    #[test]
    fn a_gigabyte_of_garbage_is_refused_at_once() {
        for start in [
            &b"garbage"[..],
            b"\0asm\x01\0\0\0\xff\xff\xff\xff\xff\xff",
            b"(((((((",
            b"\0\0\0\0",
        ] {
            let source = source(start);
            source.file.set_len(1 << 30).unwrap();
            let begin = Instant::now();
            refusal(&source);
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "{start:?} took {:?}",
                begin.elapsed()
            );
        }
    }

    #[test]
    fn a_large_module_that_was_cut_short_is_told_by_its_sections() {
        // A custom section of 16 MiB, of which 2 MiB are there.
        let source = source(b"\0asm\x01\0\0\0\0\x80\x80\x80\x08");
        source.file.write_all_at(&vec![1; (2 << 20) - 64], 64).unwrap();
        let message = refusal(&source);
        assert!(
            message.contains("section 0 at offset 0x8") && message.contains("ends at 0x200000"),
            "{message}"
        );
    }

    #[test]
    fn a_sparse_file_is_refused_before_it_is_read() {
        for start in [&b"\0asm\x01\0\0\0"[..], b"(module"] {
            let source = source(start);
            source.file.set_len(15 << 20).unwrap();
            let begin = Instant::now();
            let message = refusal(&source);
            assert!(message.contains("a sparse file (157"), "{message}");
            assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        }
    }

    #[test]
    fn a_file_of_many_holes_is_refused_and_one_with_a_small_one_is_not() {
        let many = source(b"\0asm\x01\0\0\0");
        for page in 1..3000 {
            many.file.write_all_at(b"x", page * 8192).unwrap();
        }
        assert!(refusal(&many).contains("more than 1024 holes"));

        let one = source(b"(module");
        one.file.write_all_at(b")", 64 << 10).unwrap();
        one.inspect(&Limits::default()).unwrap();
    }

    #[test]
    fn size_caps_hold_for_each_form() {
        let limits = Limits {
            module_bytes: 8,
            text_bytes: 9,
            ..Limits::default()
        };
        assert!(source(b"\0asm\x01\0\0\0").inspect(&limits).is_ok());
        assert!(source(b"(module )").inspect(&limits).is_ok());
        for content in [&b"\0asm\x01\0\0\0\0"[..], b"(module  )"] {
            let message = source(content).inspect(&limits).unwrap_err().to_string();
            assert!(
                message.contains(&content.len().to_string()) && message.contains("make it smaller"),
                "{message}"
            );
        }
    }

    #[test]
    fn the_whole_content_is_hashed_whatever_the_position() {
        let source = source(b"\0asm\x01\0\0\0");
        let position = || lseek(&source.file, 0, Whence::SeekCur).unwrap();
        let before = position();
        source.inspect(&Limits::default()).unwrap();
        assert_eq!(source.digest(8).unwrap(), Digest::of(b"\0asm\x01\0\0\0"));
        assert_eq!(position(), before);
        assert!(source.digest(9).unwrap_err().to_string().contains("shrank from 9 to 8"));
    }
}
