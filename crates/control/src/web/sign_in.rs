//! Signing in and out, and proving again who one is.

use std::{sync::Arc, time::Instant};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::{Markup, html};
use serde::Serialize;
use stockade_trust::{Assertion, UserId};
use stockade_types::RawText;

use super::{
    Web,
    call::Call,
    caller::{By, Cookie, Method},
    challenges::Purpose,
    guard::is_own_path,
    page::{Mood, Page, note, token},
    password,
    problem::Problem,
    serving::{Answer, data_of},
    totp,
};
use crate::{random, state::UserRow};

/// Characters of the name of a person.
pub(crate) const NAME_CHARS_MAX: usize = 80;

/// What a script needs to have an authenticator sign. All bytes are in base64url.
#[derive(Debug, Serialize)]
pub(crate) struct Challenge {
    /// What is signed.
    #[serde(rename = "challenge")]
    pub(crate) signed: String,
    /// The name that passkeys are bound to.
    pub(crate) party: String,
    /// Passkeys that may sign, or that are there already when one is registered; none for any.
    pub(crate) passkeys: Vec<String>,
    /// The person that a passkey is made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) handle: Option<String>,
    /// What the authenticator shows of the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Until when the vote that is signed holds, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_after: Option<u64>,
}

impl Challenge {
    /// Draws one that works once.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub(crate) fn draw(web: &Web, purpose: Purpose) -> Result<Self, Problem> {
        let bytes = random::bytes::<32>().map_err(|error| Problem::failed(&error))?;
        web.challenges().add(bytes, purpose, Instant::now());
        Ok(Self {
            signed: URL_SAFE_NO_PAD.encode(bytes),
            party: web.server.party.id.clone(),
            passkeys: Vec::new(),
            handle: None,
            name: None,
            not_after: None,
        })
    }
}

/// `GET /login`
pub(crate) async fn form(call: Arc<Call>) -> Result<Answer, Problem> {
    Ok(Answer::Page(page(&call, None)))
}

fn page(call: &Call, problem: Option<&Problem>) -> Page {
    let next = [call.query("next"), call.form.get("next")];
    let next = next
        .into_iter()
        .find(|path| is_own_path(path))
        .unwrap_or("/");
    let caller = call.caller.as_ref();
    let title = if caller.is_some() {
        "Confirm that it is you"
    } else {
        "Sign in"
    };
    let body = html! {
        @if let Some(problem) = problem { (failure(problem)) }
        @if caller.is_some() {
            p { "Answers and changes need a sign-in that is less than 5 minutes old." }
        }
        @if call.web.server.oidc.is_some() {
            p { a.button.main href={ "/login/oidc?next=" (encoded(next)) } { "Sign in with your organisation" } }
        }
        form.fields method="post" action="/login" {
            (token(call))
            input type="hidden" name="next" value=(next);
            input type="hidden" name="passkey";
            div data-with-passkeys hidden {
                button.main type="button" data-passkey="get" data-url="/api/v1/login/challenge" {
                    "Use a passkey"
                }
            }
            p.hint data-said role="status" {}
            div {
                label for="name" { "Name" }
                input #name name="name" autocomplete="username webauthn" required maxlength=(NAME_CHARS_MAX)
                    value=[caller.map(|caller| caller.name.as_str())];
            }
            div {
                label for="password" { "Password" }
                input #password name="password" type="password" autocomplete="current-password" required;
            }
            div {
                label for="code" { "Code of your app" span.hint { "Only if you have set one up." } }
                input #code name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="6";
            }
            .buttons { button { "Sign in with the password" } }
        }
    };
    Page::new(title, body)
}

fn encoded(path: &str) -> String {
    url::form_urlencoded::byte_serialize(path.as_bytes()).collect()
}

/// Says what is wrong with a form.
pub(crate) fn failure(problem: &Problem) -> Markup {
    let told = &problem.told;
    let remedy = told.remedy.as_deref().unwrap_or_default();
    note(Mood::Bad, html! { (told.title) ". Next: " (remedy) "." })
}

/// `POST /api/v1/login/challenge`
pub(crate) async fn challenge(call: Arc<Call>) -> Result<Answer, Problem> {
    Ok(Answer::Json(data_of(&Challenge::draw(
        &call.web,
        Purpose::SignIn,
    )?)?))
}

/// `POST /login`
pub(crate) async fn submit(call: Arc<Call>) -> Result<Answer, Problem> {
    let signed = match call.form.get("passkey") {
        "" => by_password(&call).await,
        said => by_passkey(&call, said).await,
    };
    let (user, method) = match signed {
        Ok(signed) => signed,
        Err(problem) => {
            let code = StatusCode::from_u16(problem.told.status);
            let code = code.unwrap_or(StatusCode::UNAUTHORIZED);
            return Ok(Answer::Again(code, page(&call, Some(&problem))));
        }
    };
    let cookie = begin(&call, &user, method).await?;
    let next = call.form.get("next");
    let next = if is_own_path(next) { next } else { "/" };
    Ok(Answer::See(next.to_owned(), Some(cookie)))
}

