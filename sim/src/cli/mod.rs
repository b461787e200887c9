//! The command line of `onced-sim`.
//!
//! Must never: exit with a code that `--help` does not name.

mod canary;
mod exhaustive;
mod measure;
mod patterns;
mod real;
mod scenario;
mod shrink;
mod story;

use clap::{Args, Parser, Subcommand};
use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::limits;
use crate::progress::Progress;
use crate::report::{Verdict, exit};
use crate::run::Options;
use crate::swarm::{Plan, quiet_panics, run_caught, swarm};

const EXITS: &str = "\
Exit codes:
  0   everything held (swarm: and every goal was reached; canary: every bug was caught)
  1   an invariant was broken (canary: a planted bug was not caught)
  2   a healed cluster did not converge in bounded virtual time
  3   a scenario file's [expect] was missed
  4   the swarm never reached one of its goals (exhaustive: a bound was reached first)
  64  the command line was wrong
  70  a panic, or a file that could not be written

Examples:
  onced-sim swarm --seeds 2000
  onced-sim run --seed 7 --trace seed-7.txt
  onced-sim run --seed 7 --report seed-7       (open seed-7/report.html)
  onced-sim explain --seed 7
  onced-sim run active-active --seed 3  (a scenario that ships; `onced-sim scenarios` lists them)
  onced-sim swarm mine.toml --seeds 200 (sim/SCENARIOS.md says how to write one)
  onced-sim schedule --seed 7 > seed-7.toml
  onced-sim swarm --seeds 500 --start 10000 --jobs 2 --json
  onced-sim patterns --regions 30
  sudo onced-sim real short-cuts        (real onced processes, beside what is simulated)
  onced-sim shrink --seed 817
  onced-sim exhaustive --regions 2 --events 6
  onced-sim canary                      (built with --features canary)";

/// Many onced regions in virtual time, judged by an independent oracle.
#[derive(Parser, Debug)]
#[command(name = "onced-sim", version, after_help = EXITS, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs one seed, at random or of a scenario: the same seed gives the same trace, byte for byte
    #[command(after_help = EXITS, visible_alias = "replay")]
    Run(RunArgs),
    /// Says in words what led to a violation: its causal cone and what stood in the way
    #[command(after_help = story::EXPLAIN_EXAMPLES)]
    Explain(story::ExplainArgs),
    /// Shows where two runs part (exit code 1) or that they are alike (0)
    #[command(after_help = story::DIFF_EXAMPLES)]
    Diff(story::DiffArgs),
    /// Runs many seeds on all cores and stops at the first that fails
    #[command(after_help = EXITS)]
    Swarm(SwarmArgs),
    /// Says whether scenario files are right, and if not, where and what to do
    #[command(after_help = scenario::EXAMPLES)]
    Check(scenario::CheckArgs),
    /// Prints all that happens in a run, as a scenario file that runs to the same trace
    #[command(after_help = scenario::SCHEDULE_EXAMPLES)]
    Schedule(scenario::ScheduleArgs),
    /// Lists the scenarios that ship, or prints one
    #[command(after_help = scenario::LIST_EXAMPLES)]
    Scenarios(scenario::ScenariosArgs),
    /// Cuts many regions apart in each known way, heals them, and shows what agreement took
    #[command(after_help = patterns::EXAMPLES)]
    Patterns(patterns::PatternsArgs),
    /// Says what a topology costs and gives, over many seeds; several scenarios side by side
    #[command(after_help = measure::EXAMPLES)]
    Measure(measure::MeasureArgs),
    /// Runs a scenario with real onced processes and shows what it came to beside what is simulated
    #[command(after_help = real::EXAMPLES)]
    Real(real::RealArgs),
    /// Leaves out of a failing run all that it does not need to fail
    #[command(after_help = shrink::EXAMPLES)]
    Shrink(shrink::ShrinkArgs),
    /// Looks at every order of a few events in a world of two or three regions
    #[command(after_help = exhaustive::EXAMPLES)]
    Exhaustive(exhaustive::ExhaustiveArgs),
    /// Plants each known bug in turn and shows the first seed that catches it
    #[command(after_help = EXITS)]
    Canary(CanaryArgs),
}

