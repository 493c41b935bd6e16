//! Tandem against runc: the same OCI spec is run with both, and everything that a process can see is compared, for the
//! container's first process and for one that is executed in it, and so is how a spec is refused.
//!
//! [`specs`] has the specs written by hand, a file for each section of the specification; [`generated`] makes more by
//! chance. What may differ is in one table, [`known`], with the reason; it is part of docs/conformance.md. A difference
//! that is not in it fails the test, and so does one in it that is no longer there.
//!
//! | variable | means |
//! |---|---|
//! | `TANDEM_RUNC` | the runc that is compared with; default: the one that `integration/setup runc` builds |
//! | `TANDEM_DIFFERENTIAL` | only specs whose name contains this |
//! | `TANDEM_DIFFERENTIAL_SEED` | seed of the generated specs, a number |
//! | `TANDEM_DIFFERENTIAL_SPECS` | how many specs are generated |
//! | `UPDATE` | if set, docs/conformance.md is written instead of checked |

#[cfg(test)]
mod case;
#[cfg(test)]
mod compare;
#[cfg(test)]
mod document;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod host;
#[cfg(test)]
mod known;
#[cfg(test)]
mod observe;
#[cfg(test)]
mod pattern;
#[cfg(test)]
mod report;
#[cfg(test)]
mod specs;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod subject;
#[cfg(test)]
mod verdict;

#[cfg(test)]
mod tests {
    use tandem_integration::Result;

    use crate::{
        case::Case,
        compare, document, generated, specs,
        subject::{Bench, Subject},
        verdict::Verdict,
    };

    fn chosen(wanted: impl Fn(&str) -> bool) -> Vec<Case> {
        specs::all().into_iter().filter(|case| wanted(&case.name)).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn specs_of_every_section_give_what_runc_gives_but_for_what_is_documented() -> Result<()> {
        let bench = Bench::start().await?;
        let wanted = std::env::var("TANDEM_DIFFERENTIAL").unwrap_or_default();
        let cases = chosen(|name| name.contains(&wanted));
        assert!(!cases.is_empty(), "no spec is named like {wanted:?}");
        let differences = compare::all(&bench, cases, Subject::TANDEM).await?;
        // Of some specs only, nothing can be said of those that were left out.
        Verdict::of(&differences, wanted.is_empty()).assert();
        bench.stop().await
    }

    /// What the comparison says of Tandem is worth something only where it says nothing of equals.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn runc_does_not_differ_from_itself() -> Result<()> {
        let bench = Bench::start().await?;
        let mut cases = chosen(|name| name == "default" || name.starts_with("terminal/"));
        cases.extend(generated::some());
        let differences = compare::all(&bench, cases, &[Subject::Runc]).await?;
        bench.stop().await?;
        assert_eq!(differences, []);
        Ok(())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn generated_specs_give_what_runc_gives_but_for_what_is_documented() -> Result<()> {
        generated::run().await
    }

    #[test]
    fn the_document_lists_every_known_difference_with_its_reason() {
        document::check_or_write();
    }
}
