//! Gathering what the planner must know of this machine.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::{Path, PathBuf},
};

use stockade_plan::{CgroupFact, EntryKind, HostFacts, SharedCounts, StateFact, SystemEntry};
use stockade_policy::Policy;
use stockade_sys::{probe, process};
use stockade_types::{AbsPath, RawText};

use crate::{RunError, program};

/// System directories that programs are found in, as far as they exist.
const SYSTEM: [&str; 12] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix/store",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
];

/// Where programs keep keys and tokens of their user, below the home. None of it exists inside; a
/// workspace among them would bring it back.
const SECRETS: [&str; 13] = [
    ".ssh",
    ".aws",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/chromium",
    ".mozilla",
    ".kube",
    ".docker",
    ".gnupg",
    ".password-store",
    ".local/share/keyrings",
    ".azure",
];

/// What the caller of a session is and has.
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
    /// Finds out whom the command runs as: the caller, or for root the workspace's owner.
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
        let home = home_variable
            .or_else(|| account.as_ref().map(|(_, home)| home.clone()))
            .ok_or(RunError::NoHome(uid))?;
        // The kernel and the plan know only the real place.
        let home = fs::canonicalize(&home).unwrap_or(home);
        let home = AbsPath::new(&home).map_err(|_| RunError::Path(home))?;
        let user = account.map_or_else(|| uid.to_string(), |(name, _)| name);
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

    /// Makes an absolute path of `~/…` or an absolute one.
    pub(crate) fn expand(&self, text: &str) -> Option<AbsPath> {
        match text.strip_prefix("~/") {
            Some(rest) => self.home.join(rest).ok(),
            None if text == "~" => Some(self.home.clone()),
            None => AbsPath::new(text).ok(),
        }
    }
}

fn variable<'a>(environment: &'a [(RawText, RawText)], name: &str) -> Option<&'a RawText> {
    environment
        .iter()
        .find(|(n, _)| n.as_bytes() == name.as_bytes())
        .map(|(_, value)| value)
}

/// Reads name and home of a user (passwd(5)); directory services are not asked, so that no library
/// of the host is loaded into the supervisor.
fn account(uid: u32) -> Option<(String, PathBuf)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [name, _, id, _, _, home, ..] if id.parse() == Ok(uid) => {
                Some(((*name).to_owned(), PathBuf::from(home)))
            }
            _ => None,
        }
    })
}

/// Returns the home that the machine knows of the caller, which a session has where `HOME` is not
/// set.
pub fn account_home() -> Option<PathBuf> {
    let (uid, _) = stockade_sys::identity::own();
    account(uid).map(|(_, home)| home)
}

/// Gathers the facts of one launch.
pub(crate) fn gather(
    policy: &Policy,
    caller: &Caller,
    workspace: &AbsPath,
    cwd: &AbsPath,
    argv: &[RawText],
    state: Vec<StateFact>,
) -> Result<HostFacts, RunError> {
    let settings = policy.settings();
    let name = argv.first().cloned().unwrap_or_default();
    let search_path = caller.variable("PATH").map(RawText::to_os);
    let program = program::find(&name, cwd.as_path(), search_path.as_deref())?;
    let (caller_uid, caller_gid) = stockade_sys::identity::own();
    let existing = |paths: &[stockade_policy::Sourced<String>]| -> Vec<AbsPath> {
        paths
            .iter()
            .filter_map(|path| caller.expand(&path.value))
            .filter(|path| fs::metadata(path).is_ok())
            .collect()
    };
    let readable = existing(&settings.filesystem.read)
        .into_iter()
        .map(|path| {
            let kind = if path.as_path().is_dir() {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
            (path, kind)
        })
        .collect();
    let own = fs::read_link("/proc/self/exe").map_err(RunError::Supervisor)?;
    let workspace_metadata = fs::metadata(workspace).map_err(|source| RunError::Workspace {
        path: workspace.as_path().to_owned(),
        source,
    })?;
    Ok(HostFacts {
        caller_uid,
        caller_gid,
        workspace_uid: workspace_metadata.uid(),
        workspace_gid: workspace_metadata.gid(),
        home: caller.home.clone(),
        secrets: secrets(&caller.home),
        user: caller.user.clone(),
        landlock_abi: stockade_sys::landlock::abi(),
        redirect: true,
        shared: shared(),
        cgroups: cgroups(),
        system: system(),
        readable,
        writable: existing(&settings.filesystem.write),
        hidden: existing(&settings.filesystem.hide),
        // The caller searches the workspace once it is known to be one.
        protected: Vec::new(),
        program,
        state,
        environment: caller.environment.clone(),
        own_executable: AbsPath::new(&own).map_err(|_| RunError::Path(own))?,
        resolv_conf: fs::canonicalize("/etc/resolv.conf")
            .ok()
            .and_then(|p| AbsPath::new(p).ok()),
    })
}

fn secrets(home: &AbsPath) -> Vec<AbsPath> {
    SECRETS
        .iter()
        .filter_map(|place| fs::canonicalize(home.as_path().join(place)).ok())
        .filter_map(|place| AbsPath::new(place).ok())
        .collect()
}

fn shared() -> SharedCounts {
    let count = |name: &str| probe::sysctl(name).and_then(|text| text.parse().ok());
    SharedCounts {
        inotify_instances: count("fs.inotify.max_user_instances"),
        inotify_watches: count("fs.inotify.max_user_watches"),
        pending_signals: process::present_limit(process::Limit::PendingSignals),
        processes: process::present_limit(process::Limit::Processes),
    }
}

fn cgroups() -> Vec<CgroupFact> {
    stockade_sys::cgroup::writable_hierarchies()
        .into_iter()
        .filter_map(|hierarchy| {
            let parent = AbsPath::new(&hierarchy.directory).ok()?;
            Some(CgroupFact {
                controller: hierarchy.controller.to_owned(),
                parent,
            })
        })
        .collect()
}

fn system() -> Vec<SystemEntry> {
    SYSTEM
        .iter()
        .filter_map(|path| {
            let metadata = fs::symlink_metadata(path).ok()?;
            let kind = if metadata.is_symlink() {
                let target = fs::read_link(path).ok()?;
                EntryKind::Link(
                    OsStr::from_bytes(target.as_os_str().as_bytes())
                        .to_str()?
                        .to_owned(),
                )
            } else if metadata.is_dir() {
                EntryKind::Directory
            } else {
                EntryKind::File
            };
            Some(SystemEntry {
                path: AbsPath::new(path).ok()?,
                kind,
            })
        })
        .collect()
}
