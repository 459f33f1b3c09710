//! `stockade serve oidc`, `enrol-rule`, `token` and `doctor`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use stockade_control::{
    EnrolRule, OidcSettings,
    doctor::{self, Finding, Standing},
    provision::{self, ClaimPattern},
};
use stockade_event::rfc3339;

use crate::{exit::Exit, human::safe, output::Output};

/// Bytes of a secret of a client, and of a file with authorities.
const SECRET_BYTES_MAX: u64 = 4 << 10;
const AUTHORITIES_BYTES_MAX: u64 = 128 << 10;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The provider is asked first, and nothing changes if it does not answer as it has to. Start the \
    server again afterwards. The last line is the address to which the provider sends people back; register it \
    there.\n\n\
    Example:\n  stockade serve oidc --data /srv/stockade --issuer https://login.example.org \\\n    \
    --client-id stockade --client-secret-file /root/secret --role platform-admins=admin --role dev=developer"
)]
pub(super) struct Oidc {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Forget the provider
    #[arg(long, conflicts_with_all = ["issuer", "client_id", "role"])]
    off: bool,
    /// Address of the provider, exactly as it names itself
    #[arg(long, value_name = "URL", required_unless_present = "off")]
    issuer: Option<String>,
    /// Name under which the provider knows this server
    #[arg(long, value_name = "ID", required_unless_present = "off")]
    client_id: Option<String>,
    /// File with the secret of this client; a public client has none
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// Claim with the groups of a person
    #[arg(long, value_name = "CLAIM", default_value = "groups")]
    groups_claim: String,
    /// Claim after which a new person is named
    #[arg(long, value_name = "CLAIM", default_value = "preferred_username")]
    name_claim: String,
    /// Role that a group gives; may be repeated
    #[arg(long, value_name = "GROUP=ROLE", required_unless_present = "off")]
    role: Vec<String>,
    /// Let the provider be in a private network
    #[arg(long)]
    private: bool,
    /// Authorities by which the provider is known, PEM; without it those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A job of a platform with tokens of OpenID Connect (GitHub, GitLab, Kubernetes and others) needs no \
    secret of this server: it shows the token, which works once. In a pattern `*` stands for any characters but \
    `/` and `:`, and `**` at the end for everything that follows. All patterns have to match.\n\n\
    Example:\n  stockade serve enrol-rule --data /srv/stockade --issuer https://gitlab.example.org \\\n    \
    --audience stockade --claim project_path='acme/*' --claim ref=main --person user_login"
)]
pub(super) struct Rule {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Show the rules
    #[arg(long, conflicts_with_all = ["issuer", "audience", "claim", "remove"])]
    list: bool,
    /// Remove a rule
    #[arg(long, value_name = "ID", conflicts_with_all = ["issuer", "audience", "claim"])]
    remove: Option<String>,
    /// Address of the issuer, exactly as it names itself
    #[arg(long, value_name = "URL", required_unless_present_any = ["list", "remove"])]
    issuer: Option<String>,
    /// For whom tokens have to be
    #[arg(long, value_name = "NAME", required_unless_present_any = ["list", "remove"])]
    audience: Option<String>,
    /// Claim that a token has to have; may be repeated
    #[arg(long, value_name = "NAME=PATTERN", required_unless_present_any = ["list", "remove"])]
    claim: Vec<ClaimPattern>,
    /// Claim with the name of the person who has caused the job; without it questions of the machine that need
    /// people in roles cannot be answered, because nobody can be kept from answering his own
    #[arg(long, value_name = "CLAIM")]
    person: Option<String>,
    /// The name of the team that machines of such jobs belong to
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Claim after which machines are named
    #[arg(long, value_name = "CLAIM", default_value = "sub")]
    name: String,
    /// Let the issuer be in a private network
    #[arg(long)]
    private: bool,
    /// Authorities by which the issuer is known, PEM; without it those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Directory of the server
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Sets or forgets the provider.
pub(super) fn oidc(oidc: Oidc, out: &mut Output) -> anyhow::Result<Exit> {
    if oidc.off {
        let was_there = provision::remove_oidc(&oidc.data)?;
        out.note(if was_there {
            "the provider is forgotten; start the server again"
        } else {
            "there was no provider"
        });
        return Ok(Exit::Yes);
    }
    let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in &oidc.role {
        // Names of groups may have `=`, those of roles not.
        let Some((group, role)) = pair.rsplit_once('=').filter(|(group, _)| !group.is_empty())
        else {
            bail!("`{}`: expected GROUP=ROLE", safe(pair));
        };
        roles
            .entry(group.to_owned())
            .or_default()
            .push(role.to_owned());
    }
    let secret = oidc
        .client_secret_file
        .map(|file| text_of(&file, SECRET_BYTES_MAX))
        .transpose()?;
    let settings = OidcSettings {
        issuer: oidc.issuer.unwrap_or_default(),
        client_id: oidc.client_id.unwrap_or_default(),
        client_secret: secret.map(|secret| secret.trim_end().to_owned()),
        groups_claim: oidc.groups_claim,
        name_claim: oidc.name_claim,
        roles,
        private: oidc.private,
        authorities: authorities(oidc.ca)?,
    };
    let back = provision::set_oidc(&oidc.data, &settings)?;
    out.note("register this address at the provider, then start the server again");
    out.line(back)?;
    Ok(Exit::Yes)
}

/// Adds, shows or removes rules of enrolment.
pub(super) fn rule(rule: Rule, out: &mut Output) -> anyhow::Result<Exit> {
    if let Some(id) = &rule.remove {
        if provision::remove_rule(&rule.data, id)? {
            out.note(
                "the rule is removed; machines that it let in stay until their certificate is over",
            );
            return Ok(Exit::Yes);
        }
        bail!("there is no rule `{}`; `--list` shows them", safe(id));
    }
    if rule.list {
        for row in provision::rules(&rule.data)? {
            let claims: Vec<String> = row.rule.claims.iter().map(ToString::to_string).collect();
            let person = row.rule.person.as_deref().unwrap_or("nobody");
            out.line(safe(&format!(
                "{}  {}  audience {}  {}  person {person}",
                row.id,
                row.rule.issuer,
                row.rule.audience,
                claims.join(" "),
            )))?;
        }
        return Ok(Exit::Yes);
    }
    let wanted = EnrolRule {
        issuer: rule.issuer.unwrap_or_default(),
        audience: rule.audience.unwrap_or_default(),
        claims: rule.claim,
        person: rule.person,
        name: rule.name,
        private: rule.private,
        authorities: authorities(rule.ca)?,
        team: None,
    };
    let added = provision::add_rule(&rule.data, &wanted, rule.team.as_deref())?;
    out.note(format_args!("rule {} is added; in a job:", added.id));
    out.line(format_args!(
        "stockade enrol {} --ca {} --oidc-token FILE",
        added.url, added.ca
    ))?;
    Ok(Exit::Yes)
}

/// Shows tokens of programs, or lets one work no more.
pub(super) fn tokens(data: &Path, revoked: Option<&str>, out: &mut Output) -> anyhow::Result<Exit> {
    if let Some(id) = revoked {
        if provision::revoke_token(data, id)? {
            out.note("the token works no more");
            return Ok(Exit::Yes);
        }
        bail!(
            "there is no token `{}` that works; `--list` shows them",
            safe(id)
        );
    }
    for token in provision::tokens(data)? {
        let state = if token.revoked.is_some() {
            "revoked"
        } else {
            "works"
        };
        let until = rfc3339(token.expires.0.saturating_mul(1_000_000));
        let until = until.get(..10).unwrap_or_default();
        let words = format!(
            "{}  {}  as {}  until {until}  {state}",
            token.id, token.name, token.role
        );
        out.line(safe(&words))?;
    }
    Ok(Exit::Yes)
}

/// Looks at what a server needs.
pub(super) fn doctor(args: &Doctor, out: &mut Output) -> anyhow::Result<Exit> {
    out.set_json(args.json);
    let findings = doctor::examine(&args.data)?;
    out.value(&findings, |all| {
        let lines: Vec<String> = all.iter().map(line).collect();
        lines.join("\n")
    })?;
    let is_bad = |finding: &Finding| finding.standing == Standing::Bad;
    Ok(if findings.iter().any(is_bad) {
        Exit::No
    } else {
        Exit::Yes
    })
}

fn line(finding: &Finding) -> String {
    let word = match finding.standing {
        Standing::Good => "good",
        Standing::Note => "note",
        Standing::Bad => "bad ",
    };
    let what = safe(&finding.what);
    let line = format!("{word}  {:9} {what}", finding.name);
    match &finding.remedy {
        Some(remedy) => format!("{line}\n                {}", safe(remedy)),
        None => line,
    }
}

pub(super) fn authorities(file: Option<PathBuf>) -> anyhow::Result<Option<String>> {
    file.map(|file| text_of(&file, AUTHORITIES_BYTES_MAX))
        .transpose()
}

pub(super) fn text_of(file: &Path, bytes_max: u64) -> anyhow::Result<String> {
    use std::io::Read as _;
    let shown = safe(&file.display().to_string()).clone();
    let opened = fs::File::open(file).with_context(|| format!("cannot open `{shown}`"))?;
    let mut text = String::new();
    let read = opened.take(bytes_max + 1).read_to_string(&mut text);
    read.with_context(|| format!("cannot read `{shown}`"))?;
    if u64::try_from(text.len()).is_ok_and(|read| read > bytes_max) {
        bail!("`{shown}` has more than {bytes_max} bytes");
    }
    Ok(text)
}
