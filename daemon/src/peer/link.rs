//! One QUIC connection to one authenticated peer: frames as length-prefixed bytes on one bidirectional stream.
//!
//! The dialling side opens the stream. Reading stops while the mesh is busy, so that QUIC's flow control holds
//! the peer back; writing is a bounded queue that the mesh fills only when there is room.

use crdt::ids::RegionId;
use crdt::limits::FRAME_BYTES_MAX;
use crdt::node::LinkId;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;

use super::limits::LINK_FRAMES_MAX;
use super::mesh::Event;
use super::protocol;

/// A connection whose peer is known and whose stream is open.
#[derive(Debug)]
pub(super) struct Established {
    pub(super) peer: RegionId,
    pub(super) connection: Connection,
    pub(super) send: SendStream,
    pub(super) receive: RecvStream,
}

/// A link in use, as the mesh holds it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) connection: Connection,
    /// The version that was chosen.
    pub(super) protocol: String,
    pub(super) frames: mpsc::Sender<Vec<u8>>,
}

impl Link {
    /// Starts moving frames; everything that happens is told to `events`.
    pub(super) fn start(id: LinkId, established: Established, events: mpsc::Sender<Event>) -> Self {
        let Established { peer, connection, send, receive } = established;
        let (frames, outbox) = mpsc::channel(LINK_FRAMES_MAX);
        tokio::spawn(write(send, outbox, events.clone(), peer, id));
        tokio::spawn(read(receive, connection.clone(), events, peer, id));
        let protocol = protocol::chosen(&connection);
        Self { id, connection, protocol, frames }
    }

    /// Closes it, and says why.
    pub(super) fn close(&self, reason: &str) {
        self.connection.close(0u32.into(), &reason.as_bytes()[..reason.len().min(200)]);
    }
}

async fn write(
    mut send: SendStream,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    events: mpsc::Sender<Event>,
    peer: RegionId,
    link: LinkId,
) {
    while let Some(frame) = outbox.recv().await {
        let length = (frame.len() as u32).to_le_bytes();
        // The connection's end is told by the reading side.
        if send.write_all(&length).await.is_err() || send.write_all(&frame).await.is_err() {
            return;
        }
        // There is room again.
        if events.send(Event::Writable { peer, link }).await.is_err() {
            return;
        }
    }
}

async fn read(
    mut receive: RecvStream,
    connection: Connection,
    events: mpsc::Sender<Event>,
    peer: RegionId,
    link: LinkId,
) {
    let reason = loop {
        let mut length = [0u8; 4];
        if receive.read_exact(&mut length).await.is_err() {
            break connection.closed().await.to_string();
        }
        let length = u32::from_le_bytes(length) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            connection.close(1u32.into(), b"a frame's length is out of bounds");
            break format!("the peer misbehaved: a frame of {length} bytes");
        }
        let mut frame = vec![0; length];
        if receive.read_exact(&mut frame).await.is_err() {
            break connection.closed().await.to_string();
        }
        if events.send(Event::Frame { peer, link, frame }).await.is_err() {
            return;
        }
    };
    // The mesh is gone: so is everything else.
    let _ = events.send(Event::Down { peer, link, reason }).await;
}
