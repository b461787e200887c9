//! A run: its header, its groups by shard, the states in each.
//!
//! A group is walked twice, once for its checksum, so that the verdict stands above what it is about and no
//! more than one state is held.

use std::io::{BufReader, Read, Seek, SeekFrom};

use crdt::journal::{MalformedHeader, Record};
use crdt::limits;
use crdt::snapshot::{Group, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RUN_VERSION, RunHeader, RunTable};

use super::describe::{self, Fields};
use super::{DumpError, Ended, Sink, Source, int, say, text};
use crate::cli::output::hex;
use crate::resp::Value;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 1 << 20;
/// The kinds of record that states are, see the format of runs.
const KIND_ENTRY: u8 = 1;
const KIND_CONFLICT: u8 = 4;
/// Kind of a record that holds a conflict with flags.
const KIND_CONFLICT_FLAGGED: u8 = 11;

pub(super) fn dump(source: &Source<'_>, sink: &mut Sink<'_>) -> Result<Ended, DumpError> {
    let mut fields = vec![("file", text(source.path.display().to_string()))];
    let header = match RunHeader::decode(&source.read(0, RUN_HEADER_BYTES as u64)?) {
        Ok(header) => Some(header),
        Err(MalformedHeader::Checksum) => None,
        Err(error) => return Err(DumpError::Header { path: source.path.to_owned(), error }),
    };
    fields.extend(header.map(|header| of_header(&header)).into_iter().flatten());
    say(sink, "run", fields)?;
    if header.is_none() {
        damage(sink, 0, "the header's checksum does not match")?;
    }
    let Some(table) = table(source)? else {
        damage(
            sink,
            source.len.saturating_sub(RUN_TRAILER_BYTES as u64),
            "the table at the end does not read",
        )?;
        return Ok(Ended::Damaged);
    };
    let mut ended = if header.is_some() { Ended::Whole } else { Ended::Damaged };
    // Without the header, the last group may be of states or of conflicts: what decodes, counts.
    let shards = header.map_or(u32::MAX, |header| header.shards);
    for group in &table.groups {
        if dump_group(source, group, group.shard >= shards, sink)? == Ended::Damaged {
            ended = Ended::Damaged;
        }
    }
    let how = if ended == Ended::Whole { "clean" } else { "damaged" };
    let fields = vec![
        ("how", text(how)),
        ("groups", int(table.groups.len() as u64)),
        ("states", int(table.states)),
        ("dies_at", int(table.dies_at_ms)),
        ("bytes", int(source.len)),
    ];
    say(sink, "end", fields)?;
    Ok(ended)
}

fn of_header(header: &RunHeader) -> Fields {
    vec![
        ("version", int(RUN_VERSION.into())),
        ("region", int(header.region.0.into())),
        ("incarnation", int(header.incarnation.0.into())),
        ("number", int(header.number)),
        ("created_at", int(header.created_ms)),
        ("cluster", text(hex(&header.cluster))),
        ("shards", int(header.shards.into())),
        ("class", int(header.class.into())),
    ]
}

fn table(source: &Source<'_>) -> Result<Option<RunTable>, DumpError> {
    let trailer_at = source.len.saturating_sub(RUN_TRAILER_BYTES as u64);
    let trailer = source.read(trailer_at, RUN_TRAILER_BYTES as u64)?;
    let Some(offset) = RunTable::offset(&trailer, source.len) else { return Ok(None) };
    Ok(RunTable::decode(&source.read(offset, source.len - offset)?, offset))
}

fn damage(sink: &mut Sink<'_>, at: u64, why: &str) -> Result<(), DumpError> {
    say(sink, "damage", vec![("offset", int(at)), ("why", text(why))])
}

fn dump_group(
    source: &Source<'_>,
    group: &Group,
    is_conflicts: bool,
    sink: &mut Sink<'_>,
) -> Result<Ended, DumpError> {
    let whole = crc_of(source, group)? == group.crc;
    if source.selection.key.is_none() {
        let fields = vec![
            ("offset", int(group.offset)),
            ("shard", if is_conflicts { Value::Null } else { int(group.shard.into()) }),
            ("of", text(if is_conflicts { "conflicts" } else { "keys" })),
            ("states", int(group.states.into())),
            ("bytes", int(group.len)),
        ];
        say(sink, "group", fields)?;
    }
    if !whole {
        damage(sink, group.offset, "the group's checksum does not match; what still decodes is shown")?;
    }
    let decodes = dump_states(source, group, is_conflicts, sink)?;
    Ok(if whole && decodes { Ended::Whole } else { Ended::Damaged })
}

fn crc_of(source: &Source<'_>, group: &Group) -> Result<u32, DumpError> {
    let (mut crc, mut done) = (0, 0);
    while done < group.len {
        let bytes = source.read(group.offset + done, CHUNK_BYTES.min(group.len - done))?;
        crc = crc32c::crc32c_append(crc, &bytes);
        done += bytes.len().max(1) as u64;
    }
    Ok(crc)
}

/// False: some do not decode, and a line said so.
fn dump_states(
    source: &Source<'_>,
    group: &Group,
    is_conflicts: bool,
    sink: &mut Sink<'_>,
) -> Result<bool, DumpError> {
    let mut reader = BufReader::with_capacity(CHUNK_BYTES as usize, source.file);
    reader.seek(SeekFrom::Start(group.offset)).map_err(|error| source.io(error))?;
    let (mut done, mut state, mut whole) = (0, Vec::new(), true);
    while done < group.len {
        let at = group.offset + done;
        let mut length = [0; 4];
        if group.len - done >= 4 {
            reader.read_exact(&mut length).map_err(|error| source.io(error))?;
        }
        let len = u64::from(u32::from_le_bytes(length));
        if len == 0 || len > limits::STATE_BYTES_MAX as u64 || len + 4 > group.len - done {
            damage(sink, at, "a state's length leads out of the group; the rest of the group is skipped")?;
            return Ok(false);
        }
        // As a record's body, which it is but for the kind.
        state.resize(1 + len as usize, 0);
        state[0] = if is_conflicts { KIND_CONFLICT } else { KIND_ENTRY };
        reader.read_exact(&mut state[1..]).map_err(|error| source.io(error))?;
        done += 4 + len;
        let mut body = state.as_slice();
        if is_conflicts && state[1] == 0 {
            // One with flags: the zero stands where the kind does in a record.
            state[1] = KIND_CONFLICT_FLAGGED;
            body = &state[1..];
        }
        let record = Record::decode(body).ok();
        let said = record.as_ref().and_then(|record| describe::record(record, source.selection.values));
        let (Some(record), Some(mut said)) = (record, said) else {
            damage(sink, at, "a state does not decode")?;
            whole = false;
            continue;
        };
        if source.wants_key(describe::key_of(&record)) {
            // A run holds what is so, whoever decided it.
            said.retain(|(name, _)| *name != "origin");
            let mut fields = vec![("offset", int(at)), ("bytes", int(len))];
            fields.extend(said);
            say(sink, "state", fields)?;
        }
    }
    Ok(whole)
}
