//! The services beside the regions: clients that claim, work, renew, complete, give up, lie and retry.
//!
//! Each client is a small state machine with dice of its own. Between them they do what services do
//! wrong: lose replies and ask again, ask in another region, work longer than their lease, come back as
//! zombies, send the same key with another payload, complete twice with different bytes.
//!
//! Must never: look into a region; a client knows what it was told.

use crate::oracle::ask::{Answer, Ask, TokenFact};
use crate::random::{Dice, Stream};
use crate::scenario::Scenario;

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

/// What a client does next.
#[derive(Clone, Debug)]
pub enum Step {
    /// Sends a request and waits for the reply.
    Send(Box<Sent>),
    /// Sleeps, microseconds.
    Sleep(u64),
}

/// What became of a request.
#[derive(Clone, Debug)]
pub enum Heard {
    /// The region's answer, and the token that came with it.
    Answer(Answer, Option<(TokenNumber, TokenFact)>),
    /// Nothing, for so long that the client gives up waiting.
    Nothing,
}

#[derive(Clone, Debug)]
struct Job {
    key: usize,
    fingerprint: Option<[u8; 16]>,
    claimant: Vec<u8>,
    lease_ms: u64,
    retention_ms: u64,
    tries: u32,
}

#[derive(Clone, Debug)]
struct Holding {
    token: TokenNumber,
    fact: TokenFact,
    key: usize,
    bytes: Vec<u8>,
    renewals: u64,
    tries: u32,
}

#[derive(Clone, Debug)]
enum Stage {
    Idle,
    Claiming(Job),
    Working(Holding),
    Completing(Holding),
    Releasing(Holding),
    Asking,
}

/// One client.
#[derive(Clone, Debug)]
pub struct Client {
    number: usize,
    home: usize,
    dice: Dice,
    stage: Stage,
    jobs: u64,
    zombie: Option<Holding>,
}

impl Client {
    /// Client `number` of the run.
    pub fn new(number: usize, scenario: &Scenario) -> Self {
        let dice = Dice::new(scenario.seed, Stream::Workload, number as u64);
        let home = number % scenario.regions;
        Self { number, home, dice, stage: Stage::Idle, jobs: 0, zombie: None }
    }

