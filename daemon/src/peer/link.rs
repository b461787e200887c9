//! One QUIC connection to one authenticated peer: frames as length-prefixed bytes on one bidirectional stream.
//!
//! The dialling side opens the stream. Reading stops while the mesh is busy, so that QUIC's flow control holds
//! the peer back; writing is a bounded queue that the mesh fills only when there is room.

use std::time::Duration;

use crdt::ids::RegionId;
use crdt::limits::FRAME_BYTES_MAX;
use crdt::node::LinkId;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::limits::{FRAME_WITHIN, HELLO_WITHIN, LINK_FRAMES_MAX};
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

/// What a peer does that is no frame. The text is for whoever runs either side.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Misbehaviour {
    /// The length says what no frame is.
    #[error(
        "a frame of {0} bytes, beyond the bound of {FRAME_BYTES_MAX}: is it an onced of the same version?"
    )]
    Length(usize),
    /// It was linked and said nothing.
    #[error("no hello within {0:?}: is its onced stuck? Look at its log, and restart it")]
    Silent(Duration),
    /// It began a frame and did not end it.
    #[error(
        "a frame of {bytes} bytes was not whole within {within:?}: its link is too slow, or its onced is stuck"
    )]
    Slow {
        /// As announced.
        bytes: usize,
        /// Given it.
        within: Duration,
    },
}

impl Misbehaviour {
    /// One word, for a counter.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Length(_) => "length",
            Self::Silent(_) => "silent",
            Self::Slow { .. } => "slow",
        }
    }
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
    let mut hello = true;
    let end = loop {
        let frame = match next_frame(&mut receive, hello).await {
            Ok(frame) => frame,
            Err(end) => break end,
        };
        hello = false;
        if events.send(Event::Frame { peer, link, frame }).await.is_err() {
            return;
        }
    };
    let event = match end {
        Some(what) => {
            let reason = what.to_string();
            connection.close(1u32.into(), &reason.as_bytes()[..reason.len().min(200)]);
            Event::Misbehaved { peer, link, what }
        }
        None => Event::Down { peer, link, reason: connection.closed().await.to_string() },
    };
    // The mesh is gone: so is everything else.
    let _ = events.send(event).await;
}

/// One whole frame. `Err`: there will be no more, for that reason, or because the connection has ended.
async fn next_frame(receive: &mut RecvStream, hello: bool) -> Result<Vec<u8>, Option<Misbehaviour>> {
    let mut length = [0u8; 4];
    let announced = receive.read_exact(&mut length);
    let announced = if hello {
        timeout(HELLO_WITHIN, announced).await.map_err(|_| Some(Misbehaviour::Silent(HELLO_WITHIN)))?
    } else {
        announced.await
    };
    announced.map_err(|_| None)?;
    let bytes = u32::from_le_bytes(length) as usize;
    if bytes == 0 || bytes > FRAME_BYTES_MAX {
        return Err(Some(Misbehaviour::Length(bytes)));
    }
    // Pages that are never written take no memory: an announcement alone costs nothing.
    let mut frame = vec![0; bytes];
    let within = if hello { HELLO_WITHIN } else { FRAME_WITHIN };
    match timeout(within, receive.read_exact(&mut frame)).await {
        Ok(Ok(())) => Ok(frame),
        Ok(Err(_)) => Err(None),
        Err(_) => Err(Some(Misbehaviour::Slow { bytes, within })),
    }
}
