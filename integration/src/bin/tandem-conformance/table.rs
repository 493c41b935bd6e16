//! What both runs reported, side by side.

use std::fmt::Write;

use crate::suite::{Ended, Outcome, Outcomes};

/// Between these lines a document has the table.
const MARKS: [&str; 2] = ["<!-- results -->", "<!-- end of results -->"];

/// Specs that pass with `peer` and not with `ours`, with what `ours` did: absence is a failure too.
pub fn worse<'a>(peer: &'a Outcomes, ours: &'a Outcomes) -> Vec<(&'a str, String)> {
    let passed = peer.iter().filter(|(_, ended)| ended.outcome == Outcome::Passed);
    passed
        .filter_map(|(name, _)| match ours.get(name) {
            Some(Ended {
                outcome: Outcome::Passed,
                ..
            }) => None,
            Some(Ended { outcome, message }) => Some((name.as_str(), format!("{}: {message}", word(*outcome)))),
            None => Some((name.as_str(), "did not run".to_owned())),
        })
        .collect()
}

/// The results as Markdown: counts, then a row for each spec, by name.
pub fn markdown(runc: &Outcomes, tandem: &Outcomes) -> String {
    let count = |outcomes: &Outcomes, outcome| outcomes.values().filter(|ended| ended.outcome == outcome).count();
    let mut text = String::from("| | runc | tandem |\n|---|---|---|\n");
    for outcome in [Outcome::Passed, Outcome::Failed, Outcome::Skipped] {
        let counts = [runc, tandem].map(|outcomes| count(outcomes, outcome));
        // Writing into a string does not fail.
        let _ = writeln!(text, "| {} | {} | {} |", word(outcome), counts[0], counts[1]);
    }
    text.push_str("\n| spec | runc | tandem |\n|---|---|---|\n");
    let mut names: Vec<&String> = runc.keys().chain(tandem.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let cell = |outcomes: &Outcomes| outcomes.get(name).map_or("did not run", |ended| word(ended.outcome));
        let _ = writeln!(
            text,
            "| {} | {} | {} |",
            name.replace('|', "\\|"),
            cell(runc),
            cell(tandem)
        );
    }
    text
}

/// `document` with `table` in the place of its own; `None` where it has no place for one.
pub fn replaced(document: &str, table: &str) -> Option<String> {
    let [begin, end] = MARKS;
    let (before, rest) = document.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{table}{end}{after}"))
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passed => "passed",
        Outcome::Skipped => "skipped",
        Outcome::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(list: &[(&str, Outcome)]) -> Outcomes {
        let ended = |outcome| Ended {
            outcome,
            message: "m".into(),
        };
        list.iter()
            .map(|(name, outcome)| ((*name).to_owned(), ended(*outcome)))
            .collect()
    }

    #[test]
    fn a_spec_that_only_the_peer_passes_is_worse_however_it_did_not_pass() {
        use Outcome::{Failed, Passed, Skipped};
        let peer = outcomes(&[
            ("a", Passed),
            ("b", Passed),
            ("c", Passed),
            ("d", Failed),
            ("e", Passed),
        ]);
        let ours = outcomes(&[("a", Passed), ("b", Failed), ("c", Skipped), ("d", Failed)]);
        let worse: Vec<&str> = worse(&peer, &ours).into_iter().map(|(name, _)| name).collect();
        assert_eq!(worse, ["b", "c", "e"]);
    }

    #[test]
    fn a_documents_table_is_replaced_and_nothing_else() {
        let document = "a\n<!-- results -->\nold\n<!-- end of results -->\nz\n";
        let new = replaced(document, "new\n").unwrap();
        assert_eq!(new, "a\n<!-- results -->\nnew\n<!-- end of results -->\nz\n");
        assert_eq!(replaced(&new, "new\n").unwrap(), new);
        assert_eq!(replaced("no place", "new\n"), None);
    }
}
