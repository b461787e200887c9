//! Commands that look at more than one key, or at the daemon itself: INSPECT, SCAN, STATUS, PEERS, RELOAD. They are answered in the connection's task, too: none of them is on the hot path.

use crdt::entry::Winner;
use crdt::hash::KeyHash;
use crdt::hlc::Stamp;
use crdt::ids;
use crdt::store::{Pressure, QuotaUse, Release};

use super::args::{BadArgs, is, number, one_key, shown};
use super::live::Live;
use super::reply::{self, RegionNames};
use super::server::Shared;
use crate::driver::wall_ms;
use crate::memory::quota_name;
use crate::peer::certificates::Certificate;
use crate::peer::mesh::PeerStatus;
use crate::reload::Reloaded;
use crate::resp::encode::Encoder;

const SCAN: &str = "SCAN cursor [PREFIX p] [COUNT n]";
const COUNT_DEFAULT: usize = 100;

/// `INSPECT key`: every attempt and outcome.
pub fn inspect(
    shared: &Shared,
    names: &RegionNames,
    args: &[&[u8]],
    out: &mut Encoder<'_>,
) -> Result<Release, BadArgs> {
    let key = one_key(args, "INSPECT", "INSPECT key")?;
    let inspected = shared.driver.store.inspect(key);
    let release = inspected.as_ref().map(|inspected| inspected.release).unwrap_or_default();
    let entry = inspected.as_ref().map(|inspected| inspected.entry()).unwrap_or_default();
    out.map(7);
    out.field_status("OK");
    out.field_bulk("key", key);
    out.field_bulk("namespace", ids::namespace(key));
    let drift_ms = shared.driver.store.config().max_drift_ms;
    let state = match entry.winner() {
        _ if entry.is_past(shared.driver.store.now_ms(wall_ms()), drift_ms) => "free",
        Winner::Settled(_) => "settled",
        Winner::Held(_) => "held",
        Winner::Free => "free",
    };
    out.field_bulk("state", state.as_bytes());
    out.field_array("attempts", entry.attempts.len());
    entry.attempts.iter().for_each(|attempt| reply::attempt(attempt, names, out));
    out.field_array("outcomes", entry.outcomes.len());
    entry.outcomes.iter().for_each(|outcome| reply::outcome(outcome, names, out));
    match entry.forgotten {
        Stamp::ZERO => out.field_null("forgotten"),
        forgotten => out.field_uint("forgotten", forgotten.ms()),
    }
    Ok(release)
}

/// `SCAN cursor …`; answers the prefix it would look at before it looks, so that the caller can be checked.
pub fn scan(
    shared: &Shared,
    names: &RegionNames,
    args: &[&[u8]],
    out: &mut Encoder<'_>,
) -> Result<Release, BadArgs> {
    let usage = BadArgs::Usage { command: "SCAN", usage: SCAN };
    let [_, cursor, options @ ..] = args else { return Err(usage) };
    let from =
        scan_cursor(cursor).ok_or(BadArgs::Value("the cursor: start with 0, go on with the one answered"))?;
    let (prefix, count) = scan_options(options)?;
    let (page, release) = shared.driver.store.scan(from, prefix, count, wall_ms());
    out.map(3);
    out.field_status("OK");
    let next = page.next.map_or_else(|| "0".to_owned(), |(shard, hash)| scan_cursor_text(shard, hash));
    out.field_bulk("cursor", next.as_bytes());
    out.field_array("keys", page.keys.len());
    for scanned in &page.keys {
        out.map(4);
        out.field_bulk("key", &scanned.key);
        out.field_bulk("state", scanned.state.as_bytes());
        match scanned.region {
            Some(region) => names.field(out, "region", region),
            None => out.field_null("region"),
        }
        out.field_uint("expires_at", scanned.expires_at);
    }
    Ok(release)
}

/// The prefix that a SCAN asks for, empty where it asks for all: its namespace is what a role must cover.
pub fn scan_prefix<'b>(args: &[&'b [u8]]) -> &'b [u8] {
    args.get(2..).and_then(|options| scan_options(options).ok()).map_or(&[], |(prefix, _)| prefix)
}

