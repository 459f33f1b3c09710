//! `stockade serve channel` and `mail`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::bail;
use stockade_control::{
    notice::{Channel, Form, Kind},
    notify::{MailSettings, MailTls},
    provision,
    state::ChannelRow,
};

use super::people::{authorities, text_of};
use crate::{exit::Exit, human::safe, output::Output};

/// Bytes of an address, and of a password.
const WORD_BYTES_MAX: u64 = 4 << 10;
/// Ports for TLS from the beginning, and for STARTTLS.
const IMPLICIT_PORT: u16 = 465;
const STARTTLS_PORT: u16 = 587;

#[derive(Debug, clap::Args)]
#[command(after_help = "A channel hears of these kinds:\n  \
    question.waiting  a question waits for people in a role\n  \
    case.escalated    a stage takes long and asks others, too\n  \
    glass.broken      one person has overridden all stages\n  \
    rollout.halted    a rollout was halted\n  \
    bundle.refused    a machine cannot use a policy\n  \
    finding.high      a finding of high severity\n\n\
    A server that runs tells it from now on. The last line of a webhook is the secret with which its messages are \
    signed; it is shown this once.\n\n\
    Examples:\n  stockade serve channel --data /srv/stockade --name pager --form webhook \\\n    \
    --to https://hooks.example.org/stockade --kind question.waiting --kind glass.broken --role security\n  \
    stockade serve channel --data /srv/stockade --name chat --form slack --to-file /root/slack-url \\\n    \
    --kind rollout.halted")]
