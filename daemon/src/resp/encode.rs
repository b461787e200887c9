//! Replies appended to a connection's write buffer, in RESP2 or RESP3.
//!
//! One encoder for both dialects, so that no command can answer differently in one: a map is `%n` or a flat `*2n`, a
//! boolean `#t` or `:1`, null `_` or `$-1`. It only appends; batching and writing are the connection's.
//!
//! It must never allocate (beyond the buffer's growth) on the paths of CLAIM, COMPLETE and RENEW, and must never let a
//! caller's text break the framing: line types are cleaned of CR and LF.

use super::limits::ERROR_QUOTE_BYTES_MAX;
use std::fmt::{self, Write as _};

/// The dialect a connection speaks: RESP2 until `HELLO 3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proto {
    /// What every client speaks.
    #[default]
    Resp2,
    /// Maps, booleans and null as such.
    Resp3,
}

/// Appends replies to a buffer. A view: make one per command or per batch, it holds nothing.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    proto: Proto,
}

impl<'a> Encoder<'a> {
    /// An encoder that appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, proto: Proto) -> Self {
        Self { out, proto }
    }

    /// The dialect it writes.
    #[inline]
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// Changes the dialect; HELLO answers in the new one.
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }

    /// Starts a map of `pairs` pairs: 2 x `pairs` values must follow.
    #[inline]
    pub fn map(&mut self, pairs: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', 2 * pairs),
            Proto::Resp3 => self.header(b'%', pairs),
        }
    }

    /// Starts an array: `len` values must follow.
    #[inline]
    pub fn array(&mut self, len: usize) {
        self.header(b'*', len);
    }

    /// A string of any bytes.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A short string without CR or LF (they become spaces), `+OK`.
    pub fn simple(&mut self, text: &str) {
        self.out.push(b'+');
        self.line(text.as_bytes());
    }

    /// `+OK`, the commonest reply of the session commands.
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        self.out.push(b':');
        if value < 0 {
            self.out.push(b'-');
        }
        push_decimal(self.out, value.unsigned_abs());
        self.out.extend_from_slice(b"\r\n");
    }

    /// A boolean; RESP2 has none and gets 1 or 0.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.proto, value) {
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
        });
    }

    /// Nothing there.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.proto {
            Proto::Resp2 => b"$-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// An error reply. The text starts with its code (`BADARG …`); CR and LF in it become spaces.
    pub fn error(&mut self, text: impl fmt::Display) {
        self.out.push(b'-');
        let mut line = LineWriter { out: self.out };
        // Writing to a Vec cannot fail, and a Display that reports an error has still left a whole line.
        let _ = write!(line, "{text}");
        self.out.extend_from_slice(b"\r\n");
    }

    /// Redis's answer to an unknown command, verbatim: clients test for it.
    pub fn unknown_command(&mut self, args: &[&[u8]]) {
        self.out.extend_from_slice(b"-ERR unknown command '");
        let name = args.first().copied().unwrap_or_default();
        self.clean(&name[..name.len().min(ERROR_QUOTE_BYTES_MAX)]);
        self.out.extend_from_slice(b"', with args beginning with: ");
        let start = self.out.len();
        for arg in args.iter().skip(1) {
            let quoted = self.out.len() - start;
            if quoted >= ERROR_QUOTE_BYTES_MAX {
                break;
            }
            self.out.push(b'\'');
            self.clean(&arg[..arg.len().min(ERROR_QUOTE_BYTES_MAX - quoted)]);
            self.out.extend_from_slice(b"' ");
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// The first field of every native reply.
    #[inline]
    pub fn field_status(&mut self, status: &str) {
        self.out.extend_from_slice(b"$6\r\nstatus\r\n");
        self.bulk(status.as_bytes());
    }

    /// A pair of a map: name and bytes.
    #[inline]
    pub fn field_bulk(&mut self, name: &str, value: &[u8]) {
        self.bulk(name.as_bytes());
        self.bulk(value);
    }

    /// A pair of a map: name and bytes, or null.
    #[inline]
    pub fn field_bulk_or_null(&mut self, name: &str, value: Option<&[u8]>) {
        self.bulk(name.as_bytes());
        match value {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// A pair of a map: name and integer.
    #[inline]
    pub fn field_int(&mut self, name: &str, value: i64) {
        self.bulk(name.as_bytes());
        self.int(value);
    }

    /// A pair of a map: name and a count. One beyond `i64::MAX`, which no count of ours reaches, is written as that.
    #[inline]
    pub fn field_uint(&mut self, name: &str, value: u64) {
        self.field_int(name, i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A pair of a map: name and boolean.
    #[inline]
    pub fn field_bool(&mut self, name: &str, value: bool) {
        self.bulk(name.as_bytes());
        self.bool(value);
    }

    /// A pair of a map: name and null.
    #[inline]
    pub fn field_null(&mut self, name: &str) {
        self.bulk(name.as_bytes());
        self.null();
    }

    /// A pair of a map whose value is an array: `len` values must follow.
    #[inline]
    pub fn field_array(&mut self, name: &str, len: usize) {
        self.bulk(name.as_bytes());
        self.array(len);
    }

    /// A pair of a map whose value is a map: 2 x `pairs` values must follow.
    #[inline]
    pub fn field_map(&mut self, name: &str, pairs: usize) {
        self.bulk(name.as_bytes());
        self.map(pairs);
    }

    /// Bytes already encoded, for constant replies.
    #[inline]
    pub fn raw(&mut self, encoded: &[u8]) {
        self.out.extend_from_slice(encoded);
    }

    #[inline]
    fn header(&mut self, kind: u8, len: usize) {
        if len < 10 {
            // One append for nearly every header; the digit fits a byte.
            self.out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']);
            return;
        }
        self.out.push(kind);
        push_decimal(self.out, len as u64);
        self.out.extend_from_slice(b"\r\n");
    }

    fn line(&mut self, bytes: &[u8]) {
        self.clean(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    fn clean(&mut self, bytes: &[u8]) {
        clean_into(self.out, bytes);
    }
}

/// Appends bytes with CR and LF turned into spaces.
fn clean_into(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
}

struct LineWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl fmt::Write for LineWriter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        clean_into(self.out, text.as_bytes());
        Ok(())
    }
}

/// Two decimal digits of each number below 100: half the divisions of the plain loop.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends `value` in decimal.
#[inline]
fn push_decimal(out: &mut Vec<u8>, value: u64) {
    // 20 digits hold every u64.
    let mut digits = [0u8; 20];
    let at = decimal(value, &mut digits);
    out.extend_from_slice(&digits[at..]);
}

/// Writes `value` in decimal to the end of `digits` and says where it begins.
#[inline]
pub(crate) fn decimal(mut value: u64, digits: &mut [u8; 20]) -> usize {
    let mut at = digits.len();
    // Eight digits at a time, whose divisions are of 32 bits.
    while value >= 100_000_000 {
        let mut low = (value % 100_000_000) as u32;
        value /= 100_000_000;
        at -= 8;
        for pair in digits[at..at + 8].as_chunks_mut::<2>().0.iter_mut().rev() {
            *pair = PAIRS[(low % 100) as usize];
            low /= 100;
        }
    }
    let mut value = value as u32;
    while value >= 100 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(value % 100) as usize]);
        value /= 100;
    }
    if value >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[value as usize]);
    } else {
        at -= 1;
        // Below 10.
        digits[at] = b'0' + value as u8;
    }
    at
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
