//! Commands out of a connection's read buffer: zero-copy, bounded, never recursive.
//!
//! A command is an array of bulk strings (`*2\r\n$3\r\nGET\r\n$1\r\nk\r\n`) or an inline line (`GET k\r\n`). A client's
//! command can't nest, so the parser is two loops and no stack; 40 KB of `*1\r\n` fails at its fifth byte.
//!
//! Arguments are slices of the caller's buffer and outlive the [`ArgVec`] they were put in, so a whole read can be
//! parsed into one batch. Only an inline line with quotes needs bytes that are not in the buffer: it comes back
//! re-encoded ([`Parse::Quoted`]) to be parsed again, which keeps owned strings out of every other command.
//!
//! Two kinds of error. *Refused*: the length of the bad command is known, so the parser reads past it, over as many
//! reads as that takes, and the connection lives on (where Redis would close). *Fatal*: nobody knows where the next
//! command begins; answer the error, then close.
//!
//! What it must never do: allocate for a bulk command, trust a length before it is checked, or look at a byte twice
//! per read in a way that makes a slow sender expensive (see [`Parse::Incomplete`]).

use super::encode::{Encoder, Proto};
use super::inline::{self, Split};
use super::limits::{ARGS_MAX, DISCARD_ARGS_MAX, DISCARD_BYTES_MAX, LENGTH_LINE_BYTES_MAX, RespLimits};
use thiserror::Error;

/// The arguments of one command: slices of the read buffer, the command's name first. Reuse one for a whole read.
#[derive(Debug, Clone)]
pub struct ArgVec<'b> {
    slices: [&'b [u8]; ARGS_MAX],
    len: usize,
}

impl<'b> ArgVec<'b> {
    /// An empty one; 520 bytes on the stack.
    pub const fn new() -> Self {
        Self { slices: [&[]; ARGS_MAX], len: 0 }
    }

    /// The arguments as slices that live as long as the buffer does.
    #[inline]
    pub fn as_slice(&self) -> &[&'b [u8]] {
        &self.slices[..self.len]
    }

    /// Removes all.
    #[inline]
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends one. False when full; nothing is appended then.
    #[inline]
    pub fn push(&mut self, arg: &'b [u8]) -> bool {
        match self.slices.get_mut(self.len) {
            Some(slot) => {
                *slot = arg;
                self.len += 1;
                true
            }
            None => false,
        }
    }
}

impl Default for ArgVec<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'b> std::ops::Deref for ArgVec<'b> {
    type Target = [&'b [u8]];
    fn deref(&self) -> &Self::Target {
        self.as_slice()
    }
}

/// What one call of [`Parser::parse`] found at the start of the buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parse {
    /// A command of `consumed` bytes. **With no arguments it is nothing**: an empty line, `*0`, `*-1`, or bytes of a
    /// command refused before. Answer nothing, drop the bytes, go on.
    Complete {
        /// Bytes to drop from the buffer's start; at least 1.
        consumed: usize,
    },
    /// An inline command with quotes, given again as an array of bulk strings. Parse `command` with a fresh
    /// [`Parser`]; it is one complete command.
    Quoted {
        /// Bytes to drop from the buffer's start.
        consumed: usize,
        /// The same command as `*N\r\n$len\r\n…`.
        command: Vec<u8>,
    },
    /// Not a whole command yet. Calling again with fewer bytes than `bytes_min` finds nothing new: reserve and read
    /// up to there first, so that a 1 MiB argument is looked at a few times and not once a packet.
    Incomplete {
        /// Bytes the buffer must hold, counted from the same start; always more than it holds now.
        bytes_min: usize,
    },
    /// A bad command whose end is known. Answer the error once; the parser reads past the rest by itself.
    Refused {
        /// Bytes to drop now; later calls drop the rest as [`Parse::Complete`] without arguments.
        consumed: usize,
        /// What to answer.
        error: ParseError,
    },
    /// Sync is lost. Answer the error and close; the parser must not be used again.
    Fatal {
        /// What to answer.
        error: ParseError,
    },
}

