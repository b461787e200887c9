//! A small blocking client over a Unix socket: for the command line, the demo, tests and the bench.
//!
//! Blocking, because its users do one thing at a time and must not pull a runtime in. Calls may be pipelined
//! ([`Client::send`] then [`Client::recv`]); whoever does so bounds what is outstanding, for a server that cannot
//! write its replies stops reading.
//!
//! It must never reuse a connection whose replies may be out of step: after a timeout or an error of the stream every
//! further call fails with [`ClientError::Broken`]. A claim whose reply was lost that way is safe to repeat with the
//! same claimant (S4.1).

use super::encode::{Encoder, Proto};
use super::value::{ReplyError, ReplyReader, Value};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Bytes read at once; larger replies grow the buffer to what they announce.
const READ_BYTES: usize = 64 << 10;

/// Bytes of requests gathered before they are written without being asked to.
const SEND_BYTES_MAX: usize = 256 << 10;

/// Why a call got no reply. Each says what to do.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No file at that path.
    #[error(
        "no socket at {path}: is `onced serve` running? If it listens elsewhere, pass --socket or set ONCED_SOCKET"
    )]
    SocketMissing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file is there, but nobody listens.
    #[error(
        "nobody listens on {path}: the daemon has stopped or is still starting; check `systemctl status onced` and its log"
    )]
    Refused {
        /// The socket's path.
        path: PathBuf,
    },
    /// The file system does not let us.
    #[error("permission denied on {path}: {detail}")]
    PermissionDenied {
        /// The socket's path.
        path: PathBuf,
        /// Owner and mode if they can be seen, and what to do.
        detail: String,
    },
    /// No reply in time. Whether the command took effect is not known.
    #[error(
        "no reply within {after_ms} ms; the command may have taken effect: repeat a claim with the same --claimant, a \
         complete with the same token and outcome"
    )]
    Timeout {
        /// How long was waited.
        after_ms: u128,
    },
    /// The daemon closed the connection, before or within a reply.
    #[error("the daemon closed the connection; it may be draining or have crashed: see its log, then repeat")]
    Closed,
    /// What came is no RESP.
    #[error("unreadable reply: {0}")]
    Protocol(#[from] ReplyError),
    /// An earlier call failed on this connection.
    #[error("this connection failed before and is out of step; connect anew")]
    Broken,
    /// Anything else the system reports.
    #[error("socket error: {0}")]
    Io(std::io::Error),
}

impl ClientError {
    /// True if the daemon could not be spoken to at all, so no command took effect.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::SocketMissing { .. } | Self::Refused { .. } | Self::PermissionDenied { .. })
    }
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    timeout: Duration,
    out: Vec<u8>,
    /// Bytes read and not yet consumed: `input[start..end]`. The rest is room, kept so that it is zeroed once.
    input: Vec<u8>,
    start: usize,
    end: usize,
    reader: ReplyReader,
    broken: bool,
}

