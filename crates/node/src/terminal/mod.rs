//! The terminal of a person: signing in by a code that the person confirms in a browser, questions, and
//! votes.
//!
//! What the person reads is made here, of the request that the machine sent, and what is signed is made of
//! that. So a server that shows something else than what it asks for gets a vote for what was shown.

mod key;
mod vote;

use std::{fs, io, path::Path, path::PathBuf};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use stockade_api::terminal::{TerminalHere, TerminalToken};
use stockade_trust::UserId;
use stockade_types::{Digest, UnixMillis};

pub use self::{
    key::{ApproverKey, KeyError},
    vote::{Asked, Chosen, VoteError},
};
use crate::{
    clock::now,
    files::{self, FileError},
    http::{Connection, HttpError, Server},
    identity::{Enrolment, Places},
    runtime::block_on,
    tls::{self, TlsError},
};
pub use stockade_api::{
    node::StageStanding,
    terminal::{ConfirmedBy, DeviceCode, QuestionThere},
};
pub use stockade_trust::{Choice, SecretKey};

/// The directory of all this, in the state directory.
const TERMINAL_DIR: &str = "terminal";
/// Where systems keep the certificates of authorities that they trust.
const AUTHORITIES: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
];
/// Bytes of a file with certificates.
const AUTHORITIES_BYTES_MAX: u64 = 4 << 20;

/// Why a terminal did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    /// Nobody is signed in.
    #[error("nobody is signed in here; sign in with `stockade login URL`")]
    SignedOut,
    /// The sign-in is over.
    #[error("the sign-in at {0} is over; sign in again with `stockade login {0}`")]
    Over(String),
    /// The server is another one than the terminal is signed in at.
    #[error(
        "this terminal is signed in at {here}, not at {asked}; sign in there with `stockade login {asked}`"
    )]
    Elsewhere {
        /// Where it is signed in.
        here: String,
        /// What was asked for.
        asked: String,
    },
    /// The server refused, or cannot be reached.
    #[error("cannot ask the server")]
    Http(#[from] HttpError),
    /// The server is not known by its certificate.
    #[error("cannot know the server")]
    Tls(#[from] TlsError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is nothing to know the server by.
    #[error("cannot read certificates in `{path}`")]
    Authorities {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nobody says which authority made the certificate of the server.
    #[error(
        "there is nothing to know the server by; give `--ca` with the digest or a file of its authority"
    )]
    Unknown,
    /// The runtime could not be started.
    #[error("cannot ask the server")]
    Runtime(#[source] io::Error),
}

/// How the server is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Known {
    /// By SHA-256 of the certificate of its authority, DER.
    Digest(Digest),
    /// By the certificates of authorities, PEM.
    Authorities(String),
}

/// A server, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    origin: String,
    known: Known,
}

impl Place {
    /// Takes the address of a server's pages. It is known by `ca`: the digest of its authority's certificate,
    /// or a file with certificates; without it by the authority that this machine is enrolled with, or those
    /// that the system trusts.
    ///
    /// # Errors
    /// When the address is none, or there is nothing to know the server by.
    pub fn new(url: &str, ca: Option<&str>, state: &Path) -> Result<Self, TerminalError> {
        let origin = Server::parse_pages(url)?.origin();
        let known = match ca {
            Some(text) => match digest(text) {
                Some(digest) => Known::Digest(digest),
                None => Known::Authorities(authorities(Path::new(text))?),
            },
            None => {
                if let Some(enrolment) = Enrolment::read(&Places::new(state))? {
                    Known::Authorities(enrolment.authority)
                } else {
                    let mut files = AUTHORITIES.iter().map(Path::new);
                    let found = files.find(|path| path.exists());
                    Known::Authorities(authorities(found.ok_or(TerminalError::Unknown)?)?)
                }
            }
        };
        Ok(Self { origin, known })
    }

    /// Returns the origin of the pages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Sends a form, or asks without one.
    fn ask<A: DeserializeOwned>(
        &self,
        path: &str,
        form: Option<&[(&str, &str)]>,
        token: Option<&str>,
    ) -> Result<A, TerminalError> {
        let server = Server::parse_pages(&self.origin)?;
        let tls = match &self.known {
            Known::Digest(digest) => tls::pinned(*digest)?,
            Known::Authorities(pem) => tls::known(pem)?,
        };
        let form = form.map(|fields| {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.extend_pairs(fields);
            form.finish()
        });
        let answer = async {
            let connection = Connection::open(&server, tls).await?;
            let bytes = connection.of_person(path, form, token).await?;
            let value = serde_json::from_slice(&bytes);
            value.map_err(|error| HttpError::Answer(error.to_string()))
        };
        let answer = block_on(answer).map_err(TerminalError::Runtime)?;
        answer.map_err(TerminalError::Http)
    }

    /// Asks to be signed in. `machine` is what the person is shown.
    ///
    /// # Errors
    /// When the server is not reached, not known, or refuses.
    pub fn begin(&self, machine: &str) -> Result<DeviceCode, TerminalError> {
        self.ask("/api/v1/device/code", Some(&[("machine", machine)]), None)
    }

    /// Asks whether somebody has confirmed. The caller waits as long as the code says in between.
    ///
    /// # Errors
    /// When the code is over or refused, or the server is not reached.
    pub fn standing(&self, code: &DeviceCode) -> Result<Standing, TerminalError> {
        let form = [("device_code", code.device_code.as_str())];
        match self.ask("/api/v1/device/token", Some(&form), None) {
            Ok(by) => Ok(Standing::Confirmed(by)),
            Err(TerminalError::Http(HttpError::Refused(problem))) => match problem.kind.as_str() {
                "authorization_pending" => Ok(Standing::Waits),
                "slow_down" => Ok(Standing::Slower(problem.retry_ms.unwrap_or_default())),
                _ => Err(TerminalError::Http(HttpError::Refused(problem))),
            },
            Err(error) => Err(error),
        }
    }

