//! Bounds of what a server and a machine read of each other.

/// Bytes of one piece of a journal, unpacked: a minute of a very busy session.
pub const PIECE_BYTES_MAX: usize = 4 << 20;
/// Bytes of one piece of a journal as it is sent; zstd makes no text longer by more than some bytes.
pub const PIECE_SENT_BYTES_MAX: usize = PIECE_BYTES_MAX + (64 << 10);
/// Bytes of every other request.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer, and of a line of the stream down: a bundle is the largest.
pub const ANSWER_BYTES_MAX: usize = 12 << 20;
/// Bytes of a name, a version or another short word of a machine.
pub const WORD_BYTES_MAX: usize = 256;
/// Words in a list of facts.
pub const WORDS_MAX: usize = 64;
/// Sessions that one `hello` names; a machine with more names the live ones and the newest.
pub const SESSIONS_MAX: usize = 4_096;
/// Bytes of a reason or an error.
pub const REASON_BYTES_MAX: usize = 4_096;
/// How often the stream down says that it is there.
pub const HEARTBEAT_MS: u64 = 15_000;
/// How long a machine waits for the next line of the stream before it takes it for broken.
pub const SILENCE_MS: u64 = 40_000;
const _: () = assert!(SILENCE_MS > 2 * HEARTBEAT_MS);
/// How long a machine's certificate is valid; it is renewed at half of that.
pub const CERTIFICATE_MS: u64 = 24 * 60 * 60 * 1_000;
/// For how long a machine may ask for a certificate after its last one is over, in milliseconds.
pub const EXPIRED_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1_000;
/// How far what a machine signs to get one may be from the time of the server, in milliseconds.
pub const PROOF_MS_MAX: u64 = 5 * 60 * 1_000;
/// How long a token for enrolment is valid at most.
pub const ENROL_TOKEN_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// Questions of one machine that wait at the same time.
pub const QUESTIONS_MAX: u32 = 256;
/// How far in the future a question may expire.
pub const QUESTION_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// How long a running session collects lines before the next piece, at least: each piece costs a sync on
/// both sides.
pub const PACE_MS_MIN: u64 = 200;
/// The longest time that a server can ask for.
pub const PACE_MS_MAX: u64 = 2_000;
/// The header of an answer to a piece that says for how long, in milliseconds.
pub const PACE_HEADER: &str = "stockade-pace-ms";
