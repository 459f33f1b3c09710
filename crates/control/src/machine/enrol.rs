//! How a machine begins and ceases to belong to the organisation, and how its certificate is renewed.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_api::{
    NodeId, Problem,
    limits::{WORD_BYTES_MAX, WORDS_MAX},
    node::{CertificateAnswer, EnrolAnswer, EnrolRequest, Facts},
    proof_message,
};

use super::answer::{Machine, Read, Refused};
use crate::{
    Changed, Server,
    act::{Act, Action},
    clock::now,
    listen::Peer,
    random,
    state::{Enrolled, NewNode},
};

/// `POST /node/v1/enrol`.
pub(super) async fn enrol(
    State(server): State<Arc<Server>>,
    Extension(peer): Extension<Peer>,
    Read(request): Read<EnrolRequest>,
) -> Result<Json<EnrolAnswer>, Refused> {
    check(&request)?;
    let node = NodeId::from_random(random::bits()?);
    let certificate = server.authority.node(&node, &request.key)?;
    let pem = certificate.pem.clone();
    let new = NewNode {
        id: node.clone(),
        name: request.name,
        key: request.key,
        journal_key: request.journal_key,
        facts: request.facts,
        install: request.install,
        certificate,
    };
    let hash = random::hash(&request.secret);
    let now = now();
    let enrolled = server.state.enrol(&hash, &new, now).await?;
    let refused = match enrolled {
        Enrolled::Yes(owner) => {
            server.hub.changed(Changed::Node(node.clone()));
            return Ok(Json(EnrolAnswer {
                org: server.settings.org.clone(),
                node,
                certificate: pem,
                ca: server.authority.pem().to_owned(),
                root: server.root().await?,
                directory: server.directory().await?,
                servers: server.keys.servers(),
                party: server.party.clone(),
                owner,
                bundle: server.state.newest_bundle().await?,
                pointer: server.pointer().await?,
                now,
            }));
        }
        Enrolled::Unknown => ("enrol-token-unknown", "the server knows no such token"),
        Enrolled::Used => ("enrol-token-used", "the token was used"),
        Enrolled::Expired => ("enrol-token-expired", "the token has expired"),
        Enrolled::KeyTaken => ("enrol-key-taken", "another machine has this key"),
    };
    if server.refusals.take(now) {
        let act = Act::new(Action::NodeRefused)
            .about(&new.name)
            .detail(format!("{} from {}", refused.0, peer.address.ip()));
        let mut writing = server.state.write().await?;
        server.state.note(&mut writing, &act, now).await?;
        server.state.commit(writing).await?;
    }
    let remedy = "make a new one on the server: `stockade serve enrol-token`";
    Err(Refused::from(
        Problem::new(403, refused.0, refused.1).remedy(remedy),
    ))
}

/// `POST /node/v1/cert`.
pub(super) async fn renew(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
) -> Result<Json<CertificateAnswer>, Refused> {
    let certificate = server.authority.node(&node.id, &node.key)?;
    let now = now();
    server
        .state
        .add_certificate(&node.id, &certificate, now)
        .await?;
    Ok(Json(CertificateAnswer {
        certificate: certificate.pem,
        not_after: certificate.not_after,
        now,
    }))
}

/// `POST /node/v1/leave`.
pub(super) async fn leave(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
) -> Result<Json<()>, Refused> {
    server.retire(&node.id, node.id.as_str()).await?;
    Ok(Json(()))
}

/// Checks what a machine says of itself before anything is made for it.
fn check(request: &EnrolRequest) -> Result<(), Refused> {
    let bad = |title: &str| Refused::from(Problem::new(400, "enrol-request", title));
    let name = &request.name;
    if name.trim().is_empty() || name.len() > WORD_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(bad(
            "`name`: expected 1 to 256 bytes without control characters",
        ));
    }
    if !are_short(&request.facts) {
        return Err(bad(
            "`facts`: a text has more than 256 bytes, or a list more than 64 texts",
        ));
    }
    if request
        .journal_key
        .parse::<stockade_journal::VerifyingKey>()
        .is_err()
    {
        return Err(bad(
            "`journal_key`: expected 64 hexadecimal digits of a key",
        ));
    }
    let proof = URL_SAFE_NO_PAD.decode(&request.proof);
    let message = proof_message(&request.secret);
    if !proof.is_ok_and(|proof| request.key.has_signed(&message, &proof)) {
        return Err(bad("`proof`: the key has not signed the token"));
    }
    Ok(())
}

/// Tells whether all texts of facts are short enough to be kept.
pub(super) fn are_short(facts: &Facts) -> bool {
    let lists = [&facts.tiers, &facts.guarantees_missing];
    let one = [&facts.version, &facts.kernel, &facts.hostname];
    let mut texts = one.into_iter().chain(lists.into_iter().flatten());
    lists.iter().all(|list| list.len() <= WORDS_MAX)
        && texts.all(|text| text.len() <= WORD_BYTES_MAX)
}
