//! Inline commands: one line, split on white space, with Redis's quoting rules.
//!
//! For people with `nc -U` or `socat`, not for programs, so it may allocate; a line without quotes still does not.
//! `"…"` knows `\n \r \t \b \a \xHH \\ \"`, `'…'` knows `\'` only; a closing quote must be followed by white space or
//! the end (sdssplitargs in Redis). It must never read past the line it was given.

use super::parse::{ArgVec, ParseError};

/// What a line was.
pub(super) enum Split {
    /// No quotes: the arguments are slices of the line.
    Plain,
    /// Quotes: the arguments had to be written anew.
    Quoted(Vec<Vec<u8>>),
    /// Not a command.
    Failed(ParseError),
}

/// Splits `line` (without its newline) into `args`, at most `args_max`.
pub(super) fn split<'b>(line: &'b [u8], args_max: usize, args: &mut ArgVec<'b>) -> Split {
    if line.iter().any(|&byte| byte == b'"' || byte == b'\'') {
        return split_quoted(line, args_max);
    }
    let words = || line.split(|&byte| is_space(byte)).filter(|word| !word.is_empty());
    for (index, word) in words().enumerate() {
        if index >= args_max || !args.push(word) {
            return Split::Failed(ParseError::TooManyArgs { count: words().count(), max: args_max });
        }
    }
    Split::Plain
}

/// What C's `isspace` says, and NUL, which ends a word in Redis as well.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c | 0)
}

fn split_quoted(line: &[u8], args_max: usize) -> Split {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        if at >= line.len() {
            return Split::Quoted(words);
        }
        let Some((word, next)) = word(line, at) else { return Split::Failed(ParseError::UnbalancedQuotes) };
        if words.len() >= args_max {
            return Split::Failed(ParseError::TooManyArgs { count: words.len() + 1, max: args_max });
        }
        words.push(word);
        at = next;
    }
}

/// One word from `at` on and where it ends; `None` if its quotes do not match. Quotes may open within a word.
fn word(line: &[u8], mut at: usize) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    while let Some(&byte) = line.get(at) {
        match byte {
            b'"' => at = double_quoted(line, at + 1, &mut word)?,
            b'\'' => at = single_quoted(line, at + 1, &mut word)?,
            byte if is_space(byte) => break,
            byte => {
                word.push(byte);
                at += 1;
                continue;
            }
        }
        // A closing quote ends the word.
        return match line.get(at) {
            Some(&next) if !is_space(next) => None,
            _ => Some((word, at)),
        };
    }
    Some((word, at))
}

fn double_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at..)? {
            [b'"', ..] => return Some(at + 1),
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                word.push(hex(high) << 4 | hex(low));
                at += 4;
            }
            [b'\\', escaped, ..] => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                });
                at += 2;
            }
            [byte, ..] => {
                word.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

fn single_quoted(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Option<usize> {
    loop {
        match *line.get(at..)? {
            [b'\'', ..] => return Some(at + 1),
            [b'\\', b'\'', ..] => {
                word.push(b'\'');
                at += 2;
            }
            [byte, ..] => {
                word.push(byte);
                at += 1;
            }
            [] => return None,
        }
    }
}

/// The value of an ASCII hex digit; the caller checked that it is one.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}
