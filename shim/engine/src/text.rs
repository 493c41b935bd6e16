//! Text of a guest in messages of the host.
//!
//! Names of imports and exports are whatever the module's author wrote: line breaks that would forge a line of a log,
//! escape sequences that a terminal obeys, marks that turn the direction of writing, a megabyte of them. Messages reach
//! terminals and logs of people who trust Tandem, not the module.

use std::fmt::{self, Write as _};

/// Characters of one name at most.
const NAME: usize = 120;

/// Characters of a description at most.
const DESCRIPTION: usize = 600;

/// A name out of a module or component, for a message.
#[must_use]
pub fn name(text: &str) -> impl fmt::Display + '_ {
    Shown { text, limit: NAME }
}

/// A description that has such names in it, for a message.
#[must_use]
pub fn description(text: &str) -> impl fmt::Display + '_ {
    Shown {
        text,
        limit: DESCRIPTION,
    }
}

struct Shown<'a> {
    text: &'a str,
    limit: usize,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, character) in self.text.chars().enumerate() {
            if index == self.limit {
                return f.write_char('…');
            }
            match character {
                // These need an escape in a string of a program only.
                '"' | '\'' | '\\' => f.write_char(character)?,
                // What does not print, or changes how other characters do, is written as its number.
                character => write!(f, "{}", character.escape_debug())?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_or_a_log_would_obey_is_escaped() {
        assert_eq!(name("\u{1b}[31mred\r\n\0").to_string(), r"\u{1b}[31mred\r\n\0");
        assert_eq!(
            name("a\u{202e}b\u{2066}c\u{200b}d\u{2028}").to_string(),
            r"a\u{202e}b\u{2066}c\u{200b}d\u{2028}"
        );
        assert_eq!(name("\u{9b}31m").to_string(), r"\u{9b}31m");
    }

    #[test]
    fn ordinary_names_stay_as_they_are() {
        for text in ["wasi:http/types@0.2.3", "größe", "[method]a.b#c", r#""it's\""#, "名前"] {
            assert_eq!(name(text).to_string(), text);
        }
    }

    #[test]
    fn long_names_are_cut() {
        assert_eq!(name(&"ä".repeat(1000)).to_string().chars().count(), NAME + 1);
        assert!(description(&"x".repeat(1000)).to_string().ends_with("x…"));
    }
}
