//! Cutting a damaged segment: a record and all after it are given up (S6).
//!
//! Order: what will change is set aside; the manifest says that this life is over, because what is given up
//! was acknowledged;
//! later segments go, the last first, so that at no moment one is missing between two others; the damaged one is
//! replaced by its good part. Until that last step a start is refused as before, or finds a tail that it cuts in
//! the same place, in a new life.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crdt::journal::{HEADER_BYTES, SegmentHeader};
use crdt::recovery::{Damage, RecoveryConfig};
use crdt::snapshot::Manifest;

use super::aside::{data_files, remove, replace, set_aside, sync_folder};
use super::{MendError, Steps};
use crate::config::{ClusterSecret, Config};
use crate::dump::{Selection, dump};
use crate::lifecycle;
use crate::log::{
    MANIFEST_NAME, OpenError, SEGMENT_EXTENSION, load, lock_folder, refuse_unfinished, write_manifest,
};
use crate::resp::Value;

/// Where to cut, as the daemon's message names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CutAt {
    /// A path, or the name of a file in the data folder.
    pub segment: PathBuf,
    /// Bytes from its start.
    pub offset: u64,
}

impl FromStr for CutAt {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').and_then(|(segment, offset)| Some((segment, offset.parse().ok()?)));
        let (segment, offset) = parts.ok_or("expected SEGMENT.log:BYTE, as the daemon's message says it")?;
        Ok(Self { segment: segment.into(), offset })
    }
}

/// What stands behind a cut, as far as it reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GivenUp {
    /// Records.
    pub records: u64,
    /// Keys that they are about; some of them may have earlier records that stay.
    pub keys: u64,
    /// Bytes, with those that do not read.
    pub bytes: u64,
    /// Segments behind the one that is cut.
    pub segments: usize,
}

/// A cut that is possible; holds the folder's lock.
#[derive(Debug)]
pub struct Repair {
    folder: PathBuf,
    segment: PathBuf,
    offset: u64,
    later: Vec<PathBuf>,
    manifest: Manifest,
    _lock: File,
}

