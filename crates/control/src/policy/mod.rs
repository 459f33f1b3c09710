//! The policy of the organisation: checked, signed, and said to all machines.

mod lines;
mod proposals;

use stockade_api::node::Down;
use stockade_policy::{
    HostSets, Origin, Policy, Problems, Source, builtin, diff::PolicyDiff, load,
};
use stockade_trust::{
    Bundle, Candidate, Directory, Envelope, Plan, PlanError, PlanStep, Root, TeamId,
};
use stockade_types::{Digest, UnixMillis};

use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    cases::{Shortfall, shortfalls},
    clock::now,
    keys::only,
    random,
    state::{BundleRow, MoveRow, ProposalState, Reviewed, RolloutRow, RolloutState, Writing},
};

pub use lines::{Line, difference};
pub use proposals::{ProposalError, Review};

/// The one channel; the column for it is there for more.
pub const CHANNEL: &str = "default";
/// The name of the policy, in messages of machines.
const POLICY_NAME: &str = "organisation.toml";
/// The preset that every session has below the organisation's policy.
/// Stages without enough people that are named.
const SHORTFALLS_MAX: usize = 50;
const PRESET: &str = "generic";
/// The policy of an organisation that has none.
pub(crate) const NOTHING: &str = "schema = 1\n";
/// Bytes of a policy; a rule has some two hundred.
const POLICY_BYTES_MAX: usize = 2 << 20;
/// Bytes of the words of who publishes.
const MESSAGE_BYTES_MAX: usize = 2_000;
/// How long the first root is valid.
const ROOT_LASTS_MS: u64 = 5 * 365 * 24 * 60 * 60 * 1_000;

/// Why a policy is not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It is too long.
    #[error("the policy has more than 2 MiB, or the message more than 2000 bytes")]
    TooLong,
    /// It has mistakes.
    #[error("{0}")]
    Mistakes(Problems),
    /// It asks for more people than there are.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    People(Vec<Shortfall>),
    /// Its plan makes no sense.
    #[error("the plan: {0}")]
    Plan(#[from] PlanError),
    /// There is nothing in force that it could replace step by step.
    #[error("no policy is in force yet; the first one is published at once")]
    NothingBefore,
    /// Its proposal is not open any more.
    #[error("the proposal is not open any more")]
    Reviewed,
    /// Another one was published since it was made.
    #[error("serial {found} was published meanwhile; look at it first")]
    Changed {
        /// What is in force now.
        found: u64,
    },
}

/// Checks a policy as machines will, with its own tests; host sets of machines are unknown here, and empty.
///
/// # Errors
/// All its mistakes.
pub fn check(text: &str) -> Result<Policy, Problems> {
    check_as(POLICY_NAME, text)
}

/// As [`check`], with another name for the text in what is said about it.
pub(crate) fn check_as(name: &str, text: &str) -> Result<Policy, Problems> {
    let source = |origin, name: &str, text: &str| Source {
        origin,
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let mut sources = vec![source(Origin::Organisation, name, text)];
    sources.extend(builtin(PRESET).map(|text| source(Origin::Builtin, PRESET, text)));
    load(&sources, &HostSets::default())
}

/// Compares a policy with what it would replace; `""` is the preset alone. `None` if one of them cannot be
/// loaded.
pub(crate) fn compared(before: &str, after: &str) -> Option<PolicyDiff> {
    let before = if before.is_empty() { NOTHING } else { before };
    let (before, after) = (check(before).ok()?, check(after).ok()?);
    Some(PolicyDiff::new(&before, &after))
}

/// Notes what became of a proposal.
fn review_act(proposal: &str, reviewed: &Reviewed<'_>) -> Act {
    Act::new(Action::ProposalReviewed)
        .by(reviewed.by)
        .about(proposal)
        .detail(format!("{}: {}", reviewed.state.word(), reviewed.reason))
}

/// Makes the plan of a rollout with these steps and names; none without steps.
fn plan(
    steps: &[PlanStep],
    is_later: bool,
    (rollout, salt): (String, String),
) -> Result<Option<Plan>, PublishError> {
    if steps.is_empty() {
        return Ok(None);
    }
    if !is_later {
        return Err(PublishError::NothingBefore);
    }
    let plan = Plan {
        rollout,
        salt,
        steps: steps.to_vec(),
    };
    plan.check()?;
    Ok(Some(plan))
}

/// A policy that is to be published.
#[derive(Clone, Debug)]
pub struct Publication<'a> {
    /// The policy, TOML.
    pub text: &'a str,
    /// Why, in the words of who publishes.
    pub message: &'a str,
    /// Who publishes.
    pub by: &'a str,
    /// The serial that the person has seen, 0 for none, so that nobody overwrites what he did not see.
    pub after: u64,
    /// How it replaces the one in force; without steps it does so at once.
    pub steps: Vec<PlanStep>,
    /// The proposal that it is, with what its reviewer said.
    pub(crate) reviewed: Option<(&'a str, &'a str)>,
}

