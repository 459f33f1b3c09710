//! How the machine of a job enrols: by a token of the platform that runs the job, which a rule accepts.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use stockade_api::{
    NodeId, Problem,
    limits::WORD_BYTES_MAX,
    node::{JobEnrolAnswer, JobEnrolRequest},
};
use stockade_trust::{
    UserId,
    oidc::{Claims, SKEW_MS, TOKEN_BYTES_MAX, TokenError, issuer_of},
};
use stockade_types::UnixMillis;

use super::{
    answer::{Read, Refused},
    enrol::{answer, check, note_refusal},
};
use crate::{
    Changed, Server,
    clock::now,
    listen::Peer,
    oidc::OidcError,
    random,
    state::{Job, JobEnrolled, NewNode, RuleRow},
};

/// Why a job is not let in: for programs, and for people.
type Why = (&'static str, String);

/// `POST /node/v1/enrol/job`.
pub(super) async fn enrol(
    State(server): State<Arc<Server>>,
    Extension(peer): Extension<Peer>,
    Read(request): Read<JobEnrolRequest>,
) -> Result<Json<JobEnrolAnswer>, Refused> {
    let JobEnrolRequest { token, machine } = request;
    check(&machine, &token)?;
    let now = now();
    let why = match admit(&server, &token, now).await? {
        Ok((row, claims)) => {
            let node = NodeId::from_random(random::bits()?);
            let certificate = server.authority.node(&node, &machine.key)?;
            let pem = certificate.pem.clone();
            let person = person(&server, &row, &claims).await?;
            let new = NewNode {
                id: node.clone(),
                name: name(&row, &claims, &node),
                key: machine.key,
                journal_key: machine.journal_key,
                facts: machine.facts,
                install: machine.install,
                certificate,
            };
            let job = Job {
                rule: row.id,
                team: row.rule.team,
                issuer: row.rule.issuer,
                jti: claims.text("jti").unwrap_or_default().to_owned(),
                expires: UnixMillis(claims.expires.0.saturating_add(SKEW_MS)),
                person: person.clone(),
            };
            match server.state.enrol_job(&new, &job, now).await? {
                JobEnrolled::Yes => {
                    server.hub.changed(Changed::Node(node.clone()));
                    let answer = answer(&server, node, pem, person).await?;
                    return Ok(Json(JobEnrolAnswer {
                        name: new.name,
                        answer,
                    }));
                }
                JobEnrolled::Used => ("enrol-token-used", "the token was used".to_owned()),
                JobEnrolled::KeyTaken => {
                    ("enrol-key-taken", "another machine has this key".to_owned())
                }
            }
        }
        Err(why) => why,
    };
    note_refusal(&server, "a job", why.0, peer, now).await?;
    let remedy = "get a new token of the platform for each enrolment, for the audience of the rule; \
                  `stockade serve enrol-rule --list` shows the rules";
    Err(Refused::from(
        Problem::new(403, why.0, why.1).remedy(remedy),
    ))
}

/// Finds the first rule that accepts a token. What the token says before its signature is checked decides
/// only which rules are looked at.
async fn admit(
    server: &Server,
    token: &str,
    now: UnixMillis,
) -> Result<Result<(RuleRow, Claims), Why>, Refused> {
    let refused = |error: &TokenError| Err(("enrol-token-refused", error.to_string()));
    if token.len() > TOKEN_BYTES_MAX {
        return Ok(refused(&TokenError::TooLong));
    }
    let issuer = match issuer_of(token) {
        Ok(issuer) => issuer,
        Err(error) => return Ok(refused(&error)),
    };
    let rules = server.state.rules().await?;
    let mut why = (
        "enrol-rule-unknown",
        "no rule is about the issuer of this token".to_owned(),
    );
    for row in rules.into_iter().filter(|row| row.rule.issuer == issuer) {
        match server.issuers.check(&row.rule, token, now).await {
            Ok(claims) if row.rule.fits(&claims) => return Ok(Ok((row, claims))),
            Ok(_) => {
                why = (
                    "enrol-rule-claims",
                    "the claims of the token do not match any rule".to_owned(),
                );
            }
            // Another rule may be for this audience.
            Err(OidcError::Token(error)) if why.0 != "enrol-rule-claims" => {
                why = ("enrol-token-refused", error.to_string());
            }
            Err(OidcError::Token(_)) => {}
            Err(
                error @ (OidcError::Outbound(_)
                | OidcError::Discovery(_)
                | OidcError::Keys(_)
                | OidcError::Endpoint(_)
                | OidcError::Refused(_)),
            ) => {
                let problem = Problem::new(503, "enrol-issuer", error.to_string());
                return Err(Refused::from(problem.remedy("try again later")));
            }
        }
    }
    Ok(Err(why))
}

/// Returns the person who has caused the job, if the rule says how to know. A name that nobody has here
/// names nobody: then a stage that excludes who asks cannot be answered.
async fn person(
    server: &Server,
    row: &RuleRow,
    claims: &Claims,
) -> Result<Option<UserId>, Refused> {
    let Some(name) = row
        .rule
        .person
        .as_ref()
        .and_then(|claim| claims.text(claim))
    else {
        return Ok(None);
    };
    let user = server.state.user_named(name).await?;
    Ok(user.map(|user| user.id))
}

/// Names a machine after its job: what people see is by the platform, and told apart by the machine's id.
fn name(row: &RuleRow, claims: &Claims, node: &NodeId) -> String {
    let said = claims.value(&row.rule.name);
    let said = said.unwrap_or_else(|| claims.subject.clone());
    let plain = said.chars().filter(|c| !c.is_control());
    let id = node.as_str();
    let mut name = String::new();
    for letter in plain {
        if name.len() + letter.len_utf8() + id.len() + 1 > WORD_BYTES_MAX {
            break;
        }
        name.push(letter);
    }
    format!("{name} {id}")
}
