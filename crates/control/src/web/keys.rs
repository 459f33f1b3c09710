//! Approver keys: a person registers one on the own page, and another person who manages people approves it
//! here. From then on machines know it.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use serde::Serialize;
use stockade_api::terminal::key_message;
use stockade_trust::PublicKey;
use stockade_types::RawText;

use super::{
    call::Call,
    key_list::{Key, all, table},
    me::fresh,
    page::{Mood, Page, empty, note},
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

/// `GET /keys`
pub(crate) async fn show(call: Arc<Call>) -> Result<Keys, Problem> {
    Ok(Keys {
        keys: all(&call).await?,
    })
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