impl<'a> Publication<'a> {
    /// Makes one that is in force at once.
    pub const fn now(text: &'a str, message: &'a str, by: &'a str, after: u64) -> Self {
        Self {
            text,
            message,
            by,
            after,
            steps: Vec::new(),
            reviewed: None,
        }
    }

    /// Has it replace the one in force by these steps.
    #[must_use]
    pub fn step_by_step(mut self, steps: Vec<PlanStep>) -> Self {
        self.steps = steps;
        self
    }
}

impl Server {
    /// Publishes a policy at once. `after` is the serial that the person has seen, 0 for none.
    ///
    /// # Errors
    /// As [`Self::publish_as`].
    pub async fn publish(
        &self,
        text: &str,
        message: &str,
        author: &str,
        after: u64,
    ) -> Result<Result<BundleRow, PublishError>, ControlError> {
        self.publish_as(&Publication::now(text, message, author, after))
            .await
    }

    /// Publishes a policy: signs it with the next serial, alone or as a candidate with its plan, and says it
    /// to all machines. A rollout that goes on is replaced.
    ///
    /// # Errors
    /// The inner error says what is wrong with the policy; the outer one is of the server.
    pub async fn publish_as(
        &self,
        wanted: &Publication<'_>,
    ) -> Result<Result<BundleRow, PublishError>, ControlError> {
        if let Err(error) = self.publishable(wanted).await? {
            return Ok(Err(error));
        }
        let now = now();
        let mut writing = self.state.write().await?;
        let found = self.state.bundle_serial(&mut writing, CHANNEL).await?;
        if found != wanted.after {
            return Ok(Err(PublishError::Changed { found }));
        }
        let before = self.in_force_in(&mut writing, found).await?;
        let names = (random::name("r-")?, random::name("s-")?);
        let plan = match plan(&wanted.steps, before.is_some(), names) {
            Ok(plan) => plan,
            Err(error) => return Ok(Err(error)),
        };
        let (bundle, rollout) = self.bundle(wanted, found.saturating_add(1), before, plan, now);
        let row = BundleRow {
            channel: bundle.channel.clone(),
            serial: bundle.serial,
            digest: bundle.digest(),
            envelope: Envelope::seal(&bundle, &[&self.keys.policy])?,
            text: bundle.text,
            author: wanted.by.to_owned(),
            message: wanted.message.to_owned(),
            published: now,
        };
        if !self
            .keep_bundle(&mut writing, wanted, &row, rollout.as_ref())
            .await?
        {
            return Ok(Err(PublishError::Reviewed));
        }
        self.state.commit(writing).await?;
        self.hub.send_all(&Down::Bundle {
            envelope: row.envelope.clone(),
        });
        if let Some(envelope) = self.pointer().await? {
            self.hub.send_all(&Down::Pointer { envelope });
        }
        self.hub.changed(Changed::Policy);
        Ok(Ok(row))
    }

    /// Checks a policy with its tests, and whether there are the people whom it asks.
    async fn publishable(
        &self,
        wanted: &Publication<'_>,
    ) -> Result<Result<(), PublishError>, ControlError> {
        if wanted.text.len() > POLICY_BYTES_MAX || wanted.message.len() > MESSAGE_BYTES_MAX {
            return Ok(Err(PublishError::TooLong));
        }
        let checked = wanted.text.to_owned();
        let people = self.people().await?;
        let teams = self.state.teams().await?;
        let mut places = self.state.places().await?;
        if places.is_empty() {
            places.push(None);
        }
        let name = |id: &TeamId| {
            let team = teams.iter().find(|team| team.id == *id);
            team.map_or_else(|| id.0.clone(), |team| team.name.clone())
        };
        let places: Vec<(Option<String>, Directory)> = places
            .iter()
            .map(|team| (team.as_ref().map(name), people.within(team.as_ref())))
            .collect();
        let few = self.blocking(move || {
            let policy = check(&checked)?;
            let of = |(team, people): &(Option<String>, Directory)| {
                let few = shortfalls(&policy, people).into_iter();
                let team = team.clone();
                few.map(move |few| Shortfall {
                    team: team.clone(),
                    ..few
                })
                .collect::<Vec<_>>()
            };
            Ok(places
                .iter()
                .flat_map(of)
                .take(SHORTFALLS_MAX)
                .collect::<Vec<_>>())
        });
        Ok(match few.await? {
            Err(problems) => Err(PublishError::Mistakes(problems)),
            Ok(few) if !few.is_empty() => Err(PublishError::People(few)),
            Ok(_) => Ok(()),
        })
    }

