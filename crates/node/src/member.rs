//! One connection of a machine that is enrolled, without the agent: for tests that play a whole fleet with the
//! requests, the checks and the files of real machines.

use std::{path::Path, time::Duration};

use hyper::Method;
use stockade_api::{
    Receipt,
    node::{Ack, BundleHere, Down, Hello, HelloAnswer, QuestionAnswer, QuestionSent},
};
use stockade_trust::Envelope;
use stockade_types::{ApprovalId, SessionId, UnixMillis};

use crate::{
    agent::AgentError,
    clock::now,
    connecting::connection,
    files,
    http::{Connection, HttpError, Lines},
    identity::{Certificate, Enrolment, NodeKey, Places},
    receipts::{ReceiptError, Signer},
    trust::{Trust, TrustError},
};

/// A machine that is enrolled.
pub struct Member {
    enrolment: Enrolment,
    key: NodeKey,
    certificate: Certificate,
    trust: Trust,
}

/// A connection of it.
#[derive(Clone)]
pub struct Connected(Connection);

/// The stream down.
pub struct DownStream(Lines);

impl Member {
    /// Reads what a machine has pinned in its state directory.
    ///
    /// # Errors
    /// When it is not enrolled.
    pub fn open(state: &Path) -> Result<Self, AgentError> {
        let places = Places::new(state);
        let certificate: Option<Certificate> = files::read_json(&places.certificate())?;
        Ok(Self {
            enrolment: Enrolment::read(&places)?.ok_or(AgentError::NotEnrolled)?,
            key: NodeKey::read(&places)?.ok_or(AgentError::NotEnrolled)?,
            certificate: certificate.ok_or(AgentError::NotEnrolled)?,
            trust: Trust::read(&places)?,
        })
    }

    /// Returns its enrolment.
    pub const fn enrolment(&self) -> &Enrolment {
        &self.enrolment
    }

    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect(&self) -> Result<Connected, AgentError> {
        let opened = connection(&self.enrolment, &self.certificate, &self.key).await;
        opened.map(Connected)
    }

    /// Returns the bundle that it has, and the serial of its directory.
    pub fn has(&self) -> (Option<BundleHere>, u64) {
        (self.trust.bundle_here(), self.trust.directory_serial)
    }

    /// Keeps a bundle, as the agent does.
    ///
    /// # Errors
    /// When it is not signed, older, or sessions could not use it.
    pub fn take_bundle(&mut self, envelope: &Envelope) -> Result<BundleHere, TrustError> {
        self.trust.take_bundle(envelope)
    }

    /// Keeps a directory of people, as the agent does.
    ///
    /// # Errors
    /// When it is not signed, or older.
    pub fn take_directory(&mut self, envelope: &Envelope) -> Result<(), TrustError> {
        self.trust.take_directory(envelope, now())
    }

    /// Checks a receipt against the journal in `dir`, as the agent does.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn check_receipt(
        &self,
        envelope: &Envelope,
        session: &SessionId,
        dir: &Path,
    ) -> Result<Receipt, ReceiptError> {
        Signer::of(&self.enrolment).check(envelope, session, dir)
    }

    /// Returns the time, as it says it.
    pub fn now(&self) -> UnixMillis {
        now()
    }
}

impl Connected {
    /// Says what is here.
    ///
    /// # Errors
    /// When the server refuses, or the connection breaks.
    pub async fn hello(&self, hello: &Hello) -> Result<HelloAnswer, HttpError> {
        self.0.call(Method::POST, "/node/v1/hello", hello).await
    }

    /// Says what became of a bundle.
    ///
    /// # Errors
    /// As [`Connected::hello`].
    pub async fn acknowledge(&self, ack: &Ack) -> Result<(), HttpError> {
        let said = self.0.say(Method::POST, "/node/v1/acks", ack).await;
        said.map(|_| ())
    }

    /// Opens the stream down.
    ///
    /// # Errors
    /// As [`Connected::hello`].
    pub async fn stream(&self) -> Result<DownStream, HttpError> {
        self.0.stream("/node/v1/stream").await.map(DownStream)
    }

    /// Sends a piece of a journal, compressed. Returns its receipt, and how long the server wants running
    /// sessions to collect lines.
    ///
    /// # Errors
    /// As [`Connected::hello`].
    pub async fn piece(
        &self,
        session: &SessionId,
        offset: u64,
        packed: Vec<u8>,
    ) -> Result<(Envelope, Option<Duration>), HttpError> {
        let path = format!("/node/v1/journals/{session}?offset={offset}");
        let (envelope, pace) = self.0.piece(&path, packed).await?;
        Ok((envelope, pace.map(Duration::from_millis)))
    }

    /// Sends a question.
    ///
    /// # Errors
    /// As [`Connected::hello`].
    pub async fn ask(
        &self,
        session: &SessionId,
        approval: &ApprovalId,
        question: &QuestionSent,
    ) -> Result<QuestionAnswer, HttpError> {
        let path = format!("/node/v1/questions/{session}/{approval}");
        self.0.call(Method::PUT, &path, question).await
    }

    /// Says that a question is not asked any more.
    ///
    /// # Errors
    /// As [`Connected::hello`].
    pub async fn close(&self, session: &SessionId, approval: &ApprovalId) -> Result<(), HttpError> {
        let path = format!("/node/v1/questions/{session}/{approval}?why=answered");
        self.0.ask(Method::DELETE, &path).await.map(|_| ())
    }
}

impl DownStream {
    /// Returns the next line.
    ///
    /// # Errors
    /// When the stream ends.
    pub async fn next(&mut self) -> Result<Down, HttpError> {
        self.0.next().await
    }
}
