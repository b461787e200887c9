//! Moments as sentences.
//!
//! Must never: say more than the moment does. What follows from it is for the reader.

use super::moment::{Answered, Arrived, Carry, Degree, Fate, Moment, PartNote, PartState, Sent, What};
use super::names::{Names, clock};
use super::record::Record;
use crate::oracle::facts::{Key, View};
use crate::oracle::winner::{Verdict as Winner, winner};

/// A region as the oracle numbers it.
pub fn numbered(site: usize) -> String {
    format!("r{}", site + 1)
}

/// What happened at a moment, without its time; `key` is the only one of interest, if there is one.
pub fn sentence(record: &Record, names: &Names, moment: &Moment, key: Option<Key>) -> String {
    let region = |site: usize| record.region(site);
    let here = moment.site.map_or_else(String::new, region);
    match &moment.what {
        What::Sent(sent) => sent_words(record, names, &here, sent, key),
        What::Arrived(arrived) => arrived_words(record, names, &here, arrived, key),
        What::Answered(answered) => answered_words(record, names, &here, answered),
        What::Parked { job, key, .. } => {
            format!("{here} lets job {job} wait until {} changes", name(record, *key))
        }
        What::Connected { peer } => format!("{here} and {} connect", region(*peer)),
        What::Up { peer } => format!("{here} learns that its link to {} is up", region(*peer)),
        What::Down { peer } => format!("{here} learns that its link to {} is down", region(*peer)),
        What::Broke { peer } => format!("the session between {here} and {} breaks", region(*peer)),
        What::Durable { lsn } => format!("the disk of {here} has its log up to record {lsn}"),
        What::Crashed(Degree::Process) => format!("{here} crashes: its process ends, its disk stays"),
        What::Crashed(Degree::Power) => format!("{here} loses power: what was not synced is lost"),
        What::Crashed(Degree::Disk) => format!("{here} loses its disk: all it knew is gone"),
        What::Crashed(Degree::Backup) => {
            format!("{here} goes down to come back with an old backup: what it learnt since is gone")
        }
        What::Paused => format!("{here} stands still: its process does nothing, its clock goes on"),
        What::Resumed => format!("{here} goes on, and reads what has come meanwhile"),
        What::BackedUp => format!("the data of {here} is copied"),
        What::Upgraded { .. } => format!("{here} is stopped, to start as the next version"),
        What::Started { incarnation, epoch } => {
            format!("{here} starts (incarnation {incarnation}, log epoch {epoch})")
        }
        What::Refused => {
            format!("{here} finds damage on its disk, refuses to start from it and begins empty")
        }
        What::Retired => format!("{here} is retired"),
        What::Joined => format!("{here} is added to the cluster"),
        What::Member { step } => format!("{here} takes up change {step} of membership"),
        What::Clock { change_ms } => {
            let way = if *change_ms < 0 { "back" } else { "forward" };
            format!("the clock of {here} is set {way} by {} ms", change_ms.unsigned_abs())
        }
        What::Disk { trouble, amount } => disk_words(&here, trouble, *amount),
        What::Cut { to } => format!("nothing passes from {here} to {} any more", region(*to)),
        What::Mended { to } => format!("the way from {here} to {} is mended", region(*to)),
        What::Healed { apart } => {
            let left: Vec<String> = record.outside.iter().map(|site| region(*site)).collect();
            let end = match left.is_empty() {
                true => "all faults end".to_owned(),
                false => format!("all faults end but for {}, cut off for good", left.join(", ")),
            };
            format!("{end}; regions know {} of {} keys differently", apart.len(), record.keys.len())
        }
        What::Agreed => "all regions agree".to_owned(),
        What::Violated => "the oracle finds the rule broken".to_owned(),
    }
}

fn disk_words(here: &str, trouble: &str, amount: u64) -> String {
    match (trouble, amount) {
        ("slow", 1) => format!("the disk of {here} is as fast as before"),
        ("slow", times) => format!("the disk of {here} takes {times} times as long"),
        ("stalled", us) => format!("no sync of {here} returns for {:.3} s", us as f64 / 1e6),
        ("full", bytes) => format!("the disk of {here} is full beyond {bytes} bytes"),
        ("roomy", _) => format!("the disk of {here} has room again"),
        ("rot", _) => format!("a bit turns over on the disk of {here}"),
        ("error", calls) => format!("a call to the disk of {here} is going to fail, after {calls} more"),
        ("fuse", calls) => {
            format!("{here} is going to end between two calls to its disk, after {calls} more")
        }
        (other, amount) => format!("the disk of {here}: {other} {amount}"),
    }
}

fn name(record: &Record, key: Key) -> &str {
    record.keys.get(key).map_or("?", String::as_str)
}

