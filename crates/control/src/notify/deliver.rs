//! Which delivery is tried when. Each receiver has a lane of its own, so that one that is slow or away keeps
//! no other waiting; mail goes by one relay, over a few lanes.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use stockade_trust::TeamId;
use stockade_types::{UnixMillis, chain};
use tokio::{
    sync::broadcast::error::RecvError,
    task::{Id, JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    mail::{self, MailSettings, Message},
    webhook,
    words::Told,
};
use crate::{
    Changed, ControlError, Server,
    clock::now,
    notice::{Form, Kind, Notice},
    state::{ChannelRow, DeliveryRow, QuestionState, Settled, UserRow},
};

/// How long after each failed attempt the next one comes: 8 attempts over 27 hours and 35 minutes, after which
/// a delivery is given up.
pub(crate) const DELAYS_MS: [u64; 7] = [
    5_000,
    5 * MINUTE_MS,
    30 * MINUTE_MS,
    120 * MINUTE_MS,
    300 * MINUTE_MS,
    600 * MINUTE_MS,
    600 * MINUTE_MS,
];
const MINUTE_MS: u64 = 60_000;
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_secs(1);
/// What happens within this time is looked at once.
const TOGETHER: Duration = Duration::from_millis(20);
/// How often what is old is forgotten.
const FORGET: Duration = Duration::from_hours(1);
/// How long telling waits after the state could not be read or written.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that one relay takes at a time.
const MAIL_LANES: u64 = 4;
/// Characters of the reason of a failure that are kept.
const WHY_CHARS_MAX: usize = 300;

/// Deliveries that are under way, each with its lane.
#[derive(Default)]
struct Lanes {
    tasks: JoinSet<()>,
    busy: HashMap<Id, String>,
}

impl Server {
    /// Tells people until the server ends.
    pub(crate) async fn keep_notifying(self: Arc<Self>) {
        let mut changes = self.hub.follow();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut lanes = Lanes::default();
        let mut forgotten: Option<Instant> = None;
        loop {
            if forgotten.is_none_or(|at| at.elapsed() >= FORGET) {
                forgotten = Some(Instant::now());
                if let Err(error) = self.state.forget_notices(now()).await {
                    self.failed(&error);
                }
            }
            if let Err(error) = self.begin_deliveries(&mut lanes).await {
                self.failed(&error);
                sleep(PATIENCE).await;
            }
            loop {
                let is_due = tokio::select! {
                    _ = ticks.tick() => true,
                    Some(done) = lanes.tasks.join_next_with_id() => {
                        // One that has panicked leaves its lane, too.
                        let id = done.map_or_else(|error| error.id(), |(id, ())| id);
                        lanes.busy.remove(&id);
                        true
                    }
                    changed = changes.recv() => match changed {
                        Ok(Changed::Question(_) | Changed::Node(_) | Changed::Policy) => {
                            sleep(TOGETHER).await;
                            true
                        }
                        Ok(Changed::Session(_) | Changed::People) => false,
                        Err(RecvError::Lagged(_) | RecvError::Closed) => true,
                    },
                };
                if is_due {
                    break;
                }
            }
        }
    }

    /// Spreads what has happened, and begins a delivery in every lane that is free.
    async fn begin_deliveries(self: &Arc<Self>, lanes: &mut Lanes) -> Result<(), ControlError> {
        self.spread_notices(now()).await?;
        for channel in self.state.channels_due(now()).await? {
            let Some(row) = self.state.channel(&channel).await? else {
                continue;
            };
            let lane = lane_of(&row);
            if lanes.busy.values().any(|busy| *busy == lane) {
                continue;
            }
            let Some(delivery) = self.state.delivery_due(&channel, now()).await? else {
                continue;
            };
            let server = Arc::clone(self);
            let task = lanes.tasks.spawn(async move {
                if let Err(error) = server.deliver(&row, &delivery, now()).await {
                    server.failed(&error);
                    sleep(PATIENCE).await;
                }
            });
            lanes.busy.insert(task.id(), lane);
        }
        Ok(())
    }

    /// Makes a delivery of each notice for each channel that hears of it.
    ///
    /// # Errors
    /// When the state cannot be read or written.
    pub(crate) async fn spread_notices(&self, now: UnixMillis) -> Result<(), ControlError> {
        loop {
            let found = self.state.unspread().await?;
            if found.is_empty() {
                return Ok(());
            }
            let channels = self.state.channels().await?;
            let users = self.state.users().await?;
            let teams = self.state.teams_of_nodes().await?;
            let hears = |row: &&ChannelRow, notice: &Notice| {
                let owner = row.owner.as_ref();
                let person = owner.and_then(|owner| users.iter().find(|user| user.id == *owner));
                let team = notice
                    .node
                    .as_ref()
                    .and_then(|node| teams.get(node.as_str()));
                let is_person = || person.is_some_and(|user| is_for(user, notice, team));
                let is_meant = owner.is_none() || is_person();
                row.channel.hears(notice) && is_meant
            };
            for (id, notice) in &found {
                let told = channels.iter().filter(|row| hears(row, notice));
                let told: Vec<&str> = told.map(|row| row.id.as_str()).collect();
                let skipped = self.state.spread((*id, notice), &told, now).await?;
                self.metrics.notices_skipped(skipped);
            }
        }
    }

    /// Tries a delivery once, and keeps what became of it.
    ///
    /// # Errors
    /// When the state cannot be read or written. That a receiver is not reached is no error here.
    pub(crate) async fn deliver(
        &self,
        row: &ChannelRow,
        delivery: &DeliveryRow,
        now: UnixMillis,
    ) -> Result<(), ControlError> {
        let settled = if self.is_moot(&delivery.notice).await? {
            Settled::Moot
        } else {
            match self.say(row, &delivery.id, &delivery.notice, now).await? {
                Ok(()) => Settled::Sent,
                Err(why) => after(delivery.attempts, &why, now),
            }
        };
        self.metrics.notice(row.channel.form, &settled);
        self.state.settle_delivery(delivery, &settled, now).await
    }

    /// Tells whether nobody has to hear of something any more: the question does not wait for this role.
    async fn is_moot(&self, notice: &Notice) -> Result<bool, ControlError> {
        let waits = match notice.kind {
            Kind::QuestionWaiting | Kind::CaseEscalated => true,
            Kind::GlassBroken
            | Kind::RolloutHalted
            | Kind::BundleRefused
            | Kind::FindingHigh
            | Kind::Test => false,
        };
        let Some(id) = notice.question.as_ref().filter(|_| waits) else {
            return Ok(false);
        };
        let Some(row) = self.state.question(id).await? else {
            return Ok(true);
        };
        if row.state != QuestionState::Open {
            return Ok(true);
        }
        let votes = self.state.votes(id).await?;
        let review = &row.sent.review;
        let is_asked = self.stages(&row, &votes).into_iter().any(|standing| {
            let stage = review.stage(&standing.name);
            let role = stage.map(|stage| &stage.role.0);
            role == notice.role.as_ref() || standing.also == notice.role
        });
        Ok(!is_asked)
    }

    /// Says something over a channel once. The inner error says why the receiver does not have it.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn say(
        &self,
        row: &ChannelRow,
        id: &str,
        notice: &Notice,
        now: UnixMillis,
    ) -> Result<Result<(), String>, ControlError> {
        let machine = match &notice.node {
            Some(node) => self.state.node(node).await?.map(|node| node.name),
            None => None,
        };
        let told = Told {
            channel: &row.channel,
            notice,
            org: self.state.org(),
            origin: &self.party.origin,
            machine,
        };
        let said = match row.channel.form {
            Form::Webhook | Form::Slack | Form::Mattermost | Form::Teams => {
                self.post(row, id, told.body(), now).await
            }
            Form::Mail => {
                let dir = self.data.keys_path();
                let read = spawn_blocking(move || MailSettings::read(&dir)).await;
                let read = read.map_err(|error| ControlError::Work(error.to_string()))?;
                match read {
                    Err(error) => Err(chain(&error)),
                    Ok(None) => Err("no relay of mail is set; `serve mail` sets one".to_owned()),
                    Ok(Some(settings)) => {
                        let place = (id, self.settings.host.as_str());
                        let message = Message::new(&settings.from, &told, place, now);
                        mail::send(settings, &message, &self.settings.host).await
                    }
                }
            }
        };
        Ok(said)
    }

    async fn post(
        &self,
        row: &ChannelRow,
        id: &str,
        body: String,
        now: UnixMillis,
    ) -> Result<(), String> {
        let pem = row.channel.authorities.as_ref();
        let known = self.receivers.known_by(pem, row.channel.private).await;
        let outbound = known.map_err(|error| chain(&error))?;
        webhook::send(&outbound, row, id, body, now).await
    }
}

