//! The caller's own page: how to sign in.

use std::sync::Arc;

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use serde::Serialize;
use stockade_event::Summary;
use stockade_policy::Role;
use stockade_types::UnixMillis;

use super::{
    call::Call,
    caller::By,
    challenges::Purpose,
    key_list,
    page::{Mood, Page, foreign, note, time, token},
    password::CHARS_MIN,
    problem::Problem,
    serving::{Answer, View, data_of},
    setup::{LABEL_CHARS_MAX, add_passkey, new_password, registered},
    sign_in::{Challenge, failure},
    totp,
};
use crate::{
    random,
    state::{ContentReadRow, SessionRow, TerminalRow},
};

/// Sessions, and reads of what was said, that the page lists.
const ROWS: u32 = 50;
/// Characters of a command.
const WORDS_CHARS_MAX: usize = 120;

/// The caller.
#[derive(Debug, Serialize)]
pub(crate) struct Me {
    /// Names the person, or the token of a program.
    id: String,
    name: String,
    /// Held for the whole organisation.
    roles: Vec<Role>,
    /// Held for one team.
    team_roles: Vec<super::teams::Held>,
    /// How the caller has signed in: `passkey`, `password`, `password+totp`, or `token`.
    signed_in_by: String,
    /// When the caller last proved who it is, in milliseconds since 1970.
    signed_in: UnixMillis,
    passkeys: Vec<OwnPasskey>,
    has_password: bool,
    has_codes: bool,
    /// Terminals in which the caller is signed in.
    terminals: Vec<OwnTerminal>,
    /// Approver keys of the caller.
    keys: Vec<key_list::Key>,
    /// Sessions on machines of the caller, the last ones first.
    sessions: Vec<OwnSession>,
    /// Who read what was said in them, the last ones first.
    content_reads: Vec<ContentRead>,
}

/// A session of the caller.
#[derive(Debug, Serialize)]
struct OwnSession {
    node: String,
    session: String,
    /// The command.
    words: String,
    live: bool,
    updated: UnixMillis,
}

/// A terminal in which the caller is signed in.
#[derive(Debug, Serialize)]
struct OwnTerminal {
    id: String,
    machine: String,
    address: String,
    created: UnixMillis,
    expires: UnixMillis,
    last_used: UnixMillis,
}

/// That someone read what was said in a session of the caller.
#[derive(Debug, Serialize)]
struct ContentRead {
    by: String,
    reason: String,
    node: String,
    session: String,
    at: UnixMillis,
}

/// A passkey of the caller.
#[derive(Debug, Serialize)]
struct OwnPasskey {
    id: String,
    label: String,
    created: UnixMillis,
    last_used: Option<UnixMillis>,
}

/// `GET /me`
pub(crate) async fn show(call: Arc<Call>) -> Result<Me, Problem> {
    let caller = call.caller()?;
    let state = &call.web.server.state;
    let passkeys = state.passkeys(&caller.user).await?;
    let password = state.secret(&caller.user, "password").await?;
    let codes = state.secret(&caller.user, "totp").await?;
    Ok(Me {
        id: caller.user.0.clone(),
        name: caller.name.clone(),
        roles: caller.roles.clone(),
        team_roles: super::teams::held(&caller.team_roles, &state.teams().await?),
        signed_in_by: match &caller.by {
            By::Browser { method, .. } => method.clone(),
            By::Token => "token".to_owned(),
            By::Terminal { .. } => "terminal".to_owned(),
        },
        signed_in: caller.signed_in,
        passkeys: passkeys
            .into_iter()
            .map(|row| OwnPasskey {
                id: row.id,
                label: row.label,
                created: row.created,
                last_used: row.last_used,
            })
            .collect(),
        has_password: password.is_some(),
        has_codes: codes.is_some_and(|secret| !secret.is_empty()),
        terminals: terminals(&call).await?,
        keys: key_list::own(&call).await?,
        sessions: own_sessions(&call).await?,
        content_reads: content_reads(&call).await?,
    })
}

async fn terminals(call: &Call) -> Result<Vec<OwnTerminal>, Problem> {
    let state = &call.web.server.state;
    let all = state.terminals(&call.caller()?.user, call.now).await?;
    let one = |row: TerminalRow| OwnTerminal {
        id: row.id,
        machine: row.machine,
        address: row.address,
        created: row.created,
        expires: row.expires,
        last_used: row.last_used,
    };
    Ok(all.into_iter().map(one).collect())
}

