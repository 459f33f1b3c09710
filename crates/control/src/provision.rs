//! What the command line says about the provider of people, the platforms of jobs, tokens that are there, and
//! over which channels people are told. Each call is whole.

use std::path::Path;

pub use stockade_trust::oidc::ClaimPattern;
use stockade_types::Digest;

use crate::{
    ControlError,
    admin::{runtime, team_named},
    authority::Authority,
    clock::now,
    data::{DataDir, Settings},
    notice::Channel,
    notify::{self, MailSettings},
    oidc::{Client, EnrolRule, OidcSettings, Provider, RULES_MAX, redirect},
    random,
    state::{ChannelRow, RuleRow, State, TokenRow},
};

/// Sets the provider at which people sign in, once it has answered as it has to; a server that runs has to be
/// started again. Returns where the provider sends browsers back, which it has to be told.
///
/// # Errors
/// When the settings are not accepted, the provider does not answer, or they cannot be written.
pub fn set_oidc(path: &Path, oidc: &OidcSettings) -> Result<String, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    oidc.check()?;
    runtime()?.block_on(probe(oidc))?;
    oidc.write(&data.keys_path())?;
    Ok(redirect(&settings.origin(web_port(&data, &settings))))
}

/// Forgets the provider; people sign in with passkeys and passwords alone.
///
/// # Errors
/// When there is no server in the directory, or the settings cannot be removed. `Ok(false)` if there were
/// none.
pub fn remove_oidc(path: &Path) -> Result<bool, ControlError> {
    let (data, _) = DataDir::open(path)?;
    OidcSettings::remove(&data.keys_path())
}

/// Tells whether a provider answers as it has to.
pub(crate) async fn probe(oidc: &OidcSettings) -> Result<(), ControlError> {
    let failed = |error: crate::oidc::OidcError| ControlError::Work(error.to_string());
    let client = Client::new(oidc.clone()).await.map_err(failed)?;
    client.probe().await.map_err(failed)
}

fn web_port(data: &DataDir, settings: &Settings) -> u16 {
    let running = data.running();
    running.map_or(settings.listen.port(), |running| running.web.port())
}

/// A rule that was added, and what a job needs beside its token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// Names the rule.
    pub id: String,
    /// Where machines reach the server.
    pub url: String,
    /// SHA-256 of the certificate of the server's authority, by which a job knows it.
    pub ca: Digest,
}

/// Adds a rule by which jobs enrol machines, once its issuer has answered as it has to.
///
/// # Errors
/// When the rule is not accepted, there is no team of this name, its issuer does not answer, there are too many
/// rules, or the state cannot be written.
pub fn add_rule(path: &Path, rule: &EnrolRule, team: Option<&str>) -> Result<Added, ControlError> {
    rule.check()?;
    let (data, settings) = DataDir::open(path)?;
    let authority = Authority::load(&data.keys_path(), &settings.org)?;
    let running = data.running();
    let port = running.map_or(settings.node_listen.port(), |running| running.node.port());
    runtime()?.block_on(async {
        let authorities = rule.authorities.clone();
        let provider = Provider::new(&rule.issuer, authorities, rule.private).await;
        let published = match provider {
            Ok(provider) => provider.published().await,
            Err(error) => Err(error),
        };
        published.map_err(|error| ControlError::Work(error.to_string()))?;
        let state = State::open(&data.state_path(), &settings.org).await?;
        let row = RuleRow {
            id: random::name("r-")?,
            rule: EnrolRule {
                team: team_named(&state, team).await?,
                ..rule.clone()
            },
            created: now(),
        };
        let added = state.add_rule(&row).await;
        state.close().await;
        if !added? {
            return Err(ControlError::Value {
                what: "the rules",
                value: format!("{RULES_MAX} are there"),
                expected: "at most 64; remove one with `--remove ID`",
            });
        }
        Ok(Added {
            id: row.id,
            url: format!("https://{}:{port}", settings.host),
            ca: authority.digest(),
        })
    })
}

/// Returns the rules by which jobs enrol machines.
///
/// # Errors
/// When the state cannot be read.
pub fn rules(path: &Path) -> Result<Vec<RuleRow>, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let rules = state.rules().await;
        state.close().await;
        rules
    })
}

/// Removes a rule.
///
/// # Errors
/// When the state cannot be written. `Ok(false)` if there is no such rule.
pub fn remove_rule(path: &Path, id: &str) -> Result<bool, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let removed = state.remove_rule(id, now()).await;
        state.close().await;
        removed
    })
}

/// Returns the tokens of programs, the newest first.
///
/// # Errors
/// When the state cannot be read.
pub fn tokens(path: &Path) -> Result<Vec<TokenRow>, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let tokens = state.tokens().await;
        state.close().await;
        tokens
    })
}

/// Lets a token of a program work no more.
///
/// # Errors
/// When the state cannot be written. `Ok(false)` if there is none of this id that works.
pub fn revoke_token(path: &Path, id: &str) -> Result<bool, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let revoked = state.revoke_token(id, "", now()).await;
        state.close().await;
        revoked
    })
}

/// Adds a channel; a server that runs tells it from now on. Returns it with the secret by which a webhook is
/// signed.
///
/// # Errors
/// When it is not accepted, there are too many, or the state cannot be written.
pub fn add_channel(path: &Path, channel: Channel) -> Result<ChannelRow, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let row = notify::new_row(channel).await?;
        let state = State::open(&data.state_path(), &settings.org).await?;
        let added = state.add_channel(&row, "").await;
        state.close().await;
        if added? {
            return Ok(row);
        }
        Err(notify::too_many())
    })
}

/// Returns all channels, with the mail addresses of people.
///
/// # Errors
/// When the state cannot be read.
pub fn channels(path: &Path) -> Result<Vec<ChannelRow>, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let channels = state.channels().await;
        state.close().await;
        channels
    })
}

/// Removes a channel, and what waits for it.
///
/// # Errors
/// When the state cannot be written. `Ok(false)` if there is no such channel.
pub fn remove_channel(path: &Path, id: &str) -> Result<bool, ControlError> {
    let (data, settings) = DataDir::open(path)?;
    runtime()?.block_on(async {
        let state = State::open(&data.state_path(), &settings.org).await?;
        let removed = state.remove_channel(id, "", now()).await;
        state.close().await;
        removed
    })
}

/// Sets the relay of mail, once it has answered as it has to and taken the login. It counts from the next
/// message on.
///
/// # Errors
/// When the settings are not accepted, the relay does not answer, or they cannot be written.
pub fn set_mail(path: &Path, mail: &MailSettings) -> Result<(), ControlError> {
    let (data, settings) = DataDir::open(path)?;
    mail.check()?;
    let probed = runtime()?.block_on(notify::probe(mail.clone(), &settings.host));
    probed.map_err(ControlError::Outside)?;
    mail.write(&data.keys_path())
}

/// Forgets the relay of mail.
///
/// # Errors
/// When the settings cannot be removed. `Ok(false)` if there were none.
pub fn remove_mail(path: &Path) -> Result<bool, ControlError> {
    let (data, _) = DataDir::open(path)?;
    MailSettings::remove(&data.keys_path())
}
