//! What a machine that belongs to an organisation knows of it: files that its agent keeps, and that are
//! checked whenever they are read.
//!
//! | file | what |
//! |---|---|
//! | `node.json` | the organisation, the name of the machine, its owner, and where people vote |
//! | `root.json` | which keys may sign what; signed by its own keys |
//! | `directory.json` | the people, signed by the people keys |
//! | `membership.json` | which team the machine belongs to, signed by the people keys; it need not be there |
//! | `bundle.json` | the policy, signed by the policy keys; it need not be there |
//! | `pointer.json` | which step of the rollout of the bundle it is, signed by the server; it need not be there |
//!
//! Those of the system are below [`SYSTEM_TRUST`], belong to root, and win over those in the state directory
//! of a user.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use rustix::fs::{CWD, Mode, OFlags};
use serde::de::DeserializeOwned;
use stockade_approval::{Question, Verify};
use stockade_supervise::lock;
use stockade_trust::{
    Asked, Ballot, Bundle, Directory, Envelope, Granted, InForce, Membership, Node, Pointer,
    PointerError, Root, RootError, StatementError,
};
use stockade_types::{SessionId, UnixMillis, chain};

/// Where the system keeps what it knows.
pub const SYSTEM_TRUST: &str = "/var/lib/stockade/trust";
/// The directory in the state directory of a user.
pub const USER_TRUST: &str = "trust";
/// The file without which a machine belongs to no organisation.
pub const NODE_FILE: &str = "node.json";
/// Which keys may sign what.
pub const ROOT_FILE: &str = "root.json";
/// The people.
pub const DIRECTORY_FILE: &str = "directory.json";
/// Which team the machine belongs to.
pub const MEMBERSHIP_FILE: &str = "membership.json";
/// The policy.
pub const BUNDLE_FILE: &str = "bundle.json";
/// Which step of the rollout of the policy it is.
pub const POINTER_FILE: &str = "pointer.json";
/// Longest of these files: a policy of 8 MiB, its largest, in base64.
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Bits of a mode with which others than the owner write.
const OTHERS_WRITE: u32 = 0o022;
/// Times of statements that are to be used whatever the time is.
const ALWAYS: UnixMillis = UnixMillis(0);

/// Where a machine keeps what it knows of its organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    place: PathBuf,
    /// Who may own the files beside root.
    owner: u32,
}

/// Why what a machine knows of its organisation cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnrolmentError {
    /// A file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else could change it.
    #[error("`{path}` {what}; make it {expected}, with `chmod go-w`")]
    Unsafe {
        /// The file or directory.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What it has to be.
        expected: String,
    },
    /// It is no such file.
    #[error("`{path}` is not what it has to be: {why}; enrol this machine again")]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Its root is not used.
    #[error("`{path}` is not used")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: RootError,
    },
    /// Its pointer is not used.
    #[error("`{path}` is not used")]
    Pointer {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: PointerError,
    },
    /// One of its statements is not used.
    #[error("`{path}` is not used")]
    Statement {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StatementError,
    },
}

/// What a machine knows of its organisation.
#[derive(Clone, Debug)]
pub struct Pinned {
    /// The machine.
    pub node: Node,
    /// Which keys may sign what.
    pub root: Root,
}

/// The policy that the organisation has published to this machine, and where its rollout stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The policy, with the candidate if there is one.
    pub bundle: Bundle,
    /// Which step it is.
    pub pointer: Option<Pointer>,
    /// Names the machine.
    node: String,
}

impl Published {
    /// Says what is in force at a time.
    pub fn in_force(&self, now: UnixMillis) -> InForce<'_> {
        self.bundle.in_force(self.pointer.as_ref(), &self.node, now)
    }

    /// Returns the name of the layer of policy that is made of one of its texts.
    pub fn layer_name(&self, text: &str) -> String {
        let Bundle {
            name,
            channel,
            serial,
            ..
        } = &self.bundle;
        let which = if text == self.bundle.text {
            ""
        } else {
            ", candidate"
        };
        format!("{name} ({channel} {serial}{which})")
    }
}

