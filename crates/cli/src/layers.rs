//! The policy files of this run, in their layers.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::FileTypeExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use rustix::fs::{Mode, OFlags};
use stockade_policy::{
    Origin, Places, Policy, Problems, Source, builtin, builtin_names, preset_for_command,
};
use stockade_runner::{
    PolicyPlace,
    enrolment::{BUNDLE_FILE, Enrolment, SYSTEM_TRUST},
};
use stockade_types::RawText;

use crate::{
    human::safe,
    own_places::{USER_FILE, directory, user_file},
    rules, state,
};

pub(crate) use crate::own_places::home;

/// The organisation's policy of this machine.
const ORGANISATION_FILE: &str = "/etc/stockade/policy.toml";
/// Names another organisation policy, only if [`ORGANISATION_FILE`] does not exist.
pub(crate) const ORGANISATION_VARIABLE: &str = "STOCKADE_ORG_POLICY";
/// Largest configuration file that is read; the loader has the same limit for policies.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Which policy holds.
#[derive(Debug, Default, Clone, clap::Args)]
pub(crate) struct LayerArgs {
    /// A policy file of this run, on top of the others; repeatable
    #[arg(long, value_name = "FILE")]
    pub(crate) policy: Vec<PathBuf>,
    /// A preset; by default the one for the command
    #[arg(long, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// The command that will run, where there is one.
    #[arg(skip)]
    pub(crate) command: Vec<RawText>,
    /// A policy that was written on the command line itself.
    #[arg(skip)]
    pub(crate) given: Option<Source>,
    /// The workspace, where it is not the current directory.
    #[arg(skip)]
    pub(crate) workspace: Option<PathBuf>,
}

/// Reads all files: preset, what the organisation has published, organisation, user, and those of the command line.
///
/// # Errors
/// When a file cannot be read, or there is no such preset. It is also an error if a policy of the
/// organisation or the user exists but cannot be read, or if the place of the user's policy is not
/// known: neither is ever skipped.
pub(crate) fn collect(args: &LayerArgs) -> anyhow::Result<Vec<Source>> {
    let mut sources = vec![preset(args)?];
    sources.extend(bundle()?);
    sources.extend(organisation(|name| std::env::var_os(name))?);
    let (path, name) = user_file()?;
    sources.extend(optional(Origin::User, &path, &name)?);
    if let Some(workspace) = workspace_of(args) {
        let path = rules::workspace_file(&workspace)?;
        let name = path.display().to_string();
        sources.extend(optional(Origin::User, &path, &name)?);
    }
    for path in &args.policy {
        sources.push(session_file(path)?);
    }
    sources.extend(args.given.clone());
    Ok(sources)
}

/// Returns the workspace of a run with these options.
pub(crate) fn workspace_of(args: &LayerArgs) -> Option<PathBuf> {
    args.workspace
        .clone()
        .or_else(|| std::env::current_dir().ok())
}

/// Returns the places of this run's policies, and those in which other policies are looked for.
///
/// # Errors
/// When there is no home.
pub(crate) fn places(args: &LayerArgs, current: &Path) -> anyhow::Result<Vec<PolicyPlace>> {
    let place = |path: PathBuf, own_directory| PolicyPlace {
        path: current.join(path),
        own_directory,
    };
    let mut places = vec![
        place(ORGANISATION_FILE.into(), true),
        place(Path::new(SYSTEM_TRUST).join(BUNDLE_FILE), true),
    ];
    let named = std::env::var_os(ORGANISATION_VARIABLE).filter(|path| !path.is_empty());
    places.extend(named.map(|path| place(path.into(), false)));
    let (path, _) = user_file()?;
    places.push(place(path, true));
    if let Some(workspace) = workspace_of(args) {
        places.push(place(rules::workspace_file(&workspace)?, true));
    }
    // A run without the variable looks in this place.
    places.extend(home().map(|home| place(home.join(".config").join(USER_FILE), true)));
    places.dedup();
    places.extend(args.policy.iter().map(|path| place(path.clone(), false)));
    Ok(places)
}

