//! What goes over one connection.

use std::{convert::Infallible, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hyper::Method;
use stockade_api::{
    What,
    limits::SESSIONS_MAX,
    node::{Backlog, CertificateAnswer, Down, ExpiredRequest, Hello, HelloAnswer, SessionHere},
    renewal_message,
};
use stockade_types::{UnixMillis, chain};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Instant, sleep_until},
};

use super::{
    Agent, LOOK, Link, Note, orders,
    pieces::{Outcome, Piece, Shipped, ship},
};
use crate::{
    backoff::Backoff,
    clock::now,
    files::{self, FileError},
    http::{Connection, HttpError, Server},
    identity::Certificate,
    shipping::{Answered, Next},
    tls::{self, TlsError},
};

/// Lines of the stream that wait to be read: more keep the server waiting.
const DOWN_MAX: usize = 64;
/// How often the status is written.
const STATUS: Duration = Duration::from_secs(2);
/// How often the server is told what it does not hold yet.
const BACKLOG: Duration = Duration::from_secs(15);
/// A certificate that could not be renewed is tried again after this, in milliseconds.
const RENEW_AGAIN_MS: u64 = 60_000;

/// Why there is no connection any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The machine does not belong to the organisation any more.
    #[error("the machine was retired")]
    Retired,
    /// The server ends, and wants machines back within this time, in milliseconds.
    #[error("the server restarts")]
    Restarting(u64),
    /// The connection broke, or the server refused.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// A certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Lost {
    pub(super) fn in_words(&self) -> String {
        chain(self)
    }
}

/// When the next things are due.
struct Due {
    look: Instant,
    status: Instant,
    backlog: Instant,
    /// In milliseconds since the epoch.
    renewal: UnixMillis,
}

