//! Reads single values: one method a kind, each of which notes an error with its place and goes on.
//!
//! A wrong value yields nothing or a default; the file is then refused as a whole, so that a default standing in for an
//! error is never run.

use std::ops::{Range, RangeInclusive};

use toml::{Spanned, Value};

use super::problem::{Problem, Source};
use super::ranged::Ranged;
use super::raw::Leaf;
use super::units::Unit;
use crate::limits;

/// Collects errors while values are read.
pub(super) struct Checker<'a> {
    source: Source<'a>,
    /// Where we are, as `event/3`: names the dice of ranges.
    pub(super) place: String,
    pub(super) errors: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) const fn new(source: Source<'a>) -> Self {
        Self { source, place: String::new(), errors: Vec::new() }
    }

    /// Notes an error at `span`.
    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let problem = self.source.problem(span, message.into());
        self.errors.push(problem);
    }

    /// Some text; `None` when absent or no text.
    pub(super) fn text<'v>(&mut self, leaf: &'v Leaf, key: &str) -> Option<(&'v str, Range<usize>)> {
        let leaf = leaf.as_ref()?;
        if let Value::String(text) = leaf.get_ref() {
            return Some((text, leaf.span()));
        }
        let found = shown(leaf.get_ref());
        let example = match leaf.get_ref() {
            Value::Array(list) => list.first().and_then(Value::as_str).unwrap_or("…").to_owned(),
            _ => "…".to_owned(),
        };
        let text = format!("{key}: expected one text in quotes, found {found}; write {key} = \"{example}\"");
        self.error(&leaf.span(), text);
        None
    }

    /// As [`Self::text`]; absence is an error at `table`.
    pub(super) fn required_text<'v>(
        &mut self,
        leaf: &'v Leaf,
        key: &str,
        table: &Range<usize>,
        example: &str,
    ) -> Option<(&'v str, Range<usize>)> {
        self.present(leaf, key, table, example);
        self.text(leaf, key)
    }

    /// Absence is an error at `table`.
    pub(super) fn present(&mut self, leaf: &Leaf, key: &str, table: &Range<usize>, example: &str) {
        if leaf.is_none() {
            self.error(table, format!("{key} is missing; write {example}"));
        }
    }

    /// A number of that unit within `range`, or a range of such; `None` when absent or wrong.
    pub(super) fn ranged(
        &mut self,
        leaf: &Leaf,
        key: &str,
        unit: Unit,
        range: RangeInclusive<u64>,
    ) -> Option<Ranged> {
        self.bounded(leaf, key, unit, range, true)
    }

    /// As [`Self::ranged`]; `open`: a range may stand there, and is told of.
    fn bounded(
        &mut self,
        leaf: &Leaf,
        key: &str,
        unit: Unit,
        range: RangeInclusive<u64>,
        open: bool,
    ) -> Option<Ranged> {
        let leaf = leaf.as_ref()?;
        let Some((low, high)) = bounds(leaf.get_ref(), unit) else {
            let (found, what) = (shown(leaf.get_ref()), unit.what());
            let text = match leaf.get_ref() {
                Value::Integer(number) if *number < 0 => {
                    let least =
                        if unit == Unit::Count { "0".to_owned() } else { format!("\"{}\"", unit.render(0)) };
                    format!("{key}: {found} is less than nothing; write {key} = {least} or more")
                }
                value => {
                    let example = meant(value, unit).unwrap_or_else(|| unit.example(open).to_owned());
                    format!("{key}: {found} is not {what}; write {example}")
                }
            };
            self.error(&leaf.span(), text);
            return None;
        };
        if low > high {
            let (low, high) = (unit.render(low), unit.render(high));
            self.error(&leaf.span(), format!("{key}: the range is crossed; write \"{high}..{low}\""));
            return None;
        }
        if let Some(wrong) = [low, high].into_iter().find(|value| !range.contains(value)) {
            let [wrong, least, most] = [wrong, *range.start(), *range.end()].map(|value| unit.render(value));
            self.error(
                &leaf.span(),
                format!("{key}: {wrong} is out of range; choose from {least} to {most}"),
            );
            return None;
        }
        let fixed = low == high;
        Some(if fixed {
            Ranged::fixed(low)
        } else {
            Ranged::between(low, high, &format!("{}/{key}", self.place))
        })
    }

    /// When something happens: before the end of the run, which lasts at least so long.
    pub(super) fn time_of_run(&mut self, leaf: &Leaf, duration_us: u64) -> Option<Ranged> {
        let at_us = self.ranged(leaf, "at", Unit::Time, 0..=limits::FILE_US_MAX)?;
        if at_us.high > duration_us {
            let [late, end] = [at_us.high, duration_us].map(|us| Unit::Time.render(us));
            let text = format!(
                "at: {late} is after the end, the run lasts {end}; write an earlier time, or raise duration at the top"
            );
            self.error(&leaf.as_ref().map_or(0..0, Spanned::span), text);
            return None;
        }
        Some(at_us)
    }

    /// As [`Self::ranged`], with a default for what is absent.
    pub(super) fn ranged_or(
        &mut self,
        leaf: &Leaf,
        key: &str,
        unit: Unit,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> Ranged {
        self.ranged(leaf, key, unit, range).unwrap_or(Ranged::fixed(default))
    }

    /// A number that no seed may change.
    pub(super) fn fixed(
        &mut self,
        leaf: &Leaf,
        key: &str,
        unit: Unit,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let value = self.bounded(leaf, key, unit, range, false)?;
        if value.low < value.high {
            let (span, low) = (leaf.as_ref().map_or(0..0, Spanned::span), unit.render(value.low));
            self.error(
                &span,
                format!("{key}: a range has no meaning here; write one value, such as \"{low}\""),
            );
            return None;
        }
        Some(value.low)
    }

    /// Yes or no.
    pub(super) fn truth(&mut self, leaf: &Leaf, key: &str, default: bool) -> bool {
        let Some(leaf) = leaf.as_ref() else { return default };
        if let Value::Boolean(truth) = leaf.get_ref() {
            return *truth;
        }
        let found = shown(leaf.get_ref());
        self.error(&leaf.span(), format!("{key}: {found} is neither yes nor no; write true or false"));
        default
    }

    /// One of `words`; `None` when absent or none of them.
    pub(super) fn word<T: Copy>(&mut self, leaf: &Leaf, key: &str, words: &[(&str, T)]) -> Option<T> {
        let (text, span) = self.text(leaf, key)?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let choices = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.error(&span, format!("{key}: {text:?} is not known; choose one of {choices}"));
        None
    }

    /// A list of texts; one text alone is a list of one. `None` when absent or wrong.
    pub(super) fn texts(&mut self, leaf: &Leaf, key: &str) -> Option<(Vec<String>, Range<usize>)> {
        let leaf = leaf.as_ref()?;
        let list = match leaf.get_ref() {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(values) => {
                values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
            }
            _ => None,
        };
        if list.is_none() {
            let found = shown(leaf.get_ref());
            let example = format!("{key} = [\"…\", \"…\"]");
            self.error(
                &leaf.span(),
                format!("{key}: expected a list of texts, found {found}; write {example}"),
            );
        }
        Some((list?, leaf.span()))
    }
}

