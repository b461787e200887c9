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
/// A link that has brought no hello by then is closed.
pub const HELLO_WITHIN: Duration = Duration::from_secs(10);
/// A frame that is not whole by then ends its link; the largest takes so long at 280 kbit/s.
pub const FRAME_WITHIN: Duration = Duration::from_secs(300);
/// A link on which not one packet came for so long is dialled anew beside it; peers ping twice a second.
pub const SILENT_LINK: Duration = Duration::from_secs(2);
/// Between two looks whether it is silent, and between two such dials.
pub const SILENT_LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at the log for frames to send: what gathers meanwhile travels together.
pub const GATHER: Duration = Duration::from_millis(1);
/// Strangers in the middle of a handshake.
pub const HANDSHAKES_MAX: usize = 64;
/// Those of one address: nobody takes all the places.
pub const HANDSHAKES_AN_ADDRESS_MAX: usize = 8;
/// Lines of the log about refused strangers: so many at once, then one a [`REFUSAL_SAID_EVERY`].
pub const REFUSALS_SAID_AT_ONCE: u32 = 10;
/// See [`REFUSALS_SAID_AT_ONCE`].
pub const REFUSAL_SAID_EVERY: Duration = Duration::from_secs(10);
