//! What to do about a file whose shape is wrong before any value is looked at: TOML's own errors, in words for somebody
//! who has a scenario to run and no wish to learn a parser's.
//!
//! Must never: name a type of this program's; people write tables and lists.

use std::ops::Range;

/// Edits between two names that are still taken for a slip of the pen, for so many characters one.
const CHARACTERS_A_SLIP: usize = 3;
/// Names that are listed where none is near.
const LISTED_MAX: usize = 14;

/// Tables of which there can be several.
const LISTS: [&str; 7] = ["region", "clock", "link", "namespace", "storm", "job", "event"];

/// The message for an error of the TOML reader, with what to do.
pub(super) fn of_toml(text: &str, span: &Range<usize>, message: &str, top: &[&str]) -> String {
    // A message may have several lines; an error is one line here.
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    let key = key_before(text, span);
    let found =
        || message.trim_start_matches("invalid type: ").split(", expected").next().unwrap_or_default();
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return unknown(rest, top);
    }
    if message == "duplicate key" {
        let twice = text.get(span.clone()).unwrap_or_default().trim_matches(['[', ']', ' ', '"']);
        let forms = match LISTS.contains(&twice) {
            true => format!(" (a list {twice} = [{{ … }}] and tables [[{twice}]] are two forms of the same)"),
            false => String::new(),
        };
        return format!("{twice} stands twice in its table; keep one{forms}");
    }
    if message.contains("expected a sequence") {
        return match message.contains("invalid type: map") {
            true => format!(
                "{key}: there can be several; write [[{key}]] with two brackets, or {key} = [{{ … }}]"
            ),
            false => format!("{key}: expected a list of tables, found {}; write {}", found(), example(&key)),
        };
    }
    if message.contains("expected struct") {
        return format!("{key}: expected a table, found {}; write {}", found(), example(&key));
    }
    if message.starts_with("string values must be quoted") {
        return "a value that is no number, true or false stands in quotes; write \"60s\", not 60s"
            .to_owned();
    }
    if message.starts_with("invalid basic string") || message.starts_with("invalid literal string") {
        return "the text has no end on its line; close it with a quotation mark".to_owned();
    }
    if message.contains("unclosed") {
        return format!("{message}; close the bracket that was opened before");
    }
    format!("this is no TOML: {message}; write key = value, [table] or [[table]], as in SCENARIOS.md")
}

fn unknown(rest: &str, top: &[&str]) -> String {
    let (name, expected) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    if let Some(near) = nearest(name, known.iter().copied()) {
        return format!("unknown key {name}; did you mean {near}?");
    }
    if top.contains(&name) && !known.contains(&name) {
        return format!(
            "{name} belongs to the file as a whole; write it at the top, before the first table in brackets"
        );
    }
    let list = match known.len() {
        0..=LISTED_MAX => known.join(", "),
        _ => format!("{}, … (all stand in SCENARIOS.md)", known[..LISTED_MAX].join(", ")),
    };
    format!("unknown key {name}; remove it, or write one of {list}")
}

/// How a table is written.
fn example(key: &str) -> String {
    match key {
        "region" | "namespace" => {
            format!("[[{key}]] with name = \"…\" below it, or {key} = [{{ name = \"…\" }}]")
        }
        "link" | "event" | "storm" | "job" => {
            format!("[[{key}]] with its keys below it, or {key} = [{{ … }}]")
        }
        "and" => "and = [{ after = \"1s\", … }]".to_owned(),
        _ => format!("[{key}] with its keys below it, or {key} = {{ … }}"),
    }
}

/// The key whose value, or the table whose header, stands at `span`.
fn key_before(text: &str, span: &Range<usize>) -> String {
    let before = text.get(..span.start).unwrap_or_default();
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let from_here = text.get(span.start..).unwrap_or_default().lines().next().unwrap_or_default();
    let named = match line.rsplit_once('=') {
        Some((key, _)) => key.rsplit(['{', ',']).next().unwrap_or(key),
        None => from_here,
    };
    named.trim_matches(|c: char| !c.is_ascii_alphanumeric() && c != '_').to_owned()
}

/// The one of `known` that `name` is nearest to, if it is near at all.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let of = |word: &'k str| (edits(&name.to_lowercase(), &word.to_lowercase()), word);
    let (edits, word) = known.map(of).min_by_key(|(edits, _)| *edits)?;
    (edits * CHARACTERS_A_SLIP <= name.len().max(word.len())).then_some(word)
}

/// `; did you mean …?` where there is something near, else nothing.
pub(super) fn meant<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    nearest(name, known).map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let changed = corner + usize::from(from != *to);
            corner = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_found_and_strangers_are_not() {
        let known = ["crash", "clock", "partition", "for"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(
            [near("crsh"), near("partitions"), near("CLOCK")],
            [Some("crash"), Some("partition"), Some("clock")]
        );
        assert_eq!([near("reboot"), near("to")], [None, None]);
        assert_eq!(edits("kitten", "sitting"), 3);
    }
}