    /// Keeps a bundle with its rollout and its review; `false` if its proposal is not open any more.
    async fn keep_bundle(
        &self,
        writing: &mut Writing,
        wanted: &Publication<'_>,
        row: &BundleRow,
        rollout: Option<&RolloutRow>,
    ) -> Result<bool, ControlError> {
        self.replace_rollouts(writing, wanted.by, row.published)
            .await?;
        self.state.add_bundle(writing, row).await?;
        if let Some(rollout) = rollout {
            self.state.add_rollout(writing, rollout).await?;
        }
        if let Some((proposal, reason)) = wanted.reviewed {
            let reviewed = Reviewed {
                state: ProposalState::Published,
                by: wanted.by,
                reason,
                serial: Some(row.serial),
                at: row.published,
            };
            if !self.state.review(writing, proposal, &reviewed).await? {
                return Ok(false);
            }
            let act = review_act(proposal, &reviewed);
            self.state.note(writing, &act, row.published).await?;
        }
        let act = Act::new(Action::BundlePublished)
            .by(wanted.by)
            .about(&format!("{}#{}", row.channel, row.serial))
            .digest(Digest::of(wanted.text.as_bytes()))
            .detail(wanted.message);
        self.state.note(writing, &act, row.published).await?;
        Ok(true)
    }

    fn bundle(
        &self,
        wanted: &Publication<'_>,
        serial: u64,
        before: Option<String>,
        plan: Option<Plan>,
        now: UnixMillis,
    ) -> (Bundle, Option<RolloutRow>) {
        let (text, candidate) = match (before, plan) {
            (Some(before), Some(plan)) => {
                let text = wanted.text.to_owned();
                (before, Some(Candidate { text, plan }))
            }
            (None | Some(_), _) => (wanted.text.to_owned(), None),
        };
        let rollout = candidate.as_ref().map(|candidate| RolloutRow {
            id: candidate.plan.rollout.clone(),
            channel: CHANNEL.to_owned(),
            serial,
            text: candidate.text.clone(),
            plan: candidate.plan.clone(),
            state: RolloutState::Running,
            step: 1,
            step_since: now,
            issued: now,
            started: now,
            why: "it was published".to_owned(),
            version: 1,
        });
        let bundle = Bundle {
            org: self.settings.org.clone(),
            channel: CHANNEL.to_owned(),
            serial,
            created: now,
            name: POLICY_NAME.to_owned(),
            text,
            candidate,
        };
        (bundle, rollout)
    }

    /// Returns the text that is in force everywhere: of the newest bundle, or its candidate once its
    /// rollout is done; with its serial. `None` if nothing was published.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn in_force(&self) -> Result<Option<(u64, String)>, ControlError> {
        let mut reading = self.state.read().await?;
        let serial = self.state.bundle_serial(&mut reading, CHANNEL).await?;
        let text = self.in_force_in(&mut reading, serial).await?;
        Ok(text.map(|text| (serial, text)))
    }

    async fn in_force_in(
        &self,
        reading: &mut Writing,
        serial: u64,
    ) -> Result<Option<String>, ControlError> {
        if serial == 0 {
            return Ok(None);
        }
        let rollout = self.state.rollout_of(reading, serial).await?;
        if let Some(done) = rollout.filter(|row| row.state == RolloutState::Done) {
            return Ok(Some(done.text));
        }
        let text = self.state.bundle_text(reading, CHANNEL, serial).await?;
        Ok(Some(text))
    }

    /// Ends the rollout that goes on: its bundle is not the newest one any more.
    async fn replace_rollouts(
        &self,
        writing: &mut Writing,
        by: &str,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let serial = self.state.bundle_serial(writing, CHANNEL).await?;
        let Some(row) = self.state.rollout_of(writing, serial).await? else {
            return Ok(());
        };
        if !matches!(row.state, RolloutState::Running | RolloutState::Held) {
            return Ok(());
        }
        let why = "another policy was published".to_owned();
        let moved = MoveRow {
            at: now,
            by: by.to_owned(),
            from: row.step,
            to: row.step,
            state: RolloutState::Replaced,
            why: why.clone(),
        };
        let next = RolloutRow {
            state: RolloutState::Replaced,
            why,
            ..row
        };
        self.state.move_rollout(writing, &next, &moved).await?;
        Ok(())
    }

    /// Says who may sign what, if that was not said before: in this mode the server has all keys.
    pub(crate) async fn establish(&self) -> Result<(), ControlError> {
        if self.state.newest_root().await?.is_some() {
            return Ok(());
        }
        let now = now();
        let root = Root {
            org: self.settings.org.clone(),
            version: 1,
            not_after: UnixMillis(now.0.saturating_add(ROOT_LASTS_MS)),
            root: only(&self.keys.root),
            people: only(&self.keys.people),
            policy: only(&self.keys.policy),
            servers: only(&self.keys.server),
        };
        let envelope = Envelope::seal(&root, &[&self.keys.root])?;
        self.state.add_root(root.version, &envelope, now).await
    }

    /// Returns who may sign what.
    pub(crate) async fn root(&self) -> Result<Envelope, ControlError> {
        let root = self.state.newest_root().await?;
        root.ok_or_else(|| ControlError::Stored {
            what: "no root",
            why: "it is made as the server starts".to_owned(),
        })
    }
}
