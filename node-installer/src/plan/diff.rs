//! A plan as text: what a person needs to see before saying yes.

use std::fmt::Write as _;

use crate::{
    detect::{Detected, RestartBy},
    error::Result,
    host::Host,
    txn::{Change, DesiredPath, DesiredState, State, changes_config},
};

/// Lines shown around a change.
const CONTEXT: usize = 3;

/// Changes, one paragraph for each path, and what becomes of containerd.
///
/// # Errors
/// A file that cannot be read.
pub fn render(changes: &[Change], desired: &[DesiredPath], detected: &Detected, host: &Host) -> Result<String> {
    let mut text = String::new();
    for change in changes {
        let path = change.path.display();
        let item = desired.iter().find(|item| item.path == change.path);
        // Writing into a string does not fail.
        let _ = match item.map(|item| &item.state) {
            Some(DesiredState::Dir) => writeln!(text, "create directory {path}"),
            Some(DesiredState::Link(target)) => match &change.before {
                State::Link { target: old } => {
                    writeln!(text, "turn link {path}: {} -> {}", old.display(), target.display())
                }
                _ => writeln!(text, "create link {path} -> {}", target.display()),
            },
            Some(DesiredState::Program { digest, .. }) => writeln!(text, "install {path} (sha256 {digest})"),
            Some(DesiredState::Text(new)) => {
                let old = host.read(&change.path)?.unwrap_or_default();
                let (old, new) = (String::from_utf8_lossy(&old), String::from_utf8_lossy(new));
                let from = if change.before == State::Absent {
                    "/dev/null".into()
                } else {
                    path.to_string()
                };
                writeln!(text, "--- {from}\n+++ {path}\n{}", hunk(&old, &new).trim_end())
            }
            Some(DesiredState::Absent) | None => match change.before {
                State::Dir => writeln!(text, "remove directory {path}, if nothing else is in it"),
                _ => writeln!(text, "remove {path}"),
            },
        };
    }
    if changes.is_empty() {
        text.push_str("nothing to change\n");
        return Ok(text);
    }
    let restart = match (&detected.restart, changes_config(changes)) {
        (_, false) => "containerd is not restarted".to_owned(),
        (RestartBy::ByItself, true) => "containerd is restarted by the distribution".into(),
        (how, true) => format!("restart containerd: {how}"),
    };
    let _ = writeln!(text, "{restart}");
    Ok(text)
}

/// One hunk from the first line that differs to the last.
fn hunk(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let same = |(a, b): &(&&str, &&str)| a == b;
    let head = old.iter().zip(&new).take_while(same).count();
    let tail = old[head..]
        .iter()
        .rev()
        .zip(new[head..].iter().rev())
        .take_while(same)
        .count();
    let (old_end, new_end) = (old.len() - tail, new.len() - tail);
    let start = head.saturating_sub(CONTEXT);
    let stop = (old_end + CONTEXT).min(old.len());
    let mut text = format!(
        "@@ -{},{} +{},{} @@\n",
        if old.is_empty() { 0 } else { start + 1 },
        stop - start,
        start + 1,
        stop - start + new_end - old_end,
    );
    let mut lines = |mark: char, lines: &[&str]| {
        for line in lines {
            let _ = writeln!(text, "{mark}{line}");
        }
    };
    lines(' ', &old[start..head]);
    lines('-', &old[head..old_end]);
    lines('+', &new[head..new_end]);
    lines(' ', &old[old_end..stop]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hunk_shows_what_changes_and_three_lines_around() {
        let old = "1\n2\n3\n4\n5\n6\n7\n8\n";
        assert_eq!(
            hunk(old, &old.replace('5', "five")),
            "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
        );
    }

    #[test]
    fn a_new_file_is_all_additions() {
        assert_eq!(hunk("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
    }
}
