//! Bounds of the mesh, by name and unit. QUIC's own stand in `transport_config`.

use std::time::Duration;

/// Events on their way to the mesh thread; links wait beyond it, which QUIC passes on to their peers.
pub const EVENTS_MAX: usize = 256;
/// Frames handed to one link's stream and not taken yet.
pub const LINK_FRAMES_MAX: usize = 8;
/// First pause before a peer is dialled again.
pub const REDIAL_MIN: Duration = Duration::from_millis(50);
/// Longest pause before a peer is dialled again; every pause is drawn from its upper half.
pub const REDIAL_MAX: Duration = Duration::from_secs(2);
/// Pause before the next dial of a daemon that a peer has refused as a copy of an older state: each dial of it takes the
/// link of the daemon whose place that is.
pub const REDIAL_COPY: Duration = Duration::from_secs(60);
/// A link that lived so long was a good one: the next dial starts with the shortest pause again.
pub const LINK_PROVED: Duration = Duration::from_secs(3);
/// A dial or a handshake is given up after this long.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// Between two looks at the log for frames to send: what gathers meanwhile travels together.
pub const GATHER: Duration = Duration::from_millis(1);
/// Strangers in the middle of a handshake.
pub const HANDSHAKES_MAX: usize = 64;
