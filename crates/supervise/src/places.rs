//! Places of the workspace that a protected name refers to: git follows a link or a pointer file
//! named `.git` to a directory of any name, and runs programs that this directory configures.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs,
    io::Read as _,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};
use stockade_policy::WorkspaceSettings;
use stockade_types::AbsPath;

/// Bytes of a pointer file that are read: twice the longest path that the kernel takes.
const POINTER_BYTES_MAX: u64 = 8192;
/// Links on the way to a target; the kernel refuses more (path_resolution(7)).
pub const LINKS_MAX: usize = 40;
/// The beginning of a pointer file (gitrepository-layout(5)).
const POINTER_START: &[u8] = b"gitdir:";

/// The targets of links and pointers with protected names at the start of the session. Paths are
/// below the workspace.
#[derive(Debug, Default)]
pub struct Places {
    /// By path in lower case, since patterns ignore case too.
    led_to: BTreeMap<Vec<u8>, Place>,
    /// Places, and paths on the way to one: moving such a path would substitute another place.
    on_the_way: BTreeMap<Vec<u8>, Place>,
    /// The number of names of all places.
    count: usize,
}

/// A path, as it is spelled, and the further names that patterns match for it. On most file systems
/// other spellings are other paths.
#[derive(Debug, Default)]
struct Place(BTreeSet<(Vec<u8>, Vec<u8>)>);

impl Place {
    fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        let names: BTreeSet<_> = self.0.iter().map(|(_, name)| name).collect();
        names.into_iter()
    }
}

/// The end of a path after every link in it is followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Each directory and link that was passed, existing or not.
    passed: Vec<PathBuf>,
    links: Vec<PathBuf>,
    /// The end, which may not exist.
    pub target: PathBuf,
}

impl Places {
    /// Notes that `name` leads this way; tells whether the target is a new place.
    pub fn note(&mut self, workspace: &AbsPath, way: &Way, name: &[u8]) -> bool {
        let below = |path: &Path| below(workspace, path);
        for path in way.passed.iter().filter_map(|path| below(path)) {
            if !path.is_empty() {
                note(&mut self.on_the_way, path, name);
            }
        }
        for path in way.links.iter().filter_map(|path| below(path)) {
            self.led(path, name);
        }
        below(&way.target).is_some_and(|path| !ends_with(&path, name) && self.led(path, name))
    }

    fn led(&mut self, path: Vec<u8>, name: &[u8]) -> bool {
        let new = note(&mut self.led_to, path, name);
        self.count += usize::from(new);
        new
    }

    /// Whether no protected name leads to a place.
    pub fn is_empty(&self) -> bool {
        self.led_to.is_empty() && self.on_the_way.is_empty()
    }

    /// The number of places, each counted once for each name.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Returns the further names of a path: its names below the places that it lies in.
    pub fn names(&self, path: &[u8]) -> Vec<Vec<u8>> {
        if self.led_to.is_empty() {
            return Vec::new();
        }
        let lower = path.to_ascii_lowercase();
        let mut found = Vec::new();
        for end in ends(&lower) {
            let Some(place) = lower.get(..end).and_then(|front| self.led_to.get(front)) else {
                continue;
            };
            let rest = path.get(end..).unwrap_or_default();
            found.extend(place.names().map(|name| join(name, rest)));
        }
        found
    }

    /// Returns the further name that protects a path from a change; `moved` means that an object
    /// made elsewhere, or none, would be at the path.
    pub fn protected_name(
        &self,
        settings: &WorkspaceSettings,
        path: &[u8],
        moved: bool,
    ) -> Option<Vec<u8>> {
        let protects = |name: &Vec<u8>| {
            settings.protects(name).is_some() || (moved && settings.protects_below(name).is_some())
        };
        let passed = || {
            let place = self.on_the_way.get(&path.to_ascii_lowercase())?;
            place.names().next().cloned()
        };
        let named = self.names(path).into_iter().find(protects);
        named.or_else(|| moved.then(passed).flatten())
    }

    /// Whether a file that is not a directory would lead elsewhere at this path.
    pub fn leads_from(&self, settings: &WorkspaceSettings, path: &[u8]) -> bool {
        let stands = |name: &Vec<u8>| settings.stands_for(name).is_some();
        self.on_the_way.contains_key(&path.to_ascii_lowercase())
            || self.names(path).iter().any(stands)
    }
}

fn note(places: &mut BTreeMap<Vec<u8>, Place>, path: Vec<u8>, name: &[u8]) -> bool {
    let place = places.entry(path.to_ascii_lowercase()).or_default();
    place.0.insert((path, name.to_owned()))
}

