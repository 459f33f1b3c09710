//! What is known of the tools of servers: what models were shown first, or what a person accepted since.
//!
//! A server says what its tools do, and can say something else the next time, or the next minute. What was
//! seen first is kept for each workspace in the owner's state, where no session sees it; a tool that is
//! another one later is a question before any model reads it.

mod comparing;
mod store;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use stockade_egress::wire::{Defined, DefinitionSeen};
use stockade_policy::{DefinitionRequest, ToolSeen};
use stockade_types::{DecisionId, Digest, RawText};

use self::store::{Pin, Store};
use stockade_supervise::lock;

pub(crate) use self::comparing::{Comparing, refusal};

/// Tools that a question shows; of more it says how many there are.
const SHOWN_MAX: usize = 16;
/// Bytes of all texts that a question shows.
const SHOWN_BYTES_MAX: usize = 256 * 1024;
/// The form of what a server says itself, before its agent has put it into words for a model.
const DIRECT: &str = "mcp";
/// Servers whose first request is remembered, so that all of its parts count as the first.
const FIRST_MAX: usize = 1024;
/// Findings of hidden text in one session.
const FOUND_MAX: usize = 1024;
/// Refusals that are remembered for those who asked for the same meanwhile.
pub(crate) const REFUSED_MAX: usize = 256;

/// A server, with the form in which its tools were read.
pub(crate) type Server = (String, RawText);

/// What is known in this session.
#[derive(Debug)]
pub(crate) struct Pins {
    store: Mutex<Store>,
    /// The request that showed a server for the first time.
    first: Mutex<BTreeMap<Server, DecisionId>>,
    /// Held while a person is asked, so that who asks for the same meanwhile has the same answer.
    pub(crate) asking: Mutex<()>,
    /// What was refused, and how many questions had come to an end then.
    pub(crate) refused: Mutex<Refused>,
    /// Definitions with hidden text that the record has.
    pub(crate) found: Mutex<BTreeSet<Digest>>,
}

#[derive(Debug, Default)]
pub(crate) struct Refused {
    pub(crate) ended: u64,
    pub(crate) answers: BTreeMap<Digest, (u64, stockade_policy::Decision)>,
}

/// How definitions of one server compare to what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// Nothing is new.
    Same,
    /// The server was not known; it is now.
    First(Vec<DefinitionSeen>),
    /// This is to be judged.
    Other(Box<DefinitionRequest>, Vec<DefinitionSeen>),
}

impl Pins {
    /// Begins with what the state of a workspace has at `path`, which is read when the first tool is seen.
    pub(crate) fn new(path: PathBuf, workspace: RawText) -> Self {
        Self {
            store: Mutex::new(Store::new(path, workspace)),
            first: Mutex::default(),
            asking: Mutex::default(),
            refused: Mutex::default(),
            found: Mutex::default(),
        }
    }

    /// Tells whether nothing is known of any server, so that nothing can have changed.
    ///
    /// # Errors
    /// When the state cannot be read; the text says why, and what to do.
    pub(crate) fn is_empty(&self) -> Result<bool, String> {
        Ok(lock(&self.store).known()?.is_empty())
    }

