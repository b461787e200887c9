//! Goal, measured, verdict. Never rounded towards a goal: the verdict is taken before rounding.

use serde_json::{Value, json};

/// What a figure must reach.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Shown because it explains another row, or is to be stated.
    Stated,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    figure: String,
    goal: Goal,
    measured: f64,
    unit: &'static str,
}

impl Row {
    /// A figure and what it was to reach.
    pub fn new(figure: impl Into<String>, goal: Goal, measured: f64, unit: &'static str) -> Self {
        Self { figure: figure.into(), goal, measured, unit }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMost(bound) => format!("<= {bound}"),
            Goal::AtLeast(bound) => format!(">= {bound}"),
            Goal::Stated => "-".to_owned(),
        }
    }

    fn verdict(&self) -> &'static str {
        let is_met = match self.goal {
            Goal::AtMost(bound) => self.measured <= bound,
            Goal::AtLeast(bound) => self.measured >= bound,
            Goal::Stated => return "-",
        };
        if is_met { "met" } else { "MISSED" }
    }
}

/// For people.
pub fn text(rows: &[Row]) -> String {
    let mut cells = vec![["figure", "goal", "measured", "unit", "verdict"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let measured = format!("{:.2}", row.measured);
        [row.figure.clone(), row.goal(), measured, row.unit.to_owned(), row.verdict().to_owned()]
    }));
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..cells[0].len()).map(width).collect();
    let line = |row: &[String; 5]| {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            1 | 2 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// For programs.
pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        json!({ "figure": row.figure, "goal": row.goal(), "measured": row.measured, "unit": row.unit,
            "verdict": row.verdict() })
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_taken_before_rounding() {
        let row = |goal, measured| Row::new("x", goal, measured, "ms").verdict();
        assert_eq!(row(Goal::AtMost(1.5), 1.5), "met");
        assert_eq!(row(Goal::AtMost(1.5), 1.501), "MISSED");
        assert_eq!(row(Goal::AtLeast(3.0), 2.999), "MISSED");
        assert_eq!(row(Goal::Stated, 7.0), "-");
        let text = text(&[Row::new("bytes", Goal::AtMost(1.5), 1.504, "x")]);
        assert!(text.ends_with("MISSED") && text.contains("1.50"), "{text}");
    }
}
