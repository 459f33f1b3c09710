//! New tokens of a login: what the agent gives for them, and what it gets.
//!
//! The agent gives a placeholder, in whose place the real token goes. The answer is held until it is
//! whole; its tokens stay here and with the supervisor, which writes them to the owner's file, and the
//! agent gets placeholders. It makes no difference which program inside asks.

use aho_corasick::BuildError;
use stockade_policy::Decision;
use stockade_types::DecisionId;
use tokio::time::timeout;

use super::{
    Addressed, Admitted, Answer, Carrier, Head, Uses, Way,
    credentials::spent::Fresh,
    h1::head::{Carried, write},
    head::{Field, Fields},
    whole,
};
use crate::{
    alpn::Http,
    dial::Carries,
    gate::count,
    judge::Waiter,
    limits::{RENEWAL_WAIT, TOKEN_ANSWER_BYTES_MAX},
    upstream::Upstream,
    watch::Watch,
    wire::{Renewed, Token},
};

/// Fields about how a body or a connection is carried, which are written anew.
const CARRIAGE: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];
const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

impl Carrier<'_> {
    /// Tells whether a request asks for new tokens of a login whose tokens are not inside.
    pub(crate) fn renews(&self, head: &Head) -> bool {
        self.proxy.credentials.renewed(head, self.line()).is_some()
    }

    /// Gets new tokens, and returns what the program is told.
    pub(crate) async fn renew(&self, head: &Head, body: Vec<u8>, waiter: Waiter<'_>) -> Answer {
        let credentials = &self.proxy.credentials;
        let Some(at) = credentials.renewed(head, self.line()) else {
            return Answer::unserved("the login has no tokens");
        };
        let meaning = self
            .proxy
            .judge
            .meaning(&self.request().host, &head.method, &head.path);
        let request = self.addressed(self.whole(head), Carried::bare(), meaning.into());
        if let Err(decision) = credentials.can_spend(at, head, &body) {
            return self.refuse(&request, *decision).await;
        }
        let mut upstream = None;
        let way = Way::Closed(Box::pin(async {
            let said = (None, Some("for new tokens of a login".to_owned()));
            let made = (None, Carries::Sealed(Http::One));
            upstream = Some(Upstream::open(self.proxy, self.allowed, made, said).await?);
            Ok(())
        }));
        let admitted = match Box::pin(self.admit(&request, waiter, way)).await {
            Ok(admitted) => admitted,
            Err(answer) => return answer,
        };
        let Some(upstream) = upstream else {
            return Answer::unserved("there is no connection to the server");
        };
        if let Err(decision) = self.searched(&admitted, &request, &body) {
            return self.stop(&request, *decision).await;
        }
        let answer = Box::pin(self.exchange(at, &request, (admitted, upstream), body)).await;
        answer.unwrap_or_else(|answer| answer)
    }

    /// Searches the body as the program wrote it.
    fn searched(
        &self,
        admitted: &Admitted<Carried>,
        request: &Addressed<Carried>,
        body: &[u8],
    ) -> Result<(), Box<Decision>> {
        let denied = &admitted.allowed.decision.terms.content_denied;
        let mut content = self.proxy.contents.body(&request.head, denied)?;
        content.read(body);
        content.finish();
        content.refusal()?;
        self.found_in_body(admitted.decision, &mut content);
        Ok(())
    }

    /// Sends the request, and takes the tokens out of the answer.
    async fn exchange(
        &self,
        at: usize,
        request: &Addressed<Carried>,
        (admitted, mut upstream): (Admitted<Carried>, Upstream),
        body: Vec<u8>,
    ) -> Result<Answer, Answer> {
        let credentials = &self.proxy.credentials;
        let _turn = credentials.turn().await;
        self.adopt(at).await?;
        let new = credentials.spent(at, &body);
        let is_spent = new.is_some();
        if is_spent {
            let uses = Uses::of(at);
            self.record_uses(request, &uses, admitted.decision).await?;
        }
        let body = new.unwrap_or(body);
        let dressed = credentials.dress(&admitted.allowed.permitted, &admitted.uses);
        let head = write(&dressed.with_length(body.len()), upstream.forward.as_ref());
        let (incoming, mut outgoing) = upstream.server.open(&admitted.allowed, Watch::over());
        let exchange = async {
            outgoing.announce(count(head.len() + body.len())).ok()?;
            outgoing.write(&head).await.ok()?;
            outgoing.write(&body).await.ok()?;
            whole::receive(incoming, "POST", TOKEN_ANSWER_BYTES_MAX).await
        };
        let answered = timeout(RENEWAL_WAIT, exchange).await.ok().flatten();
        let Some((head, body)) = answered else {
            return Err(self
                .bad_answer("it is none that can be read, or too long")
                .await);
        };
        if head.coded && !body.is_empty() {
            return Err(self.unsearchable(request).await);
        }
        let is_success = (200..300).contains(&head.status);
        let fresh = match (Fresh::read(&body), is_success) {
            (Ok(fresh), _) => Some(fresh),
            (Err(why), true) => return Err(self.no_tokens(request, why).await),
            (Err(_), false) => None,
        };
        let body = match fresh {
            Some(fresh) if is_success => {
                let how = (is_spent, admitted.decision);
                self.keep(at, request, fresh, how).await?
            }
            Some(fresh) => fresh.written(|_| false),
            None => body,
        };
        let kind = if body.starts_with(b"{") { JSON } else { TEXT };
        Ok(Answer {
            status: head.status,
            kind,
            body: credentials.cleaned(body),
            fields: Vec::new(),
            sentence: String::new(),
        })
    }

    /// Takes over what the owner's file has now: another session may have got new tokens since.
    async fn adopt(&self, at: usize) -> Result<(), Answer> {
        let credentials = &self.proxy.credentials;
        let Some(login) = credentials.login(at) else {
            return Ok(());
        };
        let tokens = self.proxy.supervisor.tokens(login.clone()).await;
        let tokens = tokens.map_err(|error| Answer::unrecorded(&error))?;
        credentials.take(tokens).map_err(unsearchable)
    }

    /// Keeps the tokens of an answer, and returns what the program gets of it.
    async fn keep(
        &self,
        at: usize,
        request: &Addressed<Carried>,
        mut fresh: Fresh,
        (is_spent, decision): (bool, DecisionId),
    ) -> Result<Vec<u8>, Answer> {
        let credentials = &self.proxy.credentials;
        let Some(login) = credentials.login(at) else {
            return Ok(fresh.written(|_| false));
        };
        let (mut tokens, mut members) = (Vec::new(), Vec::new());
        for live in credentials.tokens_of(login) {
            let Some(member) = live.member() else {
                continue;
            };
            match fresh.token(member) {
                Ok(None) => continue,
                Ok(Some(value)) => tokens.push(Token::new(live.id().clone(), value)),
                Err(why) => return Err(self.no_tokens(request, why).await),
            }
            fresh.hide(member, live.placeholder());
            members.push(member);
        }
        let taken = credentials.take(tokens.clone());
        if !tokens.is_empty() {
            let renewed = Renewed {
                login: login.clone(),
                decision,
                tokens,
                lifetime_s: fresh.lifetime_s(),
                is_same_login: is_spent,
            };
            let told = self.proxy.supervisor.renewed(renewed);
            told.await.map_err(|error| Answer::unrecorded(&error))?;
        }
        taken.map_err(unsearchable)?;
        Ok(fresh.written(|name| members.contains(&name)))
    }

    /// Makes the head of a request that is sent whole, on a connection of its own.
    fn whole(&self, head: &Head) -> Head {
        let own = self.request();
        let host = match own.port.get() {
            443 => own.host.to_string(),
            port => format!("{}:{port}", own.host),
        };
        let mut fields = Fields::default();
        fields.add(Field {
            name: b"Host",
            value: host.as_bytes(),
        });
        let kept = |field: &Field<'_>| !CARRIAGE.iter().any(|name| field.is(name));
        let kept = head.fields.iter().filter(kept);
        kept.for_each(|field| fields.add(field));
        fields.add(Field {
            name: b"Connection",
            value: b"close",
        });
        Head {
            fields,
            ..head.clone()
        }
    }
}

fn unsearchable(_: BuildError) -> Answer {
    Answer::unserved("answers cannot be searched for the new tokens")
}
