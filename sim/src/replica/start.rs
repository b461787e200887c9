//! Reading a region's files back, as the daemon does: manifest, runs, and the segments that the runs do not
//! cover. What is to be cut, written again or removed is said and not done.
//!
//! Must never: read anything but the files it is given.

use crdt::journal::{SegmentHeader, synced_evidence};
use crdt::recovery::{Damage, Loaded, Recovery, RecoveryConfig, Share};
use crdt::snapshot::{Group, Manifest, RUN_HEADER_BYTES, RUN_TRAILER_BYTES, RunEntry, RunHeader, RunTable};

use crate::disk::{Content, Disk};
use crate::oracle::facts::{Lsn, Millis};

/// File name ending of segments.
pub const SEGMENT: &str = ".log";
/// File name ending of runs.
pub const RUN: &str = ".run";
/// The file that names the runs.
pub const MANIFEST: &str = "checkpoint";

/// A segment that is whole.
#[derive(Clone, Debug)]
pub struct Closed {
    /// Its file.
    pub name: String,
    /// Its first record.
    pub first_lsn: Lsn,
    /// Its last record; less than the first where it has none.
    pub last_lsn: Lsn,
    /// When it was begun, Unix ms.
    pub created_ms: Millis,
    /// Where its records end, in bytes.
    pub end: usize,
}

/// What the files of a region hold.
pub struct Found {
    /// With everything put back; to be finished.
    pub recovery: Recovery,
    /// As on disk; of nothing where there is none.
    pub manifest: Manifest,
    /// All segments that count, oldest first.
    pub closed: Vec<Closed>,
    /// Those of them that are to be cut to their records and synced; and from where on nothing says that
    /// they were, in bytes.
    pub to_settle: Vec<(String, usize)>,
    /// Files that are no part of it any more.
    pub leftovers: Vec<String>,
    /// A torn tail was cut.
    pub torn: bool,
}

/// One run, opened.
struct Run<'d> {
    name: String,
    bytes: Content<'d>,
    header: RunHeader,
    table: RunTable,
}

/// Opens a run and checks all but its groups.
pub fn open_run(bytes: Option<&[u8]>, name: &str) -> Result<(RunHeader, RunTable), Damage> {
    let damage = |offset: usize| Damage::Run { run: name.to_owned(), offset: offset as u64 };
    let bytes = bytes.ok_or_else(|| damage(0))?;
    let end = bytes.len().saturating_sub(RUN_TRAILER_BYTES);
    let table_at = RunTable::offset(&bytes[end..], bytes.len() as u64).ok_or_else(|| damage(end))?;
    let header = RunHeader::decode(&bytes[..bytes.len().min(RUN_HEADER_BYTES)])
        .map_err(|error| Damage::Header { file: name.to_owned(), error })?;
    let table = RunTable::decode(&bytes[table_at as usize..], table_at);
    Ok((header, table.ok_or_else(|| damage(table_at as usize))?))
}

/// The bytes of one group of a run, as far as there are.
pub fn group<'d>(bytes: &'d [u8], group: &Group) -> &'d [u8] {
    let from = bytes.len().min(group.offset as usize);
    &bytes[from..bytes.len().min(from + group.len as usize)]
}

/// Reads everything back.
pub fn load(disk: &Disk, config: RecoveryConfig) -> Result<Found, Damage> {
    let (region, cluster) = (config.store.region, config.cluster);
    let mut found = Found {
        recovery: Recovery::new(config),
        manifest: Manifest { region, cluster, next_run: 1, ..Manifest::default() },
        closed: Vec::new(),
        to_settle: Vec::new(),
        leftovers: Vec::new(),
        torn: false,
    };
    let all_runs: Vec<&str> = disk.list().filter(|name| name.ends_with(RUN)).collect();
    if let Some(bytes) = disk.read(MANIFEST) {
        match found.recovery.manifest(MANIFEST, &bytes) {
            Ok(manifest) => found.manifest = manifest,
            Err(damage) => {
                found.recovery.forgive(damage)?;
                let entry = |name: &&str| entry_of(name, disk.len_of(name).unwrap_or(0));
                found.manifest.runs = all_runs.iter().filter_map(entry).collect();
            }
        }
    }
    found.runs(disk)?;
    found.segments(disk)?;
    let known = |name: &str| found.manifest.runs.iter().any(|run| run.file_name() == name);
    found.leftovers.extend(all_runs.into_iter().filter(|name| !known(name)).map(str::to_owned));
    Ok(found)
}

/// As the file's name says; for a folder whose manifest is lost.
fn entry_of(name: &str, bytes: usize) -> Option<RunEntry> {
    let (number, class) = name.strip_suffix(RUN)?.split_once('-')?;
    let (number, class) = (number.parse().ok()?, class.parse().ok()?);
    Some(RunEntry { number, class, bytes: bytes as u64, states: 0, dies_at_ms: u64::MAX })
}

