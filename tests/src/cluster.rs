//! Daemons under test: started, killed, stopped, cut off from each other, and cleaned up whatever happens.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use daemon::resp::{Client, Value};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::build;
use crate::links::Links;
use crate::setup::{NAMES, Setup};
use crate::wait::{LIMIT, until};
use crate::words::field;

/// Lines of a daemon's log that are shown when a test fails.
const LOG_LINES_SHOWN: usize = 40;

/// Some regions, called by their index: on loopback, or each in a network of its own.
#[derive(Debug)]
pub struct Cluster {
    setup: Setup,
    children: Vec<Option<Child>>,
    ports: Vec<u16>,
    /// What joins them, if it is not loopback. Goes after the daemons have ended.
    links: Option<Links>,
    folder: TempDir,
}

impl Cluster {
    /// Writes everything and starts nothing.
    pub fn prepare(setup: Setup) -> Self {
        let ports = free_ports(setup.regions);
        let folder = temporary_folder();
        setup.write(folder.path(), &|_, of| (Ipv4Addr::LOCALHOST, ports[of]).into());
        let children = (0..setup.regions).map(|_| None).collect();
        Self { setup, children, ports, links: None, folder }
    }

    /// As [`Cluster::start`], each region in its own network namespace.
    pub fn start_over(links: Links, setup: Setup) -> Self {
        let folder = temporary_folder();
        setup.write(folder.path(), &|at, of| links.address(at, of));
        let children = (0..setup.regions).map(|_| None).collect();
        let ports = (0..setup.regions).map(|at| links.address(at, at).port()).collect();
        Self { setup, children, ports, links: Some(links), folder }.up()
    }

    /// Starts all regions, each ready for claims and, without a misfit, linked to all others.
    pub fn start(setup: Setup) -> Self {
        Self::prepare(setup).up()
    }

    fn up(mut self) -> Self {
        (0..self.setup.regions).for_each(|at| self.spawn(at));
        (0..self.setup.regions).for_each(|at| self.wait_ready(at));
        if self.setup.misfit.is_none() {
            self.wait_linked();
        }
        self
    }

    /// One region without peers, at `durable`.
    pub fn alone(durable: &'static str) -> Self {
        Self::start(Setup { durable, ..Setup::regions(1) })
    }

    /// Starts the daemon of a region, without waiting for anything.
    pub fn spawn(&mut self, at: usize) {
        let misfit = (0..self.children.len()).any(|at| self.setup.misfit(at).is_some());
        self.spawn_with(at, |command| {
            if misfit {
                // No peer will ever take it in, and the others will never have met all: none must wait for that.
                command.arg("--alone");
            }
        });
    }

    /// Starts the daemon of a region with what `adapt` adds to its command, without waiting for anything.
    pub fn spawn_with(&mut self, at: usize, adapt: impl FnOnce(&mut Command)) {
        assert!(self.children[at].is_none(), "{} runs already", NAMES[at]);
        let mut command = self.command(at);
        adapt(&mut command);
        self.children[at] = Some(command.spawn().expect("the daemon can be started"));
    }

