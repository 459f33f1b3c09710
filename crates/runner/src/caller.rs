//! The user as whom a session runs, and that user's facts.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use stockade_policy::StateDir;
use stockade_types::{AbsPath, RawText};

use crate::RunError;

/// The group that no file should have (`nogroup`).
const NOBODY: u32 = 65_534;

/// Identity and environment of a session's caller.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Identity that the command runs as.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// Its home.
    pub(crate) home: AbsPath,
    /// Its name.
    pub(crate) user: String,
    /// Environment of the caller.
    pub(crate) environment: Vec<(RawText, RawText)>,
}

impl Caller {
    /// Finds the user for the command: the caller, or for root the workspace's owner.
    pub(crate) fn of(
        workspace: &Path,
        environment: Vec<(RawText, RawText)>,
    ) -> Result<Self, RunError> {
        let (own_uid, own_gid) = stockade_sys::identity::own();
        let (uid, gid) = if own_uid == 0 {
            let path = workspace.to_owned();
            let owner =
                fs::metadata(workspace).map_err(|source| RunError::Workspace { path, source })?;
            (owner.uid(), owner.gid())
        } else {
            (own_uid, own_gid)
        };
        let home_variable = variable(&environment, "HOME")
            .filter(|home| uid == own_uid && !home.as_bytes().is_empty())
            .map(|home| PathBuf::from(home.to_os()));
        let account = account(uid);
        // Anyone can have a directory that belongs to root's group, but only root may get that
        // group's files.
        let gid = if own_uid == 0 && uid != 0 && gid == 0 {
            account.as_ref().map_or(NOBODY, |account| account.gid)
        } else {
            gid
        };
        let home = home_variable
            .or_else(|| account.as_ref().map(|account| account.home.clone()))
            .or_else(|| home_of_nobody(uid).filter(|_| uid != own_uid))
            .ok_or(RunError::NoHome(uid))?;
        // The kernel and the plan know only the resolved path.
        let home = fs::canonicalize(&home).unwrap_or(home);
        let home = AbsPath::new(&home).map_err(|_| RunError::Path(home))?;
        let user = account.map_or_else(|| uid.to_string(), |account| account.name);
        Ok(Self {
            uid,
            gid,
            home,
            user,
            environment,
        })
    }

    /// Returns a variable of the caller.
    pub(crate) fn variable(&self, name: &str) -> Option<&RawText> {
        variable(&self.environment, name)
    }

    /// Returns where an agent looks for a directory: the value of its variable, or the usual place.
    pub(crate) fn place(&self, state: &StateDir) -> Option<AbsPath> {
        let named = state
            .path_from
            .as_deref()
            .and_then(|name| self.variable(name));
        named
            .and_then(|path| AbsPath::new(path.to_os()).ok())
            .or_else(|| self.expand(&state.path))
    }

    /// Returns a path as people write it.
    pub(crate) fn shown(&self, path: &Path) -> String {
        let below = path.strip_prefix(self.home.as_path());
        let path = below.map_or_else(|_| path.to_owned(), |below| Path::new("~").join(below));
        RawText::from_os(path.as_os_str()).display()
    }

    /// Makes an absolute path from `~/…` or an absolute one.
    pub(crate) fn expand(&self, text: &str) -> Option<AbsPath> {
        match text.strip_prefix('~') {
            Some("") => Some(self.home.clone()),
            // A second slash does not start a new path, just as for the kernel.
            Some(rest) if rest.starts_with('/') => {
                self.home.join(rest.trim_start_matches('/')).ok()
            }
            _ => AbsPath::new(text).ok(),
        }
    }
}

fn variable<'a>(environment: &'a [(RawText, RawText)], name: &str) -> Option<&'a RawText> {
    environment
        .iter()
        .find(|(n, _)| n.as_bytes() == name.as_bytes())
        .map(|(_, value)| value)
}

/// Reads name and home of a user (passwd(5)). Directory services are not asked, because that would
/// load libraries of the host into the supervisor.
fn account(uid: u32) -> Option<Account> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, id, gid, _, home, ..] if id.parse() == Ok(uid) => Some(Account {
                name: (*name).to_owned(),
                gid: gid.parse().ok()?,
                home: PathBuf::from(home),
            }),
            _ => None,
        }
    })
}

/// Returns a home for an owner without an account on the machine, as files from elsewhere have: a
/// path that does not belong to another user.
fn home_of_nobody(uid: u32) -> Option<PathBuf> {
    let home = Path::new("/home").join(uid.to_string());
    let is_free = fs::symlink_metadata(&home).map_or_else(
        |error| error.kind() == std::io::ErrorKind::NotFound,
        |there| there.is_dir() && there.uid() == uid,
    );
    is_free.then_some(home)
}

/// A user's entry on the machine (passwd(5)).
struct Account {
    name: String,
    gid: u32,
    home: PathBuf,
}

/// Returns the caller's home according to the machine, which a session uses if `HOME` is not set.
pub fn account_home() -> Option<PathBuf> {
    let (uid, _) = stockade_sys::identity::own();
    account(uid).map(|account| account.home)
}
