//! The default package sources of installed clients, read from their own files.
//!
//! No client is run, because the code that it would load is no more trusted than the client itself.
//! A file counts by the text after a known name in it. A version that writes it differently has no
//! default here, and a person is asked.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Instant,
};

/// Largest file of a client: those that include a runtime have up to 100 MB.
const FILE_BYTES_MAX: u64 = 160 << 20;
/// Bytes that are searched at once.
const BLOCK_BYTES: u64 = 1 << 20;
/// Bytes after a name in which its value must begin, and longest value.
const WINDOW_BYTES: usize = 400;
/// Entries of one directory that are compared with a star.
const STAR_MAX: usize = 64;

/// A program that installs packages.
pub(super) struct Client {
    /// Unique.
    pub(super) name: &'static str,
    /// The host set of its packages.
    pub(super) set: &'static str,
    /// The program on the search path; its package is the directory above its own.
    program: &'static str,
    /// Files of its package; empty for the program itself.
    files: &'static [&'static str],
    /// Other places for them. `~` is the home, a `*` any name or part of one.
    places: &'static [&'static str],
    /// The texts in front of a value.
    marks: &'static [Mark],
}

/// The text in front of a value in a file.
#[derive(Clone, Copy)]
enum Mark {
    /// A web address follows within a few bytes.
    Address(&'static str),
    /// An address with only a host follows at once.
    Root(&'static str),
    /// A quoted host name follows at once.
    Host(&'static str),
}

impl Mark {
    const fn text(self) -> &'static str {
        match self {
            Self::Address(text) | Self::Root(text) | Self::Host(text) => text,
        }
    }
}

/// All clients with a known default.
pub(super) const CLIENTS: [Client; 9] = [
    Client {
        name: "npm",
        set: "npm",
        program: "npm",
        files: &[
            "node_modules/@npmcli/config/lib/definitions/definitions.js",
            "../@npmcli/config/lib/definitions/definitions.js",
            "lib/utils/config/definitions.js",
            "lib/config/defaults.js",
        ],
        places: &[
            "~/.nvm/versions/node/*/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js",
            "~/.volta/tools/image/node/*/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js",
            "~/.asdf/installs/nodejs/*/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js",
            "~/.local/share/mise/installs/node/*/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js",
            "~/.local/share/fnm/node-versions/*/installation/lib/node_modules/npm/node_modules/@npmcli/config/lib/definitions/definitions.js",
        ],
        marks: &[Mark::Address("'registry', {"), Mark::Address("registry: '")],
    },
    Client {
        name: "pnpm",
        set: "npm",
        program: "pnpm",
        files: &["dist/pnpm.cjs", "dist/pnpm.mjs"],
        places: &["~/.cache/node/corepack/v1/pnpm/*/dist/pnpm.cjs"],
        marks: &[Mark::Address("registry: \"")],
    },
    Client {
        name: "yarn",
        set: "npm",
        program: "yarn",
        files: &["lib/cli.js", "bin/yarn.js"],
        places: &[
            "~/.cache/node/corepack/v1/yarn/*/lib/cli.js",
            "~/.cache/node/corepack/v1/yarn/*/yarn.js",
        ],
        marks: &[
            Mark::Address("YARN_REGISTRY = "),
            Mark::Address("npmRegistryServer:"),
        ],
    },
    Client {
        name: "pip",
        set: "pip",
        program: "python3",
        files: &[
            "lib/python3/dist-packages/pip/_internal/models/index.py",
            "lib/python3*/site-packages/pip/_internal/models/index.py",
            "lib/python3*/dist-packages/pip/_internal/models/index.py",
        ],
        places: &[
            "/usr/local/lib/python3*/site-packages/pip/_internal/models/index.py",
            "/usr/local/lib/python3*/dist-packages/pip/_internal/models/index.py",
            "~/.local/lib/python3*/site-packages/pip/_internal/models/index.py",
            "~/.pyenv/versions/*/lib/python3*/site-packages/pip/_internal/models/index.py",
            "~/.asdf/installs/python/*/lib/python3*/site-packages/pip/_internal/models/index.py",
            "~/.local/share/mise/installs/python/*/lib/python3*/site-packages/pip/_internal/models/index.py",
            "~/.local/share/uv/python/*/lib/python3*/site-packages/pip/_internal/models/index.py",
        ],
        marks: &[
            Mark::Address("PyPI = PackageIndex("),
            Mark::Host("file_storage_domain="),
        ],
    },
    Client {
        name: "uv",
        set: "pip",
        program: "uv",
        files: &[],
        places: &[],
        marks: &[Mark::Address("default package index (by default: <")],
    },
    Client {
        name: "cargo",
        set: "cargo",
        program: "cargo",
        files: &[],
        places: &["~/.rustup/toolchains/*/bin/cargo"],
        marks: &[Mark::Root("sparse+")],
    },
    Client {
        name: "go",
        set: "go",
        program: "go",
        files: &["go.env", "src/cmd/go/internal/cfg/cfg.go"],
        places: &[
            "~/.asdf/installs/golang/*/go/go.env",
            "~/.local/share/mise/installs/go/*/go.env",
        ],
        marks: &[
            Mark::Address("\nGOPROXY="),
            Mark::Address("envOr(\"GOPROXY\", "),
        ],
    },
    Client {
        name: "gem",
        set: "gem",
        program: "",
        files: &[],
        places: &[
            "/usr/lib/ruby/vendor_ruby/rubygems/defaults.rb",
            "/usr/lib/ruby/*/rubygems/defaults.rb",
            "/usr/share/rubygems/rubygems/defaults.rb",
            "/usr/local/lib/ruby/*/rubygems/defaults.rb",
            "~/.rbenv/versions/*/lib/ruby/*/rubygems/defaults.rb",
            "~/.asdf/installs/ruby/*/lib/ruby/*/rubygems/defaults.rb",
            "~/.local/share/mise/installs/ruby/*/lib/ruby/*/rubygems/defaults.rb",
        ],
        marks: &[Mark::Address("DEFAULT_HOST = ")],
    },
    // Bundler requests its list from a host of its own.
    Client {
        name: "bundler",
        set: "gem",
        program: "",
        files: &[],
        places: &[
            "/usr/lib/ruby/vendor_ruby/rubygems/source.rb",
            "/usr/lib/ruby/*/rubygems/source.rb",
            "/usr/share/rubygems/rubygems/source.rb",
            "/usr/local/lib/ruby/*/rubygems/source.rb",
            "~/.rbenv/versions/*/lib/ruby/*/rubygems/source.rb",
            "~/.asdf/installs/ruby/*/lib/ruby/*/rubygems/source.rb",
            "~/.local/share/mise/installs/ruby/*/lib/ruby/*/rubygems/source.rb",
        ],
        marks: &[Mark::Host("index_uri.host = ")],
    },
];

impl Client {
    /// Returns the files that could contain it, those of the program on the search path first. It
    /// searches lazily.
    pub(super) fn candidates<'a>(
        &'a self,
        home: &'a Path,
        search_path: &OsStr,
    ) -> impl Iterator<Item = PathBuf> + 'a {
        let program = which(self.program, search_path);
        // A version manager has one program for all names.
        let itself = program.clone().filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.files.is_empty() && name.starts_with(self.program)
        });
        let package = program
            .as_deref()
            .and_then(Path::parent)
            .and_then(Path::parent);
        let package = package.map(Path::to_owned);
        let files = package.into_iter().flat_map(|package| {
            let files = self.files.iter();
            files.flat_map(move |file| expand(&package.join(file)))
        });
        let places = self
            .places
            .iter()
            .map(|place| match place.strip_prefix("~/") {
                Some(below) => home.join(below),
                None => PathBuf::from(place),
            });
        let places = places.flat_map(|place| expand(&place));
        itself.into_iter().chain(files).chain(places)
    }

    /// Reads the addresses from a file; `None` if that would take too long.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn read(&self, file: File, until: Instant) -> io::Result<Option<Vec<String>>> {
        scan(file.take(FILE_BYTES_MAX), self.marks, until)
    }
}