fn scan_options<'b>(mut options: &[&'b [u8]]) -> Result<(&'b [u8], usize), BadArgs> {
    let (mut prefix, mut count) = (&b""[..], COUNT_DEFAULT);
    while let [word, rest @ ..] = options {
        let [value, rest @ ..] = rest else { return Err(BadArgs::Value("PREFIX or COUNT")) };
        if is(word, b"PREFIX") {
            prefix = value;
        } else if is(word, b"COUNT") {
            count = number("COUNT", value)? as usize;
        } else {
            return Err(BadArgs::Option { word: shown(word), command: "SCAN", usage: SCAN });
        }
        options = rest;
    }
    Ok((prefix, count))
}

/// Shard and hash in hex; a leading 1 keeps it apart from the starting cursor.
fn scan_cursor_text(shard: usize, hash: KeyHash) -> String {
    format!("1{shard:08x}{:08x}{:08x}{:08x}", hash.0[0], hash.0[1], hash.0[2])
}

fn scan_cursor(text: &[u8]) -> Option<Option<(usize, KeyHash)>> {
    if text == b"0" {
        return Some(None);
    }
    let text = std::str::from_utf8(text).ok().filter(|text| text.len() == 33 && text.is_ascii())?;
    let digits = text.strip_prefix('1')?;
    let word = |at: usize| u32::from_str_radix(&digits[at..at + 8], 16).ok();
    Some(Some((word(0)? as usize, KeyHash([word(8)?, word(16)?, word(24)?]))))
}

/// `STATUS [DIGEST]`; the digest walks the whole map, so it is made only when asked for.
pub fn status(
    shared: &Shared,
    live: &Live,
    args: &[&[u8]],
    out: &mut Encoder<'_>,
) -> Result<Release, BadArgs> {
    let with_digest = match args {
        [_] => false,
        [_, word] if is(word, b"DIGEST") => true,
        _ => return Err(BadArgs::Usage { command: "STATUS", usage: "STATUS [DIGEST]" }),
    };
    let store = &shared.driver.store;
    let closed = store.gate.closed();
    let (memory, quotas) = (store.measure(), store.quotas());
    out.map(if with_digest { 32 } else { 31 });
    out.field_status("OK");
    live.names.field(out, "region", store.config().region);
    out.field_uint("region_id", u64::from(store.config().region.0));
    out.field_uint("incarnation", u64::from(store.config().incarnation.0));
    out.field_uint("log_epoch", u64::from(shared.epoch.0));
    out.field_bulk("version", env!("CARGO_PKG_VERSION").as_bytes());
    out.field_bool("ready", store.is_ready(wall_ms()));
    out.field_bulk("reason", store.unready_reason(wall_ms()).or(closed).map_or("", |r| r.name()).as_bytes());
    out.field_uint("uptime_ms", shared.started.elapsed().as_millis() as u64);
    out.field_uint("keys", store.keys() as u64);
    out.field_uint("memory_bytes", memory.held_bytes() as u64);
    out.field_uint("memory_bytes_max", memory.max_bytes as u64);
    out.field_bulk("memory_pressure", memory.pressure(Pressure::Calm).name().as_bytes());
    for (part, bytes) in memory.parts() {
        out.field_uint(&format!("memory_{part}_bytes"), bytes as u64);
    }
    out.field_uint("memory_free_bytes", memory.free_bytes as u64);
    out.field_uint("memory_reserved_bytes", memory.reserved_bytes as u64);
    out.field_uint("conflicts", store.conflict_count() as u64);
    out.field_uint("log_seq", store.tail().appended());
    out.field_uint("log_synced_seq", store.tail().synced());
    out.field_uint("log_room_bytes", store.log_room().bytes.unwrap_or_default());
    out.field_uint("connections", shared.connections() as u64);
    out.field_uint("membership", live.membership);
    let asks = store.policies().ask_majorities();
    out.field_bulk("majority", store.gate.voice_name(asks).as_bytes());
    out.field_bulk("home", store.home_name().as_bytes());
    quota_rows(&quotas, out);
    certificate_rows(&live.certificates, out);
    if with_digest {
        out.field_bulk("digest", format!("{:032x}", store.digest(wall_ms())).as_bytes());
    }
    Ok(Release::default())
}

