//! `onced-sim patterns`: do many regions agree again after each known way of being cut apart, and what does it take?
//!
//! Must never: pass a pattern that cut nothing; such a run has shown nothing.

use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;

use super::{complain, say, story, usage};
use crate::limits;
use crate::pattern::{NAMES, Pattern};
use crate::report::{RunReport, Verdict, exit};
use crate::run::Options;
use crate::scenario::Scenario;
use crate::schedule::Schedule;
use crate::swarm::run_caught_schedule;
use crate::world::Figures;

pub(super) const EXAMPLES: &str = "\
A pattern holds from 2 s to 12 s of virtual time while a client a region claims and completes 40 keys; then all is
healed. Regions compare what they hold as seldom as daemons do (each 5 s what is older than 5 s).

Columns: directed links cut at once; frames that ran into a cut; keys known differently at the healing; from the
healing until all regions are alike, in steps of 100 ms; bytes of frames sent in that time, at all, and of these what
comparisons said and what they brought; records that only comparisons brought, over all regions.

Exit codes:
  0   all regions agreed after every pattern
  1   an invariant was broken
  2   they did not agree in bounded virtual time
  4   a pattern cut nothing
  64  the command line was wrong
  70  a panic

Examples:
  onced-sim patterns
  onced-sim patterns --regions 5 --only ring --report ring
  onced-sim patterns --regions 12 --delay-ms 1..40 --json";

#[derive(Args, Debug)]
pub(super) struct PatternsArgs {
    /// How many regions, 2 to 64
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(2..=64))]
    regions: u64,
    /// Distances and clients are drawn from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// One-way delays between two regions, in milliseconds
    #[arg(long, value_name = "LEAST..MOST", default_value = "1..300")]
    delay_ms: String,
    /// Only this pattern
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// One JSON object a pattern, in an array
    #[arg(long)]
    json: bool,
    /// Writes report.html and report.json of every pattern into a folder of DIR named like it
    #[arg(long, value_name = "DIR")]
    report: Option<std::path::PathBuf>,
    /// Writes the whole trace of the last pattern to FILE
    #[arg(long, value_name = "FILE")]
    trace: Option<std::path::PathBuf>,
}

#[derive(Serialize)]
struct Row {
    pattern: &'static str,
    regions: usize,
    verdict: &'static str,
    virtual_us: u64,
    events: u64,
    #[serde(flatten)]
    figures: Figures,
}

/// Runs every pattern, or one.
pub(super) fn command(args: &PatternsArgs) -> u8 {
    let Some(distances_us) = distances(&args.delay_ms) else {
        let most = limits::DELAY_MS_MAX;
        return usage(&format!("--delay-ms {}: say two numbers, as in 1..300, up to {most}", args.delay_ms));
    };
    let regions = args.regions as usize;
    let names: Vec<_> =
        NAMES.into_iter().filter(|name| args.only.as_deref().is_none_or(|only| only == *name)).collect();
    if names.is_empty() {
        let wanted = args.only.as_deref().unwrap_or_default();
        return usage(&format!("no pattern is called {wanted}; there are: {}", NAMES.join(", ")));
    }
    if !args.json {
        say(HEADING);
    }
    let (mut rows, mut worst) = (Vec::new(), exit::PASS);
    for name in names {
        let Some(pattern) = Pattern::named(name, regions) else {
            complain(&format!("{name} cuts nothing between {regions} regions and is left out"));
            continue;
        };
        let scenario = Scenario::of_pattern(args.seed, regions, pattern, distances_us);
        let (keep_trace, keep_story) = (args.trace.is_some(), args.report.is_some());
        let options = Options { keep_trace, keep_story, ..Options::default() };
        let report = run_caught_schedule(Schedule::of(scenario), options);
        if let Some(path) = &args.trace
            && let Err(error) = std::fs::write(path, report.text.as_deref().unwrap_or_default())
        {
            complain(&format!("the trace could not be written to {}: {error}", path.display()));
            return exit::INTERNAL;
        }
        if let Some(folder) = &args.report
            && let Err(message) =
                story::write_report(&report, &folder.join(name), None, Some(again(args, name)))
        {
            complain(&message);
            return exit::INTERNAL;
        }
        worst = worse(worst, &report);
        if !args.json {
            say(&line(name, &report));
        }
        let (verdict, figures) = (report.verdict.word(), report.figures);
        let (virtual_us, events) = (report.virtual_us, report.events);
        rows.push(Row { pattern: name, regions, verdict, virtual_us, events, figures });
    }
    if args.json {
        say(&(serde_json::to_string(&rows).expect("strings and numbers always serialise") + "\n"));
    }
    if rows.is_empty() { usage("nothing is left to run; ask for more --regions") } else { worst }
}

/// The command that runs one pattern again.
fn again(args: &PatternsArgs, name: &str) -> String {
    let PatternsArgs { regions, seed, delay_ms, .. } = args;
    format!("onced-sim patterns --regions {regions} --seed {seed} --delay-ms {delay_ms} --only {name}")
}

/// Bounds of one-way delays, microseconds.
fn distances(text: &str) -> Option<(u64, u64)> {
    let (least, most) = text.split_once("..")?;
    let (least, most) = (least.trim().parse::<u64>().ok()?, most.trim().parse::<u64>().ok()?);
    (least <= most && most <= limits::DELAY_MS_MAX).then_some((least * 1000, most * 1000))
}

/// The exit code after one more run; a broken invariant before all else.
fn worse(before: u8, report: &RunReport) -> u8 {
    let cut_nothing = report.figures.frames_cut == 0;
    let code = match report.verdict {
        Verdict::Pass if cut_nothing => exit::GOAL,
        _ => report.verdict.exit_code(),
    };
    let order = [exit::SAFETY, exit::INTERNAL, exit::LIVENESS, exit::GOAL];
    order.into_iter().find(|worst| [before, code].contains(worst)).unwrap_or(exit::PASS)
}

const HEADING: &str = "\
pattern            links   frames   keys  alike after  KB since   KB in        KB        KB  repaired
                     cut      cut  apart           ms   healing     all  compared  repaired
";

fn line(name: &str, report: &RunReport) -> String {
    let Figures { links_cut, frames_cut, keys_apart, converged_ms, repaired, .. } = report.figures;
    let Figures { bytes, bytes_healing, bytes_compared, bytes_repaired, .. } = report.figures;
    let [healing, all, compared, mended] =
        [bytes_healing, bytes, bytes_compared, bytes_repaired].map(|bytes| bytes / 1000);
    let mut text = format!(
        "{name:<18} {links_cut:>5} {frames_cut:>8} {keys_apart:>6} {converged_ms:>12} {healing:>9} {all:>7} {compared:>9} \
         {mended:>9} {repaired:>9}\n"
    );
    if report.verdict != Verdict::Pass {
        let _ = write!(text, "{}", report.human());
    } else if frames_cut == 0 {
        let _ = writeln!(text, "  {name} cut nothing that was sent: this run has shown nothing");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_two_numbers_in_order_and_bounds() {
        assert_eq!(distances("1..300"), Some((1_000, 300_000)));
        assert_eq!(distances("0 .. 0"), Some((0, 0)));
        for wrong in ["", "5", "5..1", "1..9999999", "a..b", "-1..5"] {
            assert_eq!(distances(wrong), None, "{wrong}");
        }
    }
}
