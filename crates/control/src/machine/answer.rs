//! How requests of machines are read, and how they are refused.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, FromRequestParts, Request, State},
    http::{StatusCode, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use stockade_api::Problem;
use stockade_types::Digest;

use crate::{ControlError, Server, clock::now, listen::Peer, state::NodeRow};

/// A request that is refused, and what failed in the server if that is why.
#[derive(Debug)]
pub(crate) struct Refused {
    problem: Problem,
    cause: Option<Arc<ControlError>>,
}

impl Refused {
    /// Returns the kind of the refusal.
    pub(crate) fn kind(&self) -> &str {
        &self.problem.kind
    }
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            cause: None,
        }
    }
}

impl From<ControlError> for Refused {
    /// The machine learns that something failed, not what: paths of the server do not concern it.
    fn from(error: ControlError) -> Self {
        let problem = Problem::new(503, "server", "the server cannot do that now");
        Self {
            problem: problem.remedy("try again later"),
            cause: Some(Arc::new(error)),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(CONTENT_TYPE, Problem::MEDIA_TYPE)];
        let mut response = (status, kind, Json(self.problem)).into_response();
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(cause);
        }
        response
    }
}

/// Reports what failed in the server, to who runs it.
pub(crate) async fn report(State(server): State<Arc<Server>>, response: Response) -> Response {
    if let Some(cause) = response.extensions().get::<Arc<ControlError>>() {
        server.failed(cause);
    }
    response
}

/// The machine that sends a request: it belongs to the organisation, and has shown a certificate that is
/// not over.
pub(crate) struct Machine(pub(crate) NodeRow);

impl FromRequestParts<Arc<Server>> for Machine {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let node = server.state.node_of(&certificate(parts)?, now()).await?;
        node.map(Self).ok_or_else(unknown)
    }
}

/// The same, as the machine was a moment ago, for what machines send often. One that was retired is none
/// here either.
pub(crate) struct Sender(pub(crate) NodeRow);

impl FromRequestParts<Arc<Server>> for Sender {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, server: &Arc<Server>) -> Result<Self, Refused> {
        let node = server.sender(&certificate(parts)?).await?;
        node.map(Self).ok_or_else(unknown)
    }
}

fn certificate(parts: &Parts) -> Result<Digest, Refused> {
    let peer = parts.extensions.get::<Peer>().copied();
    peer.and_then(|peer| peer.certificate).ok_or_else(unknown)
}

fn unknown() -> Refused {
    let title = "no machine of this organisation has shown its certificate";
    let remedy = "enrol the machine again: `stockade enrol TOKEN`";
    Problem::new(401, "unknown-machine", title)
        .remedy(remedy)
        .into()
}

/// A body of JSON, in which unknown members are refused.
pub(crate) struct Read<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Server>> for Read<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, server: &Arc<Server>) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, server).await;
        let bytes = bytes.map_err(|rejection| {
            let status = rejection.status().as_u16();
            Refused::from(Problem::new(status, "body", rejection.body_text()))
        })?;
        let value = serde_json::from_slice(&bytes);
        let value = value.map_err(|error| {
            Refused::from(Problem::new(
                400,
                "body",
                format!("the body cannot be read: {error}"),
            ))
        })?;
        Ok(Self(value))
    }
}
