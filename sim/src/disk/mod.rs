//! One region's disk: files by name, with "the kernel has it" and "the disk has it" kept apart.
//!
//! A process crash keeps everything that was done. A power loss keeps what was synced: of a file's
//! content what an `fdatasync` covered, of its name what a sync of the folder covered. Of the rest every
//! sector and every change of a name may have happened or not, in order or not (S6). What is left of a
//! log then is for the recovery under test to find out.
//!
//! It breaks in other ways too: a sync or a write fails, the room is used up, a bit turns over, and a
//! fuse cuts a sequence of calls between any two of them.
//!
//! Left out: foreign bytes in sectors that were reserved and never written. The file systems that onced
//! is for read zeros there.
//!
//! Must never: know what a record is; bytes, names and positions only.

mod file;
mod sparse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::random::Dice;
use file::File;
pub use sparse::{Content, Sparse as Copied};

/// An open file. It stays the same under another name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(u64);

/// What was done to a file when a sync of it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    file: FileId,
    changes: u64,
}

impl Mark {
    /// Of which file.
    pub const fn file(self) -> FileId {
        self.file
    }
}

/// Why a call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fail {
    /// ENOSPC.
    Full,
    /// EIO. After a sync, what it should have covered may be on disk or not.
    Io,
    /// The fuse has blown: the process ends here, in the middle of what it was about.
    Cut,
}

/// A kind of call that can be made to fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// It writes some of what it should.
    Write,
    /// Of a file.
    Sync,
    /// Of the folder.
    SyncFolder,
}

/// What a power loss did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Loss {
    /// Bytes that were written and are gone.
    pub lost_bytes: usize,
    /// A sector holds the beginning or the end of what was written to it.
    pub torn: bool,
    /// Something is gone in a file of which later bytes are there.
    pub hole: bool,
    /// A new, changed or deleted name is as it was before.
    pub names: bool,
}

impl Loss {
    fn join(&mut self, other: Self) {
        self.lost_bytes += other.lost_bytes;
        self.torn |= other.torn;
        self.hole |= other.hole;
        self.names |= other.names;
    }
}

/// Which of the unsynced changes a power loss leaves.
#[derive(Clone, Copy, Debug)]
enum Wear {
    /// The first ones: so many bytes.
    InOrder { left: usize },
    /// Each by itself, in so many of 1,000 cases.
    Scattered { kept: u64 },
}

impl Wear {
    /// Whether a change of `bytes` bytes happened.
    fn keeps(&mut self, bytes: usize, dice: &mut Dice) -> bool {
        match self {
            Self::Scattered { kept } => dice.chance(*kept),
            Self::InOrder { left } if *left >= bytes.max(1) => {
                *left -= bytes;
                true
            }
            Self::InOrder { left } => {
                *left = 0;
                false
            }
        }
    }
}

/// Something done to the folder and not synced.
#[derive(Clone, Debug)]
enum Move {
    Link(String, FileId),
    Rename(String, String, FileId),
    Unlink(String, FileId),
}

/// See the module's text.
#[derive(Clone, Debug)]
pub struct Disk {
    dice: Dice,
    files: BTreeMap<FileId, File>,
    created: u64,
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    moves: Vec<Move>,
    /// Bytes that it can hold; `None`: more than anybody wants.
    capacity: Option<usize>,
    /// Calls until [`Fail::Cut`].
    fuse: Option<u64>,
    /// Syncs, and writes, until one fails.
    sync_fails: Option<u64>,
    folder_sync_fails: Option<u64>,
    write_fails: Option<u64>,
}

impl Disk {
    /// An empty disk; what it does by chance it takes from `dice`.
    pub const fn new(dice: Dice) -> Self {
        Self {
            dice,
            files: BTreeMap::new(),
            created: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            moves: Vec::new(),
            capacity: None,
            fuse: None,
            sync_fails: None,
            folder_sync_fails: None,
            write_fails: None,
        }
    }

    /// `open(2)` with `O_CREAT` and `O_TRUNC`: a file that is there is emptied.
    pub fn create(&mut self, name: &str) -> Result<FileId, Fail> {
        self.burn()?;
        if let Some(id) = self.open(name) {
            let file = self.file(id);
            file.set_len(0);
            file.room = 0;
            return Ok(id);
        }
        self.created += 1;
        let id = FileId(self.created);
        self.files.insert(id, File::default());
        self.names.insert(name.to_owned(), id);
        self.moves.push(Move::Link(name.to_owned(), id));
        Ok(id)
    }

