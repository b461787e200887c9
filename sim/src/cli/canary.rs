//! `onced-sim canary`: is the simulator worth anything? Each planted bug must be caught within
//! [`limits::CANARY_SEEDS_MAX`] seeds; a bug that is not is a hole in the simulator.
//!
//! Must never: count a missed goal as a catch; only a broken invariant or a panic is one.

use serde::Serialize;
use std::fmt::Write as _;

use super::{chosen, complain, say, usage};
use crate::limits;
use crate::progress::Progress;
use crate::report::{RunReport, exit};
use crate::swarm::{Plan, swarm};

#[derive(Serialize)]
struct Catch {
    bug: &'static str,
    caught: bool,
    seed: Option<u64>,
    seeds_tried: u64,
    verdict: Option<&'static str>,
    invariant: Option<&'static str>,
    replay: Option<String>,
}

/// Hunts every bug, or one.
pub fn command(json: bool, only: Option<&str>, jobs: usize) -> u8 {
    if !crdt::canary::COMPILED_IN {
        return usage("this build cannot plant bugs; build it with `cargo build -p sim --features canary`");
    }
    let only = match chosen(only) {
        Ok(only) => only,
        Err(message) => return usage(&message),
    };
    let bugs = crdt::canary::Bug::ALL.into_iter().filter(|bug| only.is_none_or(|wanted| wanted == *bug));
    let mut catches = Vec::new();
    for bug in bugs {
        let plan = Plan {
            start: 0,
            seeds: limits::CANARY_SEEDS_MAX,
            jobs,
            twice_every: limits::TWICE_EVERY,
            keep_going: false,
            sample: false,
            canary: Some(bug),
        };
        let report = swarm(plan, &Progress::new(plan.seeds, false));
        let catch = caught(bug.name(), report.failures.first(), report.seeds);
        if !json {
            say(&line(&catch));
        }
        catches.push(catch);
    }
    if json {
        say(&(serde_json::to_string(&catches).expect("strings and numbers always serialise") + "\n"));
    }
    let missed = catches.iter().filter(|catch| !catch.caught).count();
    if missed > 0 {
        complain(&format!("{missed} planted bugs were not caught: the simulator has a hole"));
        return exit::SAFETY;
    }
    exit::PASS
}

fn caught(bug: &'static str, failure: Option<&RunReport>, seeds_tried: u64) -> Catch {
    Catch {
        bug,
        caught: failure.is_some(),
        seed: failure.map(|failure| failure.seed),
        seeds_tried,
        verdict: failure.map(|failure| failure.verdict.word()),
        invariant: failure
            .and_then(|failure| failure.verdict.violation())
            .map(|violation| violation.invariant),
        replay: failure.map(RunReport::replay_command),
    }
}

fn line(catch: &Catch) -> String {
    let mut text = format!("{:<32}", catch.bug);
    let _ = match (catch.seed, catch.invariant.or(catch.verdict)) {
        (Some(seed), Some(what)) => {
            writeln!(
                text,
                "caught by seed {seed:<5} {what:<8} {}",
                catch.replay.as_deref().unwrap_or_default()
            )
        }
        _ => writeln!(text, "NOT CAUGHT in {} seeds", catch.seeds_tried),
    };
    text
}
