//! `DIGEST VERIFY`: compares the sums that replication relies on with the map they are of (INV-13), some shards a
//! call, so that no connection waits long for another's look.

use crdt::store::{Mismatch, Release};

use super::args::{BadArgs, is, number};
use super::server::Shared;
use crate::resp::encode::Encoder;

const USAGE: &str = "DIGEST VERIFY [CURSOR shard]";
/// Shards of one call: a walk over each, of some 10,000 records at 10 million keys.
const SHARDS_A_CALL: usize = 16;

/// `DIGEST VERIFY`: how many parts were looked at, which shards are wrong, and where to go on (0: the end).
pub fn digest(shared: &Shared, args: &[&[u8]], out: &mut Encoder<'_>) -> Result<Release, BadArgs> {
    let usage = BadArgs::Usage { command: "DIGEST", usage: USAGE };
    let first = match args {
        [_, verify] if is(verify, b"VERIFY") => 0,
        [_, verify, word, value] if is(verify, b"VERIFY") && is(word, b"CURSOR") => number("CURSOR", value)?,
        _ => return Err(usage),
    };
    let store = &shared.driver.store;
    let first = usize::try_from(first).unwrap_or(usize::MAX).min(store.shards());
    let last = (first + SHARDS_A_CALL).min(store.shards());
    let (mut parts, mut wrong) = (0, Vec::new());
    for shard in first..last {
        match store.verify_digests(shard) {
            Ok(found) => parts += found,
            Err(mismatch) => wrong.push(mismatch),
        }
    }
    out.map(5);
    out.field_status("OK");
    out.field_uint("cursor", if last == store.shards() { 0 } else { last as u64 });
    out.field_uint("shards", (last - first) as u64);
    out.field_uint("parts", parts);
    out.field_array("wrong", wrong.len());
    wrong.iter().for_each(|mismatch| row(mismatch, out));
    Ok(Release::default())
}

fn row(mismatch: &Mismatch, out: &mut Encoder<'_>) {
    out.map(4);
    out.field_uint("shard", mismatch.shard as u64);
    out.field_bulk("bucket", format!("{:016x}", mismatch.bucket.0).as_bytes());
    out.field_bulk("kept", format!("{:032x}", mismatch.kept.digest).as_bytes());
    out.field_bulk("found", format!("{:032x}", mismatch.found.digest).as_bytes());
}
