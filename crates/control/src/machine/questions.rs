//! Questions of machines.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
};
use serde::Deserialize;
use stockade_api::{
    Problem,
    limits::REASON_BYTES_MAX,
    node::{QuestionAnswer, QuestionSent},
};
use stockade_types::ApprovalId;

use super::answer::{Machine, Read, Refused};
use crate::{
    Server,
    state::{NodeRow, SessionKey},
};

/// Why a question is closed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Why {
    #[serde(default)]
    why: String,
}

/// `PUT /node/v1/questions/{session}/{approval}`.
pub(super) async fn put(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
    Path(names): Path<(String, String)>,
    Read(sent): Read<QuestionSent>,
) -> Result<Json<QuestionAnswer>, Refused> {
    let (key, approval) = named(&node, &names)?;
    let opened = server.open(&node, key, approval, sent).await?;
    Ok(Json(opened?))
}

/// `DELETE /node/v1/questions/{session}/{approval}`.
pub(super) async fn close(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
    Path(names): Path<(String, String)>,
    Query(Why { why }): Query<Why>,
) -> Result<Json<()>, Refused> {
    let (key, approval) = named(&node, &names)?;
    if why.len() > REASON_BYTES_MAX {
        return Err(Problem::new(400, "why", "`why` has more than 4096 bytes").into());
    }
    if !server.close(&key, &approval, &why).await? {
        return Err(Problem::new(404, "question", "there is no such question").into());
    }
    Ok(Json(()))
}

fn named(node: &NodeRow, names: &(String, String)) -> Result<(SessionKey, ApprovalId), Refused> {
    let wrong = |error: stockade_types::IdError| Problem::new(400, "name", error.to_string());
    let key = SessionKey {
        node: node.id.clone(),
        session: names.0.parse().map_err(wrong)?,
    };
    Ok((key, names.1.parse().map_err(wrong)?))
}
