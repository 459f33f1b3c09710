//! An answer that is read as a whole, to a request that is the last of its connection.

use super::h1::{
    body::{Body, Framing},
    chunked::{Manner, Piece},
    head::{ResponseHead, parse_response},
    lines::Scanner,
};
use crate::{
    gate::Incoming,
    limits::{HEAD_READ_BYTES, RELAY_CHUNK_BYTES},
};

/// Reads the answer to a request with `method`; `None` if it is none, or its body is longer than `max`
/// bytes.
pub(super) async fn receive(
    mut from: Incoming<'_>,
    method: &str,
    max: usize,
) -> Option<(ResponseHead, Vec<u8>)> {
    let mut rest = Vec::new();
    let head = loop {
        let mut scanner = Scanner::default();
        let head = loop {
            if let Some((head, length)) = parse_response(&mut scanner, &rest, method).ok()? {
                rest.drain(..length.min(rest.len()));
                break head;
            }
            if from.fill(&mut rest, HEAD_READ_BYTES).await.ok()? == 0 {
                return None;
            }
        };
        if !head.is_interim() {
            break head;
        }
    };
    let mut framed = Body::new(head.framing, Manner::Strict);
    let mut body = Vec::new();
    loop {
        framed
            .read(&rest, |piece| match piece {
                Piece::Data(bytes) => body.extend_from_slice(bytes),
                Piece::Trailer(_) => {}
            })
            .ok()?;
        if body.len() > max {
            return None;
        }
        if framed.is_done() {
            return Some((head, body));
        }
        rest.clear();
        if from.fill(&mut rest, RELAY_CHUNK_BYTES).await.ok()? == 0 {
            let is_whole = head.framing == Framing::UntilClose;
            return is_whole.then_some((head, body));
        }
    }
}
