//! CONFLICTS, its blocking form CONFLICTS FEED, and COMPENSATE (S4.8): which operations ran twice, and whoever puts that
//! right.
//!
//! Answered in the connection's task. What is listed, in which order it arrived and what is woken is the store's to
//! say; here are words and cursors.

use crdt::conflict::{Conflict, ConflictId};
use crdt::hlc::Stamp;
use crdt::ids::{self, ClaimId, Incarnation, RegionId};
use crdt::store::{Compensated, Fed, FeedAsk, FeedPosition, Release, Ticket};

use super::args::{BadArgs, is, number, shown};
use super::limits::FEED_CROWDED_RETRY_MS;
use super::native::Done;
use super::reply::{self, RegionNames};
use super::server::Shared;
use crate::driver::wall_ms;
use crate::resp::encode::Encoder;

const CONFLICTS: &str = "CONFLICTS [NAMESPACE ns] [CURSOR c] [COUNT n], or CONFLICTS CONTESTED, or CONFLICTS FEED \
                         [NAMESPACE ns] [REGION r] [AFTER position] [COUNT n] [WAIT ms]";
const COMPENSATE: &str = "COMPENSATE key claim-id [REGION completing-region] [DURABLE]";
const COUNT_DEFAULT: usize = 100;

/// What a CONFLICTS asks for.
#[derive(Debug)]
pub enum ConflictsAsk<'b> {
    /// Keys held twice now.
    Contested,
    /// A page of what ran twice.
    List(Option<&'b [u8]>, Option<ConflictId>, usize),
    /// What nobody has dealt with, in the order of arrival; how long to wait for some, in milliseconds.
    Feed(FeedAsk<'b>, u64),
}

impl<'b> ConflictsAsk<'b> {
    /// The only one that is looked at; `None`: all.
    pub fn namespace(&self) -> Option<&'b [u8]> {
        match self {
            Self::Contested => None,
            Self::List(namespace, ..) => *namespace,
            Self::Feed(ask, _) => ask.namespace,
        }
    }
}

/// What a COMPENSATE names.
#[derive(Debug)]
pub struct Compensation<'b> {
    /// The key.
    pub key: &'b [u8],
    claim: ClaimId,
    region: Option<&'b [u8]>,
    durable: bool,
}

/// Reads `CONFLICTS …`.
pub fn conflicts_ask<'b>(args: &[&'b [u8]], names: &RegionNames) -> Result<ConflictsAsk<'b>, BadArgs> {
    match args {
        [_, word] if is(word, b"CONTESTED") => Ok(ConflictsAsk::Contested),
        [_, word, options @ ..] if is(word, b"FEED") => feed_ask(options, names),
        _ => list_ask(args.get(1..).unwrap_or_default()),
    }
}

fn list_ask<'b>(mut options: &[&'b [u8]]) -> Result<ConflictsAsk<'b>, BadArgs> {
    let (mut namespace, mut after, mut count) = (None, None, COUNT_DEFAULT);
    while let [word, rest @ ..] = options {
        let [value, rest @ ..] = rest else { return Err(BadArgs::Value("NAMESPACE, CURSOR or COUNT")) };
        if is(word, b"NAMESPACE") {
            namespace = Some(*value);
        } else if is(word, b"CURSOR") {
            after =
                cursor(value).ok_or(BadArgs::Value("CURSOR: start with 0, go on with the one answered"))?;
        } else if is(word, b"COUNT") {
            count = number("COUNT", value)? as usize;
        } else {
            return Err(BadArgs::Option { word: shown(word), command: "CONFLICTS", usage: CONFLICTS });
        }
        options = rest;
    }
    Ok(ConflictsAsk::List(namespace, after, count))
}

fn feed_ask<'b>(mut options: &[&'b [u8]], names: &RegionNames) -> Result<ConflictsAsk<'b>, BadArgs> {
    let (mut ask, mut wait_ms) = (FeedAsk { count: COUNT_DEFAULT, ..FeedAsk::default() }, 0);
    while let [word, rest @ ..] = options {
        let [value, rest @ ..] = rest else {
            return Err(BadArgs::Value("NAMESPACE, REGION, AFTER, COUNT or WAIT"));
        };
        if is(word, b"NAMESPACE") {
            ask.namespace = Some(value);
        } else if is(word, b"REGION") {
            ask.region = Some(region(value, names)?);
        } else if is(word, b"AFTER") {
            ask.after = position(value)
                .ok_or(BadArgs::Value("AFTER: start with 0, go on with the position answered"))?;
        } else if is(word, b"COUNT") {
            ask.count = number("COUNT", value)? as usize;
        } else if is(word, b"WAIT") {
            wait_ms = number("WAIT", value)?.min(crdt::limits::WAIT_MS_MAX);
        } else {
            return Err(BadArgs::Option { word: shown(word), command: "CONFLICTS FEED", usage: CONFLICTS });
        }
        options = rest;
    }
    Ok(ConflictsAsk::Feed(ask, wait_ms))
}

