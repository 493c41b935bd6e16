//! A first look at a compiled image, before wasmtime believes it.
//!
//! The image was written by a compiler that had read hostile input, so it is as little trusted as that input. What it
//! does when it runs is confined like any guest. What is checked here is that its table of contents stays within the
//! file and has the shape that wasmtime's own images have, so that nothing is read elsewhere on its word.
//! Source: ELF-64 object file format; `wasmtime_environ::obj`.

use std::fs::File;
use std::io;

use crate::source::read_full;

const HEADER: usize = 64;
const SECTION: usize = 64;
const MAGIC: &[u8] = b"\x7fELF";
const CLASS_64: u8 = 2;
/// `wasmtime_environ::obj::ELFOSABI_WASMTIME`.
const OS_ABI_WASMTIME: u8 = 200;
/// wasmtime writes some twenty.
const MOST_SECTIONS: u16 = 64;
/// `SHT_NOBITS`: a section that takes no room in the file, of which wasmtime has none.
const NO_BITS: u32 = 8;

/// Whether the first `length` bytes of `file` are an image whose sections lie within them; the reason if not.
pub(super) fn check(file: &File, length: u64) -> io::Result<Result<(), String>> {
    let mut header = [0; HEADER];
    if length < HEADER as u64 || read_full(file, &mut header, 0)? < HEADER {
        return Ok(Err("it is shorter than its header".into()));
    }
    if !header.starts_with(MAGIC) || header[4] != CLASS_64 || header[7] != OS_ABI_WASMTIME {
        return Ok(Err("it is not an image of wasmtime's".into()));
    }
    let table = word(&header, 40);
    let (size, count, names) = (half(&header, 58), half(&header, 60), half(&header, 62));
    if usize::from(size) != SECTION || count == 0 || count > MOST_SECTIONS || names >= count {
        return Ok(Err(format!(
            "it has {count} sections of {size} bytes, named by {names}"
        )));
    }
    let mut sections = vec![0; SECTION * usize::from(count)];
    let end = table.checked_add(sections.len() as u64);
    if end.is_none_or(|end| end > length) || read_full(file, &mut sections, table)? < sections.len() {
        return Ok(Err("its table of sections lies outside".into()));
    }
    // The first one is empty and only there to be counted.
    for (number, section) in sections.chunks_exact(SECTION).enumerate().skip(1) {
        let (offset, size, align) = (word(section, 24), word(section, 32), word(section, 48));
        if half_word(section, 4) == NO_BITS || offset.checked_add(size).is_none_or(|end| end > length) {
            return Ok(Err(format!("its section {number} lies outside")));
        }
        if align > 1 && (!align.is_power_of_two() || size > 0 && offset % align != 0) {
            return Ok(Err(format!("its section {number} is not aligned")));
        }
    }
    Ok(Ok(()))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u64::from(*byte))
}

fn half_word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4]
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use wasmtime::Engine;

    use super::*;

    fn checked(bytes: &[u8]) -> Result<(), String> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        check(&file, bytes.len() as u64).unwrap()
    }

    fn image() -> Vec<u8> {
        let engine = Engine::new(&crate::engine_config()).unwrap();
        engine
            .precompile_module(br#"(module (memory 1) (data (i32.const 0) "x") (func (export "f")))"#)
            .unwrap()
    }

    #[test]
    fn what_the_compiler_writes_passes_for_modules_and_components() {
        assert_eq!(checked(&image()), Ok(()));
        let engine = Engine::new(&crate::engine_config()).unwrap();
        let component = engine
            .precompile_component(b"(component (core module (func)))")
            .unwrap();
        assert_eq!(checked(&component), Ok(()));
    }

    #[test]
    fn a_table_of_contents_that_leads_outside_is_refused() {
        let image = image();
        let table = usize::try_from(word(&image, 40)).unwrap();
        for (at, bytes) in [
            (0, &b"\x7fELG"[..]),
            (7, &[0]),
            (40, &u64::MAX.to_le_bytes()),
            (58, &[63, 0]),
            (60, &[0, 0]),
            (60, &[0xff, 0xff]),
            (62, &[0xff, 0]),
            (table + SECTION + 24, &u64::MAX.to_le_bytes()),
            (table + SECTION + 32, &(1u64 << 40).to_le_bytes()),
            (table + SECTION + 48, &3u64.to_le_bytes()),
            (table + SECTION + 4, &NO_BITS.to_le_bytes()),
        ] {
            let mut changed = image.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            assert!(checked(&changed).is_err(), "{at}");
        }
        for length in [0, 1, 63, 64, image.len() / 2] {
            assert!(checked(&image[..length]).is_err(), "{length}");
        }
    }
}
