//! Places of the workspace that a protected name leads to: git follows a link or a pointer file
//! named `.git` to a directory of any name, and runs what that is configured with.

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
/// Links on the way to a target; the kernel gives up after as many (path_resolution(7)).
pub const LINKS_MAX: usize = 40;
/// What a pointer file begins with (gitrepository-layout(5)).
const POINTER_START: &[u8] = b"gitdir:";

/// What links and pointers with protected names led to when the session started. Paths are below
/// the workspace.
#[derive(Debug, Default)]
pub struct Places {
    /// By path in lower case, since patterns ignore case too.
    led_to: BTreeMap<Vec<u8>, Place>,
    /// What lies on the way to such a place, or is one: moving it would put something else there.
    on_the_way: BTreeMap<Vec<u8>, Place>,
    /// How many names there are of places led to.
    count: usize,
}

/// A path, as it is spelled, and the names with which patterns know it as well. On most file systems
/// other spellings are other paths.
#[derive(Debug, Default)]
struct Place(BTreeSet<(Vec<u8>, Vec<u8>)>);

impl Place {
    fn names(&self) -> impl Iterator<Item = &Vec<u8>> {
        let names: BTreeSet<_> = self.0.iter().map(|(_, name)| name).collect();
        names.into_iter()
    }
}

/// Where a path ends once every link in it is followed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// Each directory and link that was passed; what does not exist, too.
    passed: Vec<PathBuf>,
    links: Vec<PathBuf>,
    /// The end, which need not exist.
    pub target: PathBuf,
}

impl Places {
    /// Notes that `name` leads this way; tells whether the target is a place that was not known.
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

    /// Whether nothing is known that a protected name leads to.
    pub fn is_empty(&self) -> bool {
        self.led_to.is_empty() && self.on_the_way.is_empty()
    }

    /// How many places there are, each counted once a name.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Returns the further names of a path: those that it has below the places it lies in.
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

    /// Returns the further name by which a change of a path must not be; with `moved`, something
    /// that was made elsewhere would be at the path, or nothing.
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

    /// Tells whether what is no directory would lead elsewhere at this path.
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

/// Puts what lies below a place behind another name of it.
pub fn join(name: &[u8], below: &[u8]) -> Vec<u8> {
    let below = below.strip_prefix(b"/").unwrap_or(below);
    if below.is_empty() || name.is_empty() {
        return [name, below].concat();
    }
    [name, b"/", below].concat()
}

/// Where a path and the directories above it end; 0 stands for the workspace itself.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let inner = slashes.map(|(at, _)| at);
    let own = (!path.is_empty()).then_some(path.len());
    std::iter::once(0).chain(inner).chain(own)
}

/// Tells whether a path has a name by itself: patterns hold at any depth.
fn ends_with(path: &[u8], name: &[u8]) -> bool {
    let start = path.len().checked_sub(name.len());
    start.is_some_and(|at| {
        let (front, tail) = path.split_at(at);
        tail.eq_ignore_ascii_case(name) && (front.is_empty() || front.ends_with(b"/"))
    })
}

/// Follows a path, relative to a directory, to where it ends; `None` where that is nowhere.
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

/// Reads the path in a pointer file, in each way that it is understood; nothing for other files.
pub fn read_pointer(path: &Path) -> Vec<OsString> {
    read(path).map(|text| pointer(&text)).unwrap_or_default()
}

/// Reads the path in a file `commondir`, which names the directory that worktrees share; links lead
/// to that file too.
pub fn read_common(path: &Path) -> Option<OsString> {
    let way = follow(path.parent()?, path.file_name()?)?;
    line(&read(&way.target)?)
}

/// Reads a small regular file; nothing where it is none, or too long.
pub fn read_small(path: &Path) -> Option<Vec<u8>> {
    read(path)
}

fn read(path: &Path) -> Option<Vec<u8>> {
    // What is a pipe by now must not keep the session from starting.
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
    // Git wants one blank here, and a further one is of the path; others take any number of them.
    let one = path.strip_prefix(b" ").and_then(line);
    let any = line(path.trim_ascii_start()).filter(|any| one.as_ref() != Some(any));
    one.into_iter().chain(any).collect()
}

/// Git takes all of such a file but the ends of lines behind it, so a path can have those too; a NUL
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
    /// Returns every place with a name that it has as well.
    pub fn all(&self) -> impl Iterator<Item = (&Path, &[u8])> {
        let all = self.led_to.values().flat_map(|place| &place.0);
        all.map(|(path, name)| (Path::new(OsStr::from_bytes(path)), name.as_slice()))
    }

    /// Returns what lies on the way to a place.
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
