//! `onced-sim exhaustive`: all orders of a few events in a world of a few regions.
//!
//! Must never: pass a search that a bound has cut short.

use clap::Args;
use serde::Serialize;
use std::fmt::Write as _;

use super::{Threads, chosen, say, usage};
use crate::exhaustive::{Ended, Event, Found, Layer, Search, Size, search};
use crate::limits;
use crate::oracle::violation::Violation;
use crate::progress::Progress;
use crate::report::exit;

pub(super) const EXAMPLES: &str = "\
Regions and keys are few, and what can happen is: a claim in a region; a completion of a grant in any region; the
oldest records on a link arrive; all leases end; a process restarts; a link is cut, or healed. Every order of up to
--events of these is run through the real store, node, codec and recovery. After each, all is healed and delivered, and
the regions must agree: one winner, every loser listed everywhere, nothing lost that was acknowledged.

Orders that lead to the same state are continued from once. Columns: events in an order, states that no shorter order
reaches, runs that looked for them, and orders that lead there (at least).

Exit codes:
  0   every order was looked at, and held
  1   an invariant was broken; the shortest order that shows it is printed
  4   a bound was reached first: shorter orders were all looked at, the rest were not
  64  the command line was wrong
  70  a panic

Examples:
  onced-sim exhaustive --regions 2 --events 6
  onced-sim exhaustive --regions 3 --keys 1 --events 5 --seconds 600
  onced-sim exhaustive --regions 2 --keys 2 --events 5 --json";

#[derive(Args, Debug)]
pub(super) struct ExhaustiveArgs {
    /// How many regions, 2 or 3
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(2..=3))]
    regions: u64,
    /// How many keys, 1 or 2
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    keys: u64,
    /// How many events an order has at most, 1 to 10
    #[arg(long, default_value_t = limits::EXHAUSTIVE_EVENTS as u64, value_parser = clap::value_parser!(u64).range(1..=10))]
    events: u64,
    /// Stops beyond so many states: each takes about 100 bytes of memory
    #[arg(long, default_value_t = limits::EXHAUSTIVE_STATES, value_parser = clap::value_parser!(u64).range(1..))]
    states: u64,
    /// Stops after so many seconds
    #[arg(long, default_value_t = limits::EXHAUSTIVE_SECONDS, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: u64,
    #[command(flatten)]
    threads: Threads,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Plants a bug (only in a build with --features canary)
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
}

#[derive(Serialize)]
struct Json<'a> {
    regions: usize,
    keys: usize,
    events: usize,
    canary: Option<&'static str>,
    verdict: &'static str,
    bound: Option<&'static str>,
    order: Vec<String>,
    invariant: Option<&'static str>,
    clause: Option<&'static str>,
    story: &'a [String],
    panic: Option<&'a str>,
    covered_events: usize,
    states: u64,
    runs: u64,
    orders_at_least: String,
    layers: &'a [Layer],
    elapsed_ms: u64,
    exit_code: u8,
}

/// Searches, and says what was found.
pub(super) fn command(args: &ExhaustiveArgs) -> u8 {
    let canary = match chosen(args.canary.as_deref()) {
        Ok(canary) => canary,
        Err(message) => return usage(&message),
    };
    let wanted = Search {
        size: Size { regions: args.regions as usize, keys: args.keys as usize },
        events: args.events as usize,
        states_max: args.states,
        ms_max: args.seconds.saturating_mul(1000),
        jobs: args.threads.count(),
        canary,
    };
    let found = search(wanted, &Progress::counting("states", wanted.states_max, !args.json));
    say(&if args.json { json(&wanted, &found) } else { human(&wanted, &found) });
    code(&found.ended)
}

const fn code(ended: &Ended) -> u8 {
    match ended {
        Ended::Covered => exit::PASS,
        Ended::Bounded(_) => exit::GOAL,
        Ended::Broken(..) => exit::SAFETY,
        Ended::Panicked(..) => exit::INTERNAL,
    }
}

fn json(wanted: &Search, found: &Found) -> String {
    let violation: Option<&Violation> =
        if let Ended::Broken(_, violation) = &found.ended { Some(violation) } else { None };
    let order: &[Event] = match &found.ended {
        Ended::Broken(order, _) | Ended::Panicked(order, _) => order,
        Ended::Covered | Ended::Bounded(_) => &[],
    };
    let json = Json {
        regions: wanted.size.regions,
        keys: wanted.size.keys,
        events: wanted.events,
        canary: wanted.canary.map(crdt::canary::Bug::name),
        verdict: match &found.ended {
            Ended::Covered => "pass",
            Ended::Bounded(_) => "inconclusive",
            Ended::Broken(..) => "safety",
            Ended::Panicked(..) => "panic",
        },
        bound: if let Ended::Bounded(bound) = found.ended { Some(bound) } else { None },
        order: order.iter().map(ToString::to_string).collect(),
        invariant: violation.map(|violation| violation.invariant),
        clause: violation.map(|violation| violation.clause),
        story: violation.map_or(&[], |violation| &violation.story),
        panic: if let Ended::Panicked(_, message) = &found.ended { Some(message) } else { None },
        covered_events: found.covered(),
        states: found.states,
        runs: found.runs,
        orders_at_least: found.orders().to_string(),
        layers: &found.layers,
        elapsed_ms: found.elapsed_ms,
        exit_code: code(&found.ended),
    };
    serde_json::to_string(&json).expect("strings and numbers always serialise") + "\n"
}

fn human(wanted: &Search, found: &Found) -> String {
    let mut text = format!("{:>6} {:>12} {:>12} {:>24}\n", "events", "states", "runs", "orders");
    for layer in &found.layers {
        let Layer { events, states, runs, orders } = layer;
        let _ = writeln!(text, "{events:>6} {states:>12} {runs:>12} {orders:>24}");
    }
    let seconds = found.elapsed_ms as f64 / 1000.0;
    let per_s = found.runs as f64 / seconds.max(0.001);
    let _ = writeln!(text, "{} states, {} runs, {seconds:.1} s, {per_s:.0} runs/s", found.states, found.runs);
    let order = |text: &mut String, events: &[Event]| {
        for (at, event) in events.iter().enumerate() {
            let _ = writeln!(text, "  {}. {event}", at + 1);
        }
    };
    match &found.ended {
        Ended::Covered => {
            let _ = writeln!(text, "every order of up to {} events holds", wanted.events);
        }
        Ended::Bounded(bound) => {
            let _ = writeln!(
                text,
                "{bound} was reached: every order of up to {} events holds, and longer ones were not all looked at; raise \
                 {bound}, or ask for fewer --events",
                found.covered()
            );
        }
        Ended::Broken(events, violation) => {
            let _ = writeln!(text, "after these events, everything healed and delivered:");
            order(&mut text, events);
            let _ = writeln!(text, "{violation}");
        }
        Ended::Panicked(events, message) => {
            let _ = writeln!(text, "panicked: {message}, after these events:");
            order(&mut text, events);
        }
    }
    text
}
