//! The one file of a backup that is no copy: a manifest which says that the life it tells of is over (S6).
//!
//! Must never: change anything else in it.

use crdt::ids::Incarnation;
use crdt::snapshot::Manifest;

use super::{CLUSTER, region_id};

/// The manifest of a region's backup: as `manifest` is, or of nothing where there is none.
pub fn declare_over(manifest: Option<&[u8]>, index: usize, incarnation: u32) -> Vec<u8> {
    let none = || Manifest { region: region_id(index), cluster: CLUSTER, next_run: 1, ..Manifest::default() };
    let mut manifest = manifest.and_then(|bytes| Manifest::decode(bytes).ok()).unwrap_or_else(none);
    manifest.over = Incarnation(incarnation);
    manifest.encode()
}
