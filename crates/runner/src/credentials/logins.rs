//! Logins of agents whose tokens stay outside: the file inside has placeholders, and tokens that are
//! renewed inside get into the owner's file.
//!
//! The owner's file is written with the session's identity, as a whole, and only while it has the tokens
//! that the new ones came from: whoever wrote others there is right.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use rustix::fs::OFlags;
use serde_json::{Map, Value};
use stockade_egress::{
    HeldCredential,
    wire::{Renewed, Token},
};
use stockade_policy::{LoginField, Policy, secret_part, with_secret_part};
use stockade_sys::thread::FileIdentity;
use stockade_types::{RuleId, Secret};

use super::{placeholder::Seed, sources::VALUE_BYTES_MIN};
use crate::{
    caller::Caller,
    whole_files::{LOGIN_BYTES_MAX, TOKEN_BYTES_MAX, replace},
};

/// What is wrong with a file that nobody can read.
const NO_TABLE: &str = "is no table of JSON";

/// The logins of a session.
#[derive(Debug, Default)]
pub(crate) struct HeldLogins {
    files: Mutex<Vec<HeldFile>>,
    uid: u32,
    gid: u32,
}

/// The file with one of them.
#[derive(Debug)]
struct HeldFile {
    login: RuleId,
    /// The owner's file.
    own: PathBuf,
    /// Its path as people write it.
    shown: String,
    tokens: Vec<HeldToken>,
    expires_ms: Option<String>,
    /// Its content for the session; why it has none, and why it is not inside then.
    covered: Result<Vec<u8>, NotInside>,
    /// The session has a new login, which is not the file's.
    is_other: bool,
    /// What its owner should know at the end.
    note: Option<String>,
}

/// Why a file with a login is not inside.
#[derive(Debug)]
enum NotInside {
    /// There is none.
    Absent,
    /// Its tokens cannot be kept outside.
    Unfit(String),
}

/// What a session gets in the place of a file of its owner.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InsideFile {
    /// The file: it is no login.
    Same,
    /// Another content.
    Content(Vec<u8>),
    /// Nothing.
    Nothing,
}

/// A token as the owner's file has it.
#[derive(Debug)]
struct HeldToken {
    credential: RuleId,
    field: String,
    value: Secret<String>,
}

