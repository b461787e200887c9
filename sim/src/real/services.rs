//! The connections of services to their regions: some threads a region, each with a connection of its own.
//!
//! A request that is not answered within a service's patience takes its connection with it: nobody knows what such a
//! connection would say next.
//!
//! Must never: send a request twice; what services repeat is theirs to say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::resp::{Client, Value};

/// Connections a region: requests that wait hold one each.
const CONNECTIONS: usize = 8;

/// A command for a region.
#[derive(Debug)]
pub struct Command {
    /// Which job asks.
    pub job: usize,
    /// Its number.
    pub request: u64,
    /// What is sent.
    pub words: Vec<Vec<u8>>,
}

/// What became of it.
#[derive(Debug)]
pub struct Done {
    /// Which job asked.
    pub job: usize,
    /// The command's number.
    pub request: u64,
    /// When it was sent; `None`: nobody listened.
    pub sent: Option<Instant>,
    /// When the answer came, and what it says.
    pub heard: Option<(Instant, Value)>,
}

/// All connections. Dropped, they end.
#[derive(Debug)]
pub struct Services {
    queues: Vec<Sender<Command>>,
    /// By region: how often it has died; a connection of an earlier life is of no use.
    lives: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Services {
    /// Connections to daemons at these sockets; what becomes of commands is told to `done`.
    pub fn start(sockets: &[PathBuf], patience: Duration, done: &Sender<Done>) -> std::io::Result<Self> {
        let mut services = Self { queues: Vec::new(), lives: Vec::new(), threads: Vec::new() };
        for socket in sockets {
            let (queue, commands) = channel();
            let (commands, life) = (Arc::new(Mutex::new(commands)), Arc::new(AtomicU64::new(0)));
            services.queues.push(queue);
            services.lives.push(Arc::clone(&life));
            for _ in 0..CONNECTIONS {
                let connection =
                    Connection { socket: socket.clone(), patience, life: Arc::clone(&life), client: None };
                let (commands, done) = (Arc::clone(&commands), done.clone());
                let thread = std::thread::Builder::new().name("service".into());
                services.threads.push(thread.spawn(move || connection.serve(&commands, &done))?);
            }
        }
        Ok(services)
    }

    /// Sends a command to a region, by index.
    pub fn send(&self, region: usize, command: Command) {
        // Threads end only with this.
        let _ = self.queues[region].send(command);
    }

    /// A region has died.
    pub fn died(&self, region: usize) {
        self.lives[region].fetch_add(1, Ordering::Release);
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        self.queues.clear();
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

struct Connection {
    socket: PathBuf,
    patience: Duration,
    life: Arc<AtomicU64>,
    client: Option<(u64, Client)>,
}

impl Connection {
    fn serve(mut self, commands: &Mutex<Receiver<Command>>, done: &Sender<Done>) {
        loop {
            let next = commands.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Command { job, request, words }) = next else { return };
            let (sent, heard) = self.call(&words);
            if done.send(Done { job, request, sent, heard }).is_err() {
                return;
            }
        }
    }

    fn call(&mut self, words: &[Vec<u8>]) -> (Option<Instant>, Option<(Instant, Value)>) {
        let life = self.life.load(Ordering::Acquire);
        if self.client.as_ref().is_none_or(|(of, _)| *of != life) {
            self.client = Client::connect(&self.socket, self.patience).ok().map(|client| (life, client));
        }
        let Some((_, client)) = &mut self.client else { return (None, None) };
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let sent = Instant::now();
        match client.call(&words) {
            Ok(reply) => (Some(sent), Some((Instant::now(), reply))),
            Err(_) => {
                self.client = None;
                (Some(sent), None)
            }
        }
    }
}
