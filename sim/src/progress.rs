//! How far a swarm has come: a bar on a terminal, nothing elsewhere, and the real time it took.
//!
//! This is the only place of the simulator that reads a real clock; nothing in a run ever sees it.
//!
//! Must never: be reachable from a run.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Instant;

/// The progress of a swarm.
pub struct Progress {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Of `seeds` seeds; shown only where standard error is a terminal and `show` says so.
    pub fn new(seeds: u64, show: bool) -> Self {
        Self::counting("seeds", seeds, show)
    }

    /// Of so many `things` at most; shown likewise.
    pub fn counting(things: &str, total: u64, show: bool) -> Self {
        let target = if show && std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let template = format!("{{bar:40}} {{pos}}/{{len}} {things}, {{per_sec}}, {{eta}} left {{msg}}");
        let style = ProgressStyle::with_template(&template);
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, started: now() }
    }

    /// One more seed is done.
    pub fn finished(&self, passed: bool) {
        self.bar.inc(1);
        if !passed {
            self.bar.set_message("FAILED");
        }
    }

    /// Real milliseconds since the beginning; takes the bar away.
    pub fn elapsed_ms(&self) -> u64 {
        self.bar.finish_and_clear();
        self.so_far_ms()
    }

    /// Real milliseconds so far.
    pub fn so_far_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[expect(clippy::disallowed_methods, reason = "the swarm's seeds/s is real time; no run sees it")]
fn now() -> Instant {
    Instant::now()
}