    /// How the daemon of a region is started; its log goes to a file.
    pub fn command(&self, at: usize) -> Command {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log_file(at));
        let log = log.expect("the log can be written");
        let mut command = match &self.links {
            Some(links) => links.command(at, build::onced()),
            None => Command::new(build::onced()),
        };
        command.arg("serve").arg("--config").arg(self.own(at).join("onced.toml"));
        // A group of its own: Ctrl-C on the tests leaves the clean-up to this harness.
        command.env("ONCED_LOG", "info").process_group(0).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        command
    }

    /// Runs `onced` with the configuration and socket of a region; `answer` is what it reads.
    pub fn onced(&self, at: usize, args: &[&str], answer: &str) -> Output {
        use std::io::Write as _;
        let mut command = Command::new(build::onced());
        command.args(args).env("ONCED_CONFIG", self.own(at).join("onced.toml"));
        command.env("ONCED_SOCKET", self.socket(at));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("onced can be started");
        // It may end without having read it.
        let _ = child.stdin.take().expect("piped").write_all(answer.as_bytes());
        child.wait_with_output().expect("onced can be waited for")
    }

    /// Starts the daemon of a region again and waits until it is ready.
    pub fn restart(&mut self, at: usize) {
        self.spawn(at);
        self.wait_ready(at);
    }

    /// Waits until a region answers claims.
    pub fn wait_ready(&mut self, at: usize) {
        until(&format!("{} is ready", NAMES[at]), || {
            if let Some(status) = self.ended(at) {
                panic!("{} ended while it started: {status}", NAMES[at]);
            }
            let Ok(mut client) = Client::connect(self.socket(at), LIMIT) else { return false };
            let Ok(reply) = client.call(&[b"STATUS"]) else { return false };
            reply.field("ready").and_then(Value::as_bool) == Some(true)
        });
    }

    /// Waits until a region answers at all, whether it grants claims or not.
    pub fn wait_answering(&mut self, at: usize) {
        until(&format!("{} answers", NAMES[at]), || {
            if let Some(status) = self.ended(at) {
                panic!("{} ended while it started: {status}", NAMES[at]);
            }
            let Ok(mut client) = Client::connect(self.socket(at), LIMIT) else { return false };
            client.call(&[b"STATUS"]).is_ok()
        });
    }

    /// Waits until every running region is linked to every other.
    pub fn wait_linked(&self) {
        let running: Vec<_> = (0..self.setup.regions).filter(|at| self.children[*at].is_some()).collect();
        for at in &running {
            let mut client = self.client(*at);
            until(&format!("{} is linked to all", NAMES[*at]), || {
                let states = peers(&mut client);
                let others = states.iter().filter(|(name, _)| running.iter().any(|r| NAMES[*r] == *name));
                others.filter(|(_, peer)| field(peer, "state") == "linked").count() == running.len() - 1
            });
        }
    }

    /// A new connection that speaks RESP3.
    pub fn client(&self, at: usize) -> Client {
        let mut client = self.client2(at);
        client.hello3().expect("HELLO 3 is answered");
        client
    }

    /// A new connection that speaks RESP2.
    pub fn client2(&self, at: usize) -> Client {
        let client = Client::connect(self.socket(at), LIMIT);
        client.unwrap_or_else(|error| panic!("{} does not take a connection: {error}", NAMES[at]))
    }

    /// One command on a connection of its own.
    pub fn call(&self, at: usize, words: &[&[u8]]) -> Value {
        let reply = self.client(at).call(words);
        reply.unwrap_or_else(|error| panic!("{} does not answer: {error}", NAMES[at]))
    }

    /// SIGKILL; true if it was still running.
    pub fn kill(&mut self, at: usize) -> bool {
        let Some(mut child) = self.children[at].take() else { return false };
        let running = matches!(child.try_wait(), Ok(None));
        child.kill().expect("a child that was not waited for can be killed");
        child.wait().expect("a child can be waited for");
        running
    }

    /// SIGTERM, without waiting.
    pub fn terminate(&self, at: usize) {
        self.signal(at, Signal::TERM);
    }

    /// SIGHUP: reload the configuration; without waiting.
    pub fn hang_up(&self, at: usize) {
        self.signal(at, Signal::HUP);
    }

    fn signal(&self, at: usize, signal: Signal) {
        let pid = i32::try_from(self.pid(at)).ok().and_then(Pid::from_raw).expect("a process has a number");
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    /// The process number of a running region.
    pub fn pid(&self, at: usize) -> u32 {
        self.children[at].as_ref().expect("it runs").id()
    }

    /// Waits for a region's own end.
    pub fn wait_end(&mut self, at: usize) -> ExitStatus {
        let mut status = None;
        until(&format!("{} ends", NAMES[at]), || {
            status = self.ended(at);
            status.is_some()
        });
        self.children[at] = None;
        status.expect("the condition was met")
    }

    /// How a region has ended, if it has.
    pub fn ended(&mut self, at: usize) -> Option<ExitStatus> {
        self.children[at].as_mut()?.try_wait().expect("a child can be asked")
    }

    /// Stops all traffic between two regions, on both sides.
    pub fn cut(&self, one: usize, other: usize) {
        self.set_cut(one, other, b"CUT");
        until("the link is down on both sides", || {
            self.peer(one, other, "state") == "cut" && self.peer(other, one, "state") == "cut"
        });
    }

    /// Lets traffic pass again; waits for nothing.
    pub fn heal(&self, one: usize, other: usize) {
        self.set_cut(one, other, b"HEAL");
    }

    fn set_cut(&self, one: usize, other: usize, verb: &[u8]) {
        for (at, peer) in [(one, other), (other, one)] {
            let reply = self.call(at, &[b"PEER", verb, NAMES[peer].as_bytes()]);
            assert_eq!(field(&reply, "status"), "OK");
        }
    }

    /// A field of what PEERS says at `at` of `other`.
    pub fn peer(&self, at: usize, other: usize, name: &str) -> String {
        let all = peers(&mut self.client(at));
        let row = all.iter().find(|(region, _)| region == NAMES[other]);
        field(&row.unwrap_or_else(|| panic!("{} has no such peer", NAMES[at])).1, name)
    }

    /// Waits until all running regions have the same digest; that digest.
    pub fn agree(&self) -> String {
        let running = (0..self.setup.regions).filter(|at| self.children[*at].is_some());
        let mut clients: Vec<_> = running.map(|at| self.client(at)).collect();
        let mut digest = String::new();
        until("all regions hold the same state", || {
            let digests: Vec<_> = clients.iter_mut().map(digest_of).collect();
            digest.clone_from(&digests[0]);
            digests.iter().all(|other| *other == digest)
        });
        digest
    }

    /// A region's digest of its whole state.
    pub fn digest(&self, at: usize) -> String {
        digest_of(&mut self.client(at))
    }

    /// The links of a cluster that was started over some.
    ///
    /// # Panics
    /// It is on loopback.
    pub fn links(&self) -> &Links {
        self.links.as_ref().expect("the cluster was started over links")
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.setup.regions
    }

    /// A region's folder.
    pub fn own(&self, at: usize) -> PathBuf {
        self.folder.path().join(NAMES[at])
    }

    /// A region's socket.
    pub fn socket(&self, at: usize) -> PathBuf {
        self.own(at).join("onced.sock")
    }

    /// A region's UDP port.
    pub fn port(&self, at: usize) -> u16 {
        self.ports[at]
    }

    /// What a region has logged so far.
    pub fn log(&self, at: usize) -> String {
        std::fs::read_to_string(self.log_file(at)).unwrap_or_default()
    }

    fn log_file(&self, at: usize) -> PathBuf {
        self.own(at).join("log.txt")
    }

    /// Everything is below it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // Errors say that it has ended, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for (at, name) in NAMES.iter().enumerate().take(self.setup.regions) {
                let log = self.log(at);
                let lines: Vec<_> = log.lines().collect();
                let shown = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
                eprintln!("--- the end of {name}'s log:\n{shown}");
            }
        }
    }
}

/// What PEERS says, by region.
pub fn peers(client: &mut Client) -> Vec<(String, Value)> {
    let reply = client.call(&[b"PEERS"]).expect("PEERS is answered");
    let rows = reply.field("peers").and_then(Value::as_array).expect("PEERS lists peers").to_vec();
    rows.into_iter().map(|row| (field(&row, "region"), row)).collect()
}

fn digest_of(client: &mut Client) -> String {
    field(&client.call(&[b"STATUS", b"DIGEST"]).expect("STATUS is answered"), "digest")
}

fn temporary_folder() -> TempDir {
    tempfile::Builder::new().prefix("onced-test-").tempdir().expect("a temporary folder")
}

/// UDP ports that nobody uses at this moment, held together so that they differ.
fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<_> = (0..count).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a free port")).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("a bound socket has an address").port()).collect()
}

/// A pause that is part of a fault (the moment of a crash), never a wait for an effect.
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
