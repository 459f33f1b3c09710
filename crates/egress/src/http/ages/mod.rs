//! How old versions of packages are, for rules with `younger_than`: before such a file is judged, its
//! registry is asked when the version was published.
//!
//! What is asked is a request like any other, by the program that wants the file: policy must allow it
//! without a question, it is recorded, and it is bounded. Nothing of what passes between a program and a
//! registry is read or changed for this.
//!
//! | registry | asked for |
//! |---|---|
//! | npm | the description that lies above the file |
//! | Go | the `.info` beside the file |
//! | PyPI, crates | the place or places where the session has asked for the package's description |
//! | Debian, OCI | nothing: they do not say it |

mod ask;
mod read;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use stockade_policy::{Age, Ecosystem, Meaning, Package, PackagePart};
use stockade_types::{Host, Port};
use tokio::{sync::Semaphore, time::timeout};

use super::{Carrier, head::Head};
use crate::{
    judge::Waiter,
    limits::{AGE_WAIT, AGES_ASKED_MAX, AGES_KNOWN_MAX, PLACE_BYTES_MAX, PLACES_MAX},
};

/// What is known of the versions that the session asked for.
#[derive(Debug)]
pub(crate) struct Ages {
    known: Mutex<Known>,
    turns: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    /// Where packages were asked about; of one with more places than there may be, nothing is known.
    places: BTreeMap<(Ecosystem, String), Vec<Place>>,
    /// When the version of a file was published, in seconds since 1970.
    published: BTreeMap<(Ecosystem, Place), u64>,
}

/// A path of a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    host: Host,
    port: Port,
    path: String,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            turns: Semaphore::new(AGES_ASKED_MAX),
        }
    }
}

impl Ages {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says of each version of a package in `meaning` how old it is, if rules about the host look at that.
    pub(crate) async fn complete(
        &self,
        carrier: Carrier<'_>,
        head: &Head,
        meaning: &mut [Meaning],
        waiter: Waiter<'_>,
    ) {
        let host = &carrier.request().host;
        if !carrier.proxy.judge.looks_for(host).ages {
            return;
        }
        for one in meaning {
            let Meaning::Package(package) = one else {
                continue;
            };
            if package.is_version() {
                package.age = Some(self.age(carrier, head, package, waiter).await);
            } else {
                self.note(carrier, head, package);
            }
        }
    }

    /// Remembers where a package is described.
    fn note(&self, carrier: Carrier<'_>, head: &Head, package: &Package) {
        let is_index = matches!(package.ecosystem, Ecosystem::Pypi | Ecosystem::Crates);
        let (Some(name), Some(place)) = (&package.name, place(carrier, head)) else {
            return;
        };
        if !is_index || head.method != "GET" || name.len() > PLACE_BYTES_MAX {
            return;
        }
        let mut known = self.lock();
        let key = (package.ecosystem, name.clone());
        if known.places.len() >= AGES_KNOWN_MAX && !known.places.contains_key(&key) {
            return;
        }
        let places = known.places.entry(key).or_default();
        if !places.contains(&place) && places.len() <= PLACES_MAX {
            places.push(place);
        }
    }

    async fn age(
        &self,
        carrier: Carrier<'_>,
        head: &Head,
        package: &Package,
        waiter: Waiter<'_>,
    ) -> Age {
        let found = self.published(carrier, head, package, waiter).await;
        let published = match found {
            Ok(published) => published,
            Err(why) => return Age::Unknown(why),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        Age::Seconds(now.saturating_sub(published))
    }

    /// Returns when a version was published, in seconds since 1970, or why nobody can tell.
    async fn published(
        &self,
        carrier: Carrier<'_>,
        head: &Head,
        package: &Package,
        waiter: Waiter<'_>,
    ) -> Result<u64, String> {
        let PackagePart::Version(version) = &package.part else {
            return Err("its address does not name a version".to_owned());
        };
        let Some(file) = place(carrier, head) else {
            return Err("its address is too long".to_owned());
        };
        let key = (package.ecosystem, file.clone());
        if let Some(published) = self.lock().published.get(&key) {
            return Ok(*published);
        }
        let places = self.places(package, &file)?;
        let turn = self.turns.acquire().await;
        let (mut youngest, mut failed) = (None, None);
        for place in &places {
            let asked = ask::description(carrier, head, (place, package.ecosystem), waiter);
            let text = timeout(AGE_WAIT, Box::pin(asked)).await;
            let text =
                text.unwrap_or_else(|_| Err("its registry did not answer in time".to_owned()));
            let wanted = read::Wanted {
                version,
                file: &file,
                place,
            };
            match text.and_then(|text| wanted.published(package.ecosystem, &text)) {
                // Of several that describe one package, the one that says it is youngest is believed.
                Ok(published) => youngest = youngest.max(published),
                // A page of Python names its files; other indexes name versions, which each can have.
                Err(why) if package.ecosystem == Ecosystem::Pypi => failed = Some(why),
                Err(why) => return Err(why),
            }
        }
        drop(turn);
        let published = youngest.ok_or_else(|| {
            failed.unwrap_or_else(|| {
                "its registry describes no such file, or does not say when it was published"
                    .to_owned()
            })
        })?;
        let mut known = self.lock();
        if known.published.len() >= AGES_KNOWN_MAX {
            known.published.clear();
        }
        known.published.insert(key, published);
        Ok(published)
    }

    /// Returns where a package is described.
    fn places(&self, package: &Package, file: &Place) -> Result<Vec<Place>, String> {
        let above = |end: &str| {
            let (front, _) = file.path.rsplit_once(end)?;
            Some(front.to_owned())
        };
        let beside = |path: Option<String>| {
            let path = path.ok_or("its address is not one that its registry would use")?;
            Ok(vec![Place {
                path,
                ..file.clone()
            }])
        };
        match package.ecosystem {
            Ecosystem::Npm => beside(above("/-/").map(|front| scoped(&front))),
            Ecosystem::Go => beside(above(".zip").map(|front| format!("{front}.info"))),
            Ecosystem::Pypi | Ecosystem::Crates => {
                let name = package.name.clone();
                let name = name.ok_or("its address can name several packages")?;
                let known = self.lock();
                match known.places.get(&(package.ecosystem, name)) {
                    Some(places) if places.len() > PLACES_MAX => {
                        Err("too many registries describe it".to_owned())
                    }
                    Some(places) => Ok(places.clone()),
                    None => Err(
                        "the session has not asked any registry about it, perhaps because of a cache"
                            .to_owned(),
                    ),
                }
            }
            Ecosystem::Debian | Ecosystem::Oci => {
                Err("registries of this kind do not say it".to_owned())
            }
        }
    }
}

/// Writes the path of a description of npm, in which the slash of a scope is written in its own way.
fn scoped(front: &str) -> String {
    match front.rsplit_once('/') {
        Some((above, name)) if above.rsplit('/').next().is_some_and(|s| s.starts_with('@')) => {
            format!("{above}%2f{name}")
        }
        Some(_) | None => front.to_owned(),
    }
}

/// Returns where a request leads, without its query; `None` if that is too long to be remembered.
fn place(carrier: Carrier<'_>, head: &Head) -> Option<Place> {
    let path = std::str::from_utf8(head.path.as_bytes()).ok()?;
    let path = path.split('?').next().unwrap_or_default();
    (path.len() <= PLACE_BYTES_MAX).then(|| Place {
        host: carrier.request().host.clone(),
        port: carrier.request().port,
        path: path.to_owned(),
    })
}
