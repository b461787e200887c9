//! From a parsed command to its answer: who may, what it means, what it must wait for.

use crdt::decide::Proposal;
use crdt::ids::{self, RegionId};
use crdt::policy::Fallback;
use crdt::request::{BadRequest, Claim, Reply, Request};
use crdt::store::{Look, Ran, Release, Scratch, Ticket, version_key};
use crdt::wire::Carried;

use super::args::{self, BadArgs, is};
use super::live::Live;
use super::server::Shared;
use super::session::{Handled, Session};
use super::{digest, losers, reply, show};
use crate::config::{Grants, Role};
use crate::metrics::ReplyCounts;
use crate::resp::encode::Encoder;

/// What a command leaves to its connection.
#[derive(Debug)]
pub enum Done {
    /// Answered; the answer may leave when the release is reached.
    Answered(Release),
    /// Parked on its key under the caller's ticket, for so long at most.
    Parked {
        /// The key.
        key: Vec<u8>,
        /// As asked, in milliseconds.
        wait_ms: u64,
    },
    /// Parked until a loser arrives, for so long at most, in milliseconds.
    Feeding(u64),
    /// Once the release is reached, a majority of the regions is to hold this; then the command runs again.
    Asks {
        /// The key.
        key: Vec<u8>,
        /// What is to be held.
        proposal: Proposal,
        /// What is to be synced here first.
        release: Release,
    },
    /// That region decides: it is to be asked, then the command runs again.
    Forwards {
        /// Which.
        home: RegionId,
        /// What it is asked.
        request: Carried,
    },
    /// Answered; close once it is out.
    Close,
    /// The mesh must be asked, and then answers.
    Mesh(MeshCommand),
    /// The configuration is to be read again.
    Reload,
}

/// What an operation leaves to its connection.
fn done(shared: &Shared, ran: Result<Ran, BadRequest>, request: &Request<'_>, out: &mut Encoder<'_>) -> Done {
    match ran {
        Ok(Ran::Replied(release)) => Done::Answered(release),
        Ok(Ran::Parked) => {
            let wait_ms = if let Request::Claim(claim) = request { claim.wait_ms } else { 0 };
            Done::Parked { key: request.key().to_vec(), wait_ms }
        }
        Ok(Ran::Asks(proposal, release)) => Done::Asks { key: request.key().to_vec(), proposal, release },
        Ok(Ran::Forwards(home)) => match Carried::of(request) {
            Some(request) => Done::Forwards { home, request },
            None => Done::Close,
        },
        Err(bad) => {
            shared.metrics.bad_requests.increment(1);
            let code = if matches!(bad, BadRequest::Outcome { .. }) { "TOOBIG" } else { "BADARG" };
            out.error(format_args!("{code} {bad}"));
            Done::Answered(Release::default())
        }
    }
}

/// What only the mesh thread can say or do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MeshCommand {
    /// PEERS
    Peers,
    /// PEER CUT, PEER HEAL
    SetCut(RegionId, bool),
}

/// One connection's view of the daemon while it runs commands.
#[derive(Debug)]
pub struct Caller<'c> {
    /// The daemon.
    pub shared: &'c Shared,
    /// What reloads change.
    pub live: &'c Live,
    /// What the caller may do.
    pub grants: &'c Grants,
    /// What the connection has said of itself.
    pub session: &'c mut Session,
    /// The thread's buffers.
    pub scratch: &'c mut Scratch,
    /// Replies not yet in the metrics.
    pub replies: &'c mut ReplyCounts,
    /// The wall clock as of this read, Unix milliseconds.
    pub wall_ms: u64,
    /// Under which a claim with WAIT may park.
    pub ticket: Option<Ticket>,
    /// With what the command comes: when it runs again, what came of asking other regions.
    pub look: Look,
}