/// Tells whether the mail address of a person hears of something: a question that asks a role of this
/// person for the team of the machine, and that the person does not ask.
fn is_for(person: &UserRow, notice: &Notice, team: Option<&TeamId>) -> bool {
    let holds = |role: &String| {
        let mut held = person.team_roles.iter();
        person.roles.contains(role)
            || held.any(|held| Some(&held.team) == team && held.role == *role)
    };
    let has_role = notice.role.as_ref().is_some_and(holds);
    person.is_active && has_role && !notice.requesters.contains(&person.id)
}

/// Says what comes after an attempt that has failed, as so many before it have.
fn after(failures: u64, why: &str, now: UnixMillis) -> Settled {
    let why = stockade_types::RawText::from(why).display();
    let why: String = why.chars().take(WHY_CHARS_MAX).collect();
    let delay = usize::try_from(failures)
        .ok()
        .and_then(|at| DELAYS_MS.get(at));
    match delay {
        Some(delay) => Settled::Again {
            due: UnixMillis(now.0.saturating_add(*delay)),
            why,
        },
        None => Settled::Dead { why },
    }
}

/// Returns in which lane the deliveries of a channel are made.
fn lane_of(row: &ChannelRow) -> String {
    match row.channel.form {
        Form::Webhook | Form::Slack | Form::Mattermost | Form::Teams => row.id.clone(),
        Form::Mail => {
            let mut hasher = DefaultHasher::new();
            row.id.hash(&mut hasher);
            format!("mail {}", hasher.finish() % MAIL_LANES)
        }
    }
}

