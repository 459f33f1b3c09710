//! What the client of a connection is told of its refusal.

use stockade_policy::{AsRequest, Decision};
use tokio::time::timeout;

use super::Link;
use crate::{
    choice::shown_name,
    farewell::farewell,
    http::{
        Answer,
        h1::{self, linger},
        sentence,
    },
    judge::decided,
    limits::REFUSAL_WAIT,
    sniff::{Flight, Speech},
    tls::{self, ALERT_ACCESS_DENIED},
    upstream::Failed,
    wire::Decided,
};

impl Link<'_> {
    /// Records a refusal and tells the client in its own language.
    pub(super) async fn refuse(&mut self, decision: Decision, flight: &Flight) {
        let sni = match flight {
            Flight::Speaks(Speech::Tls(hello)) => shown_name(hello),
            _ => None,
        };
        let entry = Decided {
            sni,
            ..decided(self.request.as_request(), decision)
        };
        let record = self.proxy.judge.record(entry).await;
        match flight {
            Flight::Speaks(Speech::Http) => {
                let method = if self.head.starts_with(b"HEAD ") {
                    "HEAD"
                } else {
                    "GET"
                };
                let answer = Answer::denied(&record).for_agent(agent(&self.head));
                h1::send_answer(&mut self.client, method, &answer).await;
            }
            Flight::Speaks(Speech::Tls(_) | Speech::BrokenTls(_)) => self.alert().await,
            Flight::Speaks(Speech::Opaque)
            | Flight::Silent
            | Flight::Ended
            | Flight::Unfinished => {
                let said = record.ok().map(|record| sentence(&record));
                match said.and_then(|said| farewell(&self.head, &said)) {
                    Some(said) => self.say(&said).await,
                    None => self.client.reset(),
                }
            }
        }
    }

    /// Tells a client that speaks TLS that policy is the cause; others see a reset.
    pub(super) async fn tell_failed(&mut self, failed: Failed) {
        if tls::begins(&self.head) && !matches!(failed, Failed::Unreachable(_)) {
            return self.alert().await;
        }
        self.client.reset();
    }

    /// Ends a TLS handshake with an alert that names policy as the cause.
    async fn alert(&mut self) {
        self.say(&ALERT_ACCESS_DENIED).await;
    }

    /// Ends the connection with our last words.
    async fn say(&mut self, bytes: &[u8]) {
        let said = self.client.write_all(bytes);
        if let Ok(Ok(())) = timeout(REFUSAL_WAIT, said).await {
            linger(&mut self.client).await;
        }
    }
}

/// Returns how an HTTP client names itself in a head that was not parsed.
fn agent(head: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"user-agent:";
    let lines = head.split(|byte| *byte == b'\n');
    let value = lines.filter_map(|line| {
        let (name, value) = line.split_at_checked(NAME.len())?;
        name.eq_ignore_ascii_case(NAME).then_some(value)
    });
    value.map(<[u8]>::trim_ascii).next().unwrap_or_default()
}
