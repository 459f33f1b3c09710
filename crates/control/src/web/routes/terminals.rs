//! Routes of terminals in which people are signed in, and of approver keys.

use super::{
    super::{
        access::Action,
        device, keys, me,
        serving::{Needs, Route, handler, view},
        terminals,
    },
    get, post,
};

/// Returns them.
pub(super) fn routes() -> Vec<Route> {
    let (nothing, signed, role) = (Needs::Nothing, Needs::SignIn, Needs::Role);
    let (page, data) = view(keys::show);
    let manages = Action::ManagePeople;
    let asks = "a terminal asks to be signed in";
    let takes = "a terminal asks who has confirmed, and takes that person's token";
    let sent = "a question as its machine sent it, for a terminal that makes the text itself";
    let ballot = "whether a person may vote so, and what is signed then";
    let vote = "a vote from a terminal";
    vec![
        post("/api/v1/device/code", nothing, asks, handler(device::begin)),
        post(
            "/api/v1/device/token",
            nothing,
            takes,
            handler(device::take),
        ),
        get(
            "/device",
            signed,
            "the form to sign a terminal in",
            handler(device::form),
        ),
        post(
            "/device",
            signed,
            "sign a terminal in, or refuse it",
            handler(device::confirm),
        ),
        get(
            "/api/v1/terminal",
            signed,
            "who is signed in in the terminal",
            handler(terminals::here),
        ),
        post(
            "/api/v1/terminal/logout",
            signed,
            "sign the terminal out",
            handler(terminals::out),
        ),
        post(
            "/me/terminals/revoke",
            signed,
            "sign a terminal out",
            handler(me::sign_terminal_out),
        ),
        post(
            "/me/keys",
            signed,
            "register an approver key",
            handler(keys::register),
        ),
        post(
            "/me/keys/revoke",
            signed,
            "revoke an own approver key",
            handler(keys::revoke_own),
        ),
        get("/keys", role(manages), "approver keys", page),
        get("/api/v1/keys", role(manages), "approver keys", data),
        post(
            "/keys/approve",
            role(manages),
            "approve a key of another person",
            handler(keys::approve),
        ),
        post(
            "/keys/revoke",
            role(manages),
            "revoke an approver key",
            handler(keys::revoke_any),
        ),
        get(
            "/api/v1/questions/{question}/sent",
            role(Action::SeeQuestions),
            sent,
            handler(terminals::sent),
        ),
        post(
            "/api/v1/questions/{question}/ballot",
            role(Action::Vote),
            ballot,
            handler(terminals::ballot),
        ),
        post(
            "/api/v1/questions/{question}/vote",
            role(Action::Vote),
            vote,
            handler(terminals::vote),
        ),
    ]
}
