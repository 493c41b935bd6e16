//! What both runs reported, side by side.

use std::fmt::Write;

use crate::suite::{Ended, Outcome, Outcomes};

/// Between these lines a document has the table.
const MARKS: [&str; 2] = ["<!-- results -->", "<!-- end of results -->"];

/// Specs that end worse than the peer's, with what they did. What the peer passes must pass, not be skipped or missing;
/// what it skips may be skipped too, but not fail: whoever announces a feature must have it.
pub fn worse<'a>(peer: &'a Outcomes, ours: &'a Outcomes) -> Vec<(&'a str, String)> {
    let missing = peer
        .iter()
        .filter(|(name, ended)| ended.outcome == Outcome::Passed && !ours.contains_key(*name));
    let missing = missing.map(|(name, _)| (name.as_str(), "did not run".to_owned()));
    let ended = ours.iter().filter(|(name, ended)| {
        let peer = peer.get(*name).map_or(Outcome::Skipped, |ended| ended.outcome);
        match ended.outcome {
            Outcome::Passed => false,
            Outcome::Skipped => peer == Outcome::Passed,
            Outcome::Failed => peer != Outcome::Failed,
        }
    });
    let ended =
        ended.map(|(name, Ended { outcome, message })| (name.as_str(), format!("{}: {message}", word(*outcome))));
    missing.chain(ended).collect()
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
    fn a_spec_ends_worse_where_the_peers_passes_or_where_only_ours_fails() {
        use Outcome::{Failed, Passed, Skipped};
        let pairs = [
            ("pp", Passed, Passed),
            ("pf", Passed, Failed),
            ("ps", Passed, Skipped),
            ("ff", Failed, Failed),
            ("fs", Failed, Skipped),
            ("ss", Skipped, Skipped),
            ("sf", Skipped, Failed),
            ("sp", Skipped, Passed),
        ];
        let mut peer = outcomes(&pairs.map(|(name, peer, _)| (name, peer)));
        let mut ours = outcomes(&pairs.map(|(name, _, ours)| (name, ours)));
        peer.extend(outcomes(&[("only peer's", Passed)]));
        ours.extend(outcomes(&[("only ours", Failed)]));
        let worse: Vec<&str> = worse(&peer, &ours).into_iter().map(|(name, _)| name).collect();
        assert_eq!(worse, ["only peer's", "only ours", "pf", "ps", "sf"]);
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