    /// `open(2)` of a file that is there.
    pub fn open(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    /// `fallocate(2)`: the file has at least `len` bytes, zeros where nothing was written, and their room.
    pub fn allocate(&mut self, file: FileId, len: usize) -> Result<(), Fail> {
        self.burn()?;
        self.reserve(file, len)?;
        let file = self.file(file);
        file.set_len(len.max(file.len()));
        Ok(())
    }

    /// `pwrite(2)`.
    pub fn write_at(&mut self, file: FileId, at: usize, bytes: &[u8]) -> Result<(), Fail> {
        self.burn()?;
        self.reserve(file, at + bytes.len())?;
        if fails(&mut self.write_fails) {
            let written = self.dice.below(bytes.len() as u64) as usize;
            self.file(file).write_at(at, &bytes[..written]);
            return Err(Fail::Io);
        }
        self.file(file).write_at(at, bytes);
        Ok(())
    }

    /// `ftruncate(2)`.
    pub fn set_len(&mut self, file: FileId, len: usize) -> Result<(), Fail> {
        self.burn()?;
        let file = self.file(file);
        file.set_len(len);
        file.room = len;
        Ok(())
    }

    /// What a sync that starts now is going to cover.
    pub fn mark(&self, file: FileId) -> Mark {
        Mark { file, changes: self.files.get(&file).map_or(0, File::mark) }
    }

    /// An `fdatasync(2)` that started at `mark` returns: what was done meanwhile is not covered.
    pub fn sync_to(&mut self, mark: Mark) -> Result<(), Fail> {
        self.burn()?;
        // A file whose last name is gone needs no sync.
        if !self.files.contains_key(&mark.file) {
            return Ok(());
        }
        let failed = fails(&mut self.sync_fails);
        let Some(file) = self.files.get_mut(&mark.file) else { return Ok(()) };
        if failed {
            file.fail(mark.changes, &mut self.dice);
            return Err(Fail::Io);
        }
        file.settle(mark.changes);
        Ok(())
    }

    /// `fdatasync(2)`.
    pub fn sync(&mut self, file: FileId) -> Result<(), Fail> {
        self.sync_to(self.mark(file))
    }

    /// `rename(2)`: replaces what has the name `to`.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), Fail> {
        self.burn()?;
        let id = self.names.remove(from).ok_or(Fail::Io)?;
        self.names.insert(to.to_owned(), id);
        self.moves.push(Move::Rename(from.to_owned(), to.to_owned(), id));
        Ok(())
    }

    /// `unlink(2)`.
    pub fn unlink(&mut self, name: &str) -> Result<(), Fail> {
        self.burn()?;
        let id = self.names.remove(name).ok_or(Fail::Io)?;
        self.moves.push(Move::Unlink(name.to_owned(), id));
        Ok(())
    }

    /// `fsync(2)` of the folder.
    pub fn sync_folder(&mut self) -> Result<(), Fail> {
        self.burn()?;
        if fails(&mut self.folder_sync_fails) {
            // The journal of the file system is at an end, too, but a later attempt finds that out.
            return Err(Fail::Io);
        }
        self.durable_names.clone_from(&self.names);
        self.moves.clear();
        self.drop_nameless();
        Ok(())
    }

