//! How a machine begins and ceases to belong to the organisation, and how its certificate is renewed.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use stockade_api::{
    NodeId, Problem,
    limits::{WORD_BYTES_MAX, WORDS_MAX},
    node::{CertificateAnswer, EnrolAnswer, EnrolRequest, Facts, NewMachine},
    proof_message,
};
use stockade_trust::{Envelope, UserId};
use stockade_types::UnixMillis;

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
    let name = named(&request.name)?.to_owned();
    let machine = NewMachine {
        key: request.key,
        proof: request.proof,
        facts: request.facts,
        journal_key: request.journal_key,
        install: request.install,
    };
    check(&machine, &request.secret)?;
    let node = NodeId::from_random(random::bits()?);
    let certificate = server.authority.node(&node, &machine.key)?;
    let pem = certificate.pem.clone();
    let new = NewNode {
        id: node.clone(),
        name,
        key: machine.key,
        journal_key: machine.journal_key,
        facts: machine.facts,
        install: machine.install,
        certificate,
    };
    let hash = random::hash(&request.secret);
    let now = now();
    let enrolled = server.state.enrol(&hash, &new, now).await?;
    let refused = match enrolled {
        Enrolled::Yes(owner) => {
            server.hub.changed(Changed::Node(node.clone()));
            return Ok(Json(answer(&server, node, pem, owner).await?));
        }
        Enrolled::Unknown => ("enrol-token-unknown", "the server knows no such token"),
        Enrolled::Used => ("enrol-token-used", "the token was used"),
        Enrolled::Expired => ("enrol-token-expired", "the token has expired"),
        Enrolled::KeyTaken => ("enrol-key-taken", "another machine has this key"),
    };
    note_refusal(&server, &new.name, refused.0, peer, now).await?;
    let remedy = "make a new one on the server: `stockade serve enrol-token`";
    Err(Refused::from(
        Problem::new(403, refused.0, refused.1).remedy(remedy),
    ))
}

/// Returns what a machine pins that belongs to the organisation now.
pub(super) async fn answer(
    server: &Server,
    node: NodeId,
    certificate: String,
    owner: Option<UserId>,
) -> Result<EnrolAnswer, Refused> {
    Ok(EnrolAnswer {
        org: server.settings.org.clone(),
        certificate,
        ca: server.authority.pem().to_owned(),
        root: server.root().await?,
        directory: server.directory().await?,
        membership: membership(server, &node).await?,
        servers: server.keys.servers(),
        party: server.party.clone(),
        owner,
        bundle: server.state.newest_bundle().await?,
        pointer: server.pointer().await?,
        now: now(),
        node,
    })
}

async fn membership(server: &Server, node: &NodeId) -> Result<Option<Envelope>, Refused> {
    let row = server.state.node(node).await?;
    let said = row.map(|row| server.membership(&row)).transpose()?;
    Ok(said.flatten())
}

/// Notes that a machine was not let in; so often in a minute, because anybody can try.
pub(super) async fn note_refusal(
    server: &Server,
    about: &str,
    why: &str,
    peer: Peer,
    now: UnixMillis,
) -> Result<(), Refused> {
    if !server.refusals.take(now) {
        return Ok(());
    }
    let act = Act::new(Action::NodeRefused)
        .about(about)
        .detail(format!("{why} from {}", peer.address.ip()));
    let mut writing = server.state.write().await?;
    server.state.note(&mut writing, &act, now).await?;
    server.state.commit(writing).await?;
    Ok(())
}

/// `POST /node/v1/cert`.
pub(super) async fn renew(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
) -> Result<Json<CertificateAnswer>, Refused> {
    if server.state.is_job(&node.id).await? {
        let title = "the machine of a job has one certificate";
        let remedy = "the next job enrols a machine of its own";
        return Err(Refused::from(
            Problem::new(403, "renewal-job", title).remedy(remedy),
        ));
    }
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

fn bad(title: &str) -> Refused {
    Refused::from(Problem::new(400, "enrol-request", title))
}

/// Checks what people shall call a machine.
fn named(name: &str) -> Result<&str, Refused> {
    if name.trim().is_empty() || name.len() > WORD_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(bad(
            "`name`: expected 1 to 256 bytes without control characters",
        ));
    }
    Ok(name)
}

/// Checks what a machine says of itself before anything is made for it. Its key has to have signed the token
/// by which it enrols.
pub(super) fn check(request: &NewMachine, token: &str) -> Result<(), Refused> {
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
    let message = proof_message(token);
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