/// Where a leaf is; `table` when it is absent.
pub(super) fn span_or(leaf: &Leaf, table: &Range<usize>) -> Range<usize> {
    leaf.as_ref().map_or_else(|| table.clone(), Spanned::span)
}

/// The number with a unit, where only that was left out.
fn meant(value: &Value, unit: Unit) -> Option<String> {
    let number = match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let with_unit = match unit {
        Unit::Time => format!("{number}s"),
        Unit::Size => format!("{number}KiB"),
        Unit::Flow => format!("{number}kB/s"),
        Unit::Pace => format!("{number}/s"),
        Unit::Share => format!("{number}%"),
        Unit::Count => return None,
    };
    unit.parse(&with_unit).map(|_| format!("it with its unit, such as \"{with_unit}\""))
}

fn bounds(value: &Value, unit: Unit) -> Option<(u64, u64)> {
    match value {
        Value::Integer(number) if unit == Unit::Count || *number == 0 => {
            u64::try_from(*number).ok().map(|number| (number, number))
        }
        Value::String(text) => match text.split_once("..") {
            Some((low, high)) => Some((unit.parse(low)?, unit.parse(high)?)),
            None => unit.parse(text).map(|number| (number, number)),
        },
        _ => None,
    }
}

/// A short value as it stands in the file; long or nested ones by their kind.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 64 => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        Value::String(_) => "text".to_owned(),
        Value::Datetime(_) => "a date".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}
