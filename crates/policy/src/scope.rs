//! How far one approval reaches.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use stockade_types::UnixMillis;

/// How far one approval reaches.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(try_from = "String", into = "String")]
pub enum Scope {
    /// The exact request, once.
    Once,
    /// The exact request, this many times.
    Uses(u32),
    /// What was shown, until the session ends.
    Session,
    /// What was shown, until a point in time within the session.
    Until(UnixMillis),
    /// Requests with the methods and below the path that were shown, until the session ends.
    Paths,
}

/// Why a text is not a [`Scope`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a scope; write `once`, `5-uses`, `session`, `paths` or `until:` and milliseconds"
)]
pub struct ScopeError(pub String);

impl Scope {
    /// Returns whether this scope is at most as wide as `max`.
    pub const fn is_within(self, max: Self) -> bool {
        match (self, max) {
            (Self::Once, _) | (_, Self::Session) | (Self::Paths, Self::Paths) => true,
            (Self::Uses(n), Self::Once) => n <= 1,
            (Self::Uses(n), Self::Uses(m)) => n <= m,
            (Self::Until(t), Self::Until(u)) => t.0 <= u.0,
            (Self::Uses(_) | Self::Session | Self::Paths, Self::Until(_))
            | (Self::Uses(_) | Self::Session | Self::Until(_), Self::Paths)
            | (Self::Session | Self::Until(_) | Self::Paths, Self::Once | Self::Uses(_)) => false,
        }
    }

    /// Returns the narrower of two bounds.
    pub(crate) const fn narrower(self, other: Self) -> Self {
        if self.is_within(other) { self } else { other }
    }

    /// Describes the scope for a person; a caller that knows the person's clock adds the end of a
    /// time.
    pub fn in_words(self) -> String {
        match self {
            Self::Until(_) => "a time".to_owned(),
            other => format!("`{other}`"),
        }
    }

    /// Returns whether it binds the exact request, not only the shape that was shown.
    pub const fn is_exact(self) -> bool {
        matches!(self, Self::Once | Self::Uses(_))
    }
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, ScopeError> {
        let wrong = || ScopeError(text.chars().take(80).collect());
        match text {
            "once" => Ok(Self::Once),
            "session" => Ok(Self::Session),
            "paths" => Ok(Self::Paths),
            _ => {
                if let Some(time) = text.strip_prefix("until:") {
                    return time
                        .parse()
                        .map(|t| Self::Until(UnixMillis(t)))
                        .map_err(|_| wrong());
                }
                let uses = text.strip_suffix("-uses").ok_or_else(wrong)?;
                match uses.parse() {
                    Ok(0) | Err(_) => Err(wrong()),
                    Ok(n) => Ok(Self::Uses(n)),
                }
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once => f.write_str("once"),
            Self::Uses(n) => write!(f, "{n}-uses"),
            Self::Session => f.write_str("session"),
            Self::Paths => f.write_str("paths"),
            Self::Until(time) => write!(f, "until:{}", time.0),
        }
    }
}

impl TryFrom<String> for Scope {
    type Error = ScopeError;

    fn try_from(text: String) -> Result<Self, ScopeError> {
        text.parse()
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.to_string()
    }
}