/// Returns a path as it lies below the workspace.
fn below(workspace: &AbsPath, path: &Path) -> Option<Vec<u8>> {
    let below = path.strip_prefix(workspace.as_path()).ok()?;
    Some(below.as_os_str().as_bytes().to_owned())
}

/// Puts a path below a place behind another name of the place.
pub fn join(name: &[u8], below: &[u8]) -> Vec<u8> {
    let below = below.strip_prefix(b"/").unwrap_or(below);
    if below.is_empty() || name.is_empty() {
        return [name, below].concat();
    }
    [name, b"/", below].concat()
}

/// The ends of a path and of the directories above it; 0 stands for the workspace itself.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let inner = slashes.map(|(at, _)| at);
    let own = (!path.is_empty()).then_some(path.len());
    std::iter::once(0).chain(inner).chain(own)
}

/// Whether a path has a name by itself: patterns match at any depth.
fn ends_with(path: &[u8], name: &[u8]) -> bool {
    let start = path.len().checked_sub(name.len());
    start.is_some_and(|at| {
        let (front, tail) = path.split_at(at);
        tail.eq_ignore_ascii_case(name) && (front.is_empty() || front.ends_with(b"/"))
    })
}

/// Follows a path, relative to a directory, to its end; `None` if it has none.
pub fn follow(directory: &Path, path: &OsStr) -> Option<Way> {
    let mut way = Way {
        target: PathBuf::from("/"),
        ..Way::default()
    };
    // The next part last.
    let mut todo = Vec::new();
    push(&mut todo, &directory.join(path));
    while let Some(part) = todo.pop() {
        if part == ".." {
            way.target.pop();
            continue;
        }
        let next = way.target.join(&part);
        way.passed.push(next.clone());
        let Ok(text) = fs::read_link(&next) else {
            way.target = next;
            continue;
        };
        way.links.push(next);
        if way.links.len() > LINKS_MAX {
            return None;
        }
        if text.is_absolute() {
            way.target = PathBuf::from("/");
        }
        push(&mut todo, &text);
    }
    Some(way)
}

fn push(todo: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    todo.extend(parts);
}

/// Returns each reading of the path in a pointer file; empty for other files.
pub fn read_pointer(path: &Path) -> Vec<OsString> {
    read(path).map(|text| pointer(&text)).unwrap_or_default()
}

/// Reads the path in a file `commondir`, which names the directory that worktrees share; links to
/// that file are followed too.
pub fn read_common(path: &Path) -> Option<OsString> {
    let way = follow(path.parent()?, path.file_name()?)?;
    line(&read(&way.target)?)
}

/// Reads a small regular file; `None` for other files, and for longer ones.
pub fn read_small(path: &Path) -> Option<Vec<u8>> {
    read(path)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // A file that became a pipe must not keep the session from starting.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    let length = file.take(POINTER_BYTES_MAX + 1).read_to_end(&mut text);
    let fits = |length: usize| u64::try_from(length).is_ok_and(|l| l <= POINTER_BYTES_MAX);
    length.is_ok_and(fits).then_some(text)
}

fn pointer(text: &[u8]) -> Vec<OsString> {
    let Some(path) = text.strip_prefix(POINTER_START) else {
        return Vec::new();
    };
    // Git wants one blank here and counts a further one to the path; other readers skip all of
    // them.
    let one = path.strip_prefix(b" ").and_then(line);
    let any = line(path.trim_ascii_start()).filter(|any| one.as_ref() != Some(any));
    one.into_iter().chain(any).collect()
}

/// Git strips only the line ends at the end of such a file, so a path can contain them too; a NUL
/// ends it.
fn line(text: &[u8]) -> Option<OsString> {
    let end = text
        .iter()
        .rposition(|byte| !matches!(byte, b'\n' | b'\r'))?;
    let path = text.get(..=end)?.split(|byte| *byte == 0).next()?;
    (!path.is_empty()).then(|| OsString::from_vec(path.to_owned()))
}

#[cfg(test)]
impl Places {
    /// Returns every place with each further name of it.
    pub fn all(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let all = self.led_to.values().flat_map(|place| &place.0);
        all.map(|(path, name)| (Path::new(OsStr::from_bytes(path)), name.as_slice()))
    }