/// Which run is meant: at least one of the two.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Subject {
    /// A scenario file, or a name of `onced-sim scenarios`; without it all is drawn from the seed
    #[arg(value_name = "SCENARIO")]
    file: Option<std::path::PathBuf>,
    /// What is left open is drawn from it; by default the scenario's
    #[arg(long)]
    seed: Option<u64>,
}

/// Which runs, on how many threads, and how they are told of.
#[derive(Args, Debug)]
struct Seeds {
    /// How many seeds; of each scenario
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    start: u64,
    #[command(flatten)]
    threads: Threads,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Threads {
    /// Threads; by default one a core
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=limits::JOBS_MAX as i64))]
    jobs: Option<u16>,
}

impl Seeds {
    /// Whether the last of them is a seed, too.
    fn check(&self) -> Result<(), &'static str> {
        let last = self.start.checked_add(self.seeds);
        last.map(|_| ()).ok_or("--start and --seeds together exceed 64 bits; choose a smaller --start")
    }
}

impl Threads {
    /// As asked, else one a core.
    fn count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.jobs.map_or_else(cores, usize::from).clamp(1, limits::JOBS_MAX)
    }
}

#[derive(Args, Debug)]
struct RunArgs {
    #[command(flatten)]
    subject: Subject,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Writes the whole trace to FILE
    #[arg(long, value_name = "FILE")]
    trace: Option<std::path::PathBuf>,
    /// Writes DIR/report.html, to be looked at in any browser, and DIR/report.json
    #[arg(long, value_name = "DIR")]
    report: Option<std::path::PathBuf>,
    /// The key that the report looks at first; by default that of the violation
    #[arg(long, value_name = "KEY", requires = "report")]
    key: Option<String>,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Args, Debug)]
struct SwarmArgs {
    /// A scenario file, or a name of `onced-sim scenarios`; without it all is drawn
    #[arg(value_name = "SCENARIO")]
    file: Option<std::path::PathBuf>,
    #[command(flatten)]
    runs: Seeds,
    /// Every so many seeds run twice, and the traces must be the same: 1 for all
    #[arg(long, value_name = "N", default_value_t = limits::TWICE_EVERY, value_parser = clap::value_parser!(u64).range(1..))]
    twice_every: u64,
    /// Goes on after a failure
    #[arg(long)]
    keep_going: bool,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Args, Debug)]
struct CanaryArgs {
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Only this bug
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    #[command(flatten)]
    threads: Threads,
}

/// Parses the command line, runs it and returns the exit code.
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { exit::USAGE } else { exit::PASS };
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            return code;
        }
    };
    quiet_panics();
    let code = match cli.command {
        Command::Run(args) => run_command(&args),
        Command::Explain(args) => story::explain_command(&args),
        Command::Diff(args) => story::diff_command(&args),
        Command::Swarm(args) => swarm_command(&args),
        Command::Check(args) => scenario::check(&args),
        Command::Schedule(args) => scenario::schedule(&args),
        Command::Scenarios(args) => scenario::scenarios(&args),
        Command::Patterns(args) => patterns::command(&args),
        Command::Measure(args) => measure::command(&args),
        Command::Real(args) => real::command(&args),
        Command::Shrink(args) => shrink::command(&args),
        Command::Exhaustive(args) => exhaustive::command(&args),
        Command::Canary(args) => canary::command(args.json, args.only.as_deref(), args.threads.count()),
    };
    if UNSAID.load(Ordering::Relaxed) { code.max(exit::INTERNAL) } else { code }
}

fn run_command(args: &RunArgs) -> u8 {
    let canary = match chosen(args.canary.as_deref()) {
        Ok(canary) => canary,
        Err(message) => return usage(&message),
    };
    let (keep_trace, keep_story) = (args.trace.is_some(), args.report.is_some());
    let options = Options { canary, keep_trace, keep_story, ..Options::default() };
    let (report, code) = match &args.subject.file {
        Some(file) => match scenario::run(file, args.subject.seed, options, args.json) {
            Ok(done) => done,
            Err(code) => return code,
        },
        None => {
            let report = run_caught(args.subject.seed.unwrap_or_default(), options);
            say(&if args.json { report.json() + "\n" } else { report.human() });
            let code = report.verdict.exit_code();
            (report, code)
        }
    };
    if let Some(path) = &args.trace
        && let Err(error) = std::fs::write(path, report.text.as_deref().unwrap_or_default())
    {
        complain(&format!(
            "the trace could not be written to {}: {error}; choose another --trace",
            path.display()
        ));
        return exit::INTERNAL;
    }
    if let Some(Err(message)) = args.key.as_deref().map(|key| story::check_key(&report, key)) {
        return usage(&message);
    }
    if let Some(folder) = &args.report
        && let Err(message) = story::write_report(&report, folder, args.key.as_deref(), None)
    {
        complain(&message);
        return exit::INTERNAL;
    }
    code
}