impl Enrolment {
    /// Finds what this machine knows: of the system, or below the state directory of this user. `None` if
    /// it belongs to no organisation.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn find(state_dir: Option<&Path>) -> Result<Option<Self>, EnrolmentError> {
        Self::find_in(Path::new(SYSTEM_TRUST), state_dir)
    }

    /// Returns the place of one of its files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// Tells whether root has enrolled the machine, rather than this user for sessions of his own.
    pub fn is_by_system(&self) -> bool {
        self.place == Path::new(SYSTEM_TRUST)
    }

    fn find_in(system: &Path, state_dir: Option<&Path>) -> Result<Option<Self>, EnrolmentError> {
        let user = rustix::process::geteuid().as_raw();
        // What is no directory keeps nothing; whoever opens it says so.
        let state_dir = state_dir.filter(|dir| dir.is_dir());
        let own = state_dir.map(|dir| (dir.join(USER_TRUST), user));
        for (place, owner) in [Some((system.to_owned(), 0)), own].into_iter().flatten() {
            let path = place.join(NODE_FILE);
            match path.symlink_metadata() {
                Ok(_) => return Ok(Some(Self { place, owner })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(EnrolmentError::Read { path, source }),
            }
        }
        Ok(None)
    }

    /// Reads which machine this is and which keys may sign what, at this time.
    ///
    /// # Errors
    /// When a file cannot be read, somebody else could change it, or it is not signed as it has to be.
    pub fn pinned(&self, now: UnixMillis) -> Result<Pinned, EnrolmentError> {
        let node: Node = self.json(NODE_FILE)?;
        let root = Root::open(&self.json(ROOT_FILE)?, now).map_err(|source| {
            let path = self.place.join(ROOT_FILE);
            EnrolmentError::Root { path, source }
        })?;
        if root.org != node.org {
            return Err(EnrolmentError::Content {
                path: self.place.join(ROOT_FILE),
                why: "it is of another organisation than `node.json`".to_owned(),
            });
        }
        Ok(Pinned { node, root })
    }

    /// Reads the people, of whom at least the serial `known` was seen before.
    ///
    /// # Errors
    /// As [`Self::pinned`].
    pub fn directory(
        &self,
        root: &Root,
        known: u64,
        now: UnixMillis,
    ) -> Result<Directory, EnrolmentError> {
        let envelope: Envelope = self.json(DIRECTORY_FILE)?;
        let directory = root.directory(&envelope, known, now);
        directory.map_err(|source| self.wrong(DIRECTORY_FILE, source))
    }

    /// Reads which team the machine belongs to, of which at least the serial `known` was seen before. `None` if
    /// nobody has said that it belongs to one.
    ///
    /// # Errors
    /// As [`Self::pinned`].
    pub fn membership(
        &self,
        pinned: &Pinned,
        known: u64,
        now: UnixMillis,
    ) -> Result<Option<Membership>, EnrolmentError> {
        if !self.has(MEMBERSHIP_FILE)? {
            return Ok(None);
        }
        let envelope: Envelope = self.json(MEMBERSHIP_FILE)?;
        let node = &pinned.node.node;
        let membership = pinned.root.membership(&envelope, node, known, now);
        let membership = membership.map_err(|source| self.wrong(MEMBERSHIP_FILE, source))?;
        Ok(Some(membership))
    }

    /// Reads the policy, if there is one. It is used also after its root has expired: a machine that cannot
    /// reach its organisation keeps its policy.
    ///
    /// # Errors
    /// As [`Self::pinned`].
    pub fn published(&self) -> Result<Option<Published>, EnrolmentError> {
        if !self.has(BUNDLE_FILE)? {
            return Ok(None);
        }
        let Pinned { node, root } = self.pinned(ALWAYS)?;
        let envelope: Envelope = self.json(BUNDLE_FILE)?;
        let bundle = root.bundle(&envelope, 0);
        let bundle = bundle.map_err(|source| self.wrong(BUNDLE_FILE, source))?;
        Ok(Some(Published {
            pointer: self.pointer(&root, &bundle)?,
            bundle,
            node: node.node,
        }))
    }

    /// Reads which step of the rollout it is. A pointer for another bundle is none: the agent of the machine
    /// replaces the bundle first.
    fn pointer(&self, root: &Root, bundle: &Bundle) -> Result<Option<Pointer>, EnrolmentError> {
        if bundle.candidate.is_none() || !self.has(POINTER_FILE)? {
            return Ok(None);
        }
        match root.kept_pointer(&self.json(POINTER_FILE)?, bundle) {
            Ok(pointer) => Ok(Some(pointer)),
            Err(PointerError::Bundle { .. }) => Ok(None),
            Err(source) => Err(EnrolmentError::Pointer {
                path: self.place.join(POINTER_FILE),
                source,
            }),
        }
    }

    fn has(&self, name: &str) -> Result<bool, EnrolmentError> {
        let path = self.place.join(name);
        match path.symlink_metadata() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(EnrolmentError::Read { path, source }),
        }
    }

    fn wrong(&self, name: &str, source: StatementError) -> EnrolmentError {
        let path = self.place.join(name);
        EnrolmentError::Statement { path, source }
    }

    /// Reads a file that nobody but its owner or root can change, and that is no link.
    fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T, EnrolmentError> {
        let path = self.place.join(name);
        let read = |source| EnrolmentError::Read {
            path: path.clone(),
            source,
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let place = rustix::fs::openat(CWD, &self.place, flags | OFlags::DIRECTORY, Mode::empty());
        let place = File::from(place.map_err(|error| read(error.into()))?);
        self.check(&self.place, &place)?;
        let file = rustix::fs::openat(&place, name, flags, Mode::empty());
        let file = File::from(file.map_err(|error| read(error.into()))?);
        self.check(&path, &file)?;
        if !file.metadata().map_err(read)?.is_file() {
            return Err(read(io::Error::other("it is not a plain file")));
        }
        let mut bytes = Vec::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(read)?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
            let message = format!("larger than {FILE_BYTES_MAX} bytes");
            return Err(read(io::Error::new(io::ErrorKind::FileTooLarge, message)));
        }
        serde_json::from_slice(&bytes).map_err(|error| EnrolmentError::Content {
            path: path.clone(),
            why: error.to_string(),
        })
    }

    fn check(&self, path: &Path, file: &File) -> Result<(), EnrolmentError> {
        let metadata = file.metadata().map_err(|source| EnrolmentError::Read {
            path: path.to_owned(),
            source,
        })?;
        let (uid, mode) = (metadata.uid(), metadata.mode() & 0o7777);
        if (uid == 0 || uid == self.owner) && mode & OTHERS_WRITE == 0 {
            return Ok(());
        }
        let expected = if self.owner == 0 {
            "root's, and writable for root alone".to_owned()
        } else {
            format!(
                "that of uid {} or root's, and writable for it alone",
                self.owner
            )
        };
        Err(EnrolmentError::Unsafe {
            path: path.to_owned(),
            what: format!("belongs to uid {uid} and has mode {mode:04o}"),
            expected,
        })
    }
}