async fn own_sessions(call: &Call) -> Result<Vec<OwnSession>, Problem> {
    let state = &call.web.server.state;
    let own = state.sessions_of(&call.caller()?.user, ROWS).await?;
    let one = |row: SessionRow| {
        let summary: Summary = serde_json::from_str(&row.summary).unwrap_or_default();
        let words = stockade_event::text::words(&summary.command);
        OwnSession {
            node: row.key.node.to_string(),
            words: stockade_event::text::cut(&words, WORDS_CHARS_MAX),
            session: row.key.session.as_str().to_owned(),
            live: row.is_live && row.ended.is_none(),
            updated: row.updated,
        }
    };
    Ok(own.into_iter().map(one).collect())
}

async fn content_reads(call: &Call) -> Result<Vec<ContentRead>, Problem> {
    let state = &call.web.server.state;
    let reads = state.content_reads(&call.caller()?.user, ROWS).await?;
    if reads.is_empty() {
        return Ok(Vec::new());
    }
    let users = state.users().await?;
    let one = |read: ContentReadRow| {
        let by = users.iter().find(|user| user.id == read.by);
        ContentRead {
            by: by.map_or_else(|| read.by.0.clone(), |user| user.name.clone()),
            reason: read.reason,
            node: read.key.node.to_string(),
            session: read.key.session.as_str().to_owned(),
            at: read.at,
        }
    };
    Ok(reads.into_iter().map(one).collect())
}

impl View for Me {
    fn page(&self, call: &Call) -> Page {
        let roles: Vec<String> = self.roles.iter().map(|role| role.0.clone()).collect();
        let body = html! {
            @match call.query("done") {
                "passkey" => (note(Mood::Good, "The passkey is registered.")),
                "revoked" => (note(Mood::Good, "The passkey counts no more.")),
                "password" => (note(Mood::Good, "The password is changed.")),
                "key" => (note(Mood::Good, "The key waits for another person who manages people to approve it.")),
                "key-revoked" => (note(Mood::Good, "The key counts no more, and every machine is told.")),
                "terminal" => (note(Mood::Good, "The terminal is signed out.")),
                "codes" => (note(Mood::Good, "Signing in with the password needs a code now.")),
                _ => {}
            }
            dl.facts {
                dt { "Name" } dd { (foreign(&self.name)) }
                dt { "Roles" } dd { (super::teams::in_words(&roles, &self.team_roles)) }
                dt { "Signed in" } dd { "by " (self.signed_in_by) ", " (time(self.signed_in, call.now)) }
                dt { "Id" } dd { code { (self.id) } }
            }
            (self.looks(call))
            h2 #passkeys { "Passkeys" }
            (self.passkeys(call))
            (self.terminals(call))
            h2 #approver-keys { "Approver keys" }
            @if self.keys.is_empty() { p.quiet { "You have none. They answer from a terminal, where no passkey can." } }
            @else { (key_list::table(&self.keys, call, "/me/keys", None)) }
            (key_list::form(call))
            h2 #password { "Password" }
            @if self.has_password { p { "You can sign in with a password, too." } }
            form.fields method="post" action="/me/password" {
                (token(call))
                // Managers of passwords keep it under this name.
                input type="text" name="name" autocomplete="username" value=(self.name) hidden;
                div {
                    label for="new-password" {
                        "New password" span.hint { "At least " (CHARS_MIN) " characters." }
                    }
                    input #new-password name="password" type="password" required minlength=(CHARS_MIN)
                        autocomplete="new-password";
                }
                .buttons { button { "Change the password" } }
            }
            @if self.has_password {
                h2 #codes { "Codes of an app" }
                @if self.has_codes { p { "Signing in with the password needs a code of your app." } }
                p { a.button href="/me/codes" { (if self.has_codes { "Set up another app" } else { "Set up an app" }) } }
            }
        };
        Page::new("My account", body)
    }
}

