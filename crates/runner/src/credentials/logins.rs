//! Logins of agents whose tokens stay outside: the file inside has placeholders, and tokens that are
//! renewed inside get into the owner's file.
//!
//! The owner's file is written with the session's identity, as a whole, and only while it has the tokens
//! that the new ones came from: whoever wrote others there is right.

use std::{
    fs,
    io::Read as _,
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
    /// Its content for the session.
    covered: Vec<u8>,
    /// The session has a new login, which is not the file's.
    is_other: bool,
    /// What its owner should know at the end.
    note: Option<String>,
}

/// A token as the owner's file has it.
#[derive(Debug)]
struct HeldToken {
    credential: RuleId,
    field: String,
    value: Secret<String>,
}

impl HeldLogins {
    /// Finds the tokens of all logins of the policy, and makes their placeholders. A file that is not there
    /// or has no tokens is no login.
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
                let Some(file) = HeldFile::open(policy, caller, field) else {
                    continue;
                };
                files.push(file);
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

    /// Returns what a session gets in the place of a file of its owner, if it has tokens.
    pub(crate) fn covered(&self, own: &Path) -> Option<Vec<u8>> {
        let files = self.lock();
        let file = files
            .iter()
            .find(|file| file.own == own && !file.tokens.is_empty());
        file.map(|file| file.covered.clone())
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
    fn open(policy: &Policy, caller: &Caller, field: &LoginField) -> Option<Self> {
        let own = file_of(policy, caller, &field.file)?;
        let covered = serde_json::to_vec_pretty(&read(&own)?).ok()?;
        Some(Self {
            login: field.login.clone(),
            shown: caller.shown(&own),
            own,
            tokens: Vec::new(),
            expires_ms: field.expires_ms.clone(),
            covered,
            is_other: false,
            note: None,
        })
    }

    /// Puts a placeholder where a token is; returns both.
    fn cover(
        &mut self,
        field: &str,
        credential: &RuleId,
        seed: &Seed,
    ) -> Option<(String, Secret<String>)> {
        let mut all: Map<String, Value> = serde_json::from_slice(&self.covered).ok()?;
        let value = token(&all, field)?.to_owned();
        let drawn = seed.token(credential.as_str(), secret_part(&value));
        let placeholder = with_secret_part(&value, &drawn);
        *at(&mut all, field)? = placeholder.clone().into();
        self.covered = serde_json::to_vec_pretty(&all).ok()?;
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
            && read(own).is_some_and(|all| token(&all, &field.field).is_some())
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

/// Reads a file with a login; never waits for one that is no file.
fn read(path: &Path) -> Option<Map<String, Value>> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = fs::OpenOptions::new();
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = options.read(true).custom_flags(flags).open(path).ok()?;
    let mut bytes = Vec::new();
    let max = u64::try_from(LOGIN_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(max).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Returns what is at `a.b`.
fn at<'a>(all: &'a mut Map<String, Value>, field: &str) -> Option<&'a mut Value> {
    let mut keys = field.split('.');
    let first = all.get_mut(keys.next()?)?;
    keys.try_fold(first, |value, key| value.get_mut(key))
}

/// Returns the token at `a.b`.
fn token<'a>(all: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    let mut keys = field.split('.');
    let first = all.get(keys.next()?)?;
    let text = keys
        .try_fold(first, |value, key| value.get(key))?
        .as_str()?;
    let is_token = (VALUE_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then_some(text)
}
