//! Binding the socket, taking connections, handing them to threads, and draining them.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crdt::ids::LogEpoch;
use crdt::request::Reason;
use rustix::fs::Mode;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;

use super::connection;
use super::limits::DRAIN_MS_MAX;
use super::live::{Live, LiveCell};
use crate::config::Socket;
use crate::driver::Driver;
use crate::metrics::Metrics;
use crate::peer::mesh::MeshHandle;
use crate::reload::ReloadHandle;

/// What every connection can reach.
#[derive(Debug)]
pub struct Shared {
    /// Store, log and clock.
    pub driver: Driver,
    /// The peers' thread.
    pub mesh: MeshHandle,
    /// Whoever reads the configuration again.
    pub reload: ReloadHandle,
    /// Counters.
    pub metrics: Metrics,
    /// This start's log epoch.
    pub epoch: LogEpoch,
    /// When this start began.
    pub started: Instant,
    /// Connections open now.
    pub(super) open: AtomicUsize,
    live: LiveCell,
}

impl Shared {
    /// Joins the parts.
    pub fn new(
        driver: Driver,
        mesh: MeshHandle,
        reload: ReloadHandle,
        metrics: Metrics,
        epoch: LogEpoch,
        live: Live,
    ) -> Self {
        let (started, open, live) = (Instant::now(), AtomicUsize::new(0), LiveCell::new(live));
        Self { driver, mesh, reload, metrics, epoch, started, open, live }
    }

    /// What reloads change, as it is now.
    pub fn live(&self) -> Arc<Live> {
        self.live.get()
    }

    /// The number of [`Self::live`]: as long as it is the same, so is all of that.
    pub fn live_version(&self) -> u64 {
        self.live.version()
    }

    /// Puts what a reload has brought in force.
    pub fn set_live(&self, live: Live) {
        self.live.set(live);
    }

    /// Connections open now.
    pub fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Sets the gauges to what is now.
    pub fn observe(&self) {
        let store = &self.driver.store;
        self.metrics.keys.set(store.keys() as f64);
        self.metrics.observe_conflicts(&store.conflict_counts());
        self.metrics.log_room_bytes.set(store.log_room().bytes.unwrap_or_default() as f64);
    }

    /// INFO's text: sections and `name:value` lines, as Redis clients expect them, then all metrics.
    pub fn info(&self) -> String {
        let store = &self.driver.store;
        let (version, uptime_s) = (env!("CARGO_PKG_VERSION"), self.started.elapsed().as_secs());
        let (pid, open) = (std::process::id(), self.connections());
        let (memory, keys) = (store.memory_bytes(), store.keys());
        format!(
            "# Server\r\nonced_version:{version}\r\nredis_mode:standalone\r\nprocess_id:{pid}\r\n\
             uptime_in_seconds:{uptime_s}\r\n\r\n# Clients\r\nconnected_clients:{open}\r\n\r\n# Memory\r\n\
             used_memory:{memory}\r\n\r\n# Keyspace\r\ndb0:keys={keys}\r\n\r\n# Metrics\r\n{}",
            self.metrics.render().replace('\n', "\r\n")
        )
    }
}

/// What a connection's task is given.
#[derive(Clone, Debug)]
pub struct Scope {
    pub(super) shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
}

impl Scope {
    /// Ends when the daemon stops.
    pub(super) async fn stopping(&mut self) {
        // An error means that the server is gone, which is the same.
        let _ = self.stop.wait_for(|stop| *stop).await;
    }
}

/// Why the socket cannot be bound; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers there.
    #[error("{0}: another onced serves this socket; stop it, or choose another [socket] path")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0} exists and is not a socket: nothing was removed; choose another [socket] path")]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("{path}: {error}; check that its folder exists and that onced may write there")]
    Io {
        /// The socket's path.
        path: PathBuf,
        /// The system's word.
        error: io::Error,
    },
}

/// A bound socket, not served yet.
#[derive(Debug)]
pub struct Listening {
    listener: StdListener,
    path: PathBuf,
}

/// Binds the socket with its mode and group from the first moment on. A socket that nobody answers is a dead
/// daemon's and is replaced. Must be called while the process has one thread: the file mode comes from the
/// process's umask.
pub fn bind(config: &Socket) -> Result<Listening, BindError> {
    let path = &config.path;
    let failed = |error| BindError::Io { path: path.clone(), error };
    remove_dead(path)?;
    let before = rustix::process::umask(Mode::from_raw_mode(!config.mode & 0o777));
    let bound = StdListener::bind(path);
    rustix::process::umask(before);
    let listener = bound.map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(config.mode)).map_err(failed)?;
    if config.gid.is_some() {
        chown(path, None, config.gid).map_err(failed)?;
    }
    // The kernel's default backlog of 128 refuses a stampede of clients after a restart.
    rustix::net::listen(&listener, 4096).map_err(|error| failed(error.into()))?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(Listening { listener, path: path.clone() })
}

