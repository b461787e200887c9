//! A log segment: its header, every record, where it ends and how.
//!
//! Whether an end is a torn tail or damage is a start's to decide, because it depends on the machine's boot and
//! on the segments behind this one. What this file alone shows is said: whether whole records stand behind, and
//! whether one of them says that what is missing had been synced.

use crdt::journal::{End, HEADER_BYTES, MalformedHeader, RECORD_HEADER_BYTES, Record, SegmentHeader};

use super::describe::{self, Fields};
use super::reader::Reader;
use super::{DumpError, Ended, Sink, Source, int, say, text};
use crate::cli::output::hex;
use crate::resp::Value;

pub(super) fn dump(source: &Source<'_>, sink: &mut Sink<'_>) -> Result<Ended, DumpError> {
    let bytes = source.read(0, HEADER_BYTES as u64)?;
    let mut fields = vec![("file", text(source.path.display().to_string()))];
    let mut walk = Walk { source, lsn: None, records: 0, ended: Ended::Whole };
    match SegmentHeader::decode(&bytes) {
        Ok(header) => {
            fields.extend(of_header(&header));
            walk.lsn = Some(header.first_lsn);
            say(sink, "segment", fields)?;
        }
        Err(MalformedHeader::Checksum) => {
            fields.push(("bytes", int(source.len)));
            say(sink, "segment", fields)?;
            walk.damage(sink, 0, HEADER_BYTES as u64, "the header's checksum does not match")?;
        }
        Err(error) => {
            return Err(DumpError::Header { path: source.path.to_owned(), error });
        }
    }
    walk.run(sink)
}

/// What a segment's header says.
pub(super) fn of_header(header: &SegmentHeader) -> Fields {
    vec![
        ("version", int(crdt::journal::FORMAT_VERSION.into())),
        ("region", int(header.region.0.into())),
        ("incarnation", int(header.incarnation.0.into())),
        ("epoch", describe::epoch(header.epoch)),
        ("first_lsn", int(header.first_lsn)),
        ("created_at", int(header.created_ms)),
        ("cluster", text(hex(&header.cluster))),
        ("boot", text(format!("{:016x}", header.boot))),
        ("synced_first", Value::Bool(header.synced_first)),
    ]
}

struct Walk<'w> {
    source: &'w Source<'w>,
    /// The next record's number; unknown behind damage.
    lsn: Option<u64>,
    records: u64,
    ended: Ended,
}

impl Walk<'_> {
    fn run(mut self, sink: &mut Sink<'_>) -> Result<Ended, DumpError> {
        let mut reader = Reader::new(self.source, HEADER_BYTES as u64);
        loop {
            let at = reader.at;
            let end = match reader.next_body()? {
                Ok(range) => {
                    self.record(sink, at, reader.body(range))?;
                    continue;
                }
                Err(end) => end,
            };
            if end == End::Clean && reader.rest_is_zero()? {
                self.end(sink, "clean", at, self.source.len - at)?;
                return Ok(self.ended);
            }
            let Some(next) = reader.behind_damage()? else {
                self.end(sink, "torn", at, self.source.len - at)?;
                return Ok(self.ended);
            };
            let synced = reader.synced_behind()?;
            let why = match self.lsn {
                Some(lsn) if synced < lsn => {
                    "no record; whole ones stand behind, and none says that this one was synced: what a power \
                     failure leaves, and damage otherwise"
                }
                Some(_) => "no record, and one behind says that it was synced: damage",
                None => "no record; whole ones stand behind",
            };
            self.damage(sink, at, next - at, why)?;
            reader.go_on_at(next);
        }
    }

    fn record(&mut self, sink: &mut Sink<'_>, at: u64, body: &[u8]) -> Result<(), DumpError> {
        let (lsn, len) = (self.lsn, body.len() + RECORD_HEADER_BYTES);
        self.records += 1;
        let decoded = Record::decode(body);
        let said =
            decoded.as_ref().ok().and_then(|record| describe::record(record, self.source.selection.values));
        let Some(said) = said else {
            let why = decoded.err().map_or("the entry of a record does not decode".into(), |e| e.to_string());
            self.lsn = lsn;
            self.damage(sink, at, len as u64, &format!("whole by its checksum, yet {why}"))?;
            self.lsn = lsn.map(|lsn| lsn + 1);
            return Ok(());
        };
        self.lsn = lsn.map(|lsn| lsn + 1);
        let selection = self.source.selection;
        let in_range = lsn.is_none_or(|lsn| {
            selection.from.is_none_or(|from| lsn >= from) && selection.to.is_none_or(|to| lsn <= to)
        });
        let key = decoded.as_ref().ok().and_then(describe::key_of);
        if !in_range || !self.source.wants_key(key) {
            return Ok(());
        }
        let mut fields =
            vec![("offset", int(at)), ("lsn", lsn.map_or(Value::Null, int)), ("bytes", int(len as u64))];
        fields.extend(said);
        say(sink, "record", fields)
    }

    fn damage(&mut self, sink: &mut Sink<'_>, at: u64, bytes: u64, why: &str) -> Result<(), DumpError> {
        self.ended = Ended::Damaged;
        // How many records are missing nobody knows.
        let lsn = self.lsn.take().map_or(Value::Null, int);
        say(
            sink,
            "damage",
            vec![("offset", int(at)), ("lsn", lsn), ("bytes", int(bytes)), ("why", text(why))],
        )
    }

    fn end(&self, sink: &mut Sink<'_>, how: &'static str, at: u64, behind: u64) -> Result<(), DumpError> {
        let last = self.lsn.map_or(Value::Null, |next| int(next - 1));
        let fields = vec![
            ("how", text(how)),
            ("offset", int(at)),
            ("records", int(self.records)),
            ("last_lsn", last),
            ("bytes_behind", int(behind)),
        ];
        say(sink, "end", fields)
    }
}
