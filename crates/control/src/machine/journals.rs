//! How journals are replicated: by offset, with a receipt for what is checked and on the disk.

use std::{io::Read as _, sync::Arc};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Path, Query, Request, State},
    http::{HeaderValue, header::CONTENT_ENCODING},
};
use serde::Deserialize;
use stockade_api::{
    Problem, Receipt,
    limits::{PIECE_BYTES_MAX, PIECE_SENT_BYTES_MAX},
};
use stockade_trust::Envelope;
use stockade_types::{SessionId, UnixMillis};

use super::answer::{Machine, Refused};
use crate::{
    Changed, ControlError, Server,
    clock::now,
    evidence::{Kept, Piece},
    state::{NodeRow, SessionKey, SessionRow, Stored, to_json},
};

/// When a machine tries again whose piece there was no room for.
const RETRY_MS: u64 = 500;
/// The largest window of zstd, as a power of two: 8 MiB. A frame can demand any amount of memory otherwise.
const WINDOW_LOG_MAX: u32 = 23;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct At {
    offset: u64,
}

/// `POST /node/v1/journals/{session}?offset=N`.
pub(super) async fn take(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
    Path(session): Path<String>,
    Query(At { offset }): Query<At>,
    request: Request,
) -> Result<Json<Envelope>, Refused> {
    // Before a byte of the body is read: what waits for the disk is bounded.
    let Ok(_place) = server.pieces.try_acquire() else {
        let mut problem = Problem::new(429, "busy", "the server has no room for journals now");
        problem.retry_ms = Some(RETRY_MS);
        return Err(problem.into());
    };
    let session: SessionId = session
        .parse()
        .map_err(|error| Refused::from(Problem::new(400, "session", format!("{error}"))))?;
    let key = SessionKey {
        node: node.id.clone(),
        session,
    };
    let is_packed = match request
        .headers()
        .get(CONTENT_ENCODING)
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"identity") => false,
        Some(b"zstd") => true,
        Some(_) => {
            let title = "`content-encoding`: expected `zstd`, or none";
            return Err(Problem::new(415, "encoding", title).into());
        }
    };
    let sent = body(request.into_body()).await?;
    // Two pieces of one session come after each other.
    let _turn = server.turns.of(&key).await;
    let row = server.state.session(&key).await?;
    if let Some(fault) = row.as_ref().and_then(|row| row.fault.clone()) {
        return Err(broken(&fault));
    }
    let piece = Piece {
        node_dir: server.node_dir(&node.id),
        session: key.session.clone(),
        key: node.journal_key.parse().map_err(|_| ControlError::Stored {
            what: "the key of a journal",
            why: node.journal_key.clone(),
        })?,
        offset,
        bytes: Vec::new(),
        receipted: row.as_ref().map_or(0, |row| row.stored.offset),
    };
    let kept = server
        .blocking(move || -> Result<Kept, Refused> {
            let bytes = if is_packed { unpacked(&sent)? } else { sent };
            if bytes.len() > PIECE_BYTES_MAX {
                return Err(too_long());
            }
            if bytes.last().is_some_and(|last| *last != b'\n') {
                let title = "the piece does not end with a whole line";
                return Err(Problem::new(400, "piece", title).into());
            }
            Ok(Piece { bytes, ..piece }.keep()?)
        })
        .await??;
    settle(&server, &node, key, row, kept).await
}

/// Notes what became of a piece, and answers.
async fn settle(
    server: &Server,
    node: &NodeRow,
    key: SessionKey,
    row: Option<SessionRow>,
    kept: Kept,
) -> Result<Json<Envelope>, Refused> {
    let now = now();
    let why = match kept {
        Kept::Yes(stored) => {
            let receipt = server.keep(key, row, stored, now).await?;
            return Ok(Json(receipt));
        }
        Kept::Expected(expected) => {
            let mut problem = Problem::new(409, "gap", "the piece begins behind what is here");
            problem.expected = Some(expected);
            return Err(problem.into());
        }
        Kept::Rewritten { at } => {
            format!("byte {at} is not what the server has received before")
        }
        Kept::Broken(why) => why,
    };
    let accused = server
        .state
        .accuse(&node.id, Some(&key.session), "record-broken", &why, now);
    accused.await?;
    let mut row = row.unwrap_or_else(|| SessionRow::new(key.clone(), now));
    row.fault = Some(why.clone());
    row.updated = now;
    server.state.keep_session(&row).await?;
    server.hub.changed(Changed::Session(key));
    Err(broken(&why))
}

impl Server {
    /// Notes how much of a journal is on the disk, and signs that.
    async fn keep(
        &self,
        key: SessionKey,
        row: Option<SessionRow>,
        stored: Stored,
        now: UnixMillis,
    ) -> Result<Envelope, ControlError> {
        let receipt = Receipt {
            org: self.settings.org.clone(),
            node: key.node.clone(),
            session: key.session.clone(),
            offset: stored.offset,
            events: stored.events,
            chain: stored.chain,
            closed: stored.closed,
            at: now,
        };
        let is_known = row.as_ref().is_some_and(|row| row.stored == stored);
        if !is_known {
            let (summaries, dir, own) = (
                self.summaries.clone(),
                self.node_dir(&key.node),
                key.clone(),
            );
            let summary = self.blocking(move || summaries.update(&dir, &own)).await?;
            let mut row = row.unwrap_or_else(|| SessionRow::new(key.clone(), now));
            row.is_live = !stored.closed;
            row.ended = stored.closed.then_some(now);
            if let Some(summary) = summary {
                let began = summary.started_unix_ns;
                row.started = began.map(|ns| UnixMillis(ns / 1_000_000)).or(row.started);
                row.summary = to_json("a summary", &summary)?;
            }
            row.stored = stored;
            row.updated = now;
            self.state.keep_session(&row).await?;
            self.hub.changed(Changed::Session(key));
        }
        Ok(Envelope::seal(&receipt, &[&self.keys.server])?)
    }
}

async fn body(body: Body) -> Result<Vec<u8>, Refused> {
    let bytes = to_bytes(body, PIECE_SENT_BYTES_MAX).await;
    bytes.map(Vec::from).map_err(|_| too_long())
}

/// Unpacks a piece; not one byte more than a piece may have.
fn unpacked(sent: &[u8]) -> Result<Vec<u8>, Refused> {
    let wrong = |error: std::io::Error| {
        Refused::from(Problem::new(
            400,
            "piece",
            format!("the piece cannot be unpacked: {error}"),
        ))
    };
    let mut decoder = zstd::stream::read::Decoder::new(sent).map_err(wrong)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(wrong)?;
    let mut bytes = Vec::new();
    let most = u64::try_from(PIECE_BYTES_MAX).unwrap_or(u64::MAX);
    decoder
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(wrong)?;
    Ok(bytes)
}

fn too_long() -> Refused {
    let title = "a piece has at most 4 MiB, unpacked";
    Problem::new(413, "piece-too-long", title).into()
}

fn broken(why: &str) -> Refused {
    Problem::new(
        422,
        "record-broken",
        format!("the journal is not whole: {why}"),
    )
    .remedy("nothing of this session is taken any more; look at it with `stockade log verify`")
    .into()
}
