//! The pages of the server, and the same as data.
//!
//! | file | what |
//! |---|---|
//! | `routes` | every route, with what it needs; tests walk this table |
//! | `call` | one request: who makes it, and what it says |
//! | `serving` | how it is answered; nothing is served past it |
//! | `guard` | which requests and which headers |
//! | `access` | which role may do what |
//! | `caller` | sessions in browsers, and tokens of programs |
//! | `page` | the frame of a page and its parts |
//! | the others | one page each, made of one value that is also its data |
#![expect(
    clippy::struct_field_names,
    reason = "fields of pages have the names that programs read"
)]

mod access;
mod assets;
mod attempts;
mod audit;
mod call;
mod caller;
mod challenges;
mod decisions;
mod device;
mod findings;
mod fleet;
mod flows;
mod guard;
mod inbox;
mod integrity;
mod key_list;
mod keys;
mod me;
mod metrics;
mod oidc;
mod openapi;
mod overview;
mod page;
mod password;
mod people;
mod policy;
mod problem;
mod proposals;
mod registration;
mod rollouts;
mod routes;
mod search;
mod serving;
mod sessions;
mod settings;
mod setup;
mod sign_in;
mod standing;
mod stream;
mod teams;
mod terminals;
mod totp;
mod waiting;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    http::{Extensions, Request},
    routing::{MethodFilter, on},
};
use stockade_trust::UserId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use self::{
    attempts::Attempts,
    challenges::Challenges,
    device::Devices,
    problem::Problem,
    routes::routes,
    serving::{Needs, Route, run},
};
use crate::{Server, listen::Peer};

/// Failures of one name from one place, of one place, and of one name, after which attempts wait.
const FREE_OF_BOTH: u32 = 5;
const FREE_OF_PLACE: u32 = 30;
const FREE_OF_NAME: u32 = 100;
/// Passwords that are checked at one time: each takes 19 MiB and some ten milliseconds of a core.
const CHECKS: usize = 2;
/// How long a check of a password may wait for its turn.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// Browsers that follow changes at one time.
const STREAMS_MAX: usize = 2_000;
/// Codes that were used and are remembered; each is forgotten after its time.
const CODES_MAX: usize = 10_000;

/// What the pages remember beside the state; it is gone when the server ends.
pub(crate) struct Web {
    pub(crate) server: Arc<Server>,
    challenges: Mutex<Challenges>,
    devices: Mutex<Devices>,
    by_both: Mutex<Attempts<(String, String)>>,
    by_place: Mutex<Attempts<String>>,
    by_name: Mutex<Attempts<String>>,
    /// The step of the last code of each person.
    codes: Mutex<HashMap<UserId, u64>>,
    checks: Semaphore,
    streams: Arc<Semaphore>,
    /// The hash that fits no password.
    nobody: String,
}

/// Returns everything that browsers ask for.
pub(crate) fn router(server: Arc<Server>) -> Router {
    let web = Arc::new(Web {
        server,
        challenges: Mutex::default(),
        devices: Mutex::default(),
        by_both: Mutex::new(Attempts::new(FREE_OF_BOTH)),
        by_place: Mutex::new(Attempts::new(FREE_OF_PLACE)),
        by_name: Mutex::new(Attempts::new(FREE_OF_NAME)),
        codes: Mutex::default(),
        checks: Semaphore::new(CHECKS),
        streams: Arc::new(Semaphore::new(STREAMS_MAX)),
        nobody: password::nobody(),
    });
    let mut router = Router::new();
    for Route {
        method,
        path,
        needs,
        handler,
        ..
    } in routes()
    {
        let web = Arc::clone(&web);
        let filter = MethodFilter::try_from(method).unwrap_or(MethodFilter::GET);
        let answer = move |request: Request<axum::body::Body>| {
            run(Arc::clone(&web), needs, Arc::clone(&handler), request)
        };
        router = router.route(path, on(filter, answer));
    }
    let missing = serving::handler(|_| async { Err(Problem::not_found()) });
    let other = Arc::clone(&missing);
    let (one, two) = (Arc::clone(&web), web);
    router
        .fallback(move |request| run(one, Needs::Nothing, missing, request))
        .method_not_allowed_fallback(move |request| run(two, Needs::Nothing, other, request))
}

