//! A manifest: what the runs cover, what the log says besides its entries, and the runs.

use crdt::limits;
use crdt::snapshot::{MANIFEST_VERSION, MalformedManifest, Manifest, RunEntry};

use super::describe;
use super::segment::of_header;
use super::{DumpError, Ended, Sink, Source, int, say, text};
use crate::cli::output::hex;
use crate::resp::Value;

/// No manifest is larger: its runs, epochs and peers are bounded.
const BYTES_MAX: u64 = 64 * (limits::RUNS_MAX + limits::EPOCHS_MAX + limits::PEERS_MAX) as u64;

pub(super) fn dump(source: &Source<'_>, sink: &mut Sink<'_>) -> Result<Ended, DumpError> {
    let error = |error| DumpError::Manifest { path: source.path.to_owned(), error };
    if source.len > BYTES_MAX {
        return Err(error(MalformedManifest::Encoding));
    }
    let manifest = Manifest::decode(&source.read(0, source.len)?).map_err(error)?;
    let meta = &manifest.meta;
    let fields = vec![
        ("file", text(source.path.display().to_string())),
        ("version", int(MANIFEST_VERSION.into())),
        ("region", int(manifest.region.0.into())),
        ("cluster", text(hex(&manifest.cluster))),
        ("covers_lsn", int(manifest.covers())),
        ("next_run", int(manifest.next_run)),
        ("over", int(manifest.over.0.into())),
        ("clock_until", int(meta.ceiling_ms)),
        ("clock_floor_at", int(meta.floor_ms)),
        ("stopped", Value::Bool(meta.stopped)),
        ("incomplete", Value::Bool(meta.incomplete)),
    ];
    say(sink, "manifest", fields)?;
    if let Some(header) = &meta.last {
        say(sink, "segment", [vec![("file", text("(the last covered)"))], of_header(header)].concat())?;
    }
    for (peer, cursor) in &meta.cursors {
        let fields = [vec![("peer", int(peer.0.into()))], describe::of_cursor(*cursor)].concat();
        say(sink, "cursor", fields)?;
    }
    for (epoch, first_lsn) in &meta.epochs {
        let torn = meta.torn_epochs.contains(epoch);
        let fields = vec![
            ("epoch", describe::epoch(*epoch)),
            ("first_lsn", int(*first_lsn)),
            ("end_may_be_lost", Value::Bool(torn)),
        ];
        say(sink, "epoch", fields)?;
    }
    for (region, stamp) in &meta.newest_stamps {
        let fields = vec![
            ("region", int(region.0.into())),
            ("newest", describe::stamp(*stamp)),
            ("newest_at", int(stamp.ms())),
        ];
        say(sink, "stamp", fields)?;
    }
    for run in &manifest.runs {
        say(sink, "file", of_run(run))?;
    }
    let states = manifest.runs.iter().map(|run| run.states).sum();
    let fields = vec![
        ("how", text("clean")),
        ("runs", int(manifest.runs.len() as u64)),
        ("states", int(states)),
        ("run_bytes", int(manifest.run_bytes())),
    ];
    say(sink, "end", fields)?;
    Ok(Ended::Whole)
}

fn of_run(run: &RunEntry) -> describe::Fields {
    vec![
        ("file", text(run.file_name())),
        ("class", int(run.class.into())),
        ("bytes", int(run.bytes)),
        ("states", int(run.states)),
        ("dies_at", int(run.dies_at_ms)),
    ]
}
