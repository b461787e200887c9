//! Making one run of many small ones, so that a folder does not fill with files.
//!
//! Sixteen small runs of one class become one; what has grown beyond [`limits::RUN_SMALL_BYTES`] is not
//! small any more and never written again. So a state is rewritten at most a few times in its life, however
//! long that is. A key that several of them hold stays there several times: loading joins.

use std::collections::VecDeque;

use super::manifest::{Manifest, RunEntry};
use super::run::{Group, RunHeader, RunTable, RunWriter};
use crate::limits;

/// One merge under way. The driver reads what [`Merging::sources`] name, calls [`Merging::step`] until it
/// says that it was the last, syncs the new file, and writes the manifest of [`Merging::finish`].
#[derive(Debug)]
pub struct Merging {
    sources: Vec<RunEntry>,
    /// What is still to be merged of each.
    groups: Vec<VecDeque<Group>>,
    writer: RunWriter,
    begun: bool,
}

impl Merging {
    /// The runs that should become one, oldest first; `None`: nothing to do.
    pub fn plan(manifest: &Manifest) -> Option<Vec<RunEntry>> {
        if manifest.runs.len() < limits::RUNS_MERGED_AT_ONCE {
            return None;
        }
        (0..super::CLASSES as u8).find_map(|class| {
            let small = |run: &&RunEntry| run.class == class && run.bytes < limits::RUN_SMALL_BYTES;
            let runs: Vec<RunEntry> =
                manifest.runs.iter().filter(small).take(limits::RUNS_MERGED_AT_ONCE).copied().collect();
            (runs.len() == limits::RUNS_MERGED_AT_ONCE).then_some(runs)
        })
    }

    /// Begins with what each source's header and table say.
    pub fn new(manifest: &mut Manifest, sources: Vec<(RunEntry, RunHeader, RunTable)>) -> Self {
        let (number, shards) = (manifest.next_run, sources.iter().map(|(_, header, _)| header.shards).max());
        manifest.next_run += 1;
        let shards = shards.unwrap_or(0);
        let first = sources.first().map(|(_, header, _)| *header).unwrap_or_default();
        let groups = |(_, header, table): &(RunEntry, RunHeader, RunTable)| {
            // Conflicts stand behind the last shard, however many there were when a source was written.
            let in_merged = |group: &Group| match group.shard >= header.shards {
                true => Group { shard: shards, ..*group },
                false => *group,
            };
            table.groups.iter().map(in_merged).collect()
        };
        Self {
            groups: sources.iter().map(groups).collect(),
            sources: sources.into_iter().map(|(entry, ..)| entry).collect(),
            writer: RunWriter::new(RunHeader { number, shards, ..first }),
            begun: false,
        }
    }

    /// The runs that are merged.
    pub fn sources(&self) -> &[RunEntry] {
        &self.sources
    }

    /// Merges the groups of the next shard: `read` gives a group's bytes, checked against its CRC, `sink` is
    /// given what to append to the new file. True: there is more.
    pub fn step<E>(
        &mut self,
        mut read: impl FnMut(&RunEntry, &Group) -> Result<Vec<u8>, E>,
        mut sink: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let name = self.writer.header().file_name();
        if !self.begun {
            self.begun = true;
            sink(&name, &self.writer.header().encode())?;
        }
        let Some(shard) = self.groups.iter().filter_map(|groups| Some(groups.front()?.shard)).min() else {
            sink(&name, &self.writer.finish().0)?;
            return Ok(false);
        };
        let (mut bytes, mut states) = (Vec::new(), 0);
        for (source, groups) in self.sources.iter().zip(&mut self.groups) {
            if let Some(group) = groups.pop_front_if(|group| group.shard == shard) {
                bytes.append(&mut read(source, &group)?);
                states += group.states;
            }
        }
        let dies_at_ms = self.sources.iter().map(|run| run.dies_at_ms).max().unwrap_or(0);
        self.writer.group(shard, &bytes, states, dies_at_ms);
        sink(&name, &bytes)?;
        Ok(true)
    }

    /// Puts the new run in the place of its sources.
    pub fn finish(self, manifest: &mut Manifest) {
        let sources = &self.sources;
        manifest.runs.retain(|run| !sources.iter().any(|source| source.number == run.number));
        manifest.runs.push(RunEntry {
            number: self.writer.header().number,
            class: self.writer.header().class,
            bytes: self.writer.finish().1,
            states: self.writer.table().states,
            dies_at_ms: self.writer.table().dies_at_ms,
        });
        manifest.runs.sort_unstable_by_key(|run| run.number);
    }
}