fn region(name: &[u8], names: &RegionNames) -> Result<RegionId, BadArgs> {
    let unknown = || BadArgs::Option {
        word: shown(name),
        command: "REGION",
        usage: "the name of a region, as CONFLICTS shows it",
    };
    names.by_name(name).or_else(|| unnamed(name)).ok_or_else(unknown)
}

/// A region that is configured no more, as it is shown.
fn unnamed(name: &[u8]) -> Option<RegionId> {
    std::str::from_utf8(name).ok()?.strip_prefix("region-")?.parse().ok().map(RegionId)
}

/// `CONFLICTS …`; with a ticket, a feed that has nothing to tell waits.
pub fn conflicts(
    shared: &Shared,
    names: &RegionNames,
    ask: &ConflictsAsk<'_>,
    ticket: Option<Ticket>,
    out: &mut Encoder<'_>,
) -> Done {
    match ask {
        ConflictsAsk::Contested => Done::Answered(contested(shared, out)),
        ConflictsAsk::List(namespace, after, count) => {
            Done::Answered(list(shared, names, (*namespace, after.as_ref(), *count), out))
        }
        ConflictsAsk::Feed(ask, wait_ms) => {
            let ticket = ticket.filter(|_| *wait_ms > 0);
            feed(shared, names, (ask, *wait_ms), ticket, out)
        }
    }
}

/// Taken after the look: all that it saw is durable once this is reached (INV-8).
fn seen(shared: &Shared) -> Release {
    let tail = shared.driver.store.tail();
    Release { written: tail.appended(), synced: tail.sync_wanted() }
}

fn contested(shared: &Shared, out: &mut Encoder<'_>) -> Release {
    let keys = shared.driver.store.contested(crdt::limits::CONFLICTS_COUNT_MAX, wall_ms());
    let release = seen(shared);
    out.map(3);
    out.field_status("OK");
    out.field_bulk("cursor", b"0");
    out.field_array("conflicts", keys.len());
    for key in &keys {
        out.map(2);
        out.field_bulk("key", key);
        out.field_bulk("namespace", ids::namespace(key));
    }
    release
}

fn list(
    shared: &Shared,
    names: &RegionNames,
    (namespace, after, count): (Option<&[u8]>, Option<&ConflictId>, usize),
    out: &mut Encoder<'_>,
) -> Release {
    let page = shared.driver.store.conflicts(namespace, after, count);
    let release = seen(shared);
    out.map(3);
    out.field_status("OK");
    let cursor = page.next.as_ref().map_or_else(|| "0".to_owned(), cursor_text);
    out.field_bulk("cursor", cursor.as_bytes());
    out.field_array("conflicts", page.conflicts.len());
    for conflict in &page.conflicts {
        out.map(FIELDS);
        fields(conflict, names, out);
    }
    release
}

fn feed(
    shared: &Shared,
    names: &RegionNames,
    (ask, wait_ms): (&FeedAsk<'_>, u64),
    ticket: Option<Ticket>,
    out: &mut Encoder<'_>,
) -> Done {
    let store = &shared.driver.store;
    // No incarnation and no epoch is ever used again (INV-16).
    let start = u64::from(store.config().incarnation.0) << 32 | u64::from(shared.epoch.0);
    match store.feed(start, ask, ticket) {
        Fed::Parked => Done::Feeding(wait_ms),
        Fed::Crowded => {
            out.map(3);
            out.field_status("UNAVAILABLE");
            out.field_bulk("reason", b"feeds_full");
            out.field_uint("retry_after_ms", FEED_CROWDED_RETRY_MS);
            Done::Answered(Release::default())
        }
        Fed::Told(page, release) => {
            out.map(3);
            out.field_status("OK");
            out.field_bulk("position", position_text(page.position).as_bytes());
            out.field_array("conflicts", page.conflicts.len());
            for conflict in &page.conflicts {
                out.map(FIELDS);
                fields(conflict, names, out);
            }
            Done::Answered(release)
        }
    }
}

/// Reads `COMPENSATE …`.
pub fn compensation<'b>(args: &[&'b [u8]]) -> Result<Compensation<'b>, BadArgs> {
    let usage = BadArgs::Usage { command: "COMPENSATE", usage: COMPENSATE };
    let [_, key, claim, options @ ..] = args else { return Err(usage) };
    let mut options = options;
    let claim = claim_id(claim).ok_or_else(|| BadArgs::Option {
        word: shown(claim),
        command: "COMPENSATE",
        usage: "the loser_claim as CONFLICTS prints it, stamp-region-incarnation",
    })?;
    let (mut region, mut durable) = (None, false);
    loop {
        options = match options {
            [] => return Ok(Compensation { key, claim, region, durable }),
            [word, value, rest @ ..] if is(word, b"REGION") && region.is_none() => {
                region = Some(*value);
                rest
            }
            [word, rest @ ..] if is(word, b"DURABLE") => {
                durable = true;
                rest
            }
            [word, ..] if is(word, b"REGION") => return Err(BadArgs::Value("REGION")),
            [word, ..] => {
                return Err(BadArgs::Option { word: shown(word), command: "COMPENSATE", usage: COMPENSATE });
            }
        }
    }
}

