//! Signing a terminal in (RFC 8628): the terminal shows a code, and its person confirms the code here.

mod asking;

use std::{sync::Arc, time::Instant};

use maud::{Markup, html};
use stockade_api::terminal::{ConfirmedBy, DeviceCode, TERMINAL_TOKEN_PREFIX, TerminalToken};
use stockade_types::{RawText, UnixMillis};

pub(crate) use self::asking::Devices;
use self::asking::{Asking, Confirmed, INTERVAL, LIFETIME, NoCode, Told, code_of, grouped, typed};
use super::{
    call::Call,
    me::fresh,
    page::{Mood, Page, foreign, note, time, token},
    problem::Problem,
    serving::{Answer, data_of},
};
use crate::{act::Action, random, state::TerminalRow};

/// How long a terminal is signed in: a working day, as a browser.
const TERMINAL_MS: u64 = 12 * 60 * 60 * 1000;
/// Characters of the name of a machine.
const MACHINE_CHARS_MAX: usize = 64;
/// Random bytes of which a code is made: enough, though some are left out.
const CODE_BYTES: usize = 32;

/// `POST /api/v1/device/code`: a terminal asks to be signed in.
pub(crate) async fn begin(call: Arc<Call>) -> Result<Answer, Problem> {
    let machine = call.form.get("machine").trim();
    let is_shown = !RawText::from(machine).has_hidden();
    if machine.is_empty() || machine.chars().count() > MACHINE_CHARS_MAX || !is_shown {
        return Err(Problem::wrong(
            "`machine` is empty, too long, or has characters that cannot be seen",
            format!("give a name of 1 to {MACHINE_CHARS_MAX} visible characters"),
        ));
    }
    let device_code = random::secret()?;
    let bytes = random::bytes::<CODE_BYTES>()?;
    let code = code_of(&bytes).ok_or_else(|| Problem::later("no code could be drawn", 1))?;
    let asking = Asking {
        machine: machine.to_owned(),
        address: call.from.clone(),
        at: call.now,
    };
    let said = said_of(&asking);
    let hash = random::hash(&device_code);
    let is_open = call
        .web
        .devices()
        .add(hash, code.clone(), asking, Instant::now());
    if !is_open {
        return Err(Problem::later("too many terminals ask to be signed in", 60));
    }
    noted(&call, Action::DeviceAsked, "", said).await?;
    let page = format!("{}/device", call.web.server.party.origin);
    let shown = grouped(&code);
    Ok(Answer::Json(data_of(&DeviceCode {
        device_code,
        verification_uri_complete: format!("{page}?code={shown}"),
        verification_uri: page,
        user_code: shown,
        expires_in: LIFETIME.as_secs(),
        interval: INTERVAL.as_secs(),
    })?))
}

/// `POST /api/v1/device/token`: a terminal asks whether somebody has confirmed; and, once it has shown who,
/// takes the token of that person, whom it names.
pub(crate) async fn take(call: Arc<Call>) -> Result<Answer, Problem> {
    let hash = random::hash(call.form.get("device_code"));
    let person = call.form.get("person");
    if person.is_empty() {
        let told = call.web.devices().ask(&hash, Instant::now());
        return told_of(&call, told);
    }
    let taken = call.web.devices().take(&hash, person, Instant::now());
    let (asking, by) = taken.ok_or_else(over)?;
    let secret = format!("{TERMINAL_TOKEN_PREFIX}{}", random::secret()?);
    let expires = UnixMillis(call.now.0.saturating_add(TERMINAL_MS));
    let row = TerminalRow {
        id: random::name("y-")?,
        user: by.user.clone(),
        machine: asking.machine,
        address: asking.address,
        signed_in: by.signed_in,
        created: call.now,
        expires,
        last_used: call.now,
    };
    let state = &call.web.server.state;
    if !state.add_terminal(&random::hash(&secret), &row).await? {
        return Err(Problem::conflict(
            format!("`{}` is signed in in too many terminals", by.name),
            "sign some of them out on the page of the account",
        ));
    }
    Ok(Answer::Json(data_of(&TerminalToken {
        token: secret,
        user: by.user,
        name: by.name,
        org: state.org().to_owned(),
        expires,
    })?))
}

fn over() -> Problem {
    Problem::of_kind(
        "expired_token",
        "the code is over, or was used",
        "begin again: `stockade login`",
    )
}

/// Tells a terminal how it stands, by the words of RFC 8628 (section 3.5).
fn told_of(call: &Call, told: Told) -> Result<Answer, Problem> {
    let waiting = "the person confirms the code in a browser";
    match told {
        Told::Confirmed(by) => Ok(Answer::Json(data_of(&ConfirmedBy {
            user: by.user,
            name: by.name,
            org: call.web.server.state.org().to_owned(),
        })?)),
        Told::Over => Err(over()),
        Told::Waits => Err(Problem::of_kind(
            "authorization_pending",
            "nobody has confirmed the code yet",
            waiting,
        )),
        Told::TooSoon(interval) => {
            let mut problem = Problem::of_kind("slow_down", "the terminal asks too often", waiting);
            problem.told.retry_ms = u64::try_from(interval.as_millis()).ok();
            Err(problem)
        }
        Told::Refused => Err(Problem::of_kind(
            "access_denied",
            "a person has refused the code",
            "begin again, if that was a mistake: `stockade login`",
        )),
    }
}

