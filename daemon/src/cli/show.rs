//! Replies as people read them: aligned fields and tables.
//!
//! Driven by the names of the fields and not by a list of commands: units stand last in names (`lag_ms`,
//! `memory_bytes`, `expires_at`), so a field added to a reply is shown well without a change here. Everything that
//! came from a caller (keys, notes, outcomes) has its control characters escaped: a note must not be able to drive
//! the reader's terminal.

use super::limits::{CELL_CHARS_MAX, SHOWN_BYTES_MAX};
use super::time;
use crate::resp::Value;
use std::fmt::Write as _;

/// A text being put together. `now_ms` is what relative times are counted from.
#[derive(Debug)]
pub struct Page {
    text: String,
    now_ms: i64,
}

impl Page {
    /// An empty page.
    pub fn new(now_ms: i64) -> Self {
        Self { text: String::new(), now_ms }
    }

    /// What was written.
    pub fn into_text(self) -> String {
        self.text
    }

    /// One line.
    pub fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// One line on what to do next; nothing for an empty text.
    pub fn advice(&mut self, text: &str) {
        if !text.is_empty() {
            self.line(&format!("  {text}"));
        }
    }

    /// The status and what it is about.
    pub fn headline(&mut self, reply: &Value, about: &[u8]) {
        let status = reply.status().unwrap_or("OK");
        self.line(format!("{}  {}", printable(status.as_bytes()), printable(about)).trim_end());
    }

    /// The plain fields of a map, aligned, without `status` and those named in `skip`; then its lists as tables.
    pub fn fields(&mut self, reply: &Value, skip: &[&str]) {
        let Value::Map(pairs) = reply else { return };
        let mut rows = Vec::new();
        let mut tables = Vec::new();
        for (name, value) in pairs {
            let name = text_of(name);
            if name == "status" || skip.contains(&name.as_str()) {
                continue;
            }
            match value {
                Value::Array(items) => tables.push((name, items)),
                Value::Map(inner) => rows.extend(
                    inner.iter().map(|(key, value)| (format!("{name} {}", text_of(key)), key.clone(), value)),
                ),
                other => rows.push((name.clone(), Value::Simple(name), other)),
            }
        }
        let width = rows.iter().map(|(label, ..)| label.chars().count()).max().unwrap_or(0);
        for (label, name, value) in rows {
            let value = field_text(&text_of(&name), value, self.now_ms);
            let label = label.replace('_', " ");
            self.line(format!("  {label:<width$}  {value}").trim_end());
        }
        for (name, items) in tables {
            self.line(&format!("  {} ({})", name.replace('_', " "), items.len()));
            self.table(items, &[]);
        }
    }

    /// Maps as rows. `columns` names the fields to show, in order; none: all there are, in order of appearance.
    pub fn table(&mut self, rows: &[Value], columns: &[&str]) {
        let columns =
            if columns.is_empty() { names(rows) } else { columns.iter().map(|&c| c.to_owned()).collect() };
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let mut cells =
            vec![columns.iter().map(|name| name.replace('_', " ").to_uppercase()).collect::<Vec<_>>()];
        for row in rows {
            cells.push(columns.iter().map(|name| cell(name, row.field(name), self.now_ms)).collect());
        }
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns.len()).map(width).collect();
        for row in &cells {
            let mut line = String::from("  ");
            for (text, width) in row.iter().zip(&widths) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{text:<width$}  ");
            }
            self.line(line.trim_end());
        }
    }
}

fn names(rows: &[Value]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for row in rows {
        let Value::Map(pairs) = row else { continue };
        for (name, _) in pairs {
            let name = text_of(name);
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    names
}

/// A cell: shorter than a field; times only relative, so that a row fits a terminal.
fn cell(name: &str, value: Option<&Value>, now_ms: i64) -> String {
    let text = match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::Int(at)) if is_time(name, *at) => time::relative(*at, now_ms),
        Some(value) => field_text(name, value, now_ms),
    };
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    text.chars().take(CELL_CHARS_MAX - 1).chain(['…']).collect()
}

