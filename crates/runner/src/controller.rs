//! Orders to a running session from other threads.

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use crate::RunError;
use stockade_supervise::lock;

/// Ends or signals a session from another thread.
#[derive(Clone)]
pub struct Controller {
    pub(crate) orders: Arc<Mutex<Orders>>,
    bell: Arc<OwnedFd>,
}

#[derive(Debug, Default)]
pub(crate) struct Orders {
    pub(crate) signals: Vec<i32>,
    pub(crate) abort: Option<String>,
}

impl Controller {
    /// Makes a controller and the read end of its bell.
    pub(crate) fn new() -> Result<(Self, OwnedFd), RunError> {
        let (read, write) = rustix::pipe::pipe_with(
            rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK,
        )
        .map_err(|errno| RunError::Supervisor(errno.into()))?;
        Ok((
            Self {
                orders: Arc::default(),
                bell: Arc::new(write),
            },
            read,
        ))
    }

    /// Sends a signal to the command's process group.
    pub fn signal(&self, number: i32) {
        lock(&self.orders).signals.push(number);
        self.ring();
    }

    /// Kills the session; the first reason counts.
    pub fn abort(&self, reason: &str) {
        lock(&self.orders)
            .abort
            .get_or_insert_with(|| reason.to_owned());
        self.ring();
    }

    fn ring(&self) {
        // A full pipe already signals.
        let _rung = rustix::io::write(&*self.bell, b"!");
    }
}
