//! Every bound of the agent inside, each with the reason for its value.

use std::time::Duration;

/// Longest message of a client. A login has less than 2 KiB; the largest keys and certificates of RSA
/// some more.
pub(super) const MESSAGE_BYTES_MAX: usize = 32 * 1024;
/// Longest message of an agent outside (what OpenSSH takes itself).
pub(super) const ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Keys that an agent outside may list.
pub(super) const LISTED_MAX: usize = 1024;
/// Clients at a time, each with a thread here; a client stays for its login.
pub(super) const CLIENTS_MAX: usize = 32;
/// Stack of a thread for one client.
pub(super) const STACK_BYTES: usize = 256 * 1024;
/// How long a client may be silent: a server gives a login two minutes.
pub(super) const CLIENT_IDLE: Duration = Duration::from_mins(2);
/// How long a proof of a host stands: a server gives a login two minutes.
pub(super) const PROOF_AGE: Duration = Duration::from_mins(2);
/// Proofs that are kept. Whoever opens more connections in two minutes loses the oldest, and logs in
/// there again.
pub(super) const PROOFS_MAX: usize = 256;
/// How long an agent outside may take for a signature: it may ask its owner.
pub(super) const SIGN_WAIT: Duration = Duration::from_mins(1);
/// How long an agent outside may take for everything else.
pub(super) const LIST_WAIT: Duration = Duration::from_secs(10);
/// Largest file with a key; one of RSA with 16,384 bits has 13 KiB.
pub(super) const KEY_FILE_BYTES_MAX: u64 = 64 * 1024;