/// Returns the real path of a program on the search path.
fn which(program: &str, search_path: &OsStr) -> Option<PathBuf> {
    if program.is_empty() {
        return None;
    }
    let directories = std::env::split_paths(search_path).filter(|path| path.is_absolute());
    let mut found = directories
        .map(|path| path.join(program))
        .filter(|path| path.is_file());
    fs::canonicalize(found.next()?).ok()
}

/// Returns the paths that match a path with stars, in order.
fn expand(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in path {
        let text = part.to_string_lossy();
        match text.split_once('*') {
            None => found.iter_mut().for_each(|path| path.push(part)),
            Some((front, back)) => {
                found = found
                    .iter()
                    .flat_map(|path| named(path, front, back))
                    .collect();
            }
        }
    }
    found.retain(|path| path.is_file());
    found
}

fn named(directory: &Path, front: &str, back: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.len() >= front.len() + back.len()
                && name.starts_with(front)
                && name.ends_with(back)
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found.truncate(STAR_MAX);
    found
}

/// Finds for each mark the first value after it.
fn scan(
    mut file: impl io::Read,
    marks: &[Mark],
    until: Instant,
) -> io::Result<Option<Vec<String>>> {
    let longest = marks
        .iter()
        .map(|mark| mark.text().len())
        .max()
        .unwrap_or(0);
    let kept = longest + 2 * WINDOW_BYTES;
    let mut values: Vec<Option<String>> = vec![None; marks.len()];
    let mut block: Vec<u8> = Vec::new();
    loop {
        if Instant::now() > until {
            return Ok(None);
        }
        let more = file.by_ref().take(BLOCK_BYTES).read_to_end(&mut block)?;
        let is_end = u64::try_from(more).unwrap_or(u64::MAX) < BLOCK_BYTES;
        let whole = if is_end {
            block.len()
        } else {
            block.len().saturating_sub(kept)
        };
        for (mark, value) in marks.iter().zip(&mut values) {
            if value.is_none() {
                *value = find(&block, whole, *mark);
            }
        }
        if is_end || values.iter().all(Option::is_some) {
            return Ok(Some(values.into_iter().flatten().collect()));
        }
        block.drain(..whole);
    }
}