    /// Returns the paths on the way to a place.
    fn on_the_way(&self) -> impl Iterator<Item = &Path> {
        self.on_the_way.values().flat_map(|place| {
            let paths: BTreeSet<_> = place.0.iter().map(|(path, _)| path).collect();
            paths
                .into_iter()
                .map(|path| Path::new(OsStr::from_bytes(path)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, fs, os::unix::fs::symlink, path::Path};

    use stockade_types::AbsPath;

    use super::{POINTER_BYTES_MAX, Places, follow, join, line, pointer, read_pointer};

    #[test]
    fn pointers_are_read_as_git_reads_them() {
        for (text, paths) in [
            ("gitdir: ./.bare\n", &["./.bare"][..]),
            ("gitdir: ../a b\r\n\n", &["../a b"]),
            ("gitdir: /x", &["/x"]),
            ("gitdir:x", &["x"]),
            ("gitdir:  x", &[" x", "x"]),
            ("gitdir: a\nb\n", &["a\nb"]),
            ("gitdir: a\0b", &["a"]),
            ("gitdir: \n", &[]),
            ("gitdir:", &[]),
            ("Gitdir: a", &[]),
            (" gitdir: a", &[]),
            ("worktree: a", &[]),
            ("", &[]),
        ] {
            assert_eq!(pointer(text.as_bytes()), paths, "{text:?}");
        }
        assert_eq!(line(b"../..\n").as_deref(), Some(OsStr::new("../..")));
        assert_eq!(line(b"../..\0x").as_deref(), Some(OsStr::new("../..")));
        assert_eq!(line(b"\n"), None);
    }

    #[test]
    fn what_is_no_small_file_is_no_pointer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        let max = usize::try_from(POINTER_BYTES_MAX).unwrap();
        let text = |bytes: usize| format!("gitdir: {}", "x".repeat(bytes - "gitdir: ".len()));
        fs::write(&file, text(max)).unwrap();
        assert_eq!(read_pointer(&file).len(), 1);
        fs::write(&file, text(max + 1)).unwrap();
        for path in [&file, dir.path(), &dir.path().join("none")] {
            assert!(read_pointer(path).is_empty(), "{path:?}");
        }
    }

    #[test]
    fn a_way_has_every_link_and_directory() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        fs::create_dir_all(top.join("a/store")).unwrap();
        symlink("a", top.join("b")).unwrap();
        symlink(top.join("b/store"), top.join("c")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        let way = follow(&top.join("a"), OsStr::new("../c/./none/..")).unwrap();
        assert_eq!(way.target, top.join("a/store"));
        assert_eq!(way.links, [top.join("c"), top.join("b")]);
        for passed in ["a", "c", "b", "a/store", "a/store/none"] {
            assert!(way.passed.contains(&top.join(passed)), "{passed}");
        }
        let missing = follow(&top, OsStr::new("x/y")).unwrap();
        assert_eq!(missing.target, top.join("x/y"));
        assert_eq!(follow(&top, OsStr::new("loop")), None);
    }

    #[test]
    fn a_path_has_the_names_of_the_places_it_lies_in() {
        let dir = tempfile::tempdir().unwrap();
        let top = fs::canonicalize(dir.path()).unwrap();
        let workspace = AbsPath::new(&top).unwrap();
        let mut places = Places::default();
        let mut note = |to: &str, name: &str| {
            let way = follow(&top, OsStr::new(to)).unwrap();
            places.note(&workspace, &way, name.as_bytes())
        };
        assert!(note("deep/.bare", ".git"));
        assert!(!note("deep/.bare", ".git"), "known");
        assert!(!note("sub/.git", ".git"), "it has that name itself");
        assert!(!note("../outside", ".git"), "outside");
        assert!(note(".", ".vscode"));
        assert!(note("Deep/.bare", ".git"), "spelled in another way");
        let names = |path: &str| -> Vec<String> {
            let names = places.names(path.as_bytes()).into_iter();
            names.map(|n| String::from_utf8(n).unwrap()).collect()
        };
        assert_eq!(
            names("deep/.Bare/config"),
            [".vscode/deep/.Bare/config", ".git/config"]
        );
        assert_eq!(names("deep/.bare"), [".vscode/deep/.bare", ".git"]);
        assert_eq!(names("deep/.barely"), [".vscode/deep/.barely"]);
        assert_eq!(names(""), [".vscode"]);
        let passed: Vec<&Path> = places.on_the_way().collect();
        assert_eq!(
            passed,
            [
                "Deep",
                "deep",
                "Deep/.bare",
                "deep/.bare",
                "sub",
                "sub/.git"
            ]
            .map(Path::new)
        );
        assert_eq!(join(b".git", b""), b".git");
        assert_eq!(join(b"", b"a"), b"a");
    }
}
