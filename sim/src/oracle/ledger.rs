//! Everything that was accepted anywhere, and what a crash may have undone.
//!
//! An accepted part is *certain* unless its region lost the log position it was written at; then it is
//! doubtful: it may have reached a peer or the disk all the same, and whether it did is read off the
//! regions' final entries. Whatever is certain must be there at the end, unless it died.
//!
//! Must never: forget an accepted part during a run.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Key, Lsn, Part, Region, View};

/// One accepted part.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// On which key.
    pub key: Key,
    /// Where it was accepted.
    pub region: Region,
    /// The log position by which it was written; 0 once it survived a restart.
    pub lsn: Lsn,
    /// What.
    pub part: Part,
    /// When, virtual microseconds.
    pub at_us: u64,
    /// The log position was lost in a crash.
    pub doubtful: bool,
    /// Somebody was told.
    pub acknowledged: bool,
}

/// All accepted parts of a run, in the order of acceptance.
#[derive(Debug, Default)]
pub struct Ledger {
    accepted: Vec<Accepted>,
    /// By region: indices into `accepted` since its last crash.
    recent: BTreeMap<Region, Vec<usize>>,
    /// By region: what the last copy of its data covers.
    backups: BTreeMap<Region, BTreeSet<usize>>,
    /// By key: indices into `accepted`.
    by_key: BTreeMap<Key, Vec<usize>>,
}

impl Ledger {
    /// Adds a part.
    pub fn add(&mut self, accepted: Accepted) {
        self.recent.entry(accepted.region).or_default().push(self.accepted.len());
        self.by_key.entry(accepted.key).or_default().push(self.accepted.len());
        self.accepted.push(accepted);
    }

    /// The region lost everything of its log after `kept`.
    pub fn crash(&mut self, region: Region, kept: Lsn) {
        for at in self.recent.remove(&region).unwrap_or_default() {
            let accepted = &mut self.accepted[at];
            accepted.doubtful = accepted.lsn > kept;
            accepted.lsn = 0;
        }
    }

    /// The region lost its disk, or left: whether anything it accepted has survived is for the others to show.
    pub fn wipe(&mut self, region: Region) {
        self.recent.remove(&region);
        for accepted in self.accepted.iter_mut().filter(|accepted| accepted.region == region) {
            accepted.doubtful = true;
            accepted.lsn = 0;
        }
    }

    /// The region's data was copied as the kernel had it, with its log up to `written`.
    pub fn back_up(&mut self, region: Region, written: Lsn) {
        let covered =
            |accepted: &Accepted| accepted.region == region && !accepted.doubtful && accepted.lsn <= written;
        let all = self.accepted.iter().enumerate();
        let covered = all.filter(|(_, accepted)| covered(accepted)).map(|(at, _)| at).collect();
        self.backups.insert(region, covered);
    }

    /// The last copy was put back: what it covers is there, whether anything else has survived is for the others to show.
    pub fn restore(&mut self, region: Region) {
        self.recent.remove(&region);
        let covered = self.backups.get(&region);
        for (at, accepted) in self.accepted.iter_mut().enumerate() {
            if accepted.region == region {
                accepted.doubtful = !covered.is_some_and(|covered| covered.contains(&at));
                accepted.lsn = 0;
            }
        }
    }

    /// The answer to the decision that ended at `lsn` in `region` was told to its caller.
    pub fn acknowledge(&mut self, region: Region, key: Key, lsn: Lsn) {
        for at in self.recent.get(&region).into_iter().flatten().rev() {
            let accepted = &mut self.accepted[*at];
            if accepted.lsn < lsn {
                break;
            }
            if accepted.key == key && accepted.lsn == lsn {
                accepted.acknowledged = true;
            }
        }
    }

    /// Parts accepted in `region` since its last crash, by position: those after the first `skip`
    /// and up to `lsn`.
    pub fn since(&self, region: Region, skip: usize, lsn: Lsn) -> impl Iterator<Item = &Accepted> {
        let recent = self.recent.get(&region).map_or(&[][..], Vec::as_slice);
        recent.iter().skip(skip).map(|at| &self.accepted[*at]).take_while(move |a| a.lsn <= lsn)
    }

    /// Every accepted part of a key.
    pub fn of_key(&self, key: Key) -> impl Iterator<Item = &Accepted> {
        self.by_key.get(&key).into_iter().flatten().map(|at| &self.accepted[*at])
    }

    /// The naive join of everything accepted for a key that `keep` lets through.
    pub fn model(&self, key: Key, keep: impl Fn(&Accepted) -> bool) -> View {
        let mut view = View::default();
        self.of_key(key).filter(|accepted| keep(accepted)).for_each(|accepted| view.add(&accepted.part));
        view
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_copy_covers_is_certain_when_it_is_put_back_and_nothing_else_of_the_region() {
        let accepted = |region: Region, lsn: Lsn| Accepted {
            key: 0,
            region,
            lsn,
            part: Part::Forgotten(lsn),
            at_us: 0,
            doubtful: false,
            acknowledged: true,
        };
        let mut ledger = Ledger::default();
        [(1, 1), (1, 2), (2, 1)].into_iter().for_each(|(region, lsn)| ledger.add(accepted(region, lsn)));
        // The second was not written when the copy was made.
        ledger.back_up(1, 1);
        ledger.add(accepted(1, 3));
        ledger.crash(1, 3);
        ledger.restore(1);
        let doubtful: Vec<bool> = ledger.of_key(0).map(|accepted| accepted.doubtful).collect();
        assert_eq!(doubtful, [false, true, false, true]);
        ledger.wipe(1);
        ledger.restore(1);
        let doubtful: Vec<bool> = ledger.of_key(0).map(|accepted| accepted.doubtful).collect();
        assert_eq!(doubtful, [false, true, false, true], "a disk that is lost is no matter to the copy");
    }
}
