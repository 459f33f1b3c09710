//! One piece of a journal: read, sent, and its receipt checked and kept.

use std::path::PathBuf;

use stockade_api::limits::PIECE_BYTES_MAX;
use stockade_journal::{journal_bytes, lines};
use stockade_trust::Envelope;
use stockade_types::{SessionId, chain};
use tokio::task::spawn_blocking;

use crate::{
    files::FileError,
    http::{Connection, HttpError},
    identity::Enrolment,
    receipts::{self, Signer},
    shipping::{Answered, BATCH_BYTES_MAX},
};

const _: () = assert!(PIECE_BYTES_MAX as u64 == BATCH_BYTES_MAX);
/// The level of compression: the lowest, because a chain value cannot be compressed anyway.
const LEVEL: i32 = 1;
/// Status codes of refusals.
const CONFLICT: u16 = 409;
const UNPROCESSABLE: u16 = 422;
const TOO_MANY: u16 = 429;
const UNAVAILABLE: u16 = 503;
/// How long to wait if a server that is busy does not say for how long, in milliseconds.
const BUSY_MS: u64 = 1_000;

/// A piece that is to be sent.
pub(super) struct Piece {
    pub(super) session: SessionId,
    pub(super) dir: PathBuf,
    pub(super) from: u64,
    pub(super) lacks_receipt: bool,
}

/// What came of it.
pub(super) struct Shipped {
    pub(super) session: SessionId,
    /// Bytes of the journal afterwards; 0 if it cannot be read.
    pub(super) here: u64,
    /// How long the server wants lines to be collected, in milliseconds.
    pub(super) pace: Option<u64>,
    pub(super) outcome: Outcome,
}

pub(super) enum Outcome {
    /// The server has answered.
    Answered(Answered),
    /// It has not: the connection is of no use any more.
    Lost(HttpError),
    /// It has refused in a way that says nothing about this journal.
    Other(HttpError),
    /// The receipt cannot be kept: nothing more is sent without.
    File(FileError),
}

/// Sends it.
pub(super) async fn ship(connection: Connection, enrolment: Enrolment, piece: Piece) -> Shipped {
    let (session, dir) = (piece.session.clone(), piece.dir.clone());
    let mut pace = None;
    let outcome = sent(&connection, enrolment, piece, &mut pace).await;
    let here = journal_bytes(&dir).unwrap_or_default();
    Shipped {
        session,
        here,
        pace,
        outcome,
    }
}

async fn sent(
    connection: &Connection,
    enrolment: Enrolment,
    piece: Piece,
    pace: &mut Option<u64>,
) -> Outcome {
    let Piece {
        session,
        dir,
        from,
        lacks_receipt,
    } = piece;
    let place = dir.clone();
    let packed = spawn_blocking(move || {
        let lines = lines(&place, from, BATCH_BYTES_MAX)?;
        if lines.bytes.is_empty() && !lacks_receipt {
            return Ok(None);
        }
        zstd::bulk::compress(&lines.bytes, LEVEL).map(Some)
    });
    let packed = match packed.await.map_err(std::io::Error::other).flatten() {
        Ok(Some(packed)) => packed,
        Ok(None) => return Outcome::Answered(Answered::Nothing),
        Err(error) => {
            let why = format!("it cannot be read here: {error}");
            return Outcome::Answered(Answered::Refused(why));
        }
    };
    let path = format!("/node/v1/journals/{session}?offset={from}");
    let envelope: Envelope = match connection.piece(&path, packed).await {
        Ok((envelope, wanted)) => {
            *pace = wanted;
            envelope
        }
        Err(error) => return refused(error),
    };
    let kept = spawn_blocking(move || {
        let signer = Signer::of(&enrolment);
        let receipt = match signer.check(&envelope, &session, &dir) {
            Ok(receipt) => receipt,
            Err(error) => return Ok(Answered::Refused(chain(&error))),
        };
        let before = receipts::last(&dir).ok().flatten();
        let before = before.and_then(|one| signer.check(&one, &session, &dir).ok());
        let before = before.map_or(0, |receipt| receipt.offset);
        receipts::keep(&dir, &envelope, receipt.offset, before)?;
        Ok(Answered::Held(receipt.offset))
    });
    match kept.await {
        Ok(Ok(answered)) => Outcome::Answered(answered),
        Ok(Err(error)) => Outcome::File(error),
        Err(_) => Outcome::Answered(Answered::Unknown),
    }
}

fn refused(error: HttpError) -> Outcome {
    let Some(problem) = error.problem() else {
        return Outcome::Lost(error);
    };
    match (problem.status, problem.expected) {
        (CONFLICT, Some(expected)) => Outcome::Answered(Answered::Expected(expected)),
        (UNPROCESSABLE, _) => Outcome::Answered(Answered::Refused(error.to_string())),
        (TOO_MANY | UNAVAILABLE, _) => {
            let wait = problem.retry_ms.unwrap_or(BUSY_MS);
            Outcome::Answered(Answered::Busy(wait))
        }
        _ => Outcome::Other(error),
    }
}