fn swarm_command(args: &SwarmArgs) -> u8 {
    let canary = match chosen(args.canary.as_deref()) {
        Ok(canary) => canary,
        Err(message) => return usage(&message),
    };
    if let Err(message) = args.runs.check() {
        return usage(message);
    }
    let Seeds { start, seeds, ref threads, json } = args.runs;
    let (jobs, twice_every, keep_going) = (threads.count(), args.twice_every, args.keep_going);
    let plan = Plan { start, seeds, jobs, twice_every, keep_going, sample: false, canary };
    if let Some(file) = &args.file {
        return scenario::swarm(file, plan, json);
    }
    let report = swarm(plan, &Progress::new(seeds, !json));
    say(&if json { report.json() + "\n" } else { report.human() });
    if report.failures.iter().any(|failure| matches!(failure.verdict, Verdict::Panic(_))) && json {
        complain("a run panicked; the report names its seed");
    }
    report.exit_code()
}

/// The bug of that name.
fn chosen(name: Option<&str>) -> Result<Option<crdt::canary::Bug>, String> {
    let Some(name) = name else { return Ok(None) };
    if !crdt::canary::COMPILED_IN {
        return Err("this build cannot plant bugs; build it with `--features canary`".to_owned());
    }
    let all = crdt::canary::Bug::ALL;
    match all.into_iter().find(|bug| bug.name() == name) {
        Some(bug) => Ok(Some(bug)),
        None => {
            let names: Vec<&str> = all.into_iter().map(crdt::canary::Bug::name).collect();
            Err(format!("no planted bug is called {name}; there are: {}", names.join(", ")))
        }
    }
}

fn usage(message: &str) -> u8 {
    complain(message);
    exit::USAGE
}

/// Something could not be said.
static UNSAID: AtomicBool = AtomicBool::new(false);

fn say(text: &str) {
    let mut out = std::io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => {}
        // A closed pipe (`| head`) is the reader's wish, not an error.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(error) => {
            UNSAID.store(true, Ordering::Relaxed);
            complain(&format!("standard output cannot be written: {error}; what was said is not whole"));
        }
    }
}

fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "onced-sim: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_documents_its_exit_codes() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
        let help = Cli::command().render_help().to_string();
        for code in [exit::SAFETY, exit::LIVENESS, exit::EXPECTATION, exit::GOAL, exit::USAGE, exit::INTERNAL]
        {
            assert!(help.contains(&format!("\n  {code} ")), "{code} is not in --help");
        }
        for command in ["run", "shrink", "schedule", "explain", "diff"] {
            let refused =
                Cli::try_parse_from(["onced-sim", command]).expect_err("it needs a seed or a scenario");
            let text = refused.to_string();
            assert!(text.contains("SCENARIO") && text.contains("--seed"), "{command}: {text}");
            assert!(
                Cli::try_parse_from(["onced-sim", command, "mine.toml", "--seed", "3"]).is_ok(),
                "{command}"
            );
        }
        for runs in ["--seeds=0", "--jobs=0", "--jobs=100000"] {
            for command in [["swarm", "active-active"], ["measure", "active-active"]] {
                let line = ["onced-sim", command[0], command[1], runs];
                assert!(Cli::try_parse_from(line).is_err(), "{line:?}");
            }
        }
    }

    #[test]
    fn unknown_bugs_are_refused_with_the_names_there_are() {
        assert_eq!(chosen(None), Ok(None));
        let refused = chosen(Some("no-such-bug")).expect_err("refused");
        assert!(refused.contains(if crdt::canary::COMPILED_IN {
            "clock-goes-back"
        } else {
            "--features canary"
        }));
    }
}
