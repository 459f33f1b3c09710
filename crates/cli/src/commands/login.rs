//! `stockade login` and `stockade logout`: who answers from this terminal.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use jiff::tz::TimeZone;
use serde::Serialize;
use stockade_node::terminal::{ConfirmedBy, DeviceCode, Login, Place, Standing};

use crate::{
    exit::Exit,
    human::{minute, safe},
    output::{Form, Output},
    prompt,
    state::StateDir,
};

/// Sign in at the server of your organisation, to answer questions from this terminal.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The terminal shows a code. You confirm it on the page `/device` of the server, in a browser \
    in which you have signed in within the last five minutes. Then the terminal shows who has confirmed, and \
    asks whether to go on as that person. The sign-in lasts at most 12 hours, sees and answers questions, and \
    does nothing else; the page of your account lists it and ends it.\n\n\
    The server is known by the authority with which this machine is enrolled, or those that the system trusts, \
    or by `--ca`.\n\n\
    Examples:\n  stockade login https://stockade.example.org:7444\n  \
    stockade login https://stockade.example.org:7444 --ca sha256:5b1e…\n  stockade login --status"
)]
pub(crate) struct Args {
    /// The address of the server's pages
    #[arg(value_name = "URL", required_unless_present = "status")]
    url: Option<String>,
    /// How the server is known: SHA-256 of the certificate of its authority, or a file with certificates (PEM)
    #[arg(long, value_name = "DIGEST|FILE")]
    ca: Option<String>,
    /// Go on without a question if this person confirms, by name or id; stop if another one does
    #[arg(long, value_name = "NAME")]
    person: Option<String>,
    /// Say who is signed in, and until when
    #[arg(long, conflicts_with_all = ["url", "ca", "person"])]
    status: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Sign out of the server of your organisation.
#[derive(Debug, clap::Args)]
pub(crate) struct OutArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `login --json` prints first.
#[derive(Serialize)]
struct Shown<'a> {
    code: &'a str,
    url: &'a str,
    expires_in: u64,
}

/// Who is signed in.
#[derive(Serialize)]
struct SignedIn<'a> {
    server: &'a str,
    org: &'a str,
    user: &'a str,
    name: &'a str,
    expires: u64,
}

impl<'a> SignedIn<'a> {
    fn of(login: &'a Login) -> Self {
        Self {
            server: login.origin(),
            org: &login.org,
            user: &login.user.0,
            name: &login.name,
            expires: login.expires.0,
        }
    }

    fn text(&self) -> String {
        let until = minute(self.expires.saturating_mul(1_000_000), &TimeZone::system());
        format!(
            "signed in at {} as `{}` ({}) of `{}` until {until}",
            self.server,
            safe(self.name),
            safe(self.user),
            safe(self.org)
        )
    }
}

/// Runs `login`.
///
/// # Errors
/// When the server cannot be asked, or a file cannot be written.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let Some(url) = &args.url else {
        return status(out);
    };
    if args.person.is_none() && !prompt::can_ask() {
        out.note(
            "stockade: there is no terminal to ask on who may confirm; name the person with `--person`",
        );
        return Ok(Exit::Usage);
    }
    let state = StateDir::open_or_create()?;
    let place = Place::new(url, args.ca.as_deref(), state.path())?;
    let uname = rustix::system::uname();
    let code = place.begin(&uname.nodename().to_string_lossy())?;
    show(&code, out)?;
    let Some(by) = wait(&place, &code)? else {
        out.note("stockade: nobody has confirmed the code in time; begin again");
        return Ok(Exit::No);
    };
    let (name, id) = (safe(&by.name), safe(&by.user.0));
    out.note(format_args!(
        "`{name}` ({id}) of `{}` has confirmed the code",
        safe(&by.org)
    ));
    if !is_right(&by, args.person.as_deref(), &name)? {
        out.note("stockade: not signed in; whoever has confirmed the code gets nothing from it");
        return Ok(Exit::No);
    }
    let login = place.take(state.path(), &code, &by)?;
    out.value(&SignedIn::of(&login), SignedIn::text)?;
    Ok(Exit::Yes)
}

fn show(code: &DeviceCode, out: &mut Output) -> anyhow::Result<()> {
    if out.form() == Form::Json {
        return out.json(&Shown {
            code: &code.user_code,
            url: &code.verification_uri_complete,
            expires_in: code.expires_in,
        });
    }
    out.note(format_args!(
        "code: {}\nOpen {} and confirm it there, signed in as yourself, within {} minutes.",
        safe(&code.user_code),
        safe(&code.verification_uri),
        code.expires_in / 60
    ));
    Ok(())
}

/// Waits until somebody has confirmed; `None` if nobody does in time.
fn wait(place: &Place, code: &DeviceCode) -> anyhow::Result<Option<ConfirmedBy>> {
    /// A server that names no time, or too long a one, is asked in these.
    const INTERVALS_S: std::ops::RangeInclusive<u64> = 1..=60;
    /// Codes end after this time whatever the server says.
    const LIFETIME_S_MAX: u64 = 15 * 60;
    let seconds = |given: u64| given.clamp(*INTERVALS_S.start(), *INTERVALS_S.end());
    let mut interval = Duration::from_secs(seconds(code.interval));
    let end = Instant::now() + Duration::from_secs(code.expires_in.min(LIFETIME_S_MAX));
    while Instant::now() + interval < end {
        // A little more, so that a clock that is a little off does not ask too soon.
        sleep(interval + Duration::from_millis(50));
        match place.standing(code)? {
            Standing::Waits => {}
            Standing::Slower(millis) => {
                interval = Duration::from_secs(seconds(millis.div_ceil(1000)));
            }
            Standing::Confirmed(by) => return Ok(Some(by)),
        }
    }
    Ok(None)
}

/// Tells whether it is the person who is expected, or whom the person at the terminal accepts.
fn is_right(by: &ConfirmedBy, expected: Option<&str>, name: &str) -> anyhow::Result<bool> {
    match expected {
        Some(expected) => Ok(by.name == expected || by.user.0 == expected),
        None => prompt::confirm(&format!("Go on as `{name}`? Type yes: ")),
    }
}

fn status(out: &mut Output) -> anyhow::Result<Exit> {
    let login = Login::read(StateDir::open_or_create()?.path())?;
    let here = login.here()?;
    let known = SignedIn {
        name: &here.name,
        ..SignedIn::of(&login)
    };
    out.value(&known, SignedIn::text)?;
    Ok(Exit::Yes)
}

/// Runs `logout`.
///
/// # Errors
/// When nobody is signed in, or the file cannot be removed.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn out(args: OutArgs, out: &mut Output) -> anyhow::Result<Exit> {
    #[derive(Serialize)]
    struct SignedOut {
        signed_out: bool,
        /// Whether the server knows it, too.
        told: bool,
    }
    out.set_json(args.json);
    let state = StateDir::open_or_create()?;
    let login = Login::read(state.path())?;
    let told = login.sign_out(state.path())?;
    if let Err(error) = &told {
        out.note(format_args!(
            "stockade: the server was not told ({}); end the sign-in on the page of your account",
            safe(&stockade_types::chain(error))
        ));
    }
    let done = SignedOut {
        signed_out: true,
        told: told.is_ok(),
    };
    out.value(&done, |_| "signed out".to_owned())?;
    Ok(Exit::Yes)
}
