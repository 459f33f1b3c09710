//! Finds the command, and the files of the host that it needs in addition to the view.
//!
//! A file that a session can write must not add files of the host: a program, a link or a first
//! line in the workspace is used inside as it is, and adds nothing to the view.

use std::{
    cell::OnceCell,
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use stockade_plan::{LinkFact, ProgramFacts};
use stockade_types::{AbsPath, RawText};

use crate::{
    RunError,
    names::{Way, way},
    packages,
};

/// Interpreters that call interpreters; the kernel itself allows five.
const INTERPRETERS_MAX: usize = 5;
/// Bytes of a first line that the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE_BYTES: u64 = 256;
/// Directories whose entries are the machine and its processes, never programs.
const MACHINE: [&str; 6] = ["/boot", "/dev", "/proc", "/run", "/sys", "/var/run"];
/// Fewest components in the path of a directory that belongs to one program: `/srv/tool`.
const PARTS_MIN: usize = 3;

/// The facts that decide which files of the host a program may bring along.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// Paths that sessions can write, under every name.
    pub(crate) writable: Vec<AbsPath>,
    /// Paths that exist inside without the program.
    pub(crate) shown: Vec<AbsPath>,
    /// Homes, under every name: a directory that contains one is not brought along.
    pub(crate) homes: Vec<AbsPath>,
    /// Our own files and secrets, under every name: neither is a path that contains one or is in
    /// one.
    pub(crate) closed: Vec<AbsPath>,
    /// Permitted owners of files brought along: root, the caller, and the command's user.
    pub(crate) owners: Vec<u32>,
    /// The caller's group.
    pub(crate) group: u32,
}

impl Ground {
    fn is_shown(&self, path: &Path) -> bool {
        self.shown.iter().any(|shown| path.starts_with(shown))
    }

    /// Whether a session could have made the program, or a link on the path to it.
    fn is_of_sessions(&self, way: &Way) -> bool {
        let links = way.links.iter().map(|(path, _)| path.as_path());
        let mut places = links.chain([way.end.as_path()]);
        places.any(|path| self.writable.iter().any(|place| path.starts_with(place)))
    }

    /// Says why a file or directory must not be brought along.
    fn problem(&self, path: &Path, sockets: &Sockets) -> Option<&'static str> {
        let mut kept = self.homes.iter().chain(&self.closed);
        if kept.any(|place| place.as_path().starts_with(path))
            || path.components().count() < PARTS_MIN
        {
            return Some("holds more than a program");
        }
        let machine = MACHINE.iter().any(|place| path.starts_with(place));
        if machine || self.closed.iter().any(|place| path.starts_with(place)) {
            return Some("is in a place where no program belongs");
        }
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Some("cannot be read");
        };
        if !self.owners.contains(&metadata.uid()) {
            return Some("belongs to another user");
        }
        let mode = metadata.mode();
        if mode & 0o002 != 0 || (mode & 0o020 != 0 && ![0, self.group].contains(&metadata.gid())) {
            return Some("can be written by others");
        }
        (metadata.is_dir() && sockets.any_below(path)).then_some("holds sockets of services")
    }
}

/// Paths of the sockets on which programs of the host listen (`/proc/net/unix`, proc(5)), read at
/// the first use.
#[derive(Debug, Default)]
struct Sockets(OnceCell<Vec<PathBuf>>);

impl Sockets {
    fn any_below(&self, directory: &Path) -> bool {
        let paths = self.0.get_or_init(|| {
            let text = fs::read("/proc/net/unix").unwrap_or_default();
            let paths = text.split(|b| *b == b'\n').filter_map(|line| {
                let start = line.windows(2).position(|two| two == b" /")?;
                Some(PathBuf::from(OsStr::from_bytes(line.get(start + 1..)?)))
            });
            paths.collect()
        });
        paths.iter().any(|path| path.starts_with(directory))
    }
}

