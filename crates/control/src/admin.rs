//! What the command line of the server does: each call is whole, and works beside a running server.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use stockade_api::{EnrolToken, limits::ENROL_TOKEN_MS_MAX};
use stockade_trust::TeamId;
use stockade_types::UnixMillis;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

use crate::{
    ControlError, Options, Server,
    authority::Authority,
    clock::now,
    data::{DataDir, Settings},
    enrolling, random,
    roles::HeldRole,
    serve,
    state::{EnrolTokenRow, LinkKind, LinkRow, State, TokenRow, UserRow},
};

/// How long the link of the first administrator works.
pub const SETUP_MS: u64 = 15 * 60 * 1_000;
/// How long a token of a program works at most.
pub const TOKEN_MS_MAX: u64 = 90 * DAY_MS;
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
/// What the token of a program begins with: scanners for secrets find it by that.
const TOKEN_PREFIX: &str = "stkt_";
/// Tokens for enrolment that are made at once.
const ENROL_TOKENS_MAX: u32 = 10_000;
/// Bytes of a name or role.
const WORD_BYTES_MAX: usize = 64;

pub(crate) fn runtime() -> Result<Runtime, ControlError> {
    let built = Builder::new_multi_thread().enable_all().build();
    built.map_err(|error| ControlError::Work(error.to_string()))
}

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
/// As [`serve`].
pub fn run(
    path: &Path,
    options: Options,
    ready: impl FnOnce(&Arc<Server>),
) -> Result<(), ControlError> {
    runtime()?.block_on(async {
        let failed = |error: std::io::Error| ControlError::Work(error.to_string());
        let mut end = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let stop = async {
            tokio::select! {
                _ = end.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(path, options, ready, stop).await
    })
}

/// Makes the directory of a server, or takes one that has no administrator yet; returns the link by which a
/// person becomes the first one.
///
/// # Errors
/// When there is an administrator, or files cannot be written.
pub fn init(path: &Path, settings: &Settings) -> Result<String, ControlError> {
    let (data, settings) = match DataDir::open(path) {
        Err(ControlError::NotInitialised { .. }) => {
            (DataDir::init(path, settings)?, settings.clone())
        }
        opened => opened?,
    };
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let is_admin =
            |user: &UserRow| user.is_active && user.roles.iter().any(|role| role == "admin");
        if state.users().await?.iter().any(is_admin) {
            return Err(ControlError::Wrong {
                path: path.to_owned(),
                what: "has an administrator; people are invited on the page `People`".to_owned(),
            });
        }
        let (secret, now) = (random::secret()?, now());
        let link = LinkRow {
            kind: LinkKind::Setup,
            name: String::new(),
            roles: vec!["admin".to_owned()],
            created_by: String::new(),
            expires: UnixMillis(now.0.saturating_add(SETUP_MS)),
        };
        state.add_link(&random::hash(&secret), &link, now).await?;
        state.close().await;
        let port = data
            .running()
            .map_or(settings.listen.port(), |running| running.web.port());
        Ok(format!("{}/setup?token={secret}", settings.origin(port)))
    })
}

/// Makes a token by which a program uses the server as `role`; it is not kept, and cannot be shown again.
///
/// # Errors
/// When a name is not accepted, or the state cannot be written.
pub fn token(
    path: &Path,
    (role, team): (&str, Option<&str>),
    name: &str,
    days: u32,
) -> Result<String, ControlError> {
    word("the role", role)?;
    word("the name", name)?;
    let lasts = u64::from(days).saturating_mul(DAY_MS);
    if lasts == 0 || lasts > TOKEN_MS_MAX {
        return Err(ControlError::Value {
            what: "the days",
            value: days.to_string(),
            expected: "1 to 90",
        });
    }
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let held = HeldRole {
            role: role.to_owned(),
            team: team_named(&state, team).await?,
        };
        // As whoever reads it later does.
        let held = held.to_string().parse::<HeldRole>();
        let held = held.map_err(|_| ControlError::Value {
            what: "the role",
            value: role.chars().take(80).collect(),
            expected: "the name of a role, and with a team one that is not about the whole organisation",
        })?;
        let (text, now) = (format!("{TOKEN_PREFIX}{}", random::secret()?), now());
        let row = TokenRow {
            id: random::name("t-")?,
            name: name.to_owned(),
            role: held.to_string(),
            created_by: String::new(),
            created: now,
            expires: UnixMillis(now.0.saturating_add(lasts)),
            last_used: None,
            revoked: None,
        };
        state.add_token(&random::hash(&text), &row).await?;
        state.close().await;
        Ok(text)
    })
}

/// What a token for enrolment is made for.
#[derive(Clone, Debug)]
pub struct Enrolling {
    /// The name of the person whose machine it is.
    pub owner: Option<String>,
    /// The name of the team that it will belong to.
    pub team: Option<String>,
    /// How long it works, in minutes.
    pub minutes: u32,
    /// Where machines reach the server; `None` for its host and port.
    pub url: Option<String>,
    /// How many tokens.
    pub count: u32,
}

