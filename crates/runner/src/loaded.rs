//! What the record says of the policy of a session.

use stockade_event::{BundleSeen, Event, LayerSeen, RolloutSeen};
use stockade_policy::{Origin, Policy, Source};
use stockade_supervise::now;
use stockade_types::Digest;

use crate::{RunError, enrolment::Enrolment};

/// Says which policy was loaded, of which layers, and which of them the organisation has published.
///
/// # Errors
/// When what this machine knows of its organisation cannot be used, or the published policy is not among the
/// layers.
pub(crate) fn event(policy: &Policy, enrolment: Option<&Enrolment>) -> Result<Event, RunError> {
    let layers = policy.sources().iter().map(|source| LayerSeen {
        origin: source.origin.as_str().to_owned(),
        name: source.name.clone(),
        digest: Digest::of(source.text.as_bytes()),
    });
    Ok(Event::PolicyLoaded {
        revision: policy.revision(),
        layers: layers.collect(),
        rules: u64::try_from(policy.rules().len()).unwrap_or(u64::MAX),
        quiet: Some(policy.quiet_rules()),
        bundle: bundle(policy, enrolment)?,
    })
}

fn bundle(policy: &Policy, enrolment: Option<&Enrolment>) -> Result<Option<BundleSeen>, RunError> {
    let published = enrolment.map(Enrolment::published).transpose()?.flatten();
    let Some(published) = published else {
        return Ok(None);
    };
    let in_force = published.in_force(now());
    let is_it =
        |source: &Source| source.origin == Origin::Organisation && source.text == in_force.text;
    if !policy.sources().iter().any(is_it) {
        return Err(RunError::BundleChanged);
    }
    Ok(Some(BundleSeen {
        digest: Digest::of(in_force.text.as_bytes()),
        rollout: in_force.rollout.map(|(rollout, step)| RolloutSeen {
            rollout: rollout.to_owned(),
            step,
            arm: in_force.arm,
        }),
        channel: published.bundle.channel,
        serial: published.bundle.serial,
    }))
}
