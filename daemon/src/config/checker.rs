//! Reads single values: one method a kind, each of which notes an error with its place and goes on.
//!
//! A wrong value yields the default, so that the checks after it still run and report their own errors; the
//! configuration as a whole is then refused, so a default that stands in for an error is never used.

use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

use toml::{Spanned, Value};

use super::limits::REGION_NAME_BYTES_MAX;
use super::problem::{Problem, Source};
use super::raw::Leaf;
use super::units;

/// Collects errors and warnings while values are read.
pub(super) struct Checker<'a> {
    source: Source<'a>,
    /// Relative paths are meant from here.
    base: &'a Path,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(source: Source<'a>, base: &'a Path) -> Self {
        Self { source, base, errors: Vec::new(), warnings: Vec::new() }
    }

    /// Notes an error at `span`.
    pub(super) fn error(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let problem = self.source.problem(span, message.into());
        self.errors.push(problem);
    }

    /// Notes a warning at `span`.
    pub(super) fn warn(&mut self, span: &Range<usize>, message: impl Into<String>) {
        let problem = self.source.problem(span, message.into());
        self.warnings.push(problem);
    }

    /// Some text; `None` when absent or no text.
    pub(super) fn text<'v>(&mut self, leaf: &'v Leaf, key: &str) -> Option<(&'v str, Range<usize>)> {
        let leaf = leaf.as_ref()?;
        match leaf.get_ref() {
            Value::String(text) => Some((text, leaf.span())),
            other => {
                self.error(
                    &leaf.span(),
                    format!("{key}: expected text in quotes, found {}; write {key} = \"…\"", kind(other)),
                );
                None
            }
        }
    }

    /// As [`Self::text`]; absence is an error at `table`, with `example` as what to write.
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

    /// A duration within `range`, in milliseconds.
    pub(super) fn duration_ms(
        &mut self,
        leaf: &Leaf,
        key: &str,
        range: RangeInclusive<u64>,
        default: u64,
    ) -> u64 {
        self.optional_duration_ms(leaf, key, range).unwrap_or(default)
    }

    /// A duration within `range`, in milliseconds; `None` when absent or wrong.
    pub(super) fn optional_duration_ms(
        &mut self,
        leaf: &Leaf,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let example = "a number with one of the units d, h, m, s, ms, such as \"24h\" or \"500ms\"";
        self.quantity(leaf, key, &range, units::parse_duration_ms, units::duration, "duration", example)
    }

    /// A size within `range`, in bytes.
    pub(super) fn bytes(&mut self, leaf: &Leaf, key: &str, range: RangeInclusive<u64>, default: u64) -> u64 {
        self.optional_bytes(leaf, key, range).unwrap_or(default)
    }

    /// A size within `range`, in bytes; `None` when absent or wrong.
    pub(super) fn optional_bytes(
        &mut self,
        leaf: &Leaf,
        key: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let example = "a number with one of the units B, KiB, MiB, GiB, such as \"64KiB\" or \"2GiB\"";
        self.quantity(leaf, key, &range, units::parse_bytes, units::bytes, "size", example)
    }

    #[expect(clippy::too_many_arguments, reason = "private; two callers that differ in all of them")]
    fn quantity(
        &mut self,
        leaf: &Leaf,
        key: &str,
        range: &RangeInclusive<u64>,
        parse: fn(&str) -> Option<u64>,
        render: fn(u64) -> String,
        what: &str,
        example: &str,
    ) -> Option<u64> {
        let leaf = leaf.as_ref()?;
        let value = match leaf.get_ref() {
            Value::String(text) => parse(text),
            _ => None,
        };
        let Some(value) = value else {
            let found = shown(leaf.get_ref());
            self.error(&leaf.span(), format!("{key}: {found} is not a {what}; write {example}"));
            return None;
        };
        if !range.contains(&value) {
            let (low, high) = (render(*range.start()), render(*range.end()));
            self.error(
                &leaf.span(),
                format!("{key}: {} is out of range; choose from {low} to {high}", render(value)),
            );
            return None;
        }
        Some(value)
    }

    /// A whole number within `range`; `None` when absent or wrong.
    pub(super) fn integer(&mut self, leaf: &Leaf, key: &str, range: &RangeInclusive<u64>) -> Option<u64> {
        let leaf = leaf.as_ref()?;
        let value = match leaf.get_ref() {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        if let Some(value) = value.filter(|value| range.contains(value)) {
            return Some(value);
        }
        let (found, low, high) = (shown(leaf.get_ref()), range.start(), range.end());
        self.error(
            &leaf.span(),
            format!("{key}: {found} is not in range; write a whole number from {low} to {high}"),
        );
        None
    }

    /// One of `words`.
    pub(super) fn word<T: Copy>(&mut self, leaf: &Leaf, key: &str, words: &[(&str, T)], default: T) -> T {
        let Some((text, span)) = self.text(leaf, key) else { return default };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let choices = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        self.error(&span, format!("{key}: {text:?} is not known; choose one of {choices}"));
        default
    }

    /// A path, made absolute from the file's folder.
    pub(super) fn path(&mut self, leaf: &Leaf, key: &str) -> Option<PathBuf> {
        let (text, span) = self.text(leaf, key)?;
        if text.is_empty() || text.contains('\0') {
            self.error(
                &span,
                format!("{key}: {text:?} is no path; write an absolute path, or one from this file's folder"),
            );
            return None;
        }
        Some(self.base.join(text))
    }

    /// As [`Self::path`]; absence is an error at `table`.
    pub(super) fn required_path(
        &mut self,
        leaf: &Leaf,
        key: &str,
        table: &Range<usize>,
        example: &str,
    ) -> Option<PathBuf> {
        self.present(leaf, key, table, example);
        self.path(leaf, key)
    }

    /// An address of this machine to listen at: IP and port, never a name.
    pub(super) fn listen(&mut self, leaf: &Leaf, key: &str, example: &str) -> Option<SocketAddr> {
        let (text, span) = self.text(leaf, key)?;
        let parsed = text.parse::<SocketAddr>().ok();
        if parsed.is_none() {
            self.error(&span, format!("{key}: {text:?} is not an IP address with a port; write {example}"));
        }
        parsed
    }

    /// A region's name: it stands in certificates as a DNS label, so it must be one.
    pub(super) fn region_name(&mut self, leaf: &Leaf, key: &str, table: &Range<usize>) -> Option<String> {
        let (text, span) = self.required_text(leaf, key, table, &format!("{key} = \"eu\""))?;
        if !is_region_name(text) {
            self.error(
                &span,
                format!(
                    "{key}: {text:?} is no region name; use 1 to {REGION_NAME_BYTES_MAX} of a-z, 0-9 and -, \
                     with no - at either end"
                ),
            );
            return None;
        }
        Some(text.to_owned())
    }

    /// A region's number.
    pub(super) fn region_id(&mut self, leaf: &Leaf, table: &Range<usize>) -> Option<u16> {
        self.present(leaf, "id", table, "id = 1, a number of its own for every region that never changes");
        self.integer(leaf, "id", &(1..=u64::from(u16::MAX))).and_then(|id| u16::try_from(id).ok())
    }
}

/// Whether `text` may name a region: `[a-z0-9-]{1,32}`, a DNS label.
pub fn is_region_name(text: &str) -> bool {
    (1..=REGION_NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// Where a leaf is; `table` when it is absent.
pub(super) fn span_or(leaf: &Leaf, table: &Range<usize>) -> Range<usize> {
    leaf.as_ref().map_or_else(|| table.clone(), Spanned::span)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) => "a number",
        Value::Float(_) => "a fraction",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}

/// A short value as it stands in the file; long or nested ones by their kind.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if text.len() <= 64 => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        other => kind(other).to_owned(),
    }
}