impl HeldLogins {
    /// Finds the tokens of all logins of the policy, and makes their placeholders. A file in which tokens
    /// cannot be told from other texts is not inside.
    pub(super) fn find(
        policy: &Policy,
        caller: &Caller,
        seed: &Seed,
    ) -> (Self, Vec<HeldCredential>) {
        let (mut files, mut held): (Vec<HeldFile>, Vec<HeldCredential>) = (Vec::new(), Vec::new());
        for credential in policy.credentials() {
            let Some(field) = credential.login() else {
                continue;
            };
            let known = files.iter().position(|file| file.login == field.login);
            let at = if let Some(at) = known {
                at
            } else {
                let Some(own) = file_of(policy, caller, &field.file) else {
                    continue;
                };
                files.push(HeldFile::open(own, caller, field));
                files.len() - 1
            };
            let Some(file) = files.get_mut(at) else {
                continue;
            };
            let placed = file.cover(&field.field, &credential.id, seed);
            held.extend(placed.map(|(placeholder, value)| HeldCredential {
                id: credential.id.clone(),
                placeholder,
                value,
            }));
        }
        let logins = Self {
            files: Mutex::new(files),
            uid: caller.uid,
            gid: caller.gid,
        };
        (logins, held)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<HeldFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what a session gets in the place of a file of its owner. Of a login that is what was found
    /// at the beginning: the file may have other tokens by now.
    pub(crate) fn inside(&self, own: &Path) -> InsideFile {
        let files = self.lock();
        let file = files.iter().find(|file| file.own == own);
        match file.map(|file| &file.covered) {
            None => InsideFile::Same,
            Some(Ok(content)) => InsideFile::Content(content.clone()),
            Some(Err(NotInside::Absent | NotInside::Unfit(_))) => InsideFile::Nothing,
        }
    }

    /// Says which files are not inside, and how to go on, one line each.
    pub(super) fn unfit(&self) -> Vec<String> {
        let files = self.lock();
        let unfit = files.iter().filter_map(|file| match &file.covered {
            Err(NotInside::Unfit(why)) => Some(format!(
                "{shown} is not inside, because its tokens could not be kept outside: it {why}; log in \
                 again outside, or write `[[login]]` with `id = \"{login}\"` and `inside = true` to have it \
                 inside as it is",
                shown = file.shown,
                login = file.login,
            )),
            Ok(_) | Err(NotInside::Absent) => None,
        });
        unfit.collect()
    }

    /// Returns the tokens that the owner's file has by now and did not have before.
    pub(crate) fn tokens(&self, login: &RuleId) -> Vec<Token> {
        let mut files = self.lock();
        let Some(file) = files.iter_mut().find(|file| file.login == *login) else {
            return Vec::new();
        };
        let own = self.as_caller(|| read(&file.own));
        own.ok()
            .flatten()
            .map_or_else(Vec::new, |own| file.adopt(&own))
    }

    /// Puts new tokens into the owner's file. The error says why they are not there.
    pub(crate) fn renewed(&self, renewed: &Renewed) -> Result<(), String> {
        let Renewed {
            login,
            tokens,
            lifetime_s,
            is_same_login,
            ..
        } = renewed;
        let mut files = self.lock();
        let file = files.iter_mut().find(|file| file.login == *login);
        let file = file.ok_or("there is no such login")?;
        file.is_other |= !*is_same_login;
        if file.is_other {
            let reason = "they are of a new login inside, which is over with the session";
            file.note = Some(format!(
                "a login inside is over: {} has yours; log in outside for another one",
                file.shown
            ));
            return Err(reason.to_owned());
        }
        let written = self.as_caller(|| file.write(tokens, *lifetime_s));
        let written = written.and_then(|written| written);
        match &written {
            Ok(()) => file.know(tokens),
            Err(why) => {
                file.note = Some(format!(
                    "the login of {} was renewed inside, but {why}",
                    file.shown
                ));
            }
        }
        written
    }

    /// Says what the owner should know at the end, one line each.
    pub(crate) fn told(&self) -> Vec<String> {
        self.lock()
            .iter()
            .filter_map(|file| file.note.clone())
            .collect()
    }

    /// Does something as the user whose session it is, on a thread of its own.
    fn as_caller<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, String> {
        let (uid, gid) = (self.uid, self.gid);
        let act = move || {
            let identity = FileIdentity::prepare(uid, gid)?;
            identity.act(work)
        };
        let done = thread::scope(|scope| {
            let thread = thread::Builder::new().name("login".to_owned());
            let running = thread.spawn_scoped(scope, act).ok()?;
            running.join().ok()
        });
        let done = done.ok_or("there is no thread to write it")?;
        done.map_err(|error| format!("{error}: {}", error.source))
    }
}

impl HeldFile {
    fn open(own: PathBuf, caller: &Caller, field: &LoginField) -> Self {
        let covered = read_bytes(&own).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => NotInside::Absent,
            _ => NotInside::Unfit(format!("cannot be read: {error}")),
        });
        let covered = covered.and_then(|bytes| match table(&bytes) {
            Some(_) => Ok(bytes),
            None => Err(NotInside::Unfit(NO_TABLE.to_owned())),
        });
        Self {
            login: field.login.clone(),
            shown: caller.shown(&own),
            own,
            tokens: Vec::new(),
            expires_ms: field.expires_ms.clone(),
            covered,
            is_other: false,
            note: None,
        }
    }

    /// Puts a placeholder where a token is; returns both.
    fn cover(
        &mut self,
        field: &str,
        credential: &RuleId,
        seed: &Seed,
    ) -> Option<(String, Secret<String>)> {
        let mut all = table(self.covered.as_ref().ok()?)?;
        let value = match found(&all, field) {
            Found::Nothing => return None,
            Found::Unfit(why) => {
                self.covered = Err(NotInside::Unfit(format!("has at `{field}` {why}")));
                return None;
            }
            Found::Token(value) => value.to_owned(),
        };
        let drawn = seed.token(credential.as_str(), secret_part(&value));
        let placeholder = with_secret_part(&value, &drawn);
        *at(&mut all, field)? = placeholder.clone().into();
        let covered = serde_json::to_string_pretty(&all).ok()?;
        self.covered = if covered.contains(&value) {
            let why = format!("has the token at `{field}` in another place too");
            Err(NotInside::Unfit(why))
        } else {
            Ok(covered.into_bytes())
        };
        self.tokens.push(HeldToken {
            credential: credential.clone(),
            field: field.to_owned(),
            value: Secret::new(value.clone()),
        });
        Some((placeholder, Secret::new(value)))
    }

    /// Takes tokens over that somebody else wrote.
    fn adopt(&mut self, own: &Map<String, Value>) -> Vec<Token> {
        let mut new = Vec::new();
        for held in &mut self.tokens {
            if let Some(value) = token(own, &held.field)
                && value != held.value.expose()
            {
                held.value = Secret::new(value.to_owned());
                new.push(Token::new(held.credential.clone(), value));
            }
        }
        self.is_other &= new.is_empty();
        new
    }

    fn write(&self, tokens: &[Token], lifetime_s: Option<u64>) -> Result<(), String> {
        let mut own = read(&self.own).ok_or("the file is there no more, or cannot be read")?;
        for held in &self.tokens {
            if token(&own, &held.field) != Some(held.value.expose()) {
                return Err("the file has another login by now, which stays".to_owned());
            }
        }
        for held in &self.tokens {
            let new = tokens.iter().find(|new| new.credential == held.credential);
            if let (Some(new), Some(old)) = (new, at(&mut own, &held.field)) {
                *old = new.value.expose().as_str().into();
            }
        }
        if let (Some(field), Some(lifetime_s)) = (&self.expires_ms, lifetime_s)
            && let Some(old) = at(&mut own, field).filter(|old| old.is_u64())
        {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now_ms = now.map_or(0, |now| now.as_millis());
            let end = u64::try_from(now_ms).unwrap_or(u64::MAX);
            *old = end.saturating_add(lifetime_s.saturating_mul(1000)).into();
        }
        let text = serde_json::to_string_pretty(&own).map_err(|error| error.to_string())?;
        let written = replace(&self.own, text.as_bytes());
        written
            .map(drop)
            .map_err(|error| format!("it cannot be written: {error}"))
    }

    fn know(&mut self, tokens: &[Token]) {
        for held in &mut self.tokens {
            if let Some(new) = tokens.iter().find(|new| new.credential == held.credential) {
                held.value = Secret::new(new.value.expose().clone());
            }
        }
    }
}

