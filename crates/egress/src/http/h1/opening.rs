//! The first bytes of a body, read before the request is judged.

use tokio::time::timeout;

use super::{
    body::{Body, Framing},
    chunked::{Manner, Piece},
    serve::Exchange,
};
use crate::{
    http::{
        Head,
        meaning::{Held, Opening, Reading},
    },
    limits::{HEAD_READ_BYTES, OPENING_WAIT},
};

/// What a client waits for that asks whether it may send its body (RFC 9110 section 10.1.1).
pub(super) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl Exchange<'_> {
    /// Reads what a request means: its head, and as much of its body as says more. The bytes stay where
    /// they are sent from.
    pub(super) async fn read_opening(&mut self, head: &Head, framing: Framing) -> Opening {
        let mut reading = self.carrier.reading(head);
        let mut body = Body::new(framing, Manner::Strict);
        if body.is_done() || !reading.wants_more() {
            return reading.finish(body.is_done());
        }
        let waits = head.fields.iter().any(|field| field.is("expect"));
        if waits && self.pending.is_empty() && self.client.write_all(CONTINUE).await.is_err() {
            return reading.finish(false);
        }
        let read = self.fill_opening(&mut reading, &mut body);
        // What is slow, broken or too much is judged by what is known; sending it fails by itself.
        let _is_whole = timeout(OPENING_WAIT, read).await;
        let is_whole = body.is_done();
        reading.finish(is_whole)
    }

    async fn fill_opening(&mut self, reading: &mut Reading, body: &mut Body) {
        let mut held = Held::default();
        let mut at = 0;
        loop {
            let new = self.pending.get(at..).unwrap_or_default();
            let fed = body.read(new, |piece| match piece {
                Piece::Data(bytes) => reading.feed(bytes),
                Piece::Trailer(_) => {}
            });
            let Ok(ours) = fed else {
                return;
            };
            at += ours;
            if body.is_done() || !reading.wants_more() {
                return;
            }
            match self.client.fill(&mut self.pending, HEAD_READ_BYTES).await {
                Ok(more @ 1..) if held.grow(more) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}
