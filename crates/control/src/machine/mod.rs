//! The protocol of machines: `stockade_api::node` describes it.

mod answer;
mod enrol;
mod expired;
mod growing;
mod hello;
mod job;
mod journals;
mod questions;
mod sender;
mod stream;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::map_response_with_state,
    routing::{get, post, put},
};
use stockade_api::{Problem, limits::REQUEST_BYTES_MAX};

use crate::{Server, machine::answer::Refused};

/// Returns everything that machines ask for.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/node/v1/enrol", post(enrol::enrol))
        .route("/node/v1/enrol/job", post(job::enrol))
        .route("/node/v1/cert", post(enrol::renew))
        .route("/node/v1/cert/expired", post(expired::renew))
        .route("/node/v1/leave", post(enrol::leave))
        .route("/node/v1/hello", post(hello::hello))
        .route("/node/v1/acks", post(hello::acknowledge))
        .route("/node/v1/backlog", post(hello::behind))
        .route("/node/v1/journals/{session}", post(journals::take))
        .route(
            "/node/v1/questions/{session}/{approval}",
            put(questions::put).delete(questions::close),
        )
        .route("/node/v1/stream", get(stream::stream))
        .fallback(async || Refused::from(Problem::new(404, "not-found", "there is no such call")))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(map_response_with_state(Arc::clone(&server), answer::report))
        .with_state(server)
}
