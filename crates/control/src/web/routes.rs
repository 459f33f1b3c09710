//! Every route of the pages: one table, which the router, the description of the API and the tests walk.

mod notices;
mod terminals;

use axum::{
    body::Body,
    http::{HeaderValue, Method, Response, header},
};

use super::{
    access::Action,
    assets::asset,
    audit, decisions, findings, fleet, flows, inbox, integrity, me, metrics, oidc, openapi,
    overview, people, policy,
    problem::Problem,
    proposals, rollouts, search,
    serving::{Answer, Handler, Needs, Route, handler, view},
    sessions, setup, sign_in, stream, teams,
};

fn get(path: &'static str, needs: Needs, about: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::GET,
        path,
        needs,
        about,
        handler,
    }
}

fn post(path: &'static str, needs: Needs, about: &'static str, handler: Handler) -> Route {
    Route {
        method: Method::POST,
        path,
        needs,
        about,
        handler,
    }
}

/// A page and its data.
fn both(
    page: &'static str,
    data: &'static str,
    action: Action,
    about: &'static str,
    (shows, tells): (Handler, Handler),
) -> [Route; 2] {
    let needs = Needs::Role(action);
    [
        get(page, needs, about, shows),
        get(data, needs, about, tells),
    ]
}

/// Returns all routes.
pub(crate) fn routes() -> Vec<Route> {
    let mut all = open();
    all.extend(elsewhere());
    all.extend(own());
    all.extend(asked());
    all.extend(seen());
    all.extend(decided());
    all.extend(understood());
    all.extend(settled());
    all.extend(known());
    all.extend(changes());
    all.extend(notices::routes());
    all.extend(terminals::routes());
    all.extend(teamed());
    all
}

/// Those that need nobody to be signed in.
fn open() -> Vec<Route> {
    let nothing = Needs::Nothing;
    vec![
        get(
            "/healthz",
            nothing,
            "whether the server answers",
            handler(|call| async move { health(&call).await }),
        ),
        get(
            "/metrics",
            Needs::Role(Action::SeeMetrics),
            "what the server counts, for Prometheus",
            handler(metrics::show),
        ),
        get(
            "/api/openapi.json",
            nothing,
            "this description",
            handler(|_| async { Ok(Answer::Json(openapi::document(&routes()))) }),
        ),
        get(
            "/assets/{name}",
            nothing,
            "a file that pages need",
            handler(|call| async move { file(call.param("name")) }),
        ),
        get(
            "/login",
            nothing,
            "the form to sign in",
            handler(sign_in::form),
        ),
        post(
            "/login",
            nothing,
            "sign in, or prove again who one is",
            handler(sign_in::submit),
        ),
        post(
            "/api/v1/login/challenge",
            nothing,
            "what a passkey signs to sign in",
            handler(sign_in::challenge),
        ),
        get(
            "/setup",
            nothing,
            "the form of a link that works once",
            handler(setup::form),
        ),
        post(
            "/setup",
            nothing,
            "use a link that works once",
            handler(setup::submit),
        ),
        post(
            "/api/v1/setup/challenge",
            nothing,
            "what a first passkey answers",
            handler(setup::challenge),
        ),
    ]
}

/// Signing in at the provider of the organisation.
fn elsewhere() -> Vec<Route> {
    let nothing = Needs::Nothing;
    vec![
        get(
            "/login/oidc",
            nothing,
            "go to the provider of the organisation to sign in",
            handler(oidc::begin),
        ),
        get(
            "/login/oidc/callback",
            nothing,
            "come back from the provider",
            handler(oidc::callback),
        ),
    ]
}

/// Those for everyone who is signed in.
fn own() -> Vec<Route> {
    let signed = Needs::SignIn;
    let (page, data) = view(me::show);
    vec![
        post("/logout", signed, "sign out", handler(sign_in::out)),
        get("/me", signed, "the caller", page),
        get("/api/v1/me", signed, "the caller", data),
        post(
            "/api/v1/me/passkeys/challenge",
            signed,
            "what a further passkey answers",
            handler(me::challenge),
        ),
        post(
            "/me/passkeys",
            signed,
            "register a passkey",
            handler(me::register),
        ),
        post(
            "/me/passkeys/revoke",
            signed,
            "revoke a passkey",
            handler(me::revoke),
        ),
        post(
            "/me/password",
            signed,
            "change the password",
            handler(me::password),
        ),
        get(
            "/me/codes",
            signed,
            "the form to set up an app for codes",
            handler(me::codes),
        ),
        post(
            "/me/codes",
            signed,
            "set up an app for codes",
            handler(me::set_codes),
        ),
        get(
            "/api/v1/stream",
            signed,
            "events when something changes: all, questions, sessions, fleet",
            handler(stream::follow),
        ),
    ]
}

