//! How journals are replicated: by offset, with a receipt for what is checked and on the disk.

use std::{io::Read as _, sync::Arc, time::Instant};

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Path, Query, Request, State},
    http::{
        HeaderMap, HeaderName, HeaderValue,
        header::{CONTENT_ENCODING, CONTENT_LENGTH},
    },
    response::{IntoResponse as _, Response},
};
use serde::Deserialize;
use stockade_api::{
    Problem, Receipt,
    limits::{PACE_HEADER, PIECE_BYTES_MAX, PIECE_SENT_BYTES_MAX},
};
use stockade_trust::Envelope;
use stockade_types::{SessionId, UnixMillis};
use tokio::{task::spawn_blocking, time::timeout};

use super::answer::{Refused, Sender};
use crate::{
    Changed, ControlError, Server,
    clock::now,
    evidence::{Kept, Piece, Written},
    intake::{BODY_PATIENCE, Place},
    state::{NodeRow, SessionKey, Stored, Tip, Write},
};

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
    Sender(node): Sender,
    Path(session): Path<String>,
    Query(At { offset }): Query<At>,
    request: Request,
) -> Result<Response, Refused> {
    let begun = Instant::now();
    // Before a byte of the body is read: what waits for the disk is bounded.
    let place = server.intake.admit(&node.id, length(request.headers()));
    let place = place.inspect_err(|_| server.metrics.refused("busy"))?;
    let session: SessionId = session
        .parse()
        .map_err(|error| Refused::from(Problem::new(400, "session", format!("{error}"))))?;
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
    let bytes = body(request.into_body()).await?;
    let sent = Sent {
        key: SessionKey {
            node: node.id.clone(),
            session,
        },
        offset,
        bytes,
        is_packed,
    };
    let pace = HeaderValue::from(server.intake.pace_ms());
    // A task of its own: a machine that breaks off does not end the work on its piece half way, with
    // another one of the same session beside it.
    let taken = tokio::spawn(sent.taken(Arc::clone(&server), node, place)).await;
    let receipt = taken.map_err(|error| ControlError::Work(error.to_string()))?;
    let receipt = receipt.inspect_err(|refused| server.metrics.refused(refused.kind()))?;
    server.metrics.acknowledged(begun.elapsed());
    let pace = [(HeaderName::from_static(PACE_HEADER), pace)];
    Ok((pace, Json(receipt)).into_response())
}

/// A piece as it came.
struct Sent {
    key: SessionKey,
    offset: u64,
    bytes: Vec<u8>,
    is_packed: bool,
}

impl Sent {
    /// Keeps the piece, and answers.
    async fn taken(
        self,
        server: Arc<Server>,
        node: NodeRow,
        _place: Place,
    ) -> Result<Envelope, Refused> {
        // Two pieces of one session come after each other.
        let _turn = server.turns.of(&self.key).await;
        let tip = server.tip(&self.key).await?;
        if let Some(fault) = tip.as_ref().and_then(|tip| tip.fault.clone()) {
            return Err(broken(&fault));
        }
        let key = self.key.clone();
        let kept = self.kept(&server, &node, tip.as_ref()).await?;
        server.settle(key, tip, kept).await
    }

    /// Checks the piece, writes it, and waits for the disk. Only the former counts against the gate: any
    /// number of pieces wait for the disk together.
    async fn kept(
        self,
        server: &Arc<Server>,
        node: &NodeRow,
        tip: Option<&Tip>,
    ) -> Result<Kept, Refused> {
        let mut piece = Piece {
            node_dir: server.node_dir(&node.id),
            session: self.key.session.clone(),
            key: node.journal_key.parse().map_err(|_| ControlError::Stored {
                what: "the key of a journal",
                why: node.journal_key.clone(),
            })?,
            offset: self.offset,
            bytes: Vec::new(),
            receipted: tip.map_or(0, |tip| tip.stored.offset),
        };
        let gate = Arc::clone(&server.gate).acquire_owned().await;
        let server = Arc::clone(server);
        let done = spawn_blocking(move || -> Result<Kept, Refused> {
            let bytes = if self.is_packed {
                unpacked(&self.bytes)?
            } else {
                self.bytes
            };
            if bytes.len() > PIECE_BYTES_MAX {
                return Err(too_long());
            }
            if bytes.last().is_some_and(|last| *last != b'\n') {
                let title = "the piece does not end with a whole line";
                return Err(Problem::new(400, "piece", title).into());
            }
            piece.bytes = bytes;
            let written = server.evidence.write(&self.key, &piece)?;
            drop((gate, piece));
            Ok(match written {
                Written::Done(kept) => kept,
                Written::Unsynced(unsynced) => Kept::Yes(server.evidence.sync(*unsynced)?),
            })
        });
        let done = done.await;
        done.map_err(|error| ControlError::Work(error.to_string()))?
    }
}

impl Server {
    /// Notes what became of a piece, and answers.
    async fn settle(
        &self,
        key: SessionKey,
        tip: Option<Tip>,
        kept: Kept,
    ) -> Result<Envelope, Refused> {
        let now = now();
        let why = match kept {
            Kept::Yes(stored) => return Ok(self.keep(key, tip, stored, now).await?),
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
        self.broken(&key, "record-broken", &why, now).await?;
        Err(broken(&why))
    }

    /// Notes that the journal of a session is not whole: nothing of it is taken any more.
    pub(super) async fn broken(
        &self,
        key: &SessionKey,
        kind: &str,
        why: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let accused = self
            .state
            .accuse(&key.node, Some(&key.session), kind, why, now);
        accused.await?;
        let fault = Write::Fault {
            key: key.clone(),
            fault: why.to_owned(),
            now,
        };
        self.state.put(vec![fault]).await?;
        self.forget_tip(key);
        self.hub.changed(Changed::Session(key.clone()));
        Ok(())
    }

    /// Notes how much of a journal is on the disk, and signs that.
    async fn keep(
        &self,
        key: SessionKey,
        tip: Option<Tip>,
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
        if tip.as_ref().is_none_or(|tip| tip.stored != stored) {
            let before = tip.map_or((0, 0), |tip| (tip.stored.offset, tip.stored.events));
            let bytes = stored.offset.saturating_sub(before.0);
            let events = stored.events.saturating_sub(before.1);
            let is_over = stored.closed;
            let tip = Tip {
                stored: stored.clone(),
                fault: None,
            };
            let mut writes = vec![Write::Stored {
                key: key.clone(),
                stored,
                now,
            }];
            // At the end no further piece comes; before it, what a session has come to can wait.
            if is_over {
                writes.extend(self.summary(&key).await?);
            }
            self.state.put(writes).await?;
            self.metrics.taken(events, bytes);
            if is_over {
                self.forget_tip(&key);
            } else {
                self.know_tip(&key, tip);
                self.following.grown(&key);
            }
            self.hub.changed(Changed::Session(key));
        }
        Ok(Envelope::seal(&receipt, &[&self.keys.server])?)
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

async fn body(body: Body) -> Result<Vec<u8>, Refused> {
    let bytes = timeout(BODY_PATIENCE, to_bytes(body, PIECE_SENT_BYTES_MAX)).await;
    let late = |_| Problem::new(408, "late", "the piece did not come within 10 seconds");
    bytes.map_err(late)?.map(Vec::from).map_err(|_| too_long())
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
