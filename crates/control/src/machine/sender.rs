//! Who sends, and how far the journals are: of memory if it is there.

use std::time::{Duration, Instant};

use stockade_api::NodeId;
use stockade_types::Digest;

use crate::{
    ControlError, Server,
    clock::now,
    state::{NodeRow, SessionKey, Tip},
};

/// Sessions, and certificates; beyond that all are read again.
const SESSIONS_MAX: usize = 8_192;
const CERTIFICATES_MAX: usize = 8_192;
/// How long a machine is believed to be what it was. One that is retired is forgotten at once; what comes to an
/// end by itself, its certificate, is looked at again after this.
const BELIEVED: Duration = Duration::from_secs(5);

impl Server {
    /// Returns how far the journal of a session is here.
    pub(crate) async fn tip(&self, key: &SessionKey) -> Result<Option<Tip>, ControlError> {
        if let Some(tip) = self.tips.get(key) {
            return Ok(Some(tip));
        }
        self.state.tip(key).await
    }

    /// Takes in how far a journal is here, which the state has. Only whoever has the turn of the session
    /// says so, and forgets it.
    pub(crate) fn know_tip(&self, key: &SessionKey, tip: Tip) {
        let since = self.tips.forgotten();
        self.tips.keep(key.clone(), tip, SESSIONS_MAX, since);
    }

    /// Forgets how far a journal is here.
    pub(crate) fn forget_tip(&self, key: &SessionKey) {
        self.tips.remove(key);
    }

    /// Returns whose certificate it is, as it was a moment ago.
    pub(crate) async fn sender(
        &self,
        certificate: &Digest,
    ) -> Result<Option<NodeRow>, ControlError> {
        if let Some((node, at)) = self.senders.get(certificate)
            && at.elapsed() < BELIEVED
        {
            return Ok(Some(node));
        }
        // A machine that is retired meanwhile is not kept.
        let (at, since) = (Instant::now(), self.senders.forgotten());
        let node = self.state.node_of(certificate, now()).await?;
        if let Some(node) = &node {
            let known = (node.clone(), at);
            self.senders
                .keep(*certificate, known, CERTIFICATES_MAX, since);
        }
        Ok(node)
    }

    /// Forgets a machine.
    pub(crate) fn forget_sender(&self, id: &NodeId) {
        self.senders.forget(|_, (node, _)| node.id == *id);
    }
}
