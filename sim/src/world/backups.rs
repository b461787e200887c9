//! Copies of a region's data folder, and what follows when an old one is put back (S6).
//!
//! A backup is what `onced backup save` makes beside a running daemon: the files as the kernel shows them, and a manifest
//! which says that the life they tell of is over. So the region that starts from it takes a new incarnation, lacks what it
//! had accepted since, and grants nothing before a peer has told it what it knows.
//!
//! Must never: help the start; what is missing in the copy is for recovery and the peers.

use super::World;
use super::lives::Death;
use crate::disk::Copied;
use crate::goals::Goal;
use crate::limits;
use crate::replica::backup::declare_over;
use crate::replica::start::MANIFEST;
use crate::story::What;

/// A copy of a region's files.
pub(super) struct Backup {
    files: Vec<(String, Copied)>,
}

impl World {
    /// The operator saves a region's data; nothing to save where no daemon runs.
    pub(super) fn back_up(&mut self, at: usize) {
        let site = &mut self.sites[at];
        let Some(replica) = &site.replica else { return };
        let mut files = site.disk.copy();
        let over = declare_over(site.disk.read(MANIFEST).as_deref(), at, replica.incarnation());
        files.retain(|(name, _)| name != MANIFEST);
        files.push((MANIFEST.to_owned(), over.into()));
        let (region, written) = (site.region(), site.written);
        site.backup = Some(Backup { files });
        self.trace.event(self.now_us(), "backup", &[at as u64, written]);
        self.story.note(self.now_us(), at, What::BackedUp);
        self.oracle.backed_up(region, written);
    }

    /// The process ends and comes back with the last backup instead of its data; nothing where there is none.
    pub(super) fn restore(&mut self, at: usize, down_us: u64) {
        let now_us = self.now_us();
        if self.sites[at].backup.is_none() || !self.is_member(at) {
            return;
        }
        self.crash(at, down_us.max(limits::REBIRTH_US), Death::Restored);
        self.trace.event(now_us, "restore", &[at as u64]);
        let site = &mut self.sites[at];
        if let Some(backup) = &site.backup {
            let put = site.disk.put_back(&backup.files);
            assert!(put.is_ok(), "a new disk takes everything");
        }
        site.rotten = false;
        self.goals.reach(Goal::Restored);
    }

    /// The region is stopped and the next version started.
    pub(super) fn upgrade(&mut self, at: usize, down_us: u64) {
        if !self.is_member(at) {
            return;
        }
        self.trace.event(self.now_us(), "upgrade", &[at as u64]);
        self.crash(at, down_us, Death::Process);
        self.sites[at].version += 1;
        self.story.note(self.now_us(), at, What::Upgraded { version: self.sites[at].version });
    }

    /// What two regions speak with each other: the older's, if the newer still does (S7); none otherwise.
    pub(super) fn version_between(&self, a: usize, b: usize) -> Option<u32> {
        let [a, b] = [a, b].map(|at| self.sites[at].version);
        (a.abs_diff(b) <= 1).then_some(a.min(b))
    }

    /// A frame was taken in: between regions of two versions it shows that they work together.
    pub(super) const fn note_versions(&mut self, from: u32, to: u32) {
        if from != to {
            self.goals.reach(Goal::VersionsMixed);
        }
    }
}
