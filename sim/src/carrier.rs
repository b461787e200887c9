//! What QUIC does with the frames of one direction of a session: in order, none lost, and how long it takes after a cut.
//!
//! A stream holds back what comes behind a hole. What a cut has swallowed is sent again once something that was sent later
//! has been acknowledged: so after a cut nothing arrives until the next packet, whatever it carries, has been there and back.
//! What may be unacknowledged is bounded by a window, which is small after a long loss; when it is full, only probes leave,
//! each after twice the time of the last. These three make how long regions take to agree after a cut, and the daemon's
//! transport (quinn) does just so: RFC 9002, sections 6.2 and 7, and CUBIC's slow start.
//!
//! Left out: acknowledgements that are lost on their own, pacing, the time threshold below an eighth of a round trip,
//! discovery of larger packets.
//!
//! Pure: the time and what becomes of a packet are arguments.

use std::collections::VecDeque;

use crate::limits;

/// Bytes of a packet.
const PACKET_BYTES: u64 = 1_452;
/// Of those, what is no frame: headers, tag, acknowledgements.
const OVERHEAD_BYTES: u64 = 45;
/// The window of a new session.
const WINDOW_BYTES: u64 = 12_000;
/// The window after a loss that lasted.
const WINDOW_BYTES_MIN: u64 = 2 * PACKET_BYTES;
/// A loss has lasted when it did for so many probe timeouts.
const LASTING: u64 = 3;
/// How long a peer may keep an acknowledgement back, microseconds.
const ACK_DELAY_US: u64 = 25_000;
/// Packets of one probe.
const PROBES: u32 = 2;
/// Probes double their pause so often at most.
const DOUBLED_MAX: u32 = 16;

#[derive(Clone, Debug)]
enum State {
    Unsent,
    /// When.
    Swallowed(u64),
    /// When it arrives.
    Passed(u64),
}

/// At most a packet of a frame; the last has the frame.
#[derive(Clone, Debug)]
struct Piece {
    bytes: u64,
    frame: Option<Vec<u8>>,
    state: State,
}

/// One direction of one session.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Of which session.
    pub session: u64,
    /// A probe is due at some time.
    pub probing: bool,
    /// Something that was sent behind a hole is on its way to be acknowledged.
    pub confirming: bool,
    /// It is known when there is room in the window.
    pub waiting: bool,
    round_us: u64,
    probe_us: u64,
    window: u64,
    threshold: u64,
    /// What was sent last filled the window.
    filled: bool,
    /// When so many bytes will be acknowledged.
    acks: VecDeque<(u64, u64)>,
    /// Their sum.
    acks_bytes: u64,
    /// Bytes that passed and whose acknowledgement cannot.
    unsure: u64,
    /// From the first that has not arrived.
    queue: VecDeque<Piece>,
    /// How many of these are unsent, and how many before the first of them are not, at least.
    unsent: usize,
    before: usize,
    /// How many of these were swallowed, and their bytes.
    holes: usize,
    hole_bytes: u64,
    sent_us: u64,
    arrived_us: u64,
    probes: u32,
    /// Bytes of probes that nobody has acknowledged.
    probe_bytes: u64,
    /// Packets that may leave whatever the window says: a probe carries what waits.
    beyond: u32,
}

impl Carrier {
    /// Of a new session, where a round trip takes so long and differs by so much.
    pub const fn new(session: u64, round_us: u64, jitter_us: u64) -> Self {
        let deviation_us = if jitter_us > 500 { 2 * jitter_us } else { 1_000 };
        Self {
            session,
            probing: false,
            confirming: false,
            waiting: false,
            round_us,
            probe_us: round_us + deviation_us + ACK_DELAY_US,
            window: WINDOW_BYTES,
            threshold: u64::MAX,
            filled: false,
            acks: VecDeque::new(),
            acks_bytes: 0,
            unsure: 0,
            queue: VecDeque::new(),
            unsent: 0,
            before: 0,
            holes: 0,
            hole_bytes: 0,
            sent_us: 0,
            arrived_us: 0,
            probes: 0,
            probe_bytes: 0,
            beyond: 0,
        }
    }

    /// Takes a frame.
    pub fn push(&mut self, frame: Vec<u8>) {
        let most = PACKET_BYTES - OVERHEAD_BYTES;
        let mut left = frame.len() as u64;
        while left > most {
            self.queue.push_back(Piece { bytes: PACKET_BYTES, frame: None, state: State::Unsent });
            self.unsent += 1;
            left -= most;
        }
        self.queue.push_back(Piece {
            bytes: left + OVERHEAD_BYTES,
            frame: Some(frame),
            state: State::Unsent,
        });
        self.unsent += 1;
    }

    /// How many bytes leave now; `None`: nothing is there, or the window is full.
    pub fn next(&mut self, now_us: u64) -> Option<u64> {
        self.acknowledge(now_us);
        let waits = self.unsent > 0;
        self.filled = waits && self.beyond == 0 && self.flight() + PACKET_BYTES >= self.window;
        if self.filled || !waits {
            return None;
        }
        self.first_unsent().map(|piece| piece.bytes)
    }

