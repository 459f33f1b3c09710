//! What happens to one request before anything of it is sent, whatever protocol carries it.
//!
//! | step | what it can end with |
//! |---|---|
//! | the request names the host of its connection | 421 |
//! | no field names another path or method | 403 |
//! | placeholders of credentials stand only where they are replaced | 403 |
//! | its method does not have the server send it back | 403 |
//! | its host can be reached at all, where an answer would be needed first | 403 |
//! | policy, and whoever must be asked, let it pass | 403 |
//! | it is one of the requests that may leave in a minute | 429 |
//! | a byte of it may leave | 403 |
//! | its head has no secret in it, where none may leave, and its body can be searched | 403 |
//! | the server is there | 403, 502 or 503 |
//! | the decision is in the journal, and each credential that is used | 503 |
//!
//! What comes after is the protocol's: it sends what the proof holds.

use stockade_event::{Durability, Event};
use stockade_policy::{Approvals, AsRequest, Control, Decision, NetRequest};
use stockade_secrets::Finding;
use stockade_types::{ApprovalId, DecisionId};

use super::{
    Addressed, Answer, Head, Place, Searched,
    credentials::{Line, Uses},
    meaning::{Opening, Reading, reply},
};
use crate::{
    Proxy,
    judge::{Allowed, Judgement, Waiter, decided},
    upstream::Failed,
    wire::{Decided, Revocations},
};

/// The connection that carries requests, as far as they are judged by it.
#[derive(Clone, Copy)]
pub(crate) struct Carrier<'a> {
    /// The process.
    pub(crate) proxy: &'a Proxy,
    /// The decision on the connection: who opened it, and where it leads.
    pub(crate) allowed: &'a Allowed<NetRequest>,
    /// It is inside TLS that is opened.
    pub(crate) sealed: bool,
}

/// The way to the server of a request.
pub(crate) enum Way<F> {
    /// There is a connection to it.
    Open,
    /// The future makes one.
    Closed(F),
}

/// A request that may be sent; its decision is recorded.
pub(crate) struct Admitted<C> {
    /// The proof, with what it is for.
    pub(crate) allowed: Box<Allowed<Addressed<C>>>,
    /// Subscribed before the request was judged, so that no revocation falls between.
    pub(crate) revocations: Revocations,
    /// The credentials that it is to carry.
    pub(crate) uses: Uses,
    /// The decision by which it may be sent.
    pub(crate) decision: DecisionId,
}

