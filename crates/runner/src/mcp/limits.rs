//! Every bound of what agents and servers of tools say to each other over pipes, each with the reason for
//! its value.

use std::time::Duration;

/// Bytes of a line that are held until it is known what it says. Of what a client writes no longer line
/// passes; what a server writes passes as it comes from there on.
pub(super) const LINE_BYTES_MAX: usize = 16 << 20;
/// Bytes that are read at a time.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// Calls that wait for a verdict at a time; of more, the client's next line is not read.
pub(super) const PARKED_MAX: usize = 64;
/// Calls whose result the server owes that are remembered; clients make some dozens at a time.
pub(super) const OPEN_MAX: usize = 1024;
/// How long the next line waits for the verdict on a call, so that the server gets both in their order;
/// verdicts that need no person come within milliseconds.
pub(super) const ORDER_WAIT: Duration = Duration::from_millis(500);
/// Messages to the supervisor that wait to be sent.
pub(super) const OUTBOX_MAX: usize = 256;
/// Bytes of one message to the supervisor: the arguments of a call, escaped.
pub(super) const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes of a result's text that the supervisor is told; the record keeps less.
pub(super) const RESULT_BYTES_MAX: usize = 16 * 1024;
/// Bytes of the name of a server, as for models.
pub(super) const SERVER_BYTES_MAX: usize = 128;
/// Servers that an agent is told to start through the shim; people have some.
pub(super) const WRAPPED_MAX: usize = 64;
/// Servers at a time, each with a thread.
pub(super) const CLIENTS_MAX: usize = 128;
/// Questions of one server that wait for a person at a time, each with a thread.
pub(super) const ASKS_MAX: usize = 16;
/// Stack of a thread for one server: a policy is evaluated on it.
pub(super) const STACK_BYTES: usize = 2 << 20;
/// How long the supervisor's last word may take once nothing more can be told to it.
pub(super) const LAST_WORD_WAIT: Duration = Duration::from_secs(1);
/// How long a message may take on its way once it has begun.
pub(super) const CLIENT_WAIT: Duration = Duration::from_secs(10);