    /// The client's turn.
    pub fn act(&mut self, scenario: &Scenario) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => self.begin(scenario),
            Stage::Claiming(job) => self.claim(job, scenario),
            Stage::Working(holding) => self.work(holding, scenario),
            Stage::Completing(holding) => self.complete(holding, scenario),
            Stage::Releasing(holding) => self.release(holding, scenario),
            Stage::Asking => Step::Sleep(self.dice.between(1_000, 20_000)),
        }
    }

    /// What became of the last request; returns how long the client sleeps then, microseconds.
    pub fn hear(&mut self, heard: Heard, scenario: &Scenario) -> u64 {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Claiming(job) => self.claimed(job, heard, scenario),
            Stage::Working(holding) => self.renewed(holding, &heard, scenario),
            Stage::Completing(holding) => self.completed(holding, &heard),
            Stage::Releasing(holding) => {
                if matches!(heard, Heard::Nothing | Heard::Answer(Answer::Unavailable { .. }, _))
                    && holding.tries < 4
                {
                    self.stage = Stage::Releasing(holding);
                }
                self.pause()
            }
            Stage::Idle | Stage::Asking => self.pause(),
        }
    }

    fn pause(&mut self) -> u64 {
        self.dice.heavy(60_000)
    }

    fn region(&mut self, elsewhere: u64, scenario: &Scenario) -> usize {
        if self.dice.chance(elsewhere) {
            self.dice.below(scenario.sites() as u64) as usize
        } else {
            self.home
        }
    }

    fn send(&mut self, region: usize, key: usize, ask: Ask, token: Option<TokenNumber>) -> Step {
        let durable = self.dice.chance(50);
        Step::Send(Box::new(Sent { region, key, ask, token, durable }))
    }

    fn begin(&mut self, scenario: &Scenario) -> Step {
        if self.zombie.is_some() && self.dice.chance(300) {
            let zombie = self.zombie.take().expect("just seen");
            return if self.dice.chance(750) {
                self.complete(zombie, scenario)
            } else {
                self.release(zombie, scenario)
            };
        }
        let key = self.dice.below(scenario.keys.len() as u64) as usize;
        match self.dice.below(100) {
            0..=8 => {
                self.stage = Stage::Asking;
                let region = self.region(300, scenario);
                self.send(region, key, Ask::Get, None)
            }
            9 => {
                self.stage = Stage::Asking;
                let region = self.region(300, scenario);
                self.send(region, key, Ask::Forget, None)
            }
            _ => {
                let job = self.job(key, scenario);
                self.claim(job, scenario)
            }
        }
    }

    fn job(&mut self, key: usize, scenario: &Scenario) -> Job {
        self.jobs += 1;
        let namespace = &scenario.namespaces[scenario.namespace_of[key]];
        let other = self.dice.chance(40);
        // A key stands for one payload; a client in error sends another, or none.
        let fingerprint = match (key % 5, other) {
            (3, false) => None,
            (_, false) => Some([key as u8; 16]),
            (_, true) => Some([0xee; 16]),
        };
        let claimant = match self.dice.below(10) {
            0 => Vec::new(),
            1 => b"shared".to_vec(),
            _ => format!("client-{}-{}", self.number, self.jobs).into_bytes(),
        };
        let lease_ms = if self.dice.chance(200) {
            self.dice.between(10, namespace.lease_ms)
        } else {
            namespace.lease_ms
        };
        Job { key, fingerprint, claimant, lease_ms, retention_ms: namespace.retention_ms, tries: 0 }
    }

    fn claim(&mut self, mut job: Job, scenario: &Scenario) -> Step {
        job.tries += 1;
        let (key, lease, retention) = (job.key, job.lease_ms, job.retention_ms);
        let (fingerprint, claimant) = (job.fingerprint, job.claimant.clone());
        let wait = if self.dice.chance(200) { self.dice.between(1, 150) } else { 0 };
        let ask = Ask::Claim { fingerprint, claimant, lease, retention, wait };
        self.stage = Stage::Claiming(job);
        let region = self.region(150, scenario);
        self.send(region, key, ask, None)
    }

    fn claimed(&mut self, job: Job, heard: Heard, scenario: &Scenario) -> u64 {
        match heard {
            Heard::Answer(Answer::Granted { .. }, Some((token, fact))) => {
                let bytes = format!("result of {} by {}", self.jobs, self.number).into_bytes();
                let holding = Holding { token, fact, key: job.key, bytes, renewals: 0, tries: 0 };
                self.begin_work(holding, job.lease_ms, scenario)
            }
            Heard::Answer(Answer::InProgress | Answer::Unavailable { .. }, _) | Heard::Nothing
                if job.tries < 6 =>
            {
                self.stage = Stage::Claiming(job);
                self.dice.heavy(40_000)
            }
            _ => self.pause(),
        }
    }

    fn begin_work(&mut self, mut holding: Holding, lease_ms: u64, scenario: &Scenario) -> u64 {
        if self.dice.chance(60) {
            holding.fact.forged = true;
        }
        let lease_us = lease_ms * 1000;
        match self.dice.below(100) {
            0..=9 => {
                // Vanishes with the claim, perhaps to come back long after.
                self.zombie = Some(holding);
                self.pause()
            }
            10..=19 => {
                self.stage = Stage::Releasing(holding);
                self.dice.between(1_000, lease_us)
            }
            20..=39 => {
                holding.renewals = self.dice.between(1, 3);
                self.stage = Stage::Working(holding);
                self.dice.between(lease_us / 3, lease_us)
            }
            40..=49 => {
                self.stage = Stage::Completing(holding);
                lease_us + self.dice.heavy(scenario.max_drift_ms * 2_000)
            }
            _ => {
                self.stage = Stage::Completing(holding);
                self.dice.between(500, lease_us * 2 / 3)
            }
        }
    }

    fn work(&mut self, mut holding: Holding, scenario: &Scenario) -> Step {
        if holding.renewals == 0 {
            return self.complete(holding, scenario);
        }
        holding.renewals -= 1;
        let (key, token) = (holding.key, holding.token);
        let lease = scenario.namespaces[scenario.namespace_of[key]].lease_ms;
        let ask = Ask::Renew { token: holding.fact.clone(), lease };
        self.stage = Stage::Working(holding);
        let region = self.region(80, scenario);
        self.send(region, key, ask, Some(token))
    }

    fn renewed(&mut self, holding: Holding, heard: &Heard, scenario: &Scenario) -> u64 {
        let lease_us = scenario.namespaces[scenario.namespace_of[holding.key]].lease_ms * 1000;
        match heard {
            Heard::Answer(Answer::Superseded { .. } | Answer::Stale { .. }, _) if self.dice.chance(700) => {
                self.pause() // Told to stop, and stops.
            }
            _ => {
                self.stage = Stage::Working(holding);
                self.dice.between(lease_us / 4, lease_us)
            }
        }
    }

    fn complete(&mut self, mut holding: Holding, scenario: &Scenario) -> Step {
        holding.tries += 1;
        if holding.tries > 1 && self.dice.chance(60) {
            holding.bytes = format!("another result of {} by {}", self.jobs, self.number).into_bytes();
        }
        let (key, token) = (holding.key, holding.token);
        let ask = Ask::Complete { token: holding.fact.clone(), bytes: holding.bytes.clone() };
        self.stage = Stage::Completing(holding);
        let region = self.region(200, scenario);
        self.send(region, key, ask, Some(token))
    }

    fn completed(&mut self, holding: Holding, heard: &Heard) -> u64 {
        let unsure = matches!(heard, Heard::Nothing | Heard::Answer(Answer::Unavailable { .. }, _));
        if (unsure && holding.tries < 8) || (holding.tries < 3 && self.dice.chance(80)) {
            self.stage = Stage::Completing(holding);
            return self.dice.heavy(30_000);
        }
        self.pause()
    }

    fn release(&mut self, mut holding: Holding, scenario: &Scenario) -> Step {
        holding.tries += 1;
        let (key, token) = (holding.key, holding.token);
        let ask = Ask::Release { token: holding.fact.clone() };
        self.stage = Stage::Releasing(holding);
        let region = self.region(80, scenario);
        self.send(region, key, ask, Some(token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// A world in which everything is granted and completed, and every fourth reply is lost.
    #[test]
    fn clients_use_every_operation_and_repeat_themselves_exactly() {
        let scenario = Scenario::draw(3);
        let life = || {
            let mut client = Client::new(1, &scenario);
            let (mut kinds, mut log) = (BTreeSet::new(), Vec::new());
            for turn in 0..3000usize {
                let Step::Send(sent) = client.act(&scenario) else { continue };
                kinds.insert(match sent.ask {
                    Ask::Claim { .. } => "claim",
                    Ask::Complete { .. } => "complete",
                    Ask::Renew { .. } => "renew",
                    Ask::Release { .. } => "release",
                    Ask::Get => "get",
                    Ask::Forget => "forget",
                });
                log.push((sent.region, sent.key, sent.token));
                let heard = match &sent.ask {
                    _ if turn % 4 == 0 => Heard::Nothing,
                    Ask::Claim { fingerprint, .. } => {
                        let claim =
                            crate::oracle::facts::ClaimName { stamp: turn as u64, region: 1, incarnation: 1 };
                        let fact =
                            TokenFact { claim, fingerprint: *fingerprint, expires_at: 0, forged: false };
                        let answer = Answer::Granted { claim, lease_until: 0, expires_at: 0 };
                        Heard::Answer(answer, Some((turn, fact)))
                    }
                    _ => Heard::Answer(Answer::Completed, None),
                };
                client.hear(heard, &scenario);
            }
            (kinds, log)
        };
        let (kinds, log) = life();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert_eq!(life().1, log);
    }
}