/// Finds the first value after a mark that begins within the first `whole` bytes.
fn find(block: &[u8], whole: usize, mark: Mark) -> Option<String> {
    let text = mark.text().as_bytes();
    let first = *text.first()?;
    let mut at = 0;
    while at < whole {
        let rest = block.get(at..whole)?;
        at += rest.iter().position(|byte| *byte == first)?;
        if block.get(at..).is_some_and(|here| here.starts_with(text)) {
            let behind = block.get(at + text.len()..).unwrap_or_default();
            let behind = behind.get(..WINDOW_BYTES).unwrap_or(behind);
            if let Some(value) = value(behind, mark) {
                return Some(value);
            }
        }
        at += 1;
    }
    None
}

/// Reads the value after a mark.
fn value(behind: &[u8], mark: Mark) -> Option<String> {
    let ends = |byte: &u8| !byte.is_ascii_graphic() || b"\"'`<>,|)(;\\".contains(byte);
    let word = |bytes: &[u8]| {
        let end = bytes.iter().position(ends)?;
        String::from_utf8(bytes.get(..end)?.to_vec()).ok()
    };
    let address = match mark {
        Mark::Address(_) => {
            let start = behind.windows(4).position(|four| four == b"http")?;
            word(behind.get(start..)?)?
        }
        Mark::Root(_) => {
            // In a program, texts follow each other without a separator.
            let length = behind.iter().take_while(|byte| !ends(byte)).count();
            let text = String::from_utf8(behind.get(..length)?.to_vec()).ok()?;
            let (scheme, rest) = text.split_once("://")?;
            let (host, _) = rest.split_once('/')?;
            format!("{scheme}://{host}/")
        }
        Mark::Host(_) => {
            let quoted = behind
                .strip_prefix(b"\"")
                .or_else(|| behind.strip_prefix(b"'"))?;
            format!("https://{}/", word(quoted)?)
        }
    };
    let host = super::address::parse(&address)?.host.to_string();
    host.contains('.').then_some(address)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{BLOCK_BYTES, Mark, expand, scan};

    fn read(bytes: &[u8], marks: &[Mark]) -> Vec<String> {
        let until = Instant::now() + Duration::from_mins(1);
        scan(bytes, marks, until).unwrap().unwrap()
    }

    #[test]
    fn values_are_what_stands_behind_a_mark() {
        let cases: [(&[Mark], &str, &[&str]); 6] = [
            (
                &[Mark::Address("'registry', {")],
                "define('registry', {\n    default: 'https://npm.test/',\n",
                &["https://npm.test/"],
            ),
            (
                &[
                    Mark::Address("PyPI = PackageIndex("),
                    Mark::Host("file_storage_domain="),
                ],
                "self.file_storage_domain = x\nPyPI = PackageIndex(\n  \"https://pip.test/\", file_storage_domain=\"files.test2.test\")\n",
                &["https://pip.test/", "https://files.test2.test/"],
            ),
            (
                &[Mark::Root("sparse+")],
                "sparse+ and sparse+https://iints: sparse+https://index.test/somethingelse",
                &["https://index.test/"],
            ),
            (
                &[Mark::Address("\nGOPROXY=")],
                "# x\nGOPROXY=https://go.test,direct\n",
                &["https://go.test"],
            ),
            (
                &[Mark::Host("index_uri.host = ")],
                "index_uri.host = host\nindex_uri.host = \"index.gem.test\"\n",
                &["https://index.gem.test/"],
            ),
            (
                &[Mark::Address("registry: \"")],
                "registry: \"file:///x\"\n",
                &[],
            ),
        ];
        for (marks, text, expected) in cases {
            assert_eq!(read(text.as_bytes(), marks), expected, "{text}");
        }
    }

    #[test]
    fn a_value_between_two_blocks_is_found() {
        let block = usize::try_from(BLOCK_BYTES).unwrap();
        for before in [block - 20, block - 7, block, block + 1] {
            let mut bytes = vec![b's'; before];
            bytes.extend(b"sparse+https://index.test/x");
            bytes.extend(vec![b'.'; 3000]);
            assert_eq!(
                read(&bytes, &[Mark::Root("sparse+")]),
                ["https://index.test/"],
                "{before}"
            );
        }
        let late = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(
            scan(&b"x"[..], &[Mark::Root("sparse+")], late).unwrap(),
            None
        );
    }

    #[test]
    fn stars_are_names_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["a2/x", "a1/x", "b/x", "a3/y"] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = expand(&directory.path().join("a*/x"));
        let names: Vec<_> = found
            .iter()
            .map(|path| {
                path.strip_prefix(directory.path())
                    .unwrap()
                    .display()
                    .to_string()
            })
            .collect();
        assert_eq!(names, ["a1/x", "a2/x"]);
    }
}
