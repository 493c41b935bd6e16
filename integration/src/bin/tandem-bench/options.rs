//! The command line.

use tandem_integration::{Error, Generation, Result};

use crate::runtime::Runtime;

/// What `--help` prints.
pub const HELP: &str = "\
Compares Tandem with runc, a plain runwasi shim and the floor; prints Markdown. Needs root.

tandem-bench [OPTION]...
  --rounds N             sequential rounds, 30 by default
  --generation v1|v2|both  of containerd, both by default
  --only NAME            only this runtime (tandem, baseline, runc, floor) or this measure (latency, parallel,
                         memory); may be repeated
  --without NAME         all but this runtime or measure; may be repeated";

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Times of single tasks, one after another.
    Latency,
    /// Tasks per second, several at a time.
    Parallel,
    /// Memory of a running HTTP pod.
    Memory,
}

impl Measure {
    const ALL: [Self; 3] = [Self::Latency, Self::Parallel, Self::Memory];

    fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Parallel => "parallel",
            Self::Memory => "memory",
        }
    }
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Measured rounds of the latency.
    pub rounds: usize,
    /// Generations of containerd, one after another.
    pub generations: Vec<Generation>,
    /// What is compared.
    pub runtimes: Vec<Runtime>,
    measures: Vec<Measure>,
}

impl Options {
    /// Reads the arguments behind the program's name; `None` where help is asked for.
    ///
    /// # Errors
    /// An option, a name or a value that is not known.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Option<Self>> {
        let mut options = Self {
            rounds: 30,
            generations: Generation::ALL.into(),
            runtimes: Vec::new(),
            measures: Vec::new(),
        };
        let (mut only, mut without) = (Names::default(), Names::default());
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| refused(format!("{option} needs a value")));
            match option.as_str() {
                "--help" | "-h" => return Ok(None),
                "--rounds" => options.rounds = rounds(&value()?)?,
                "--generation" => options.generations = generations(&value()?)?,
                "--only" => only.add(&value()?)?,
                "--without" => without.add(&value()?)?,
                _ => return Err(refused(format!("unknown option {option:?}"))),
            }
        }
        options.runtimes = chosen(&Runtime::ALL, &only.runtimes, &without.runtimes);
        options.measures = chosen(&Measure::ALL, &only.measures, &without.measures);
        if options.runtimes.is_empty() || options.measures.is_empty() {
            return Err(refused("nothing is left to be measured".into()));
        }
        Ok(Some(options))
    }

    /// Whether this is to be measured.
    pub fn measures(&self, measure: Measure) -> bool {
        self.measures.contains(&measure)
    }

    /// Whether anything but memory is to be measured.
    pub fn measures_tasks(&self) -> bool {
        self.measures(Measure::Latency) || self.measures(Measure::Parallel)
    }

    /// Batches of tasks in parallel: each is a mean over many tasks already, so a few will do.
    pub fn batches(&self) -> usize {
        (self.rounds / 10).max(3)
    }
}

/// Names of either kind, as `--only` and `--without` take them.
#[derive(Default)]
struct Names {
    runtimes: Vec<Runtime>,
    measures: Vec<Measure>,
}

impl Names {
    fn add(&mut self, name: &str) -> Result<()> {
        if let Some(runtime) = Runtime::ALL.into_iter().find(|runtime| runtime.name() == name) {
            self.runtimes.push(runtime);
        } else if let Some(measure) = Measure::ALL.into_iter().find(|measure| measure.name() == name) {
            self.measures.push(measure);
        } else {
            return Err(refused(format!("{name:?} is neither a runtime nor a measure")));
        }
        Ok(())
    }
}

fn chosen<T: Copy + PartialEq>(all: &[T], only: &[T], without: &[T]) -> Vec<T> {
    let wanted = |one: &&T| (only.is_empty() || only.contains(*one)) && !without.contains(*one);
    all.iter().filter(wanted).copied().collect()
}

fn rounds(text: &str) -> Result<usize> {
    let rounds = text.parse().ok().filter(|rounds| *rounds > 0);
    rounds.ok_or_else(|| refused(format!("--rounds {text:?} is not a number of rounds")))
}

fn generations(text: &str) -> Result<Vec<Generation>> {
    match text {
        "v1" => Ok(vec![Generation::V1]),
        "v2" => Ok(vec![Generation::V2]),
        "both" => Ok(Generation::ALL.into()),
        _ => Err(refused(format!("--generation {text:?} is not v1, v2 or both"))),
    }
}

fn refused(what: String) -> Error {
    Error::Setup(format!("{what}; --help tells what there is"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn everything_is_measured_by_default() {
        let options = parse("").unwrap().unwrap();
        assert_eq!((options.rounds, options.batches()), (30, 3));
        assert_eq!(options.generations, Generation::ALL);
        assert_eq!(options.runtimes, Runtime::ALL);
        assert!(options.measures(Measure::Latency) && options.measures(Measure::Memory));
    }

    #[test]
    fn a_name_narrows_either_the_runtimes_or_the_measures() {
        let options = parse("--only memory --without runc").unwrap().unwrap();
        assert!(options.measures(Measure::Memory) && !options.measures_tasks());
        assert_eq!(options.runtimes, [Runtime::Tandem, Runtime::Baseline, Runtime::Floor]);
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for line in ["--fast", "--only docker", "--rounds 0", "--rounds", "--generation v3"] {
            assert!(parse(line).is_err(), "{line}");
        }
        assert!(parse("--only tandem --without tandem").is_err());
    }
}
