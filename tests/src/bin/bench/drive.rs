//! Our own load generator: many pipelined connections from one thread, at a fraction of what a server spends.
//!
//! `redis-benchmark` burns 6 to 7 µs on each reply, and more on a reply of many fields, so at depth it measures
//! itself. This one makes its commands ahead in one buffer, writes them at once and only looks for where replies
//! end. It is a hidden subcommand run as a child, so that its CPU is told from the server's, and it prints one line
//! of JSON. It also fills servers for the memory, restart and stall figures. It must never count a refusal as work:
//! a batch's first reply is checked, and every reply's is where a token is taken from it.

use crate::resp;
use crate::stats::percentile;
use crate::work::{Dialect, Template, Work};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;
use std::{cell::Cell, str::FromStr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Bytes one reply may take before the driver gives up on it.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the child is asked to do, as passed on its command line.
#[derive(Clone, Debug)]
pub struct Job {
    /// The server's Unix socket.
    pub socket: PathBuf,
    /// How the server wants it said.
    pub dialect: Dialect,
    /// What to do.
    pub work: Work,
    /// Connections at once.
    pub clients: usize,
    /// Commands in flight on each.
    pub pipeline: usize,
    /// Keys to use in all.
    pub requests: u64,
    /// Random keys are drawn from this many.
    pub keyspace: u64,
    /// Bytes of a stored value.
    pub value_bytes: usize,
}

impl Job {
    /// The command line of the child; `from_words` reads it back.
    pub fn words(&self) -> Vec<String> {
        let socket = self.socket.display().to_string();
        let names = [self.dialect.name(), self.work.name()].map(String::from);
        let sizes = [self.clients as u64, self.pipeline as u64, self.requests, self.keyspace];
        let mut words = vec!["drive".to_string(), socket];
        words.extend(names);
        words.extend(sizes.iter().map(u64::to_string));
        words.push(self.value_bytes.to_string());
        words
    }

    /// Reads what `words` wrote, without the subcommand.
    ///
    /// # Errors
    /// Too few or malformed words: only the bench itself calls this.
    pub fn from_words(words: &[String]) -> Result<Self> {
        let [socket, dialect, work, clients, pipeline, requests, keyspace, value_bytes] = words else {
            bail!("`drive` is for the bench's own use and takes 8 words, not {}", words.len());
        };
        Ok(Self {
            socket: PathBuf::from(socket),
            dialect: dialect.parse()?,
            work: work.parse()?,
            clients: number(clients)?,
            pipeline: number(pipeline)?,
            requests: number(requests)?,
            keyspace: number(keyspace)?,
            value_bytes: number(value_bytes)?,
        })
    }
}

fn number<T: FromStr<Err = std::num::ParseIntError>>(word: &str) -> Result<T> {
    word.parse().with_context(|| format!("`{word}` is not a number"))
}

/// Does the job and prints its result as one line of JSON.
///
/// # Errors
/// The server cannot be reached, breaks off, or answers what is not RESP.
pub fn run(job: &Job) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let result = tokio::task::LocalSet::new().block_on(&runtime, drive(job))?;
    println!("{result}");
    Ok(())
}

async fn drive(job: &Job) -> Result<serde_json::Value> {
    let next = Rc::new(Cell::new(0u64));
    let mut tasks = Vec::new();
    let begun = Instant::now();
    for index in 0..job.clients {
        let connection = Connection::open(job, index as u64).await?;
        tasks.push(tokio::task::spawn_local(connection.run(next.clone())));
    }
    let mut latencies_ms = Vec::new();
    let mut refused = 0u64;
    let mut first_refusal = None;
    for task in tasks {
        let done = task.await.context("a connection's task broke off")??;
        latencies_ms.extend(done.latencies_ms);
        refused += done.refused;
        first_refusal = first_refusal.or(done.first_refusal);
    }
    let seconds = begun.elapsed().as_secs_f64();
    latencies_ms.sort_by(f64::total_cmp);
    Ok(serde_json::json!({
        "requests": job.requests,
        "seconds": seconds,
        "p50_ms": percentile(&latencies_ms, 50.0),
        "p99_ms": percentile(&latencies_ms, 99.0),
        "p999_ms": percentile(&latencies_ms, 99.9),
        "worst_ms": latencies_ms.last().copied().unwrap_or(0.0),
        "refused": refused,
        "first_refusal": first_refusal,
    }))
}

