//! What the machine has pinned, for its own sessions: the files that `run` reads and checks again.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use stockade_api::node::{BundleHere, EnrolAnswer, RolloutHere};
use stockade_policy::{HostSets, Origin, Source, load};
use stockade_trust::{
    Bundle, Envelope, Node, Pointer, PointerError, Root, RootError, StatementError,
};
use stockade_types::UnixMillis;

use crate::{
    files::{self, FileError},
    identity::Places,
};

/// Bytes of the reasons why a policy is not used that are sent to the server.
const REASON_BYTES_MAX: usize = 2_000;

/// Characters of a channel that are told of a bundle that is not used.
const CHANNEL_CHARS_MAX: usize = 60;

/// Why a statement of the server is not kept.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It is not signed, is of another organisation, has expired or is older.
    #[error(transparent)]
    Statement(#[from] StatementError),
    /// The root is not used.
    #[error(transparent)]
    Root(#[from] RootError),
    /// Its pointer is not used.
    #[error("a pointer: {0}")]
    Pointer(#[from] PointerError),
    /// There is no bundle that a pointer could be for.
    #[error("a pointer: there is no bundle here")]
    NoBundle,
    /// Another bundle has this serial.
    #[error("another bundle has the serial {0}")]
    Serial(u64),
    /// Sessions could not use the policy.
    #[error("its policy cannot be loaded: {0}")]
    Policy(String),
    /// The parts of an enrolment do not fit each other.
    #[error("the {0} of the answer is of another organisation")]
    Organisation(&'static str),
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
}

/// What the machine has pinned.
#[derive(Debug)]
pub(crate) struct Trust {
    places: Places,
    pub(crate) root: Root,
    pub(crate) directory_serial: u64,
    /// The serial of the membership; 0 for none.
    membership_serial: u64,
    pub(crate) bundle: Option<Bundle>,
    /// The last pointer that was taken for the bundle.
    pointer: Option<Pointer>,
    /// Names the machine.
    node: String,
}

impl Trust {
    /// Checks the answer to an enrolment, and keeps what sessions need of it. `node.json` is written last:
    /// with it the machine belongs to the organisation for them.
    pub(crate) fn enrolled(
        places: &Places,
        answer: &EnrolAnswer,
        now: UnixMillis,
    ) -> Result<Root, TrustError> {
        let root = Root::open(&answer.root, now)?;
        if root.org != answer.org {
            return Err(TrustError::Organisation("root"));
        }
        let mut trust = Self {
            places: places.clone(),
            root,
            directory_serial: 0,
            membership_serial: 0,
            bundle: None,
            pointer: None,
            node: answer.node.to_string(),
        };
        trust.root.directory(&answer.directory, 0, now)?;
        files::make_dir(&places.trust())?;
        files::replace_json(&places.trust().join(ROOT_FILE), &answer.root)?;
        trust.take_directory(&answer.directory, now)?;
        // What an earlier enrolment has left is not this organisation's.
        files::remove(&places.trust().join(MEMBERSHIP_FILE))?;
        if let Some(membership) = &answer.membership {
            trust.take_membership(membership, now)?;
        }
        files::remove(&places.trust().join(POINTER_FILE))?;
        files::remove(&places.trust().join(BUNDLE_FILE))?;
        if let Some(bundle) = &answer.bundle {
            trust.take_bundle(bundle)?;
        }
        if let Some(pointer) = &answer.pointer {
            // By a wrong clock it does not hold; then the policy in force alone does.
            match trust.take_pointer(pointer, now) {
                Ok(_) | Err(TrustError::Pointer(_) | TrustError::NoBundle) => {}
                Err(error) => return Err(error),
            }
        }
        let node = Node {
            org: answer.org.clone(),
            node: answer.node.to_string(),
            owner: answer.owner.clone(),
            party: answer.party.clone(),
        };
        files::replace_json(&places.trust().join(NODE_FILE), &node)?;
        Ok(trust.root)
    }

    /// Reads what is pinned, whatever the time is: an old root still says who may sign a newer directory.
    pub(crate) fn read(places: &Places) -> Result<Self, TrustError> {
        let always = UnixMillis(0);
        let missing = |name: &str| FileError::Content {
            path: places.trust().join(name),
            why: "it is gone; leave and enrol again".to_owned(),
        };
        let read = |name: &str| files::read_json::<Envelope>(&places.trust().join(name));
        let root = read(ROOT_FILE)?.ok_or_else(|| missing(ROOT_FILE))?;
        let root = Root::open(&root, always)?;
        let directory = read(DIRECTORY_FILE)?.ok_or_else(|| missing(DIRECTORY_FILE))?;
        let directory = root.directory(&directory, 0, always)?;
        let bundle = read(BUNDLE_FILE)?;
        let membership = read(MEMBERSHIP_FILE)?;
        let bundle = bundle.map(|bundle| root.bundle(&bundle, 0)).transpose()?;
        // One that does not fit the bundle is of an earlier one; the server says it again.
        let pointer = read(POINTER_FILE)?.zip(bundle.as_ref());
        let pointer =
            pointer.and_then(|(pointer, bundle)| root.kept_pointer(&pointer, bundle).ok());
        let node: Node =
            files::read_json(&places.trust().join(NODE_FILE))?.ok_or_else(|| missing(NODE_FILE))?;
        let membership = membership
            .map(|membership| root.membership(&membership, &node.node, 0, always))
            .transpose()?;
        Ok(Self {
            places: places.clone(),
            root,
            directory_serial: directory.serial,
            membership_serial: membership.map_or(0, |membership| membership.serial),
            bundle,
            pointer,
            node: node.node,
        })
    }

    /// Removes what is pinned; `node.json` first, so that sessions never see half of it.
    pub(crate) fn forget(places: &Places) -> Result<(), FileError> {
        for name in [
            NODE_FILE,
            POINTER_FILE,
            BUNDLE_FILE,
            MEMBERSHIP_FILE,
            DIRECTORY_FILE,
            ROOT_FILE,
        ] {
            files::remove(&places.trust().join(name))?;
        }
        Ok(())
    }

    /// Returns which bundle is here.
    pub(crate) fn bundle_here(&self) -> Option<BundleHere> {
        let bundle = self.bundle.as_ref()?;
        let plan = bundle.candidate.as_ref().map(|candidate| &candidate.plan);
        let step = self.pointer.as_ref().map_or(0, |pointer| pointer.step);
        Some(BundleHere {
            channel: bundle.channel.clone(),
            serial: bundle.serial,
            digest: bundle.digest(),
            rollout: plan.map(|plan| RolloutHere {
                rollout: plan.rollout.clone(),
                step,
                arm: plan.arm(step, &self.node),
            }),
        })
    }

    /// Keeps a pointer for the bundle that is here, if the server has signed it and it leads along the plan
    /// or back to step 0. Returns whether it leads to another step than before.
    pub(crate) fn take_pointer(
        &mut self,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<bool, TrustError> {
        let bundle = self.bundle.as_ref().ok_or(TrustError::NoBundle)?;
        let known = self.pointer.as_ref();
        let pointer = self.root.pointer(envelope, bundle, known, now)?;
        let moves = known.map(|known| known.step) != Some(pointer.step);
        files::replace_json(&self.places.trust().join(POINTER_FILE), envelope)?;
        self.pointer = Some(pointer);
        Ok(moves)
    }

    /// Returns which bundle an envelope says that it is, without a look at its signatures.
    pub(crate) fn named(envelope: &Envelope) -> Option<(String, u64)> {
        let envelope = serde_json::to_value(envelope).ok()?;
        let payload = STANDARD.decode(envelope.get("payload")?.as_str()?).ok()?;
        let bundle: Bundle = serde_json::from_slice(&payload).ok()?;
        let channel = bundle.channel.chars().take(CHANNEL_CHARS_MAX).collect();
        Some((channel, bundle.serial))
    }

    /// Keeps a directory of people, if it is signed and not older than the one here.
    pub(crate) fn take_directory(
        &mut self,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<(), TrustError> {
        let directory = self.root.directory(envelope, self.directory_serial, now)?;
        files::replace_json(&self.places.trust().join(DIRECTORY_FILE), envelope)?;
        self.directory_serial = directory.serial;
        Ok(())
    }

    /// Keeps which team the machine belongs to, if it is signed, about this machine, and not older than what is
    /// here.
    pub(crate) fn take_membership(
        &mut self,
        envelope: &Envelope,
        now: UnixMillis,
    ) -> Result<(), TrustError> {
        let known = self.membership_serial;
        let membership = self.root.membership(envelope, &self.node, known, now)?;
        files::replace_json(&self.places.trust().join(MEMBERSHIP_FILE), envelope)?;
        self.membership_serial = membership.serial;
        Ok(())
    }

    /// Keeps a bundle, if it is signed, newer than the one here, and sessions can use its policy. Returns
    /// which one is here then.
    pub(crate) fn take_bundle(&mut self, envelope: &Envelope) -> Result<BundleHere, TrustError> {
        let known = self.bundle.as_ref().map_or(0, |bundle| bundle.serial);
        let bundle = self.root.bundle(envelope, known)?;
        if let Some(here) = &self.bundle
            && here.serial == bundle.serial
            && *here != bundle
        {
            return Err(TrustError::Serial(bundle.serial));
        }
        check_policy(&bundle, &bundle.text)?;
        if let Some(candidate) = &bundle.candidate {
            check_policy(&bundle, &candidate.text)?;
        }
        files::replace_json(&self.places.trust().join(BUNDLE_FILE), envelope)?;
        if self
            .bundle
            .as_ref()
            .is_none_or(|here| here.serial != bundle.serial)
        {
            // A pointer that is left after a crash does not fit the new bundle, and is not used.
            files::remove(&self.places.trust().join(POINTER_FILE))?;
            self.pointer = None;
        }
        self.bundle = Some(bundle);
        // It is there.
        self.bundle_here().ok_or(TrustError::NoBundle)
    }
}

/// Names of the files, as `run` knows them.
const NODE_FILE: &str = "node.json";
const ROOT_FILE: &str = "root.json";
const DIRECTORY_FILE: &str = "directory.json";
const MEMBERSHIP_FILE: &str = "membership.json";
const BUNDLE_FILE: &str = "bundle.json";
const POINTER_FILE: &str = "pointer.json";

/// Loads the policy as sessions do: one that does not load would keep every session from starting.
fn check_policy(bundle: &Bundle, text: &str) -> Result<(), TrustError> {
    let source = Source {
        origin: Origin::Organisation,
        name: bundle.name.clone(),
        text: text.to_owned(),
    };
    match load(&[source], &HostSets::default()) {
        Ok(_) => Ok(()),
        Err(problems) => {
            let why = problems.to_string();
            let end = why.floor_char_boundary(REASON_BYTES_MAX);
            Err(TrustError::Policy(
                why.get(..end).unwrap_or_default().to_owned(),
            ))
        }
    }
}
