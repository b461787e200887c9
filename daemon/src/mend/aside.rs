//! Keeping what is given up.
//!
//! Files are linked into the folder where they stay, so that this costs no room and no time, and the originals
//! can be removed at leisure; where a file system has no links they are copied. Nobody may write to an original
//! afterwards: it is the same file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::steps::Steps;
use crate::cli::time::rfc3339;
use crate::log::{MANIFEST_NAME, RUN_EXTENSION, SEGMENT_EXTENSION};

/// All segments, runs and the manifest of a folder, in the order of their names.
pub(super) fn data_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let known = matches!(extension, Some(SEGMENT_EXTENSION | RUN_EXTENSION));
        if known || path.file_name().is_some_and(|name| name == MANIFEST_NAME) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Keeps `files` in a new folder inside `folder`, durably; the originals stay.
pub(super) fn set_aside(folder: &Path, files: &[PathBuf], now_ms: u64, steps: &Steps) -> io::Result<PathBuf> {
    steps.next()?;
    let aside = new_folder(folder, now_ms)?;
    for file in files {
        let Some(name) = file.file_name() else { continue };
        steps.next()?;
        if fs::hard_link(file, aside.join(name)).is_err() {
            fs::copy(file, aside.join(name))?;
            File::open(aside.join(name))?.sync_all()?;
        }
    }
    sync_folder(&aside)?;
    sync_folder(folder)?;
    Ok(aside)
}

fn new_folder(folder: &Path, now_ms: u64) -> io::Result<PathBuf> {
    let time: String = rfc3339(now_ms as i64).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    let mut number = 1;
    loop {
        let again = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("set-aside-{time}Z{again}"));
        match DirBuilder::new().mode(0o750).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            result => return result.map(|()| path),
        }
    }
}

/// Removes files that were set aside, the last first.
pub(super) fn remove(files: &[PathBuf], steps: &Steps) -> io::Result<()> {
    for file in files.iter().rev() {
        steps.next()?;
        fs::remove_file(file)?;
    }
    Ok(())
}

/// Puts a file with these bytes in the place of what is there, durably: all of it, or nothing.
pub(super) fn replace(path: &Path, bytes: &[u8], steps: &Steps) -> io::Result<()> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".tmp");
    let unfinished = PathBuf::from(unfinished);
    steps.next()?;
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    steps.next()?;
    fs::rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
