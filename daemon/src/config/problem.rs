//! What is wrong with a configuration, where, and what to do: errors and warnings with line and column.
//!
//! All of them are one line, `file:line:column: key: what is wrong; what to do`, the form editors jump to.
//! Columns count characters from 1, so that they agree with editors on lines with umlauts before the place.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use serde::Serialize;

use super::limits::CONFIG_BYTES_MAX;

/// One error or warning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as the caller named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)
    }
}

/// Why there is no checked configuration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read at all.
    #[error(
        "{file}: {reason}; name another file with --config, or write one with: onced config init --output {file}"
    )]
    Unreadable {
        /// The file.
        file: String,
        /// The system's or our reason.
        reason: String,
    },
    /// It was read and is wrong; never empty, in the order of the file.
    #[error("{}", render(.0))]
    Wrong(Vec<Problem>),
}

impl ConfigError {
    /// The errors with their places; empty when the file could not be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Wrong(problems) => problems,
        }
    }
}

fn render(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// The file's text, bounded and UTF-8.
pub(super) fn read(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { file: path.display().to_string(), reason };
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(unreadable(format!(
            "is larger than {CONFIG_BYTES_MAX} bytes, so it is no configuration"
        )));
    }
    String::from_utf8(bytes).map_err(|error| {
        unreadable(format!("is not UTF-8 text from byte {} on", error.utf8_error().valid_up_to()))
    })
}

/// A text that knows where its lines begin.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// A problem at the start of `span`; a span outside the text points at its end.
    pub(super) fn problem(&self, span: &Range<usize>, message: String) -> Problem {
        let (line, column) = self.place(span.start);
        Problem { file: self.file.to_owned(), line, column, message }
    }

    /// Line and column of a byte offset, from 1. Works on bytes: an offset inside a character is harmless.
    fn place(&self, offset: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..offset.min(self.text.len())];
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines = before.iter().filter(|&&byte| byte == b'\n').count();
        // Bytes that continue a character are not columns.
        let column = before[line_start..].iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
        (lines + 1, column + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("f", "a = 1\nä = 2\n");
        assert_eq!(source.place(0), (1, 1));
        assert_eq!(source.place(6), (2, 1));
        assert_eq!(source.place(8), (2, 2), "ä has two bytes and one column");
        assert_eq!(source.place(7), (2, 2), "inside ä");
        assert_eq!(source.place(9_999), (3, 1), "past the end");
    }
}
