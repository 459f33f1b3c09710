//! A new certificate for a machine that was away for so long that its last one is over.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_api::{
    Problem,
    limits::{EXPIRED_MS_MAX, PROOF_MS_MAX},
    node::{CertificateAnswer, ExpiredRequest},
    renewal_message,
};

use super::{
    answer::{Read, Refused},
    enrol::note_refusal,
};
use crate::{Server, clock::now, listen::Peer};

/// `POST /node/v1/cert/expired`. The request is signed with the machine's key, and the certificate is for
/// that key: whoever sends a request again that another has signed gets nothing that he can use.
pub(super) async fn renew(
    State(server): State<Arc<Server>>,
    Extension(peer): Extension<Peer>,
    Read(request): Read<ExpiredRequest>,
) -> Result<Json<CertificateAnswer>, Refused> {
    let now = now();
    let node = server.state.node(&request.node).await?;
    let message = renewal_message(&server.settings.org, &request.node, request.at);
    let proof = URL_SAFE_NO_PAD.decode(&request.proof).unwrap_or_default();
    let node = node.filter(|node| node.retired.is_none() && node.key.has_signed(&message, &proof));
    let why = match &node {
        // One text for a machine that is not there, that was retired, and whose key is another one.
        None => Some((
            "renewal-unknown",
            "no machine of this organisation has signed this",
        )),
        Some(_) if now.0.abs_diff(request.at.0) > PROOF_MS_MAX => Some((
            "renewal-time",
            "it was signed more than 5 minutes ago or ahead; compare the clocks",
        )),
        Some(node) if server.state.is_job(&node.id).await? => {
            Some(("renewal-job", "the machine of a job has one certificate"))
        }
        Some(node) => {
            let last = server.state.last_certificate(&node.id).await?;
            let is_late = last.is_none_or(|last| last.0.saturating_add(EXPIRED_MS_MAX) < now.0);
            is_late.then_some((
                "renewal-late",
                "its certificate is over for more than 7 days",
            ))
        }
    };
    if let (None, Some(node)) = (why, &node) {
        let certificate = server.authority.node(&node.id, &node.key)?;
        let state = &server.state;
        state.add_certificate(&node.id, &certificate, now).await?;
        return Ok(Json(CertificateAnswer {
            certificate: certificate.pem,
            not_after: certificate.not_after,
            now,
        }));
    }
    let (kind, title) = why.unwrap_or_default();
    note_refusal(&server, request.node.as_str(), kind, peer, now).await?;
    let remedy = "enrol the machine again: `stockade node leave`, then `stockade enrol TOKEN`";
    Err(Refused::from(Problem::new(403, kind, title).remedy(remedy)))
}