/// Begins a new session, and ends the one that the browser had.
pub(crate) async fn begin(call: &Call, user: &UserId, method: Method) -> Result<Cookie, Problem> {
    let cookie = Cookie::begin(&call.web, user, method).await?;
    end(call).await?;
    Ok(cookie)
}

async fn end(call: &Call) -> Result<(), Problem> {
    if let Some(By::Browser { hash, .. }) = call.caller.as_ref().map(|caller| &caller.by) {
        let ended = call.web.server.state.sign_out(hash).await;
        ended.map_err(|error| Problem::failed(&error))?;
    }
    Ok(())
}

/// `POST /logout`
pub(crate) async fn out(call: Arc<Call>) -> Result<Answer, Problem> {
    end(&call).await?;
    Ok(Answer::See("/login".to_owned(), Some(Cookie::gone())))
}

const REMEDY: &str = "try again, or ask an administrator for a new link";

async fn by_password(call: &Call) -> Result<(UserId, Method), Problem> {
    let name = call.form.get("name").trim();
    let given = call.form.get("password");
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || given.len() > password::BYTES_MAX
    {
        return Err(Problem::not_known(REMEDY));
    }
    // While someone is signed in, it is only about the same person.
    if call
        .caller
        .as_ref()
        .is_some_and(|caller| caller.name != name)
    {
        return Err(Problem::wrong(
            "another person is signed in here",
            "sign out first",
        ));
    }
    call.web.begin_attempt(name, &call.from)?;
    let state = &call.web.server.state;
    let user = state.user_named(name).await?;
    let hash = match &user {
        Some(user) => state.secret(&user.id, "password").await?,
        None => None,
    };
    let is_right = call.web.check_password(given, hash).await?;
    let Some(user) = user.filter(|_| is_right) else {
        return Err(Problem::not_known(REMEDY));
    };
    let method = by_code(call, &user).await?;
    call.web.attempt_succeeded(name, &call.from);
    Ok((user.id, method))
}

/// Checks the code of an app, if the person has one.
async fn by_code(call: &Call, user: &UserRow) -> Result<Method, Problem> {
    let state = &call.web.server.state;
    let secret = state.secret(&user.id, "totp").await;
    let secret = secret.map_err(|error| Problem::failed(&error))?;
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        return Ok(Method::Password);
    };
    let secret = URL_SAFE_NO_PAD.decode(secret);
    let secret = secret.map_err(|error| Problem::failed(&error))?;
    let step = totp::check(&secret, call.form.get("code"), call.now.0 / 1000);
    match step {
        Some(step) if call.web.use_code(&user.id, step) => Ok(Method::PasswordAndCode),
        Some(_) | None => Err(Problem::not_known(REMEDY)),
    }
}

async fn by_passkey(call: &Call, said: &str) -> Result<(UserId, Method), Problem> {
    call.web.begin_attempt("", &call.from)?;
    let unknown = || Problem::not_known("try again, or sign in with your password");
    let assertion: Assertion = serde_json::from_str(said).map_err(|_| unknown())?;
    let (id, challenge) = parts(said).ok_or_else(unknown)?;
    if !call
        .web
        .challenges()
        .take(&challenge, &Purpose::SignIn, Instant::now())
    {
        return Err(unknown());
    }
    let state = &call.web.server.state;
    let row = state.passkey(&id).await?.ok_or_else(unknown)?;
    let party = &call.web.server.party;
    row.passkey
        .check(&assertion, &challenge, party)
        .map_err(|_| unknown())?;
    if call
        .caller
        .as_ref()
        .is_some_and(|caller| caller.user != row.user)
    {
        return Err(Problem::wrong(
            "the passkey is of another person",
            "sign out first",
        ));
    }
    state.touch_passkey(&row.id, call.now).await?;
    call.web.attempt_succeeded("", &call.from);
    Ok((row.user, Method::Passkey))
}

/// Returns the passkey that an assertion names, and the challenge that it says it answers.
fn parts(said: &str) -> Option<(String, Vec<u8>)> {
    let value: serde_json::Value = serde_json::from_str(said).ok()?;
    let text = |name: &str| value.get(name).and_then(serde_json::Value::as_str);
    let client = URL_SAFE_NO_PAD.decode(text("client_data")?).ok()?;
    let client: serde_json::Value = serde_json::from_slice(&client).ok()?;
    let challenge = client.get("challenge")?.as_str()?;
    Some((
        text("id")?.to_owned(),
        URL_SAFE_NO_PAD.decode(challenge).ok()?,
    ))
}

/// Checks the name of a person: it is shown to others beside their votes.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn person_name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    let is_shown = !RawText::from(name).has_hidden();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !is_shown {
        return Err(Problem::wrong(
            "the name is empty, too long, or has characters that cannot be seen",
            format!("choose a name of 1 to {NAME_CHARS_MAX} visible characters"),
        ));
    }
    Ok(name.to_owned())
}
