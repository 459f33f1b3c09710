//! Signing in at the provider of the organisation: there and back.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header},
};
use maud::html;
use stockade_trust::UserId;
use stockade_types::{RawText, UnixMillis};

use super::{
    call::Call,
    caller::{ATTEMPT_COOKIE, By, Cookie},
    guard::is_own_path,
    page::{Mood, Page, foreign, note},
    problem::Problem,
    serving::Answer,
    sign_in::person_name,
};
use crate::{
    oidc::{Client, OidcError},
    random,
    state::{Identity, Recognised},
};

/// How long the cookie of an attempt lives, in seconds.
const COOKIE_S: u64 = 10 * 60;

fn client(call: &Call) -> Result<&Client, Problem> {
    let client = call.web.server.oidc.as_ref();
    client.ok_or_else(Problem::not_found)
}

/// `GET /login/oidc`
pub(crate) async fn begin(call: Arc<Call>) -> Result<Answer, Problem> {
    let client = client(&call)?;
    let next = call.query("next");
    let next = if is_own_path(next) { next } else { "/" };
    let again = match call
        .caller
        .as_ref()
        .map(|caller| (&caller.user, &caller.by))
    {
        Some((user, By::Browser { hash, .. })) => Some((user.clone(), hash.clone())),
        Some((_, By::Token | By::Terminal { .. })) | None => None,
    };
    let browser = match &call.attempt {
        // Another attempt in the same browser, for example in another tab.
        Some(browser) => browser.clone(),
        None => random::secret()?,
    };
    let origin = &call.web.server.party.origin;
    let begun = client.begin(origin, &browser, next, again).await;
    let place = begun.map_err(|error| unavailable(&error))?;
    let cookie = format!(
        "{ATTEMPT_COOKIE}={browser}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={COOKIE_S}"
    );
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    for (name, value) in [(header::LOCATION, place), (header::SET_COOKIE, cookie)] {
        let value = HeaderValue::from_str(&value).map_err(|error| Problem::failed(&error))?;
        response.headers_mut().insert(name, value);
    }
    Ok(Answer::Raw(response))
}

/// `GET /login/oidc/callback`
pub(crate) async fn callback(call: Arc<Call>) -> Result<Answer, Problem> {
    match finish(&call).await {
        Ok(answer) => Ok(answer),
        Err(problem) => {
            let told = &problem.told;
            let remedy = told.remedy.clone().unwrap_or_default();
            let body = html! {
                (note(Mood::Bad, html! { (foreign(&told.title)) ". Next: " (foreign(&remedy)) "." }))
                p { a href="/login" { "Back to sign in" } }
            };
            let page = Page::new("Not signed in", body);
            Ok(Answer::Again(problem.code(), page))
        }
    }
}

async fn finish(call: &Arc<Call>) -> Result<Answer, Problem> {
    let client = client(call)?;
    call.web.begin_attempt("", &call.from)?;
    let attempt = call
        .attempt
        .as_deref()
        .and_then(|browser| client.end(call.query("state"), browser));
    let attempt = attempt.ok_or_else(|| {
        Problem::wrong(
            "this browser has not begun this sign-in, or it took longer than 10 minutes",
            "sign in again",
        )
    })?;
    if !call.query("error").is_empty() {
        let said: String = call.query("error").chars().take(80).collect();
        return Err(refused(&OidcError::Refused(said)));
    }
    let origin = &call.web.server.party.origin;
    let answer = (call.query("code"), call.query("iss"));
    let claims = client.exchange(origin, &attempt, answer, call.now).await;
    let claims = claims.map_err(|error| refused(&error))?;
    let identity = identity(client, &claims)?;
    let state = &call.web.server.state;
    let new = UserId(random::name("u-")?);
    let (user, changed) = match state.recognise(&identity, &new, call.now).await? {
        Recognised::Yes(user, changed) => (user, changed),
        Recognised::Removed => {
            return Err(Problem::forbidden(
                "you were removed from this server",
                "ask an administrator",
            ));
        }
        Recognised::NameTaken => {
            return Err(Problem::conflict(
                format!("another person here has the name `{}`", identity.name),
                "ask an administrator to remove that person, or use another name at the provider",
            ));
        }
        Recognised::NoRole => {
            call.web.people_changed().await?;
            return Err(Problem::forbidden(
                "none of your groups has a role here",
                "ask for a group that has one; `stockade serve oidc` names them",
            ));
        }
    };
    if let Some((expected, _)) = &attempt.again
        && *expected != user.id
    {
        return Err(Problem::wrong(
            "at the provider another person is signed in than here",
            "sign out first",
        ));
    }
    if changed {
        call.web.people_changed().await?;
    }
    // A provider that does not say when the person signed in has not said that it was lately.
    let proved = claims.authenticated.map_or(0, |at| at.0.min(call.now.0));
    let cookie =
        Cookie::begin_at(&call.web, &user.id, &method(&claims), UnixMillis(proved)).await?;
    if let Some((_, session)) = &attempt.again {
        state.sign_out(session).await?;
    }
    call.web.attempt_succeeded("", &call.from);
    Ok(Answer::See(attempt.next, Some(cookie)))
}

/// Reads who it is, and what the groups of the person give here.
fn identity(client: &Client, claims: &stockade_trust::oidc::Claims) -> Result<Identity, Problem> {
    let settings = &client.settings;
    let groups = settings.groups_claim.as_str();
    if claims.is_left_out(groups) {
        return Err(Problem::forbidden(
            "you are in more groups than the provider puts into a token (in Entra: groups overage)",
            "have the provider send only groups that are assigned to this application, or app roles \
             (`--groups-claim roles`)",
        ));
    }
    let groups = claims.list(groups).unwrap_or_default();
    let names = [
        settings.name_claim.as_str(),
        "preferred_username",
        "email",
        "name",
    ];
    let name = names.into_iter().find_map(|name| claims.text(name));
    Ok(Identity {
        issuer: settings.issuer.clone(),
        subject: claims.subject.clone(),
        name: person_name(name.unwrap_or(&claims.subject))?,
        roles: settings.roles_of(&groups),
    })
}

/// Returns how the person has signed in, as the state keeps it: what the provider says is a claim of it.
fn method(claims: &stockade_trust::oidc::Claims) -> String {
    const WORDS_MAX: usize = 8;
    let is_word =
        |word: &String| word.len() <= 16 && word.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let words = claims.list("amr").unwrap_or_default();
    let words: Vec<String> = words.into_iter().filter(is_word).take(WORDS_MAX).collect();
    if words.is_empty() {
        return "oidc".to_owned();
    }
    format!("oidc:{}", words.join("+"))
}

fn refused(error: &OidcError) -> Problem {
    Problem::wrong(
        RawText::from(error.to_string().as_str()).display(),
        "sign in again; if it stays, an administrator runs `stockade serve doctor`",
    )
}

fn unavailable(error: &OidcError) -> Problem {
    Problem::unavailable(
        RawText::from(error.to_string().as_str()).display(),
        "try again later, or use a passkey or a password",
    )
}