/// Finds what this machine knows of its organisation, if it belongs to one.
///
/// # Errors
/// When that cannot be told.
pub(crate) fn enrolment() -> anyhow::Result<Option<Enrolment>> {
    let state = state::location().ok();
    Ok(Enrolment::find(state.as_deref())?)
}

/// Reads the policy that the organisation has published to this machine, if there is one.
///
/// # Errors
/// When the machine belongs to an organisation, and what it knows of it cannot be used.
pub(crate) fn bundle() -> anyhow::Result<Option<Source>> {
    let published = enrolment()?.as_ref().map(Enrolment::published);
    let Some(published) = published.transpose()?.flatten() else {
        return Ok(None);
    };
    let text = published.in_force(stockade_runner::now()).text;
    Ok(Some(Source {
        origin: Origin::Organisation,
        name: published.layer_name(text),
        text: text.to_owned(),
    }))
}

/// Reads the organisation's policy, if there is one.
///
/// # Errors
/// When it exists but cannot be read.
pub(crate) fn organisation(
    variable: impl Fn(&str) -> Option<OsString>,
) -> anyhow::Result<Option<Source>> {
    let fixed = Path::new(ORGANISATION_FILE);
    if let Some(source) = optional(Origin::Organisation, fixed, ORGANISATION_FILE)? {
        return Ok(Some(source));
    }
    let Some(path) = variable(ORGANISATION_VARIABLE).filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = PathBuf::from(path);
    let source = file(Origin::Organisation, &path)
        .with_context(|| format!("{ORGANISATION_VARIABLE} names it"))?;
    Ok(Some(source))
}

/// Reads one file into a layer.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn file(origin: Origin, path: &Path) -> anyhow::Result<Source> {
    let name = path.display().to_string();
    let text = read(path).with_context(|| format!("cannot read the policy `{}`", safe(&name)))?;
    Ok(Source { origin, name, text })
}

/// Reads standard input into a layer.
///
/// # Errors
/// When it cannot be read, is too large or is not UTF-8.
pub(crate) fn stdin(origin: Origin) -> anyhow::Result<Source> {
    let text = text_of(io::stdin().lock()).context("cannot read the policy on standard input")?;
    let name = "standard input".to_owned();
    Ok(Source { origin, name, text })
}

fn session_file(path: &Path) -> anyhow::Result<Source> {
    file(Origin::Session, path)
}

fn preset(args: &LayerArgs) -> anyhow::Result<Source> {
    let name = match &args.profile {
        Some(profile) => profile.as_str(),
        None => preset_for_command(&args.command),
    };
    let Some(text) = builtin(name) else {
        bail!(
            "there is no preset `{}`; write one of {}",
            safe(name),
            builtin_names().join(", ")
        );
    };
    Ok(Source {
        origin: Origin::Builtin,
        name: name.to_owned(),
        text: text.to_owned(),
    })
}

