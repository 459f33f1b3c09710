//! The body of a request, whose first bytes may have been read before the request was judged.

use std::collections::VecDeque;

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use tokio::time::timeout;

use crate::{
    http::{
        Stop, Tap,
        meaning::{Held, Opening, Reading},
    },
    limits::OPENING_WAIT,
};

/// A body has more bytes than it may have.
pub(super) struct TooLong;

/// The body of a request on its way.
pub(super) struct Upload {
    /// What was read and not passed on, in order.
    ahead: VecDeque<Bytes>,
    /// Bytes of it for which the client may send as many more already.
    released: usize,
    stream: RecvStream,
    /// Reads what is passed on.
    tap: Tap,
}

impl Upload {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self {
            ahead: VecDeque::new(),
            released: 0,
            stream,
            tap: Tap::default(),
        }
    }

    /// Has the body read while it is passed on.
    pub(super) fn follow(&mut self, tap: Tap) {
        self.tap = tap;
    }

    /// Reads as much of the body as says more of what the request means. What is slow, broken or too
    /// much is judged by what is known.
    pub(super) async fn read_ahead(&mut self, mut reading: Reading) -> Opening {
        let mut held = Held::default();
        let read = async {
            while reading.wants_more() && !self.stream.is_end_stream() {
                let Some(Ok(data)) = self.stream.data().await else {
                    return;
                };
                let bytes = data.len();
                reading.feed(&data);
                self.ahead.push_back(data);
                if !held.grow(bytes) {
                    return;
                }
                // Where this fails, the client sends no more, and the wait has its end.
                if self.stream.flow_control().release_capacity(bytes).is_ok() {
                    self.released += bytes;
                }
            }
        };
        let _in_time = timeout(OPENING_WAIT, read).await;
        reading.finish(self.stream.is_end_stream())
    }

    /// Reads all of a body that is to have no more than `max` bytes; `None` if it is broken off.
    pub(super) async fn read_whole(&mut self, max: usize) -> Option<Result<Vec<u8>, TooLong>> {
        let mut whole = Vec::new();
        while let Some(piece) = self.data().await {
            let piece = piece.ok()?;
            whole.extend_from_slice(&piece);
            if whole.len() > max {
                return Some(Err(TooLong));
            }
            self.passed(piece.len());
        }
        Some(Ok(whole))
    }

    /// Returns the next piece; `None` at the end.
    pub(super) async fn data(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let data = match self.ahead.pop_front() {
            Some(data) => Some(Ok(data)),
            None => self.stream.data().await,
        };
        if let Some(Ok(bytes)) = &data {
            self.tap.request(bytes);
        }
        data
    }

    /// Waits until what was read may be passed on.
    ///
    /// # Errors
    /// The refusal.
    pub(super) async fn compared(&self) -> Result<(), Stop> {
        self.tap.compared().await
    }

    /// Says that so many bytes were passed on, so that as many more may come.
    pub(super) fn passed(&mut self, bytes: usize) {
        let before = self.released.min(bytes);
        self.released -= before;
        // The client may be gone, which shows when the next piece is read.
        drop(self.stream.flow_control().release_capacity(bytes - before));
    }

    /// Returns the fields after the body.
    pub(super) async fn trailers(&mut self) -> Result<Option<HeaderMap>, h2::Error> {
        self.stream.trailers().await
    }
}
