//! The command line: few words, read by hand so that the bench needs no parser of its own.
//!
//! Besides what `USAGE` names there are two subcommands for the bench's own children, `ceiling` and `drive`. Must
//! never start anything: it only says what was asked for.

use crate::ceiling::Answer;
use crate::drive::Job;
use crate::figures::FIGURES;
use crate::rounds::Depth;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;

/// What `--help` prints.
pub const USAGE: &str = "\
onced and redis side by side: ratios against named goals.

usage: bench [short|quick|full] [--only FIGURE]... [--json] [--onced PATH] [--folder PATH]

  short          one round of small loads, to see that it works
  quick          three rounds, 1M keys, under 3 minutes on a quiet machine (the default)
  full           five rounds, 5M keys, and the worst stall while filling to 10M
  --only FIGURE  only these: throughput, ceiling, single, durable, replay, replicated, stored, stall
  --json         JSON on standard output instead of the table
  --onced PATH   this binary instead of building `onced` in the release profile first
  --folder PATH  data of the servers below this folder (default: the system's temporary folder); short, on a real disk

Needs redis-server and redis-benchmark (apt-get install redis-server redis-tools); without them only our side runs.
One figure is taken beside PostgreSQL where it is installed (apt-get install postgresql).
Exit code 0 whatever the figures say, 1 when something could not be run, 2 for a wrong command line.";

/// What was asked for.
#[derive(Debug)]
pub enum Action {
    /// Measure and print.
    Measure(Options),
    /// Be the server that always gives the same answer.
    Ceiling(PathBuf, Answer),
    /// Be a driver.
    Drive(Job),
    /// Print `USAGE`.
    Help,
}

/// How to measure.
#[derive(Debug)]
pub struct Options {
    /// How much.
    pub depth: Depth,
    /// Figures to take; all when empty.
    pub only: Vec<String>,
    /// JSON instead of a table.
    pub json: bool,
    /// The binary to measure instead of the one built.
    pub onced: Option<PathBuf>,
    /// Where the servers' data goes.
    pub folder: Option<PathBuf>,
}

/// Reads the command line without the program's name.
///
/// # Errors
/// An unknown word, or a missing value: the message says which.
pub fn parse(words: &[String]) -> Result<Action> {
    match words.first().map(String::as_str) {
        Some("ceiling") => {
            let [_, socket, answer] = words else {
                bail!("`ceiling` is for the bench's own use and takes 2 words")
            };
            return Ok(Action::Ceiling(PathBuf::from(socket), Answer::from_name(answer)?));
        }
        Some("drive") => return Ok(Action::Drive(Job::from_words(&words[1..])?)),
        _ => {}
    }
    let mut options =
        Options { depth: Depth::Quick, only: Vec::new(), json: false, onced: None, folder: None };
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "short" => options.depth = Depth::Short,
            "quick" => options.depth = Depth::Quick,
            "full" => options.depth = Depth::Full,
            "--json" => options.json = true,
            "--onced" => options.onced = Some(PathBuf::from(value()?)),
            "--folder" => options.folder = Some(PathBuf::from(value()?)),
            "--only" => options.only.push(known_figure(value()?)?),
            "--help" | "-h" | "help" => return Ok(Action::Help),
            other => bail!("unknown word `{other}`; see bench --help"),
        }
    }
    Ok(Action::Measure(options))
}

fn known_figure(name: &str) -> Result<String> {
    if FIGURES.iter().any(|(known, _)| *known == name) {
        return Ok(name.to_string());
    }
    let names: Vec<&str> = FIGURES.iter().map(|(known, _)| *known).collect();
    bail!("unknown figure `{name}`; there are: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Action> {
        let words: Vec<String> = line.split_whitespace().map(String::from).collect();
        parse(&words)
    }

    #[test]
    fn words_in_any_order() {
        let Action::Measure(options) = parsed("--json full --only stored --only stall").unwrap() else {
            panic!("not a measurement")
        };
        assert_eq!(options.depth, Depth::Full);
        assert_eq!(options.only, ["stored", "stall"]);
        assert!(options.json);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        assert!(parsed("--only nonsense").unwrap_err().to_string().contains("throughput"));
        assert!(parsed("--folder").unwrap_err().to_string().contains("--folder"));
        assert!(parsed("fast").unwrap_err().to_string().contains("fast"));
    }

    #[test]
    fn a_job_survives_the_way_to_the_driver() {
        let words = "drive /tmp/s redis settle 8 64 1000 500 200";
        let Action::Drive(job) = parsed(words).unwrap() else { panic!("not a job") };
        assert_eq!(job.words().join(" "), words);
    }

    #[test]
    fn the_usage_names_every_figure() {
        for (name, _) in FIGURES {
            assert!(USAGE.contains(name), "{name} is missing from the usage text");
        }
    }
}