/// What one connection found.
struct Done {
    latencies_ms: Vec<f64>,
    refused: u64,
    first_refusal: Option<String>,
}

/// One connection: a batch out, its replies in, again.
struct Connection {
    job: Job,
    stream: UnixStream,
    random: u64,
    value: Vec<u8>,
    template: Template,
    output: Vec<u8>,
    input: Vec<u8>,
    ends: Vec<usize>,
    done: Done,
}

impl Connection {
    async fn open(job: &Job, index: u64) -> Result<Self> {
        let stream = UnixStream::connect(&job.socket)
            .await
            .with_context(|| format!("cannot connect to {}", job.socket.display()))?;
        let value = vec![b'v'; job.value_bytes];
        Ok(Self {
            job: job.clone(),
            stream,
            random: 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(index + 1),
            template: job.work.template(job.dialect, &value),
            value,
            output: Vec::new(),
            input: Vec::new(),
            ends: Vec::new(),
            done: Done { latencies_ms: Vec::new(), refused: 0, first_refusal: None },
        })
    }

    /// Batches until `next`, shared by all connections, has passed the last key.
    async fn run(mut self, next: Rc<Cell<u64>>) -> Result<Done> {
        let completes = self.job.work.completes(self.job.dialect);
        loop {
            let first = next.get();
            let count = (self.job.pipeline as u64).min(self.job.requests.saturating_sub(first));
            if count == 0 {
                return Ok(self.done);
            }
            next.set(first + count);
            self.output.clear();
            for number in first..first + count {
                let number = if self.job.work.is_random() { self.draw() } else { number };
                self.template.stamp(number, &mut self.output);
            }
            self.exchange(count as usize).await?;
            self.check();
            if completes {
                let completing = self.push_completes(first);
                self.exchange(completing).await?;
                self.check();
            }
        }
    }

    /// Writes the batch, reads until `replies` whole replies are in, and notes how long that took.
    async fn exchange(&mut self, replies: usize) -> Result<()> {
        self.input.clear();
        self.ends.clear();
        let begun = Instant::now();
        self.stream.write_all(&self.output).await.context("the server closed the connection")?;
        let mut at = 0;
        while self.ends.len() < replies {
            if let Some(len) = resp::value_len(&self.input[at..])? {
                at += len;
                self.ends.push(at);
                continue;
            }
            if self.input.len() - at > REPLY_BYTES_MAX {
                bail!("a reply grew beyond {REPLY_BYTES_MAX} bytes");
            }
            if self.stream.read_buf(&mut self.input).await? == 0 {
                bail!("the server closed the connection in the middle of a reply");
            }
        }
        self.done.latencies_ms.push(begun.elapsed().as_secs_f64() * 1e3);
        Ok(())
    }

    /// The batch's completes, one for each claim that was granted; returns how many. Only work that uses keys in
    /// order completes, so the batch's first number gives all of them.
    fn push_completes(&mut self, first: u64) -> usize {
        self.output.clear();
        let mut count = 0;
        let mut start = 0;
        for (number, end) in (first..).zip(&self.ends) {
            let reply = &self.input[start..*end];
            start = *end;
            if let Some(token) = resp::field(reply, b"token") {
                let key = self.job.work.key(number);
                resp::push_command(&mut self.output, &[b"COMPLETE", key.as_bytes(), token, &self.value]);
                count += 1;
            } else {
                note_refusal(&mut self.done, reply);
            }
        }
        count
    }

    /// Looks at the batch's first reply: all of a batch are refused or none is, but for the odd one.
    fn check(&mut self) {
        let Some(end) = self.ends.first() else { return };
        let reply = &self.input[..*end];
        if !self.job.work.accepts(self.job.dialect, reply) {
            note_refusal(&mut self.done, reply);
        }
    }

    /// xorshift64: any generator does, it must only cost nothing.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % self.job.keyspace.max(1)
    }
}

fn note_refusal(done: &mut Done, reply: &[u8]) {
    done.refused += 1;
    done.first_refusal.get_or_insert_with(|| String::from_utf8_lossy(reply).escape_debug().to_string());
}
