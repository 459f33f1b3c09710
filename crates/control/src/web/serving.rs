//! How a request is answered. Every route goes through [`run`], so no handler can forget to ask who is there,
//! what they may do, and whether a page of ours sent it.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    RequestExt as _,
    body::{Body, to_bytes},
    extract::RawPathParams,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use maud::html;
use serde::Serialize;
use subtle::ConstantTimeEq as _;

use super::{
    Web,
    access::{self, Action},
    call::{Call, Fields},
    caller::{Caller, Cookie},
    guard,
    page::{Mood, Page, document, note},
    problem::Problem,
};
use crate::{clock, random};

/// Bytes of a form: a policy is the longest field.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// The header with which a script on our pages sends the token of its session.
const TOKEN_HEADER: &str = "x-stockade-token";

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: everyone may.
    Nothing,
    /// That someone is signed in.
    SignIn,
    /// A role that allows this.
    Role(Action),
}

/// What a handler answers.
pub(crate) enum Answer {
    /// A page.
    Page(Page),
    /// A page that says what is wrong with a form.
    Again(StatusCode, Page),
    /// Data.
    Json(serde_json::Value),
    /// Go on there; with a cookie if that changes.
    See(String, Option<Cookie>),
    /// Anything else.
    Raw(Response<Body>),
}

/// A view: a page and its data are made of the same value.
pub(crate) trait View: Serialize {
    /// Writes the page.
    fn page(&self, call: &Call) -> Page;
}

/// A handler.
pub(crate) type Handler = Arc<dyn Fn(Arc<Call>) -> Answering + Send + Sync>;
type Answering = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;

/// One route.
pub(crate) struct Route {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) needs: Needs,
    /// What it does, in a few words.
    pub(crate) about: &'static str,
    pub(crate) handler: Handler,
}

