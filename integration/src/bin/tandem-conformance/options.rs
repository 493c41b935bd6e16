//! The command line.

use std::path::PathBuf;

use tandem_integration::{Error, Result};

/// What `--help` prints.
pub const HELP: &str = "\
Runs Kubernetes' CRI conformance suite with runc and with Tandem as the pods' runtime, and fails where a spec ends
worse with the latter. Needs root.

tandem-conformance [OPTION]...
  --reports DIR     where reports, output and the table go
  --document FILE   the document that states the results; a difference is reported
  --update          write the results into the document
  --parallel N      specs at a time, 6 by default
  --focus REGEX     only specs whose name matches
  --only HANDLER    only this runtime (runc, tandem); nothing is compared then";

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Where reports go.
    pub reports: PathBuf,
    /// The document that states the results.
    pub document: Option<PathBuf>,
    /// Write them into it.
    pub update: bool,
    /// Specs at a time. Most of them wait for states that are polled every four seconds.
    pub parallel: usize,
    /// Only specs whose name matches.
    pub focus: Option<String>,
    /// Only this runtime.
    pub only: Option<String>,
}

impl Options {
    /// Reads the arguments behind the program's name; `None` where help is asked for.
    ///
    /// # Errors
    /// An option or a value that is not known.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            reports: "target/conformance".into(),
            document: None,
            update: false,
            parallel: 6,
            focus: None,
            only: None,
        };
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            if option == "--help" || option == "-h" {
                return Ok(None);
            }
            if option == "--update" {
                options.update = true;
                continue;
            }
            let known = ["--reports", "--document", "--parallel", "--focus", "--only"];
            if !known.contains(&option.as_str()) {
                return Err(Error::Setup(format!("no option {option}; --help lists them")));
            }
            let value = args.next();
            let value = value.ok_or_else(|| Error::Setup(format!("{option} needs a value")))?;
            match option.as_str() {
                "--reports" => options.reports = value.into(),
                "--document" => options.document = Some(value.into()),
                "--focus" => options.focus = Some(value),
                "--only" if crate::HANDLERS.contains(&value.as_str()) => options.only = Some(value),
                "--parallel" => {
                    options.parallel = value
                        .parse()
                        .ok()
                        .filter(|n| *n > 0)
                        .ok_or_else(|| unusable(&option, &value))?
                }
                _ => return Err(unusable(&option, &value)),
            }
        }
        Ok(Some(options))
    }
}

fn unusable(option: &str, value: &str) -> Error {
    Error::Setup(format!("{option} cannot be {value:?}; --help tells what it can be"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let options = parse("--parallel 2 --update --only tandem").unwrap().unwrap();
        assert_eq!((options.parallel, options.only.as_deref()), (2, Some("tandem")));
        assert!(options.update);
        assert!(parse("--help").unwrap().is_none());
        for wrong in ["--parallel 0", "--only crun", "--focus", "--fast"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
