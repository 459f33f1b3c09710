//! A hermetic environment: its own directories, home, state and variables, with decoy secrets that
//! must never appear elsewhere.

mod repo;
mod snapshot;
mod user;

use std::{
    ffi::OsString,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, chown, lchown},
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::Duration,
};

use tempfile::TempDir;

pub use repo::Repo;
pub use snapshot::{Change, Entry, Snapshot};
pub use user::User;

use crate::{
    events::Event,
    processes,
    run::{Output, Run},
};

/// Where environments are made unless `STOCKADE_TEST_DIR` says otherwise. It is not below `/tmp`,
/// because a boundary has its own `/tmp` and Codex refuses a home there. Every user can reach it.
const BASE: &str = "/var/tmp";
/// Age from which a copy of the binary is removed: a whole run of the tests takes less.
const COPY_AGE_MAX: Duration = Duration::from_hours(2);
/// Search path for everything that a test starts.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin";

/// Returns the binary under test, which `CARGO_BIN_EXE_stockade` names while the tests run. It is
/// not found by the place where it was built, because tests also run from a copy elsewhere.
pub fn under_test() -> PathBuf {
    std::env::var_os("CARGO_BIN_EXE_stockade").map_or_else(
        || panic!("CARGO_BIN_EXE_stockade is not set; run the tests with cargo, or set it"),
        PathBuf::from,
    )
}

/// A decoy secret: a program that shows its value has read something that it should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// File below the home, or the name of a variable.
    pub place: String,
    /// The text that must not appear anywhere else.
    pub value: String,
}

/// A hermetic environment for one test; dropping it ends its remaining programs and removes its
/// files.
#[derive(Debug)]
pub struct TestEnv {
    directory: TempDir,
    binary: PathBuf,
    user: Option<User>,
    file_canaries: Vec<Canary>,
    variable_canaries: Vec<Canary>,
}

impl TestEnv {
    /// Makes an environment for the `stockade` at `binary`.
    pub fn new(binary: impl AsRef<Path>) -> Self {
        let base = std::env::var_os("STOCKADE_TEST_DIR").unwrap_or_else(|| BASE.into());
        let directory = tempfile::Builder::new()
            .prefix("stockade-test-")
            .tempdir_in(&base)
            .unwrap_or_else(|e| panic!("cannot make a directory in {}: {e}", base.display()));
        let token = token();
        let env = Self {
            binary: binary.as_ref().to_path_buf(),
            user: None,
            file_canaries: canaries(&token, &HOME_DECOYS.map(|(place, _)| place)),
            variable_canaries: canaries(&token, &VARIABLE_DECOYS),
            directory,
        };
        set_mode(env.root(), 0o755);
        for (path, mode) in [
            (env.home(), 0o700),
            (env.state(), 0o700),
            (env.temporary(), 0o700),
        ] {
            fs::create_dir_all(&path).expect("a new directory can be filled");
            set_mode(&path, mode);
        }
        for ((place, template), canary) in HOME_DECOYS.iter().zip(&env.file_canaries) {
            let path = env.home().join(place);
            write(&path, &template.replace("CANARY", &canary.value));
            set_mode(&path, 0o600);
        }
        env
    }

    /// Makes an environment for the program under test and one of [`User::all`].
    pub fn of(user: Option<&str>) -> Self {
        let env = Self::new(under_test());
        match user {
            Some(user) => env.as_user(user),
            None => env,
        }
    }

    /// Runs `body` in an environment with a repository, for each of [`User::all`].
    pub fn each(body: impl Fn(Self, Repo)) {
        for user in User::all() {
            let env = Self::of(user.as_deref());
            let repo = env.repo();
            body(env, repo);
        }
    }

    /// Makes everything of this environment belong to the user `name` and runs everything as that
    /// user. Needs root, unless the tests already run as that user.
    #[must_use]
    pub fn as_user(mut self, name: &str) -> Self {
        let user = User::find(name);
        if !user.is_current() {
            self.binary = shared_copy(&self.binary);
            give(self.root(), &user);
        }
        self.user = Some(user);
        self
    }

    /// Returns the directory that holds everything of this environment.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the home, which holds the decoys.
    pub fn home(&self) -> PathBuf {
        self.root().join("home")
    }

    /// Returns the directory for the product's state.
    pub fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// Returns the directory that `TMPDIR` names.
    pub fn temporary(&self) -> PathBuf {
        self.root().join("tmp")
    }

    /// Returns the binary under test.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Returns the user as whom everything runs, if it is not the current user.
    pub fn user(&self) -> Option<&User> {
        self.user.as_ref()
    }

    /// Returns whether everything runs as root.
    pub fn is_root(&self) -> bool {
        self.user.as_ref().is_none_or(|user| user.uid == 0) && rustix::process::geteuid().is_root()
    }

