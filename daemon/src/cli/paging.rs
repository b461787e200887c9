//! Reads a cursored list page by page into one reply, for `scan` and `conflicts`.
//!
//! The merged reply has the shape of a page: status, the cursor to go on from ("0": the end), and the list. It stops
//! at the number of entries asked for, which bounds memory; it may overshoot by what the last page held.

use super::client::{Failure, call};
use super::limits::{ENTRIES_DEFAULT, ENTRIES_MAX, PAGE_ENTRIES, PAGES_MAX};
use crate::resp::{Client, Value};

/// Where to begin and when to stop.
#[derive(Debug, Clone, clap::Args)]
pub struct PageOptions {
    /// Where to go on; an earlier answer named it.
    #[arg(long, value_name = "CURSOR", default_value = "0")]
    pub cursor: String,

    /// How many to show.
    #[arg(long, value_name = "N", default_value_t = ENTRIES_DEFAULT as u64,
          value_parser = clap::value_parser!(u64).range(1..=ENTRIES_MAX as u64))]
    pub limit: u64,
}

/// Asks until the list `name` is complete or long enough. `words` makes the request for a cursor and a count.
pub(super) fn read_all(
    client: &mut Client,
    options: &PageOptions,
    name: &str,
    words: impl Fn(&str, usize) -> Vec<Vec<u8>>,
) -> Result<Value, Failure> {
    let limit = usize::try_from(options.limit).unwrap_or(ENTRIES_MAX);
    let mut cursor = options.cursor.clone();
    let mut entries: Vec<Value> = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = call(client, &words(&cursor, PAGE_ENTRIES.min(limit - entries.len())))?;
        // An error, or an answer that is no page: for the caller to show.
        if page.status() != Some("OK") {
            return Ok(page);
        }
        entries.extend_from_slice(page.field(name).and_then(Value::as_array).unwrap_or_default());
        cursor = cursor_of(&page);
        if cursor == "0" || entries.len() >= limit {
            break;
        }
    }
    let text = |text: &str| Value::Bulk(text.as_bytes().to_vec());
    Ok(Value::Map(vec![
        (text("status"), text("OK")),
        (text("cursor"), text(&cursor)),
        (text(name), Value::Array(entries)),
    ]))
}

/// The cursor of a page; a page without one is the last.
pub(super) fn cursor_of(page: &Value) -> String {
    match page.field("cursor") {
        Some(Value::Int(number)) => number.to_string(),
        other => other.and_then(Value::as_str).unwrap_or("0").to_owned(),
    }
}