/// Finds `name` as a shell would, and the files that must be visible for it: the links on the path,
/// the package it belongs to, and the same for its interpreter.
///
/// # Errors
/// When it is not found or not executable, or when it needs a file that does not exist inside and
/// must not be brought along.
pub(crate) fn find(
    name: &RawText,
    cwd: &Path,
    search_path: Option<&OsStr>,
    ground: &Ground,
) -> Result<ProgramFacts, RunError> {
    let (program, given) = locate(&name.to_os(), cwd, search_path)
        .ok_or_else(|| RunError::CommandNotFound(name.clone()))?;
    let unusable = |source: io::Error| RunError::CommandNotExecutable {
        path: program.clone(),
        source,
    };
    check_executable(&program).map_err(unusable)?;
    let mut needs = Needs::new(ground);
    let mut next = Some(given);
    for _ in 0..INTERPRETERS_MAX {
        let Some(file) = next.take() else { break };
        let way = way(&file).map_err(unusable)?;
        if needs.of_sessions || ground.is_of_sessions(&way) {
            // From here on, named files may only be used if they exist inside, not brought along.
            needs.of_sessions = true;
            needs.must_be_shown(&program, &way)?;
        } else {
            needs.add(&way)?;
        }
        next = interpreter(&way.end, search_path);
    }
    let program = AbsPath::new(&program).map_err(|_| RunError::Path(program.clone()))?;
    Ok(needs.into_facts(program))
}

/// The needs of a program, as far as they are known.
struct Needs<'a> {
    ground: &'a Ground,
    sockets: Sockets,
    of_sessions: bool,
    roots: BTreeSet<AbsPath>,
    links: Vec<LinkFact>,
}

impl<'a> Needs<'a> {
    fn new(ground: &'a Ground) -> Self {
        Self {
            ground,
            sockets: Sockets::default(),
            of_sessions: false,
            roots: BTreeSet::new(),
            links: Vec::new(),
        }
    }

    /// Adds links, file and package of a program that no session could have made.
    fn add(&mut self, way: &Way) -> Result<(), RunError> {
        self.add_links(way)?;
        if !self.ground.is_shown(&way.end) {
            if let Some(problem) = self.ground.problem(&way.end, &self.sockets) {
                return Err(RunError::ProgramUnsafe {
                    path: way.end.clone(),
                    problem,
                });
            }
            self.add_root(&way.end);
        }
        let links = way.links.iter().map(|(path, _)| path);
        let places: Vec<PathBuf> = links.chain([&way.end]).cloned().collect();
        for place in places {
            let package = packages::of(&place);
            for choice in package.choices {
                let fits = |path: &&PathBuf| {
                    self.ground.is_shown(path) || self.ground.problem(path, &self.sockets).is_none()
                };
                if !choice.iter().all(|path| fits(&path)) {
                    continue;
                }
                for path in &choice {
                    self.add_root(path);
                }
                break;
            }
            for companion in package.companions {
                self.add_companion(&companion)?;
            }
        }
        Ok(())
    }

    /// Adds another program of the same package, such as the `npm` of a `node`.
    fn add_companion(&mut self, path: &Path) -> Result<(), RunError> {
        let Ok(way) = way(path) else { return Ok(()) };
        let fits = self.ground.problem(&way.end, &self.sockets).is_none();
        if fits && !self.ground.is_of_sessions(&way) {
            self.add_links(&way)?;
            self.add_root(&way.end);
        }
        Ok(())
    }

    fn add_root(&mut self, path: &Path) {
        if let (false, Ok(path)) = (self.ground.is_shown(path), AbsPath::new(path)) {
            self.roots.insert(path);
        }
    }

    fn add_links(&mut self, way: &Way) -> Result<(), RunError> {
        for (path, target) in &way.links {
            let is_own = ["/dev", "/proc", "/sys"]
                .iter()
                .any(|top| path.starts_with(top));
            if is_own || self.ground.is_shown(path) {
                continue;
            }
            let wrong = || RunError::Path(path.clone());
            let link = LinkFact {
                path: AbsPath::new(path).map_err(|_| wrong())?,
                target: RawText::from_os(target.as_os_str()),
            };
            if !self.links.contains(&link) {
                self.links.push(link);
            }
        }
        Ok(())
    }

