//! The policy of the organisation, followed while a session runs: what a newer one denies is denied at once,
//! and a candidate is compared.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf, sync::Arc};

use stockade_egress::wire::{FromSupervisor, LayerPart};
use stockade_event::{Durability, Event};
use stockade_policy::{Origin, Policy, Source};
use stockade_supervise::{Recorder, lock, now};
use stockade_types::{Digest, chain, ignored};

use crate::{
    RunError,
    enrolment::{BUNDLE_FILE, Enrolment, POINTER_FILE, Published},
    parts::Parts,
    threads::EgressReplies,
};

/// What tells that a file is another one: device, inode, size and time of its change.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

/// Follows the policy of the organisation.
pub(crate) struct Tightening {
    enrolment: Enrolment,
    policy: Arc<Policy>,
    /// The layer that the organisation had published when the session began.
    layer: Option<String>,
    seen: [Stamp; 2],
    /// The text that denies beside the session's own policy.
    denies: Option<String>,
}

impl Tightening {
    /// Begins to follow, if the machine belongs to an organisation, and to compare the candidate if there is
    /// one.
    pub(crate) fn begin(parts: &Parts, recorder: &Recorder) -> Result<Option<Self>, RunError> {
        let enrolment = parts.enrolment.clone();
        let begun = enrolment.map(|enrolment| Self::new(enrolment, &parts.policy, recorder));
        let begun = begun.transpose();
        begun.map_err(|why| RunError::Supervisor(io::Error::other(why)))
    }

    fn new(
        enrolment: Enrolment,
        policy: &Arc<Policy>,
        recorder: &Recorder,
    ) -> Result<Self, String> {
        let published = enrolment.published().map_err(|error| chain(&error))?;
        let layer = published
            .as_ref()
            .map(|published| published.layer_name(published.in_force(now()).text));
        let is_there = |name: &String| {
            let mut sources = policy.sources().iter();
            sources.any(|source| source.origin == Origin::Organisation && source.name == *name)
        };
        let tightening = Self {
            enrolment,
            policy: Arc::clone(policy),
            layer: layer.filter(is_there),
            // Whatever has changed since the policy was loaded is seen by the first look.
            seen: [None; 2],
            denies: None,
        };
        if let Some(published) = &published
            && let Some(candidate) = published.in_force(now()).compared
        {
            tightening.compare(published, candidate, recorder);
        }
        Ok(tightening)
    }

    /// Compares a candidate. One that cannot be loaded here decides nothing either, so the session goes on.
    fn compare(&self, published: &Published, candidate: &str, recorder: &Recorder) {
        let layer = source(published, candidate);
        match self.policy.with_layer(self.layer.as_deref(), layer) {
            Ok(candidate) => recorder.compare(Arc::clone(&self.policy), candidate),
            Err(problems) => {
                let event = Event::OperatorActed {
                    action: "not-compared".to_owned(),
                    by: "organisation".to_owned(),
                    detail: format!("the candidate cannot be loaded: {problems}"),
                };
                ignored(
                    recorder.write(&event, Durability::Written),
                    "the next verdict discovers a failed journal, and is then a deny",
                );
            }
        }
    }

    /// Looks whether another policy is in force; the error is why that cannot be kept, which ends the
    /// session.
    pub(crate) fn look(
        &mut self,
        recorder: &Recorder,
        egress: &EgressReplies,
    ) -> Result<(), String> {
        let seen = [BUNDLE_FILE, POINTER_FILE].map(|name| stamp(self.enrolment.path(name)));
        if seen == self.seen {
            return Ok(());
        }
        // While the agent of the machine replaces files, or if they cannot be used, the last policy that
        // could goes on; the next look tries again.
        let Ok(Some(published)) = self.enrolment.published() else {
            return Ok(());
        };
        let in_force = published.in_force(now());
        let own = self.own_text();
        let is_own = [in_force.text, in_force.everywhere]
            .map(Some)
            .contains(&own);
        let wanted = (!is_own).then_some(in_force.everywhere);
        if wanted != self.denies.as_deref() {
            let digest = Digest::of(in_force.everywhere.as_bytes());
            let event = Event::PolicyTightened {
                channel: published.bundle.channel.clone(),
                serial: published.bundle.serial,
                digest,
                denies: wanted.is_some(),
            };
            let written = recorder.write(&event, Durability::Written);
            written.map_err(|error| format!("the journal cannot be written: {}", chain(&error)))?;
            self.tighten(wanted.map(|text| source(&published, text)), egress)?;
            self.denies = wanted.map(str::to_owned);
        }
        self.seen = seen;
        Ok(())
    }

    fn own_text(&self) -> Option<&str> {
        let name = self.layer.as_ref()?;
        let mut sources = self.policy.sources().iter();
        let own =
            sources.find(|source| source.origin == Origin::Organisation && source.name == *name);
        own.map(|source| source.text.as_str())
    }

    fn tighten(&self, layer: Option<Source>, egress: &EgressReplies) -> Result<(), String> {
        let before = self.layer.as_deref();
        let messages = match &layer {
            None => vec![FromSupervisor::Untighten],
            Some(layer) => {
                let parts = LayerPart::all(before, &layer.name, &layer.text);
                parts.into_iter().map(FromSupervisor::Tighten).collect()
            }
        };
        let newer = layer.map(|layer| self.policy.with_layer(before, layer));
        let newer = newer.transpose().map_err(|problems| {
            format!("the policy that was published cannot be loaded: {problems}")
        })?;
        self.policy.tighten(newer);
        if let Some(replies) = &*lock(egress) {
            for message in messages {
                ignored(
                    replies.send(&message),
                    "the egress process is gone, and its connections with it",
                );
            }
        }
        Ok(())
    }
}

fn source(published: &Published, text: &str) -> Source {
    Source {
        origin: Origin::Organisation,
        name: published.layer_name(text),
        text: text.to_owned(),
    }
}

fn stamp(path: PathBuf) -> Stamp {
    let found = fs::symlink_metadata(path).ok()?;
    Some((
        found.dev(),
        found.ino(),
        found.size(),
        found.ctime(),
        found.ctime_nsec(),
    ))
}
