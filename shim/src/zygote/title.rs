//! What `/proc/<pid>/cmdline` and `environ` show of a guest. The kernel reads both from the process's own memory, where a
//! forked guest has the shim's: containerd's environment, which may hold the credentials of a proxy, and a command line
//! that says nothing of the guest. An execve would replace them.

use std::fs;
use std::ops::Range;

/// Where the kernel looks.
#[derive(Debug, Clone, Default)]
pub struct Title {
    args: Range<usize>,
    env: Range<usize>,
}

impl Title {
    /// This process's, to be asked where `/proc` is the host's. None can be found where the kernel tells none.
    pub fn find() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self::parse(&stat).unwrap_or_default()
    }

    /// Source: proc_pid_stat(5), fields 48 to 51. Fields are counted behind the name, which may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut numbers = fields.split_whitespace().skip(45).map(|field| field.parse::<usize>());
        let mut range = || Some(numbers.next()?.ok()?..numbers.next()?.ok()?);
        Some(Self {
            args: range()?,
            env: range()?,
        })
    }

    /// Shows `args`, as many as have room, and no environment.
    ///
    /// # Safety
    /// The ranges must be this process's, or of the process that it was forked from. No other thread may run, and nothing
    /// may use the arguments and the environment that the process was started with.
    pub unsafe fn show(&self, args: &[String]) {
        // SAFETY: nobody else runs, as the caller promises.
        unsafe { libc::clearenv() };
        for range in [&self.args, &self.env] {
            // SAFETY: this memory is the process's, on its stack, and nobody refers to it any more.
            unsafe { std::ptr::write_bytes(range.start as *mut u8, 0, range.len()) };
        }
        let text = joined(args, self.args.len());
        // SAFETY: as above; the text is no longer than the range.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.args.start as *mut u8, text.len()) };
    }
}

/// The arguments as the kernel shows them, at most `room` bytes with the last zero, without which it would look further.
fn joined(args: &[String], room: usize) -> Vec<u8> {
    let mut text: Vec<u8> = args.iter().flat_map(|arg| arg.bytes().chain([0])).collect();
    text.truncate(room);
    if let Some(last) = text.last_mut() {
        *last = 0;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ranges_are_those_of_this_process() {
        let title = Title::find();
        // SAFETY: test programs leave their arguments where they are.
        let bytes = unsafe { std::slice::from_raw_parts(title.args.start as *const u8, title.args.len()) };
        assert_eq!(bytes, fs::read("/proc/self/cmdline").unwrap());
    }

    #[test]
    fn a_name_with_spaces_and_brackets_is_skipped() {
        let mut stat = String::from("1 (a) b) S");
        for number in 4..=52 {
            stat += &format!(" {number}");
        }
        let title = Title::parse(&stat).unwrap();
        assert_eq!((title.args, title.env), (48..49, 50..51));
        assert!(Title::parse("1 (a) S 2").is_none());
    }

    #[test]
    fn what_has_no_room_is_cut_off() {
        let args = ["/a.wasm".to_owned(), "b".to_owned()];
        assert_eq!(joined(&args, 100), b"/a.wasm\0b\0");
        assert_eq!(joined(&args, 5), b"/a.w\0");
        assert!(joined(&args, 0).is_empty());
    }
}
