//! Replies read back: a value, and a reader that takes the bytes as they come.
//!
//! The reader keeps an explicit stack, so depth costs no call frames, and keeps it between reads, so a reply of many
//! megabytes is looked at once. It is the client's side only and speaks RESP2 and RESP3 at once: the dialect is in
//! each byte. Depth, number of values, bytes and line lengths are bounded (`REPLY_*_MAX`); it must never panic on
//! what a server, or something that only pretends to be one, sends.

use super::limits::{
    BULK_BYTES_MAX, REPLY_BYTES_MAX, REPLY_DEPTH_MAX, REPLY_LINE_BYTES_MAX, REPLY_VALUES_MAX,
};
use thiserror::Error;

/// One reply, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+text`; RESP3 big numbers too.
    Simple(String),
    /// `-CODE text`, without the `-`.
    Error(String),
    /// `:n`
    Int(i64),
    /// `$len`; RESP3 verbatim strings too, without their format.
    Bulk(Vec<u8>),
    /// `_`, `$-1`, `*-1`
    Null,
    /// `#t`, `#f`
    Bool(bool),
    /// `,n`
    Double(f64),
    /// `*n`; RESP3 sets and pushes too.
    Array(Vec<Value>),
    /// `%n`
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// The value of the field `name`: of a RESP3 map, or of a RESP2 array read as name, value, name, value.
    pub fn field(&self, name: &str) -> Option<&Value> {
        match self {
            Value::Map(pairs) => pairs.iter().find(|(key, _)| key.is_text(name)).map(|(_, value)| value),
            Value::Array(items) => {
                items.as_chunks::<2>().0.iter().find(|[key, _]| key.is_text(name)).map(|[_, value]| value)
            }
            _ => None,
        }
    }

    /// The text of the `status` field, which every native command's reply has.
    pub fn status(&self) -> Option<&str> {
        self.field("status").and_then(Value::as_str)
    }

    /// The bytes of a bulk or simple string.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Bulk(bytes) => Some(bytes),
            Value::Simple(text) => Some(text.as_bytes()),
            _ => None,
        }
    }

    /// The text of a string that is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        self.as_bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// An integer, or a string that is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(value) => Some(*value),
            other => other.as_str().and_then(|text| text.parse().ok()),
        }
    }

    /// A boolean, in RESP2 given as 1 or 0.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            Value::Int(value @ (0 | 1)) => Some(*value == 1),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// True for a null of either dialect.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    fn is_text(&self, text: &str) -> bool {
        self.as_bytes() == Some(text.as_bytes())
    }
}

/// Why bytes are not a reply. After any of these the stream is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// A byte no dialect begins a value with.
    #[error("byte {0:#04x} begins no RESP value; is this socket really onced's?")]
    UnknownType(u8),
    /// A number, boolean or length that is none.
    #[error("malformed number, boolean or length after '{0}'")]
    Malformed(char),
    /// A bulk string without CRLF at its end, or text that is not UTF-8.
    #[error("malformed text in a reply")]
    Text,
    /// A bound of `limits.rs` is exceeded.
    #[error("reply too large: {what} over {max}; ask for less at once (COUNT)")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

/// An aggregate whose elements are still coming.
#[derive(Debug)]
struct Frame {
    kind: Kind,
    left: usize,
    items: Vec<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Map,
    /// RESP3 attributes: read and dropped, the value they describe follows.
    Attribute,
}

/// Puts replies together from pieces of a byte stream.
#[derive(Debug, Default)]
pub struct ReplyReader {
    stack: Vec<Frame>,
    bytes: usize,
    values: usize,
}

/// One scalar or the start of an aggregate.
enum Token {
    Scalar(Value, usize),
    Open(Kind, usize, usize),
    Partial { bytes_min: usize },
}

/// What [`ReplyReader::read`] made of a buffer.
#[derive(Debug, PartialEq)]
pub struct Progress {
    /// Bytes to drop from the buffer's start.
    pub consumed: usize,
    /// The reply, when it is whole.
    pub value: Option<Value>,
    /// Without a reply: bytes to be buffered, after dropping `consumed`, before a further call can find anything.
    pub bytes_min: usize,
}

impl ReplyReader {
    /// A reader at the start of a reply.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads on, up to the end of one reply or of what is there.
    ///
    /// # Errors
    /// The bytes are no RESP, or exceed a bound; drop the connection then.
    pub fn read(&mut self, buf: &[u8]) -> Result<Progress, ReplyError> {
        let mut at = 0;
        loop {
            let (value, next) = match token(&buf[at..])? {
                Token::Partial { bytes_min } => {
                    return Ok(Progress { consumed: at, value: None, bytes_min });
                }
                Token::Open(kind, len, consumed) => {
                    self.count(consumed)?;
                    at += consumed;
                    if len > 0 {
                        self.open(kind, len)?;
                        continue;
                    }
                    match finish(kind, Vec::new()) {
                        Some(value) => (value, at),
                        None => continue,
                    }
                }
                Token::Scalar(value, consumed) => {
                    self.count(consumed)?;
                    (value, at + consumed)
                }
            };
            at = next;
            if let Some(value) = self.close(value) {
                *self = Self::default();
                return Ok(Progress { consumed: at, value: Some(value), bytes_min: 0 });
            }
        }
    }