    /// The next to leave.
    fn first_unsent(&mut self) -> Option<&mut Piece> {
        if self.unsent == 0 {
            return None;
        }
        let is_unsent = |piece: &Piece| matches!(piece.state, State::Unsent);
        self.before += self.queue.iter().skip(self.before).position(is_unsent)?;
        self.queue.get_mut(self.before)
    }

    /// They have left: they arrive after so long, or a cut or the weather has swallowed them. `back_us`: until their
    /// acknowledgement is back then, if it can be. True: it will tell of what is missing.
    pub fn sent(&mut self, now_us: u64, arrives_us: Option<u64>, back_us: Option<u64>) -> bool {
        self.sent_us = now_us;
        self.beyond = self.beyond.saturating_sub(1);
        let tells = self.holes > 0 || self.unsure > 0;
        let Some(piece) = self.first_unsent() else { return false };
        let bytes = piece.bytes;
        piece.state =
            arrives_us.map_or(State::Swallowed(now_us), |delay_us| State::Passed(now_us + delay_us));
        self.unsent -= 1;
        let Some(delay_us) = arrives_us else {
            (self.holes, self.hole_bytes) = (self.holes + 1, self.hole_bytes + bytes);
            return false;
        };
        let Some(back_us) = back_us else {
            self.unsure += bytes;
            return false;
        };
        self.acks.push_back((now_us + delay_us + back_us, bytes));
        self.acks_bytes += bytes;
        tells
    }

    /// The next frame whose turn has come, and when it arrives.
    pub fn take(&mut self) -> Option<(u64, Vec<u8>)> {
        while let Some(Piece { state: State::Passed(at_us), .. }) = self.queue.front() {
            self.arrived_us = self.arrived_us.max(*at_us);
            self.before = self.before.saturating_sub(1);
            if let Some(frame) = self.queue.pop_front().and_then(|piece| piece.frame) {
                return Some((self.arrived_us, frame));
            }
        }
        None
    }

    /// An acknowledgement has come of what was sent at `sent_us`: what was swallowed before is to be sent again;
    /// whether anything is.
    pub fn confirmed(&mut self, sent_us: u64) -> bool {
        (self.unsure, self.probes, self.probe_bytes) = (0, 0, 0);
        if self.holes == 0 {
            return false;
        }
        let swallowed = |piece: &Piece| match piece.state {
            State::Swallowed(at_us) if at_us <= sent_us => Some(at_us),
            _ => None,
        };
        let mut lost = self.queue.iter().filter_map(swallowed);
        let Some(first_us) = lost.next() else { return false };
        let last_us = lost.next_back().unwrap_or(first_us);
        let reduced = (self.window * 7 / 10).max(WINDOW_BYTES_MIN);
        (self.window, self.threshold) = if last_us - first_us > LASTING * self.probe_us {
            (WINDOW_BYTES_MIN, (reduced * 7 / 10).max(WINDOW_BYTES_MIN))
        } else {
            (reduced, reduced)
        };
        self.before = 0;
        for piece in self.queue.iter_mut().filter(|piece| swallowed(piece).is_some()) {
            piece.state = State::Unsent;
            self.unsent += 1;
            self.holes -= 1;
            self.hole_bytes -= piece.bytes;
        }
        true
    }

    /// When a probe is due, if something is missing.
    pub fn probe_due_us(&self) -> Option<u64> {
        let missing = self.holes > 0 || self.unsure > 0;
        missing.then(|| self.sent_us + (self.probe_us << self.probes.min(DOUBLED_MAX)))
    }

    /// Probes are due, two packets: they carry what waits. True if nothing does: then they are empty, and whether their
    /// acknowledgement will tell of what is missing is the caller's to know.
    pub fn probed(&mut self, now_us: u64) -> bool {
        self.sent_us = now_us;
        self.probes = self.probes.saturating_add(1);
        let waits = self.unsent > 0;
        if waits {
            self.beyond = PROBES;
        } else {
            self.probe_bytes += u64::from(PROBES) * OVERHEAD_BYTES;
        }
        !waits
    }

    /// When there is room in the window next, if something waits for it.
    pub fn room_us(&self) -> Option<u64> {
        self.acks.front().filter(|_| self.filled).map(|(at_us, _)| *at_us)
    }

    /// How long a round trip takes, microseconds.
    pub const fn round_us(&self) -> u64 {
        self.round_us
    }

    /// Bytes that are not acknowledged.
    const fn flight(&self) -> u64 {
        self.hole_bytes + self.acks_bytes + self.unsure + self.probe_bytes
    }