fn remove_dead(path: &Path) -> Result<(), BindError> {
    use std::os::unix::fs::FileTypeExt;
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match StdStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| BindError::Io { path: path.to_owned(), error })
        }
        _ => Err(BindError::InUse(path.to_owned())),
    }
}

/// The threads that serve the socket.
#[derive(Debug)]
pub struct Server {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
    path: PathBuf,
}

impl Server {
    /// Starts serving.
    pub fn start(listening: Listening, shared: Arc<Shared>, config: &Socket) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..config.threads.max(1)).map(|_| mpsc::channel::<StdStream>(1024)).unzip();
        let mut listener = Some((listening.listener, senders, config.max_connections));
        let mut threads = Vec::new();
        for (number, receiver) in receivers.into_iter().enumerate() {
            let scope = Scope { shared: Arc::clone(&shared), stop: stopped.clone() };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // The first thread also accepts, and hands connections out in turn.
            let accepting =
                listener.take().map(|(listener, senders, max)| Accepting { listener, senders, max });
            let thread = std::thread::Builder::new().name(format!("socket-{number}"));
            threads.push(thread.spawn(move || run_thread(&runtime, scope, accepting, receiver))?);
        }
        Ok(Self { stop, threads, shared, path: listening.path })
    }

    /// Takes no more connections, lets those there are finish what they sent, at most [`DRAIN_MS_MAX`], and
    /// removes the socket.
    pub fn drain(self) {
        let _ = std::fs::remove_file(&self.path);
        self.shared.driver.store.gate.set(Reason::Draining, true);
        let _ = self.stop.send(true);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

struct Accepting {
    listener: StdListener,
    senders: Vec<mpsc::Sender<StdStream>>,
    max: usize,
}

fn run_thread(
    runtime: &tokio::runtime::Runtime,
    scope: Scope,
    accepting: Option<Accepting>,
    mut receiver: mpsc::Receiver<StdStream>,
) {
    let local = LocalSet::new();
    local.block_on(runtime, async move {
        if let Some(accepting) = accepting {
            let scope = scope.clone();
            tokio::task::spawn_local(async move { accept(accepting, scope).await });
        }
        let mut stopping = scope.clone();
        loop {
            tokio::select! {
                () = stopping.stopping() => break,
                stream = receiver.recv() => match stream {
                    Some(stream) => open(stream, &scope),
                    None => break,
                },
            }
        }
        // Connections see the stop themselves; this thread leaves when the last one has.
        let deadline = tokio::time::Instant::now() + Duration::from_millis(DRAIN_MS_MAX);
        while scope.shared.connections() > 0 && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

async fn accept(accepting: Accepting, mut scope: Scope) {
    let Accepting { listener, senders, max } = accepting;
    let listener = match UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the socket cannot be served");
            return;
        }
    };
    let mut turn = 0usize;
    loop {
        let accepted = tokio::select! {
            () = scope.stopping() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) if scope.shared.connections() >= max => {
                // Said before closing, as Redis does.
                let _ = io::Write::write_all(&mut &stream, b"-ERR max number of clients reached\r\n");
            }
            Ok(stream) => {
                turn += 1;
                scope.shared.open.fetch_add(1, Ordering::Relaxed);
                if senders[turn % senders.len()].send(stream).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, most likely: wait for some to close instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Counts a connection that ends, however it ends.
struct Opened(Arc<Shared>);

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a caller without any role is told before its connection is closed.
pub(super) const NO_ROLE: &str = "NOPERM no [[access]] rule names your uid or gid";

fn open(stream: StdStream, scope: &Scope) {
    let opened = Opened(Arc::clone(&scope.shared));
    let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else { return };
    let caller = (peer.uid.as_raw(), peer.gid.as_raw());
    let grants = scope.shared.live().access.grants(caller.0, &[caller.1]);
    scope.shared.metrics.connections_opened.increment(1);
    if !grants.any() {
        // Before tokio has the socket: it would not know yet that it can be written, and say nothing.
        let _ = io::Write::write_all(&mut &stream, format!("-{NO_ROLE}\r\n").as_bytes());
        return;
    }
    let Ok(stream) = UnixStream::from_std(stream) else { return };
    let scope = scope.clone();
    tokio::task::spawn_local(async move {
        connection::serve(stream, scope, caller).await;
        drop(opened);
    });
}
