//! Links that work once: the first administrator's, and invitations.

use std::{sync::Arc, time::Instant};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use stockade_trust::UserId;

use super::{
    call::Call,
    caller::Method,
    challenges::Purpose,
    page::Page,
    password::{self, CHARS_MIN},
    problem::Problem,
    registration::{Fresh, Registered},
    serving::{Answer, data_of},
    sign_in::{Challenge, NAME_CHARS_MAX, begin, failure, person_name},
};
use crate::{
    random,
    state::{LinkKind, LinkRow, PasskeyRow},
};

/// Characters of what a person calls a passkey.
pub(crate) const LABEL_CHARS_MAX: usize = 60;

/// Returns the link of a request.
async fn link(call: &Call, secret: &str) -> Result<LinkRow, Problem> {
    let found = call
        .web
        .server
        .state
        .link(&random::hash(secret), call.now)
        .await;
    found?.ok_or_else(dead)
}

fn dead() -> Problem {
    Problem::conflict(
        "the link does not work: it was used, or it is too old",
        "ask an administrator for a new one; without one, run `stockade serve init` again",
    )
}

/// `GET /setup`
pub(crate) async fn form(call: Arc<Call>) -> Result<Answer, Problem> {
    let secret = call.query("token").to_owned();
    let link = link(&call, &secret).await?;
    Ok(Answer::Page(page(&secret, &link, "", None)))
}

fn page(secret: &str, link: &LinkRow, name: &str, problem: Option<&Problem>) -> Page {
    let (title, lead) = match link.kind {
        LinkKind::Setup => (
            "Set up this server",
            "You become its first administrator. The link works once.",
        ),
        LinkKind::Invite => ("Welcome", "The link is for you alone, and works once."),
    };
    let name = if link.name.is_empty() {
        name
    } else {
        &link.name
    };
    let is_fixed = !link.name.is_empty();
    let body = html! {
        @if let Some(problem) = problem { (failure(problem)) }
        form.fields method="post" action="/setup" {
            input type="hidden" name="link" value=(secret);
            input type="hidden" name="passkey";
            input type="hidden" name="handle";
            div {
                label for="name" { "Your name" span.hint { "Others see it beside your answers." } }
                input #name name="name" required maxlength=(NAME_CHARS_MAX) autocomplete="username"
                    value=(name) readonly[is_fixed];
            }
            div data-with-passkeys hidden {
                button.main type="button" data-passkey="create" data-url="/api/v1/setup/challenge" {
                    "Continue with a passkey"
                }
                span.hint { "The safest way: nobody can steal it from this server, and machines check your answers themselves." }
            }
            p.hint data-said role="status" {}
            div {
                label for="password" {
                    "Or choose a password"
                    span.hint { "At least " (CHARS_MIN) " characters; several words are good." }
                }
                input #password name="password" type="password" required minlength=(CHARS_MIN)
                    autocomplete="new-password";
            }
            .buttons { button { "Continue with the password" } }
        }
    };
    Page::new(title, body).lead(lead)
}

/// `POST /api/v1/setup/challenge`
pub(crate) async fn challenge(call: Arc<Call>) -> Result<Answer, Problem> {
    let secret = call.form.get("link");
    let link = link(&call, secret).await?;
    let user = new_user()?;
    let mut challenge = Challenge::draw(&call.web, Purpose::Register(user.0.clone()))?;
    challenge.handle = Some(URL_SAFE_NO_PAD.encode(&user.0));
    challenge.name = Some(link.name);
    Ok(Answer::Json(data_of(&challenge)?))
}

/// Draws who a link makes. It is another one for each attempt: otherwise two who use one link at a time
/// would share what they sign in with.
fn new_user() -> Result<UserId, Problem> {
    random::name("u-").map(UserId).map_err(Problem::from)
}