    fn acknowledge(&mut self, now_us: u64) {
        while let Some((_, bytes)) = self.acks.pop_front_if(|(at_us, _)| *at_us <= now_us) {
            self.acks_bytes -= bytes;
            if !self.filled {
                continue;
            }
            // A window that was not filled says nothing of what the link takes.
            self.window +=
                if self.window < self.threshold { bytes } else { PACKET_BYTES * bytes / self.window };
            self.window = self.window.min(limits::WINDOW_BYTES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIP_US: u64 = 40_000;

    fn carrier() -> Carrier {
        Carrier::new(1, 2 * TRIP_US, 0)
    }

    /// Sends all that may leave; true if something will be confirmed.
    fn flush(carrier: &mut Carrier, now_us: u64, open: bool) -> bool {
        let mut confirms = false;
        while carrier.next(now_us).is_some() {
            confirms |= carrier.sent(now_us, open.then_some(TRIP_US), Some(TRIP_US));
        }
        confirms
    }

    fn taken(carrier: &mut Carrier) -> Vec<(u64, Vec<u8>)> {
        std::iter::from_fn(|| carrier.take()).collect()
    }

    fn frame(carrier: &mut Carrier, now_us: u64, open: bool) -> bool {
        carrier.push(vec![0; 100]);
        flush(carrier, now_us, open)
    }

    #[test]
    fn frames_arrive_after_one_trip_while_nothing_is_cut() {
        let mut carrier = carrier();
        assert!(!frame(&mut carrier, 5, true));
        assert_eq!(taken(&mut carrier), [(5 + TRIP_US, vec![0; 100])]);
        assert_eq!(carrier.probe_due_us(), None);
    }

    #[test]
    fn what_a_cut_has_swallowed_arrives_three_trips_after_the_next_packet() {
        let mut carrier = carrier();
        frame(&mut carrier, 0, false);
        frame(&mut carrier, 100_000, false);
        assert!(frame(&mut carrier, 300_000, true), "its acknowledgement tells of the hole");
        assert_eq!(taken(&mut carrier), [], "a stream has no holes");
        carrier.confirmed(300_000);
        let now_us = 300_000 + 2 * TRIP_US;
        flush(&mut carrier, now_us, true);
        let arrived: Vec<u64> = taken(&mut carrier).into_iter().map(|(at_us, _)| at_us).collect();
        assert_eq!(arrived, [now_us + TRIP_US; 3]);
    }

    #[test]
    fn a_full_window_leaves_probes_which_become_rare() {
        let mut carrier = carrier();
        let swallowed = (0..200).filter(|n| {
            frame(&mut carrier, n * 10_000, false);
            !carrier.filled
        });
        assert_eq!(swallowed.count(), 73, "12,000 bytes less a packet, of 145 each");
        let mut now_us = carrier.probe_due_us().expect("something is missing");
        let first_us = now_us - carrier.sent_us;
        assert_eq!(first_us, 2 * TRIP_US + 1_000 + ACK_DELAY_US);
        for doubled in 1..5u32 {
            carrier.probed(now_us);
            let due_us = carrier.probe_due_us().expect("still");
            assert_eq!(due_us - now_us, first_us << doubled);
            now_us = due_us;
        }
    }

    /// The first round after a lasting loss takes one packet, and each next twice as much.
    #[test]
    fn after_a_lasting_loss_the_window_opens_slowly() {
        let mut carrier = carrier();
        for n in 0..60 {
            frame(&mut carrier, n * 20_000, false);
        }
        let mut now_us = 2_000_000;
        carrier.confirmed(now_us);
        let mut rounds = Vec::new();
        while rounds.iter().sum::<usize>() < 60 {
            flush(&mut carrier, now_us, true);
            rounds.push(taken(&mut carrier).len());
            let Some(room_us) = carrier.room_us() else { break };
            assert_eq!(room_us, now_us + 2 * TRIP_US);
            now_us = room_us;
        }
        assert_eq!(rounds.iter().sum::<usize>(), 60);
        assert!(rounds.len() >= 3 && rounds.is_sorted() && rounds[0] <= 11, "{rounds:?}");
    }

    #[test]
    fn a_large_frame_takes_the_rounds_that_slow_start_takes() {
        let mut carrier = carrier();
        carrier.push(vec![0; 100_000]);
        let (mut now_us, mut rounds) = (0, 1);
        flush(&mut carrier, now_us, true);
        while let Some(room_us) = carrier.room_us() {
            (now_us, rounds) = (room_us, rounds + 1);
            flush(&mut carrier, now_us, true);
        }
        assert_eq!(taken(&mut carrier).len(), 1);
        assert!((4..=8).contains(&rounds), "{rounds}");
    }

    #[test]
    fn what_cannot_be_acknowledged_fills_the_window_and_is_not_sent_again() {
        let mut carrier = carrier();
        carrier.push(vec![0; 100]);
        assert!(carrier.next(0).is_some() && !carrier.sent(0, Some(TRIP_US), None));
        assert_eq!(taken(&mut carrier).len(), 1, "it arrives all the same");
        assert!(carrier.probe_due_us().is_some());
        assert!(frame(&mut carrier, 500_000, true), "the next acknowledgement covers it");
        carrier.confirmed(500_000);
        assert_eq!((taken(&mut carrier).len(), carrier.probe_due_us()), (1, None));
    }
}
