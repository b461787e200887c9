//! What is wrong with a scenario file, where, and what to do; one line each, `file:line:column: what`.
//!
//! The form that editors jump to, as in the daemon's configuration. Columns count characters.

use std::fmt;
use std::ops::Range;

/// One error.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// Why there is no scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The file could not be read at all; the reason, and what to do.
    Unreadable(String),
    /// It was read and is wrong; never empty, in the order of the file.
    Wrong(Vec<Problem>),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(reason) => f.write_str(reason),
            Self::Wrong(problems) => {
                let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
                f.write_str(&lines.join("\n"))
            }
        }
    }
}

/// A text that knows where its lines begin.
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
}

impl<'a> Source<'a> {
    pub(super) const fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text }
    }

    /// A problem at the start of `span`; a span outside the text points at its end.
    pub(super) fn problem(&self, span: &Range<usize>, message: String) -> Problem {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        // Bytes that continue a character are not columns.
        let column = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        Problem { file: self.file.to_owned(), line: lines + 1, column: column + 1, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let source = Source::new("f", "a = 1\nä = 2\n");
        let place = |at| {
            let problem = source.problem(&(at..at), String::new());
            (problem.line, problem.column)
        };
        assert_eq!([place(0), place(6), place(8), place(9_999)], [(1, 1), (2, 1), (2, 2), (3, 1)]);
    }
}
