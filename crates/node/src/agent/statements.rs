//! What the server says under a signature, and what sessions say to it.

use std::sync::Arc;

use hyper::Method;
use stockade_api::node::{Ack, AckState, Answered, StageStanding};
use stockade_trust::Envelope;
use stockade_types::{ApprovalId, SessionId, chain};
use tokio::task::{JoinSet, spawn_blocking};

use super::{
    Agent, Note,
    connected::Lost,
    questions::{self, Said, Sent},
};
use crate::{clock::now, http::Connection, trust::Trust};

/// Bytes of the reason why a bundle is not used.
const REASON_BYTES_MAX: usize = 2_000;

/// A question that was sent, and what became of it.
pub(super) struct Asked {
    session: SessionId,
    approval: ApprovalId,
    sent: Sent,
}

impl Agent {
    /// Keeps a directory of people.
    pub(super) fn take_directory(&mut self, envelope: &Envelope) {
        if let Err(error) = self.trust.take_directory(envelope, now()) {
            self.refused("the directory of people", chain(&error));
        }
    }

    /// Keeps which team the machine belongs to.
    pub(super) fn take_membership(&mut self, envelope: &Envelope) {
        if let Err(error) = self.trust.take_membership(envelope, now()) {
            self.refused("the team of this machine", chain(&error));
        }
    }

    /// Keeps a bundle of policy, and says what became of it.
    pub(super) fn take_bundle(&mut self, connection: &Connection, envelope: &Envelope) {
        let ack = match self.trust.take_bundle(envelope) {
            Ok(here) => {
                (self.tell)(&Note::Bundle {
                    channel: here.channel.clone(),
                    serial: here.serial,
                });
                Ack {
                    channel: here.channel,
                    serial: here.serial,
                    state: AckState::Stored,
                    error: None,
                    session: None,
                    rollout: here.rollout,
                }
            }
            Err(error) => {
                let why = chain(&error);
                self.refused("a bundle", why.clone());
                let end = why.floor_char_boundary(REASON_BYTES_MAX);
                // Which one it says that it is: nothing here rests on it.
                let named = Trust::named(envelope);
                let (channel, serial) = named.unwrap_or_default();
                Ack {
                    channel,
                    serial,
                    state: AckState::Failed,
                    error: Some(why.get(..end).unwrap_or_default().to_owned()),
                    session: None,
                    rollout: None,
                }
            }
        };
        self.acknowledge(connection, ack);
    }

    /// Keeps a pointer, and says where the rollout stands here then.
    pub(super) fn take_pointer(&mut self, connection: &Connection, envelope: &Envelope) {
        let taken = self.trust.take_pointer(envelope, now());
        let Some(here) = self.trust.bundle_here() else {
            return self.refused("a pointer", "there is no bundle here");
        };
        let (state, error) = match taken {
            // It is the one that is known, signed anew.
            Ok(false) => return,
            Ok(true) => (AckState::Stored, None),
            Err(error) => {
                let why = chain(&error);
                self.refused("a pointer", why.clone());
                (AckState::Failed, Some(why))
            }
        };
        let ack = Ack {
            channel: here.channel,
            serial: here.serial,
            state,
            error,
            session: None,
            rollout: here.rollout,
        };
        self.acknowledge(connection, ack);
    }

    /// Says what became of a bundle or a pointer.
    fn acknowledge(&self, connection: &Connection, ack: Ack) {
        let (connection, tell) = (connection.clone(), Arc::clone(&self.tell));
        tokio::spawn(async move {
            let said = connection.say(Method::POST, "/node/v1/acks", &ack).await;
            if let Err(error) = said {
                tell(&Note::Refused {
                    what: "what became of a bundle",
                    why: chain(&error),
                });
            }
        });
    }

    /// Sends the questions that the server does not have.
    pub(super) fn ask(&mut self, connection: &Connection, asking: &mut JoinSet<Asked>) {
        for (session, case) in self.questions.unsent() {
            let (connection, owner) = (connection.clone(), self.enrolment.owner.clone());
            asking.spawn(async move {
                let sent = questions::send(&connection, &session, &case, owner).await;
                Asked {
                    session,
                    approval: case.id,
                    sent,
                }
            });
        }
    }

    /// Takes in what became of a question that was sent.
    pub(super) fn asked(&mut self, asked: Asked) -> Result<(), Lost> {
        let Asked {
            session,
            approval,
            sent,
        } = asked;
        match sent {
            Sent::Taken(known) => {
                self.progress(&session, approval.clone(), known.stages);
                if let Some(answer) = known.answer {
                    self.answered(&session, approval, answer);
                }
                Ok(())
            }
            Sent::Refused(why) => {
                self.refused("a question", why);
                Ok(())
            }
            Sent::Lost(error) => {
                self.questions.not_sent(&session, &approval);
                Err(error.into())
            }
        }
    }

    /// Takes in what a session says.
    pub(super) fn said(&mut self, connection: &Connection, said: Said) {
        for (session, approval) in self.questions.said(said) {
            let connection = connection.clone();
            tokio::spawn(async move {
                stockade_types::ignored(
                    questions::close(&connection, &session, &approval).await,
                    "the question expires at the server too",
                );
            });
        }
    }

    /// Gives an answer to the session that asked.
    pub(super) fn answered(&self, session: &SessionId, approval: ApprovalId, answer: Answered) {
        let (dir, tell) = (self.session_dir(session), Arc::clone(&self.tell));
        tokio::spawn(async move {
            let given = spawn_blocking(move || questions::answer(&dir, &approval, answer)).await;
            if let Err(why) = given.unwrap_or_else(|error| Err(error.to_string())) {
                tell(&Note::Refused {
                    what: "an answer",
                    why,
                });
            }
        });
    }

    /// Shows in the session who is waited for.
    pub(super) fn progress(
        &self,
        session: &SessionId,
        approval: ApprovalId,
        stages: Vec<StageStanding>,
    ) {
        let dir = self.session_dir(session);
        tokio::task::spawn_blocking(move || questions::progress(&dir, &approval, stages));
    }
}
