//! The streams of one connection (RFC 9113 section 5).

use engine::head::Head;
use foldhash::{HashMap, HashMapExt};
use std::task::{Context, Waker};

use super::frame::Reason;
use crate::http::{buffer, heads};

/// Why a stream ended before both sides were done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer reset it.
    Reset(Reason),
    /// The peer broke the protocol, or exceeded a limit: it was reset here.
    Refused(Reason),
    /// The connection ends, and the peer says that it did not process the stream.
    Unprocessed,
    /// The connection is lost.
    Lost,
}

#[derive(Default)]
pub struct Stream {
    pub id: u32,
    /// Handles that refer to it; without any it is forgotten.
    pub handles: u8,
    /// A head that was received and not taken yet.
    pub head: Option<Head>,
    /// Data that was received and not taken yet.
    pub received: Vec<u8>,
    pub trailers: Option<Box<Head>>,
    /// The peer has ended its side.
    pub ended: bool,
    pub broken: Option<Broken>,
    /// The request head exceeds the limits (server side).
    pub too_large: bool,
    /// A final response head was received, or sent.
    pub answered: bool,
    /// The response has no body whatever its length says (client side).
    pub bodiless: bool,
    /// Bytes of data still to come, when the head says how many.
    pub expected: Option<u64>,
    /// What the peer may send, in bytes.
    pub receive_window: i64,
    /// Consumed, and not yet given back to the peer.
    pub consumed: i64,
    /// What may be sent to the peer, in bytes.
    pub send_window: i64,
    /// Place of the header of the last DATA frame in all that was ever written.
    pub last_data: Option<u64>,
    /// This side is ended.
    pub sent_end: bool,
    /// The one task that serves the stream.
    pub waker: Option<Waker>,
    /// It waits for its turn to send data.
    pub queued: bool,
}

impl Stream {
    pub fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    pub fn wait(&mut self, cx: &Context<'_>) {
        match &self.waker {
            Some(waker) if waker.will_wake(cx.waker()) => {}
            _ => self.waker = Some(cx.waker().clone()),
        }
    }

    pub fn break_off(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
        self.wake();
    }
}

/// Streams by place, which does not change while there are handles, and by number while they are open.
#[derive(Default)]
pub struct Streams {
    places: Vec<Option<Box<Stream>>>,
    free: Vec<u32>,
    open: HashMap<u32, u32>,
}

impl Streams {
    pub fn add(&mut self, stream: Stream) -> u32 {
        let id = stream.id;
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() as u32 - 1
        });
        self.places[place as usize] = Some(Box::new(stream));
        self.open.insert(id, place);
        place
    }

    /// The place of an open stream.
    pub fn find(&self, id: u32) -> Option<u32> {
        self.open.get(&id).copied()
    }

    pub fn at(&mut self, place: u32) -> &mut Stream {
        self.places[place as usize].as_deref_mut().expect("a stream stays in its place while it has handles")
    }

    /// Open on the wire.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Nothing more is sent or received on it.
    pub fn close(&mut self, id: u32) {
        self.open.remove(&id);
        if self.open.is_empty() && self.open.capacity() > 64 {
            self.open = HashMap::new();
        }
    }

    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// Forgets a stream.
    pub fn remove(&mut self, place: u32) {
        let Some(mut stream) = self.places[place as usize].take() else { return };
        self.close(stream.id);
        if let Some(mut head) = stream.head.take() {
            heads::give(&mut head);
        }
        buffer::give_output(std::mem::take(&mut stream.received));
        self.free.push(place);
        if self.free.len() == self.places.len() && self.places.len() > 64 {
            // A burst is over.
            (self.places, self.free) = (Vec::new(), Vec::new());
        }
    }

    pub fn each(&mut self) -> impl Iterator<Item = &mut Stream> {
        self.places.iter_mut().flatten().map(|stream| &mut **stream)
    }
}
