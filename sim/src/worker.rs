//! A service that does one [`Job`]: claims, works, renews, completes, gives up, lies and retries.
//!
//! A small state machine with dice of its own. What it does when a reply is lost, a region is not to be had or a claim
//! is refused is what good and bad services do: ask again, ask in another region, complete twice with different bytes.
//!
//! Must never: look into a region; a service knows what it was told.

use crate::oracle::ask::{Answer, Ask, TokenFact};
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;
use crate::workload::{Claimant, Course, Job, Payload, Then};

/// A token, by its number in the world's list.
pub type TokenNumber = usize;

/// A request on its way.
#[derive(Clone, Debug)]
pub struct Sent {
    /// To which region, by index.
    pub region: usize,
    /// About which key.
    pub key: usize,
    /// What is asked.
    pub ask: Ask,
    /// The token it presents.
    pub token: Option<TokenNumber>,
    /// The word DURABLE.
    pub durable: bool,
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The region's answer, and the token that came with it.
    Answer(Answer, Option<(TokenNumber, TokenFact)>),
    /// Nothing, for so long that the service gives up waiting.
    Nothing,
}

/// A service that was refused asks again after about this, microseconds.
const REFUSED_US: u64 = 200_000;

#[derive(Clone, Debug)]
struct Holding {
    token: TokenNumber,
    fact: TokenFact,
    bytes: Vec<u8>,
    renewals: u32,
    tries: u32,
}

#[derive(Clone, Debug)]
enum Stage {
    /// Claims, for the so-manieth time.
    Claiming(u32),
    Working(Holding),
    Completing(Holding),
    Releasing(Holding),
    Asking(Ask),
    Done,
}

/// One service at its job.
#[derive(Clone, Debug)]
pub struct Worker {
    job: Job,
    dice: Dice,
    stage: Stage,
}

impl Worker {
    /// Begins `job`.
    pub fn new(job: Job, seed: u64) -> Self {
        let dice = Dice::new(seed, Stream::Job, u64::from(job.number));
        let stage = match job.course {
            Course::Get => Stage::Asking(Ask::Get),
            Course::Forget => Stage::Asking(Ask::Forget),
            Course::Claim { .. } => Stage::Claiming(0),
        };
        Self { job, dice, stage }
    }

    /// The draws that decide what becomes of its requests on their way.
    pub const fn dice(&mut self) -> &mut Dice {
        &mut self.dice
    }