fn answered_words(record: &Record, names: &Names, here: &str, answered: &Answered) -> String {
    let Answered { job, key, ask, answer, .. } = answered;
    let claim = answered.claim.map(|claim| names.claim(*key, claim));
    let about = match (&claim, *ask) {
        (Some(claim), "COMPLETE" | "RENEW" | "RELEASE") => format!(" of claim {claim}"),
        _ => String::new(),
    };
    let mut text = format!("job {job} asks {here} to {ask} {}{about}: {answer}", name(record, *key));
    if let Some(reason) = &answered.reason {
        text.push_str(&format!(" ({reason})"));
    }
    if let (Some(claim), "GRANTED" | "REPLAY" | "SETTLED" | "HELD") = (&claim, *answer) {
        text.push_str(&format!(", claim {claim}"));
    }
    if let Some(lease_ms) = answered.lease_until_ms {
        text.push_str(&format!(", lease until {} by its clock", clock(lease_ms)));
    }
    let taken: Vec<String> = answered
        .wrote
        .iter()
        .filter(|part| part.state == PartState::Abandoned)
        .map(|part| names.claim(*key, part.claim))
        .collect();
    if !taken.is_empty() {
        text.push_str(&format!("; takes over claim {}", taken.join(" and ")));
    }
    if !answered.unseen.is_empty() {
        let unseen: Vec<String> = answered.unseen.iter().map(|claim| names.claim(*key, *claim)).collect();
        text.push_str(&format!("; it does not know of claim {}", unseen.join(" and ")));
    }
    match (answered.told_us, answered.heard_us) {
        (None, _) => text.push_str(" (the answer never left)"),
        (Some(_), None) => text.push_str(" (the service never heard it)"),
        _ => {}
    }
    text
}

/// What is said of keys, in words; of one key if that is the only one of interest.
pub fn carries_words(record: &Record, names: &Names, carries: &[Carry], key: Option<Key>) -> String {
    let wanted = carries.iter().filter(|carry| key.is_none_or(|key| carry.key == key));
    let words: Vec<String> = wanted
        .map(|carry| {
            let parts: Vec<String> =
                carry.parts.iter().map(|part| part_words(names, carry.key, part)).collect();
            match key {
                Some(_) => parts.join(", "),
                None => format!("{}: {}", name(record, carry.key), parts.join(", ")),
            }
        })
        .collect();
    words.join("; ")
}

/// A part in words.
pub fn part_words(names: &Names, key: Key, part: &PartNote) -> String {
    let claim = || names.claim(key, part.claim);
    match part.state {
        PartState::Forgotten => "the key was forgotten".to_owned(),
        PartState::Conflict => "a double execution is listed".to_owned(),
        PartState::Completed => {
            format!("claim {} is completed in {}", claim(), names.region(usize::from(part.region) - 1))
        }
        state => format!("claim {} {}", claim(), state.words()),
    }
}

fn sent_words(record: &Record, names: &Names, here: &str, sent: &Sent, key: Option<Key>) -> String {
    let what = carries_words(record, names, &sent.carries, key);
    let what = if what.is_empty() { format!("{} ({} bytes)", sent.kind, sent.bytes) } else { what };
    let end = match sent.fate {
        Fate::Lost => ": lost on the way",
        Fate::Cut => ": lost, the link is cut",
        Fate::Arrives if sent.is_on_way(record.ended_us()) => ": still on its way when the run ended",
        Fate::Arrives if sent.arrivals.is_empty() => {
            ": never taken in, the session was over or the region down"
        }
        Fate::Arrives => "",
    };
    format!("{here} tells {} that {what}{end}", record.region(sent.to))
}

fn arrived_words(record: &Record, names: &Names, here: &str, arrived: &Arrived, key: Option<Key>) -> String {
    let from = record.region(arrived.from);
    if let Some(error) = &arrived.refused {
        return format!("{here} refuses what {from} sent: {error}");
    }
    let again = if arrived.again { " (a frame that comes again)" } else { "" };
    let news = carries_words(record, names, &arrived.news, key);
    if news.is_empty() {
        return format!("{here} hears nothing new from {from}{again}");
    }
    let sent = arrived.sent.and_then(|id| record.moments.get(id as usize));
    let left = sent.map_or_else(String::new, |sent| format!(", sent at {:.6} s", sent.at_us as f64 / 1e6));
    format!("{here} learns from {from} that {news}{left}{again}")
}

/// Who holds a key by what is known of it.
pub fn holder_words(names: &Names, key: Key, view: &View) -> String {
    if view.is_empty() {
        return "knows nothing of it".to_owned();
    }
    match winner(view) {
        Winner::Free => "free".to_owned(),
        Winner::Held(attempt) => format!("held by claim {}", names.claim(key, attempt.claim)),
        Winner::Settled(outcome) => {
            let region = names.region(usize::from(outcome.region) - 1);
            format!("settled: claim {} completed in {region}", names.claim(key, outcome.claim))
        }
    }
}

/// All that is known of a key.
pub fn parts_words(names: &Names, key: Key, view: &View) -> Vec<String> {
    view.parts().map(|part| part_words(names, key, &PartNote::of(&part))).collect()
}