/// Pages about questions and sessions.
fn asked() -> Vec<Route> {
    let pages = [
        both(
            "/inbox",
            "/api/v1/questions",
            Action::SeeQuestions,
            "questions, those that are open first",
            view(inbox::show),
        ),
        both(
            "/inbox/{question}",
            "/api/v1/questions/{question}",
            Action::SeeQuestions,
            "one question with its whole text",
            view(inbox::one),
        ),
        both(
            "/inbox/together/{group}",
            "/api/v1/questions/together/{group}",
            Action::SeeQuestions,
            "equal questions that wait for the caller, with their whole texts",
            view(inbox::together),
        ),
        both(
            "/sessions/{node}/{session}",
            "/api/v1/sessions/{node}/{session}",
            Action::SeeSessions,
            "a session by what it came of",
            view(sessions::one),
        ),
        both(
            "/sessions/{node}/{session}/events",
            "/api/v1/sessions/{node}/{session}/events",
            Action::SeeSessions,
            "the events of a session, one by one",
            view(sessions::events),
        ),
        both(
            "/sessions/{node}/{session}/events/{seq}",
            "/api/v1/sessions/{node}/{session}/events/{seq}",
            Action::SeeSessions,
            "one event with all its fields",
            view(sessions::event),
        ),
        both(
            "/sessions",
            "/api/v1/sessions",
            Action::SeeSessions,
            "sessions, the last ones first",
            view(sessions::show),
        ),
    ];
    pages.into_iter().flatten().collect()
}

/// Pages.
fn seen() -> Vec<Route> {
    let pages = [
        both(
            "/",
            "/api/v1/overview",
            Action::SeeOverview,
            "what needs the caller now",
            view(overview::show),
        ),
        both(
            "/fleet",
            "/api/v1/nodes",
            Action::SeeFleet,
            "machines",
            view(fleet::show),
        ),
        both(
            "/fleet/{node}",
            "/api/v1/nodes/{node}",
            Action::SeeFleet,
            "one machine",
            view(fleet::one),
        ),
        both(
            "/policy",
            "/api/v1/policy",
            Action::SeePolicy,
            "policies that were published",
            view(policy::show),
        ),
    ];
    pages.into_iter().flatten().collect()
}

/// Pages about changes of policy, and what changes them.
fn decided() -> Vec<Route> {
    let pages = [
        both(
            "/policy/proposals",
            "/api/v1/policy/proposals",
            Action::SeePolicy,
            "proposals of policy, the last ones first",
            view(proposals::show),
        ),
        both(
            "/policy/proposals/{proposal}",
            "/api/v1/policy/proposals/{proposal}",
            Action::SeePolicy,
            "one proposal with what would change",
            view(proposals::one),
        ),
        both(
            "/rollouts",
            "/api/v1/rollouts",
            Action::SeePolicy,
            "rollouts, the last ones first",
            view(rollouts::show),
        ),
        both(
            "/rollouts/{rollout}",
            "/api/v1/rollouts/{rollout}",
            Action::SeePolicy,
            "one rollout with its guards",
            view(rollouts::one),
        ),
    ];
    let changes = [
        post(
            "/policy/proposals",
            Needs::Role(Action::ProposePolicy),
            "check or propose a policy",
            handler(proposals::propose),
        ),
        post(
            "/policy/proposals/{proposal}",
            Needs::Role(Action::ProposePolicy),
            "approve, reject or withdraw a proposal",
            handler(proposals::review),
        ),
        post(
            "/rollouts/{rollout}",
            Needs::Role(Action::PublishPolicy),
            "advance, hold, halt or roll back a rollout",
            handler(rollouts::submit),
        ),
        post(
            "/rollouts/{rollout}/report",
            Needs::Role(Action::SeePolicy),
            "report a refusal of the candidate as wrong",
            handler(rollouts::report),
        ),
    ];
    pages.into_iter().flatten().chain(changes).collect()
}

/// Pages about what many sessions came to, and why.
fn understood() -> Vec<Route> {
    let pages = [
        both(
            "/decisions/{node}/{session}/{decision}",
            "/api/v1/decisions/{node}/{session}/{decision}",
            Action::SeeSessions,
            "why something was allowed or refused",
            view(decisions::show),
        ),
        both(
            "/flows",
            "/api/v1/flows",
            Action::SeeSessions,
            "who talks to whom",
            view(flows::show),
        ),
        both(
            "/findings",
            "/api/v1/findings",
            Action::SeeSessions,
            "what a person should look at",
            view(findings::show),
        ),
        both(
            "/search",
            "/api/v1/search",
            Action::SeeSessions,
            "events that a query finds",
            view(search::show),
        ),
        both(
            "/integrity",
            "/api/v1/integrity",
            Action::SeeIntegrity,
            "whether records are whole",
            view(integrity::show),
        ),
        both(
            "/integrity/{node}/{session}",
            "/api/v1/integrity/{node}/{session}",
            Action::SeeIntegrity,
            "whether one record is whole",
            view(integrity::one),
        ),
    ];
    pages.into_iter().flatten().collect()
}

