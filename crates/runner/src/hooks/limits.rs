//! Every bound of the hooks, each with the reason for its value.

use std::time::Duration;

/// Clients at a time, each with a thread: agents call some tools at a time, and each question that
/// waits for a person keeps one.
pub(crate) const CLIENTS_MAX: usize = 128;
/// Of those, clients that no agent started as its hook: a command can run the program too.
pub(crate) const OTHERS_MAX: usize = 8;
/// Stack of a thread for one client: a policy is evaluated on it.
pub(crate) const STACK_BYTES: usize = 2 << 20;
/// Bytes of the first line, which names the agent.
pub(crate) const HEAD_BYTES_MAX: usize = 64;
/// Bytes that are read at a time.
pub(crate) const PIECE_BYTES: usize = 32 * 1024;
/// How long a client may take to say everything, and to take the answer. What an agent writes comes at
/// once.
pub(crate) const CLIENT_WAIT: Duration = Duration::from_secs(10);
/// Claims of clients that no agent started that are recorded in a session. An agent that runs inside a
/// command and whose model nobody sees makes some hundred an hour.
pub(crate) const OTHERS_CLAIMS_MAX: u64 = 2_000;
/// Claims of one second that are recorded; whoever makes more waits. Agents make some dozens.
pub(crate) const CLAIMS_PER_SECOND: u32 = 500;
/// Bytes of a text that is kept in the record, as of what models are told.
pub(crate) const SAID_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an answer.
pub(crate) const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// How long the hook's program waits for what the agent tells.
pub(crate) const STDIN_WAIT: Duration = Duration::from_secs(30);
/// How long it waits for the answer, which a person may have to give: a little less than the time that
/// presets have agents give it, so that it still says no by itself.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_mins(24 * 60 - 1);