    /// Compares the tools of one server, and keeps them if it was not known.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub(crate) fn compare(
        &self,
        (form, server): &Server,
        defined: &Defined,
        seen: Vec<&DefinitionSeen>,
    ) -> Result<Compared, String> {
        let mut store = lock(&self.store);
        let name = (form.clone(), server.clone());
        let own = |pins: &BTreeMap<Server, BTreeMap<RawText, Pin>>| pins.get(&name).cloned();
        let mut known = own(store.known()?);
        let is_same = |known: &BTreeMap<RawText, Pin>| {
            let mut all = seen.iter();
            all.all(|one| {
                known
                    .get(&one.tool)
                    .is_some_and(|pin| pin.digest == one.digest)
            })
        };
        if !known.as_ref().is_some_and(is_same) {
            // Another session may have seen it first, or its owner may have accepted it there.
            known = own(store.read_again()?);
        }
        let Some(known) = known else {
            let mut first = lock(&self.first);
            if first.len() >= FIRST_MAX {
                first.clear();
            }
            first.insert(name.clone(), defined.visit);
            store.keep(&name, &seen)?;
            return Ok(Compared::First(seen.into_iter().cloned().collect()));
        };
        let other = |one: &&&DefinitionSeen| {
            let pin = known.get(&one.tool);
            pin.is_none_or(|pin| pin.digest != one.digest)
        };
        let others: Vec<&DefinitionSeen> = seen.iter().filter(other).copied().collect();
        // What the server said itself was compared when it started, and a person has accepted it then.
        let said = (DIRECT.to_owned(), server.clone());
        let said = own_as(store.known()?, &said);
        let is_said = |one: &&DefinitionSeen| {
            let pin = said.get(&one.tool);
            pin.is_some_and(|pin| pin.digest == one.digest)
        };
        let (accepted, others): (Vec<_>, Vec<_>) = others.into_iter().partition(is_said);
        if !accepted.is_empty() {
            store.keep(&name, &accepted)?;
        }
        if others.is_empty() {
            return Ok(Compared::Same);
        }
        let are_added = others.iter().all(|one| !known.contains_key(&one.tool));
        let is_first = lock(&self.first).get(&name) == Some(&defined.visit);
        if are_added && is_first {
            store.keep(&name, &others)?;
            return Ok(Compared::First(others.into_iter().cloned().collect()));
        }
        let request = asked(&name, defined, (&known, &others));
        let others = others.into_iter().cloned().collect();
        Ok(Compared::Other(Box::new(request), others))
    }

    /// Keeps tools as they are now.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub(crate) fn accept(&self, server: &Server, seen: &[DefinitionSeen]) -> Result<(), String> {
        let seen: Vec<&DefinitionSeen> = seen.iter().collect();
        lock(&self.store).keep(server, &seen)
    }

    /// Tells whether a definition with hidden text is found for the first time.
    pub(crate) fn is_found(&self, digest: Digest) -> bool {
        let mut found = lock(&self.found);
        found.len() < FOUND_MAX && found.insert(digest)
    }

    /// Returns what was known of tools.
    pub(crate) fn before(&self, server: &Server) -> BTreeMap<RawText, Digest> {
        let mut store = lock(&self.store);
        let known = store.known().ok().and_then(|known| known.get(server));
        let pins = known.into_iter().flatten();
        pins.map(|(tool, pin)| (tool.clone(), pin.digest)).collect()
    }
}

fn own_as(
    pins: &BTreeMap<Server, BTreeMap<RawText, Pin>>,
    server: &Server,
) -> BTreeMap<RawText, Pin> {
    pins.get(server).cloned().unwrap_or_default()
}

/// Makes the request that is judged.
fn asked(
    (form, server): &Server,
    defined: &Defined,
    (known, others): (&BTreeMap<RawText, Pin>, &[&DefinitionSeen]),
) -> DefinitionRequest {
    let mut room = SHOWN_BYTES_MAX;
    let mut shown = |text: Option<&RawText>| {
        let text = text.filter(|text| text.as_bytes().len() <= room)?;
        room -= text.as_bytes().len();
        Some(text.clone())
    };
    // What has changed is shown before what is new.
    let mut sorted: Vec<&&DefinitionSeen> = others.iter().collect();
    sorted.sort_by_key(|one| !known.contains_key(&one.tool));
    let tools = sorted.iter().take(SHOWN_MAX).map(|one| {
        let pin = known.get(&one.tool);
        ToolSeen {
            tool: one.tool.clone(),
            before: pin.map(|pin| pin.digest),
            was: shown(pin.and_then(|pin| pin.text.as_ref())),
            now: shown(one.text.as_ref()),
        }
    });
    let tools: Vec<ToolSeen> = tools.collect();
    let mut all: Vec<String> = others
        .iter()
        .map(|one| format!("{} {}", one.tool, one.digest))
        .collect();
    all.sort();
    let more = others.len().saturating_sub(tools.len());
    DefinitionRequest {
        server: server.clone(),
        form: form.clone(),
        tools,
        more: u64::try_from(more).unwrap_or(u64::MAX),
        digest: Digest::of(all.join("\n").as_bytes()),
        unread: None,
        subject: defined.process.clone(),
    }
}

/// Returns the place of what is known of the tools of a workspace.
pub(crate) fn of_workspace(
    state_dir: &std::path::Path,
    workspace: &stockade_types::AbsPath,
) -> Arc<Pins> {
    let path = workspace.as_path();
    let key = Digest::of(path.as_os_str().as_encoded_bytes()).short();
    let file = state_dir.join("pins").join(format!("{key}.json"));
    Arc::new(Pins::new(
        file,
        RawText::from_bytes(path.as_os_str().as_encoded_bytes()),
    ))
}

#[cfg(test)]
mod tests;
