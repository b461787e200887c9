//! The table people read and the JSON programs do.
//!
//! Plain text in columns, so that it can be pasted into a change's description. Both forms carry everything needed
//! to doubt a figure: spread, foreign CPU, versions. Must never round a ratio up to its goal: two decimals are
//! printed, the verdict is taken before rounding.

use crate::goals::Row;
use crate::machine::Machine;
use crate::rounds::{Depth, Sample};
use serde_json::{Value, json};

/// The headings of the table.
const HEADINGS: [&str; 9] =
    ["figure", "goal", "ours", "peer", "unit", "ratio", "spread", "foreign CPU", "verdict"];

/// The table, its header and its remarks.
pub fn table(rows: &[Row], machine: &Machine, depth: Depth, seconds: f64) -> String {
    let mut lines = vec![header(machine, depth, seconds)];
    if !machine.on_disk {
        lines.push("The data is on tmpfs: durable figures mean nothing. Use --folder on a real disk.".into());
    }
    lines.push(String::new());
    let cells: Vec<[String; 9]> =
        std::iter::once(HEADINGS.map(String::from)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEADINGS.len()).map(width).collect();
    for (index, row) in cells.iter().enumerate() {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match column {
            // Numbers line up at their right end.
            2 | 3 | 5 | 6 | 7 => format!("{cell:>width$}"),
            _ => format!("{cell:<width$}"),
        });
        lines.push(padded.collect::<Vec<_>>().join("  ").trim_end().to_string());
        if index == 0 {
            lines.push("-".repeat(widths.iter().sum::<usize>() + 2 * (widths.len() - 1)));
        }
    }
    let notes = rows.iter().filter(|row| !row.note.is_empty());
    lines.push(String::new());
    let mut notes: Vec<String> = notes.map(|row| format!("{}: {}", row.figure, row.note)).collect();
    notes.dedup();
    lines.append(&mut notes);
    lines.push(summary(rows));
    lines.join("\n")
}

/// The same as JSON.
pub fn json(rows: &[Row], machine: &Machine, depth: Depth, seconds: f64) -> Value {
    let side = |sample: &Option<Sample>| {
        sample.as_ref().map(|sample| {
            json!({
                "median": sample.median(),
                "spread_percent": sample.spread_percent(),
                "values": sample.values,
            })
        })
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "figure": row.figure,
                "unit": row.unit,
                "goal": row.goal.text(),
                "ours": side(&row.ours),
                "peer": side(&row.peer),
                "peer_name": row.peer_name,
                "ratio": row.ratio(),
                "foreign_cpu_percent_max": row.foreign_percent_max(),
                "verdict": row.verdict(),
                "note": row.note,
            })
        })
        .collect();
    json!({
        "depth": format!("{depth:?}").to_lowercase(),
        "rounds": depth.rounds(),
        "seconds": seconds,
        "onced": machine.onced,
        "redis": machine.redis,
        "processor": machine.processor,
        "cores": machine.cores,
        "kernel": machine.kernel,
        "on_disk": machine.on_disk,
        "rows": rows,
    })
}

fn header(machine: &Machine, depth: Depth, seconds: f64) -> String {
    let Machine { onced, redis, processor, cores, kernel, .. } = machine;
    format!(
        "onced {onced} beside redis {redis}; {cores} cores of {processor}, Linux {kernel}\n\
         {depth:?}: {} round(s) interleaved, medians; spread is half the distance between the extremes of the wider \
         side; {seconds:.0} s in all",
        depth.rounds()
    )
}

fn cells(row: &Row) -> [String; 9] {
    let value = |sample: &Option<Sample>| {
        sample.as_ref().and_then(Sample::median).map_or("-".to_string(), |value| number(value, row.unit))
    };
    let ratio = row.ratio().map_or("-".to_string(), |ratio| format!("{ratio:.2}"));
    [
        row.figure.clone(),
        row.goal.text(),
        value(&row.ours),
        format!("{} {}", row.peer_name, value(&row.peer)),
        row.unit.to_string(),
        ratio,
        format!("±{:.0} %", row.spread_percent()),
        format!("{:.0} %", row.foreign_percent_max()),
        row.verdict(),
    ]
}

fn number(value: f64, unit: &str) -> String {
    match unit {
        "op/s" => format!("{:.1}k", value / 1e3),
        "B" => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}

fn summary(rows: &[Row]) -> String {
    let count = |word: &str| rows.iter().filter(|row| row.verdict().starts_with(word)).count();
    let disturbed = rows.iter().filter(|row| row.verdict().ends_with("(disturbed)")).count();
    let mut text = format!("{} goals met, {} missed", count("met"), count("MISSED"));
    if disturbed > 0 {
        text += &format!("; {disturbed} rows disturbed by others' CPU: repeat on a quiet machine");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goal;

    #[test]
    fn a_table_shows_goal_sides_ratio_and_verdict() {
        let row = Row::new(
            "c50 P16",
            "op/s",
            Goal::AtLeast(3.0),
            Sample::one(900_000.0, 1.0),
            Sample::one(300_400.0, 2.0),
            "redis everysec",
        );
        let machine = Machine {
            onced: "0.1.0".into(),
            redis: "7".into(),
            processor: "p".into(),
            cores: 2,
            kernel: "6".into(),
            on_disk: true,
        };
        let text = table(std::slice::from_ref(&row), &machine, Depth::Quick, 1.0);
        let line = text.lines().find(|line| line.starts_with("c50 P16")).unwrap();
        // 2.996 prints as 3.00 and is missed all the same.
        for part in [">= 3.00", "900.0k", "redis everysec 300.4k", "3.00", "2 %", "MISSED"] {
            assert!(line.contains(part), "`{part}` is missing from `{line}`");
        }
        let value = json(&[row], &machine, Depth::Quick, 1.0);
        assert_eq!(value["rows"][0]["ours"]["median"], 900_000.0);
    }
}