impl Client {
    /// Connects; `timeout` holds for each wait on the socket (zero: wait for ever).
    ///
    /// # Errors
    /// The socket is missing, refused or not permitted.
    pub fn connect(path: impl AsRef<Path>, timeout: Duration) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|error| connect_error(path, error))?;
        let mut client = Self {
            stream,
            timeout,
            out: Vec::new(),
            input: vec![0; READ_BYTES],
            start: 0,
            end: 0,
            reader: ReplyReader::new(),
            broken: false,
        };
        client.set_timeout(timeout)?;
        Ok(client)
    }

    /// Changes the timeout, for a claim that waits (`WAIT`).
    ///
    /// # Errors
    /// The system refuses to set it.
    pub fn set_timeout(&mut self, timeout: Duration) -> Result<(), ClientError> {
        let wait = (!timeout.is_zero()).then_some(timeout);
        self.stream.set_read_timeout(wait).map_err(ClientError::Io)?;
        self.stream.set_write_timeout(wait).map_err(ClientError::Io)?;
        self.timeout = timeout;
        Ok(())
    }

    /// Switches to RESP3, so that replies come as maps.
    ///
    /// # Errors
    /// The call fails. An error *reply* (a server without RESP3) is not one: [`Value::field`] reads both dialects.
    pub fn hello3(&mut self) -> Result<Value, ClientError> {
        self.call(&[b"HELLO", b"3"])
    }

    /// Sends one command and waits for its reply. An error reply is a [`Value::Error`].
    ///
    /// # Errors
    /// Nothing (readable) came back.
    pub fn call(&mut self, args: &[&[u8]]) -> Result<Value, ClientError> {
        self.send(args)?;
        self.recv()
    }

    /// Queues one command; it is written at the next [`Client::flush`] or [`Client::recv`], or when much is queued.
    ///
    /// # Errors
    /// The socket does not take it.
    pub fn send(&mut self, args: &[&[u8]]) -> Result<(), ClientError> {
        let mut encoder = Encoder::new(&mut self.out, Proto::Resp2);
        encoder.array(args.len());
        for arg in args {
            encoder.bulk(arg);
        }
        if self.out.len() >= SEND_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Queues bytes as they are: for tests of malformed input and for requests encoded beforehand.
    ///
    /// # Errors
    /// The socket does not take it.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        self.out.extend_from_slice(bytes);
        if self.out.len() >= SEND_BYTES_MAX { self.flush() } else { Ok(()) }
    }

    /// Writes what is queued.
    ///
    /// # Errors
    /// The socket does not take it.
    pub fn flush(&mut self) -> Result<(), ClientError> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.check()?;
        let written = self.stream.write_all(&self.out);
        self.out.clear();
        written.map_err(|error| self.stream_error(error))
    }

    /// Waits for the next reply.
    ///
    /// # Errors
    /// Nothing (readable) came.
    pub fn recv(&mut self) -> Result<Value, ClientError> {
        self.flush()?;
        self.check()?;
        let mut bytes_min = 1;
        loop {
            if self.end - self.start >= bytes_min {
                let progress = match self.reader.read(&self.input[self.start..self.end]) {
                    Ok(progress) => progress,
                    Err(error) => {
                        self.broken = true;
                        return Err(error.into());
                    }
                };
                self.start += progress.consumed;
                if let Some(value) = progress.value {
                    return Ok(value);
                }
                bytes_min = progress.bytes_min;
            }
            self.fill(bytes_min)?;
        }
    }

    /// Reads once; makes room for `bytes_min` unconsumed bytes.
    fn fill(&mut self, bytes_min: usize) -> Result<(), ClientError> {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.input.len() < bytes_min.max(self.end + 1) {
            // Bounded: the reader announces at most one string of BULK_BYTES_MAX.
            self.input.resize(bytes_min.max(self.end + READ_BYTES), 0);
        }
        let read = loop {
            match self.stream.read(&mut self.input[self.end..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        match read {
            Ok(0) => {
                self.broken = true;
                Err(ClientError::Closed)
            }
            Ok(bytes) => {
                self.end += bytes;
                Ok(())
            }
            Err(error) => Err(self.stream_error(error)),
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        if self.broken { Err(ClientError::Broken) } else { Ok(()) }
    }

    fn stream_error(&mut self, error: std::io::Error) -> ClientError {
        self.broken = true;
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                ClientError::Timeout { after_ms: self.timeout.as_millis() }
            }
            ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof => {
                ClientError::Closed
            }
            _ => ClientError::Io(error),
        }
    }
}

fn connect_error(path: &Path, error: std::io::Error) -> ClientError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::NotFound => ClientError::SocketMissing { path },
        ErrorKind::ConnectionRefused => ClientError::Refused { path },
        ErrorKind::PermissionDenied => {
            let detail = match std::fs::metadata(&path) {
                Ok(meta) => format!(
                    "its mode is {:04o}, owner uid {}, gid {}; run as that user, or join group {} and log in again",
                    meta.mode() & 0o7777,
                    meta.uid(),
                    meta.gid(),
                    meta.gid()
                ),
                Err(_) => {
                    "its folder cannot be entered; run as the daemon's user or join its group".to_owned()
                }
            };
            ClientError::PermissionDenied { path, detail }
        }
        _ => ClientError::Io(error),
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