/// `COMPENSATE …`
pub fn compensate(
    shared: &Shared,
    names: &RegionNames,
    ask: &Compensation<'_>,
    out: &mut Encoder<'_>,
) -> Result<Release, BadArgs> {
    let named = ask.region.map(|name| region(name, names)).transpose()?;
    let store = &shared.driver.store;
    let (answer, release) = store.compensate(ask.key, ask.claim, named, ask.durable);
    match answer {
        Compensated::Done(conflict) => {
            out.map(1 + FIELDS);
            out.field_status("COMPENSATED");
            fields(&conflict, names, out);
        }
        Compensated::NotListed => not_listed(
            out,
            "unknown",
            "CONFLICTS lists no such loser: check key and claim id; it may have passed its conflict_retention, or \
             this region has not heard of it yet",
        ),
        Compensated::Wins(_) => not_listed(
            out,
            "wins",
            "a majority holds this outcome by now and duplicates are answered with it: do not undo it; the one that \
             it replaced is listed instead",
        ),
        Compensated::Several(regions) => {
            let regions: Vec<String> = regions.into_iter().map(|region| names.name(region)).collect();
            let advice =
                format!("this claim was completed differently in {}: say REGION", regions.join(" and "));
            not_listed(out, "several", &advice);
        }
        Compensated::NoRoom => {
            out.map(3);
            out.field_status("UNAVAILABLE");
            out.field_bulk("reason", crdt::request::Reason::DiskFull.name().as_bytes());
            out.field_uint("retry_after_ms", crdt::limits::RETRY_AFTER_MS_DEFAULT);
        }
    }
    Ok(release)
}

fn not_listed(out: &mut Encoder<'_>, reason: &str, advice: &str) {
    out.map(3);
    out.field_status("NOT_LISTED");
    out.field_bulk("reason", reason.as_bytes());
    out.field_bulk("advice", advice.as_bytes());
}

const FIELDS: usize = 14;

fn fields(conflict: &Conflict, names: &RegionNames, out: &mut Encoder<'_>) {
    let digest = |digest: [u8; 16]| format!("{:032x}", u128::from_be_bytes(digest));
    out.field_bulk("key", &conflict.id.key);
    out.field_bulk("namespace", ids::namespace(&conflict.id.key));
    reply::claim_id(out, "loser_claim", conflict.loser.claim);
    names.field(out, "loser_region", conflict.loser.region);
    out.field_uint("loser_completed_at", conflict.loser.completed.ms());
    out.field_bulk("loser_digest", digest(conflict.loser.digest).as_bytes());
    match &conflict.winner {
        Some(winner) => {
            reply::claim_id(out, "winner_claim", winner.claim);
            names.field(out, "winner_region", winner.region);
            out.field_uint("winner_completed_at", winner.completed.ms());
            out.field_bulk("winner_digest", digest(winner.digest).as_bytes());
        }
        None => ["winner_claim", "winner_region", "winner_completed_at", "winner_digest"]
            .into_iter()
            .for_each(|name| out.field_null(name)),
    }
    out.field_bool("compensated", conflict.compensated);
    out.field_bool("loser_majority", conflict.loser.majority);
    match conflict.winner {
        Some(winner) => out.field_bool("winner_majority", winner.majority),
        None => out.field_null("winner_majority"),
    }
    out.field_bool("voided", conflict.void);
}

/// The id in hex: stamp, region, incarnation, completing region, key.
fn cursor_text(id: &ConflictId) -> String {
    let mut text = format!(
        "{:016x}{:04x}{:08x}{:04x}",
        id.loser.stamp.bits(),
        id.loser.region.0,
        id.loser.incarnation.0,
        id.completed_at.0
    );
    id.key.iter().for_each(|byte| text.push_str(&format!("{byte:02x}")));
    text
}