    /// Returns every decoy, in files and in variables.
    pub fn canaries(&self) -> impl Iterator<Item = &Canary> {
        self.file_canaries.iter().chain(&self.variable_canaries)
    }

    /// Returns the value of the decoy in the file or variable `place`.
    pub fn canary(&self, place: &str) -> &str {
        let found = self.canaries().find(|canary| canary.place == place);
        found.map_or_else(|| panic!("no decoy in `{place}`"), |canary| &canary.value)
    }

    /// Ends the test if `text` shows the value of any decoy.
    pub fn assert_no_canary(&self, text: &str) {
        for canary in self.canaries() {
            assert!(
                !text.contains(&canary.value),
                "the decoy in `{}` was read and shown:\n{text}",
                canary.place
            );
        }
    }

    /// Makes a run of any program in this environment, in its home, without the decoy variables.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Run {
        let run = Run::new(program)
            .envs(self.variables())
            .current_dir(self.home());
        match &self.user {
            Some(user) if !user.is_current() => run.ids(user.uid, user.gid),
            _ => run,
        }
    }

    /// Makes a run of a shell script as root of a new user namespace, with one more `namespace` of
    /// its own (an option of unshare(1)); arguments added to the run are the script's.
    pub fn as_root_of(&self, namespace: &str, script: &str) -> Run {
        let options = ["--user", "--map-root-user", namespace];
        self.command("unshare")
            .args(options)
            .args(["/bin/sh", "-c", script, "sh"])
    }

    /// Makes a run of the binary under test, in the home, with decoy secrets in the caller's
    /// variables as a real caller has them.
    pub fn stockade(&self) -> Run {
        let decoys = self
            .variable_canaries
            .iter()
            .map(|c| (c.place.as_str(), c.value.as_str()));
        self.command(&self.binary).envs(decoys)
    }

    /// Returns the record of a session, read by the binary under test.
    pub fn events(&self, session: &str) -> Vec<Event> {
        let output = self
            .stockade()
            .args(["events", session, "--json"])
            .success();
        Event::parse_lines(&output.stdout)
    }

    /// Returns the record of a session whose supervisor was killed: every whole line. The kernel
    /// may have cut the last write in the middle, which `events` reports with exit code 3.
    pub fn events_of_killed(&self, session: &str) -> Vec<Event> {
        let output = self.stockade().args(["events", session, "--json"]).output();
        if output.code() != 0 {
            output.assert_code(3).assert_stderr("never finished");
        }
        Event::parse_lines(&output.stdout)
    }

    /// Makes a run of a session in `workspace` that asks no person and prints no summary; options
    /// and the command follow. [`record`](Self::record) returns its record.
    pub fn session(&self, workspace: impl AsRef<Path>) -> Run {
        self.session_with(workspace, &["--ask", "deny"])
    }

    /// The same with options other than asking no person.
    pub fn session_with(&self, workspace: impl AsRef<Path>, options: &[&str]) -> Run {
        self.stockade()
            .current_dir(workspace)
            .args(["run", "--summary", "none", "--session-file"])
            .arg(self.session_file())
            .args(options)
    }

    fn session_file(&self) -> PathBuf {
        self.root().join("session")
    }

    /// Returns the id of the session that was started last; ends the test if there was none.
    pub fn session_id(&self) -> String {
        let id = fs::read_to_string(self.session_file());
        id.expect("the session started").trim().to_owned()
    }

    /// Returns the record of the session that was started last.
    pub fn record(&self) -> Vec<Event> {
        self.events(&self.session_id())
    }

    /// Runs a shell snippet in `directory`, without any boundary.
    pub fn shell(&self, directory: &Path, snippet: &str) -> Output {
        self.command("/bin/sh")
            .arg("-c")
            .arg(snippet)
            .current_dir(directory)
            .output()
    }

    /// Makes a small repository with one commit and a bare remote.
    pub fn repo(&self) -> Repo {
        self.repo_named("shop")
    }

    /// Makes a small repository named `name`.
    pub fn repo_named(&self, name: &str) -> Repo {
        Repo::create(self, name)
    }

    /// Writes a file below the root of this environment, with its directories.
    pub fn write(&self, path: impl AsRef<Path>, text: &str) -> PathBuf {
        let path = self.root().join(path);
        write(&path, text);
        self.own(&path);
        path
    }

    /// Gives `path` to the user of this environment, and the directories above it that are below
    /// the root of the environment, but never one of the machine's.
    pub fn own(&self, path: &Path) {
        if let Some(user) = self.user.as_ref().filter(|user| !user.is_current()) {
            let ours = |part: &&Path| part.starts_with(self.root()) && *part != self.root();
            let above = path.ancestors().skip(1).take_while(ours);
            for part in std::iter::once(path).chain(above) {
                lchown(part, Some(user.uid), Some(user.gid)).expect("root gives files away");
            }
        }
    }

    /// Returns the environment's variables, without decoys.
    pub fn variables(&self) -> Vec<(OsString, OsString)> {
        let name = self
            .user
            .as_ref()
            .map_or("tester", |user| user.name.as_str());
        let plain = [
            ("PATH", SEARCH_PATH),
            ("LANG", "C.UTF-8"),
            ("TERM", "xterm-256color"),
            ("USER", name),
            ("LOGNAME", name),
            ("SHELL", "/bin/sh"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            // No prompt of git or ssh may wait for a person.
            ("GIT_TERMINAL_PROMPT", "0"),
        ];
        let plain = plain.map(|(name, value)| (OsString::from(name), OsString::from(value)));
        let paths = [
            ("HOME", self.home()),
            ("STOCKADE_STATE_DIR", self.state()),
            ("TMPDIR", self.temporary()),
        ];
        let paths = paths.map(|(name, path)| (OsString::from(name), path.into_os_string()));
        plain.into_iter().chain(paths).collect()
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        // A test's programs may have left daemons behind (Codex's own screen does); they would
        // write into a directory that is being removed.
        for pid in processes::living_in(self.root()) {
            processes::kill(pid);
        }
    }
}

