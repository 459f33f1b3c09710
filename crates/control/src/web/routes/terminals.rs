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

/// Returns them all.
pub(super) fn routes() -> Vec<Route> {
    let mut all = signing_in();
    all.extend(keys_of_people());
    all.extend(votes());
    all
}

fn signing_in() -> Vec<Route> {
    let (nothing, signed) = (Needs::Nothing, Needs::SignIn);
    let asks = "a terminal asks to be signed in";
    let takes = "a terminal asks who has confirmed, and takes that person's token";
    let form = "the form to sign a terminal in";
    let confirm = "sign a terminal in, or refuse it";
    let here = "who is signed in in the terminal";
    let end = "sign a terminal out";
    let revoke = handler(me::sign_terminal_out);
    vec![
        post("/api/v1/device/code", nothing, asks, handler(device::begin)),
        post(
            "/api/v1/device/token",
            nothing,
            takes,
            handler(device::take),
        ),
        get("/device", signed, form, handler(device::form)),
        post("/device", signed, confirm, handler(device::confirm)),
        get("/api/v1/terminal", signed, here, handler(terminals::here)),
        post(
            "/api/v1/terminal/logout",
            signed,
            end,
            handler(terminals::out),
        ),
        post("/me/terminals/revoke", signed, end, revoke),
    ]
}

fn keys_of_people() -> Vec<Route> {
    let (signed, manages) = (Needs::SignIn, Needs::Role(Action::ManagePeople));
    let (page, data) = view(keys::show);
    let (all, approve) = ("approver keys", "approve a key of another person");
    let (register, revoke) = ("register an approver key", "revoke an approver key");
    vec![
        post("/me/keys", signed, register, handler(keys::register)),
        post("/me/keys/revoke", signed, revoke, handler(keys::revoke_own)),
        get("/keys", manages, all, page),
        get("/api/v1/keys", manages, all, data),
        post("/keys/approve", manages, approve, handler(keys::approve)),
        post("/keys/revoke", manages, revoke, handler(keys::revoke_any)),
    ]
}

fn votes() -> Vec<Route> {
    let (sees, votes) = (Needs::Role(Action::SeeQuestions), Needs::Role(Action::Vote));
    let (sent, ballot, vote) = (
        "/api/v1/questions/{question}/sent",
        "/api/v1/questions/{question}/ballot",
        "/api/v1/questions/{question}/vote",
    );
    let about = "a question as its machine sent it, for a terminal that makes the text itself";
    let may = "whether a person may vote so, and what is signed then";
    vec![
        get(sent, sees, about, handler(terminals::sent)),
        post(ballot, votes, may, handler(terminals::ballot)),
        post(
            vote,
            votes,
            "a vote from a terminal",
            handler(terminals::vote),
        ),
    ]
}
