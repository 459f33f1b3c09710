//! The body of one export while it is sent, unpacked, and charged to what all exports together may take.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Refused;
use crate::{
    http::unpack::{Take, Unpack},
    limits::EXPORT_BYTES_MAX,
};

/// Bytes that are unpacked before it is looked whether that is enough: a body that unpacks to a thousand
/// times its length is noticed after 4 MiB.
const PIECE_BYTES: usize = 4 * 1024;

/// A body, and its share of what is held.
pub(crate) struct Held {
    pub(super) bytes: Vec<u8>,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// Gathers a body.
struct Gather {
    held: Held,
    room: Arc<Semaphore>,
    refused: Option<Refused>,
}

impl Take for Gather {
    fn take(&mut self, bytes: &[u8]) {
        if self.refused.is_some() {
            return;
        }
        if self.held.bytes.len().saturating_add(bytes.len()) > EXPORT_BYTES_MAX {
            return self.refuse(Refused::TooLong);
        }
        let share = u32::try_from(bytes.len()).ok();
        let share =
            share.and_then(|share| Arc::clone(&self.room).try_acquire_many_owned(share).ok());
        let Some(share) = share else {
            return self.refuse(Refused::TooMuch);
        };
        match &mut self.held.share {
            Some(own) => own.merge(share),
            none => *none = Some(share),
        }
        self.held.bytes.extend_from_slice(bytes);
    }
}

impl Gather {
    /// Gives back what was taken.
    fn refuse(&mut self, why: Refused) {
        self.refused = Some(why);
        self.held.bytes = Vec::new();
        self.held.share = None;
    }
}

/// A body while it is sent.
pub(super) struct Body(Unpack<Gather>);

impl Body {
    /// Begins a body in a coding: gzip, which is the only one that OTLP has, or none.
    pub(super) fn new(room: &Arc<Semaphore>, coding: &[u8]) -> Result<Self, Refused> {
        let codings = [&b""[..], b"identity", b"gzip"];
        if !codings
            .iter()
            .any(|known| coding.eq_ignore_ascii_case(known))
        {
            return Err(Refused::Malformed("its coding is not gzip"));
        }
        let gather = Gather {
            held: Held {
                bytes: Vec::new(),
                share: None,
            },
            room: Arc::clone(room),
            refused: None,
        };
        Unpack::new(std::iter::once(coding), gather)
            .map(Self)
            .map_err(Refused::Malformed)
    }

    /// Takes the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        for piece in bytes.chunks(PIECE_BYTES) {
            let fed = self.0.feed(piece);
            if let Some(refused) = self.0.get_ref().and_then(|gather| gather.refused) {
                return Err(refused);
            }
            fed.map_err(Refused::Malformed)?;
        }
        Ok(())
    }

    /// Returns what was sent.
    pub(super) fn finish(mut self) -> Result<Held, Refused> {
        const CUT: Refused = Refused::Malformed("its coding has no end");
        let has_end = self.0.has_end();
        let gather = self.0.into_inner().filter(|_| has_end).ok_or(CUT)?;
        match gather.refused {
            Some(refused) => Err(refused),
            None => Ok(gather.held),
        }
    }
}
