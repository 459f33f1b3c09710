//! `stockade enrol`: makes this machine one of an organisation.

use std::io::{BufReader, Read};

use anyhow::{Context as _, bail};
use serde::Serialize;
use stockade_journal::SigningKey;
use stockade_node::{Enrol, EnrolJob, EnrolToken, Enrolment, Install, enrol, enrol_job};
use stockade_types::Digest;

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
    Examples:\n  stockade enrol stk1.eyJ1cmwi…\n  stockade enrol https://stockade.example.org:7443 - < token\n  \
    stockade enrol https://stockade.example.org:7443 --ca sha256:5b1e… --oidc-token token.jwt"
)]
pub(crate) struct Args {
    /// The token, or `-` for standard input; before it the address of the server, if it is not the
    /// one in the token
    #[arg(value_name = "[URL] TOKEN", num_args = 1..=2, required = true)]
    words: Vec<String>,
    /// The token of a job instead, from its platform: a file, or `-` for standard input; before it the
    /// address of the server
    #[arg(long, value_name = "FILE", requires = "ca", conflicts_with = "name")]
    oidc_token: Option<String>,
    /// SHA-256 of the certificate of the server's authority, by which a job knows the server
    #[arg(long, value_name = "DIGEST", requires = "oidc_token", value_parser = digest)]
    ca: Option<Digest>,
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

/// Bytes of a token that are read; one of a job is the longest.
const TOKEN_BYTES_MAX: u64 = 20 << 10;

/// Runs the command.
///
/// # Errors
/// When the machine was not enrolled.
#[expect(
    clippy::needless_pass_by_value,
    reason = "every command has this signature"
)]
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let enrolment = match (&args.oidc_token, args.ca) {
        (Some(token), Some(ca)) => by_job(&args.words, token, ca)?,
        (Some(_) | None, _) => by_token(&args)?,
    };
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
    // The machine of a job sends its records by itself (`node flush`), and ends with the job.
    if args.no_agent || args.oidc_token.is_some() {
        out.note(
            "`stockade node run` keeps it connected; what sessions record from now on is sent",
        );
        return Ok(Exit::Yes);
    }
    start_agent(out)
}

fn start_agent(out: &mut Output) -> anyhow::Result<Exit> {
    match background::start(StateDir::open()?.path())? {
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

/// Reads a digest, with or without the name of its kind.
fn digest(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    digits.parse::<Digest>().map_err(|error| error.to_string())
}

/// Enrols with the token of a job.
fn by_job(words: &[String], token: &str, ca: Digest) -> anyhow::Result<Enrolment> {
    let [url] = words else {
        bail!("expected the address of the server alone, beside `--oidc-token`");
    };
    let token = if token == "-" {
        read_token(&mut std::io::stdin().lock())?
    } else {
        let shown = safe(token).clone();
        let file = std::fs::File::open(token).with_context(|| format!("cannot open `{shown}`"))?;
        read_token(&mut BufReader::new(file))?
    };
    let state = StateDir::open_or_create()?;
    let key = SigningKey::load_or_create(&state.key_path())?;
    Ok(enrol_job(EnrolJob {
        state: state.path(),
        token: token.trim(),
        url,
        ca,
        facts: facts(state.path()),
        journal_key: key.verifying_key().to_string(),
        install: Install::User,
    })?)
}

/// Enrols with a token of the server.
fn by_token(args: &Args) -> anyhow::Result<Enrolment> {
    let (url, token) = match args.words.as_slice() {
        [token] => (None, token.as_str()),
        [url, token] => (Some(url.as_str()), token.as_str()),
        _ => bail!("expected a token, or an address and a token"),
    };
    let token: EnrolToken = if token == "-" {
        read_token(&mut std::io::stdin().lock())?.parse()?
    } else {
        token.parse()?
    };
    let state = StateDir::open_or_create()?;
    let key = SigningKey::load_or_create(&state.key_path())?;
    let facts = facts(state.path());
    Ok(enrol(Enrol {
        state: state.path(),
        token: &token,
        url,
        name: args.name.clone().unwrap_or_else(|| facts.hostname.clone()),
        facts,
        journal_key: key.verifying_key().to_string(),
        install: Install::User,
    })?)
}

fn read_token(from: &mut impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    let read = from.take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.context("cannot read the token")?;
    Ok(text)
}
