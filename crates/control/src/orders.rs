//! Orders of people to machines: signed, for one session, and for a short time.

use stockade_api::{NodeId, Order, What, node::Down};
use stockade_trust::{Envelope, UserId};
use stockade_types::{SessionId, UnixMillis};

use crate::{
    ControlError, Server,
    act::{Act, Action},
    clock::now,
    random,
};

/// How long an order counts: a machine that is not connected for longer does not carry it out, because the
/// person who gave it has seen that.
const ORDER_MS: u64 = 10 * 60 * 1_000;

impl Server {
    /// Orders a machine to end a session. Returns whether the machine is connected; if it is not, it is told
    /// as soon as it is, within ten minutes.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn stop(
        &self,
        node: &NodeId,
        session: &SessionId,
        by: &UserId,
    ) -> Result<bool, ControlError> {
        let now = now();
        let order = Order {
            org: self.settings.org.clone(),
            node: node.clone(),
            session: session.clone(),
            what: What::Stop,
            id: random::name("o-")?,
            by: by.clone(),
            not_after: UnixMillis(now.0.saturating_add(ORDER_MS)),
        };
        let envelope = Envelope::seal(&order, &[&self.keys.server])?;
        let mut writing = self.state.write().await?;
        self.state
            .add_order(&mut writing, &order, &envelope, now)
            .await?;
        let act = Act::new(Action::OrderGiven)
            .by(&by.0)
            .about(&order.id)
            .node(node.as_str())
            .session(session.as_str())
            .detail("stop");
        self.state.note(&mut writing, &act, now).await?;
        self.state.commit(writing).await?;
        Ok(self.hub.send(node, &Down::Order { envelope }))
    }
}