#[cfg(test)]
mod tests {
    use stockade_trust::{TeamId, UserId};
    use stockade_types::UnixMillis;

    use super::is_for;
    use crate::{
        notice::{Kind, Notice},
        roles::TeamRole,
        state::UserRow,
    };

    #[test]
    fn people_hear_of_the_machines_of_the_team_for_which_they_hold_the_role() {
        let web = TeamId::new("t-web").unwrap();
        let other = TeamId::new("t-other").unwrap();
        let person = |roles: &[&str], team: Option<&TeamId>| UserRow {
            id: UserId("u-1".to_owned()),
            name: "ann".to_owned(),
            is_active: true,
            created: UnixMillis(0),
            last_seen: None,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            team_roles: team
                .map(|team| TeamRole {
                    team: team.clone(),
                    role: "owner".to_owned(),
                })
                .into_iter()
                .collect(),
            version: 1,
        };
        let notice = Notice {
            role: Some("owner".to_owned()),
            ..Notice::new(
                Kind::QuestionWaiting,
                UnixMillis(0),
                "/inbox/q-1".to_owned(),
            )
        };
        for (person, team, expected) in [
            (person(&["owner"], None), None, true),
            (person(&["owner"], None), Some(&web), true),
            (person(&[], Some(&web)), Some(&web), true),
            (person(&[], Some(&web)), Some(&other), false),
            (person(&[], Some(&web)), None, false),
            (person(&["viewer"], None), Some(&web), false),
        ] {
            assert_eq!(
                is_for(&person, &notice, team),
                expected,
                "{person:?} {team:?}"
            );
        }
    }
}