/// Returns what checks statements of people in roles about questions of `session`. What this machine knows of
/// its organisation is read anew each time, and never goes back.
pub(crate) fn verifier(enrolment: Enrolment, session: SessionId) -> Verify {
    // The version of the root, and the serials of the people and of the membership.
    let known = Mutex::new((0, 0, 0));
    Box::new(move |question, envelope, now| {
        let mut known = lock(&known);
        let pinned = enrolment.pinned(now).map_err(|error| chain(&error))?;
        if pinned.root.version < known.0 {
            return Err(
                "which keys may sign what has gone back since the last statement".to_owned(),
            );
        }
        let people = enrolment.directory(&pinned.root, known.1, now);
        let people = people.map_err(|error| chain(&error))?;
        let membership = enrolment.membership(&pinned, known.2, now);
        let membership = membership.map_err(|error| chain(&error))?;
        // Without it, roles that are held for a team count for nothing here.
        let serial = membership.as_ref().map_or(known.2, |said| said.serial);
        *known = (pinned.root.version, people.serial, serial);
        let team = membership.and_then(|membership| membership.team);
        let people = people.within(team.as_ref());
        verify((&pinned, &people), &session, question, envelope, now)
    })
}

fn verify(
    (pinned, people): (&Pinned, &Directory),
    session: &SessionId,
    question: &Question,
    envelope: &Envelope,
    now: UnixMillis,
) -> Result<Granted, String> {
    let Some(case) = question.case() else {
        return Err("the question does not ask people in roles".to_owned());
    };
    let node = &pinned.node;
    let asked = Asked {
        ballot: Ballot {
            org: &node.org,
            node: &node.node,
            session,
            approval: &case.id,
            nonce: case.nonce,
            request: case.question.request_digest(),
            revision: case.revision,
            rendered: case.rendered,
        },
        review: &case.review,
        requesters: node.owner.as_slice(),
        requesters_are_known: node.owner.is_some(),
        directory: people,
        servers: &pinned.root.servers,
        party: &node.party,
        since: question.asked,
        now,
    };
    asked.verify(envelope).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use stockade_trust::{Keys, RelyingParty, SecretKey, UserId};

    use super::*;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&[seed; 32])
    }

    fn node(org: &str) -> Node {
        Node {
            org: org.to_owned(),
            node: "n-1".to_owned(),
            owner: Some(UserId("otto".to_owned())),
            party: RelyingParty {
                id: "stockade.test".to_owned(),
                origin: "https://stockade.test".to_owned(),
            },
        }
    }

    fn root(version: u64) -> Envelope {
        let keys = |seed| Keys {
            keys: vec![key(seed).public()],
            threshold: 1,
        };
        let root = Root {
            org: "shop".to_owned(),
            version,
            not_after: UnixMillis(1000),
            root: keys(1),
            people: keys(2),
            policy: keys(3),
            servers: keys(4),
        };
        Envelope::seal(&root, &[&key(1)]).unwrap()
    }

    fn bundle(seed: u8) -> Envelope {
        let bundle = Bundle {
            org: "shop".to_owned(),
            channel: "ci".to_owned(),
            serial: 1,
            created: UnixMillis(0),
            name: "org.toml".to_owned(),
            text: "schema = 1\n".to_owned(),
            candidate: None,
        };
        Envelope::seal(&bundle, &[&key(seed)]).unwrap()
    }

    /// A state directory with `trust` in it.
    fn state() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join(USER_TRUST);
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).unwrap();
        put(&place, NODE_FILE, &node("shop"));
        put(&place, ROOT_FILE, &root(1));
        dir
    }

    fn put(place: &Path, name: &str, content: &impl serde::Serialize) {
        let path = place.join(name);
        fs::write(&path, serde_json::to_vec(content).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn found(dir: &Path) -> Enrolment {
        let nowhere = dir.join("nowhere");
        Enrolment::find_in(&nowhere, Some(dir)).unwrap().unwrap()
    }

    #[test]
    fn a_machine_belongs_to_the_organisation_of_the_system_first() {
        let (system, user) = (state(), state());
        let place = system.path().join(USER_TRUST);
        let found = |place: &Path, user| Enrolment::find_in(place, user).unwrap();
        assert_eq!(found(&place, Some(user.path())).unwrap().place, place);
        let own = found(&user.path().join("none"), Some(user.path())).unwrap();
        assert_eq!(own.place, user.path().join(USER_TRUST));
        assert_eq!(found(&user.path().join("none"), Some(&place)), None);
        assert_eq!(found(&user.path().join("none"), None), None);
    }

    #[test]
    fn what_somebody_else_can_change_is_not_used() {
        let dir = state();
        let place = dir.path().join(USER_TRUST);
        let read = || found(dir.path()).pinned(UnixMillis(0));
        assert_eq!(read().unwrap().node, node("shop"));
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (path, good) in [
            (place.clone(), 0o700),
            (place.join(NODE_FILE), 0o600),
            (place.join(ROOT_FILE), 0o600),
        ] {
            for bad in [0o020, 0o002] {
                mode(&path, good | bad);
                let error = read().unwrap_err();
                assert!(matches!(error, EnrolmentError::Unsafe { .. }), "{error}");
            }
            mode(&path, good | 0o044);
            assert!(read().is_ok(), "others may read it");
            mode(&path, good);
        }
        let real = dir.path().join("real.json");
        fs::rename(place.join(ROOT_FILE), &real).unwrap();
        symlink(&real, place.join(ROOT_FILE)).unwrap();
        assert!(matches!(read().unwrap_err(), EnrolmentError::Read { .. }));
    }

    #[test]
    fn what_is_not_signed_as_it_has_to_be_is_not_used() {
        let dir = state();
        let place = dir.path().join(USER_TRUST);
        let machine = found(dir.path());
        assert!(machine.published().unwrap().is_none());
        put(&place, BUNDLE_FILE, &bundle(3));
        assert_eq!(machine.published().unwrap().unwrap().bundle.serial, 1);
        for seed in [1, 2, 4, 5] {
            put(&place, BUNDLE_FILE, &bundle(seed));
            let error = machine.published().unwrap_err();
            assert!(matches!(error, EnrolmentError::Statement { .. }), "{error}");
        }
        // The policy outlives its root, the people do not.
        put(&place, BUNDLE_FILE, &bundle(3));
        assert!(machine.published().is_ok());
        let error = machine.pinned(UnixMillis(1000)).unwrap_err();
        assert!(matches!(error, EnrolmentError::Root { .. }), "{error}");
        put(&place, NODE_FILE, &node("other"));
        let error = machine.pinned(UnixMillis(0)).unwrap_err();
        assert!(matches!(error, EnrolmentError::Content { .. }), "{error}");
        fs::write(place.join(NODE_FILE), "{").unwrap();
        let error = machine.published().unwrap_err();
        assert!(matches!(error, EnrolmentError::Content { .. }), "{error}");
    }
}