/// Reads a file that need not exist.
fn optional(origin: Origin, path: &Path, name: &str) -> anyhow::Result<Option<Source>> {
    match read(path) {
        Ok(text) => Ok(Some(Source {
            origin,
            name: name.to_owned(),
            text,
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !leads_nowhere(path) => Ok(None),
        Err(error) => {
            Err(error).with_context(|| format!("cannot read the policy `{}`", safe(name)))
        }
    }
}

/// Returns whether `path`, or a directory above it, is a link to a missing target: the person who
/// made the link wanted a policy.
fn leads_nowhere(path: &Path) -> bool {
    path.ancestors()
        .find_map(|place| Some((place, fs::symlink_metadata(place).ok()?)))
        .is_some_and(|(place, meta)| meta.is_symlink() && fs::metadata(place).is_err())
}

fn read(path: &Path) -> io::Result<String> {
    text_of(open(path)?)
}

fn text_of(source: impl io::Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    let read = source.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        let message = format!("larger than {FILE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    String::from_utf8(bytes).map_err(|error| {
        let place = not_utf8(error.as_bytes(), error.utf8_error().valid_up_to());
        io::Error::new(io::ErrorKind::InvalidData, place)
    })
}

/// Opens a file. A named FIFO is refused, because it may never have another end; a pipe of the
/// caller (`--policy <(…)`) is read to its end.
fn open(path: &Path) -> io::Result<File> {
    let file = File::from(rustix::fs::open(
        path,
        OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        Mode::empty(),
    )?);
    if file.metadata()?.file_type().is_fifo() {
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if real.is_absolute() {
            return Err(io::Error::other("it is a FIFO"));
        }
    }
    let flags = rustix::fs::fcntl_getfl(&file)?;
    rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
    Ok(file)
}

/// Reports the line and column of the byte at `offset`; all bytes before it are UTF-8.
fn not_utf8(bytes: &[u8], offset: usize) -> String {
    let (before, rest) = bytes.split_at_checked(offset).unwrap_or((bytes, &[]));
    let before = String::from_utf8_lossy(before);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default();
    let column = column.chars().count() + 1;
    let byte = rest.first().copied().unwrap_or_default();
    format!("line {line}, column {column}: the byte 0x{byte:02x} is not UTF-8")
}

/// Checks that the policy shares none of our own places with a session.
///
/// # Errors
/// One problem for each entry that does.
pub(crate) fn check_places(policy: &Policy) -> Result<(), Problems> {
    let known = |paths: Vec<Option<PathBuf>>| -> Vec<String> {
        let mut texts: Vec<String> = paths
            .into_iter()
            .flatten()
            // By the name that the caller uses, and by the resolved path.
            .flat_map(|path| [fs::canonicalize(&path).ok(), Some(path)])
            .flatten()
            .filter_map(|path| path.to_str().map(str::to_owned))
            .collect();
        texts.sort();
        texts.dedup();
        texts
    };
    let user = user_file().ok();
    let user = user.and_then(|(path, _)| path.parent().map(Path::to_owned));
    let organisation = Path::new(ORGANISATION_FILE).parent().map(Path::to_owned);
    policy.check_places(&Places {
        homes: known(vec![home()]),
        state: known(vec![state::location().ok()]),
        policies: known(vec![user, organisation, directory(ORGANISATION_VARIABLE)]),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use stockade_policy::Origin;

    use super::{not_utf8, optional};

    #[test]
    fn only_what_is_not_there_at_all_is_no_policy() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| {
            let path = dir.path().join(name);
            let found = optional(Origin::Organisation, &path, name);
            found.map(|source| source.is_some())
        };
        fs::write(dir.path().join("good.toml"), "schema = 1\n").unwrap();
        symlink("good.toml", dir.path().join("link.toml")).unwrap();
        symlink("nowhere", dir.path().join("dangling.toml")).unwrap();
        symlink("loop.toml", dir.path().join("loop.toml")).unwrap();
        fs::create_dir(dir.path().join("config")).unwrap();
        symlink("config", dir.path().join("linked")).unwrap();
        fs::create_dir(dir.path().join("dir.toml")).unwrap();
        fs::write(
            dir.path().join("bad.toml"),
            b"a = 1\nb = \"\xc3\xa4\xff\"\n",
        )
        .unwrap();
        for name in ["good.toml", "link.toml"] {
            assert!(read(name).unwrap(), "{name}");
        }
        for name in ["none.toml", "no/such/place.toml", "linked/policy.toml"] {
            assert!(!read(name).unwrap(), "{name}");
        }
        for name in [
            "dangling.toml",
            "dangling.toml/deeper/policy.toml",
            "loop.toml",
            "dir.toml",
            "good.toml/policy.toml",
        ] {
            let error = read(name).unwrap_err();
            assert!(format!("{error:#}").contains(name), "{error:#}");
        }
        let error = format!("{:#}", read("bad.toml").unwrap_err());
        assert!(error.contains("line 2, column 7: the byte 0xff"), "{error}");
        assert_eq!(
            not_utf8(b"\xff", 0),
            "line 1, column 1: the byte 0xff is not UTF-8"
        );
    }
}