impl Me {
    /// Shows own sessions, and who read what was said in them.
    fn looks(&self, call: &Call) -> maud::Markup {
        html! {
            h2 #sessions { "My sessions" }
            @if self.sessions.is_empty() { p.quiet { "No session ran on a machine of yours." } }
            @else { ul.plain { @for one in &self.sessions { li {
                a href={ "/sessions/" (one.node) "/" (one.session) } {
                    @if one.words.is_empty() { code { (one.session) } } @else { (foreign(&one.words)) }
                }
                " " @if one.live { (super::page::state(Mood::Good, "running")) } @else { span.quiet { (time(one.updated, call.now)) } }
            } } } }
            h2 #content { "Who read what was said in them" }
            @if self.content_reads.is_empty() { p.quiet { "Nobody did." } }
            @else {
                .table tabindex="0" role="region" aria-label="Who read what was said" { table {
                    thead { tr {
                        th scope="col" { "Person" } th scope="col" { "Reason" } th scope="col" { "Session" } th scope="col" { "When" }
                    } }
                    tbody { @for read in &self.content_reads { tr {
                        th scope="row" { (foreign(&read.by)) }
                        td { (foreign(&read.reason)) }
                        td { a href={ "/sessions/" (read.node) "/" (read.session) } { code { (read.session) } } }
                        td { (time(read.at, call.now)) }
                    } } }
                } }
            }
        }
    }

    fn terminals(&self, call: &Call) -> maud::Markup {
        html! {
            h2 #terminals { "Terminals" }
            @if self.terminals.is_empty() { p.quiet { "You are signed in in none." } }
            @else { .table tabindex="0" role="region" aria-label="Terminals" { table {
                thead { tr {
                    th scope="col" { "Machine" } th scope="col" { "Address" } th scope="col" { "Since" }
                    th scope="col" { "Last used" } th scope="col" { "Ends" }
                    th scope="col" { span.visually-hidden { "Action" } }
                } }
                tbody { @for one in &self.terminals { tr {
                    th scope="row" { (foreign(&one.machine)) }
                    td { (foreign(&one.address)) }
                    td { (time(one.created, call.now)) }
                    td { (time(one.last_used, call.now)) }
                    td { (time(one.expires, call.now)) }
                    td { form method="post" action="/me/terminals/revoke" {
                        (token(call))
                        input type="hidden" name="id" value=(one.id);
                        button.small.no { "Sign out" span.visually-hidden { " " (one.machine) } }
                    } }
                } } }
            } } }
            p { a.button href="/device" { "Sign a terminal in" } }
        }
    }

    fn passkeys(&self, call: &Call) -> maud::Markup {
        html! {
            @if self.passkeys.is_empty() {
                p { "You have none. Stages with the strength " code { "passkey" } " need one." }
            } @else {
                .table tabindex="0" role="region" aria-label="Passkeys" { table {
                    thead { tr {
                        th scope="col" { "Passkey" } th scope="col" { "Since" } th scope="col" { "Last used" }
                        th scope="col" { span.visually-hidden { "Action" } }
                    } }
                    tbody { @for passkey in &self.passkeys {
                        tr {
                            th scope="row" { (foreign(&passkey.label)) }
                            td { (time(passkey.created, call.now)) }
                            td { @if let Some(at) = passkey.last_used { (time(at, call.now)) } @else { "never" } }
                            td {
                                form method="post" action="/me/passkeys/revoke" {
                                    (token(call))
                                    input type="hidden" name="id" value=(passkey.id);
                                    button.small.no { "Revoke" span.visually-hidden { " " (passkey.label) } }
                                }
                            }
                        }
                    } }
                } }
            }
            form.fields method="post" action="/me/passkeys" data-with-passkeys hidden {
                (token(call))
                input type="hidden" name="passkey";
                input type="hidden" name="handle";
                div {
                    label for="label" { "Name of a new passkey" span.hint { "For example: phone." } }
                    input #label name="label" maxlength=(LABEL_CHARS_MAX);
                }
                p.hint data-said role="status" {}
                .buttons {
                    button type="button" data-passkey="create" data-url="/api/v1/me/passkeys/challenge" {
                        "Register a passkey"
                    }
                }
            }
        }
    }
}

/// Checks that the caller has signed in lately.
///
/// # Errors
/// When not; a person is sent to sign in again.
pub(crate) fn fresh(call: &Call) -> Result<(), Problem> {
    call.caller()?.fresh(call.now)
}

/// `POST /api/v1/me/passkeys/challenge`
pub(crate) async fn challenge(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let purpose = Purpose::Register(caller.user.0.clone());
    let mut challenge = Challenge::draw(&call.web, purpose)?;
    let passkeys = call.web.server.state.passkeys(&caller.user).await;
    let passkeys = passkeys?;
    challenge.passkeys = passkeys.into_iter().map(|row| row.id).collect();
    challenge.handle = Some(URL_SAFE_NO_PAD.encode(&caller.user.0));
    challenge.name = Some(caller.name.clone());
    Ok(Answer::Json(data_of(&challenge)?))
}