    /// The names in the folder, in order.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// What a reader of the file sees.
    pub fn read(&self, name: &str) -> Option<Content<'_>> {
        self.read_to(name, usize::MAX)
    }

    /// The same of its first `end` bytes, or of all if there are fewer: cheap where the rest was never written.
    pub fn read_to(&self, name: &str, end: usize) -> Option<Content<'_>> {
        Some(self.files.get(self.names.get(name)?)?.bytes(end))
    }

    /// How many bytes a reader of the file sees.
    pub fn len_of(&self, name: &str) -> Option<usize> {
        Some(self.files.get(self.names.get(name)?)?.len())
    }

    /// Bytes from the start of the file that no unsynced change touches.
    pub fn synced_bytes(&self, name: &str) -> usize {
        let file = self.names.get(name).and_then(|id| self.files.get(id));
        file.map_or(0, File::synced_bytes)
    }

    /// Bytes in use.
    pub fn used_bytes(&self) -> usize {
        self.names.values().filter_map(|id| self.files.get(id)).map(|file| file.room).sum()
    }

    /// Bytes that are left.
    pub fn free_bytes(&self) -> usize {
        self.capacity.map_or(usize::MAX, |capacity| capacity.saturating_sub(self.used_bytes()))
    }

    /// It can hold so many bytes; `None` for more than anybody wants.
    pub const fn set_capacity(&mut self, bytes: Option<usize>) {
        self.capacity = bytes;
    }

    /// The process ends after so many more calls; `None` takes it back.
    pub const fn set_fuse(&mut self, calls: Option<u64>) {
        self.fuse = calls;
    }

    /// After so many more calls of that kind one fails.
    pub const fn fail(&mut self, call: Call, after: u64) {
        let fails = match call {
            Call::Write => &mut self.write_fails,
            Call::Sync => &mut self.sync_fails,
            Call::SyncFolder => &mut self.folder_sync_fails,
        };
        *fails = Some(after);
    }

    /// From now on nothing goes wrong; what has gone wrong stays.
    pub const fn heal(&mut self) {
        self.capacity = None;
        self.forgive();
    }

    /// One bit of a file turns over.
    pub fn flip(&mut self, name: &str, at: usize, bit: u8) {
        if let Some(file) = self.names.get(name).and_then(|id| self.files.get_mut(id)) {
            file.flip(at, bit);
        }
    }

    /// The disk is replaced by an empty one.
    pub fn lose_everything(&mut self) {
        *self = Self::new(self.dice.clone());
    }

    /// All files as a reader sees them.
    pub fn copy(&self) -> Vec<(String, Copied)> {
        let content = |id| self.files.get(id).map_or_else(Copied::default, |file: &File| file.copy());
        self.names.iter().map(|(name, id)| (name.clone(), content(id))).collect()
    }

    /// The disk is replaced by a new one with these files, synced.
    pub fn put_back(&mut self, files: &[(String, Copied)]) -> Result<(), Fail> {
        self.lose_everything();
        for (name, content) in files {
            let file = self.create(name)?;
            self.file(file).put_back(content);
        }
        self.sync_folder()
    }

    /// The power fails.
    pub fn power_loss(&mut self) -> Loss {
        let in_order = self.dice.chance(400);
        let kept = *self.dice.pick(&[100, 500, 500, 900]);
        let mut wear = |all: usize| {
            let left = self.dice.below(all as u64 + 1) as usize;
            if in_order { Wear::InOrder { left } } else { Wear::Scattered { kept } }
        };
        let mut names = wear(self.moves.len());
        let mut content = wear(self.files.values().map(File::pending_bytes).sum());
        let mut loss = Loss { names: self.lose_moves(&mut names), ..Loss::default() };
        for file in self.files.values_mut() {
            loss.join(file.power_loss(&mut content, &mut self.dice));
        }
        self.forgive();
        loss
    }

    const fn forgive(&mut self) {
        (self.fuse, self.sync_fails, self.folder_sync_fails, self.write_fails) = (None, None, None, None);
    }

    /// Leaves of the unsynced changes of names what `how` says; whether one was lost.
    fn lose_moves(&mut self, how: &mut Wear) -> bool {
        let mut lost = false;
        for change in std::mem::take(&mut self.moves) {
            if !how.keeps(1, &mut self.dice) {
                lost = true;
                continue;
            }
            let names = &mut self.durable_names;
            match change {
                Move::Link(name, id) => {
                    names.insert(name, id);
                }
                Move::Rename(from, to, id) => {
                    names.retain(|name, known| *known != id || *name != from);
                    names.insert(to, id);
                }
                Move::Unlink(name, id) => {
                    names.retain(|known_name, known| *known != id || *known_name != name);
                }
            }
        }
        self.names.clone_from(&self.durable_names);
        self.drop_nameless();
        lost
    }

    fn drop_nameless(&mut self) {
        let Self { files, names, durable_names, .. } = self;
        let named = |id: &FileId| names.values().chain(durable_names.values()).any(|known| known == id);
        files.retain(|id, _| named(id));
    }

    fn burn(&mut self) -> Result<(), Fail> {
        match &mut self.fuse {
            Some(0) => return Err(Fail::Cut),
            Some(calls) => *calls -= 1,
            None => {}
        }
        Ok(())
    }

    /// Makes room for the first `len` bytes of a file.
    fn reserve(&mut self, file: FileId, len: usize) -> Result<(), Fail> {
        let has = self.file(file).room;
        if len > has {
            let used = self.used_bytes();
            if self.capacity.is_some_and(|capacity| used + len - has > capacity) {
                return Err(Fail::Full);
            }
            self.file(file).room = len;
        }
        Ok(())
    }

    fn file(&mut self, id: FileId) -> &mut File {
        self.files.get_mut(&id).expect("only files that have a name are written")
    }
}

/// Counts down to a failure.
const fn fails(after: &mut Option<u64>) -> bool {
    match after {
        Some(0) => {
            *after = None;
            true
        }
        Some(after) => {
            *after -= 1;
            false
        }
        None => false,
    }
}
