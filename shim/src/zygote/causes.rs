//! Why libcontainer failed, as a sentence.
//!
//! Its error for a failed creation shows the outermost of the causes only, and does not name the others as its sources
//! either (`CreateContainerError`, libcontainer 0.7). They can be seen in its `Debug` form alone, where the innermost one
//! is the kernel's answer: without it a message would be "failed unix syscalls", and no help to anyone.

use libcontainer::error::LibcontainerError;
use nix::errno::Errno;

use crate::fault::chain;

/// The error with all its causes.
pub fn of(error: &LibcontainerError) -> String {
    let text = chain(error);
    match kernels_answer(&format!("{error:?}")) {
        Some(errno) if !text.contains(errno.desc()) => format!("{text}: {} ({errno:?})", errno.desc()),
        _ => text,
    }
}

/// The error number in a `Debug` form: nix writes `EAGAIN`, the standard library `Os { code: 11, … }`.
fn kernels_answer(debug: &str) -> Option<Errno> {
    match debug.split_once("Os { code: ") {
        Some((_, after)) => {
            let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
            Some(Errno::from_raw(digits.parse().ok()?))
        }
        None => debug
            .split(|c: char| !c.is_ascii_alphanumeric())
            .filter(|word| word.len() > 3 && word.starts_with('E'))
            .find_map(named),
    }
}

/// The error number of that name.
fn named(name: &str) -> Option<Errno> {
    // Linux has no more than these; numbers without a name are of no use here.
    (1..134).map(Errno::from_raw).find(|errno| format!("{errno:?}") == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_answer_is_found_however_it_is_wrapped() {
        let nix =
            "CreateContainerError(CreateContainerError(MainProcess(IntermediateProcessFailed(Clone(EAGAIN))), None))";
        assert_eq!(kernels_answer(nix), Some(Errno::EAGAIN));
        let std =
            r#"Bind { source: Os { code: 28, kind: StorageFull, message: "No space left on device" }, name: "n" }"#;
        assert_eq!(kernels_answer(std), Some(Errno::ENOSPC));
    }

    #[test]
    fn an_answer_that_is_there_already_is_not_repeated_and_none_is_invented() {
        let error = LibcontainerError::OtherIO(std::io::Error::from_raw_os_error(28));
        assert_eq!(
            of(&error).matches("No space left on device").count(),
            1,
            "{}",
            of(&error)
        );
        assert_eq!(
            of(&LibcontainerError::Other("EVERY odd Error".into())),
            "EVERY odd Error"
        );
    }
}
