//! Who makes a request: a person with a session of this server in a cookie or in a terminal, or a program
//! with a token.

use axum::http::{HeaderMap, HeaderValue, header};
use stockade_api::terminal::TERMINAL_TOKEN_PREFIX;
use stockade_trust::{Role, UserId};
use stockade_types::UnixMillis;

use super::{Web, problem::Problem};
use crate::{
    clock, random,
    roles::{HeldRole, TeamRole},
    state::WebSessionRow,
};

/// The cookie of a session. Browsers take a cookie of this prefix only from the host itself, for all of its
/// paths, and over TLS.
const COOKIE: &str = "__Host-stockade";
/// The cookie by which the browser is known again that has begun an attempt to sign in at a provider. It comes
/// along from the page of the provider, so it is `Lax`; it opens nothing by itself.
pub(super) const ATTEMPT_COOKIE: &str = "__Host-stockade-attempt";
/// Bytes of it; ours have 43.
const ATTEMPT_BYTES_MAX: usize = 64;
/// A session ends after this time: a working day.
const LIFETIME_S: u64 = 12 * 60 * 60;
/// How old a sign-in may be for votes, and for changes of people, machines and policy.
pub(crate) const FRESH_MS: u64 = 5 * 60 * 1000;
/// What tokens of programs begin with, so that scanners for secrets know them.
pub(crate) const TOKEN_PREFIX: &str = "stkt_";
/// Bytes of what a cookie or a token may hold; ours have 43.
const SECRET_BYTES_MAX: usize = 200;

/// How a person has signed in; the words are kept in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// With a passkey.
    Passkey,
    /// With a password.
    Password,
    /// With a password and a code.
    PasswordAndCode,
}

impl Method {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Passkey => "passkey",
            Self::Password => "password",
            Self::PasswordAndCode => "password+totp",
        }
    }
}

/// How the caller is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// By a session in a browser; the hash names it in the state.
    Browser {
        hash: String,
        /// How the person signed in.
        method: String,
    },
    /// By a token of a program.
    Token,
    /// By the token of a terminal in which the person is signed in; the id names it in the state.
    Terminal { id: String },
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The person; for a program the id of its token.
    pub(crate) user: UserId,
    pub(crate) name: String,
    /// The organisation.
    pub(crate) org: String,
    /// The roles that it holds for the whole organisation.
    pub(crate) roles: Vec<Role>,
    /// Those that it holds for one team.
    pub(crate) team_roles: Vec<TeamRole>,
    /// What every form of this session has to send.
    pub(crate) token: String,
    /// When the person last proved who it is.
    pub(crate) signed_in: UnixMillis,
    pub(crate) by: By,
}

