//! The file with what is known of the tools of one workspace.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use stockade_egress::wire::DefinitionSeen;
use stockade_types::{Digest, RawText, ignored};

use super::Server;
use crate::whole_files::random;

/// Version of the file.
const VERSION: u32 = 1;
/// Largest file. Some hundred tools have some hundred KiB.
const FILE_BYTES_MAX: u64 = 32 << 20;
/// Servers of one workspace.
const SERVERS_MAX: usize = 256;
/// Tools of one workspace.
const TOOLS_MAX: usize = 16 * 1024;
/// Bytes of one text that is kept, to show the difference; of a longer one the digest is kept.
const TEXT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of all texts that are kept.
const TEXTS_BYTES_MAX: usize = 4 << 20;

/// A tool as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pin {
    /// SHA-256 of its description and schema.
    pub(super) digest: Digest,
    /// These, if they are short enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<RawText>,
}

type Known = BTreeMap<Server, BTreeMap<RawText, Pin>>;

/// The file.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    workspace: RawText,
    /// What it has, once it was read.
    known: Option<Known>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    workspace: RawText,
    servers: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    server: RawText,
    form: String,
    tools: BTreeMap<RawText, Pin>,
}

impl Store {
    pub(super) const fn new(path: PathBuf, workspace: RawText) -> Self {
        Self {
            path,
            workspace,
            known: None,
        }
    }

    /// Returns what is known; the file is read the first time.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn known(&mut self) -> Result<&Known, String> {
        let known = match self.known.take() {
            Some(known) => known,
            None => read(&self.path)?,
        };
        Ok(self.known.insert(known))
    }

    /// Returns what the file has now.
    ///
    /// # Errors
    /// When it cannot be read, or is not what was written.
    pub(super) fn read_again(&mut self) -> Result<&Known, String> {
        self.known = None;
        self.known()
    }

    /// Keeps tools of a server as they are, beside what other sessions have kept meanwhile. It is on the
    /// disk when this returns.
    ///
    /// # Errors
    /// When there is no room for them, or the file cannot be written.
    pub(super) fn keep(&mut self, server: &Server, seen: &[&DefinitionSeen]) -> Result<(), String> {
        let failed = |error: io::Error| self.failed(&error);
        let _turn = lock_file(&self.path).map_err(failed)?;
        let mut known = read(&self.path)?;
        add(&mut known, server, seen);
        let tools: usize = known.values().map(BTreeMap::len).sum();
        if known.len() > SERVERS_MAX || tools > TOOLS_MAX {
            return Err(format!(
                "`{}` has no room for more than {SERVERS_MAX} servers with {TOOLS_MAX} tools; remove it \
                 to begin anew",
                self.path.display()
            ));
        }
        write(&self.path, &self.workspace, &known).map_err(failed)?;
        self.known = Some(known);
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("`{}` cannot be written: {error}", self.path.display())
    }
}

fn add(known: &mut Known, server: &Server, seen: &[&DefinitionSeen]) {
    let pins = known.values().flat_map(BTreeMap::values);
    let texts = pins.filter_map(|pin| pin.text.as_ref());
    let taken: usize = texts.map(|text| text.as_bytes().len()).sum();
    let mut room = TEXTS_BYTES_MAX.saturating_sub(taken);
    let tools = known.entry(server.clone()).or_default();
    for one in seen {
        let text = one.text.as_ref().filter(|text| {
            let bytes = text.as_bytes().len();
            let fits = bytes <= room.min(TEXT_BYTES_MAX);
            room -= if fits { bytes } else { 0 };
            fits
        });
        let pin = Pin {
            digest: one.digest,
            text: text.cloned(),
        };
        tools.insert(one.tool.clone(), pin);
    }
}

fn read(path: &Path) -> Result<Known, String> {
    let wrong = |why: &str| {
        format!(
            "`{}` is not what was written there ({why}); remove it, and what is seen next is taken for \
             the first",
            path.display()
        )
    };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Known::new()),
        Err(error) => return Err(format!("`{}` cannot be read: {error}", path.display())),
    };
    let mut text = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| format!("`{}` cannot be read: {error}", path.display()))?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        return Err(wrong("it is too large"));
    }
    let file: File = serde_json::from_slice(&text).map_err(|error| wrong(&error.to_string()))?;
    if file.version != VERSION {
        return Err(wrong(&format!("version {}", file.version)));
    }
    let servers = file.servers.into_iter();
    Ok(servers
        .map(|entry| ((entry.form, entry.server), entry.tools))
        .collect())
}

fn write(path: &Path, workspace: &RawText, known: &Known) -> io::Result<()> {
    let servers = known.iter().map(|((form, server), tools)| Entry {
        server: server.clone(),
        form: form.clone(),
        tools: tools.clone(),
    });
    let file = File {
        version: VERSION,
        workspace: workspace.clone(),
        servers: servers.collect(),
    };
    let text = serde_json::to_vec_pretty(&file)?;
    let temporary = path.with_extension(format!("new-{:016x}", random()?));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file
        .write_all(&text)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        ignored(
            fs::remove_file(&temporary),
            "the error before it is the one to tell",
        );
    }
    written
}

/// Takes the turn to change the file; the next session has it when what is returned is dropped.
fn lock_file(path: &Path) -> io::Result<fs::File> {
    if let Some(directory) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(directory)?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.with_extension("lock"))?;
    rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}