fn said_of(asking: &Asking) -> String {
    format!("terminal `{}` at {}", asking.machine, asking.address)
}

async fn noted(call: &Call, action: Action, by: &str, detail: String) -> Result<(), Problem> {
    let state = &call.web.server.state;
    let noted = state.note_device(action, by, detail, call.now).await;
    noted.map_err(Problem::from)
}

/// `GET /device`
pub(crate) async fn form(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let code: String = typed(call.query("code"));
    let done = match call.query("done") {
        "confirmed" => Some(note(
            Mood::Good,
            "The terminal is told. It shows your name, and asks whether to go on as you.",
        )),
        "refused" => Some(note(Mood::Good, "The terminal is not signed in.")),
        _ => None,
    };
    Ok(Answer::Page(typing(&call, &code, done.as_ref())))
}

fn typing(call: &Call, code: &str, said: Option<&Markup>) -> Page {
    let shown = if code.is_empty() {
        String::new()
    } else {
        grouped(code)
    };
    let body = html! {
        @if let Some(said) = said { (said) }
        form.fields method="post" action="/device" {
            (token(call))
            div {
                label for="code" { "Code that your terminal shows" span.hint { "For example: BCDF-GHJK" } }
                input #code name="code" required maxlength="20" autocomplete="off" autocapitalize="characters"
                    spellcheck="false" value=(shown);
            }
            .buttons { button.main { "Go on" } a.button href="/me#terminals" { "Terminals signed in" } }
        }
    };
    Page::new("Sign a terminal in", body).lead(
        "Only with a code from a terminal in front of you, which you have just asked to sign in.",
    )
}

/// `POST /device`: shows which terminal it is, and then confirms or refuses it.
pub(crate) async fn confirm(call: Arc<Call>) -> Result<Answer, Problem> {
    fresh(&call)?;
    let caller = call.caller()?;
    let code = typed(call.form.get("code"));
    let confirmed = match call.form.get("choice") {
        "" => {
            let found = call
                .web
                .devices()
                .of_code(&code, &caller.user, Instant::now());
            return Ok(match found {
                Ok(asking) => Answer::Page(asked(&call, &code, &asking)),
                Err(why) => no_code(&call, why)?,
            });
        }
        "confirm" => Some(Confirmed {
            user: caller.user.clone(),
            name: caller.name.clone(),
            signed_in: caller.signed_in,
        }),
        _ => None,
    };
    let (action, done) = match &confirmed {
        Some(_) => (Action::DeviceConfirmed, "confirmed"),
        None => (Action::DeviceRefused, "refused"),
    };
    let settled = call
        .web
        .devices()
        .settle(&code, &caller.user, confirmed, Instant::now());
    let asking = match settled {
        Ok(asking) => asking,
        Err(why) => return no_code(&call, why),
    };
    noted(&call, action, &caller.user.0, said_of(&asking)).await?;
    Ok(Answer::See(format!("/device?done={done}"), None))
}

fn no_code(call: &Call, why: NoCode) -> Result<Answer, Problem> {
    match why {
        NoCode::TooMany => Err(Problem::later("too many wrong codes", LIFETIME.as_secs())),
        NoCode::Unknown => {
            let problem = Problem::wrong(
                "no terminal waits with this code: it is wrong, was used, or is older than 10 minutes",
                "compare it with the terminal, or begin again there",
            );
            let said = super::sign_in::failure(&problem);
            Ok(Answer::Again(problem.code(), typing(call, "", Some(&said))))
        }
    }
}

/// Shows what a terminal says of itself before it is confirmed.
fn asked(call: &Call, code: &str, asking: &Asking) -> Page {
    let name = call.caller.as_ref().map_or("", |caller| &caller.name);
    let body = html! {
        (note(Mood::Bad, html! {
            strong { "Careful: " }
            "whoever holds this terminal answers questions as " (foreign(name)) " for up to 12 hours. \
             If somebody sent you this code or a link with it, refuse it: that person would answer in your name."
        }))
        dl.facts {
            dt { "Code" } dd { code { (grouped(code)) } }
            dt { "Machine" } dd { (foreign(&asking.machine)) " " span.quiet { "(what the terminal says, unchecked)" } }
            dt { "Address" } dd { (foreign(&asking.address)) }
            dt { "Asked" } dd { (time(asking.at, call.now)) }
        }
        form method="post" action="/device" {
            (token(call))
            input type="hidden" name="code" value=(code);
            .buttons {
                button.no name="choice" value="refuse" { "Refuse" }
                button name="choice" value="confirm" { "Sign this terminal in as " (foreign(name)) }
            }
        }
    };
    Page::new("Sign a terminal in", body).lead("Is this the terminal in front of you?")
}