/// Tells whether the tokens of a login file are kept outside of sessions; `own` is the owner's.
pub(crate) fn are_outside(policy: &Policy, caller: &Caller, own: &Path) -> bool {
    let mut fields = policy.credentials().iter().filter_map(|own| own.login());
    fields.any(|field| {
        file_of(policy, caller, &field.file).is_some_and(|path| path == own)
            && read_bytes(own).is_ok_and(|bytes| {
                // Of one that cannot be kept outside nothing is inside.
                let all = table(&bytes);
                all.is_none_or(|all| !matches!(found(&all, &field.field), Found::Nothing))
            })
    })
}

/// Returns the owner's file that a policy names.
fn file_of(policy: &Policy, caller: &Caller, file: &str) -> Option<PathBuf> {
    let states = policy.settings().filesystem.state.iter();
    let mut places = states.filter_map(|state| {
        let name = file
            .strip_prefix(state.value.path.as_str())?
            .strip_prefix('/')?;
        let mut logins = state.value.logins.iter();
        logins.any(|login| login.file == name).then_some(())?;
        Some(caller.place(&state.value)?.as_path().join(name))
    });
    places.next()
}

/// Reads a file with a login.
fn read(path: &Path) -> Option<Map<String, Value>> {
    table(&read_bytes(path).ok()?)
}

/// Takes the content of a file with a login apart; `None` if it is too large or no table.
fn table(bytes: &[u8]) -> Option<Map<String, Value>> {
    let fits = bytes.len() <= LOGIN_BYTES_MAX;
    fits.then(|| serde_json::from_slice(bytes).ok()).flatten()
}

/// Reads one byte more than a file with a login can have, at most; never waits for one that is no file.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = fs::OpenOptions::new();
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    let max = u64::try_from(LOGIN_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(max.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns what is at `a.b`.
fn at<'a>(all: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Value> {
    let mut keys = field.split('.');
    let first = all.get_mut(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get_mut(key))
}

/// Returns the token at `a.b`.
fn token<'a>(all: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    match found(all, field) {
        Found::Token(text) => Some(text),
        Found::Nothing | Found::Unfit(_) => None,
    }
}

/// What is in the place of a token.
enum Found<'a> {
    /// Nothing, or nothing yet.
    Nothing,
    /// It could not be told from other texts where it is taken out of answers.
    Unfit(String),
    Token(&'a str),
}

/// Looks for a token at `a.b`.
fn found<'a>(all: &'a Map<String, Value>, field: &str) -> Found<'a> {
    let mut keys = field.split('.');
    let first = keys.next().and_then(|key| all.get(key));
    let value = first.and_then(|first| keys.try_fold(first, |value, key| value.get(key)));
    let text = match value {
        None | Some(Value::Null) => return Found::Nothing,
        Some(Value::String(text)) if text.is_empty() => return Found::Nothing,
        Some(Value::String(text)) => text,
        Some(Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            return Found::Unfit("no text".to_owned());
        }
    };
    let lengths = VALUE_BYTES_MIN..=TOKEN_BYTES_MAX;
    if !lengths.contains(&text.len()) {
        let (least, most) = lengths.into_inner();
        let bytes = text.len();
        return Found::Unfit(format!("{bytes} bytes, and a token has {least} to {most}"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Found::Unfit("more than letters, digits and signs of ASCII".to_owned());
    }
    Found::Token(text)
}
