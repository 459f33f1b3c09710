//! `stockade serve`: the server of an organisation.

mod notify;
mod people;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use stockade_control::{ControlError, Options, Settings, admin};
use stockade_types::chain;

use crate::{exit::Exit, human::safe, output::Output};

/// Serve an organisation: keep the journals of its machines, ask its people, say its policy.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  stockade serve init --data ~/stockade-server --start\n  \
    stockade serve init --data /srv/stockade --host stockade.example.org\n  \
    stockade serve --data /srv/stockade --listen 0.0.0.0:7444 --node-listen 0.0.0.0:7443\n  \
    stockade serve enrol-token --data /srv/stockade --owner lee"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Directory of the server
    #[arg(long, value_name = "DIR", required = true)]
    data: Option<PathBuf>,
    /// Where pages are served; without it as `init` was told
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Where machines are served; without it as `init` was told
    #[arg(long, value_name = "ADDR")]
    node_listen: Option<SocketAddr>,
    /// Certificate for pages, PEM; without it the server's own authority makes one
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Key of that certificate, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make the directory of a server; the last line is the link for the first administrator
    Init(Init),
    /// Make a token for a program; it is the last line
    Token(Token),
    /// Make tokens by each of which one machine enrols; they are the last lines
    EnrolToken(EnrolToken),
    /// Let people sign in at a provider of OpenID Connect
    Oidc(people::Oidc),
    /// Let jobs of a platform enrol machines with their tokens
    EnrolRule(people::Rule),
    /// Tell a program, a chat or a mailbox that something waits or went wrong
    Channel(notify::ChannelArgs),
    /// Set the relay that takes mail of the server
    Mail(notify::MailArgs),
    /// Look at what the server needs to work
    ///
    /// Exit codes: 0 all good, 1 something is bad
    Doctor(people::Doctor),
    /// Copy the directory of a server, which may run, to a new directory
    Backup(Backup),
    /// Make the directory of a server of a backup
    Restore(Restore),
}

#[derive(Debug, clap::Args)]
struct Init {
    /// Directory of the server; it is made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Name of the organisation
    #[arg(long, value_name = "NAME", default_value = "default")]
    org: String,
    /// Name by which people and machines reach the server; passkeys are bound to it
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// Where pages are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7444")]
    listen: SocketAddr,
    /// Where machines are served
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7443")]
    node_listen: SocketAddr,
    /// Serve at once, as `stockade serve --data DIR` does
    #[arg(long)]
    start: bool,
}

#[derive(Debug, clap::Args)]
struct Token {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// What the token may do, for example `viewer`
    #[arg(long, value_name = "ROLE", required_unless_present_any = ["list", "revoke"])]
    role: Option<String>,
    /// The name of the team for which the token has the role, if not for the whole organisation
    #[arg(long, value_name = "TEAM", requires = "role")]
    team: Option<String>,
    /// What the token is called
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "revoke"])]
    name: Option<String>,
    /// Show the tokens; their secrets are not kept
    #[arg(long, conflicts_with_all = ["role", "name", "revoke"])]
    list: bool,
    /// Let a token work no more
    #[arg(long, value_name = "ID", conflicts_with_all = ["role", "name"])]
    revoke: Option<String>,
    /// How long it works
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    days: u32,
}

#[derive(Debug, clap::Args)]
struct EnrolToken {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Whose machine it is; without an owner nobody can answer questions of the machine that need people in
    /// roles, because nobody can be kept from answering his own
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// The team that the machine belongs to; people who hold roles for this team see it and answer its questions
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// How long it works
    #[arg(long, value_name = "MINUTES", default_value_t = 60)]
    minutes: u32,
    /// Where the machine reaches the server, if not at its host and port
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How many tokens, each for one machine; one a line
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    count: u32,
}

#[derive(Debug, clap::Args)]
struct Backup {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Directory of the copy; it is made
    to: PathBuf,
}

#[derive(Debug, clap::Args)]
struct Restore {
    /// Directory of the server; it is made
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Directory of the copy
    from: PathBuf,
}

/// Runs the command.
///
/// # Errors
/// When the server cannot do what is asked.
pub(crate) fn run(args: Args, out: &mut Output) -> anyhow::Result<Exit> {
    match args.command {
        None => {
            let Some(data) = args.data else {
                return Ok(Exit::Usage);
            };
            let options = Options {
                listen: args.listen,
                node_listen: args.node_listen,
                certificate: args.certificate.zip(args.key),
                report: None,
            };
            serve(&data, options, out)
        }
        Some(Command::Init(init)) => {
            let settings = Settings {
                org: init.org,
                host: init.host,
                listen: init.listen,
                node_listen: init.node_listen,
            };
            let link = admin::init(&init.data, &settings)?;
            let first = if init.start {
                ""
            } else {
                "start the server, then "
            };
            out.note(format_args!(
                "{first}open the link in a browser; it works once, for 15 minutes. If it is too late, \
                 `serve init` makes another one"
            ));
            out.line(link)?;
            if init.start {
                return serve(&init.data, Options::default(), out);
            }
            Ok(Exit::Yes)
        }
        Some(Command::Token(token)) => made_token(&token, out),
        Some(Command::EnrolToken(token)) => {
            let enrolling = admin::Enrolling {
                owner: token.owner,
                team: token.team,
                minutes: token.minutes,
                url: token.url,
                count: token.count,
            };
            let made = admin::enrol_tokens(&token.data, &enrolling)?;
            out.note("on the machine: `stockade enrol` and the token; each works once");
            for token in made {
                out.line(token)?;
            }
            Ok(Exit::Yes)
        }
        Some(Command::Oidc(oidc)) => people::oidc(oidc, out),
        Some(Command::EnrolRule(rule)) => people::rule(rule, out),
        Some(Command::Channel(channel)) => notify::channel(channel, out),
        Some(Command::Mail(mail)) => notify::mail(mail, out),
        Some(Command::Doctor(doctor)) => people::doctor(&doctor, out),
        Some(Command::Backup(backup)) => {
            admin::backup(&backup.data, &backup.to)?;
            out.note(format_args!(
                "copied to {}; it holds the keys of the server: keep it as safe as the server",
                safe(&backup.to.display().to_string())
            ));
            Ok(Exit::Yes)
        }
        Some(Command::Restore(restore)) => {
            admin::restore(&restore.data, &restore.from)?;
            Ok(Exit::Yes)
        }
    }
}

fn made_token(token: &Token, out: &mut Output) -> anyhow::Result<Exit> {
    let data = &token.data;
    match (&token.role, &token.name) {
        (Some(role), Some(name)) => {
            let held = (role.as_str(), token.team.as_deref());
            out.line(admin::token(data, held, name, token.days)?)?;
            Ok(Exit::Yes)
        }
        (None | Some(_), _) => people::tokens(data, token.revoke.as_deref(), out),
    }
}

fn serve(data: &Path, options: Options, out: &mut Output) -> anyhow::Result<Exit> {
    let report = |error: &ControlError| {
        // The command prints in one place, and that is borrowed by whoever waits here.
        Output::detect().note(format_args!("stockade: {}", safe(&chain(error))));
    };
    let options = Options {
        report: Some(Box::new(report)),
        ..options
    };
    admin::run(data, options, |server| {
        let origin = server.settings.origin(server.running.web.port());
        out.note(format_args!(
            "pages on {} ({origin}), machines on {}; ctrl-c ends it",
            server.running.web, server.running.node
        ));
    })?;
    Ok(Exit::Yes)
}
