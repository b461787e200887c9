//! A tokio server that answers +OK to every command and does nothing else: what this machine, this driver and this
//! runtime allow at most.
//!
//! Hidden subcommand of the bench, run as a child of its own, so that its CPU is counted as a server's is. Must
//! never grow a feature: whatever it does besides answering lowers the bar.

use crate::resp;
use anyhow::{Context, Result};
use std::path::Path;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

/// Bytes read at once: 64 pipelined commands of the bench and more.
const READ_BYTES: usize = 64 * 1024;

/// Serves `socket` until killed.
///
/// # Errors
/// The socket cannot be bound.
pub fn serve(socket: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener =
            UnixListener::bind(socket).with_context(|| format!("cannot bind {}", socket.display()))?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(answer(stream));
        }
    })
}

/// One connection: as many +OK in one write as there were whole commands in one read.
async fn answer(mut stream: UnixStream) {
    let mut input = Vec::with_capacity(READ_BYTES);
    let mut output = Vec::with_capacity(READ_BYTES);
    while stream.read_buf(&mut input).await.is_ok_and(|read| read > 0) {
        let mut at = 0;
        while let Ok(Some(len)) = resp::value_len(&input[at..]) {
            at += len;
            output.extend_from_slice(b"+OK\r\n");
        }
        input.drain(..at);
        if stream.write_all(&output).await.is_err() {
            return;
        }
        output.clear();
    }
}