impl Caller<'_> {
    /// Runs one command, its answer appended to `out`.
    pub fn run(&mut self, args: &[&[u8]], out: &mut Encoder<'_>) -> Done {
        let Some(&command) = args.first() else { return Done::Answered(Release::default()) };
        // The hot ones first.
        let result = if is(command, b"CLAIM") {
            self.operation(Role::Claim, args::claim(args), out)
        } else if is(command, b"COMPLETE") {
            self.operation(Role::Claim, args::complete(args), out)
        } else if is(command, b"GET") {
            self.operation(
                Role::Read,
                args::one_key(args, "GET", "GET key").map(|key| Request::Get { key }),
                out,
            )
        } else if is(command, b"RENEW") {
            self.operation(Role::Claim, args::renew(args), out)
        } else if is(command, b"RELEASE") {
            self.operation(Role::Claim, args::release(args), out)
        } else {
            self.rare(command, args, out)
        };
        result.unwrap_or_else(|bad| {
            self.shared.metrics.bad_requests.increment(1);
            out.error(format_args!("BADARG {bad}"));
            Done::Answered(Release::default())
        })
    }

    fn operation(
        &mut self,
        role: Role,
        request: Result<Request<'_>, BadArgs>,
        out: &mut Encoder<'_>,
    ) -> Result<Done, BadArgs> {
        let request = request?;
        if self.refused(role, self.grants.role(ids::namespace(request.key())), out) {
            return Ok(Done::Answered(Release::default()));
        }
        let (shared, names) = (self.shared, &self.live.names);
        let replies = &mut *self.replies;
        let (store, look) = (&shared.driver.store, self.look);
        if look == Look::Answered(None) {
            let falls_back = store.policies().of_key(request.key()).fallback == Fallback::Local;
            shared.metrics.forwards_unanswered(falls_back).increment(1);
        }
        let emit = |answer: &Reply<'_>| {
            replies.count(answer);
            reply::encode(answer, names, out);
        };
        let ran = store.look(&request, look, self.wall_ms, self.ticket, self.scratch, emit);
        Ok(done(shared, ran, &request, out))
    }

    /// ADVANCE: as [`Self::operation`], of the version's own key.
    fn advance(&mut self, args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Done, BadArgs> {
        let (claim, from) = args::advance(args)?;
        if self.refused(Role::Claim, self.grants.role(ids::namespace(claim.key)), out) {
            return Ok(Done::Answered(Release::default()));
        }
        let (shared, names) = (self.shared, &self.live.names);
        let replies = &mut *self.replies;
        let emit = |answer: &Reply<'_>| {
            replies.count(answer);
            reply::encode(answer, names, out);
        };
        let at = (self.wall_ms, self.ticket);
        let ran = shared.driver.store.advance(&claim, from, self.look, at, self.scratch, emit);
        let key = version_key(claim.key, from + 1);
        Ok(done(shared, ran, &Request::Claim(Claim { key: &key, ..claim }), out))
    }

    fn rare(&mut self, command: &[u8], args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Done, BadArgs> {
        let (shared, live, names) = (self.shared, self.live, &self.live.names);
        // It may show them.
        self.replies.add_to(&shared.metrics);
        match self.session.handle(args, out, || shared.info()) {
            Handled::Yes => return Ok(Done::Answered(Release::default())),
            Handled::Close => return Ok(Done::Close),
            Handled::No => {}
        }
        if is(command, b"FORGET") {
            let key = args::one_key(args, "FORGET", "FORGET key")?;
            return self.operation(Role::Admin, Ok(Request::Forget { key }), out);
        }
        if is(command, b"ADVANCE") {
            return self.advance(args, out);
        }
        if is(command, b"TOKEN") {
            return self.token(args, out);
        }
        if is(command, b"RESOLVE") {
            return self.operation(Role::Admin, args::resolve(args), out);
        }
        if is(command, b"INSPECT") {
            let key = args::one_key(args, "INSPECT", "INSPECT key")?;
            let held = self.grants.role(ids::namespace(key));
            return self.look(held, out, |out| show::inspect(shared, names, args, out));
        }
        if is(command, b"SCAN") {
            // A prefix with its colon lies within one namespace; anything else may touch all of them.
            let prefix = show::scan_prefix(args);
            let within = prefix.contains(&b':');
            let held =
                if within { self.grants.role(ids::namespace(prefix)) } else { self.grants.everywhere() };
            return self.look(held, out, |out| show::scan(shared, names, args, out));
        }
        let everywhere = self.grants.everywhere();
        if is(command, b"CONFLICTS") {
            return self.conflicts(args, out);
        }
        if is(command, b"COMPENSATE") {
            let ask = losers::compensation(args)?;
            if self.refused(Role::Claim, self.grants.role(ids::namespace(ask.key)), out) {
                return Ok(Done::Answered(Release::default()));
            }
            return losers::compensate(shared, names, &ask, out).map(Done::Answered);
        }
        if is(command, b"STATUS") {
            return self.look(everywhere, out, |out| show::status(shared, live, args, out));
        }
        if is(command, b"DIGEST") {
            return self.look(everywhere, out, |out| digest::digest(shared, args, out));
        }
        if is(command, b"PEERS") {
            if self.refused(Role::Read, everywhere, out) {
                return Ok(Done::Answered(Release::default()));
            }
            return Ok(Done::Mesh(MeshCommand::Peers));
        }
        if is(command, b"PEER") {
            return self.peer(args, out);
        }
        if is(command, b"RELOAD") {
            if self.refused(Role::Admin, everywhere, out) {
                return Ok(Done::Answered(Release::default()));
            }
            let [_] = args else { return Err(BadArgs::Usage { command: "RELOAD", usage: "RELOAD" }) };
            return Ok(Done::Reload);
        }
        out.unknown_command(args);
        Ok(Done::Answered(Release::default()))
    }

    /// S4.9: a fresh key of a namespace.
    fn token(&self, args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Done, BadArgs> {
        let namespace = args::namespace(args)?;
        if self.refused(Role::Claim, self.grants.role(namespace), out) {
            return Ok(Done::Answered(Release::default()));
        }
        match self.shared.driver.store.issue_key(namespace, self.wall_ms) {
            Ok(key) => {
                out.map(2);
                out.field_status("ISSUED");
                out.field_bulk("key", &key);
            }
            Err(reason) => {
                let retry_after_ms = crdt::limits::RETRY_AFTER_MS_DEFAULT;
                reply::encode(&Reply::Unavailable { reason, retry_after_ms }, &self.live.names, out);
            }
        }
        Ok(Done::Answered(Release::default()))
    }

    fn conflicts(&self, args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Done, BadArgs> {
        let (shared, names) = (self.shared, &self.live.names);
        let ask = losers::conflicts_ask(args, names)?;
        // Of one namespace: for whoever may read that; else of all.
        let held = ask.namespace().map_or_else(|| self.grants.everywhere(), |ns| self.grants.role(ns));
        if self.refused(Role::Read, held, out) {
            return Ok(Done::Answered(Release::default()));
        }
        Ok(losers::conflicts(shared, names, &ask, self.ticket, out))
    }

    fn look(
        &self,
        held: Option<Role>,
        out: &mut Encoder<'_>,
        look: impl FnOnce(&mut Encoder<'_>) -> Result<Release, BadArgs>,
    ) -> Result<Done, BadArgs> {
        if self.refused(Role::Read, held, out) {
            return Ok(Done::Answered(Release::default()));
        }
        look(out).map(Done::Answered)
    }

    fn peer(&self, args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Done, BadArgs> {
        const USAGE: &str = "PEER CUT region, or PEER HEAL region";
        if self.refused(Role::Admin, self.grants.everywhere(), out) {
            return Ok(Done::Answered(Release::default()));
        }
        let [_, verb, name] = args else { return Err(BadArgs::Usage { command: "PEER", usage: USAGE }) };
        let cut = if is(verb, b"CUT") {
            true
        } else if is(verb, b"HEAL") {
            false
        } else {
            return Err(BadArgs::Option { word: args::shown(verb), command: "PEER", usage: USAGE });
        };
        let peer = self.live.names.by_name(name).filter(|region| self.live.peers.contains(region));
        let Some(region) = peer else {
            let name = args::shown(name);
            return Err(BadArgs::Option {
                word: name,
                command: "PEER",
                usage: "the name of a [[peer]], see PEERS",
            });
        };
        Ok(Done::Mesh(MeshCommand::SetCut(region, cut)))
    }

    /// Answers NOPERM unless `held` covers `needed`.
    fn refused(&self, needed: Role, held: Option<Role>, out: &mut Encoder<'_>) -> bool {
        if held >= Some(needed) {
            return false;
        }
        self.shared.metrics.refused.increment(1);
        out.error(format_args!(
            "NOPERM this needs the role {needed:?} here; an [[access]] rule for your uid or gid grants it"
        ));
        true
    }
}