/// How many of the oldest segments the runs cover.
fn covered_count(headers: &[Option<SegmentHeader>], covers: Lsn) -> usize {
    let begins_covered = |header: &Option<SegmentHeader>| header.is_some_and(|h| h.first_lsn <= covers);
    headers.iter().rposition(begins_covered).map_or(0, |last| last + 1)
}

impl Found {
    fn runs(&mut self, disk: &Disk) -> Result<(), Damage> {
        let mut runs = Vec::new();
        for entry in &self.manifest.runs {
            let name = entry.file_name();
            let opened = open_run(disk.read(&name).as_deref(), &name);
            match opened
                .and_then(|(header, table)| self.recovery.check_run(&name, &header).map(|()| (header, table)))
            {
                Ok((header, table)) => {
                    let bytes = disk.read(&name).unwrap_or_default();
                    runs.push(Run { name, bytes, header, table });
                }
                Err(damage) => self.recovery.forgive(damage)?,
            }
        }
        let mut loaded = Loaded::default();
        for conflicts in [false, true] {
            for Run { name, bytes, header, table } in &runs {
                for line in table.groups.iter().filter(|line| (line.shard >= header.shards) == conflicts) {
                    let result =
                        self.recovery.load_group(name, header, line, group(bytes, line), &mut loaded);
                    if let Err(damage) = result {
                        self.recovery.forgive(damage)?;
                    }
                }
            }
        }
        self.recovery.absorb(loaded);
        Ok(())
    }

    fn segments(&mut self, disk: &Disk) -> Result<(), Damage> {
        let files: Vec<(&str, Content<'_>)> = disk
            .list()
            .filter(|name| name.ends_with(SEGMENT))
            .filter_map(|name| Some((name, disk.read(name)?)))
            .collect();
        let headers: Vec<Option<SegmentHeader>> =
            files.iter().map(|(_, bytes)| SegmentHeader::decode(bytes).ok()).collect();
        let covered = covered_count(&headers, self.manifest.covers());
        for (at, (name, bytes)) in files.iter().enumerate().take(covered) {
            self.covered(name, bytes.len(), headers[at].as_ref(), headers.get(at + 1).map(Option::as_ref));
        }
        if let Some(first) = self.closed.first() {
            self.recovery.log_starts_at(first.first_lsn);
        }
        for (at, (name, bytes)) in files.iter().enumerate().skip(covered) {
            let rest: Vec<SegmentHeader> = headers[at + 1..].iter().copied().flatten().collect();
            let tag = Some(self.recovery.mark_tag());
            let later =
                || files[at + 1..].iter().map(|(_, bytes)| synced_evidence(bytes, tag)).max().unwrap_or(0);
            let scan = self.recovery.scan(name, bytes, &rest, later)?;
            let loaded = self.recovery.apply(&scan, bytes, Share::ALL)?;
            self.recovery.absorb(loaded);
            let report = scan.report;
            self.torn |= report.torn_bytes > 0;
            if report.behind_tear {
                self.leftovers.push((*name).to_owned());
                continue;
            }
            self.to_settle.push(((*name).to_owned(), report.marked_end));
            self.closed.push(Closed {
                name: (*name).to_owned(),
                first_lsn: report.header.first_lsn,
                last_lsn: report.last_lsn,
                created_ms: report.header.created_ms,
                end: report.end,
            });
        }
        // A later segment may say so of all of an earlier one.
        let marked = self.recovery.marked();
        for ((_, unmarked), closed) in self.to_settle.iter_mut().rev().zip(self.closed.iter().rev()) {
            if closed.last_lsn <= marked {
                *unmarked = closed.end;
            }
        }
        Ok(())
    }

    /// Segments that runs cover are kept for peers, and are nothing to start from.
    fn covered(
        &mut self,
        name: &str,
        bytes: usize,
        header: Option<&SegmentHeader>,
        next: Option<Option<&SegmentHeader>>,
    ) {
        let covers = self.manifest.covers();
        let last_lsn = next.map_or(Some(covers), |next| next.map(|next| next.first_lsn - 1));
        let (Some(header), Some(last_lsn)) = (header, last_lsn) else {
            // Nothing before a gap can be streamed.
            self.leftovers.extend(self.closed.drain(..).map(|segment| segment.name));
            self.leftovers.push(name.to_owned());
            return;
        };
        self.closed.push(Closed {
            name: name.to_owned(),
            first_lsn: header.first_lsn,
            last_lsn,
            created_ms: header.created_ms,
            end: bytes,
        });
    }
}
