//! The rows of `report.json`: one moment each.
//!
//! Must never: grow with what a client or a peer may say; texts are cut to a length.

use serde::Serialize;
use std::collections::BTreeMap;

use super::moment::{Answered, Arrived, Degree, Fate, MomentId, Sent, What};
use super::names::Names;
use super::record::Record;
use super::words::carries_words;
use crate::oracle::facts::Key;

/// Longest text in a row, characters.
const TEXT_MAX: usize = 160;
/// Most keys named in a row.
const KEYS_MAX: usize = 8;

/// Keys that occur in a document, numbered as they are met.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    numbers: BTreeMap<Key, usize>,
}

impl Keys {
    /// The document's number of a key.
    pub fn number(&mut self, key: Key) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(key).or_insert(next)
    }

    /// Whether it occurs.
    pub fn has(&self, key: Key) -> bool {
        self.numbers.contains_key(&key)
    }

    /// Their names, by the document's number.
    pub fn names(&self, record: &Record) -> Vec<String> {
        let mut names = vec![String::new(); self.numbers.len()];
        for (key, number) in &self.numbers {
            names[*number] = record.keys.get(*key).cloned().unwrap_or_default();
        }
        names
    }
}

/// A moment; `what` says which of the other fields there are.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MomentRow {
    /// Its number among all moments.
    pub id: MomentId,
    /// When.
    pub at_us: u64,
    /// `sent`, `arrived`, `answered`, ...
    pub what: &'static str,
    /// Where.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<usize>,
    /// The other region.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    /// Kind of a frame; why a region is down; what is done to a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Size of a frame; or how much, with disks (see `kind`) and clocks (milliseconds).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// A frame that never was taken in: `lost`, `cut`, `unread` or `under way` to the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fate: Option<&'static str>,
    /// The keys it is about, the first few.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<usize>,
    /// What it says of them; of an arrival what is news; why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Of an arrival: the moment when it left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sent: Option<MomentId>,
    /// It brought news; it changed the key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub news: bool,
    /// A frame that comes again, of this session or an older one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// A frame that was refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// Whose request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// What was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<&'static str>,
    /// How it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<&'static str>,
    /// The claim, by its letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Claims that ran elsewhere and were not known here, by their letters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
    /// When the answer left.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told_us: Option<u64>,
    /// When it was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_us: Option<u64>,
}

/// The row of a moment.
pub fn row(record: &Record, names: &Names, keys: &mut Keys, id: MomentId) -> MomentRow {
    let moment = &record.moments[id as usize];
    let (at_us, what, region) = (moment.at_us, moment.word(), moment.site.map(|site| site + 1));
    let base = MomentRow { id, at_us, what, region, ..MomentRow::default() };
    match &moment.what {
        What::Sent(sent) => sent_row(record, names, keys, sent, base),
        What::Arrived(arrived) => arrived_row(record, names, keys, arrived, base),
        What::Answered(answered) => answered_row(names, keys, answered, base),
        What::Parked { job, key, .. } => MomentRow { job: Some(*job), keys: vec![keys.number(*key)], ..base },
        What::Connected { peer } | What::Up { peer } | What::Down { peer } | What::Broke { peer } => {
            MomentRow { peer: Some(peer + 1), ..base }
        }
        What::Cut { to } | What::Mended { to } => MomentRow { peer: Some(to + 1), ..base },
        What::Durable { lsn } => MomentRow { amount: Some(*lsn as i64), ..base },
        What::Crashed(degree) => MomentRow { kind: Some(degree_word(*degree)), ..base },
        What::Started { incarnation, epoch } => {
            MomentRow { text: Some(format!("incarnation {incarnation}, log epoch {epoch}")), ..base }
        }
        What::Upgraded { version } => MomentRow { amount: Some(i64::from(*version)), ..base },
        What::Member { step } => MomentRow { amount: Some(*step as i64), ..base },
        What::Clock { change_ms } => MomentRow { amount: Some(*change_ms), ..base },
        What::Disk { trouble, amount } => {
            MomentRow { kind: Some(trouble), amount: Some(*amount as i64), ..base }
        }
        What::Healed { apart } => {
            let shown = apart.iter().take(KEYS_MAX).map(|key| keys.number(*key)).collect();
            MomentRow { keys: shown, amount: Some(apart.len() as i64), ..base }
        }
        What::Paused
        | What::Resumed
        | What::BackedUp
        | What::Refused
        | What::Retired
        | What::Joined
        | What::Agreed
        | What::Violated => base,
    }
}

fn sent_row(record: &Record, names: &Names, keys: &mut Keys, sent: &Sent, base: MomentRow) -> MomentRow {
    let fate = match sent.fate {
        Fate::Lost => Some("lost"),
        Fate::Cut => Some("cut"),
        Fate::Arrives if sent.is_on_way(record.ended_us()) => Some("under way"),
        Fate::Arrives if sent.arrivals.is_empty() => Some("unread"),
        Fate::Arrives => None,
    };
    let text = (!sent.carries.is_empty()).then(|| short(&carries_words(record, names, &sent.carries, None)));
    let about = sent.carries.iter().take(KEYS_MAX).map(|carry| keys.number(carry.key)).collect();
    let (kind, amount) = (Some(sent.kind), Some(i64::from(sent.bytes)));
    MomentRow { peer: Some(sent.to + 1), kind, amount, fate, keys: about, text, ..base }
}

fn arrived_row(
    record: &Record,
    names: &Names,
    keys: &mut Keys,
    arrived: &Arrived,
    base: MomentRow,
) -> MomentRow {
    let news = !arrived.news.is_empty();
    let about = arrived.news.iter().take(KEYS_MAX).map(|carry| keys.number(carry.key)).collect();
    let text = match &arrived.refused {
        Some(error) => Some(short(error)),
        None => news.then(|| short(&carries_words(record, names, &arrived.news, None))),
    };
    let (peer, sent) = (Some(arrived.from + 1), arrived.sent);
    let (again, refused) = (arrived.again, arrived.refused.is_some());
    MomentRow { peer, sent, again, refused, news, keys: about, text, ..base }
}

fn answered_row(names: &Names, keys: &mut Keys, answered: &Answered, mut row: MomentRow) -> MomentRow {
    let letter = |claim| names.claim(answered.key, claim);
    row.job = Some(answered.job);
    row.ask = Some(answered.ask);
    row.answer = Some(answered.answer);
    row.keys = vec![keys.number(answered.key)];
    row.claim = answered.claim.map(letter);
    row.unseen = answered.unseen.iter().map(|claim| letter(*claim)).collect();
    row.text.clone_from(&answered.reason);
    row.news = !answered.wrote.is_empty();
    (row.told_us, row.heard_us) = (answered.told_us, answered.heard_us);
    row
}

fn short(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

const fn degree_word(degree: Degree) -> &'static str {
    match degree {
        Degree::Process => "process",
        Degree::Power => "power",
        Degree::Disk => "disk",
        Degree::Backup => "backup",
    }
}
