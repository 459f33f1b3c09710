//! Approver keys: a person registers one on the own page, and another person who manages people approves it
//! here. From then on machines know it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde::Serialize;
use stockade_api::terminal::key_message;
use stockade_trust::{PublicKey, UserId};
use stockade_types::{RawText, UnixMillis};

use super::{
    access::Action,
    call::Call,
    me::fresh,
    page::{Mood, Page, empty, foreign, may, note, state, time, token},
    problem::Problem,
    serving::{Answer, View},
    setup::LABEL_CHARS_MAX,
};
use crate::state::{ApproverKeyRow, Registered};

/// Approver keys.
#[derive(Debug, Serialize)]
pub(crate) struct Keys {
    /// Those that wait for approval first.
    keys: Vec<Key>,
}

/// An approver key.
#[derive(Debug, Serialize)]
pub(super) struct Key {
    id: String,
    /// Whose it is.
    user: String,
    person: String,
    /// The public key.
    key: PublicKey,
    label: String,
    created: UnixMillis,
    approved: Option<UnixMillis>,
    approved_by: Option<String>,
}

/// `GET /keys`
pub(crate) async fn show(call: Arc<Call>) -> Result<Keys, Problem> {
    Ok(Keys {
        keys: all(&call).await?,
    })
}

async fn all(call: &Call) -> Result<Vec<Key>, Problem> {
    let state = &call.web.server.state;
    let people = state.users().await?;
    let name = |id: &UserId| {
        let found = people.iter().find(|user| user.id == *id);
        found.map_or_else(|| id.0.clone(), |user| user.name.clone())
    };
    let one = |row: ApproverKeyRow| Key {
        id: row.id,
        person: name(&row.user),
        user: row.user.0,
        key: row.key,
        label: row.label,
        created: row.created,
        approved: row.approved.as_ref().map(|(at, _)| *at),
        approved_by: row.approved.map(|(_, by)| name(&by)),
    };
    Ok(state.approver_keys().await?.into_iter().map(one).collect())
}

/// Returns the keys of the caller.
pub(super) async fn own(call: &Call) -> Result<Vec<Key>, Problem> {
    let user = &call.caller()?.user;
    let mut keys = all(call).await?;
    keys.retain(|key| key.user == user.0);
    Ok(keys)
}

impl View for Keys {
    fn page(&self, call: &Call) -> Page {
        let own = call.caller.as_ref().map(|caller| caller.user.0.as_str());
        let body = html! {
            @match call.query("done") {
                "approved" => (note(Mood::Good, "The key counts, and every machine is told.")),
                "revoked" => (note(Mood::Good, "The key counts no more, and every machine is told.")),
                _ => {}
            }
            @if self.keys.is_empty() {
                (empty("Nobody has an approver key.", "A person registers one on the page of the own account."))
            } @else {
                p { "Before you approve a key, have its person read it to you: whoever has it answers as that person." }
                (table(&self.keys, call, "/keys", own))
            }
        };
        Page::new("Approver keys", body)
            .lead("Keys that answer questions from a terminal. Machines verify them themselves.")
    }
}

/// Lists keys, with the forms of `path` below them. With `caller` it is the list of who manages people.
pub(super) fn table(keys: &[Key], call: &Call, path: &str, caller: Option<&str>) -> Markup {
    html! {
        .table tabindex="0" role="region" aria-label="Approver keys" { table {
            thead { tr {
                @if caller.is_some() { th scope="col" { "Person" } }
                th scope="col" { "Name" } th scope="col" { "Public key" }
                th scope="col" { "Registered" } th scope="col" { "State" }
                th scope="col" { span.visually-hidden { "Action" } }
            } }
            tbody { @for key in keys { tr {
                @if caller.is_some() { td { (foreign(&key.person)) } }
                th scope="row" { (foreign(&key.label)) }
                td { code { (key.key) } }
                td { (time(key.created, call.now)) }
                td { @match &key.approved_by {
                    Some(by) => { (state(Mood::Good, "counts")) " " span.quiet { "approved by " (foreign(by)) } },
                    None => (state(Mood::Open, "waits for approval")),
                } }
                td {
                    @if caller.is_some_and(|own| own != key.user) && key.approved.is_none()
                        && may(call, Action::ManagePeople)
                    {
                        form method="post" action={ (path) "/approve" } {
                            (token(call))
                            input type="hidden" name="id" value=(key.id);
                            button.small { "Approve" span.visually-hidden { " " (key.label) } }
                        }
                    }
                    form method="post" action={ (path) "/revoke" } {
                        (token(call))
                        input type="hidden" name="id" value=(key.id);
                        button.small.no { "Revoke" span.visually-hidden { " " (key.label) } }
                    }
                }
            } } }
        } }
    }
}

