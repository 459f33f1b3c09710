//! The egress process's side: many requests under way, each with a bounded wait.

use std::{
    collections::HashMap,
    fs::File,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use stockade_agents::Intent;
use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, Decision, Request};
use stockade_types::{Answerer, ApprovalId, DecisionRecord, RuleId, Subject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Notify, Semaphore, SemaphorePermit, broadcast, mpsc, oneshot},
    time::timeout,
};

use super::{
    Answer, Connecting, Decided, Defined, FromSupervisor, HostProof, LayerPart, Protocol, Renewed,
    ToSupervisor, Token, WireError, Word, frame, frame_length, is_end, message, spool::Spool,
};
use crate::limits::{
    ASK_GRACE, ASK_WAIT, ATTRIBUTE_WAIT, CONNECTING_MAX, LAYER_PARTS, OUTBOX_FRAMES, PENDING_MAX,
    RECORD_WAIT, REVOCATIONS_BEHIND_MAX, TURNS,
};

/// Why there is no answer; whatever depends on it must be denied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    /// The connection is gone.
    #[error("the supervisor is gone")]
    Gone,
    /// It took too long.
    #[error("the supervisor did not answer in time")]
    Late,
    /// Too many requests wait already.
    #[error("{PENDING_MAX} requests wait for the supervisor already")]
    Busy,
    /// The supervisor could not serve the request.
    #[error("{0}")]
    Failed(String),
    /// The answer belongs to another kind of request.
    #[error("the supervisor answered something else")]
    Mismatch,
    /// The request does not fit in a frame.
    #[error("the request could not be sent")]
    Frame(#[source] WireError),
}

/// Why a question did not get a yes.
#[derive(Clone, Debug)]
pub(crate) struct No {
    /// In the words that the program is to see.
    pub(crate) reason: String,
    /// Who said so, if it was the answer.
    pub(crate) by: Option<Answerer>,
}

type Pending = Arc<Mutex<HashMap<u64, oneshot::Sender<FromSupervisor>>>>;

/// Asks the supervisor.
#[derive(Debug)]
pub(crate) struct Client {
    outbox: mpsc::Sender<Vec<u8>>,
    pending: Pending,
    revoked: broadcast::Sender<Closed>,
    finish: Arc<Notify>,
    next: AtomicU64,
    owner_turns: Semaphore,
    journal_turns: Semaphore,
    spool: Spool,
}

impl Client {
    /// Makes a client, the task that moves its frames, and what comes in of held connections; the task
    /// ends when the connection does. `spool` takes decisions that need no answer.
    pub(crate) fn new(
        stream: UnixStream,
        spool: Option<File>,
    ) -> (
        Self,
        impl Future<Output = Result<(), WireError>> + Send + 'static,
        mpsc::Receiver<Connecting>,
        mpsc::Receiver<Option<LayerPart>>,
    ) {
        let (outbox, frames) = mpsc::channel(OUTBOX_FRAMES);
        let pending = Pending::default();
        let (revoked, _) = broadcast::channel(REVOCATIONS_BEHIND_MAX);
        let finish = Arc::new(Notify::new());
        let (held, connecting) = mpsc::channel(CONNECTING_MAX);
        let (layers, published) = mpsc::channel(LAYER_PARTS);
        let hear = Heard {
            held,
            layers,
            pending: Arc::clone(&pending),
            revoked: revoked.clone(),
            finish: Arc::clone(&finish),
        };
        let task = run(stream, frames, hear);
        (
            Self {
                outbox,
                pending,
                revoked,
                finish,
                next: AtomicU64::new(1),
                owner_turns: Semaphore::new(TURNS),
                journal_turns: Semaphore::new(TURNS),
                spool: Spool::new(spool),
            },
            task,
            connecting,
            published,
        )
    }

    /// Says what becomes of a held connection. Once the supervisor is gone nothing does.
    pub(crate) async fn release(&self, packet: u32, word: Word) {
        let id = u64::from(packet);
        if let Ok(bytes) = frame(&ToSupervisor::Release { id, word }) {
            drop(self.outbox.send(bytes).await);
        }
    }