/// Namespaces with a quota; a bound that is not set is null.
fn quota_rows(quotas: &[QuotaUse], out: &mut Encoder<'_>) {
    out.field_array("namespaces", quotas.len());
    for quota in quotas {
        let optional = |out: &mut Encoder<'_>, name, bound: Option<u64>| match bound {
            Some(bound) => out.field_uint(name, bound),
            None => out.field_null(name),
        };
        out.map(6);
        out.field_bulk("namespace", quota_name(quota).as_bytes());
        out.field_uint("keys", quota.keys as u64);
        optional(out, "keys_max", quota.max_keys);
        out.field_uint("bytes", quota.bytes as u64);
        optional(out, "bytes_max", quota.max_bytes);
        out.field_bulk("pressure", quota.pressure(Pressure::Calm).name().as_bytes());
    }
}

/// What handshakes are made with, this region's own certificate first.
fn certificate_rows(certificates: &[Certificate], out: &mut Encoder<'_>) {
    out.field_array("certificates", certificates.len());
    for certificate in certificates {
        out.map(4);
        out.field_bulk("certificate", certificate.role.as_bytes());
        out.field_bulk("subject", certificate.subject.as_bytes());
        out.field_bulk("fingerprint", certificate.fingerprint.as_bytes());
        out.field_uint("expires_at", certificate.not_after_ms());
    }
}

/// `RELOAD`
pub fn reloaded(reloaded: &Reloaded, out: &mut Encoder<'_>) {
    let (status, changes, problems) = match reloaded {
        Ok(changes) => ("OK", changes.as_slice(), &[][..]),
        Err(problems) => ("REFUSED", &[][..], problems.as_slice()),
    };
    out.map(3);
    out.field_status(status);
    for (name, lines) in [("changes", changes), ("problems", problems)] {
        out.field_array(name, lines.len());
        lines.iter().for_each(|line| out.bulk(line.as_bytes()));
    }
}

/// `PEERS`
pub fn peers(peers: &[PeerStatus], names: &RegionNames, out: &mut Encoder<'_>) {
    out.map(2);
    out.field_status("OK");
    out.field_array("peers", peers.len());
    for peer in peers {
        let view = &peer.view;
        out.map(21);
        names.field(out, "region", view.region);
        out.field_uint("region_id", u64::from(view.region.0));
        out.field_bulk("address", peer.address.as_bytes());
        out.field_bulk("state", view.state.name().as_bytes());
        match view.rtt_ms {
            Some(rtt_ms) => out.field_uint("rtt_ms", rtt_ms),
            None => out.field_null("rtt_ms"),
        }
        match view.offset_ms {
            Some(offset_ms) => out.field_int("offset_ms", offset_ms),
            None => out.field_null("offset_ms"),
        }
        out.field_uint("lag_records", view.lag_records);
        out.field_uint("acked_seq", view.acked_seq);
        out.field_uint("received_seq", view.received_seq);
        out.field_uint("lag_ms", view.lag_ms);
        out.field_uint("applied", view.applied);
        match view.compared_ms {
            Some(at_ms) => out.field_uint("compared_ago_ms", wall_ms().saturating_sub(at_ms)),
            None => out.field_null("compared_ago_ms"),
        }
        out.field_uint("repaired", view.repaired);
        out.field_bool("behind", view.behind);
        out.field_uint("bytes_out", view.bytes_out);
        out.field_uint("bytes_in", view.bytes_in);
        match view.last_heard_ms {
            Some(at_ms) => out.field_uint("last_heard_ms", wall_ms().saturating_sub(at_ms)),
            None => out.field_null("last_heard_ms"),
        }
        out.field_uint("refused", view.refused);
        match view.membership {
            Some(epoch) => out.field_uint("membership", epoch),
            None => out.field_null("membership"),
        }
        match &peer.protocol {
            Some(protocol) => out.field_bulk("protocol", protocol.as_bytes()),
            None => out.field_null("protocol"),
        }
        match &peer.last_error {
            Some(error) => out.field_bulk("last_error", error.as_bytes()),
            None => out.field_null("last_error"),
        }
    }
}