/// Why bytes are not a command. `Display` is the text of the error reply, its code included, without the leading `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Refused: more arguments than allowed.
    #[error("TOOBIG {count} arguments, the limit is {max}; send fewer in one command")]
    TooManyArgs {
        /// Arguments announced.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Refused: one argument is longer than allowed.
    #[error(
        "TOOBIG argument {position} has {bytes} bytes, the limit is {max}; store a reference to the data instead"
    )]
    BulkTooLarge {
        /// 1 for the command's name.
        position: usize,
        /// Its announced length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// Refused: the arguments together are longer than allowed.
    #[error("TOOBIG the command has over {max} bytes, the limit; send shorter arguments")]
    CommandTooLarge {
        /// The limit.
        max: usize,
    },
    /// Refused: an inline line whose quotes do not match.
    #[error("BADARG unbalanced quotes in request; close each quote and put white space after it")]
    UnbalancedQuotes,
    /// Fatal: an element that is not a bulk string, a nested array for one.
    #[error("ERR Protocol error: expected '$', got '{}'", char::from(*got).escape_default())]
    ExpectedBulk {
        /// The byte found in place of `$`.
        got: u8,
    },
    /// Fatal: `*` with something that is no length, or an absurd one.
    #[error("ERR Protocol error: invalid multibulk length")]
    InvalidArrayLength,
    /// Fatal: `$` with something that is no length, a negative or an absurd one.
    #[error("ERR Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// Fatal: an argument is not followed by CRLF, so its length was wrong.
    #[error("ERR Protocol error: expected CRLF after an argument")]
    ExpectedCrlf,
    /// Fatal: a line without an end.
    #[error("ERR Protocol error: too big inline request")]
    InlineTooLarge,
}

/// A connection's parser: its limits, and what it must remember between two reads.
#[derive(Debug, Clone)]
pub struct Parser {
    limits: RespLimits,
    /// The rest of a refused command, to be read past.
    discard: Option<Discard>,
    /// Bytes at the buffer's start known to hold no newline, so a slow inline line is not searched again.
    searched: usize,
}

impl Parser {
    /// A parser at the start of a command.
    pub fn new(limits: RespLimits) -> Self {
        let limits = RespLimits { args_max: limits.args_max.min(ARGS_MAX), ..limits };
        Self { limits, discard: None, searched: 0 }
    }