/// Makes tokens by each of which one machine enrols.
///
/// # Errors
/// When there is no such person, they would work for longer than a day, they are too many, or the state
/// cannot be written.
pub fn enrol_tokens(path: &Path, enrolling: &Enrolling) -> Result<Vec<EnrolToken>, ControlError> {
    if enrolling.count == 0 || enrolling.count > ENROL_TOKENS_MAX {
        return Err(ControlError::Value {
            what: "the count",
            value: enrolling.count.to_string(),
            expected: "1 to 10000",
        });
    }
    let lasts = u64::from(enrolling.minutes).saturating_mul(60_000);
    if lasts == 0 || lasts > ENROL_TOKEN_MS_MAX {
        return Err(ControlError::Value {
            what: "the minutes",
            value: enrolling.minutes.to_string(),
            expected: "1 to 1440",
        });
    }
    let (data, settings) = DataDir::open(path)?;
    let authority = Authority::load(&data.keys_path(), &settings.org)?;
    let url = enrolling.url.clone().unwrap_or_else(|| {
        let running = data.running();
        let port = running.map_or(settings.node_listen.port(), |running| running.node.port());
        settings.node_url(port)
    });
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let owner = match &enrolling.owner {
            None => None,
            Some(name) => {
                let user = state.user_named(name).await?;
                let user = user.ok_or_else(|| ControlError::Value {
                    what: "the owner",
                    value: name.chars().take(80).collect(),
                    expected: "the name of a person of the organisation; the page `People` lists them",
                })?;
                Some(user.id)
            }
        };
        let team = team_named(&state, enrolling.team.as_deref()).await?;
        let row = EnrolTokenRow {
            owner,
            team,
            created_by: String::new(),
            expires: UnixMillis(now().0.saturating_add(lasts)),
        };
        let at = (authority.digest(), url);
        let made = enrolling::issue(&state, at, &row, enrolling.count).await;
        state.close().await;
        made
    })
}

/// Finds a team by its name.
pub(crate) async fn team_named(
    state: &State,
    name: Option<&str>,
) -> Result<Option<TeamId>, ControlError> {
    let Some(name) = name else {
        return Ok(None);
    };
    let team = state.team_named(name).await?;
    let team = team.ok_or_else(|| ControlError::Value {
        what: "the team",
        value: name.chars().take(80).collect(),
        expected: "the name of a team; the page `People` lists them",
    })?;
    Ok(Some(team.id))
}

/// Copies the directory of a server, which may run, to a new directory `to`. The copy is the directory of a
/// server itself. First the state and then the journals are copied, so that the copy has every byte that its
/// state has receipted.
///
/// # Errors
/// When `to` exists, or something cannot be read or written.
pub fn backup(path: &Path, to: &Path) -> Result<(), ControlError> {
    let (data, settings) = DataDir::open(path)?;
    fs::DirBuilder::new()
        .mode(0o700)
        .create(to)
        .map_err(ControlError::file("create", to))?;
    let copy = to.join("state.db");
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        state.copy_to(&copy).await?;
        state.close().await;
        Ok::<_, ControlError>(())
    })?;
    for name in ["keys", "evidence", "server-journal"] {
        copy_tree(&path.join(name), &to.join(name))?;
    }
    // Last: a directory without settings is no server.
    copy_file(&path.join("server.json"), &to.join("server.json"))
}

/// Makes the directory `path` of a server of the backup `from`, which is checked first.
///
/// # Errors
/// When the backup is not whole, `path` exists, or something cannot be read or written.
pub fn restore(path: &Path, from: &Path) -> Result<(), ControlError> {
    let (data, settings) = DataDir::open(from)?;
    let _lease = data.lease()?;
    crate::keys::SigningKeys::load(&data.keys_path())?;
    Authority::load(&data.keys_path(), &settings.org)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let checked = state.check().await;
        state.close().await;
        checked
    })?;
    backup(from, path)
}

/// Copies a directory with what is in it; links are not followed and not copied.
fn copy_tree(from: &Path, to: &Path) -> Result<(), ControlError> {
    let mut open: Vec<(PathBuf, PathBuf)> = vec![(from.to_owned(), to.to_owned())];
    while let Some((from, to)) = open.pop() {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&to)
            .map_err(ControlError::file("create", &to))?;
        let entries = fs::read_dir(&from).map_err(ControlError::file("read", &from))?;
        for entry in entries {
            let entry = entry.map_err(ControlError::file("read", &from))?;
            let kind = entry
                .file_type()
                .map_err(ControlError::file("read", entry.path()))?;
            let target = to.join(entry.file_name());
            if kind.is_dir() {
                open.push((entry.path(), target));
            } else if kind.is_file() {
                copy_file(&entry.path(), &target)?;
            }
        }
    }
    Ok(())
}

/// Copies a file with its mode, and waits until it is on the disk. One that is gone meanwhile was a
/// temporary one.
fn copy_file(from: &Path, to: &Path) -> Result<(), ControlError> {
    match fs::copy(from, to) {
        Ok(_) => fs::File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(ControlError::file("sync", to)),
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && from.extension().is_some_and(|end| end == "new") =>
        {
            Ok(())
        }
        Err(error) => Err(ControlError::file("copy", from)(error)),
    }
}

fn word(what: &'static str, text: &str) -> Result<(), ControlError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(is_word) {
        return Ok(());
    }
    Err(ControlError::Value {
        what,
        value: text.chars().take(80).collect(),
        expected: "1 to 64 of the characters A-Z a-z 0-9 - _ .",
    })
}
