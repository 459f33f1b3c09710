//! Where the command is, and which files of the host it needs beyond what the view shows.
//!
//! What a session can write names nothing of the host: a program, a link or a first line in the
//! workspace is used as it is, inside, and adds nothing to the view.

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
/// Places whose entries stand for the machine and its processes, never for programs.
const MACHINE: [&str; 6] = ["/boot", "/dev", "/proc", "/run", "/sys", "/var/run"];
/// Parts of the shortest path of a directory that belongs to one program: `/srv/tool`.
const PARTS_MIN: usize = 3;

/// What counts for which files of the host a program may bring along.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// What sessions can write, under every name.
    pub(crate) writable: Vec<AbsPath>,
    /// What exists inside without the program.
    pub(crate) shown: Vec<AbsPath>,
    /// Homes, under every name: nothing that holds one is brought along.
    pub(crate) homes: Vec<AbsPath>,
    /// Our own and secrets, under every name: nothing that holds one or lies in one is either.
    pub(crate) closed: Vec<AbsPath>,
    /// Who may own what is brought along: root, the caller, and whom the command runs as.
    pub(crate) owners: Vec<u32>,
    /// The caller's group.
    pub(crate) group: u32,
}

impl Ground {
    fn is_shown(&self, path: &Path) -> bool {
        self.shown.iter().any(|shown| path.starts_with(shown))
    }

    /// Whether a session could have made the program, or a link on the way to it.
    fn is_of_sessions(&self, way: &Way) -> bool {
        let links = way.links.iter().map(|(path, _)| path.as_path());
        let mut places = links.chain([way.end.as_path()]);
        places.any(|path| self.writable.iter().any(|place| path.starts_with(place)))
    }

    /// Says what keeps a file or directory from being brought along.
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

/// Paths of the sockets that programs of the host listen on (`/proc/net/unix`, proc(5)), read when
/// they are first asked for.
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

/// Finds `name` as a shell would, and what must be visible for it: the links on the way, the package
/// it belongs to, and the same of its interpreter.
///
/// # Errors
/// When it is not found or not executable, or when it needs what does not exist inside and may not
/// be brought along.
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
            // From here on, what is named may only be used, not brought along.
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

/// What a program needs, as far as it is known.
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

    /// Adds what belongs to a program and is another one, such as the `npm` of a `node`.
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

    /// Checks that a program, or what one needs, that a session could have named exists inside.
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
        // A root in another one adds nothing; nor does a link that one shows.
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

/// Returns the path to execute, and the one that was found, which tells all links on the way.
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

/// Reads the interpreter of a script, through `env` if it uses that: a regular file that can be
/// executed, or nothing.
fn interpreter(script: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let line = first_line(script)?;
    let mut words = line.split_ascii_whitespace();
    let program = Path::new(words.next()?);
    let found = if program.file_name() == Some(OsStr::new("env")) {
        let name = OsStr::new(env_name(&mut words)?);
        // A path would be one from wherever the script is run.
        let is_relative = name.as_bytes().contains(&b'/') && !Path::new(name).is_absolute();
        let (_, found) = locate(name, Path::new("/"), search_path).filter(|_| !is_relative)?;
        found
    } else {
        program.is_absolute().then(|| program.to_owned())?
    };
    check_executable(&found).is_ok().then_some(found)
}

/// Returns the first line of a script, without `#!`. What is at the path may be anything: nobody
/// waits for the other end of a FIFO.
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

/// Returns the program that `env` starts, of its words behind the name (env(1)): assignments are
/// passed over, `-S` means that there are several words. Nothing for any other option, and for
/// what `-S` would take apart further.
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