    /// Checks that a program that a session could have named, or a file that such a program needs,
    /// exists inside.
    fn must_be_shown(&self, program: &Path, way: &Way) -> Result<(), RunError> {
        let links = way.links.iter().map(|(path, _)| path);
        let mut places = links.chain([&way.end]);
        let is_absent = |path: &&PathBuf| {
            let brought = self.roots.iter().any(|root| path.starts_with(root));
            !brought && !self.ground.is_shown(path)
        };
        match places.find(is_absent) {
            None => Ok(()),
            Some(path) => Err(RunError::NamedBySession {
                program: program.to_owned(),
                needs: path.clone(),
            }),
        }
    }

    fn into_facts(self, program: AbsPath) -> ProgramFacts {
        let roots = self.roots.iter();
        // A root within another one adds nothing, nor does a link within a root.
        let within = |path: &AbsPath| {
            let mut others = self.roots.iter().filter(|root| *root != path);
            others.any(|root| path.is_within(root))
        };
        let is_shown = |link: &LinkFact| self.roots.iter().any(|r| link.path.is_within(r));
        ProgramFacts {
            program,
            roots: roots.filter(|root| !within(root)).cloned().collect(),
            links: self
                .links
                .iter()
                .filter(|l| !is_shown(l))
                .cloned()
                .collect(),
        }
    }
}

/// Returns the path to execute, and the path as it was found, which still has all links.
fn locate(name: &OsStr, cwd: &Path, search_path: Option<&OsStr>) -> Option<(PathBuf, PathBuf)> {
    if name.as_bytes().contains(&b'/') {
        let given = cwd.join(name);
        let parent = fs::canonicalize(given.parent()?).ok()?;
        let path = parent.join(given.file_name()?);
        return path.exists().then_some((path, given));
    }
    let default = OsString::from("/usr/local/bin:/usr/bin:/bin");
    let candidates: Vec<PathBuf> = std::env::split_paths(search_path.unwrap_or(&default))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .filter(|candidate| candidate.is_file())
        .collect();
    let runnable = candidates.iter().find(|c| check_executable(c).is_ok());
    let found = runnable.or(candidates.first())?;
    Some((found.clone(), found.clone()))
}

fn check_executable(path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 {
        return Ok(());
    }
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Reads the interpreter of a script, also if it is started through `env`: a regular executable
/// file, or nothing.
fn interpreter(script: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let line = first_line(script)?;
    let mut words = line.split_ascii_whitespace();
    let program = Path::new(words.next()?);
    let found = if program.file_name() == Some(OsStr::new("env")) {
        let name = OsStr::new(env_name(&mut words)?);
        // A relative path would depend on the directory in which the script runs.
        let is_relative = name.as_bytes().contains(&b'/') && !Path::new(name).is_absolute();
        let (_, found) = locate(name, Path::new("/"), search_path).filter(|_| !is_relative)?;
        found
    } else {
        program.is_absolute().then(|| program.to_owned())?
    };
    check_executable(&found).is_ok().then_some(found)
}

/// Returns the first line of a script, without `#!`. The path may name anything, so opening it
/// never waits for the other end of a FIFO.
fn first_line(script: &Path) -> Option<String> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).ok()?)
        .open(script)
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut head = Vec::new();
    file.take(FIRST_LINE_BYTES).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    std::str::from_utf8(line).ok().map(str::to_owned)
}

/// Returns the program that `env` starts, from the words after `env` (env(1)): assignments are
/// skipped, `-S` means that several words follow. Nothing for any other option, or for text that
/// `-S` would split further.
fn env_name<'a>(words: &mut impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut splits = false;
    for word in words {
        if !splits && matches!(word, "-S" | "--split-string") {
            splits = true;
            continue;
        }
        let word = match word.strip_prefix("-S") {
            Some(rest) if !splits => {
                splits = true;
                rest
            }
            _ => word,
        };
        if word.starts_with('-') || word.contains(['"', '\'', '\\', '$', '#']) {
            return None;
        }
        if !word.contains('=') {
            return Some(word);
        }
    }
    None
}

#[cfg(test)]
#[path = "tests/program.rs"]
mod tests;
