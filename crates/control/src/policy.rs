//! The policy of the organisation: checked, signed, and said to all machines.

use stockade_api::node::Down;
use stockade_policy::{HostSets, Origin, Problems, Source, builtin, load};
use stockade_trust::{Bundle, Envelope, Root};
use stockade_types::UnixMillis;

use crate::{
    Changed, ControlError, Server,
    act::{Act, Action},
    clock::now,
    keys::only,
    state::BundleRow,
};

/// The one channel; the column for it is there for more.
pub const CHANNEL: &str = "default";
/// The name of the policy, in messages of machines.
const POLICY_NAME: &str = "organisation.toml";
/// The preset that every session has below the organisation's policy.
const PRESET: &str = "generic";
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
pub fn check(text: &str) -> Result<(), Problems> {
    let mut sources = vec![Source {
        origin: Origin::Organisation,
        name: POLICY_NAME.to_owned(),
        text: text.to_owned(),
    }];
    sources.extend(builtin(PRESET).map(|text| Source {
        origin: Origin::Builtin,
        name: PRESET.to_owned(),
        text: text.to_owned(),
    }));
    load(&sources, &HostSets::default()).map(|_| ())
}

impl Server {
    /// Publishes a policy: signs it with the next serial, and says it to all machines. `after` is the serial
    /// that the person has seen, 0 for none, so that nobody overwrites what he did not see.
    ///
    /// # Errors
    /// The inner error says what is wrong with the policy; the outer one is of the server.
    pub async fn publish(
        &self,
        text: &str,
        message: &str,
        author: &str,
        after: u64,
    ) -> Result<Result<BundleRow, PublishError>, ControlError> {
        if text.len() > POLICY_BYTES_MAX || message.len() > MESSAGE_BYTES_MAX {
            return Ok(Err(PublishError::TooLong));
        }
        let checked = text.to_owned();
        if let Err(problems) = self.blocking(move || check(&checked)).await? {
            return Ok(Err(PublishError::Mistakes(problems)));
        }
        let now = now();
        let mut writing = self.state.write().await?;
        let found = self.state.bundle_serial(&mut writing, CHANNEL).await?;
        if found != after {
            return Ok(Err(PublishError::Changed { found }));
        }
        let bundle = Bundle {
            org: self.settings.org.clone(),
            channel: CHANNEL.to_owned(),
            serial: found.saturating_add(1),
            created: now,
            name: POLICY_NAME.to_owned(),
            text: text.to_owned(),
        };
        let row = BundleRow {
            channel: bundle.channel.clone(),
            serial: bundle.serial,
            digest: bundle.digest(),
            envelope: Envelope::seal(&bundle, &[&self.keys.policy])?,
            text: bundle.text,
            author: author.to_owned(),
            message: message.to_owned(),
            published: now,
        };
        self.state.add_bundle(&mut writing, &row).await?;
        let act = Act::new(Action::BundlePublished)
            .by(author)
            .about(&format!("{}#{}", row.channel, row.serial))
            .digest(row.digest)
            .detail(message);
        self.state.note(&mut writing, &act, now).await?;
        self.state.commit(writing).await?;
        self.hub.send_all(&Down::Bundle {
            envelope: row.envelope.clone(),
        });
        self.hub.changed(Changed::Policy);
        Ok(Ok(row))
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
