//! Routes of who is told that something waits or went wrong.

use super::{
    super::{
        access::Action,
        serving::{Needs, Route, handler, view},
        settings,
    },
    get, post,
};

/// Returns them.
pub(super) fn routes() -> Vec<Route> {
    let (signed, manages) = (Needs::SignIn, Needs::Role(Action::ManagePeople));
    let (page, data) = view(settings::show);
    vec![
        get("/settings", signed, "settings", page),
        get("/api/v1/settings", signed, "settings", data),
        post(
            "/settings/mail",
            signed,
            "set the mail address of the caller",
            handler(settings::own_mail),
        ),
        post(
            "/settings/channels",
            manages,
            "add a channel",
            handler(settings::add),
        ),
        post(
            "/settings/channels/{channel}/remove",
            manages,
            "remove a channel",
            handler(settings::remove),
        ),
        post(
            "/settings/channels/{channel}/test",
            manages,
            "send a test over a channel",
            handler(settings::test),
        ),
        post(
            "/settings/deliveries/{delivery}/again",
            manages,
            "try a delivery again that was given up",
            handler(settings::again),
        ),
    ]
}
