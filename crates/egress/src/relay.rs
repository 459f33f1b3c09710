//! Moving bytes both ways between a client and a server, until both directions have ended.

use std::{convert::Infallible, io};

use stockade_policy::Decision;
use tokio::time::timeout;

use crate::{
    gate::{Counters, Held, Incoming, Outgoing, Server, Unsent},
    judge::Allowed,
    limits::{RELAY_CHUNK_BYTES, RELAY_IDLE},
    scrub::{Passage, Scrubber},
    ssh::Greeting,
    stream::{Reader, Stream, Turn, Writer},
    watch::Watch,
};

/// Why a relay ended early.
#[derive(Debug)]
pub(crate) enum Cut {
    /// A side failed.
    Failed,
    /// The client's last bytes must not pass, and did not.
    Refused(Box<Decision>),
}

impl From<io::Error> for Cut {
    fn from(_: io::Error) -> Self {
        Self::Failed
    }
}

impl From<Unsent> for Cut {
    fn from(unsent: Unsent) -> Self {
        match unsent {
            Unsent::Failed => Self::Failed,
            Unsent::Refused(decision) => Self::Refused(decision),
        }
    }
}

/// What becomes of the bytes of a server on their way to the client.
pub(crate) enum Answers<'a> {
    /// They pass as they are.
    AsIs,
    /// They pass without the values of credentials.
    Clean(&'a Scrubber),
    /// They pass as they are; what the server proves of itself is told before.
    Greeting(Greeting<'a>),
}

/// Relays what `allowed` stands for until both directions have ended or one fails. `head` was read
/// of the client and goes first; `watch` reads it and what follows, as far as it still matters. The
/// end of one direction is passed on (half-close). Where it fails or is cut, dropping either side
/// resets it. `begun` was read of the server.
pub(crate) async fn relay<T>(
    client: &mut Stream,
    server: &mut Server,
    allowed: &Allowed<T>,
    (head, watch): (Vec<u8>, Watch),
    (begun, answers): (Vec<u8>, Answers<'_>),
) -> Result<(), Cut> {
    let ended = {
        let counters = server.counters();
        let (incoming, outgoing) = server.open(allowed, watch);
        let (from, to) = client.split();
        let out = send(from, outgoing, head, &counters);
        let back = receive(incoming, to, (begun, answers), &counters);
        tokio::try_join!(out, back).map(|_| ())
    };
    if ended.is_err() {
        // A failure must not look like the end of the data.
        client.reset();
        server.reset();
    }
    ended
}

/// Sends one direction until its end and passes the end on.
async fn send<T>(
    mut from: Reader<'_>,
    mut to: Outgoing<'_, T>,
    head: Vec<u8>,
    counters: &Counters,
) -> Result<(), Cut> {
    if !head.is_empty() {
        to.write(&head).await?;
    }
    drop(head);
    let mut rest = Vec::new();
    loop {
        let before = counters.total();
        let turn = to.pass(&mut from, &mut rest, |bytes| {
            Ok::<_, Infallible>(bytes.len())
        });
        match timeout(RELAY_IDLE, turn).await {
            Ok(Turn::Moved) => {}
            Ok(Turn::Ended) => return Ok(to.end().await?),
            Ok(Turn::Refused(Held::Refused(decision))) => return Err(Cut::Refused(decision)),
            // The other direction was busy, as in a long download.
            Err(_) if counters.total() != before => {}
            Ok(Turn::Refused(Held::Unfit(never))) => match never {},
            Ok(Turn::ReadFailed | Turn::WriteFailed) | Err(_) => return Err(Cut::Failed),
        }
    }
}

/// The same towards the client.
async fn receive(
    mut from: Incoming<'_>,
    mut to: Writer<'_>,
    (begun, answers): (Vec<u8>, Answers<'_>),
    counters: &Counters,
) -> Result<(), Cut> {
    match answers {
        Answers::Clean(scrubber) => {
            return receive_clean(from, to, (begun, scrubber), counters).await;
        }
        Answers::Greeting(greeting) => {
            receive_greeting(&mut from, &mut to, (begun, greeting), counters).await?;
        }
        Answers::AsIs => to.write_all(&begun).await?,
    }
    let mut rest = Vec::new();
    loop {
        let before = counters.total();
        let turn = from.pass(&mut to, &mut rest, |bytes| Ok::<_, Infallible>(bytes.len()));
        match timeout(RELAY_IDLE, turn).await {
            Ok(Turn::Moved) => {}
            Ok(Turn::Ended) => return Ok(to.end().await?),
            Err(_) if counters.total() != before => {}
            Ok(Turn::Refused(never)) => match never {},
            Ok(Turn::ReadFailed | Turn::WriteFailed) | Err(_) => return Err(Cut::Failed),
        }
    }
}

/// Passes on what a server proves of itself, once it was told. Its end is left to be read again.
async fn receive_greeting(
    from: &mut Incoming<'_>,
    to: &mut Writer<'_>,
    (begun, mut greeting): (Vec<u8>, Greeting<'_>),
    counters: &Counters,
) -> Result<(), Cut> {
    let mut bytes = begun;
    loop {
        let more = greeting.take(&bytes).await;
        to.write_all(&bytes).await?;
        if !more {
            return Ok(());
        }
        bytes.clear();
        let before = counters.total();
        match timeout(RELAY_IDLE, from.fill(&mut bytes, RELAY_CHUNK_BYTES)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => return Ok(()),
            Err(_) if counters.total() != before => {}
            Ok(Err(_)) | Err(_) => return Err(Cut::Failed),
        }
    }
}

/// The same, without the values of credentials.
async fn receive_clean(
    mut from: Incoming<'_>,
    mut to: Writer<'_>,
    (begun, scrubber): (Vec<u8>, &Scrubber),
    counters: &Counters,
) -> Result<(), Cut> {
    let mut passage = Passage::default();
    let mut bytes = begun;
    loop {
        let whole = 0..bytes.len();
        let clean = passage.push(scrubber, &bytes, &[whole], false);
        to.write_all(&clean).await?;
        bytes.clear();
        let before = counters.total();
        match timeout(RELAY_IDLE, from.fill(&mut bytes, RELAY_CHUNK_BYTES)).await {
            Ok(Ok(1..)) => {}
            Ok(Ok(0)) => {
                to.write_all(&passage.push(scrubber, &[], &[], true))
                    .await?;
                return Ok(to.end().await?);
            }
            Err(_) if counters.total() != before => {}
            Ok(Err(_)) | Err(_) => return Err(Cut::Failed),
        }
    }
}
