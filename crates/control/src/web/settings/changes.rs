//! What changes settings. Everything here needs a sign-in of the last minutes.

use std::{collections::BTreeSet, sync::Arc};

use axum::http::StatusCode;
use maud::{Markup, html};

use super::{FORMS, kinds, mail, show};
use crate::{
    ControlError,
    notice::{Channel, Form, Kind, NAME_CHARS_MAX, Notice, TO_BYTES_MAX},
    notify::{new_row, too_many},
    random,
    state::ChannelRow,
    web::{
        call::{Call, seen},
        me::fresh,
        page::{Mood, Page, note, token},
        problem::Problem,
        serving::{Answer, View as _},
        sign_in::failure,
    },
};

/// The form for a new channel.
pub(super) fn form(call: &Call, problem: Option<&Problem>) -> Markup {
    let was = |name: &str, value: &str| call.form.all(name).any(|one| one == value);
    let chosen = call.form.get("form");
    let again = |name: &str| seen(call.form.get(name), TO_BYTES_MAX);
    html! {
        h2 #new { "New channel" }
        @if let Some(problem) = problem { (failure(problem)) }
        form.fields method="post" action="/settings/channels" {
            (token(call))
            div {
                label for="name" { "Name" }
                input #name name="name" required maxlength=(NAME_CHARS_MAX) autocomplete="off" value=(again("name"));
            }
            fieldset {
                legend { "It tells" }
                @for (index, (form, words)) in FORMS.iter().enumerate() {
                    label.choice {
                        input type="radio" name="form" value=(form.word()) required
                            checked[chosen == form.word() || chosen.is_empty() && index == 0];
                        (words)
                    }
                }
            }
            div {
                label for="to" {
                    "Address" span.hint { "Of HTTPS, or of mail. Keep that of a chat secret: who has it can write there." }
                }
                input #to name="to" required maxlength=(TO_BYTES_MAX) autocomplete="off" spellcheck="false" value=(again("to"));
            }
            fieldset {
                legend { "It hears that" }
                @for (word, words) in kinds() {
                    label.choice {
                        input type="checkbox" name="kind" value=(word) checked[was("kind", word)];
                        (words)
                    }
                }
            }
            div {
                label for="roles" {
                    "Only questions for the roles"
                    span.hint { "Names with spaces between, for example: security on-call. Empty for all." }
                }
                input #roles name="roles" autocomplete="off" value=(again("roles"));
            }
            label.choice {
                input type="checkbox" name="details" value="yes" checked[was("details", "yes")];
                "Tell what lists show of a request or finding, too: hosts, commands, paths"
            }
            label.choice {
                input type="checkbox" name="private" value="yes" checked[was("private", "yes")];
                "The receiver may be in a private network"
            }
            div {
                label for="authorities" {
                    "Authorities of the receiver" span.hint { "Certificates in PEM, if the system does not know them." }
                }
                textarea #authorities name="authorities" spellcheck="false" {}
            }
            .buttons { button.main { "Add the channel" } }
        }
    }
}

/// Reads the form.
fn given(call: &Call) -> Result<Channel, Problem> {
    let form = &call.form;
    let wrong = |what: &str| {
        Problem::wrong(
            format!("`{what}` is missing or wrong"),
            "load the page again",
        )
    };
    let kinds: Option<BTreeSet<Kind>> = form.all("kind").map(Kind::of_word).collect();
    let kinds = kinds.ok_or_else(|| wrong("kind"))?;
    if kinds.is_empty() {
        return Err(Problem::wrong(
            "the channel hears of nothing",
            "choose what it is told",
        ));
    }
    let authorities = form.get("authorities").trim();
    Ok(Channel {
        name: form.get("name").trim().to_owned(),
        form: Form::of_word(form.get("form")).ok_or_else(|| wrong("form"))?,
        to: form.get("to").trim().to_owned(),
        kinds,
        roles: form
            .get("roles")
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        details: form.get("details") == "yes",
        private: form.get("private") == "yes",
        authorities: (!authorities.is_empty()).then(|| authorities.to_owned()),
    })
}