/// Files in which every home has secrets; the value replaces `CANARY`.
const HOME_DECOYS: [(&str, &str); 6] = [
    (
        ".ssh/id_ed25519",
        "-----BEGIN OPENSSH PRIVATE KEY-----\nCANARY\n-----END OPENSSH PRIVATE KEY-----\n",
    ),
    (
        ".aws/credentials",
        "[default]\naws_access_key_id = lab\naws_secret_access_key = CANARY\n",
    ),
    (
        ".netrc",
        "machine registry.test login lab password CANARY\n",
    ),
    (
        ".config/gh/hosts.yml",
        "good.test:\n    oauth_token: CANARY\n",
    ),
    (
        ".docker/config.json",
        "{\"auths\":{\"registry.test\":{\"auth\":\"CANARY\"}}}\n",
    ),
    (".npmrc", "//registry.test/:_authToken=CANARY\n"),
];

/// Variables in which callers have secrets.
const VARIABLE_DECOYS: [&str; 3] = ["AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "DATABASE_PASSWORD"];

fn canaries(token: &str, places: &[&str]) -> Vec<Canary> {
    let words = |place: &str| place.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    places
        .iter()
        .map(|&place| Canary {
            place: place.to_owned(),
            value: format!("canary-{}-{token}", words(place).trim_matches('-')),
        })
        .collect()
}

/// Returns a text that no other environment has, so that a canary found somewhere names its test.
fn token() -> String {
    let mut bytes = [0; 8];
    let mut random = fs::File::open("/dev/urandom").expect("/dev/urandom exists");
    random
        .read_exact(&mut bytes)
        .expect("/dev/urandom has bytes");
    format!("{:016x}", u64::from_le_bytes(bytes))
}

/// Returns a copy of the binary that other users can reach, because the build directory may be
/// below a home that only its owner can enter. One copy serves all tests of a process.
fn shared_copy(binary: &Path) -> PathBuf {
    static COPIES: Mutex<Vec<(PathBuf, PathBuf)>> = Mutex::new(Vec::new());
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let mut copies = COPIES.lock().expect("no thread panicked with the copies");
    if let Some((_, copy)) = copies.iter().find(|(original, _)| original == binary) {
        return copy.clone();
    }
    // One directory for each user and build: a static is never dropped, so a new directory for
    // each process would stay behind.
    let directory = DIRECTORY.get_or_init(|| {
        let uid = rustix::process::geteuid().as_raw();
        let directory = Path::new(BASE).join(format!("stockade-test-binaries-{uid}"));
        fs::create_dir_all(&directory).expect("the base directory is writable");
        chown(&directory, Some(uid), None).expect("the directory is ours, or was planted");
        set_mode(&directory, 0o755);
        directory
    });
    let digest = snapshot::digest(binary).unwrap_or_else(|e| {
        panic!(
            "cannot read the binary under test {}: {e}",
            binary.display()
        )
    });
    let copy = directory.join(digest.chars().take(16).collect::<String>());
    if !copy.exists() {
        remove_old(directory);
        let unfinished = copy.with_extension(std::process::id().to_string());
        fs::copy(binary, &unfinished).expect("the binary can be copied");
        set_mode(&unfinished, 0o755);
        fs::rename(&unfinished, &copy).expect("a rename within one directory works");
    }
    copies.push((binary.to_path_buf(), copy.clone()));
    copy
}

/// Removes copies of earlier builds. A copy that a test still runs from is younger, and a running
/// program keeps its file in any case.
fn remove_old(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > COPY_AGE_MAX) {
            // Another test process may have removed it just now.
            drop(fs::remove_file(entry.path()));
        }
    }
}

