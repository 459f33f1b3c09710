//! Where the command is, and which files outside the system directories it needs to run.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Read},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use stockade_plan::ProgramFacts;
use stockade_types::{AbsPath, RawText};

use crate::RunError;

/// Interpreters that call interpreters; the kernel itself allows five.
const INTERPRETERS_MAX: usize = 5;
/// Bytes of a first line that the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE_BYTES: u64 = 256;

/// Finds `name` as a shell would, and its roots: the package it belongs to, its interpreter's too.
///
/// # Errors
/// When it is not found or not executable.
pub(crate) fn find(
    name: &RawText,
    cwd: &Path,
    search_path: Option<&OsStr>,
) -> Result<ProgramFacts, RunError> {
    let program = locate(&name.to_os(), cwd, search_path)
        .ok_or_else(|| RunError::CommandNotFound(name.clone()))?;
    let unusable = |source: io::Error| RunError::CommandNotExecutable {
        path: program.clone(),
        source,
    };
    check_executable(&program).map_err(unusable)?;
    let mut roots = BTreeSet::new();
    let mut next = Some(program.clone());
    for _ in 0..INTERPRETERS_MAX {
        let Some(file) = next.take() else { break };
        let real = fs::canonicalize(&file).map_err(unusable)?;
        add_roots(&file, &real, &mut roots);
        next = interpreter(&real, cwd, search_path);
    }
    let program = AbsPath::new(&program).map_err(|_| RunError::Path(program.clone()))?;
    Ok(ProgramFacts {
        program,
        roots: roots.into_iter().collect(),
    })
}

fn locate(name: &OsStr, cwd: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = cwd.join(name);
        let parent = fs::canonicalize(path.parent()?).ok()?;
        let path = parent.join(path.file_name()?);
        return path.exists().then_some(path);
    }
    let default = OsString::from("/usr/local/bin:/usr/bin:/bin");
    let candidates: Vec<PathBuf> = std::env::split_paths(search_path.unwrap_or(&default))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(name))
        .filter(|candidate| candidate.is_file())
        .collect();
    let runnable = candidates.iter().find(|c| check_executable(c).is_ok());
    runnable.or(candidates.first()).cloned()
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

/// Adds what must be visible for a program at `file`, whose links end at `real`.
fn add_roots(file: &Path, real: &Path, roots: &mut BTreeSet<AbsPath>) {
    let mut add = |path: &Path| {
        if let Ok(path) = AbsPath::new(path) {
            roots.insert(path);
        }
    };
    match package(real) {
        Some(directory) => add(&directory),
        None => add(real),
    }
    if file != real {
        // The name that is executed must exist too: its own package, or just the link's place.
        match package(file) {
            Some(directory) => add(&directory),
            None => add(file),
        }
    }
}

/// The directory that holds a program together with what it loads: the outermost `node_modules`,
/// or the prefix of a language installation (`…/bin/node` next to `…/lib/node_modules`).
fn package(path: &Path) -> Option<PathBuf> {
    let mut outermost = None;
    for ancestor in path.ancestors() {
        if ancestor.file_name() == Some(OsStr::new("node_modules")) {
            outermost = Some(ancestor.to_owned());
        }
    }
    if let Some(modules) = outermost {
        // `PREFIX/lib/node_modules`: the whole prefix is the installation.
        let prefix = modules
            .parent()
            .filter(|lib| lib.file_name() == Some(OsStr::new("lib")));
        return prefix
            .and_then(Path::parent)
            .map(Path::to_owned)
            .or(Some(modules));
    }
    let bin = path
        .parent()
        .filter(|bin| bin.file_name() == Some(OsStr::new("bin")))?;
    let prefix = bin.parent()?;
    // A virtual environment or a language installation, told by what only those have.
    let marks = [
        "pyvenv.cfg",
        "lib/node_modules",
        "lib/python3",
        "lib/rustlib",
    ];
    let is_installation = marks.iter().any(|mark| prefix.join(mark).exists())
        || fs::read_dir(prefix.join("lib"))
            .ok()
            .is_some_and(|entries| {
                entries
                    .flatten()
                    .any(|e| e.file_name().as_bytes().starts_with(b"python3"))
            });
    (is_installation && prefix.components().count() > 2).then(|| prefix.to_owned())
}

/// Reads the interpreter of a script, through `env` if it uses that.
fn interpreter(script: &Path, cwd: &Path, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let mut head = Vec::new();
    fs::File::open(script)
        .ok()?
        .take(FIRST_LINE_BYTES)
        .read_to_end(&mut head)
        .ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let line = OsStr::from_bytes(line).to_str()?;
    let mut words = line.split_ascii_whitespace();
    let program = words.next()?;
    if Path::new(program).file_name() == Some(OsStr::new("env")) {
        let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
        return locate(OsStr::new(name), cwd, search_path);
    }
    locate(OsStr::new(program), cwd, search_path)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use stockade_types::{AbsPath, RawText};

    use crate::RunError;

    fn script(path: &Path, text: &str, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_package_is_visible_as_a_whole_with_its_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(dir.path()).unwrap();
        script(&base.join("n/bin/node"), "\x7fELF", 0o755);
        fs::create_dir_all(base.join("n/lib/node_modules")).unwrap();
        script(
            &base.join("p/node_modules/agent/cli.js"),
            "#!/usr/bin/env node\n",
            0o755,
        );
        fs::create_dir_all(base.join("p/node_modules/.bin")).unwrap();
        std::os::unix::fs::symlink("../agent/cli.js", base.join("p/node_modules/.bin/agent"))
            .unwrap();
        let path =
            std::env::join_paths([base.join("p/node_modules/.bin"), base.join("n/bin")]).unwrap();
        let found = super::find(&RawText::from("agent"), &base, Some(&path)).unwrap();
        assert_eq!(
            found.program,
            AbsPath::new(base.join("p/node_modules/.bin/agent")).unwrap()
        );
        let roots: Vec<_> = found.roots.iter().map(|r| r.as_path().to_owned()).collect();
        assert_eq!(roots, [base.join("n"), base.join("p/node_modules")]);
    }

    #[test]
    fn missing_and_not_executable_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        script(&dir.path().join("plain"), "text", 0o644);
        let find = |name: &str| {
            super::find(
                &RawText::from(name),
                dir.path(),
                Some(dir.path().as_os_str()),
            )
        };
        assert!(matches!(find("absent"), Err(RunError::CommandNotFound(_))));
        assert!(matches!(
            find("./absent"),
            Err(RunError::CommandNotFound(_))
        ));
        assert!(matches!(
            find("plain"),
            Err(RunError::CommandNotExecutable { .. })
        ));
    }
}