impl Repair {
    /// Looks whether the log can be cut there. `force`: although nothing is damaged, or something else.
    pub fn plan(
        config: &Config,
        cut_at: &CutAt,
        force: bool,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self, MendError> {
        let secret = ClusterSecret::read(&config.cluster.secret_file)?;
        let recovery = lifecycle::recovery_config(config, &secret);
        Self::plan_in(&config.region.data_dir, recovery, cut_at, force, progress)
    }

    pub(super) fn plan_in(
        folder: &Path,
        recovery: RecoveryConfig,
        cut_at: &CutAt,
        force: bool,
        progress: impl FnMut(u64, u64),
    ) -> Result<Self, MendError> {
        let io = MendError::io(folder);
        let lock = lock_folder(folder)?;
        refuse_unfinished(folder)?;
        if !may_be_in(folder, &cut_at.segment) {
            let (segment, folder) = (cut_at.segment.clone(), folder.to_owned());
            return Err(MendError::OtherFolder { segment, folder });
        }
        let name = cut_at.segment.file_name().unwrap_or_default();
        let segment = folder.join(name);
        let is_segment = segment.extension().is_some_and(|extension| extension == SEGMENT_EXTENSION);
        let Some(bytes) = fs::metadata(&segment).ok().filter(|_| is_segment).map(|found| found.len()) else {
            return Err(MendError::NoSegment(segment));
        };
        if cut_at.offset > bytes {
            return Err(MendError::BeyondEnd { path: segment, bytes });
        }
        let (region, cluster) = (recovery.store.region, recovery.cluster);
        let found = load(folder, recovery, progress).err();
        check_place(found, &segment, cut_at.offset, force)?;
        let mut manifest = Manifest { region, cluster, next_run: 1, ..Manifest::default() };
        match fs::read(folder.join(MANIFEST_NAME)) {
            Ok(bytes) => {
                let file = folder.join(MANIFEST_NAME).display().to_string();
                manifest = Manifest::decode(&bytes)
                    .map_err(|error| OpenError::Damage(Damage::Manifest { file, error }))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let mut segments = data_files(folder).map_err(&io)?;
        segments.retain(|path| path.extension().is_some_and(|found| found == SEGMENT_EXTENSION));
        let header = header_of(&segment).map_err(&io)?;
        if header.is_some_and(|header| header.first_lsn <= manifest.covers()) {
            return Err(MendError::Covered(segment));
        }
        // All lives that the folder knows of: what is cut off may have been of any.
        let headers = segments.iter().filter_map(|path| header_of(path).ok().flatten());
        let lives = headers.chain(manifest.meta.last).map(|header| header.incarnation);
        manifest.over = lives.chain([manifest.over]).max().unwrap_or_default();
        let later = segments.split_off(segments.partition_point(|path| *path <= segment));
        let (folder, offset) = (folder.to_owned(), cut_at.offset);
        Ok(Self { folder, segment, offset, later, manifest, _lock: lock })
    }

    /// What would be given up.
    pub fn given_up(&self) -> GivenUp {
        let mut keys = BTreeSet::new();
        let mut given_up = GivenUp { segments: self.later.len(), ..GivenUp::default() };
        for (path, from) in
            std::iter::once((&self.segment, self.offset)).chain(self.later.iter().map(|path| (path, 0)))
        {
            let bytes = fs::metadata(path).map_or(0, |found| found.len());
            let mut last_byte = from;
            // What does not read says nothing: it is counted in bytes only.
            let dumped = dump(path, &Selection::default(), &mut |line| {
                let field = |name: &str| line.fields.iter().find(|(field, _)| *field == name);
                let offset = field("offset").and_then(|(_, offset)| offset.as_int()).unwrap_or(0) as u64;
                if line.about == "end" {
                    last_byte = last_byte.max(if how_is_torn(&line.fields) { bytes } else { offset });
                }
                if line.about == "record" && offset >= from {
                    given_up.records += 1;
                    if let Some((_, Value::Bulk(key))) = field("key") {
                        keys.insert(*blake3::hash(key).as_bytes());
                    }
                }
                Ok(())
            });
            if dumped.is_err() {
                // Not even its header reads, and yet all of it goes.
                last_byte = bytes;
            }
            given_up.bytes += last_byte - from;
        }
        given_up.keys = keys.len() as u64;
        given_up
    }

    /// Cuts; says where everything is that was given up.
    pub fn carry_out(self, now_ms: u64) -> Result<PathBuf, MendError> {
        self.carry_out_in(now_ms, &Steps::default())
    }

    pub(super) fn carry_out_in(self, now_ms: u64, steps: &Steps) -> Result<PathBuf, MendError> {
        let io = MendError::io(&self.folder);
        self.cut(now_ms, steps).map_err(io)
    }

    fn cut(self, now_ms: u64, steps: &Steps) -> std::io::Result<PathBuf> {
        let manifest_path = self.folder.join(MANIFEST_NAME);
        let mut changed = [std::slice::from_ref(&self.segment), &self.later].concat();
        changed.extend(manifest_path.exists().then_some(manifest_path));
        let aside = set_aside(&self.folder, &changed, now_ms, steps)?;
        steps.next()?;
        write_manifest(&self.folder, &self.manifest)?;
        remove(&self.later, steps)?;
        if self.offset <= HEADER_BYTES as u64 {
            remove(std::slice::from_ref(&self.segment), steps)?;
        } else {
            let mut good = Vec::new();
            File::open(&self.segment)?.take(self.offset).read_to_end(&mut good)?;
            // Not cut in place: the file itself is what was set aside.
            replace(&self.segment, &good, steps)?;
        }
        sync_folder(&self.folder)?;
        Ok(aside)
    }
}

/// Whether `segment`, as the operator names it, is not the file of another folder: of another region on this machine,
/// whose segments have the same names. The daemon's message may name it from where the daemon stood.
fn may_be_in(folder: &Path, segment: &Path) -> bool {
    let parent = segment.parent().filter(|parent| !parent.as_os_str().is_empty());
    match (parent.map(Path::canonicalize), folder.canonicalize()) {
        (Some(Ok(named)), Ok(ours)) => named == ours,
        _ => true,
    }
}

fn how_is_torn(fields: &[(&'static str, Value)]) -> bool {
    fields.iter().any(|(name, value)| *name == "how" && value.as_str() == Some("torn"))
}

/// Whether a start finds its damage there.
fn check_place(found: Option<OpenError>, segment: &Path, offset: u64, force: bool) -> Result<(), MendError> {
    let (file, at) = match &found {
        None if force => return Ok(()),
        None => return Err(MendError::NotDamaged),
        Some(OpenError::Damage(Damage::Record { segment, offset, .. })) => (segment, *offset as u64),
        Some(OpenError::Damage(Damage::Header { file, error })) if !error.is_of_another_version() => {
            (file, 0)
        }
        // Another version's, another region's, a run's: cutting the log mends none of these.
        Some(_) => return found.map_or(Ok(()), |error| Err(error.into())),
    };
    let is_there = Path::new(file).file_name() == segment.file_name() && at == offset;
    match found {
        Some(error) if !is_there && !force => Err(MendError::Elsewhere(error.to_string())),
        _ => Ok(()),
    }
}

fn header_of(path: &Path) -> std::io::Result<Option<SegmentHeader>> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    File::open(path)?.take(HEADER_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(SegmentHeader::decode(&bytes).ok())
}