impl<'a> Carrier<'a> {
    /// Returns what the connection is.
    pub(crate) fn request(&self) -> &'a NetRequest {
        self.allowed.permitted.get()
    }

    /// Puts a request on this connection.
    pub(crate) fn addressed<C>(&self, head: Head, carried: C, opening: Opening) -> Addressed<C> {
        let NetRequest {
            host,
            port,
            subject,
        } = self.request().clone();
        let shown = self.proxy.contents.shown(&head.path, &opening.meaning);
        Addressed {
            head,
            carried,
            shown,
            meaning: opening.meaning,
            body: opening.body,
            host,
            port,
            subject,
        }
    }

    /// Begins to read what a request means, as far as rules about the host need it.
    pub(crate) fn reading(&self, head: &Head) -> Reading {
        let (judge, host) = (&self.proxy.judge, &self.request().host);
        let meaning = judge.meaning(host, &head.method, &head.path);
        let reading = Reading::new(meaning, head, judge.looks_for(host));
        reading.signed(self.proxy.credentials.needs_body(head))
    }

    /// Takes a request through all steps of the table of this module. The error is what its client is
    /// told; the refusal is recorded.
    pub(crate) async fn admit<C: Clone>(
        &self,
        request: &Addressed<C>,
        waiter: Waiter<'_>,
        way: Way<impl Future<Output = Result<(), Failed>>>,
    ) -> Result<Admitted<C>, Answer> {
        let http = request.as_request();
        let head = &request.head;
        if let Some(decision) = self.mismatch(head) {
            return Err(self.refuse(request, decision).await.misdirected());
        }
        if let Some(decision) = self.overridden(head) {
            return Err(self.refuse(request, decision).await);
        }
        let uses = match self.placeholders(request) {
            Ok(uses) => uses,
            Err(decision) => return Err(self.refuse(request, *decision).await),
        };
        if let Some(decision) = echoed(head) {
            return Err(self.refuse(request, decision).await);
        }
        if matches!(way, Way::Closed(_))
            && let Some(decision) = self.proxy.request_out_of_reach(&http, self.allowed)
        {
            return Err(self.refuse(request, decision).await);
        }
        let revocations = self.proxy.supervisor.revocations();
        let held = &self.allowed.approvals;
        let judged = self.proxy.judge.judge(request, held, waiter).await;
        let allowed = match judged {
            Judgement::Permitted(allowed) => allowed,
            Judgement::Denied(decision) => return Err(self.refuse(request, *decision).await),
        };
        let terms = &allowed.decision.terms;
        if let Err(more) = self.proxy.rates.take(&terms.requests_max) {
            return Err(self
                .refuse(request, *more.decision)
                .await
                .too_many(more.wait));
        }
        if let Err(decision) = self.proxy.budgets.look(&terms.bytes_max, 1) {
            return Err(self.refuse(request, *decision).await);
        }
        let denied = &terms.content_denied;
        let body = self.proxy.contents.body(head, denied).map(drop);
        let found = match body.and_then(|()| self.proxy.contents.head(head, denied)) {
            Ok(found) => found,
            Err(decision) => return Err(self.refuse(request, *decision).await),
        };
        if let Way::Closed(open) = way {
            open.await.map_err(Failed::into_answer)?;
        }
        let entry = Decided {
            approvals: own_approvals(&allowed, held),
            ..decided(http, allowed.decision.clone())
        };
        let decision = match self.proxy.judge.record(entry).await {
            Ok(record) => record.decision,
            Err(error) => return Err(Answer::unrecorded(&error)),
        };
        self.record_uses(request, &uses, decision).await?;
        self.found(decision, found);
        Ok(Admitted {
            allowed,
            revocations,
            uses,
            decision,
        })
    }

    /// Returns how requests are carried.
    pub(super) fn line(&self) -> Line<'a> {
        Line {
            host: &self.request().host,
            port: self.request().port,
            sealed: self.sealed,
        }
    }

    /// Finds the credentials that a request is to carry; the error is the refusal of a placeholder.
    fn placeholders<C>(&self, request: &Addressed<C>) -> Result<Uses, Box<Decision>> {
        let credentials = &self.proxy.credentials;
        credentials.look(&request.head, self.line(), request.body.as_ref())
    }

    /// Records the credentials that a request is about to carry.
    pub(super) async fn record_uses<C>(
        &self,
        request: &Addressed<C>,
        uses: &Uses,
        decision: DecisionId,
    ) -> Result<(), Answer> {
        let shown = request.shown.as_ref().map(|shown| &shown.path);
        let path = shown.unwrap_or(&request.head.path);
        for credential in self.proxy.credentials.ids(uses) {
            let event = Event::CredentialUsed {
                credential: credential.clone(),
                decision,
                host: self.request().host.to_string(),
                port: self.request().port.get(),
                method: request.head.method.clone(),
                path: path.clone(),
                user: None,
            };
            let recorded = self.proxy.supervisor.record(event, Durability::Synced);
            if let Err(error) = recorded.await {
                return Err(Answer::unrecorded(&error));
            }
        }
        Ok(())
    }

    /// Has it recorded that secrets left.
    pub(crate) fn found(&self, decision: DecisionId, found: Vec<(Place, Finding)>) {
        let contents = &self.proxy.contents;
        for event in contents.events(self.request(), decision, found) {
            self.proxy.closings.add(event);
        }
    }

    /// The same of a body, as far as it was let out.
    pub(crate) fn found_in_body(&self, decision: DecisionId, content: &mut Searched<'_>) {
        let found = content.take_found().into_iter();
        if !content.denies() {
            let found = found.map(|finding| (Place::Body, finding));
            self.found(decision, found.collect());
        }
    }

    /// Records a refusal, and returns what the client is told.
    pub(super) async fn refuse<C>(&self, request: &Addressed<C>, decision: Decision) -> Answer {
        let entry = decided(request.as_request(), decision);
        let record = self.proxy.judge.record(entry).await;
        let reply = |record| reply(&request.head, &request.meaning, record);
        let own = record.as_ref().ok().and_then(reply);
        own.unwrap_or_else(|| Answer::denied(&record).for_agent(request.head.agent()))
    }

    /// Records that the rest of a request must not leave, and returns what the client is told if it
    /// was told nothing yet.
    pub(crate) async fn stop<C>(&self, request: &Addressed<C>, decision: Decision) -> Answer {
        let entry = Decided {
            detail: Some("refused while it was open".to_owned()),
            ..decided(request.as_request(), decision)
        };
        Answer::denied(&self.proxy.judge.record(entry).await)
    }

    /// Records that what the client sent has no single meaning, and returns what it is told.
    pub(crate) async fn malformed(&self, reason: &str, remedy: &str) -> Answer {
        let request = self.request().as_request();
        let decision = Control::HttpFraming.denies(reason.to_owned(), remedy);
        let entry = Decided {
            detail: Some("refused while it was open".to_owned()),
            ..decided(request, decision)
        };
        Answer::malformed(&self.proxy.judge.record(entry).await)
    }

    /// Records that a server's answer is not passed on, and returns what the client is told if it was
    /// told nothing yet.
    pub(crate) async fn bad_answer(&self, reason: &str) -> Answer {
        let request = self.request().as_request();
        let reason = format!("the answer of `{}`: {reason}", self.request().host);
        let remedy = "have the server answer in strict HTTP/1.1, or reach it with TLS";
        let decision = Control::HttpFraming.denies(reason, remedy);
        let record = self.proxy.judge.record(decided(request, decision)).await;
        Answer::bad_gateway(&record)
    }

    /// Records that a server's answer cannot be searched for the credentials of its host, and returns
    /// what the client is told if it was told nothing yet.
    pub(crate) async fn unsearchable<C>(&self, request: &Addressed<C>) -> Answer {
        let reason = format!(
            "`{}` answers in a coding that cannot be searched for credentials, although it was asked \
             for none",
            self.request().host
        );
        let remedy = "have the server answer without `Content-Encoding`, or bind the credential to other \
                      hosts";
        self.unanswered(request, reason, remedy).await
    }

    /// Records that a server's answer does not have new tokens in a way that is read, and returns what
    /// the client is told.
    pub(super) async fn no_tokens<C>(&self, request: &Addressed<C>, why: &str) -> Answer {
        let host = &self.request().host;
        let reason = format!("the answer of `{host}` with new tokens is not passed on: {why}");
        let remedy = "log in again outside, or write `inside = true` in a login of your own with the \
                      same id";
        self.unanswered(request, reason, remedy).await
    }

    async fn unanswered<C>(&self, request: &Addressed<C>, reason: String, remedy: &str) -> Answer {
        let decision = Control::CredentialAnswer.denies(reason, remedy);
        let entry = decided(request.as_request(), decision);
        Answer::bad_gateway(&self.proxy.judge.record(entry).await)
    }

    /// Returns the refusal of a request whose host is not where the connection leads.
    fn mismatch(&self, head: &Head) -> Option<Decision> {
        let own = self.request();
        let same_port = head.port.is_none_or(|port| port == own.port.get());
        if head.host == own.host && same_port {
            return None;
        }
        let wanted = head.port.map_or_else(
            || head.host.to_string(),
            |port| format!("{}:{port}", head.host),
        );
        let reason = format!(
            "the request is for `{wanted}`, but the connection is to `{}:{}`",
            own.host, own.port
        );
        Some(Control::NameMismatch.denies(reason, "connect to the host that the request is for"))
    }

    /// Returns the refusal of a request with another path or method than the one that is judged.
    fn overridden(&self, head: &Head) -> Option<Decision> {
        if !self.allowed.decision.http_only {
            return None;
        }
        let field = head.overriding()?;
        let reason =
            format!("`{field}` can name another path or method than the one that is judged");
        Some(Control::HttpFraming.denies(reason, "send the request without this field"))
    }
}

/// Returns the refusal of a method that shows a program what its server got (RFC 9110 section 9.3.8):
/// what was put into the request on the way is not the program's to see.
fn echoed(head: &Head) -> Option<Decision> {
    ["TRACE", "TRACK"].contains(&head.method.as_str()).then(|| {
        let reason = format!("`{}` has the server send back what it got", head.method);
        Control::HttpFraming.denies(reason, "send the request with another method")
    })
}

/// Approvals that are used by the request and not already by its connection.
fn own_approvals<C>(allowed: &Allowed<Addressed<C>>, held: &Approvals) -> Vec<ApprovalId> {
    let ids = allowed.approvals.ids();
    ids.filter(|id| !held.ids().any(|other| other == *id))
        .cloned()
        .collect()
}