    /// Asks which process owns a socket; waits for its turn where many are asked about.
    pub(crate) async fn attribute(
        &self,
        protocol: Protocol,
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<Subject, Unanswered> {
        let request = |id| ToSupervisor::Attribute {
            id,
            protocol,
            source,
            destination,
        };
        let _turn = turn(&self.owner_turns).await?;
        match self.call(ATTRIBUTE_WAIT, request).await? {
            FromSupervisor::Subject { subject, .. } => Ok(subject),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Asks whether a request belongs to a command that was approved or allowed.
    pub(crate) async fn covered(&self, request: Request) -> Result<bool, Unanswered> {
        let request = |id| ToSupervisor::Covered { id, request };
        let _turn = turn(&self.owner_turns).await?;
        match self.call(ATTRIBUTE_WAIT, request).await? {
            FromSupervisor::Covered { covered, .. } => Ok(covered),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Says what a host proved of itself; once this returns, the supervisor knows.
    pub(crate) async fn prove(&self, proof: HostProof) -> Result<(), Unanswered> {
        let proof = Box::new(proof);
        let request = |id| ToSupervisor::Proved { id, proof };
        let _turn = turn(&self.owner_turns).await?;
        match self.call(ATTRIBUTE_WAIT, request).await? {
            FromSupervisor::Noted { .. } => Ok(()),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has a decision recorded, in the spool or in the journal; once this returns, it may take effect.
    pub(crate) async fn decided(&self, decided: Decided) -> Result<DecisionRecord, Unanswered> {
        if let Some(record) = self.spool.put(&decided) {
            return Ok(record);
        }
        let _turn = turn(&self.journal_turns).await?;
        let wish = self.spool.wish(&decided);
        let request = |id| ToSupervisor::Decided {
            id,
            lease: wish.count(),
            decided: Box::new(decided),
        };
        match self.call(RECORD_WAIT, request).await? {
            FromSupervisor::Decided { record, lease, .. } => {
                wish.grant(lease, &record);
                Ok(*record)
            }
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has an event journaled.
    pub(crate) async fn record(
        &self,
        event: Event,
        durability: Durability,
    ) -> Result<u64, Unanswered> {
        let request = |id| ToSupervisor::Record {
            id,
            event,
            durability,
        };
        let _turn = turn(&self.journal_turns).await?;
        match self.call(RECORD_WAIT, request).await? {
            FromSupervisor::Recorded { seq, .. } => Ok(seq),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Asks for tokens of a login that its owner's file has by now.
    pub(crate) async fn tokens(&self, login: RuleId) -> Result<Vec<Token>, Unanswered> {
        let request = |id| ToSupervisor::Tokens { id, login };
        let _turn = turn(&self.journal_turns).await?;
        match self.call(RECORD_WAIT, request).await? {
            FromSupervisor::Tokens { tokens, .. } => Ok(tokens),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has new tokens of a login kept.
    pub(crate) async fn renewed(&self, renewed: Renewed) -> Result<(), Unanswered> {
        let request = |id| ToSupervisor::Renewed { id, renewed };
        let _turn = turn(&self.journal_turns).await?;
        match self.call(RECORD_WAIT, request).await? {
            FromSupervisor::Recorded { .. } => Ok(()),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has a claim recorded.
    pub(crate) async fn claim(&self, event: Event, intent: Intent) -> Result<u64, Unanswered> {
        let request = |id| ToSupervisor::Claimed { id, event, intent };
        let _turn = turn(&self.journal_turns).await?;
        match self.call(RECORD_WAIT, request).await? {
            FromSupervisor::Recorded { seq, .. } => Ok(seq),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Asks for approvals; waits as long as the rule lets the question stand.
    pub(crate) async fn ask(
        &self,
        request: Request,
        decision: Decision,
    ) -> Result<Result<Approvals, No>, Unanswered> {
        let stated = decision
            .stage
            .as_ref()
            .map(|stage| stage.expires.duration());
        let wait = stated.unwrap_or(ASK_WAIT).saturating_add(ASK_GRACE);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let ask = ToSupervisor::Ask {
            id,
            request,
            decision,
        };
        let mut withdrawal = Withdrawal {
            outbox: self.outbox.clone(),
            id: Some(id),
        };
        let answer = self.call_as(id, wait, &ask).await?;
        withdrawal.id = None;
        match answer {
            FromSupervisor::Answer {
                answer: Answer::Granted { approvals },
                ..
            } => Ok(Ok(approvals)),
            FromSupervisor::Answer {
                answer: Answer::Refused { reason, by },
                ..
            } => Ok(Err(No { reason, by })),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has definitions of tools compared; the decision is the refusal. Waits as long as a question about
    /// them can stand.
    pub(crate) async fn compare(
        &self,
        defined: Defined,
    ) -> Result<Option<Box<Decision>>, Unanswered> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let compare = ToSupervisor::Compare {
            id,
            defined: Box::new(defined),
        };
        let mut withdrawal = Withdrawal {
            outbox: self.outbox.clone(),
            id: Some(id),
        };
        let wait = ASK_WAIT.saturating_add(ASK_GRACE);
        let answer = self.call_as(id, wait, &compare).await?;
        withdrawal.id = None;
        match answer {
            FromSupervisor::Compared { refused, .. } => Ok(refused),
            _ => Err(Unanswered::Mismatch),
        }
    }

    /// Has all open connections judged again: another policy denies now.
    pub(crate) fn judge_again(&self) {
        // Nobody listening means that nothing is open.
        drop(self.revoked.send(Closed::Policy));
    }

    /// Starts to listen for revocations; what is revoked from now on is seen.
    pub(crate) fn revocations(&self) -> Revocations {
        Revocations {
            receiver: self.revoked.subscribe(),
        }
    }

    /// Waits until the session is over; for one waiter.
    pub(crate) async fn finish_asked(&self) {
        self.finish.notified().await;
    }

    async fn call(
        &self,
        wait: Duration,
        request: impl FnOnce(u64) -> ToSupervisor,
    ) -> Result<FromSupervisor, Unanswered> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.call_as(id, wait, &request(id)).await
    }

    async fn call_as(
        &self,
        id: u64,
        wait: Duration,
        request: &ToSupervisor,
    ) -> Result<FromSupervisor, Unanswered> {
        let bytes = frame(request).map_err(Unanswered::Frame)?;
        let slot = Slot::take(&self.pending, id)?;
        let answer = timeout(wait, async {
            self.outbox
                .send(bytes)
                .await
                .map_err(|_| Unanswered::Gone)?;
            slot.receiver.await.map_err(|_| Unanswered::Gone)
        });
        match answer.await.map_err(|_| Unanswered::Late)?? {
            FromSupervisor::Failed { reason, .. } => Err(Unanswered::Failed(reason)),
            other => Ok(other),
        }
    }
}

/// Takes a question back when nobody waits for it any more; dropped with the wait.
struct Withdrawal {
    outbox: mpsc::Sender<Vec<u8>>,
    id: Option<u64>,
}

impl Drop for Withdrawal {
    fn drop(&mut self) {
        let Some(bytes) = self
            .id
            .and_then(|id| frame(&ToSupervisor::Withdraw { id }).ok())
        else {
            return;
        };
        let outbox = self.outbox.clone();
        if let Err(mpsc::error::TrySendError::Full(bytes)) = self.outbox.try_send(bytes)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // The connection that waited goes; that it went is told when there is room.
            drop(runtime.spawn(async move { drop(outbox.send(bytes).await) }));
        }
    }
}

/// Waits for a turn. How long is up to those who are before: their waits are bounded, and so is
/// their number.
async fn turn(turns: &Semaphore) -> Result<SemaphorePermit<'_>, Unanswered> {
    turns.acquire().await.map_err(|_| Unanswered::Gone)
}

/// A place for one answer; given back when the wait ends, however it ends.
struct Slot {
    receiver: oneshot::Receiver<FromSupervisor>,
    _guard: SlotGuard,
}

struct SlotGuard {
    pending: Pending,
    id: u64,
}

impl Slot {
    fn take(pending: &Pending, id: u64) -> Result<Self, Unanswered> {
        let (sender, receiver) = oneshot::channel();
        let mut slots = pending.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= PENDING_MAX {
            return Err(Unanswered::Busy);
        }
        slots.insert(id, sender);
        Ok(Self {
            receiver,
            _guard: SlotGuard {
                pending: Arc::clone(pending),
                id,
            },
        })
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.pending
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}

/// What can close something that is open.
#[derive(Clone, Debug)]
enum Closed {
    /// An approval was taken back.
    Approval(ApprovalId),
    /// Another policy denies now; it may be about something else.
    Policy,
}

/// Why something that is open is closed.
#[derive(Debug)]
pub(crate) enum Closing {
    /// The approval that opened it was taken back, which is in the record.
    Revoked,
    /// A policy that was published meanwhile denies it; that is to be recorded.
    Denied(Box<Decision>),
}

/// Sees approvals being taken back, and policies that are published.
#[derive(Debug)]
pub(crate) struct Revocations {
    receiver: broadcast::Receiver<Closed>,
}

impl Revocations {
    /// Waits until one of `ids` is taken back, or `denied` says that a policy denies what is open.
    pub(crate) async fn any_of(
        &mut self,
        ids: &[ApprovalId],
        denied: impl Fn() -> Option<Decision>,
    ) -> Closing {
        loop {
            match self.receiver.recv().await {
                Ok(Closed::Approval(id)) if !ids.contains(&id) => {}
                // Missed messages may have named ours.
                Err(broadcast::error::RecvError::Lagged(_)) if !ids.is_empty() => {
                    return Closing::Revoked;
                }
                Ok(Closed::Policy) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    if let Some(decision) = denied() {
                        return Closing::Denied(Box::new(decision));
                    }
                }
                // A closed channel is the end of all.
                Err(broadcast::error::RecvError::Closed) if ids.is_empty() => {
                    return std::future::pending().await;
                }
                Ok(Closed::Approval(_)) | Err(broadcast::error::RecvError::Closed) => {
                    return Closing::Revoked;
                }
            }
        }
    }
}

/// Where what the supervisor says goes.
struct Heard {
    pending: Pending,
    revoked: broadcast::Sender<Closed>,
    layers: mpsc::Sender<Option<LayerPart>>,
    finish: Arc<Notify>,
    held: mpsc::Sender<Connecting>,
}

async fn run(
    stream: UnixStream,
    frames: mpsc::Receiver<Vec<u8>>,
    heard: Heard,
) -> Result<(), WireError> {
    let (reader, writer) = stream.into_split();
    tokio::select! {
        ended = read(reader, &heard) => ended,
        ended = write(writer, frames) => ended,
    }
}

async fn write(
    mut writer: OwnedWriteHalf,
    mut frames: mpsc::Receiver<Vec<u8>>,
) -> Result<(), WireError> {
    while let Some(bytes) = frames.recv().await {
        writer.write_all(&bytes).await.map_err(WireError::Io)?;
    }
    Ok(())
}

async fn read(mut reader: OwnedReadHalf, heard: &Heard) -> Result<(), WireError> {
    loop {
        let mut prefix = [0; 4];
        match reader.read_exact(&mut prefix).await {
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(WireError::Io(error)),
        }
        let mut bytes = vec![0; frame_length(prefix)?];
        reader.read_exact(&mut bytes).await.map_err(WireError::Io)?;
        match message::<FromSupervisor>(&bytes)? {
            // Nobody listening means that no connection rests on an approval.
            FromSupervisor::Revoke { approval } => {
                drop(heard.revoked.send(Closed::Approval(approval)));
            }
            FromSupervisor::Tighten(part) => drop(heard.layers.send(Some(part)).await),
            FromSupervisor::Untighten => drop(heard.layers.send(None).await),
            // Where nobody looks at it the session is over.
            FromSupervisor::Connecting(one) => drop(heard.held.send(one).await),
            FromSupervisor::Finish => heard.finish.notify_one(),
            answer => deliver(&heard.pending, answer),
        }
    }
}

fn deliver(pending: &Pending, answer: FromSupervisor) {
    let Some(id) = answer.id() else {
        return;
    };
    let slot = pending
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&id);
    if let Some(slot) = slot {
        // The one who asked may have given up meanwhile.
        drop(slot.send(answer));
    }
}
