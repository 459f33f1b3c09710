//! What a machine says first, and what becomes of bundles on it.

use std::sync::Arc;

use axum::{Json, extract::State};
use stockade_api::{
    Problem,
    limits::{REASON_BYTES_MAX, SESSIONS_MAX, WORD_BYTES_MAX},
    node::{Ack, Backlog, Hello, HelloAnswer, Position, RolloutHere},
};
use stockade_types::SessionId;

use super::{
    answer::{Machine, Read, Refused, Sender},
    enrol::are_short,
};
use crate::{
    Changed, Server,
    clock::now,
    state::{NodeRow, SessionKey, Write},
};

/// `POST /node/v1/hello`.
pub(super) async fn hello(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
    Read(hello): Read<Hello>,
) -> Result<Json<HelloAnswer>, Refused> {
    if hello.sessions.len() > SESSIONS_MAX || !are_short(&hello.facts) {
        let title = "more than 4096 sessions, or facts that are too long";
        return Err(Refused::from(Problem::new(400, "hello", title)));
    }
    let now = now();
    let live = hello.sessions.iter().filter(|here| here.live);
    let live: Vec<SessionId> = live.map(|here| here.session.clone()).collect();
    let said = vec![
        Write::Heard {
            node: node.id.clone(),
            hello: Box::new(hello.clone()),
            now,
        },
        Write::Live {
            node: node.id.clone(),
            live,
        },
    ];
    server.state.put(said).await?;
    let wanted = wanted(&server, &node, &hello).await?;
    let bundle = server.state.newest_bundle_row().await?;
    let has_bundle = |serial: u64| {
        let here = hello.bundle.as_ref();
        here.is_some_and(|here| here.serial >= serial)
    };
    let directory = server.known_directory().await?;
    let membership = server.membership(&node)?;
    server.hub.changed(Changed::Node(node.id));
    Ok(Json(HelloAnswer {
        membership,
        wanted,
        bundle: bundle
            .filter(|row| !has_bundle(row.serial))
            .map(|row| row.envelope),
        pointer: server.pointer().await?,
        directory: (directory.serial > hello.directory_serial).then_some(directory.envelope),
        now,
    }))
}

/// Returns from where on journals are wanted: those that the server has less of than the machine. A journal
/// that the server has more of was cut on the machine; its owner has to look at that.
async fn wanted(server: &Server, node: &NodeRow, hello: &Hello) -> Result<Vec<Position>, Refused> {
    let mut wanted = Vec::new();
    for here in &hello.sessions {
        let key = SessionKey {
            node: node.id.clone(),
            session: here.session.clone(),
        };
        // A piece of it may be under way on an earlier connection.
        let _turn = server.turns.of(&key).await;
        let tip = server.tip(&key).await?;
        let offset = tip.as_ref().map_or(0, |tip| tip.stored.offset);
        let is_whole = tip.is_none_or(|tip| tip.fault.is_none());
        if offset > here.offset && is_whole {
            let detail = format!(
                "its journal has {} bytes; the server has {offset} of it",
                here.offset
            );
            server.broken(&key, "journal-cut", &detail, now()).await?;
        } else if is_whole && offset < here.offset {
            wanted.push(Position {
                session: here.session.clone(),
                offset,
            });
        }
    }
    Ok(wanted)
}

/// `POST /node/v1/acks`.
pub(super) async fn acknowledge(
    State(server): State<Arc<Server>>,
    Sender(node): Sender,
    Read(ack): Read<Ack>,
) -> Result<Json<()>, Refused> {
    let is_short = |here: &RolloutHere| here.rollout.len() <= WORD_BYTES_MAX;
    let error_length = ack.error.as_ref().map_or(0, String::len);
    if ack.channel.len() > WORD_BYTES_MAX
        || error_length > REASON_BYTES_MAX
        || !ack.rollout.iter().all(is_short)
    {
        let title = "`channel` or `rollout` has more than 256 bytes, or `error` more than 4096";
        return Err(Refused::from(Problem::new(400, "ack", title)));
    }
    let write = Write::Acknowledged {
        node: node.id.clone(),
        ack: Box::new(ack),
        now: now(),
    };
    server.state.put(vec![write]).await?;
    server.hub.changed(Changed::Node(node.id));
    Ok(Json(()))
}

/// `POST /node/v1/backlog`. It is kept in memory alone.
pub(super) async fn behind(
    State(server): State<Arc<Server>>,
    Sender(node): Sender,
    Read(backlog): Read<Backlog>,
) -> Json<()> {
    server.hub.behind(&node.id, backlog);
    Json(())
}
