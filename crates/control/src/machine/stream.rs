//! The stream down to a machine.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use stockade_api::{limits::HEARTBEAT_MS, node::Down};
use tokio::{sync::mpsc, time::interval};

use super::answer::{Machine, Refused};
use crate::{ControlError, Server, clock::now, hub::line_of, state::NodeRow};

/// Lines that wait for the connection; beyond that the machine's queue of the hub fills.
const LINES: usize = 4;

/// `GET /node/v1/stream`.
pub(super) async fn stream(
    State(server): State<Arc<Server>>,
    Machine(node): Machine,
) -> Result<Response, Refused> {
    let (number, down) = server.hub.connect(&node.id);
    let missed = match server.missed(&node).await {
        Ok(missed) => missed,
        Err(error) => {
            server.hub.disconnect(&node.id, number);
            return Err(error.into());
        }
    };
    let (lines, body) = mpsc::channel(LINES);
    tokio::spawn(async move {
        write(&lines, missed, down).await;
        server.hub.disconnect(&node.id, number);
    });
    let kind = [(CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::new(Lines(body))).into_response())
}

/// Writes messages until the machine is gone or is hung up on.
async fn write(lines: &mpsc::Sender<Bytes>, missed: Vec<Down>, mut down: mpsc::Receiver<Bytes>) {
    let mut heartbeat = interval(Duration::from_millis(HEARTBEAT_MS));
    for line in missed.iter().filter_map(line_of) {
        if lines.send(line).await.is_err() {
            return;
        }
    }
    loop {
        let line = tokio::select! {
            line = down.recv() => line,
            _ = heartbeat.tick() => line_of(&Down::Heartbeat { at: now() }),
            () = lines.closed() => return,
        };
        let Some(line) = line else {
            return;
        };
        if lines.send(line).await.is_err() {
            return;
        }
    }
}

impl Server {
    /// Returns what a machine that connects has to be told at once.
    async fn missed(&self, node: &NodeRow) -> Result<Vec<Down>, ControlError> {
        let mut missed = Vec::new();
        let directory = self.known_directory().await?;
        if directory.serial > node.directory_serial {
            missed.push(Down::Directory {
                envelope: directory.envelope,
            });
        }
        let serial = node.bundle.as_ref().map_or(0, |bundle| bundle.serial);
        let bundle = self.state.newest_bundle_row().await?;
        if let Some(bundle) = bundle.filter(|bundle| bundle.serial > serial) {
            missed.push(Down::Bundle {
                envelope: bundle.envelope,
            });
        }
        if let Some(envelope) = self.pointer().await? {
            missed.push(Down::Pointer { envelope });
        }
        let now = now();
        for row in self.state.undelivered(&node.id, now).await? {
            if let Some(answer) = self.answer(&row).await? {
                missed.push(Down::Answer {
                    session: row.key.session,
                    approval: row.approval,
                    answer,
                });
            }
        }
        for envelope in self.state.orders(&node.id, now).await? {
            missed.push(Down::Order { envelope });
        }
        Ok(missed)
    }
}

/// The body of the answer: one line each.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let line = self.0.poll_recv(context);
        line.map(|line| line.map(|line| Ok(Frame::data(line))))
    }
}