/// Returns the description of the API (OpenAPI 3.1).
pub(crate) fn description() -> serde_json::Value {
    openapi::document(&routes())
}

/// Returns the address that a request came from, cut to what one household or company shares: an attacker
/// has a whole block of addresses of IPv6.
fn peer_prefix(extensions: &Extensions) -> String {
    match extensions
        .get::<Peer>()
        .map(|peer| peer.address.ip().to_canonical())
    {
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
        None => String::new(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Web {
    /// Returns the challenges that are open.
    pub(crate) fn challenges(&self) -> MutexGuard<'_, Challenges> {
        lock(&self.challenges)
    }

    /// Returns the terminals that ask to be signed in.
    pub(crate) fn devices(&self) -> MutexGuard<'_, Devices> {
        lock(&self.devices)
    }

    /// Takes an attempt to sign in; an empty name is one that is not known yet.
    ///
    /// # Errors
    /// When there were too many.
    pub(crate) fn begin_attempt(&self, name: &str, from: &str) -> Result<(), Problem> {
        let now = Instant::now();
        let name = name.to_lowercase();
        let both = (name.clone(), from.to_owned());
        let taken = lock(&self.by_both)
            .begin(&both, now)
            .and_then(|()| lock(&self.by_place).begin(&both.1, now))
            .and_then(|()| {
                if name.is_empty() {
                    return Ok(());
                }
                lock(&self.by_name).begin(&name, now)
            });
        taken.map_err(|wait| Problem::later("too many attempts to sign in", wait.as_secs() + 1))
    }

    /// Forgets failed attempts of someone who has signed in. Those of the place stay: a stranger there may
    /// have an account, too.
    pub(crate) fn attempt_succeeded(&self, name: &str, from: &str) {
        let name = name.to_lowercase();
        lock(&self.by_name).succeeded(&name);
        lock(&self.by_both).succeeded(&(name, from.to_owned()));
    }

    /// Uses a code of an app; `false` if it, or a later one, was used before.
    pub(crate) fn use_code(&self, user: &UserId, step: u64) -> bool {
        let mut codes = lock(&self.codes);
        if codes.len() >= CODES_MAX {
            // A code is refused by its time after some steps anyway.
            codes.retain(|_, used| used.saturating_add(4) > step);
        }
        let last = codes.entry(user.clone()).or_default();
        let is_new = step > *last;
        if is_new {
            *last = step;
        }
        is_new
    }

    /// Checks a password; without a hash it takes as long, and is wrong.
    ///
    /// # Errors
    /// When too many are checked already.
    pub(crate) async fn check_password(
        &self,
        given: &str,
        hash: Option<String>,
    ) -> Result<bool, Problem> {
        let is_someone = hash.is_some();
        let (given, hash) = (
            given.to_owned(),
            hash.unwrap_or_else(|| self.nobody.clone()),
        );
        let is_right = self.turn(move || password::is(&given, &hash)).await?;
        Ok(is_right && is_someone)
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When too many are hashed already, or it cannot be hashed.
    pub(crate) async fn hash_password(&self, given: &str) -> Result<String, Problem> {
        let salt = crate::random::bytes::<16>().map_err(|error| Problem::failed(&error))?;
        let given = given.to_owned();
        let hashed = self.turn(move || password::hash(&given, &salt)).await?;
        hashed.map_err(|error| Problem::failed(&error))
    }

    async fn turn<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let turn = timeout(CHECK_PATIENCE, self.checks.acquire()).await;
        let _turn = turn
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| Problem::later("many people sign in at the moment", 5))?;
        blocking(job).await
    }

    /// Takes a place for a browser that follows changes.
    ///
    /// # Errors
    /// When all are taken.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| Problem::later("too many browsers follow changes", 10))
    }

    /// Has machines told that people, or what they sign in with, have changed.
    ///
    /// # Errors
    /// When it cannot be signed or kept.
    pub(crate) async fn people_changed(&self) -> Result<(), Problem> {
        let said = self.server.directory().await;
        said.map(|_| ()).map_err(|error| Problem::failed(&error))
    }
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    spawn_blocking(job)
        .await
        .map_err(|error| Problem::failed(&error))
}

#[cfg(test)]
mod tests;