    /// Reads the command at the start of `buf` into `args`, which is cleared first.
    ///
    /// After [`Parse::Incomplete`] the next call must see the same bytes and more; after any other answer the bytes
    /// after `consumed`.
    #[inline]
    pub fn parse<'b>(&mut self, buf: &'b [u8], args: &mut ArgVec<'b>) -> Parse {
        args.clear();
        if self.discard.is_some() {
            return self.continue_discard(buf);
        }
        match buf.first() {
            Some(b'*') => self.parse_array(buf, args),
            Some(_) => self.parse_inline(buf, args),
            None => Parse::Incomplete { bytes_min: 1 },
        }
    }

    fn parse_array<'b>(&mut self, buf: &'b [u8], args: &mut ArgVec<'b>) -> Parse {
        let (count, mut at) = match length_line(buf, 1) {
            Line::Length { value, next } => (value, next),
            Line::Partial => return Parse::Incomplete { bytes_min: buf.len() + 1 },
            Line::Bad => return Parse::Fatal { error: ParseError::InvalidArrayLength },
        };
        if count <= 0 {
            return Parse::Complete { consumed: at };
        }
        if count > DISCARD_ARGS_MAX {
            return Parse::Fatal { error: ParseError::InvalidArrayLength };
        }
        // In range: checked against DISCARD_ARGS_MAX just above.
        let count = count as usize;
        if count > self.limits.args_max {
            let error = ParseError::TooManyArgs { count, max: self.limits.args_max };
            return self.refuse(at, None, count, error);
        }
        for left in (0..count).rev() {
            match bulk(buf, at, &self.limits) {
                Bulk::Whole { payload, next } => {
                    // The count was checked against the capacity.
                    let _fits = args.push(payload);
                    at = next;
                }
                Bulk::Partial { bytes_min } => {
                    args.clear();
                    return Parse::Incomplete { bytes_min };
                }
                Bulk::TooLarge { payload_at, bytes } => {
                    args.clear();
                    let position = count - left;
                    let error = if bytes > self.limits.bulk_bytes_max {
                        ParseError::BulkTooLarge { position, bytes, max: self.limits.bulk_bytes_max }
                    } else {
                        ParseError::CommandTooLarge { max: self.limits.command_bytes_max }
                    };
                    return self.refuse(payload_at, Some(bytes), left, error);
                }
                Bulk::Bad(error) => {
                    args.clear();
                    return Parse::Fatal { error };
                }
            }
        }
        Parse::Complete { consumed: at }
    }

    #[cold]
    fn refuse(&mut self, consumed: usize, payload: Option<usize>, bulks: usize, error: ParseError) -> Parse {
        let budget = DISCARD_BYTES_MAX.saturating_sub(payload.unwrap_or(0) as u64);
        self.discard = Some(Discard { payload, bulks, budget });
        Parse::Refused { consumed, error }
    }

    #[cold]
    fn continue_discard(&mut self, buf: &[u8]) -> Parse {
        let Some(discard) = &mut self.discard else { return Parse::Complete { consumed: 0 } };
        match discard.feed(buf) {
            Ok(Fed { consumed, done }) => {
                if done {
                    self.discard = None;
                }
                if consumed == 0 {
                    Parse::Incomplete { bytes_min: buf.len() + 1 }
                } else {
                    Parse::Complete { consumed }
                }
            }
            Err(error) => Parse::Fatal { error },
        }
    }

    #[cold]
    fn parse_inline<'b>(&mut self, buf: &'b [u8], args: &mut ArgVec<'b>) -> Parse {
        let window = &buf[..buf.len().min(self.limits.inline_bytes_max + 1)];
        let from = self.searched.min(window.len());
        let Some(offset) = window[from..].iter().position(|&byte| byte == b'\n') else {
            if buf.len() > self.limits.inline_bytes_max {
                return Parse::Fatal { error: ParseError::InlineTooLarge };
            }
            self.searched = window.len();
            return Parse::Incomplete { bytes_min: buf.len() + 1 };
        };
        self.searched = 0;
        let end = from + offset;
        let consumed = end + 1;
        match inline::split(&buf[..end], self.limits.args_max, args) {
            Split::Plain => Parse::Complete { consumed },
            Split::Quoted(owned) => {
                let mut command = Vec::with_capacity(end + 16 * (owned.len() + 1));
                let mut encoder = Encoder::new(&mut command, Proto::Resp2);
                encoder.array(owned.len());
                for arg in &owned {
                    encoder.bulk(arg);
                }
                Parse::Quoted { consumed, command }
            }
            Split::Failed(error) => {
                args.clear();
                Parse::Refused { consumed, error }
            }
        }
    }
}

/// One `$len\r\n…\r\n` element.
enum Bulk<'b> {
    Whole { payload: &'b [u8], next: usize },
    Partial { bytes_min: usize },
    TooLarge { payload_at: usize, bytes: usize },
    Bad(ParseError),
}

#[inline]
fn bulk<'b>(buf: &'b [u8], at: usize, limits: &RespLimits) -> Bulk<'b> {
    match buf.get(at) {
        Some(b'$') => {}
        Some(&got) => return Bulk::Bad(ParseError::ExpectedBulk { got }),
        None => return Bulk::Partial { bytes_min: at + 1 },
    }
    let (bytes, start) = match length_line(buf, at + 1) {
        Line::Length { value, next } => (value, next),
        Line::Partial => return Bulk::Partial { bytes_min: buf.len() + 1 },
        Line::Bad => return Bulk::Bad(ParseError::InvalidBulkLength),
    };
    if bytes < 0 || bytes as u64 > DISCARD_BYTES_MAX {
        return Bulk::Bad(ParseError::InvalidBulkLength);
    }
    let bytes = bytes as usize;
    let end = start + bytes;
    if bytes > limits.bulk_bytes_max || end + 2 > limits.command_bytes_max {
        return Bulk::TooLarge { payload_at: start, bytes };
    }
    match buf.get(end..end + 2) {
        Some(b"\r\n") => Bulk::Whole { payload: &buf[start..end], next: end + 2 },
        Some(_) => Bulk::Bad(ParseError::ExpectedCrlf),
        None => Bulk::Partial { bytes_min: end + 2 },
    }
}