    /// Its next request; `None`: the job is done.
    pub fn act(&mut self, scenario: &Scenario) -> Option<Sent> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Claiming(tries) => Some(self.claim(tries, scenario)),
            Stage::Working(holding) => Some(self.work(holding, scenario)),
            Stage::Completing(holding) => Some(self.complete(holding, scenario)),
            Stage::Releasing(holding) => Some(self.release(holding, scenario)),
            Stage::Asking(ask) => {
                let region = self.region(scenario.habits.looks_elsewhere, scenario);
                Some(self.send(region, ask, None, scenario.habits.durable))
            }
            Stage::Done => None,
        }
    }

    /// What became of the last request; returns how long the service sleeps then, microseconds, or `None` when the job is
    /// done.
    pub fn hear(&mut self, heard: Heard, scenario: &Scenario) -> Option<u64> {
        match std::mem::replace(&mut self.stage, Stage::Done) {
            Stage::Claiming(tries) => self.claimed(tries, heard, scenario),
            Stage::Working(holding) => self.renewed(holding, &heard, scenario),
            Stage::Completing(holding) => self.completed(holding, &heard, scenario),
            Stage::Releasing(holding) => {
                let unsure = matches!(heard, Heard::Nothing | Heard::Answer(Answer::Unavailable { .. }, _));
                (unsure && holding.tries < 4).then(|| {
                    self.stage = Stage::Releasing(holding);
                    self.dice.heavy(60_000)
                })
            }
            Stage::Asking(_) | Stage::Done => None,
        }
    }

    fn region(&mut self, elsewhere: u64, scenario: &Scenario) -> usize {
        if self.dice.chance(elsewhere) {
            self.dice.below(scenario.sites() as u64) as usize
        } else {
            self.job.home
        }
    }

    fn send(&mut self, region: usize, ask: Ask, token: Option<TokenNumber>, durable: u64) -> Sent {
        let durable = self.dice.chance(durable);
        Sent { region, key: self.job.key, ask, token, durable }
    }

    fn claim(&mut self, tries: u32, scenario: &Scenario) -> Sent {
        let habits = scenario.habits;
        self.stage = Stage::Claiming(tries + 1);
        let Course::Claim { payload, claimant, lease_ms, .. } = self.job.course else {
            return self.send(self.job.home, Ask::Get, None, scenario.habits.durable);
        };
        let fingerprint = match payload {
            Payload::Unsaid => None,
            Payload::Same => Some([self.job.key as u8; 16]),
            Payload::Other => Some([0xee; 16]),
        };
        let claimant = match claimant {
            Claimant::Unnamed => Vec::new(),
            Claimant::Shared => b"shared".to_vec(),
            Claimant::Own => format!("job-{}", self.job.number).into_bytes(),
        };
        let wait = if self.dice.chance(habits.waits) { self.dice.between(1, 150) } else { 0 };
        let retention = scenario.namespaces[scenario.namespace_of[self.job.key]].retention_ms;
        let ask = Ask::Claim { fingerprint, claimant, lease: lease_ms, retention, wait };
        let region = self.region(habits.claims_elsewhere, scenario);
        self.send(region, ask, None, habits.durable)
    }

    fn claimed(&mut self, tries: u32, heard: Heard, scenario: &Scenario) -> Option<u64> {
        match heard {
            Heard::Answer(Answer::Granted { .. }, Some((token, fact))) => {
                let bytes = format!("result of {}", self.job.number).into_bytes();
                let holding = Holding { token, fact, bytes, renewals: 0, tries: 0 };
                self.begin_work(holding, scenario)
            }
            Heard::Answer(Answer::InProgress | Answer::Unavailable { .. }, _) | Heard::Nothing
                if tries < scenario.habits.claims_max =>
            {
                self.stage = Stage::Claiming(tries);
                let refused = matches!(heard, Heard::Answer(Answer::Unavailable { .. }, _));
                Some(self.dice.heavy(if refused { REFUSED_US } else { scenario.habits.retry_us }))
            }
            // Somebody looks what became of it, and says so; sometimes wrongly.
            Heard::Answer(Answer::Unknown, _) if self.dice.chance(scenario.habits.resolves) => {
                let done = format!("found out by {}", self.job.number).into_bytes();
                let bytes = self.dice.chance(500).then_some(done);
                self.stage = Stage::Asking(Ask::Resolve { bytes });
                Some(self.dice.heavy(scenario.habits.retry_us))
            }
            _ => None,
        }
    }

    fn begin_work(&mut self, mut holding: Holding, scenario: &Scenario) -> Option<u64> {
        let Course::Claim { then, lease_ms, .. } = self.job.course else { return None };
        if self.dice.chance(scenario.habits.forged) {
            holding.fact.forged = true;
        }
        let (stage, sleep_us) = match then {
            Then::Vanish => return None,
            Then::Release(after_us) | Then::ReleaseLate(after_us) => (Stage::Releasing(holding), after_us),
            Then::Complete(after_us) | Then::CompleteLate(after_us) => (Stage::Completing(holding), after_us),
            Then::Renew(times) => {
                holding.renewals = times;
                let lease_us = lease_ms * 1000;
                (Stage::Working(holding), self.dice.between(lease_us / 3, lease_us))
            }
        };
        self.stage = stage;
        Some(sleep_us)
    }

    fn work(&mut self, mut holding: Holding, scenario: &Scenario) -> Sent {
        if holding.renewals == 0 {
            return self.complete(holding, scenario);
        }
        holding.renewals -= 1;
        let token = holding.token;
        let lease = scenario.namespaces[scenario.namespace_of[self.job.key]].lease_ms;
        let ask = Ask::Renew { token: holding.fact.clone(), lease };
        self.stage = Stage::Working(holding);
        let region = self.region(scenario.habits.renews_elsewhere, scenario);
        self.send(region, ask, Some(token), scenario.habits.durable)
    }

    fn renewed(&mut self, holding: Holding, heard: &Heard, scenario: &Scenario) -> Option<u64> {
        let lease_us = scenario.namespaces[scenario.namespace_of[self.job.key]].lease_ms * 1000;
        let told_to_stop =
            matches!(heard, Heard::Answer(Answer::Superseded { .. } | Answer::Stale { .. }, _));
        if told_to_stop && self.dice.chance(700) {
            return None;
        }
        self.stage = Stage::Working(holding);
        Some(self.dice.between(lease_us / 4, lease_us))
    }

    fn complete(&mut self, mut holding: Holding, scenario: &Scenario) -> Sent {
        holding.tries += 1;
        if holding.tries > 1 && self.dice.chance(scenario.habits.other_outcome) {
            holding.bytes = format!("another result of {}", self.job.number).into_bytes();
        }
        let token = holding.token;
        let ask = Ask::Complete { token: holding.fact.clone(), bytes: holding.bytes.clone() };
        self.stage = Stage::Completing(holding);
        let region = self.region(scenario.habits.completes_elsewhere, scenario);
        self.send(region, ask, Some(token), scenario.habits.durable)
    }

    fn completed(&mut self, holding: Holding, heard: &Heard, scenario: &Scenario) -> Option<u64> {
        let unsure = matches!(heard, Heard::Nothing | Heard::Answer(Answer::Unavailable { .. }, _));
        let again = (unsure && holding.tries < 8)
            || (holding.tries < 3 && self.dice.chance(scenario.habits.completes_again));
        again.then(|| {
            self.stage = Stage::Completing(holding);
            let refused = matches!(heard, Heard::Answer(Answer::Unavailable { .. }, _));
            self.dice.heavy(if refused { REFUSED_US } else { 30_000 })
        })
    }

    fn release(&mut self, mut holding: Holding, scenario: &Scenario) -> Sent {
        holding.tries += 1;
        let token = holding.token;
        let ask = Ask::Release { token: holding.fact.clone() };
        self.stage = Stage::Releasing(holding);
        let region = self.region(scenario.habits.renews_elsewhere, scenario);
        self.send(region, ask, Some(token), scenario.habits.durable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload;
    use std::collections::BTreeSet;

    /// A world in which everything is granted and completed, and every fourth reply is lost.
    #[test]
    fn workers_use_every_operation_and_repeat_themselves_exactly() {
        let scenario = Scenario::draw(3);
        let life = || {
            let (mut kinds, mut log, mut turn) = (BTreeSet::new(), Vec::new(), 0usize);
            for job in workload::draw(&scenario) {
                let mut worker = Worker::new(job, scenario.seed);
                while let Some(sent) = worker.act(&scenario) {
                    turn += 1;
                    kinds.insert(match sent.ask {
                        Ask::Claim { .. } => "claim",
                        Ask::Complete { .. } => "complete",
                        Ask::Renew { .. } => "renew",
                        Ask::Release { .. } => "release",
                        Ask::Get => "get",
                        Ask::Forget => "forget",
                        Ask::Resolve { .. } => "resolve",
                    });
                    log.push((sent.region, sent.key, sent.token));
                    worker.hear(reply(&sent.ask, turn), &scenario);
                }
            }
            (kinds, log)
        };
        let (kinds, log) = life();
        assert_eq!(kinds.len(), 7, "{kinds:?}");
        assert_eq!(life().1, log);
    }

    fn reply(ask: &Ask, turn: usize) -> Heard {
        match ask {
            _ if turn.is_multiple_of(4) => Heard::Nothing,
            Ask::Claim { .. } if turn.is_multiple_of(7) => Heard::Answer(Answer::Unknown, None),
            Ask::Claim { fingerprint, .. } => {
                let claim = crate::oracle::facts::ClaimName { stamp: turn as u64, region: 1, incarnation: 1 };
                let fact = TokenFact { claim, fingerprint: *fingerprint, expires_at: 0, forged: false };
                let answer = Answer::Granted { claim, lease_until: 0, expires_at: 0 };
                Heard::Answer(answer, Some((turn, fact)))
            }
            _ => Heard::Answer(Answer::Completed, None),
        }
    }
}