impl Agent {
    /// Works as long as the connection is good.
    pub(super) async fn connected(
        &mut self,
        connection: &Connection,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Lost> {
        self.look();
        self.backlog_told = Backlog::default();
        self.hello(connection).await?;
        let mut down = self.stream(connection).await?;
        backoff.reset();
        self.status.link = Link::Connected { since: now() };
        (self.tell)(&Note::Connected {
            url: self.enrolment.url.clone(),
            name: self.enrolment.name.clone(),
        });
        let start = Instant::now();
        let mut due = Due {
            look: start + LOOK,
            status: start,
            backlog: start + BACKLOG,
            renewal: self.certificate.renewal(),
        };
        let mut pieces = JoinSet::new();
        let mut asking = JoinSet::new();
        loop {
            self.ask(connection, &mut asking);
            let wake = self.send(connection, &mut pieces).map_or(due.look, |wait| {
                due.look.min(Instant::now() + Duration::from_millis(wait))
            });
            tokio::select! {
                line = down.recv() => match line {
                    Some(line) => self.down(connection, line?)?,
                    None => return Err(HttpError::Ended.into()),
                },
                Some(shipped) = pieces.join_next() => {
                    if let Ok(shipped) = shipped {
                        self.shipped(shipped)?;
                    }
                }
                said = self.questions.next() => {
                    if let Some(said) = said {
                        self.said(connection, said);
                    }
                }
                Some(asked) = asking.join_next() => {
                    if let Ok(asked) = asked {
                        self.asked(asked)?;
                    }
                }
                () = sleep_until(wake) => {}
            }
            self.due(connection, &mut due).await?;
        }
    }

    async fn due(&mut self, connection: &Connection, due: &mut Due) -> Result<(), Lost> {
        let at = Instant::now();
        if at >= due.look {
            self.look();
            due.look = at + LOOK;
        }
        if at >= due.status {
            self.status.write(&self.places, &self.shipping, now())?;
            due.status = at + STATUS;
            let backlog = self.shipping.backlog(now().0);
            if at >= due.backlog {
                self.tell_backlog(connection, backlog);
                due.backlog = at + BACKLOG;
            }
        }
        if now() >= due.renewal {
            due.renewal = self.renew(connection).await?;
        }
        Ok(())
    }

    /// Tells the server what it does not hold yet, if that has changed.
    fn tell_backlog(&mut self, connection: &Connection, backlog: Backlog) {
        if backlog == self.backlog_told {
            return;
        }
        self.backlog_told = backlog.clone();
        let connection = connection.clone();
        tokio::spawn(async move {
            let path = "/node/v1/backlog";
            let told = connection.say(Method::POST, path, &backlog).await;
            stockade_types::ignored(told, "a server without this call counts it as nothing");
        });
    }

    /// Looks at the sessions.
    fn look(&mut self) {
        for found in self.scanner.scan() {
            if found.here.is_live {
                let dir = self.session_dir(&found.session);
                self.questions.watch(&found.session, dir);
            }
            if !self.shipping.found(&found.session, found.here, found.held) {
                // It is found again at the next start; until then others are sent.
                self.refused("a journal", "too many are not sent yet");
            }
        }
    }

    /// Says what is here, and takes what is missing.
    async fn hello(&mut self, connection: &Connection) -> Result<(), Lost> {
        let mut sessions: Vec<SessionHere> = self
            .shipping
            .here()
            .map(|(session, offset, live)| SessionHere {
                session: session.clone(),
                offset,
                live,
            })
            .collect();
        sessions.sort_by_key(|session| !session.live);
        sessions.truncate(SESSIONS_MAX);
        let hello = Hello {
            facts: self.facts.clone(),
            sessions,
            bundle: self.trust.bundle_here(),
            directory_serial: self.trust.directory_serial,
            now: now(),
        };
        let answer: Result<HelloAnswer, HttpError> = connection
            .call(Method::POST, "/node/v1/hello", &hello)
            .await;
        let answer = answer.map_err(retired)?;
        for wanted in answer.wanted {
            self.shipping.expected(&wanted.session, wanted.offset);
        }
        if let Some(directory) = &answer.directory {
            self.take_directory(directory);
        }
        if let Some(membership) = &answer.membership {
            self.take_membership(membership);
        }
        if let Some(bundle) = &answer.bundle {
            self.take_bundle(connection, bundle);
        }
        if let Some(pointer) = &answer.pointer {
            self.take_pointer(connection, pointer);
        }
        Ok(())
    }

    /// Opens the stream down; a task of its own reads it, so that no line is cut.
    async fn stream(
        &self,
        connection: &Connection,
    ) -> Result<mpsc::Receiver<Result<Down, HttpError>>, Lost> {
        let mut lines = connection
            .stream("/node/v1/stream")
            .await
            .map_err(retired)?;
        let (give, take) = mpsc::channel(DOWN_MAX);
        tokio::spawn(async move {
            loop {
                let line = lines.next().await;
                let is_last = line.is_err();
                if give.send(line).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(take)
    }

    /// Sends what can be sent; returns after how many milliseconds there is more.
    fn send(&mut self, connection: &Connection, pieces: &mut JoinSet<Shipped>) -> Option<u64> {
        loop {
            let at = now().0;
            match self.shipping.next(at) {
                Next::Idle => return None,
                Next::At(later) => return Some(later.saturating_sub(at)),
                Next::Send {
                    session,
                    from,
                    lacks_receipt,
                } => {
                    let dir = self.session_dir(&session);
                    let piece = Piece {
                        session,
                        dir,
                        from,
                        lacks_receipt,
                    };
                    pieces.spawn(ship(connection.clone(), self.enrolment.clone(), piece));
                }
            }
        }
    }

    fn shipped(&mut self, shipped: Shipped) -> Result<(), Lost> {
        let Shipped {
            session,
            here,
            pace,
            outcome,
        } = shipped;
        if let Some(ms) = pace {
            self.shipping.pace(ms);
        }
        self.shipping.seen(&session, here);
        let answered = match outcome {
            Outcome::Answered(answered) => answered,
            Outcome::Lost(error) => return Err(error.into()),
            Outcome::File(error) => return Err(error.into()),
            Outcome::Other(error) => {
                let error = retired(error);
                if matches!(error, Lost::Retired) {
                    return Err(error);
                }
                self.refused("a piece of a journal", error.in_words());
                Answered::Unknown
            }
        };
        if let Answered::Refused(why) = &answered {
            (self.tell)(&Note::Stopped {
                session: session.clone(),
                why: why.clone(),
            });
        }
        self.shipping.answered(&session, answered, now().0);
        Ok(())
    }

    /// Does what the server says.
    fn down(&mut self, connection: &Connection, down: Down) -> Result<(), Lost> {
        match down {
            Down::Heartbeat { .. } => {}
            Down::Unknown => self.refused("a message", "this version does not know it"),
            Down::Resync { session, expected } => {
                if let Some(found) = self.scanner.again(&session) {
                    self.shipping.found(&session, found.here, expected);
                    self.shipping.expected(&session, expected);
                }
            }
            Down::Restarting { spread_ms } => return Err(Lost::Restarting(spread_ms)),
            Down::Retired => return Err(Lost::Retired),
            Down::Order { envelope } => self.order(&envelope),
            Down::Bundle { envelope } => self.take_bundle(connection, &envelope),
            Down::Pointer { envelope } => self.take_pointer(connection, &envelope),
            Down::Directory { envelope } => self.take_directory(&envelope),
            Down::Membership { envelope } => self.take_membership(&envelope),
            Down::Case {
                session,
                approval,
                stages,
            } => self.progress(&session, approval, stages),
            Down::Answer {
                session,
                approval,
                answer,
            } => self.answered(&session, approval, answer),
        }
        Ok(())
    }

    fn order(&mut self, envelope: &stockade_trust::Envelope) {
        let (org, node) = (&self.enrolment.org, &self.enrolment.node);
        let taken = self
            .orders
            .take(envelope, org, node, &self.enrolment.servers, now());
        let order = match taken {
            Ok(order) => order,
            Err(why) => return self.refused("an order", why),
        };
        let (dir, tell) = (self.session_dir(&order.session), Arc::clone(&self.tell));
        // It takes a while, and the last lines of the journal are to be sent meanwhile.
        tokio::spawn(async move {
            let What::Stop = order.what;
            let stopped = spawn_blocking(move || orders::stop(&dir)).await;
            let stopped = stopped.unwrap_or_else(|error| Err(error.to_string()));
            tell(&match stopped {
                Ok(()) => Note::Ordered {
                    session: order.session,
                    by: order.by.0,
                },
                Err(why) => Note::Refused {
                    what: "an order",
                    why,
                },
            });
        });
    }

    /// Fetches a new certificate; returns when the next one is due.
    async fn renew(&mut self, connection: &Connection) -> Result<UnixMillis, Lost> {
        let answer = connection.ask(Method::POST, "/node/v1/cert").await;
        let answer = answer.and_then(|bytes| {
            let answer = serde_json::from_slice::<CertificateAnswer>(&bytes);
            answer.map_err(|error| HttpError::Answer(error.to_string()))
        });
        match answer.map_err(retired) {
            Ok(answer) => self.take_certificate(answer),
            Err(Lost::Retired) => Err(Lost::Retired),
            Err(error) => {
                self.refused("a new certificate", error.in_words());
                Ok(UnixMillis(now().0.saturating_add(RENEW_AGAIN_MS)))
            }
        }
    }

    /// Fetches a new certificate in place of one that is over, by a request that the machine's key signs. The
    /// server is known by the authority that was pinned at enrolment.
    pub(super) async fn renew_expired(&mut self, server: &Server) -> Result<(), Lost> {
        let (org, node, at) = (&self.enrolment.org, &self.enrolment.node, now());
        let proof = self.key.secret().sign(&renewal_message(org, node, at));
        let request = ExpiredRequest {
            node: node.clone(),
            at,
            proof: URL_SAFE_NO_PAD.encode(proof),
        };
        let pinned = tls::pinned(tls::digest_of(&self.enrolment.authority)?)?;
        let connection = Connection::open(server, pinned).await?;
        let path = "/node/v1/cert/expired";
        let answer = connection.call(Method::POST, path, &request).await?;
        self.take_certificate(answer)?;
        Ok(())
    }

    /// Keeps a new certificate; returns when the next one is due.
    fn take_certificate(&mut self, answer: CertificateAnswer) -> Result<UnixMillis, Lost> {
        let since = now();
        // By the clock of this machine, which is the one that it is compared with.
        let lasts = answer.not_after.0.saturating_sub(answer.now.0);
        let certificate = Certificate {
            pem: answer.certificate,
            since,
            until: UnixMillis(since.0.saturating_add(lasts)),
        };
        tls::mutual(&self.enrolment.authority, &certificate.pem, self.key.seed())?;
        files::replace_json(&self.places.certificate(), &certificate)?;
        self.certificate = certificate;
        Ok(self.certificate.renewal())
    }
}

/// Status code of what is gone for good.
const GONE: u16 = 410;

/// Tells whether a refusal means that the machine was retired.
fn retired(error: HttpError) -> Lost {
    match error.problem() {
        Some(problem) if problem.status == GONE => Lost::Retired,
        Some(_) | None => Lost::Http(error),
    }
}