/// `POST /setup`
pub(crate) async fn submit(call: Arc<Call>) -> Result<Answer, Problem> {
    let secret = call.form.get("link").to_owned();
    let link = link(&call, &secret).await?;
    match make(&call, &secret, &link).await {
        Ok((user, method)) => {
            call.web.people_changed().await?;
            let cookie = begin(&call, &user, method).await?;
            Ok(Answer::See("/".to_owned(), Some(cookie)))
        }
        Err(problem) if problem.told.status == 400 => {
            let again = page(&secret, &link, call.form.get("name"), Some(&problem));
            Ok(Answer::Again(StatusCode::BAD_REQUEST, again))
        }
        Err(problem) => Err(problem),
    }
}

/// Makes the person. What the person shows who it is with is kept first: a person without it could never
/// sign in, and the link would be used up.
async fn make(call: &Call, secret: &str, link: &LinkRow) -> Result<(UserId, Method), Problem> {
    let name = if link.name.is_empty() {
        person_name(call.form.get("name"))?
    } else {
        link.name.clone()
    };
    let state = &call.web.server.state;
    if state.user_named(&name).await?.is_some() {
        return Err(Problem::wrong("the name is taken", "choose another one"));
    }
    let (user, method) = match call.form.get("passkey") {
        "" => {
            let user = new_user()?;
            let hash = new_password(call, call.form.get("password"), &name).await?;
            let kept = state.set_secret(&user, "password", &hash, call.now).await;
            kept?;
            (user, Method::Password)
        }
        said => {
            // The challenge was drawn for this person alone, which the next line checks.
            let user = URL_SAFE_NO_PAD
                .decode(call.form.get("handle"))
                .unwrap_or_default();
            let user = UserId(String::from_utf8(user).unwrap_or_default());
            let fresh = registered(call, said, &user)?;
            add_passkey(call, &user, fresh, "first passkey").await?;
            (user, Method::Passkey)
        }
    };
    let redeemed = state
        .redeem_link(&random::hash(secret), &user, &name, call.now)
        .await;
    redeemed?.ok_or_else(dead)?;
    Ok((user, method))
}

/// Checks and hashes a new password.
///
/// # Errors
/// What is wrong with it.
pub(crate) async fn new_password(call: &Call, given: &str, name: &str) -> Result<String, Problem> {
    password::acceptable(given, name).map_err(|error| {
        Problem::wrong(
            error.to_string(),
            "choose several words that belong to nothing",
        )
    })?;
    call.web.hash_password(given).await
}

/// Reads a passkey that the browser has just made for a person.
///
/// # Errors
/// When it is none, or was not made for the challenge of this person.
pub(crate) fn registered(call: &Call, said: &str, user: &UserId) -> Result<Fresh, Problem> {
    let wrong = |error: &dyn std::error::Error| {
        Problem::wrong(
            format!("the passkey: {error}"),
            "try again, or choose a password",
        )
    };
    let registered: Registered = serde_json::from_str(said).map_err(|error| wrong(&error))?;
    let fresh = registered
        .check(&call.web.server.party)
        .map_err(|error| wrong(&error))?;
    let purpose = Purpose::Register(user.0.clone());
    if !call
        .web
        .challenges()
        .take(&fresh.challenge, &purpose, Instant::now())
    {
        return Err(Problem::wrong(
            "the passkey was made for another page, or too long ago",
            "try again",
        ));
    }
    Ok(fresh)
}

/// Keeps a passkey of a person.
///
/// # Errors
/// When it is there already, or cannot be kept.
pub(crate) async fn add_passkey(
    call: &Call,
    user: &UserId,
    fresh: Fresh,
    label: &str,
) -> Result<(), Problem> {
    let state = &call.web.server.state;
    let id = URL_SAFE_NO_PAD.encode(&fresh.id);
    if state.passkey(&id).await?.is_some() {
        return Err(Problem::wrong(
            "the passkey is there already",
            "use another authenticator",
        ));
    }
    let row = PasskeyRow {
        id,
        user: user.clone(),
        passkey: fresh.passkey,
        label: label.chars().take(LABEL_CHARS_MAX).collect(),
        created: call.now,
        last_used: None,
    };
    state.add_passkey(&row).await.map_err(Problem::from)
}
