//! A tokio server that gives every command the same answer and does nothing else: what this machine, this driver and
//! this runtime allow at most, once for +OK and once for an answer as long as a claim's.
//!
//! Hidden subcommand of the bench, run as a child of its own, so that its CPU is counted as a server's is. Must
//! never grow a feature: whatever it does besides answering lowers the bar.

use crate::resp;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Bytes read at once: 64 pipelined commands of the bench and more.
const READ_BYTES: usize = 64 * 1024;
/// Hex digits of a claim's token.
const TOKEN_DIGITS: usize = 106;

/// The one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `+OK`: the least there is.
    Ok,
    /// The seven fields of a granted claim: what the command's form alone costs, before any claim is decided.
    Granted,
}

impl Answer {
    /// The word by which the bench passes it to its child.
    pub fn name(self) -> &'static str {
        match self {
            Answer::Ok => "ok",
            Answer::Granted => "granted",
        }
    }

    /// Reads what `name` wrote.
    ///
    /// # Errors
    /// Any other word.
    pub fn from_name(name: &str) -> Result<Self> {
        match name {
            "ok" => Ok(Answer::Ok),
            "granted" => Ok(Answer::Granted),
            other => bail!("unknown answer `{other}`"),
        }
    }

    fn bytes(self) -> Vec<u8> {
        if self == Answer::Ok {
            return b"+OK\r\n".to_vec();
        }
        let token = "0".repeat(TOKEN_DIGITS);
        let fields = [
            ("status", "GRANTED"),
            ("token", &token),
            ("claim_id", "0000000000000000-1-00000000"),
            ("lease_until", "1700000000000"),
            ("expires_at", "1700000000000"),
            ("level", "local"),
            ("stale_ms", "0"),
        ];
        let words: Vec<&[u8]> =
            fields.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]).collect();
        let mut out = Vec::new();
        resp::push_command(&mut out, &words);
        out
    }
}

/// Serves `socket` until killed.
///
/// # Errors
/// The socket cannot be bound.
pub fn serve(socket: &Path, answer: Answer) -> Result<()> {
    let reply: Arc<[u8]> = answer.bytes().into();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener =
            UnixListener::bind(socket).with_context(|| format!("cannot bind {}", socket.display()))?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve_one(stream, reply.clone()));
        }
    })
}

/// One connection: as many answers in one write as there were whole commands in one read.
async fn serve_one(mut stream: UnixStream, reply: Arc<[u8]>) {
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        let mut at = 0;
        while let Ok(Some(len)) = resp::value_len(&input[at..]) {
            at += len;
            output.extend_from_slice(&reply);
        }
        input.drain(..at);
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}