/// What people do with what they see of sessions.
fn settled() -> Vec<Route> {
    let role = Needs::Role;
    vec![
        post(
            "/findings",
            role(Action::TriageFindings),
            "say what a finding is",
            handler(findings::settle),
        ),
        post(
            "/integrity/{node}/{session}",
            role(Action::SeeIntegrity),
            "verify a journal now",
            handler(integrity::verify),
        ),
        post(
            "/sessions/{node}/{session}/stop",
            role(Action::StopSession),
            "end a session",
            handler(sessions::stop),
        ),
        post(
            "/sessions/{node}/{session}/content",
            role(Action::ReadContent),
            "read what was said in a session, for a reason",
            handler(sessions::read_content),
        ),
    ]
}

/// Pages about people, and about what they did.
fn known() -> Vec<Route> {
    let pages = [
        both(
            "/people",
            "/api/v1/people",
            Action::SeePeople,
            "people",
            view(people::show),
        ),
        both(
            "/people/{user}",
            "/api/v1/people/{user}",
            Action::SeePeople,
            "one person",
            view(people::one),
        ),
        both(
            "/audit",
            "/api/v1/audit",
            Action::SeeAudit,
            "the record of the server",
            view(audit::show),
        ),
    ];
    pages.into_iter().flatten().collect()
}

/// What changes something for others.
fn changes() -> Vec<Route> {
    let role = Needs::Role;
    vec![
        post(
            "/inbox/{question}",
            role(Action::Vote),
            "answer a question",
            handler(inbox::vote),
        ),
        post(
            "/inbox/together/{group}",
            role(Action::Vote),
            "answer equal questions, each with a vote",
            handler(inbox::vote_together),
        ),
        post(
            "/inbox/{question}/review",
            role(Action::Vote),
            "say whether an override was right",
            handler(inbox::review),
        ),
        post(
            "/api/v1/questions/{question}/challenge",
            role(Action::Vote),
            "what a passkey signs to answer a question",
            handler(inbox::challenge),
        ),
        post(
            "/policy",
            role(Action::PublishPolicy),
            "check or publish a policy",
            handler(policy::submit),
        ),
        post(
            "/api/v1/policy/check",
            role(Action::SeePolicy),
            "check a policy",
            handler(policy::check_data),
        ),
        post(
            "/people/invite",
            role(Action::ManagePeople),
            "make a link for a person",
            handler(people::invite),
        ),
        post(
            "/people/{user}/roles",
            role(Action::ManagePeople),
            "change the roles of a person",
            handler(people::set_roles),
        ),
        post(
            "/people/{user}/remove",
            role(Action::ManagePeople),
            "remove a person",
            handler(people::remove),
        ),
        post(
            "/fleet/enrol",
            role(Action::ManageFleet),
            "make a token by which a machine enrols",
            handler(fleet::enrol),
        ),
        post(
            "/fleet/{node}/retire",
            role(Action::ManageFleet),
            "retire a machine",
            handler(fleet::retire),
        ),
    ]
}

/// What changes teams.
fn teamed() -> Vec<Route> {
    let role = Needs::Role;
    vec![
        post(
            "/people/teams",
            role(Action::ManagePeople),
            "make a team",
            handler(teams::make),
        ),
        post(
            "/people/teams/{team}",
            role(Action::ManagePeople),
            "give a team another name",
            handler(teams::rename),
        ),
        post(
            "/people/teams/{team}/remove",
            role(Action::ManagePeople),
            "remove a team",
            handler(teams::remove),
        ),
        post(
            "/fleet/{node}/team",
            role(Action::ManageFleet),
            "give a machine to a team",
            handler(fleet::set_team),
        ),
    ]
}

async fn health(call: &super::call::Call) -> Result<Answer, Problem> {
    let alive = call.web.server.state.is_alive().await;
    alive.map_err(|error| Problem::failed(&error))?;
    Ok(Answer::Json(serde_json::json!({"status": "ok"})))
}

fn file(name: &str) -> Result<Answer, Problem> {
    let asset = asset(name).ok_or_else(Problem::not_found)?;
    let mut response = Response::new(Body::from(asset.text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    // The files change with the program only; a browser asks again after an hour.
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    Ok(Answer::Raw(response))
}