    /// Takes the token of the person who has confirmed, and keeps it.
    ///
    /// # Errors
    /// When somebody else has confirmed, it was taken, or cannot be kept.
    pub fn take(
        &self,
        state: &Path,
        code: &DeviceCode,
        by: &ConfirmedBy,
    ) -> Result<Login, TerminalError> {
        let form = [
            ("device_code", code.device_code.as_str()),
            ("person", by.user.0.as_str()),
        ];
        let taken: TerminalToken = self.ask("/api/v1/device/token", Some(&form), None)?;
        let login = Login {
            place: self.clone(),
            org: taken.org,
            user: taken.user,
            name: taken.name,
            token: taken.token,
            expires: taken.expires,
        };
        files::make_dir(&state.join(TERMINAL_DIR))?;
        files::replace_json(&login_file(state), &login)?;
        Ok(login)
    }
}

/// How a code stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has confirmed it.
    Waits,
    /// The terminal asks too often, and has to wait so many milliseconds.
    Slower(u64),
    /// This person has.
    Confirmed(ConfirmedBy),
}

/// Who is signed in in this terminal.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    place: Place,
    /// The organisation.
    pub org: String,
    /// The person.
    pub user: UserId,
    /// The person's name.
    pub name: String,
    token: String,
    /// After this it is over.
    pub expires: UnixMillis,
}

/// A question in the list of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// Names it.
    pub id: String,
    /// What people call the machine.
    pub machine: String,
    /// The session on it.
    pub session: String,
    /// Names the question on its machine.
    pub approval: String,
    /// Who asks, and for what.
    pub title: String,
    /// The same in one line.
    pub summary: String,
    /// `open`, `granted`, `denied`, `expired` or `closed`.
    pub state: String,
    /// Whether the vote of the person is waited for.
    pub waits_for_you: bool,
    /// When it was asked.
    pub asked: UnixMillis,
    /// When it becomes a deny by itself.
    pub expires: UnixMillis,
    /// The stages that are open.
    pub stages: Vec<StageStanding>,
}

#[derive(Deserialize)]
struct Inbox {
    questions: Vec<Listed>,
}

impl Login {
    /// Reads who is signed in.
    ///
    /// # Errors
    /// When nobody is, or the file cannot be read.
    pub fn read(state: &Path) -> Result<Self, TerminalError> {
        files::read_json(&login_file(state))?.ok_or(TerminalError::SignedOut)
    }

    /// Returns where it is signed in.
    pub fn origin(&self) -> &str {
        self.place.origin()
    }

    /// Makes sure that it is signed in at the server with this address, if one is given.
    ///
    /// # Errors
    /// When it is another one.
    pub fn is_at(&self, url: Option<&str>) -> Result<(), TerminalError> {
        let Some(url) = url else { return Ok(()) };
        let asked = Server::parse_pages(url)?.origin();
        if asked == self.place.origin {
            return Ok(());
        }
        let here = self.place.origin.clone();
        Err(TerminalError::Elsewhere { here, asked })
    }

    /// Forgets it here. Returns what became of it on the server.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn sign_out(self, state: &Path) -> Result<Result<(), TerminalError>, TerminalError> {
        let told: Result<serde_json::Value, _> = self.ask("/api/v1/terminal/logout", Some(&[]));
        files::remove(&login_file(state))?;
        Ok(told.map(|_| ()))
    }

    /// Asks the server who it is.
    ///
    /// # Errors
    /// When it is over, or the server is not reached.
    pub fn here(&self) -> Result<TerminalHere, TerminalError> {
        self.ask("/api/v1/terminal", None)
    }

    /// Lists questions, those that are open first. The list is in the words of the server: what a vote is for
    /// is made here, of [`Self::question`].
    ///
    /// # Errors
    /// When it is over, or the server is not reached.
    pub fn questions(&self) -> Result<Vec<Listed>, TerminalError> {
        let inbox: Inbox = self.ask("/api/v1/questions", None)?;
        Ok(inbox.questions)
    }

    fn ask<A: DeserializeOwned>(
        &self,
        path: &str,
        form: Option<&[(&str, &str)]>,
    ) -> Result<A, TerminalError> {
        let over = || TerminalError::Over(self.place.origin.clone());
        if self.expires <= now() {
            return Err(over());
        }
        match self.place.ask(path, form, Some(&self.token)) {
            Err(TerminalError::Http(HttpError::Refused(problem))) if problem.status == 401 => {
                Err(over())
            }
            answer => answer,
        }
    }
}

impl std::fmt::Debug for Login {
    /// Shows nothing of the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login")
            .field("place", &self.place)
            .field("user", &self.user)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

fn login_file(state: &Path) -> PathBuf {
    state.join(TERMINAL_DIR).join("login.json")
}

/// Reads a digest, with or without the name of its kind.
fn digest(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:").unwrap_or(text).parse().ok()
}

fn authorities(path: &Path) -> Result<String, TerminalError> {
    let read = || {
        use io::Read as _;
        let mut text = String::new();
        let file = fs::File::open(path)?;
        file.take(AUTHORITIES_BYTES_MAX).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|source| TerminalError::Authorities {
        path: path.to_owned(),
        source,
    })
}