/// A value, shown by what its field's name says of its unit.
pub fn field_text(name: &str, value: &Value, now_ms: i64) -> String {
    match value {
        Value::Int(at) if is_time(name, *at) => time::absolute_and_relative(*at, now_ms),
        Value::Int(ms) if name.ends_with("_ms") => time::duration(*ms),
        Value::Int(bytes) if name.split('_').any(|word| word == "bytes") => bytes_text(*bytes),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(flag) => if *flag { "yes" } else { "no" }.to_owned(),
        Value::Null => "-".to_owned(),
        Value::Simple(_) | Value::Bulk(_) if matches!(name, "outcome" | "note" | "bytes") => {
            shortened(value.as_bytes().unwrap_or_default())
        }
        Value::Simple(_) | Value::Bulk(_) | Value::Error(_) => text_of(value),
        Value::Array(items) => {
            items.iter().map(|item| field_text(name, item, now_ms)).collect::<Vec<_>>().join(", ")
        }
        Value::Map(pairs) => {
            let pair = |(key, value): &(Value, Value)| {
                let key = text_of(key);
                format!("{key}={}", field_text(&key, value, now_ms))
            };
            pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
        }
    }
}

/// Points in time, by name; small numbers under such a name (never, unset) are shown as numbers.
fn is_time(name: &str, value: i64) -> bool {
    (name.ends_with("_at") || name.ends_with("_until") || name.ends_with("_ms")) && value > 1_000_000_000_000
}

fn text_of(value: &Value) -> String {
    match value {
        Value::Error(text) => printable(text.as_bytes()),
        Value::Int(number) => number.to_string(),
        other => printable(other.as_bytes().unwrap_or_default()),
    }
}

/// Bytes of a caller with their length, cut if long.
fn shortened(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_BYTES_MAX {
        return format!("({} B) {}", bytes.len(), printable(bytes)).trim_end().to_owned();
    }
    format!("({} B, shown in part) {}…", bytes.len(), printable(&bytes[..SHOWN_BYTES_MAX]))
}

/// Text as it is, with control characters escaped; bytes that are no UTF-8 as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A word as a shell takes it, for commands we suggest.
pub fn shell_word(bytes: &[u8]) -> String {
    let safe = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,=".contains(byte);
    if !bytes.is_empty() && bytes.iter().all(safe) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    if bytes.iter().any(|&byte| byte == b'\'' || !(b' '..0x7f).contains(&byte)) {
        let escaped = bytes.escape_ascii().to_string();
        return format!("$'{escaped}'");
    }
    format!("'{}'", String::from_utf8_lossy(bytes))
}

/// `512 B`, `1.5 MiB`.
fn bytes_text(bytes: i64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes.unsigned_abs() < 1_024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while value.abs() >= 1_024.0 && unit + 1 < UNITS.len() {
        value /= 1_024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_text_cannot_drive_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\n\xff\xc3\xa9"), "a\\u{1b}[2Jb\\n\\xffé");
        assert_eq!(printable("\u{9b}2J".as_bytes()), "\\u{9b}2J");
    }

    #[test]
    fn suggested_commands_are_quoted() {
        let quoted = [&b"pay:1"[..], b"a b", b"it's", b"", b"$(x)", b"\n"].map(shell_word);
        assert_eq!(quoted, ["pay:1", "'a b'", "$'it\\'s'", "''", "'$(x)'", "$'\\n'"]);
    }

    #[test]
    fn units_come_from_names() {
        let now = 1_790_000_000_000;
        let int = |name, value| field_text(name, &Value::Int(value), now);
        assert_eq!(int("lag_ms", 1_500), "1.5 s");
        assert_eq!(int("memory_bytes", 1_572_864), "1.5 MiB");
        assert_eq!(int("bytes_in", 12), "12 B");
        assert_eq!(int("keys", 1_572_864), "1572864");
        assert_eq!(int("expires_at", now + 1_000), "2026-09-21T14:13:21.000Z (in 1.0 s)");
        assert_eq!(int("last_heard_at", 0), "0");
        assert_eq!(field_text("outcome", &Value::Bulk(vec![b'x'; 600]), now).chars().count(), 512 + 24);
    }

    #[test]
    fn cells_are_cut() {
        let long = Value::Bulk(vec![b'k'; 500]);
        assert_eq!(cell("key", Some(&long), 0).chars().count(), CELL_CHARS_MAX);
        assert_eq!(cell("key", None, 0), "-");
    }
}