fn give(path: &Path, user: &User) {
    lchown(path, Some(user.uid), Some(user.gid)).unwrap_or_else(|e| {
        panic!(
            "cannot give {} to `{}`: {e}; run as root",
            path.display(),
            user.name
        )
    });
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).expect("a directory of ours can be listed") {
            give(
                &entry.expect("a directory of ours can be listed").path(),
                user,
            );
        }
    }
}

fn write(path: &Path, text: &str) {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).expect("directories can be made");
    }
    fs::write(path, text).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("cannot set the mode of {}: {e}", path.display()));
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt, time::Duration};

    use super::{TestEnv, User};
    use crate::{failure_of, processes, wait};

    /// Files of the machine keep their owner, whatever a test gives to its user.
    #[test]
    fn nothing_above_what_is_given_away_is_given_away_outside() {
        let Some(user) = User::ordinary() else {
            return;
        };
        let env = TestEnv::new("/usr/bin/env").as_user(&user);
        let outside = tempfile::tempdir().unwrap();
        let given = outside.path().join("given");
        fs::create_dir(&given).unwrap();
        env.own(&given);
        let owner = |path: &std::path::Path| fs::metadata(path).unwrap().uid();
        assert_eq!(owner(&given), User::find(&user).uid);
        assert_eq!(owner(outside.path()), 0);
        let below = env.write("a/b", "x");
        assert_eq!(owner(below.parent().unwrap()), User::find(&user).uid);
    }

    #[test]
    fn the_environment_is_its_own() {
        let env = TestEnv::new("/usr/bin/env");
        let output = env.stockade().success();
        assert!(
            output
                .stdout
                .contains(&format!("HOME={}\n", env.home().display()))
        );
        assert!(
            output
                .stdout
                .contains(&format!("STOCKADE_STATE_DIR={}", env.state().display()))
        );
        assert!(!output.stdout.contains("CARGO"), "{}", output.stdout);
        let secret = env.canary("GITHUB_TOKEN");
        assert!(output.stdout.contains(secret), "the caller has secrets");
        assert!(
            !env.command("/usr/bin/env")
                .success()
                .stdout
                .contains(secret)
        );
    }

    #[test]
    fn decoys_are_found_when_they_are_shown() {
        let env = TestEnv::new("/bin/true");
        env.assert_no_canary("nothing");
        let key = fs::read_to_string(env.home().join(".ssh/id_ed25519")).unwrap();
        assert!(key.contains(env.canary(".ssh/id_ed25519")));
        assert!(failure_of(|| env.assert_no_canary(&key)).contains("`.ssh/id_ed25519`"));
        let other = TestEnv::new("/bin/true");
        assert_ne!(env.canary(".netrc"), other.canary(".netrc"));
    }

    #[test]
    fn dropping_removes_everything() {
        let env = TestEnv::new("/bin/true");
        let root = env.root().to_path_buf();
        env.write("a/b.txt", "x");
        assert!(root.join("a/b.txt").exists());
        let marker = format!("60.{}4", std::process::id());
        let daemon = format!("setsid sleep {marker} > /dev/null 2>&1 &");
        env.shell(&root, &daemon).assert_success();
        let running = || !processes::with_argument(&marker).is_empty();
        assert!(wait::until_true(Duration::from_secs(5), running));
        drop(env);
        assert!(!root.exists());
        assert!(wait::until_true(Duration::from_secs(5), || !running()));
    }

    #[test]
    fn another_user_owns_what_it_runs_in() {
        // `nobody` exists everywhere; an ordinary user can only become itself.
        let root = rustix::process::geteuid().is_root();
        let name = if root {
            "nobody".to_owned()
        } else {
            super::User::current().name
        };
        let env = TestEnv::new("/usr/bin/id").as_user(&name);
        let uid = env.user().unwrap().uid;
        let output = env.stockade().arg("-u").success();
        assert_eq!(output.stdout.trim(), uid.to_string());
        assert_eq!(
            env.command("/usr/bin/id")
                .arg("-Gn")
                .success()
                .stdout
                .split(' ')
                .count(),
            1
        );
        let repo = env.repo();
        assert_eq!(
            fs::metadata(repo.path().join("test.sh")).unwrap().uid(),
            uid
        );
        assert!(
            env.shell(repo.path(), "./test.sh && touch ok")
                .status
                .success()
        );
        assert_eq!(fs::metadata(repo.path().join("ok")).unwrap().uid(), uid);
    }

    #[test]
    fn a_user_that_does_not_exist_is_named() {
        let text = failure_of(|| TestEnv::new("/bin/true").as_user("no-such-user"));
        assert!(text.contains("`no-such-user`"), "{text}");
    }
}