/// Says what is wrong with what was given; what is wrong with the server stays its failure.
fn refused(error: ControlError) -> Problem {
    match error {
        ControlError::Value { .. } | ControlError::Outside(_) => {
            let words = stockade_types::RawText::from(error.to_string().as_str()).display();
            Problem::wrong(words, "correct it, and send the form again")
        }
        other => Problem::from(other),
    }
}

/// `POST /settings/channels`
pub(crate) async fn add(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let made = match given(&call) {
        Ok(channel) => new_row(channel).await.map_err(refused),
        Err(problem) => Err(problem),
    };
    let row = match made {
        Ok(row) => row,
        Err(problem) => {
            let code = StatusCode::from_u16(problem.told.status);
            let page = Page::new("Settings", form(&call, Some(&problem)));
            return Ok(Answer::Again(code.unwrap_or(StatusCode::BAD_REQUEST), page));
        }
    };
    let by = call.caller()?.user.0.clone();
    if !call.web.server.state.add_channel(&row, &by).await? {
        return Err(Problem::conflict(
            too_many().to_string(),
            "remove a channel first",
        ));
    }
    if row.secret.is_empty() {
        return Ok(Answer::See("/settings?done=added".to_owned(), None));
    }
    let body = html! {
        (note(Mood::Good, "The channel is told from now on. Its secret is shown this once."))
        p { "The receiver verifies the header " code { "webhook-signature" } " of each message with it." }
        pre #secret { (row.secret) }
        p { a href="/settings#channels" { "Back to the settings" } }
    };
    Ok(Answer::Page(Page::new("Channel", body)))
}

/// Returns the channel that the caller names; that of a person is not there.
async fn named(call: &Call) -> Result<ChannelRow, Problem> {
    let found = call.web.server.state.channel(call.param("channel")).await?;
    found
        .filter(|row| row.owner.is_none())
        .ok_or_else(Problem::not_found)
}

/// `POST /settings/channels/{channel}/remove`
pub(crate) async fn remove(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let row = named(&call).await?;
    let by = &call.caller()?.user.0;
    let state = &call.web.server.state;
    if !state.remove_channel(&row.id, by, call.now).await? {
        return Err(Problem::not_found());
    }
    Ok(Answer::See("/settings?done=removed".to_owned(), None))
}

/// `POST /settings/channels/{channel}/test`
pub(crate) async fn test(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let row = named(&call).await?;
    let (id, notice) = (random::name("msg_")?, Notice::test(call.now));
    let said = call.web.server.say(&row, &id, &notice, call.now).await?;
    match said {
        Ok(()) => Ok(Answer::See("/settings?done=tested".to_owned(), None)),
        Err(why) => {
            let why = stockade_types::RawText::from(why.as_str()).display();
            let problem = Problem::unavailable(
                format!("the test did not arrive: {why}"),
                "look at the receiver, or make the channel again",
            );
            let mut page = show(Arc::clone(&call)).await?.page(&call);
            page.body = html! { (failure(&problem)) (page.body) };
            Ok(Answer::Again(StatusCode::BAD_GATEWAY, page))
        }
    }
}

/// `POST /settings/deliveries/{delivery}/again`
pub(crate) async fn again(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let by = &call.caller()?.user.0;
    let state = &call.web.server.state;
    let id = call.param("delivery");
    if !state.redeliver(id, by, call.now).await? {
        return Err(Problem::not_found());
    }
    Ok(Answer::See("/settings?done=again".to_owned(), None))
}

/// `POST /settings/mail`
pub(crate) async fn own_mail(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let state = &call.web.server.state;
    let address = call.form.get("address").trim();
    if address.is_empty() {
        state.remove_address(&caller.user, call.now).await?;
        return Ok(Answer::See("/settings?done=no-mail".to_owned(), None));
    }
    let Some(mail) = mail(&call).await? else {
        return Err(Problem::conflict(
            "the server sends no mail",
            "ask who runs the server for `serve mail`",
        ));
    };
    mail.check_personal(address).map_err(refused)?;
    let row = ChannelRow {
        id: random::name("c-")?,
        channel: Channel::personal(address),
        secret: String::new(),
        owner: Some(caller.user.clone()),
        created: call.now,
        skipped: 0,
    };
    state.add_channel(&row, &caller.user.0).await?;
    Ok(Answer::See("/settings?done=mail".to_owned(), None))
}
