//! Pages, and what they are made of as JSON.

use std::sync::Arc;

use axum::{Router, routing::get};

use crate::Server;

/// Returns everything that browsers and programs of people ask for.
pub(crate) fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .with_state(server)
}