/// The number after `*` or `$`, up to its CRLF.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Length { value: i64, next: usize },
    Partial,
    Bad,
}

/// Reads `<integer>\r\n` at `at`. As strict as Redis: no plus sign, no leading zero, no white space.
#[inline]
fn length_line(buf: &[u8], at: usize) -> Line {
    // Nearly every length of a claim has one or two digits.
    match buf.get(at..).unwrap_or_default() {
        [a @ b'0'..=b'9', b'\r', b'\n', ..] => Line::Length { value: i64::from(a - b'0'), next: at + 3 },
        [a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ..] => {
            Line::Length { value: i64::from(a - b'0') * 10 + i64::from(b - b'0'), next: at + 4 }
        }
        rest => long_length_line(rest, at),
    }
}

fn long_length_line(rest: &[u8], at: usize) -> Line {
    let window = &rest[..rest.len().min(LENGTH_LINE_BYTES_MAX)];
    let negative = window.first() == Some(&b'-');
    let from = usize::from(negative);
    let digits = window.iter().skip(from).take_while(|byte| byte.is_ascii_digit()).count();
    let end = from + digits;
    match rest.get(end..end + 2) {
        Some(b"\r\n") => {}
        Some(_) => return Line::Bad,
        // One byte, or none, follows the digits: still a line if it may become CRLF.
        None if end < LENGTH_LINE_BYTES_MAX && matches!(&rest[end..], [] | [b'\r']) => return Line::Partial,
        None => return Line::Bad,
    }
    let digits = &rest[from..end];
    if digits.is_empty() || (digits[0] == b'0' && (digits.len() > 1 || negative)) {
        return Line::Bad;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        let Some(next) = value.checked_mul(10).and_then(|v| v.checked_add(i64::from(digit - b'0'))) else {
            return Line::Bad;
        };
        value = next;
    }
    Line::Length { value: if negative { -value } else { value }, next: at + end + 2 }
}

/// What is left of a refused command: the payload being skipped, then whole elements.
#[derive(Debug, Clone)]
struct Discard {
    /// Bytes of the current payload still to come, before its CRLF; `None` between elements.
    payload: Option<usize>,
    /// Elements after it.
    bulks: usize,
    /// Bytes we are still willing to read past.
    budget: u64,
}

struct Fed {
    consumed: usize,
    done: bool,
}

impl Discard {
    /// Skips as much of `buf` as belongs to the refused command and is there. Stops before a partial length line.
    fn feed(&mut self, buf: &[u8]) -> Result<Fed, ParseError> {
        let mut at = 0;
        loop {
            if let Some(left) = self.payload {
                let skip = left.min(buf.len() - at);
                at += skip;
                self.payload = Some(left - skip);
                match buf.get(at..at + 2) {
                    Some(b"\r\n") if left == skip => at += 2,
                    Some(_) if left == skip => return Err(ParseError::ExpectedCrlf),
                    _ => return Ok(Fed { consumed: at, done: false }),
                }
                self.payload = None;
            }
            if self.bulks == 0 {
                return Ok(Fed { consumed: at, done: true });
            }
            match buf.get(at) {
                Some(b'$') => {}
                Some(&got) => return Err(ParseError::ExpectedBulk { got }),
                None => return Ok(Fed { consumed: at, done: false }),
            }
            match length_line(buf, at + 1) {
                Line::Length { value, next } => {
                    let bytes = u64::try_from(value).map_err(|_| ParseError::InvalidBulkLength)?;
                    self.budget = self
                        .budget
                        .checked_sub(bytes.saturating_add(6))
                        .ok_or(ParseError::InvalidBulkLength)?;
                    self.payload = Some(bytes as usize);
                    self.bulks -= 1;
                    at = next;
                }
                Line::Partial => return Ok(Fed { consumed: at, done: false }),
                Line::Bad => return Err(ParseError::InvalidBulkLength),
            }
        }
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
