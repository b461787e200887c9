//! A client of a daemon's socket, as thin as a service's: one command, one reply, in RESP3.
//!
//! The daemon's own client would be a link to the daemon, and its faults would hide each other's.
//!
//! Must never: use a connection again whose replies may be out of step; trust a length that a reply announces.

use std::io::{Error, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Bytes of one string, and of what is read at once.
const STRING_BYTES_MAX: usize = 4 << 20;
/// Values of one reply.
const VALUES_MAX: usize = 1 << 20;
/// Values within values.
const DEPTH_MAX: usize = 8;

/// One reply, or a part of one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Value {
    /// A string, of whichever kind.
    Text(Vec<u8>),
    /// `-CODE text`
    Error(String),
    /// A number.
    Int(i64),
    /// A truth.
    Bool(bool),
    /// Nothing.
    Null,
    /// A list.
    List(Vec<Value>),
    /// Names and values.
    Map(Vec<(Value, Value)>),
}

impl Value {
    /// A field of a map.
    pub fn field(&self, name: &str) -> Option<&Self> {
        let Self::Map(pairs) = self else { return None };
        let named = |key: &Self| matches!(key, Self::Text(text) if text == name.as_bytes());
        pairs.iter().find(|(key, _)| named(key)).map(|(_, value)| value)
    }

    /// A field's bytes.
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        let Self::Text(bytes) = self.field(name)? else { return None };
        Some(bytes)
    }

    /// A field's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.bytes(name).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// A field's number.
    pub fn number(&self, name: &str) -> Option<u64> {
        let Self::Int(number) = self.field(name)? else { return None };
        u64::try_from(*number).ok()
    }

    /// A field's list; empty where there is none.
    pub fn list(&self, name: &str) -> &[Self] {
        let Some(Self::List(items)) = self.field(name) else { return &[] };
        items
    }

    /// Whether a field is there and true.
    pub fn truth(&self, name: &str) -> bool {
        self.field(name) == Some(&Self::Bool(true))
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    input: Vec<u8>,
    at: usize,
}

impl Client {
    /// Connects; no wait for the daemon is longer than `patience`.
    ///
    /// # Errors
    /// Nobody listens, or nobody answers.
    pub fn connect(path: &Path, patience: Duration) -> std::io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let mut client = Self { stream, input: Vec::new(), at: 0 };
        client.call(&[b"HELLO", b"3"])?;
        Ok(client)
    }

    /// One command and its reply; after an error the connection is of no use.
    ///
    /// # Errors
    /// The daemon is gone or silent, or what it says is no reply.
    pub fn call(&mut self, words: &[&[u8]]) -> std::io::Result<Value> {
        self.call_all(&[words.to_vec()]).map(|mut replies| replies.remove(0))
    }

    /// Commands in one go, and their replies.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub fn call_all(&mut self, commands: &[Vec<&[u8]>]) -> std::io::Result<Vec<Value>> {
        let mut out = Vec::new();
        for words in commands {
            out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in words {
                out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                out.extend_from_slice(word);
                out.extend_from_slice(b"\r\n");
            }
        }
        self.stream.write_all(&out)?;
        let mut replies = Vec::with_capacity(commands.len());
        for _ in commands {
            replies.push(self.value(&mut 0, 0)?);
        }
        self.input.drain(..self.at);
        self.at = 0;
        Ok(replies)
    }

    fn value(&mut self, count: &mut usize, depth: usize) -> std::io::Result<Value> {
        *count += 1;
        if *count > VALUES_MAX || depth > DEPTH_MAX {
            return Err(unreadable("it has too many values"));
        }
        let line = self.line()?;
        let (kind, rest) = line.split_at_checked(1).ok_or_else(|| unreadable("an empty line"))?;
        let number = || rest.parse::<i64>().map_err(|_| unreadable("a number that is none"));
        Ok(match kind {
            "+" => Value::Text(rest.as_bytes().to_vec()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(number()?),
            "#" => Value::Bool(rest == "t"),
            "_" => Value::Null,
            "$" | "*" if number()? < 0 => Value::Null,
            "$" => Value::Text(self.string(number()? as usize)?),
            "*" => {
                let items = (0..number()?).map(|_| self.value(count, depth + 1));
                Value::List(items.collect::<Result<_, _>>()?)
            }
            "%" => {
                let mut pairs = Vec::new();
                for _ in 0..number()? {
                    pairs.push((self.value(count, depth + 1)?, self.value(count, depth + 1)?));
                }
                Value::Map(pairs)
            }
            _ => return Err(unreadable("an unknown kind of value")),
        })
    }

    fn line(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(length) = self.input[self.at..].iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&self.input[self.at..self.at + length]);
                let line = line.trim_end_matches('\r').to_owned();
                self.at += length + 1;
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn string(&mut self, length: usize) -> std::io::Result<Vec<u8>> {
        if length > STRING_BYTES_MAX {
            return Err(unreadable("a string that is too long"));
        }
        while self.input.len() < self.at + length + 2 {
            self.more()?;
        }
        let bytes = self.input[self.at..self.at + length].to_vec();
        self.at += length + 2;
        Ok(bytes)
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => {
                self.input.extend_from_slice(&bytes[..length]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn unreadable(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("unreadable reply: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> std::io::Result<Value> {
        let (ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(bytes)?;
        drop(theirs);
        Client { stream: ours, input: Vec::new(), at: 0 }.value(&mut 0, 0)
    }

    #[test]
    fn replies_of_every_kind_are_read() {
        let map = b"%4\r\n$6\r\nstatus\r\n+OK\r\n$1\r\nn\r\n:7\r\n$4\r\nnone\r\n_\r\n$4\r\nlist\r\n*2\r\n#t\r\n$2\r\n\r\n\r\n";
        let value = read(map).expect("a reply");
        assert_eq!((value.text("status"), value.number("n")), (Some("OK"), Some(7)));
        assert_eq!(value.field("none"), Some(&Value::Null));
        assert_eq!(value.list("list"), [Value::Bool(true), Value::Text(b"\r\n".to_vec())]);
        assert_eq!(read(b"-NOPERM go away\r\n").expect("a reply"), Value::Error("NOPERM go away".to_owned()));
    }

    #[test]
    fn what_is_no_reply_is_an_error_and_ends() {
        for bytes in [&b""[..], b"%2\r\n", b"$9999999999\r\n", b"?\r\n", b"\r\n", b":x\r\n"] {
            assert!(read(bytes).is_err(), "{bytes:?}");
        }
        assert!(read(&b"*1\r\n".repeat(100)).is_err(), "no deeper than replies are");
    }
}
