//! What the differences mean: known ones with a reason, unknown ones, and known ones that are no more.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{
    compare::Difference,
    known::{KNOWN, Known, On},
    pattern::matches,
};

/// The verdict of one run.
pub struct Verdict<'a> {
    unknown: Vec<&'a Difference>,
    gone: Vec<&'static Known>,
}

impl<'a> Verdict<'a> {
    /// Judges; with `whole` every known difference must have occurred, but for those that depend on the node's cgroups: which
    /// hierarchies there are is the node's matter.
    pub fn of(differences: &'a [Difference], whole: bool) -> Self {
        let explains = |known: &Known, found: &Difference| {
            matches(known.case, &found.case)
                && matches(known.field, &found.field)
                && matches(known.subject, found.subject)
                && known.applies()
        };
        let unknown = differences
            .iter()
            .filter(|found| !KNOWN.iter().any(|known| explains(known, found)));
        let gone = KNOWN
            .iter()
            .filter(|known| whole && known.on == On::Everywhere)
            .filter(|known| !differences.iter().any(|found| explains(known, found)));
        Self {
            unknown: unknown.collect(),
            gone: gone.collect(),
        }
    }

    /// Panics with everything that is wrong, for a reader.
    pub fn assert(&self) {
        let text = self.text();
        assert!(text.is_empty(), "{text}");
    }

    /// Everything that is wrong; empty where nothing is.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut by_field: BTreeMap<(&str, &str, &str, &str), Vec<&Difference>> = BTreeMap::new();
        for found in &self.unknown {
            let key = (
                found.subject,
                found.field.as_str(),
                found.runc.as_str(),
                found.tandem.as_str(),
            );
            by_field.entry(key).or_default().push(found);
        }
        for ((subject, field, runc, tandem), found) in by_field {
            const SHOWN: usize = 6;
            let mut cases: Vec<&str> = found.iter().map(|found| found.case.as_str()).take(SHOWN).collect();
            let more = format!("and {} more", found.len().saturating_sub(SHOWN));
            if found.len() > SHOWN {
                cases.push(&more);
            }
            // Writing into a string does not fail.
            let _ = write!(
                text,
                "\n{subject}: {field}\n    runc   {}\n    tandem {}\n    in {}",
                short(runc),
                short(tandem),
                cases.join(", ")
            );
            for found in found.iter().filter(|found| !found.words.is_empty()) {
                let _ = write!(text, "\n    {}: {}", found.case, found.words);
            }
        }
        for known in &self.gone {
            let _ = write!(
                text,
                "\nis known but did not occur, so that it must leave the table: {} {} {}",
                known.subject, known.case, known.field
            );
        }
        text
    }
}

/// Enough of a value to see what it is.
fn short(value: &str) -> String {
    const SHOWN: usize = 1000;
    let mut text: String = value.chars().take(SHOWN).collect();
    if text.len() < value.len() {
        text.push('…');
    }
    text
}

#[test]
fn what_is_not_in_the_table_is_unknown() {
    let found = Difference {
        case: "no/such/case".into(),
        subject: "linux",
        field: "no such field".into(),
        runc: "a".into(),
        tandem: "b".into(),
        words: String::new(),
    };
    let verdict = Verdict {
        unknown: vec![&found],
        gone: Vec::new(),
    };
    let text = verdict.text();
    for part in ["no such field", "no/such/case", "runc   a", "tandem b"] {
        assert!(text.contains(part), "{text}");
    }
}