fn cursor(text: &[u8]) -> Option<Option<ConflictId>> {
    if text == b"0" {
        return Some(None);
    }
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii() && text.len() >= 34)?;
    let number = |at: usize, len: usize| u64::from_str_radix(&text[at..at + len], 16).ok();
    let key = &text[32..];
    let key = (0..key.len() / 2).map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16).ok());
    Some(Some(ConflictId {
        loser: ClaimId {
            stamp: Stamp::from_bits(number(0, 16)?),
            region: RegionId(number(16, 4)? as u16),
            incarnation: Incarnation(number(20, 8)? as u32),
        },
        completed_at: RegionId(number(28, 4)? as u16),
        key: key.collect::<Option<_>>()?,
    }))
}

/// The start and the number in hex.
fn position_text(position: FeedPosition) -> String {
    format!("{:016x}{:016x}", position.start, position.number)
}

fn position(text: &[u8]) -> Option<Option<FeedPosition>> {
    if text == b"0" {
        return Some(None);
    }
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 32 && hex_digits(text))?;
    let number = |part: &str| u64::from_str_radix(part, 16).ok();
    Some(Some(FeedPosition { start: number(&text[..16])?, number: number(&text[16..])? }))
}

/// As [`reply::claim_id`] writes it.
fn claim_id(text: &[u8]) -> Option<ClaimId> {
    let text = std::str::from_utf8(text).ok()?;
    let [stamp, region, incarnation] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if stamp.len() != 16 || !hex_digits(stamp) || !digits(region) || !digits(incarnation) {
        return None;
    }
    Some(ClaimId {
        stamp: Stamp::from_bits(u64::from_str_radix(stamp, 16).ok()?),
        region: RegionId(region.parse().ok()?),
        incarnation: Incarnation(incarnation.parse().ok()?),
    })
}

fn hex_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&[u8]> {
        text.split(' ').map(str::as_bytes).collect()
    }

    #[test]
    fn claim_ids_and_positions_are_read_as_they_are_printed() {
        let id = claim_id(b"018bcfe56800002a-3-28000000").expect("as printed");
        assert_eq!((id.stamp.bits(), id.region.0, id.incarnation.0), (0x018b_cfe5_6800_002a, 3, 28_000_000));
        for bad in
            ["", "018bcfe56800002a-3", "18bcfe56800002a-3-1", "018bcfe56800002a--3-1", "x18bcfe56800002a-3-1"]
        {
            assert_eq!(claim_id(bad.as_bytes()), None, "{bad}");
        }
        for too_large in ["018bcfe56800002a-65536-1", "018bcfe56800002a-1-4294967296"] {
            assert_eq!(claim_id(too_large.as_bytes()), None);
        }
        let at = FeedPosition { start: u64::MAX, number: 7 };
        assert_eq!(position(position_text(at).as_bytes()), Some(Some(at)));
        assert_eq!(position(b"0"), Some(None));
        for bad in ["", "7", &"+".repeat(32), &"é".repeat(16), &"0".repeat(33)] {
            assert_eq!(position(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn malformed_arguments_say_what_is_wrong() {
        let names = RegionNames::new([(RegionId(1), "eu".to_owned())]);
        let error = |text: &str| conflicts_ask(&words(text), &names).expect_err("malformed").to_string();
        assert!(error("CONFLICTS FEED WAIT").contains("stands twice, or without a value"));
        assert!(error("CONFLICTS FEED TTL 5").starts_with("unknown option \"TTL\""));
        assert!(error("CONFLICTS FEED REGION us").contains("as CONFLICTS shows it"));
        assert!(error("CONFLICTS FEED AFTER 7").contains("start with 0"));
        let Ok(ConflictsAsk::Feed(ask, wait_ms)) =
            conflicts_ask(&words("conflicts feed wait 99999999 region eu namespace pay count 5"), &names)
        else {
            panic!("well-formed")
        };
        assert_eq!((ask.region, ask.namespace, ask.count), (Some(RegionId(1)), Some(&b"pay"[..]), 5));
        assert_eq!(wait_ms, crdt::limits::WAIT_MS_MAX);
        let error = |text: &str| compensation(&words(text)).expect_err("malformed").to_string();
        assert!(error("COMPENSATE pay:1").starts_with("COMPENSATE takes: COMPENSATE key claim-id"));
        assert!(error("COMPENSATE pay:1 x").contains("as CONFLICTS prints it"));
        assert!(error("COMPENSATE pay:1 018bcfe56800002a-3-1 REGION").starts_with("REGION stands twice"));
        assert!(error("COMPENSATE pay:1 018bcfe56800002a-3-1 NOW").starts_with("unknown option \"NOW\""));
        assert!(region(b"region-9", &names).is_ok_and(|region| region == RegionId(9)));
    }
}
