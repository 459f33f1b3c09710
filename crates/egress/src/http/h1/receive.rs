//! The response to a forwarded request, on its way back.

use std::sync::atomic::{AtomicBool, Ordering};

use stockade_policy::Decision;
use tokio::time::timeout;

use super::{
    Malformed,
    body::{Body, Framing},
    chunked::{Manner, Piece},
    head::{Carried, parse_response},
    lines::{self, Scanner},
};
use crate::{
    gate::Incoming,
    http::{Addressed, Tap},
    limits::{HEAD_READ_BYTES, RELAY_CHUNK_BYTES, RESPONSE_WAIT},
    scrub::{Passage, Scrubber},
    stream::{Turn, Writer},
};

/// What came of a response.
pub(super) enum Got {
    Whole {
        persistent: bool,
    },
    Switched,
    /// The response can be read in more than one way, or in none.
    Malformed(Malformed),
    Unsearchable,
    /// The rest must not be read.
    Refused(Box<Decision>),
    Broken,
}

/// Why a body is not passed on whole.
enum Half {
    Broken,
    Refused(Box<Decision>),
}

impl From<Box<Decision>> for Half {
    fn from(decision: Box<Decision>) -> Self {
        Self::Refused(decision)
    }
}

/// What matters for a response.
#[derive(Clone, Copy)]
pub(super) struct Back<'a> {
    pub(super) request: &'a Addressed<Carried>,
    /// What it is searched for.
    pub(super) scrubber: Option<&'a Scrubber>,
    /// Set once the client has some of it.
    pub(super) started: &'a AtomicBool,
    /// Reads it.
    pub(super) tap: &'a Tap,
}

/// Passes a response back.
pub(super) async fn receive(
    mut from: Incoming<'_>,
    mut to: Writer<'_>,
    back: Back<'_>,
    rest: &mut Vec<u8>,
) -> Got {
    let Back {
        request,
        scrubber,
        tap,
        ..
    } = back;
    let head = loop {
        let mut scanner = Scanner::default();
        let (head, mut bytes) = loop {
            match parse_response(&mut scanner, rest, &request.head.method) {
                Err(malformed) => return Got::Malformed(malformed),
                Ok(Some((head, length))) => {
                    let beyond = rest.split_off(length.min(rest.len()));
                    break (head, std::mem::replace(rest, beyond));
                }
                Ok(None) => {}
            }
            match timeout(RESPONSE_WAIT, from.fill(rest, HEAD_READ_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => return Got::Broken,
            }
        };
        if head.status == 101 && !request.carried.websocket {
            return Got::Broken;
        }
        if let Some(scrubber) = scrubber {
            if head.coded && head.framing != Framing::Empty {
                return Got::Unsearchable;
            }
            scrubber.clean(&mut bytes);
        }
        back.started.store(true, Ordering::Relaxed);
        if to.write_all(&bytes).await.is_err() {
            return Got::Broken;
        }
        if !head.is_interim() {
            follow(tap, head.status, &bytes);
            break head;
        }
    };
    if head.status == 101 {
        return Got::Switched;
    }
    let whole = match scrubber {
        Some(scrubber) => {
            let how = (head.framing, scrubber, tap);
            clean_body(&mut from, &mut to, how, rest).await
        }
        None => receive_body(&mut from, &mut to, (head.framing, tap), rest).await,
    };
    match whole {
        Ok(true) => Got::Whole {
            persistent: head.persistent,
        },
        Ok(false) | Err(Half::Broken) => Got::Broken,
        Err(Half::Refused(decision)) => Got::Refused(decision),
    }
}

/// Says which answer the next bytes are of.
fn follow(tap: &Tap, status: u16, head: &[u8]) {
    if !tap.is_there() {
        return;
    }
    let fields = lines::split(head).map(|(_, fields)| fields);
    let fields = fields.unwrap_or_default();
    let codings = fields.iter().filter(|field| field.is("content-encoding"));
    tap.head(status, codings.map(|field| field.value));
}

async fn receive_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, tap): (Framing, &Tap),
    rest: &mut Vec<u8>,
) -> Result<bool, Half> {
    if tap.is_there() {
        return told_body(from, to, (framing, tap), rest).await;
    }
    let mut body = Body::new(framing, Manner::Tolerant);
    if !body.is_done() && !rest.is_empty() {
        let Ok(ours) = body.feed(rest) else {
            return Err(Half::Broken);
        };
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        if to.write_all(&bytes).await.is_err() {
            return Err(Half::Broken);
        }
    }
    while !body.is_done() {
        let turn = from.pass(to, rest, |bytes| body.feed(bytes));
        match timeout(RESPONSE_WAIT, turn).await {
            Ok(Turn::Moved) => {}
            Ok(Turn::Ended) => return Ok(framing == Framing::UntilClose),
            Ok(Turn::Refused(_) | Turn::ReadFailed | Turn::WriteFailed) | Err(_) => {
                return Err(Half::Broken);
            }
        }
    }
    Ok(true)
}

/// The same, where a call of a model is read: what it asks for is recorded before it is passed on.
async fn told_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, tap): (Framing, &Tap),
    rest: &mut Vec<u8>,
) -> Result<bool, Half> {
    let mut body = Body::new(framing, Manner::Tolerant);
    while !body.is_done() {
        if rest.is_empty() {
            match timeout(RESPONSE_WAIT, from.fill(rest, RELAY_CHUNK_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => return Ok(framing == Framing::UntilClose),
                Ok(Err(_)) | Err(_) => return Err(Half::Broken),
            }
        }
        let read = body.read(rest, |piece| match piece {
            Piece::Data(data) => tap.answer(data),
            Piece::Trailer(_) => {}
        });
        let Ok(ours) = read else {
            return Err(Half::Broken);
        };
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        tap.recorded().await?;
        if to.write_all(&bytes).await.is_err() {
            return Err(Half::Broken);
        }
    }
    Ok(true)
}

/// The same, without the values of credentials. What says how the body is split up must be plain, so
/// that nothing is hidden in it.
async fn clean_body(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (framing, scrubber, tap): (Framing, &Scrubber, &Tap),
    rest: &mut Vec<u8>,
) -> Result<bool, Half> {
    let mut body = Body::new(framing, Manner::Strict);
    let mut passage = Passage::default();
    let mut content = Vec::new();
    while !body.is_done() {
        if rest.is_empty() {
            match timeout(RESPONSE_WAIT, from.fill(rest, RELAY_CHUNK_BYTES)).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => {
                    let last = passage.push(scrubber, &[], &[], true);
                    let is_written = to.write_all(&last).await.is_ok();
                    return Ok(framing == Framing::UntilClose && is_written);
                }
                Ok(Err(_)) | Err(_) => return Err(Half::Broken),
            }
        }
        content.clear();
        let Ok(ours) = body.feed_parts(rest, &mut content) else {
            return Err(Half::Broken);
        };
        let parts = content.iter().cloned();
        parts.for_each(|part| tap.answer(rest.get(part).unwrap_or_default()));
        let beyond = rest.split_off(ours.min(rest.len()));
        let bytes = std::mem::replace(rest, beyond);
        let clean = passage.push(scrubber, &bytes, &content, body.is_done());
        tap.recorded().await?;
        if to.write_all(&clean).await.is_err() {
            return Err(Half::Broken);
        }
    }
    Ok(true)
}
