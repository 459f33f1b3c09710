//! The supervisor's side: blocking, for plain threads.

use std::{
    io::{self, BufReader, Read, Write},
    os::unix::net::UnixStream,
    sync::{Arc, Mutex, PoisonError},
};

use super::{FromSupervisor, ToSupervisor, WireError, frame, frame_length, is_end, message};
use crate::limits::FRAME_WRITE_WAIT;

/// Splits the supervisor's end of the control connection into requests and replies.
///
/// # Errors
/// When the descriptor cannot be duplicated or configured.
pub fn server(stream: UnixStream) -> io::Result<(Requests, Replies)> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(FRAME_WRITE_WAIT))?;
    let writer = stream.try_clone()?;
    let replies = Replies {
        stream: Arc::new(Mutex::new(writer)),
    };
    Ok((
        Requests {
            stream: BufReader::new(stream),
        },
        replies,
    ))
}

/// The requests of the egress process, in order.
#[derive(Debug)]
pub struct Requests {
    stream: BufReader<UnixStream>,
}

impl Requests {
    /// Waits for the next request; `None` when the egress process has ended.
    ///
    /// # Errors
    /// When the connection fails or carries something else; it is then of no further use.
    #[expect(
        clippy::should_implement_trait,
        reason = "it blocks and can fail; not an iterator"
    )]
    pub fn next(&mut self) -> Result<Option<ToSupervisor>, WireError> {
        let mut prefix = [0; 4];
        match self.stream.read_exact(&mut prefix) {
            Ok(()) => {}
            Err(error) if is_end(&error) => return Ok(None),
            Err(error) => return Err(WireError::Io(error)),
        }
        let mut bytes = vec![0; frame_length(prefix)?];
        self.stream.read_exact(&mut bytes).map_err(WireError::Io)?;
        message(&bytes).map(Some)
    }
}

/// Sends replies and revocations; clones share the connection.
#[derive(Clone, Debug)]
pub struct Replies {
    stream: Arc<Mutex<UnixStream>>,
}

impl Replies {
    /// Sends one message, whole.
    ///
    /// # Errors
    /// When it is too long or the egress process does not take it; the connection is then of no
    /// further use and is shut down, which ends the egress process.
    pub fn send(&self, reply: &FromSupervisor) -> Result<(), WireError> {
        let bytes = frame(reply)?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&bytes).map_err(|error| {
            // Half a frame may be out; nothing after it could be understood.
            let shut = stream.shutdown(std::net::Shutdown::Both);
            WireError::Io(shut.err().unwrap_or(error))
        })
    }

    /// Closes the connection, which ends the egress process and with it all connections.
    pub fn close(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // An error means that it is closed already, which is what is wanted.
        drop(stream.shutdown(std::net::Shutdown::Both));
    }
}
