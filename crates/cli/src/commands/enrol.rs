//! `stockade enrol`: makes this machine one of an organisation.

use anyhow::{Context as _, bail};
use serde::Serialize;
use stockade_journal::SigningKey;
use stockade_node::{Enrol, EnrolToken, Install, enrol};

use super::node::{
    background::{self, Started},
    facts,
};
use crate::{exit::Exit, human::safe, output::Output, state::StateDir};

/// Make this machine one of an organisation, with a token of its server.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The token comes from the server's page of its machines or from `stockade serve \
    enrol-token`. It is good once. Before its secret is sent, the server has to show a certificate of the \
    authority that the token names. Then the agent of the machine starts in the background: it sends \
    what sessions record from then on, and carries questions and answers.\n\n\
    Examples:\n  stockade enrol stk1.eyJ1cmwi…\n  stockade enrol https://stockade.example.org:7443 - < token"
)]
pub(crate) struct Args {
    /// The token, or `-` for standard input; before it the address of the server, if it is not the
    /// one in the token
    #[arg(value_name = "[URL] TOKEN", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// What people call the machine [default: its host name]
    #[arg(long)]
    name: Option<String>,
    /// Leave it to you to run the agent, by `stockade node run`
    #[arg(long)]
    no_agent: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Enrolled<'a> {
    org: &'a str,
    node: &'a str,
    name: &'a str,
    url: &'a str,
}

/// Bytes of a token that are read from standard input.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

/// Runs the command.
///
/// # Errors
/// When the machine was not enrolled.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let (url, token) = match args.words.as_slice() {
        [token] => (None, token.as_str()),
        [url, token] => (Some(url.as_str()), token.as_str()),
        _ => bail!("expected a token, or an address and a token"),
    };
    let token: EnrolToken = if token == "-" {
        read_token()?.parse()?
    } else {
        token.parse()?
    };
    let state = StateDir::open_or_create()?;
    let key = SigningKey::load_or_create(&state.key_path())?;
    let facts = facts(state.path());
    let enrolment = enrol(Enrol {
        state: state.path(),
        token: &token,
        url,
        name: args.name.unwrap_or_else(|| facts.hostname.clone()),
        facts,
        journal_key: key.verifying_key().to_string(),
        install: Install::User,
    })?;
    let enrolled = Enrolled {
        org: &enrolment.org,
        node: enrolment.node.as_str(),
        name: &enrolment.name,
        url: &enrolment.url,
    };
    out.value(&enrolled, |one| {
        format!(
            "this machine is `{}` ({}) of `{}`",
            safe(one.name),
            one.node,
            safe(one.org)
        )
    })?;
    if args.no_agent {
        out.note(
            "`stockade node run` keeps it connected; what sessions record from now on is sent",
        );
        return Ok(Exit::Yes);
    }
    match background::start(state.path())? {
        Started::Connected => out.note(
            "its agent runs in the background and is connected; after a restart of the machine \
             `stockade node run` starts it, and `stockade node stop` ends it",
        ),
        Started::Trying(log) => out.note(format_args!(
            "its agent runs in the background, but is not connected yet; `{}` says why, and `stockade node \
             status` says when it is",
            safe(&log.display().to_string())
        )),
    }
    Ok(Exit::Yes)
}

fn read_token() -> anyhow::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let stdin = std::io::stdin().lock();
    let read = stdin.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.context("cannot read the token from standard input")?;
    Ok(text)
}