/// Makes a handler of a function.
pub(crate) fn handler<F, Fut>(function: F) -> Handler
where
    F: Fn(Arc<Call>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Answer, Problem>> + Send + 'static,
{
    Arc::new(move |call| Box::pin(function(call)))
}

/// Makes the handlers of a view: its page, and its data.
pub(crate) fn view<V, F, Fut>(function: F) -> (Handler, Handler)
where
    V: View,
    F: Fn(Arc<Call>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = Result<V, Problem>> + Send + 'static,
{
    let again = function.clone();
    let page = handler(move |call: Arc<Call>| {
        let view = function(Arc::clone(&call));
        async move { Ok(Answer::Page(view.await?.page(&call))) }
    });
    let data = handler(move |call| {
        let view = again(call);
        async move { Ok(Answer::Json(data_of(&view.await?)?)) }
    });
    (page, data)
}

/// Writes a value as data.
///
/// # Errors
/// When it is no JSON.
pub(crate) fn data_of<T: Serialize>(value: &T) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(value).map_err(|error| Problem::failed(&error))
}

/// Carries out a request.
pub(crate) async fn run(
    web: Arc<Web>,
    needs: Needs,
    handler: Handler,
    request: Request<Body>,
) -> Response<Body> {
    let nonce = random::bytes::<16>().map(|bytes| URL_SAFE_NO_PAD.encode(bytes));
    // Without a nonce no script runs; the page can still be read.
    let nonce = nonce.unwrap_or_default();
    let is_api = request.uri().path().starts_with("/api/");
    let mut response = match answer(&web, needs, &handler, request, &nonce).await {
        Ok(response) => response,
        Err((problem, _)) if is_api => problem.json(),
        Err((problem, call)) => explain(&problem, call.as_deref()),
    };
    guard::add_headers(response.headers_mut(), &nonce);
    response
}

type Refused = (Problem, Option<Arc<Call>>);

async fn answer(
    web: &Arc<Web>,
    needs: Needs,
    handler: &Handler,
    mut request: Request<Body>,
    nonce: &str,
) -> Result<Response<Body>, Refused> {
    let plain = |problem| (problem, None);
    let party = &web.server.party;
    let host = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let named = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    guard::is_for_us(host.as_deref().or(named), party).map_err(plain)?;
    let headers = request.headers().clone();
    let method = request.method().clone();
    let token = Caller::bearer(&headers);
    if token.is_none() {
        guard::is_from_us(&method, &headers, party).map_err(plain)?;
    }
    let here = request
        .uri()
        .path_and_query()
        .map_or("/", |both| both.as_str())
        .to_owned();
    let query = Fields::parse(request.uri().query().unwrap_or_default().as_bytes());
    let caller = Caller::find(web, &headers, token).await.map_err(plain)?;
    let from = super::peer_prefix(request.extensions());
    let params = request.extract_parts::<RawPathParams>().await;
    let params = params.map_err(|_| plain(Problem::not_found()))?;
    let params = params
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let params = params.collect();
    let body = to_bytes(request.into_body(), BODY_BYTES_MAX).await;
    let body = body.map_err(|_| plain(Problem::too_long(BODY_BYTES_MAX)))?;
    let mut call = Call {
        web: Arc::clone(web),
        caller,
        here: here.clone(),
        nonce: nonce.to_owned(),
        now: clock::now(),
        waiting: 0,
        back: guard::page_of(&method, &here, &headers, party),
        from_elsewhere: guard::is_from_elsewhere(&headers),
        from,
        attempt: super::caller::attempt(&headers),
        params,
        query,
        form: if is_form(&headers) {
            Fields::parse(&body)
        } else {
            Fields::default()
        },
    };
    if let Err(problem) = admit(&call, needs, &method, &headers) {
        return Err((problem, Some(Arc::new(call))));
    }
    call.waiting = super::waiting::waiting(&call).await.map_err(plain)?;
    let call = Arc::new(call);
    match handler(Arc::clone(&call)).await {
        Ok(answer) => Ok(respond(answer, &call)),
        Err(problem) => Err((problem, Some(call))),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"))
}

/// Decides whether the handler runs at all.
fn admit(call: &Call, needs: Needs, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let caller = call.caller.as_ref();
    let action = match (needs, caller) {
        (Needs::Nothing, None) => return Ok(()),
        (Needs::Nothing | Needs::SignIn, Some(_)) => None,
        (Needs::Role(action), Some(_)) => Some(action),
        (Needs::SignIn | Needs::Role(_), None) => return Err(Problem::signed_out()),
    };
    let Some(caller) = caller else {
        return Err(Problem::signed_out());
    };
    if !caller.may_use(&call.here) {
        return Err(Problem::forbidden(
            "the token of a terminal sees and answers questions, and does nothing else",
            "sign in on the page and do it there",
        ));
    }
    if let Some(action) = action
        && !caller.may(action)
    {
        return Err(Problem::forbidden(
            format!("your roles do not let you {}", access::words(action)),
            "ask an administrator for a role that does",
        ));
    }
    let is_change = !matches!(*method, Method::GET | Method::HEAD);
    // A program with a token of its own has no cookie that a strange page could use.
    if is_change && caller.is_browser() {
        let header = headers
            .get(TOKEN_HEADER)
            .and_then(|value| value.to_str().ok());
        let given = header.unwrap_or_else(|| call.form.get("token"));
        if !bool::from(given.as_bytes().ct_eq(caller.token.as_bytes())) {
            return Err(Problem::forbidden(
                "the form is not of this session",
                "load the page again, and send the form again",
            ));
        }
    }
    Ok(())
}

fn respond(answer: Answer, call: &Call) -> Response<Body> {
    match answer {
        Answer::Page(page) => html_of(StatusCode::OK, &document(call, &page)),
        Answer::Again(status, page) => html_of(status, &document(call, &page)),
        Answer::Json(value) => {
            let mut response = Response::new(Body::from(value.to_string()));
            let kind = HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Answer::See(path, cookie) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SEE_OTHER;
            let path = if guard::is_own_path(&path) {
                path
            } else {
                "/".to_owned()
            };
            let place = HeaderValue::from_str(&path).unwrap_or(HeaderValue::from_static("/"));
            response.headers_mut().insert(header::LOCATION, place);
            if let Some(cookie) = cookie {
                response
                    .headers_mut()
                    .insert(header::SET_COOKIE, cookie.header());
            }
            response
        }
        Answer::Raw(response) => response,
    }
}

fn html_of(status: StatusCode, page: &maud::Markup) -> Response<Body> {
    let mut response = Response::new(Body::from(page.0.clone()));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Tells a person what was not done.
fn explain(problem: &Problem, call: Option<&Call>) -> Response<Body> {
    let told = &problem.told;
    let remedy = told.remedy.as_deref().unwrap_or_default();
    let Some(call) = call else {
        let page = html! {
            (maud::DOCTYPE)
            html lang="en" {
                head { meta charset="utf-8"; title { "Not done · Stockade" } link rel="stylesheet" href="/assets/page.css"; }
                body { main.alone { h1 { "Not done" } p { (told.title) } p { (remedy) } } }
            }
        };
        return html_of(problem.code(), &page);
    };
    if problem.sign_in {
        return to_sign_in(call);
    }
    let body = html! {
        (note(Mood::Bad, told.title.as_str()))
        p { "Next: " (remedy) "." }
        p { a href="/" { "Overview" } }
    };
    html_of(
        problem.code(),
        &document(call, &Page::new("Not done", body)),
    )
}

/// Sends a person to sign in, and back afterwards.
fn to_sign_in(call: &Call) -> Response<Body> {
    // A link on a page of another site comes without our cookie, even if there is one. The page loads itself
    // again, this time from here.
    if call.from_elsewhere && call.caller.is_none() {
        let body = html! { p { a href=(call.here) { "Continue" } } };
        let mut response = html_of(
            StatusCode::OK,
            &document(call, &Page::new("Stockade", body)),
        );
        let again = HeaderValue::from_str(&format!("0; url={}", call.here));
        if let (Ok(again), true) = (again, guard::is_own_path(&call.here)) {
            response.headers_mut().insert(header::REFRESH, again);
        }
        return response;
    }
    let next: String = url::form_urlencoded::byte_serialize(call.back.as_bytes()).collect();
    respond(Answer::See(format!("/login?next={next}"), None), call)
}