    fn count(&mut self, bytes: usize) -> Result<(), ReplyError> {
        self.bytes += bytes;
        self.values += 1;
        if self.bytes > REPLY_BYTES_MAX {
            return Err(ReplyError::TooLarge { what: "bytes", max: REPLY_BYTES_MAX });
        }
        if self.values > REPLY_VALUES_MAX {
            return Err(ReplyError::TooLarge { what: "values", max: REPLY_VALUES_MAX });
        }
        Ok(())
    }

    fn open(&mut self, kind: Kind, len: usize) -> Result<(), ReplyError> {
        if self.stack.len() >= REPLY_DEPTH_MAX {
            return Err(ReplyError::TooLarge { what: "nesting", max: REPLY_DEPTH_MAX });
        }
        // Never reserve by an announced length: the elements have to come first.
        self.stack.push(Frame { kind, left: len, items: Vec::with_capacity(len.min(64)) });
        Ok(())
    }

    /// Puts a whole value into the innermost open aggregate and closes those that are full. The value, when none is
    /// open any more.
    fn close(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let Some(frame) = self.stack.last_mut() else { return Some(value) };
            frame.items.push(value);
            frame.left -= 1;
            if frame.left > 0 {
                return None;
            }
            let frame = self.stack.pop()?;
            // None: an attribute, which is not a value of its own.
            value = finish(frame.kind, frame.items)?;
        }
    }
}

fn finish(kind: Kind, items: Vec<Value>) -> Option<Value> {
    match kind {
        Kind::Array => Some(Value::Array(items)),
        Kind::Map => {
            let mut items = items.into_iter();
            let mut pairs = Vec::with_capacity(items.len() / 2);
            while let (Some(key), Some(value)) = (items.next(), items.next()) {
                pairs.push((key, value));
            }
            Some(Value::Map(pairs))
        }
        Kind::Attribute => None,
    }
}

fn token(buf: &[u8]) -> Result<Token, ReplyError> {
    let Some(&kind) = buf.first() else { return Ok(Token::Partial { bytes_min: 1 }) };
    if !b"+-:$*_#,(!=%~>|".contains(&kind) {
        return Err(ReplyError::UnknownType(kind));
    }
    let malformed = ReplyError::Malformed(char::from(kind));
    let window = &buf[1..buf.len().min(REPLY_LINE_BYTES_MAX)];
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        if buf.len() >= REPLY_LINE_BYTES_MAX {
            return Err(ReplyError::TooLarge { what: "bytes of a line", max: REPLY_LINE_BYTES_MAX });
        }
        return Ok(Token::Partial { bytes_min: buf.len() + 1 });
    };
    let line = window[..end].strip_suffix(b"\r").ok_or(ReplyError::Text)?;
    let line = std::str::from_utf8(line).map_err(|_| ReplyError::Text)?;
    let next = end + 2;
    let scalar = |value| Ok(Token::Scalar(value, next));
    match kind {
        b'+' | b'(' => scalar(Value::Simple(line.to_owned())),
        b'-' => scalar(Value::Error(line.to_owned())),
        b':' => scalar(Value::Int(line.parse().map_err(|_| malformed)?)),
        b',' => scalar(Value::Double(line.parse().map_err(|_| malformed)?)),
        b'_' if line.is_empty() => scalar(Value::Null),
        b'#' if line == "t" || line == "f" => scalar(Value::Bool(line == "t")),
        b'_' | b'#' => Err(malformed),
        b'$' | b'*' if line == "-1" => scalar(Value::Null),
        b'$' | b'!' | b'=' => blob(kind, buf, line.parse().map_err(|_| malformed)?, next),
        _ => {
            let len: usize = line.parse().map_err(|_| malformed)?;
            let (kind, factor) = match kind {
                b'%' => (Kind::Map, 2),
                b'|' => (Kind::Attribute, 2),
                _ => (Kind::Array, 1),
            };
            if len > REPLY_VALUES_MAX / factor {
                return Err(ReplyError::TooLarge { what: "values", max: REPLY_VALUES_MAX });
            }
            Ok(Token::Open(kind, len * factor, next))
        }
    }
}

/// A string with its length before it.
fn blob(kind: u8, buf: &[u8], len: usize, start: usize) -> Result<Token, ReplyError> {
    // An outcome is an argument of COMPLETE first; a little more for what a verbatim string adds.
    let max = BULK_BYTES_MAX + 4;
    if len > max {
        return Err(ReplyError::TooLarge { what: "bytes of a string", max });
    }
    let end = start + len;
    let Some(after) = buf.get(end..end + 2) else { return Ok(Token::Partial { bytes_min: end + 2 }) };
    if after != b"\r\n" {
        return Err(ReplyError::Text);
    }
    let bytes = &buf[start..end];
    let value = match kind {
        b'!' => Value::Error(String::from_utf8_lossy(bytes).into_owned()),
        // Three letters of format and a colon.
        b'=' => Value::Bulk(bytes.get(4..).ok_or(ReplyError::Text)?.to_vec()),
        _ => Value::Bulk(bytes.to_vec()),
    };
    Ok(Token::Scalar(value, end + 2))
}

#[cfg(test)]
#[path = "value_tests.rs"]
mod tests;
