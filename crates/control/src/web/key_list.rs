//! Approver keys as pages list them, and the form by which a person registers one.

use maud::{Markup, html};
use serde::Serialize;
use stockade_trust::{PublicKey, UserId};
use stockade_types::UnixMillis;

use super::{
    access::Action,
    call::Call,
    page::{Mood, foreign, may, state, time, token},
    problem::Problem,
    setup::LABEL_CHARS_MAX,
};
use crate::state::ApproverKeyRow;

/// An approver key.
#[derive(Debug, Serialize)]
pub(crate) struct Key {
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

/// Returns all keys that are not revoked.
///
/// # Errors
/// When the state cannot be read.
pub(crate) async fn all(call: &Call) -> Result<Vec<Key>, Problem> {
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
///
/// # Errors
/// As [`all`].
pub(crate) async fn own(call: &Call) -> Result<Vec<Key>, Problem> {
    let user = &call.caller()?.user;
    let mut keys = all(call).await?;
    keys.retain(|key| key.user == user.0);
    Ok(keys)
}

/// Lists keys, with the forms of `path` below them. With `caller` it is the list of who manages people.
pub(crate) fn table(keys: &[Key], call: &Call, path: &str, caller: Option<&str>) -> Markup {
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
pub(crate) fn form(call: &Call) -> Markup {
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
