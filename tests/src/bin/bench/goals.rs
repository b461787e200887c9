//! What is gone for: a goal, a row of the table, and the verdict over the two.
//!
//! A goal is a ratio against a peer measured in the same run, because absolute figures differ between machines; two
//! exceptions (a stall in milliseconds) say so in their type. A verdict is only given when both sides ran. It must
//! never be turned into an exit code: a busy machine is not a bug.

use crate::rounds::{FOREIGN_PERCENT_MAX, Sample};

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// ours / peer is at least this.
    AtLeast(f64),
    /// ours / peer is at most this.
    AtMost(f64),
    /// As `AtMost`, with a second bound worth reaching.
    AtMostStretch(f64, f64),
    /// Ours is at most this, in the row's unit, whatever the peer does.
    AtMostAbsolute(f64),
    /// Shown because it explains another row.
    Shown,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub figure: String,
    /// The unit of both sides.
    pub unit: &'static str,
    /// What it must reach.
    pub goal: Goal,
    /// Our side, or nothing when it did not run.
    pub ours: Option<Sample>,
    /// The other side.
    pub peer: Option<Sample>,
    /// Who the other side is.
    pub peer_name: &'static str,
    /// Why a side is missing, or what else a reader should know.
    pub note: String,
}

impl Row {
    /// A row with both sides, as far as they ran.
    pub fn new(
        figure: impl Into<String>,
        unit: &'static str,
        goal: Goal,
        ours: Sample,
        peer: Sample,
        peer_name: &'static str,
    ) -> Self {
        let some = |sample: Sample| Some(sample).filter(|sample| !sample.values.is_empty());
        let (ours, peer) = (some(ours), some(peer));
        Self { figure: figure.into(), unit, goal, ours, peer, peer_name, note: String::new() }
    }

    /// A row that was not measured, and why.
    pub fn not_run(figure: &str, unit: &'static str, goal: Goal, peer_name: &'static str, why: &str) -> Self {
        let note = why.to_string();
        Self { figure: figure.into(), unit, goal, ours: None, peer: None, peer_name, note }
    }

    /// The same row with a remark.
    pub fn noted(mut self, note: &str) -> Self {
        self.note = note.to_string();
        self
    }

    /// Ours over the peer's, medians.
    pub fn ratio(&self) -> Option<f64> {
        let peer = self.peer.as_ref()?.median().filter(|peer| *peer > 0.0)?;
        Some(self.ours.as_ref()?.median()? / peer)
    }

    /// The most disturbed run of either side, in percent of foreign CPU.
    pub fn foreign_percent_max(&self) -> f64 {
        let sides = [&self.ours, &self.peer];
        sides.iter().filter_map(|side| side.as_ref()).map(|side| side.foreign_percent_max).fold(0.0, f64::max)
    }

    /// The wider spread of the two sides, in percent.
    pub fn spread_percent(&self) -> f64 {
        let sides = [&self.ours, &self.peer];
        sides.iter().filter_map(|side| side.as_ref()).map(Sample::spread_percent).fold(0.0, f64::max)
    }

    /// One word on how it went; `disturbed` is added when others took too much of the machine.
    pub fn verdict(&self) -> String {
        let value = match self.goal {
            Goal::AtMostAbsolute(_) => self.ours.as_ref().and_then(Sample::median),
            _ => self.ratio(),
        };
        let word = match (self.goal, value) {
            (Goal::Shown, _) => "-",
            (_, None) if self.ours.is_none() => "not run",
            (_, None) => "no peer",
            (Goal::AtLeast(bound), Some(value)) if value >= bound => "met",
            (Goal::AtMostStretch(_, stretch), Some(value)) if value <= stretch => "met, stretch",
            (
                Goal::AtMost(bound) | Goal::AtMostStretch(bound, _) | Goal::AtMostAbsolute(bound),
                Some(value),
            ) if value <= bound => "met",
            _ => "MISSED",
        };
        if self.foreign_percent_max() > FOREIGN_PERCENT_MAX {
            format!("{word} (disturbed)")
        } else {
            word.to_string()
        }
    }
}

impl Goal {
    /// As the table prints it.
    pub fn text(self) -> String {
        match self {
            Goal::AtLeast(bound) => format!(">= {bound:.2}"),
            Goal::AtMost(bound) => format!("<= {bound:.2}"),
            Goal::AtMostStretch(bound, stretch) => format!("<= {bound:.2} ({stretch:.2})"),
            Goal::AtMostAbsolute(bound) => format!("ours <= {bound}"),
            Goal::Shown => "-".to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(goal: Goal, ours: f64, peer: f64, foreign: f64) -> Row {
        Row::new("x", "op/s", goal, Sample::one(ours, foreign), Sample::one(peer, 0.0), "redis")
    }

    #[test]
    fn verdicts() {
        assert_eq!(row(Goal::AtLeast(3.0), 300.0, 100.0, 0.0).verdict(), "met");
        assert_eq!(row(Goal::AtLeast(3.0), 299.0, 100.0, 0.0).verdict(), "MISSED");
        assert_eq!(row(Goal::AtMostStretch(0.8, 0.7), 7.0, 10.0, 0.0).verdict(), "met, stretch");
        assert_eq!(row(Goal::AtMostStretch(0.8, 0.7), 8.0, 10.0, 0.0).verdict(), "met");
        assert_eq!(row(Goal::AtMostStretch(0.8, 0.7), 9.0, 10.0, 0.0).verdict(), "MISSED");
        assert_eq!(row(Goal::AtMostAbsolute(10.0), 9.0, 1.0, 0.0).verdict(), "met");
        assert_eq!(row(Goal::AtMost(1.0), 9.0, 10.0, 30.0).verdict(), "met (disturbed)");
        let mut alone = row(Goal::AtLeast(1.0), 1.0, 1.0, 0.0);
        alone.peer = None;
        assert_eq!(alone.verdict(), "no peer");
    }
}