/// The form by which a person registers a key.
pub(super) fn form(call: &Call) -> Markup {
    html! {
        form.fields method="post" action="/me/keys" {
            (token(call))
            div {
                label for="key-label" { "Name of a new key" span.hint { "For example: laptop." } }
                input #key-label name="label" maxlength=(LABEL_CHARS_MAX) autocomplete="off";
            }
            div {
                label for="key" {
                    "Its public part" span.hint { "The line that `stockade approvals key create` prints." }
                }
                input #key name="key" required autocomplete="off" spellcheck="false" maxlength="300";
            }
            .buttons { button { "Register the key" } }
        }
    }
}

/// Reads the line that a terminal prints of a new key: the public key, and its signature over whose it is.
fn read(call: &Call) -> Result<PublicKey, Problem> {
    let wrong = |what: &str| {
        Problem::wrong(
            what,
            "copy the whole line that `stockade approvals key create` prints, signed in as yourself",
        )
    };
    let line = call.form.get("key").trim();
    let (key, signature) = line
        .split_once(' ')
        .ok_or_else(|| wrong("that is not the line of a key"))?;
    let key: PublicKey = key.parse().map_err(|error: String| wrong(&error))?;
    let message = key_message(call.web.server.state.org(), &call.caller()?.user, &key);
    let signature = URL_SAFE_NO_PAD.decode(signature.trim()).unwrap_or_default();
    if !key.has_signed(&message, &signature) {
        return Err(wrong("the key has not signed that it is yours"));
    }
    Ok(key)
}

/// `POST /me/keys`
pub(crate) async fn register(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let key = read(&call)?;
    let label = call.form.get("label").trim();
    let is_shown = !RawText::from(label).has_hidden();
    if label.chars().count() > LABEL_CHARS_MAX || !is_shown {
        return Err(Problem::wrong(
            "the name is too long, or has characters that cannot be seen",
            format!("choose a name of at most {LABEL_CHARS_MAX} visible characters"),
        ));
    }
    let label = if label.is_empty() { "key" } else { label };
    let id = serde_json::to_value(key.id()).map_err(|error| Problem::failed(&error))?;
    let row = ApproverKeyRow {
        id: id.as_str().unwrap_or_default().to_owned(),
        user: call.caller()?.user.clone(),
        key,
        label: label.to_owned(),
        created: call.now,
        approved: None,
    };
    match call.web.server.state.register_key(&row).await? {
        Registered::Waits => Ok(Answer::See("/me?done=key".to_owned(), None)),
        Registered::Known => Err(Problem::conflict(
            "the key was registered before",
            "make a new one: `stockade approvals key create`",
        )),
        Registered::TooMany => Err(Problem::conflict(
            "you have too many keys",
            "revoke one that you do not use",
        )),
    }
}

/// `POST /keys/approve`
pub(crate) async fn approve(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let (id, state) = (call.form.get("id"), &call.web.server.state);
    let known = state.approver_keys().await?;
    let key = known.iter().find(|key| key.id == id);
    let key = key.ok_or_else(Problem::not_found)?;
    if key.user == caller.user {
        return Err(Problem::forbidden(
            "the key is yours",
            "another person who manages people has to approve it",
        ));
    }
    if !state.approve_key(id, &caller.user, call.now).await? {
        return Err(Problem::conflict(
            "the key does not wait for approval",
            "load the page again",
        ));
    }
    call.web.people_changed().await?;
    Ok(Answer::See("/keys?done=approved".to_owned(), None))
}

async fn revoke(call: &Call, manages_people: bool, then: &str) -> Result<Answer, Problem> {
    fresh(call)?;
    let by = &call.caller()?.user;
    let (id, state) = (call.form.get("id"), &call.web.server.state);
    if !state.revoke_key(id, by, manages_people, call.now).await? {
        return Err(Problem::not_found());
    }
    call.web.people_changed().await?;
    Ok(Answer::See(then.to_owned(), None))
}

/// `POST /me/keys/revoke`
pub(crate) async fn revoke_own(call: Arc<Call>) -> Result<Answer, Problem> {
    revoke(&call, false, "/me?done=key-revoked").await
}

/// `POST /keys/revoke`
pub(crate) async fn revoke_any(call: Arc<Call>) -> Result<Answer, Problem> {
    revoke(&call, true, "/keys?done=revoked").await
}
