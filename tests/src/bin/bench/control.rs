//! One blocking connection for questions around a run: are you ready, how many keys, forget everything.
//!
//! Kept apart from the driver: it may be slow and must be plain. Must never be used while a figure is being taken.

use crate::resp;
use anyhow::{Context, Result, bail};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long one question may take: a background save or a load of millions of keys answers later than a claim.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(60);
/// How often a server that is not ready is asked again; the resolution of the restart figures.
const RETRY_EVERY: Duration = Duration::from_millis(2);

/// Asks one question and returns the whole reply.
///
/// # Errors
/// The server cannot be reached, is too slow, or closes the connection.
pub fn ask(socket: &Path, words: &[&str]) -> Result<Vec<u8>> {
    let mut stream =
        UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
    let mut command = Vec::new();
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    resp::push_command(&mut command, &words);
    stream.write_all(&command)?;
    let mut reply = Vec::new();
    let mut chunk = [0u8; 4096];
    while resp::value_len(&reply)?.is_none() {
        match stream.read(&mut chunk)? {
            0 => bail!("{} closed the connection", socket.display()),
            read => reply.extend_from_slice(&chunk[..read]),
        }
    }
    Ok(reply)
}

/// Asks until `good` accepts the reply; returns how long that took.
///
/// # Errors
/// `limit` has passed; says what the last answer was.
pub fn ask_until(
    socket: &Path,
    words: &[&str],
    limit: Duration,
    good: impl Fn(&[u8]) -> bool,
) -> Result<Duration> {
    let begun = Instant::now();
    loop {
        let last = ask(socket, words);
        if last.as_ref().is_ok_and(|reply| good(reply)) {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > limit {
            let last = match last {
                Ok(reply) => String::from_utf8_lossy(&reply).escape_debug().to_string(),
                Err(error) => format!("{error:#}"),
            };
            bail!("no good answer to {} within {} s; last: {last}", words.join(" "), limit.as_secs());
        }
        std::thread::sleep(RETRY_EVERY);
    }
}

/// An integer out of a reply: `:7`, or the line `name:7` of an INFO text.
pub fn number_in(reply: &[u8], name: &str) -> Option<u64> {
    let text = String::from_utf8_lossy(reply);
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    found.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_in_info_and_in_an_integer_reply() {
        assert_eq!(number_in(b"$9\r\na:1\r\nbc:22\r\n", "bc"), Some(22));
        assert_eq!(number_in(b":33\r\n", ""), Some(33));
        assert_eq!(number_in(b"$3\r\na:x\r\n", "a"), None);
    }
}