/// `POST /me/passkeys`
pub(crate) async fn register(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let fresh = registered(&call, call.form.get("passkey"), &caller.user)?;
    let label = call.form.get("label").trim();
    let label = if label.is_empty() { "passkey" } else { label };
    add_passkey(&call, &caller.user, fresh, label).await?;
    call.web.people_changed().await?;
    Ok(Answer::See("/me?done=passkey".to_owned(), None))
}

/// `POST /me/passkeys/revoke`
pub(crate) async fn revoke(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let state = &call.web.server.state;
    let passkeys = state.passkeys(&caller.user).await?;
    let password = state.secret(&caller.user, "password").await?;
    if passkeys.len() < 2 && password.is_none() {
        return Err(Problem::conflict(
            "it is the only way for you to sign in",
            "register another passkey first, or set a password",
        ));
    }
    let id = call.form.get("id");
    let revoked = state
        .revoke_passkey(&caller.user, id, &caller.user.0, call.now)
        .await;
    if !revoked? {
        return Err(Problem::not_found());
    }
    call.web.people_changed().await?;
    Ok(Answer::See("/me?done=revoked".to_owned(), None))
}

/// `POST /me/terminals/revoke`
pub(crate) async fn sign_terminal_out(call: Arc<Call>) -> Result<Answer, Problem> {
    let (state, user) = (&call.web.server.state, &call.caller()?.user);
    let id = call.form.get("id");
    if !state.revoke_terminal(user, id, call.now).await? {
        return Err(Problem::not_found());
    }
    Ok(Answer::See("/me?done=terminal".to_owned(), None))
}

/// `POST /me/password`
pub(crate) async fn password(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let hash = new_password(&call, call.form.get("password"), &caller.name).await?;
    let state = &call.web.server.state;
    let kept = state
        .set_secret(&caller.user, "password", &hash, call.now)
        .await;
    kept?;
    Ok(Answer::See("/me?done=password".to_owned(), None))
}

/// `GET /me/codes`
pub(crate) async fn codes(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let secret = random::bytes::<{ totp::SECRET_BYTES }>()?;
    Ok(Answer::Page(codes_page(&call, &secret, None)))
}

fn codes_page(call: &Call, secret: &[u8], problem: Option<&Problem>) -> Page {
    let name = call.caller.as_ref().map_or("", |caller| &caller.name);
    let account: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    let shown = totp::base32(secret);
    let link = format!("otpauth://totp/Stockade:{account}?secret={shown}&issuer=Stockade");
    let body = html! {
        @if let Some(problem) = problem { (failure(problem)) }
        p { "Give your app this key, or open the link on the device that has the app." }
        pre { (shown) }
        p { a href=(link) { "Open in the app" } }
        form.fields method="post" action="/me/codes" {
            (token(call))
            input type="hidden" name="secret" value=(URL_SAFE_NO_PAD.encode(secret));
            div {
                label for="code" { "Code that the app shows now" }
                input #code name="code" inputmode="numeric" autocomplete="one-time-code" required maxlength="6";
            }
            .buttons { button.main { "Use this app" } a.button href="/me" { "Cancel" } }
        }
    };
    Page::new("Codes of an app", body)
}

/// `POST /me/codes`
pub(crate) async fn set_codes(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let secret = URL_SAFE_NO_PAD
        .decode(call.form.get("secret"))
        .unwrap_or_default();
    if secret.len() != totp::SECRET_BYTES {
        return Err(Problem::wrong(
            "the key of the app is not ours",
            "begin again at /me/codes",
        ));
    }
    if totp::check(&secret, call.form.get("code"), call.now.0 / 1000).is_none() {
        let problem = Problem::wrong("the code is wrong", "check the clock of the device");
        let page = codes_page(&call, &secret, Some(&problem));
        return Ok(Answer::Again(StatusCode::BAD_REQUEST, page));
    }
    let state = &call.web.server.state;
    let kept = URL_SAFE_NO_PAD.encode(&secret);
    let kept = state
        .set_secret(&caller.user, "totp", &kept, call.now)
        .await;
    kept?;
    Ok(Answer::See("/me?done=codes".to_owned(), None))
}