pub(super) struct ChannelArgs {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Show the channels
    #[arg(long, conflicts_with_all = ["name", "form", "to", "to_file", "kind", "remove"])]
    list: bool,
    /// Remove a channel, and what waits for it
    #[arg(long, value_name = "ID", conflicts_with_all = ["name", "form", "to", "to_file", "kind"])]
    remove: Option<String>,
    /// What the channel is called
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "remove"])]
    name: Option<String>,
    /// How it is told: `webhook`, `slack`, `mattermost`, `teams` or `mail`
    #[arg(long, value_name = "FORM", required_unless_present_any = ["list", "remove"], value_parser = form_of)]
    form: Option<Form>,
    /// Address of HTTPS, or of mail
    #[arg(long, value_name = "ADDRESS", conflicts_with = "to_file")]
    to: Option<String>,
    /// File with the address: that of a chat is a secret
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
    /// What it hears of; may be repeated
    #[arg(long, value_name = "KIND", required_unless_present_any = ["list", "remove"], value_parser = kind_of)]
    kind: Vec<Kind>,
    /// Of questions, only those that ask this role; may be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// Tell what lists of the pages show of a request or finding, too: hosts, commands, paths
    #[arg(long)]
    details: bool,
    /// Let the receiver be in a private network
    #[arg(long)]
    private: bool,
    /// Authorities by which the receiver is known, PEM; without it those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The relay is asked first, and nothing changes if it does not answer as it has to or does not take \
    the login. Nothing is sent without TLS. It counts from the next message on; a server that runs need not be \
    started again.\n\n\
    Example:\n  stockade serve mail --data /srv/stockade --host mail.example.org --from stockade@example.org \\\n    \
    --user stockade --password-file /root/mail-password --domain example.org"
)]
pub(super) struct MailArgs {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Forget the relay
    #[arg(long, conflicts_with_all = ["host", "from"])]
    off: bool,
    /// Name or address of the relay
    #[arg(long, value_name = "HOST", required_unless_present = "off")]
    host: Option<String>,
    /// Its port; without it 587, or 465 with `--implicit-tls`
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// TLS from the beginning of the connection, in place of STARTTLS
    #[arg(long)]
    implicit_tls: bool,
    /// Address from which mail comes
    #[arg(long, value_name = "ADDRESS", required_unless_present = "off")]
    from: Option<String>,
    /// Name under which the relay knows this server
    #[arg(long, value_name = "NAME", requires = "password_file")]
    user: Option<String>,
    /// File with the password for it
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,
    /// Domain in which people may name addresses for themselves; may be repeated
    #[arg(long, value_name = "DOMAIN")]
    domain: Vec<String>,
    /// Let the relay be in a private network
    #[arg(long)]
    private: bool,
    /// Authorities by which the relay is known, PEM; without it those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

fn form_of(word: &str) -> Result<Form, String> {
    Form::of_word(word).ok_or_else(|| "expected webhook, slack, mattermost, teams or mail".into())
}

fn kind_of(word: &str) -> Result<Kind, String> {
    let words: Vec<&str> = Kind::ALL.iter().map(|(_, word, _)| *word).collect();
    Kind::of_word(word).ok_or_else(|| format!("expected {}", words.join(", ")))
}

/// Adds, shows or removes channels.
pub(super) fn channel(args: ChannelArgs, out: &mut Output) -> anyhow::Result<Exit> {
    if let Some(id) = &args.remove {
        if provision::remove_channel(&args.data, id)? {
            out.note("the channel is told no more");
            return Ok(Exit::Yes);
        }
        bail!("there is no channel `{}`; `--list` shows them", safe(id));
    }
    if args.list {
        for row in provision::channels(&args.data)? {
            if row.owner.is_none() {
                out.line(safe(&line(&row)))?;
            }
        }
        return Ok(Exit::Yes);
    }
    let to = match (args.to, args.to_file) {
        (Some(to), None) => to,
        (None, Some(file)) => text_of(&file, WORD_BYTES_MAX)?.trim().to_owned(),
        (None | Some(_), _) => bail!("give the address of the receiver: `--to` or `--to-file`"),
    };
    let Some(form) = args.form else {
        return Ok(Exit::Usage);
    };
    let channel = Channel {
        name: args.name.unwrap_or_default(),
        form,
        to,
        kinds: args.kind.into_iter().collect::<BTreeSet<_>>(),
        roles: args.role.into_iter().collect(),
        details: args.details,
        private: args.private,
        authorities: authorities(args.ca)?,
    };
    let row = provision::add_channel(&args.data, channel)?;
    out.note(format_args!("channel {} is told from now on", row.id));
    if !row.secret.is_empty() {
        out.line(&row.secret)?;
    }
    Ok(Exit::Yes)
}

fn line(row: &ChannelRow) -> String {
    let channel = &row.channel;
    let kinds: Vec<&str> = channel.kinds.iter().map(|kind| kind.word()).collect();
    let roles: Vec<&str> = channel.roles.iter().map(String::as_str).collect();
    let roles = if roles.is_empty() {
        "all".to_owned()
    } else {
        roles.join(",")
    };
    format!(
        "{}  {}  {} {}  kinds {}  roles {roles}",
        row.id,
        channel.name,
        channel.form.word(),
        channel.shown(),
        kinds.join(",")
    )
}

/// Sets or forgets the relay of mail.
pub(super) fn mail(args: MailArgs, out: &mut Output) -> anyhow::Result<Exit> {
    if args.off {
        let was_there = provision::remove_mail(&args.data)?;
        out.note(if was_there {
            "the server sends no mail any more"
        } else {
            "there was no relay"
        });
        return Ok(Exit::Yes);
    }
    let password = |file: &Path| text_of(file, WORD_BYTES_MAX);
    let password = args.password_file.as_deref().map(password).transpose()?;
    let password = password.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let usual = if args.implicit_tls {
        IMPLICIT_PORT
    } else {
        STARTTLS_PORT
    };
    let settings = MailSettings {
        host: args.host.unwrap_or_default(),
        port: args.port.unwrap_or(usual),
        tls: if args.implicit_tls {
            MailTls::Implicit
        } else {
            MailTls::Starttls
        },
        login: args.user.zip(password),
        from: args.from.unwrap_or_default(),
        domains: args.domain,
        private: args.private,
        authorities: authorities(args.ca)?,
    };
    provision::set_mail(&args.data, &settings)?;
    out.note("the relay takes mail of this server");
    Ok(Exit::Yes)
}
