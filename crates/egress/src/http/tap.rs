//! Whoever reads a request and its answer while they pass: as a call of a model, or as what an agent and
//! a server of tools say to each other.

use stockade_policy::Decision;
use stockade_types::DecisionId;

use super::{Addressed, Carrier, calls, mcp, stop::Stop};

/// A reader, or none. The copies read together.
#[derive(Clone, Default)]
pub(crate) enum Tap {
    /// Nobody reads it.
    #[default]
    None,
    /// It is a call of a model.
    Model(calls::Tap),
    /// It can be for a server of tools.
    Server(mcp::Tap),
}

impl Tap {
    /// Begins to read a request that was admitted.
    pub(crate) fn new<C>(
        carrier: &Carrier<'_>,
        request: &Addressed<C>,
        decision: DecisionId,
    ) -> Self {
        if let Some(model) = calls::Tap::new(carrier, request, decision) {
            return Self::Model(model);
        }
        mcp::Tap::new(carrier, request, decision).map_or(Self::None, Self::Server)
    }

    /// Tells whether somebody reads.
    pub(crate) fn is_there(&self) -> bool {
        match self {
            Self::None => false,
            Self::Model(_) => true,
            Self::Server(tap) => tap.is_there(),
        }
    }

    /// Takes bytes of the body of the request; they may be passed on once [`Self::compared`] says so.
    pub(crate) fn request(&self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Model(tap) => tap.request(bytes),
            Self::Server(tap) => tap.request(bytes),
        }
    }

    /// Waits, where the request ends with what was read, until it is known whether it may.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn compared(&self) -> Result<(), Stop> {
        match self {
            Self::None => Ok(()),
            Self::Model(tap) => tap.compared().await.map_err(Stop::Refused),
            // A question can stand in between, which is more than is kept for each request.
            Self::Server(tap) => Box::pin(tap.judged()).await,
        }
    }

    /// Takes what matters of the head of the answer.
    pub(crate) fn head<'f>(&self, status: u16, codings: impl Iterator<Item = &'f [u8]>) {
        match self {
            Self::None => {}
            Self::Model(tap) => tap.head(status, codings),
            Self::Server(tap) => tap.head(codings),
        }
    }

    /// Takes bytes of the body of the answer; they may be passed on once [`Self::recorded`] says so.
    pub(crate) fn answer(&self, bytes: &[u8]) {
        match self {
            Self::None => {}
            Self::Model(tap) => tap.answer(bytes),
            Self::Server(tap) => tap.answer(bytes),
        }
    }

    /// Waits until what was read so far is recorded, and compared where it must be.
    ///
    /// # Errors
    /// When the agent must not read it; the refusal is still to be recorded.
    pub(crate) async fn recorded(&self) -> Result<(), Box<Decision>> {
        match self {
            Self::None => Ok(()),
            Self::Model(tap) => {
                tap.recorded().await;
                Ok(())
            }
            Self::Server(tap) => Box::pin(tap.compared()).await,
        }
    }

    /// Says that the answer was passed on whole.
    pub(crate) fn is_whole(&self) {
        match self {
            Self::Model(tap) => tap.is_whole(),
            Self::None | Self::Server(_) => {}
        }
    }

    /// Says that the rest of the call does not pass, which is in the record.
    pub(crate) fn is_refused(&self) {
        match self {
            Self::Model(tap) => tap.is_refused(),
            Self::None | Self::Server(_) => {}
        }
    }
}
