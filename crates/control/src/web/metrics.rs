//! What the server counts, for Prometheus.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Response, header},
};

use super::{call::Call, problem::Problem, serving::Answer};
use crate::metrics::Present;

/// The type of the text.
const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /metrics`
pub(crate) async fn show(call: Arc<Call>) -> Result<Answer, Problem> {
    let server = &call.web.server;
    let (connected, backlog) = server.hub.backlog();
    let oldest_ms = backlog
        .oldest
        .map_or(0, |oldest| call.now.0.saturating_sub(oldest.0));
    let text = server.metrics.text(&Present {
        questions: server.state.questions_open().await?,
        connected,
        unshipped: backlog.bytes,
        oldest_ms,
        pace_ms: server.intake.pace_ms(),
        notices: server.state.deliveries_waiting().await?,
    });
    let mut response = Response::new(Body::from(text));
    let kind = HeaderValue::from_static(MEDIA_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(Answer::Raw(response))
}