impl Caller {
    /// Returns the token of a program, if a request has one.
    pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        value.strip_prefix("Bearer ")
    }

    /// Finds who makes a request.
    ///
    /// # Errors
    /// When a token is there and does not work, or the state cannot be read.
    pub(crate) async fn find(
        web: &Web,
        headers: &HeaderMap,
        token: Option<&str>,
    ) -> Result<Option<Self>, Problem> {
        if let Some(token) = token {
            if token.starts_with(TERMINAL_TOKEN_PREFIX) {
                return Self::of_terminal(web, token).await.map(Some);
            }
            return Self::of_token(web, token).await.map(Some);
        }
        let Some(secret) = cookie(headers) else {
            return Ok(None);
        };
        let state = &web.server.state;
        let found = state.web_session(&random::hash(secret), clock::now()).await;
        let Some(session) = found? else {
            return Ok(None);
        };
        let user = state.user(&session.user).await;
        let user = user?;
        let active = user.filter(|user| user.is_active);
        Ok(active.map(|user| Self {
            user: user.id,
            name: user.name,
            org: state.org().to_owned(),
            roles: user.roles.into_iter().map(Role).collect(),
            team_roles: user.team_roles,
            token: session.csrf,
            signed_in: session.signed_in,
            by: By::Browser {
                hash: session.hash,
                method: session.method,
            },
        }))
    }

    async fn of_token(web: &Web, token: &str) -> Result<Self, Problem> {
        let row = if token.starts_with(TOKEN_PREFIX) && token.len() <= SECRET_BYTES_MAX {
            let found = web
                .server
                .state
                .token(&random::hash(token), clock::now())
                .await;
            found?
        } else {
            None
        };
        let row = row.ok_or_else(Problem::signed_out)?;
        // A role that is none gives nothing.
        let held: Option<HeldRole> = row.role.parse().ok();
        let of_team = |held: HeldRole| {
            let team = held.team?;
            Some(TeamRole {
                team,
                role: held.role,
            })
        };
        Ok(Self {
            user: UserId(row.id),
            name: row.name,
            org: web.server.state.org().to_owned(),
            roles: held
                .iter()
                .filter(|held| held.team.is_none())
                .map(|held| Role(held.role.clone()))
                .collect(),
            team_roles: held.into_iter().filter_map(of_team).collect(),
            token: String::new(),
            signed_in: UnixMillis(0),
            by: By::Token,
        })
    }

    /// Finds who is signed in in a terminal.
    async fn of_terminal(web: &Web, token: &str) -> Result<Self, Problem> {
        if token.len() > SECRET_BYTES_MAX {
            return Err(Problem::signed_out());
        }
        let state = &web.server.state;
        let found = state.terminal(&random::hash(token), clock::now()).await;
        let row = found?.ok_or_else(Problem::signed_out)?;
        let user = state.user(&row.user).await?;
        let user = user
            .filter(|user| user.is_active)
            .ok_or_else(Problem::signed_out)?;
        Ok(Self {
            user: user.id,
            name: user.name,
            org: state.org().to_owned(),
            roles: user.roles.into_iter().map(Role).collect(),
            team_roles: user.team_roles,
            token: String::new(),
            signed_in: row.signed_in,
            by: By::Terminal { id: row.id },
        })
    }

    /// Tells whether the caller may use a path at all: the token of a terminal sees and answers questions,
    /// and is good for nothing else that its person may do.
    pub(crate) fn may_use(&self, path: &str) -> bool {
        let is_below = |base: &str| {
            let rest = path.strip_prefix(base);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
        };
        match self.by {
            By::Browser { .. } | By::Token => true,
            By::Terminal { .. } => is_below("/api/v1/questions") || is_below("/api/v1/terminal"),
        }
    }

    /// Tells whether the caller is a person, and no program.
    pub(crate) const fn is_person(&self) -> bool {
        match self.by {
            By::Browser { .. } | By::Terminal { .. } => true,
            By::Token => false,
        }
    }

    /// Tells whether a browser sends the request.
    pub(crate) const fn is_browser(&self) -> bool {
        matches!(self.by, By::Browser { .. })
    }

    /// Tells whether the session still exists, for a stream that stays open. A token is looked at when it
    /// connects again.
    pub(crate) async fn is_still_there(&self, web: &Web, begun: UnixMillis) -> bool {
        match &self.by {
            By::Browser { hash, .. } => {
                let found = web.server.state.web_session(hash, clock::now()).await;
                found.is_ok_and(|found| found.is_some())
            }
            By::Token | By::Terminal { .. } => {
                clock::now().0.saturating_sub(begun.0) < LIFETIME_S * 1000
            }
        }
    }

    /// Lets through a person who has proved lately who it is.
    ///
    /// # Errors
    /// When a program asks, or the person has to sign in again.
    pub(crate) fn fresh(&self, now: UnixMillis) -> Result<(), Problem> {
        if self.is_fresh(now) {
            return Ok(());
        }
        if !self.is_browser() {
            return Err(Problem::forbidden(
                "a person has to do this, in a browser",
                "sign in on the page and do it there",
            ));
        }
        Err(Problem::stale())
    }

    /// Tells whether the person has proved lately who it is.
    pub(crate) const fn is_fresh(&self, now: UnixMillis) -> bool {
        self.is_browser() && self.has_just_signed_in(now)
    }

    /// Tells whether the person, in a browser or a terminal, has signed in lately.
    pub(crate) const fn has_just_signed_in(&self, now: UnixMillis) -> bool {
        self.is_person() && now.0.saturating_sub(self.signed_in.0) < FRESH_MS
    }
}

/// What is sent to a browser as its cookie.
pub(crate) struct Cookie {
    value: String,
    lifetime_s: u64,
}

impl Cookie {
    /// Begins a session of a person; its name is drawn new each time, so that nobody can have set it before.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub(crate) async fn begin(web: &Web, user: &UserId, method: Method) -> Result<Self, Problem> {
        Self::begin_at(web, user, method.word(), clock::now()).await
    }

    /// Begins a session of a person who has proved elsewhere who it is, at the time `signed_in`.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub(crate) async fn begin_at(
        web: &Web,
        user: &UserId,
        method: &str,
        signed_in: UnixMillis,
    ) -> Result<Self, Problem> {
        let now = clock::now();
        let secret = random::secret()?;
        let row = WebSessionRow {
            hash: random::hash(&secret),
            user: user.clone(),
            csrf: random::secret()?,
            method: method.to_owned(),
            signed_in,
            expires: UnixMillis(now.0.saturating_add(LIFETIME_S * 1000)),
        };
        web.server.state.sign_in(&row, now).await?;
        Ok(Self {
            value: secret,
            lifetime_s: LIFETIME_S,
        })
    }

    /// Takes the cookie away.
    pub(crate) const fn gone() -> Self {
        Self {
            value: String::new(),
            lifetime_s: 0,
        }
    }

    /// Writes the header.
    pub(crate) fn header(&self) -> HeaderValue {
        let text = format!(
            "{COOKIE}={}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={}",
            self.value, self.lifetime_s
        );
        // Secrets are base64url, which a header may have.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Returns what a request has in our cookie.
fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter();
    let texts = all.filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';'));
    let mut own = pairs.filter_map(|pair| pair.trim().strip_prefix(COOKIE)?.strip_prefix('='));
    own.rfind(|value| !value.is_empty() && value.len() <= SECRET_BYTES_MAX)
}

/// Returns what a browser shows of an attempt.
pub(super) fn attempt(headers: &HeaderMap) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter();
    let texts = all.filter_map(|value| value.to_str().ok());
    let pairs = texts.flat_map(|text| text.split(';'));
    let mut own =
        pairs.filter_map(|pair| pair.trim().strip_prefix(ATTEMPT_COOKIE)?.strip_prefix('='));
    let is_ours = |value: &&str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        (32..=ATTEMPT_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_plain)
    };
    own.rfind(is_ours).map(str::to_owned)
}
