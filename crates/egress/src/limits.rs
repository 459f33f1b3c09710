//! Every bound of this process in one place, each with the reason for its value.

use std::time::Duration;

/// Connections of one session that are open at a time. Package managers open at most a few
/// hundred; the rest of the budget is for servers that keep idle streams. Two descriptors each.
pub(crate) const CONNECTIONS_MAX: usize = 10_240;

/// What a server of SSH says before it encrypts, as far as it is read: remarks before its version, its
/// list of algorithms (about 1 KiB) and an answer with a key. OpenSSH needs about 3 KiB, the largest
/// post-quantum keys some more.
pub(crate) const SSH_GREETING_BYTES_MAX: usize = 64 * 1024;

/// Longest packet of SSH (RFC 4253 section 6.1).
pub(crate) const SSH_PACKET_BYTES_MAX: usize = 35_000;

/// DNS over TCP connections at a time; stub resolvers open one and only after a truncated answer.
pub(crate) const DNS_STREAMS_MAX: usize = 64;

/// DNS queries that wait for a verdict at a time. Each costs one supervisor round trip; more than
/// this in flight is a flood, and what goes beyond is dropped.
pub(crate) const DNS_QUERIES_MAX: usize = 256;

/// Longest DNS message accepted over TCP. Queries are below 300 bytes; options may add some.
pub(crate) const DNS_QUERY_BYTES_MAX: usize = 4096;

/// UDP payload that we announce and accept: below every common MTU (DNS flag day 2020).
pub(crate) const DNS_PAYLOAD_BYTES: u16 = 1232;

/// Longest answer over UDP for who announces nothing (RFC 1035 section 4.2.1).
pub(crate) const DNS_PLAIN_BYTES: usize = 512;

/// Longest answer to the session: fifty members of a cluster have about 4 KiB.
pub(crate) const RECORDS_BYTES_MAX: usize = 8 * 1024;

/// Records of an answer that are passed on.
pub(crate) const RECORDS_MAX: usize = 64;

/// Names of which a session asks name servers for other records than addresses. Drivers of databases
/// ask for a few; each is text that outsiders see.
pub(crate) const RECORD_NAMES_MAX: usize = 256;

/// How long a DNS over TCP connection may stay silent (RFC 7766 section 6.2.3: some seconds).
pub(crate) const DNS_STREAM_IDLE: Duration = Duration::from_secs(10);

/// Time to live of synthetic answers: they are stable, but a changed policy should show soon.
pub(crate) const DNS_TTL_SECONDS: u32 = 5;

/// Names that get a synthetic address in one session. A large build touches some dozens; the
/// bound keeps a flood of invented names below 2 MiB of memory.
pub(crate) const SYNTHETIC_NAMES_MAX: usize = 8192;

/// Queries whose repetitions are counted instead of recorded again; beyond it each is recorded.
pub(crate) const SEEN_QUERIES_MAX: usize = 8192;

/// How long one of the host's name servers may take before the next one is tried.
pub(crate) const RESOLVE_ATTEMPT: Duration = Duration::from_secs(2);

/// How long a whole resolution may take, all servers and both address families.
pub(crate) const RESOLVE_TOTAL: Duration = Duration::from_secs(8);

/// Aliases followed in one answer; real chains have up to five.
pub(crate) const ALIASES_MAX: usize = 12;

/// Largest answer taken from a name server over TCP; 64 KiB is what the format can carry.
pub(crate) const DNS_ANSWER_BYTES_MAX: usize = 65_535;

/// Addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// How long one address may take to accept. A lost SYN is sent again after 1 and 3 seconds.
pub(crate) const DIAL_ATTEMPT: Duration = Duration::from_secs(5);

/// How long an address may take before the next one is tried beside it (RFC 8305 section 5).
pub(crate) const DIAL_NEXT: Duration = Duration::from_millis(250);

/// Largest answer of a proxy to the wish for a connection, without its body.
pub(crate) const PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;

/// How long all addresses of one name may take.
pub(crate) const DIAL_TOTAL: Duration = Duration::from_secs(20);

/// Questions of one kind that are put to the supervisor at a time; the others wait for their turn,
/// and their time starts with it. It answers what waits together with one look at `/proc`.
pub(crate) const TURNS: usize = 64;

/// How long the supervisor may take to name the process behind a connection. It reads `/proc`.
pub(crate) const ATTRIBUTE_WAIT: Duration = Duration::from_secs(5);

/// How long the supervisor may take to write an event. A disk that needs longer is not working.
pub(crate) const RECORD_WAIT: Duration = Duration::from_secs(10);

/// How long a connection that was made for a program may wait for the program's own, whose first
/// packet is let go with it. What takes longer is closed and made again.
pub(crate) const MADE_KEPT: Duration = Duration::from_secs(5);

/// Longest sentence by which a client is told of a refusal where its protocol has room for one: a few
/// lines of a terminal, and well below what clients take as a status line.
pub(crate) const SENTENCE_BYTES_MAX: usize = 400;

/// How long after a refusal at one address of a name a client's try at the other one is the same
/// attempt: clients begin it at once, or within the quarter of a second of RFC 8305.
pub(crate) const REFUSED_KEPT: Duration = Duration::from_secs(1);

/// Refused names that are remembered for that; without one, the second try is an event of its own.
pub(crate) const REFUSED_NAMES_MAX: usize = 1024;

/// Held connections that wait to be looked at; the kernel holds as many.
pub(crate) const CONNECTING_MAX: usize = 1024;

/// How long an approval may take where the rule states no time: people are slow.
pub(crate) const ASK_WAIT: Duration = Duration::from_mins(15);

/// Added to the time that a rule states, so that the supervisor's own expiry is what is seen.
pub(crate) const ASK_GRACE: Duration = Duration::from_secs(5);

/// How often a program that waits for a person is looked at, whether it still waits: soon enough
/// that no question outlives it by much, rare enough to cost nothing.
pub(crate) const WAITER_BEAT: Duration = Duration::from_millis(250);

/// How long it is remembered that a host cannot be reached: package managers try for a minute, and
/// each try would be a question whose answer changes nothing.
pub(crate) const UNREACHED_KEPT: Duration = Duration::from_mins(2);

/// Hosts of which that is remembered; past it all are forgotten, which costs a question each.
pub(crate) const UNREACHED_HOSTS_MAX: usize = 1024;

/// Requests to the supervisor that wait for an answer: one per connection and query in flight.
pub(crate) const PENDING_MAX: usize = CONNECTIONS_MAX + DNS_QUERIES_MAX + DNS_STREAMS_MAX;

/// Frames queued for the supervisor; writers wait when it is full.
pub(crate) const OUTBOX_FRAMES: usize = 64;

/// Longest frame on the control connection: a subject with a long argument vector fits.
pub(crate) const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes of a part of a policy in one frame: as JSON at most six times as long, and what is beside it.
pub(crate) const LAYER_PART_BYTES: usize = 128 * 1024;

/// Bytes of a policy that is published while a session runs.
pub(crate) const LAYER_BYTES_MAX: usize = 8 << 20;

/// Parts of a policy that wait to be taken; more keep the control connection waiting.
pub(crate) const LAYER_PARTS: usize = 16;

const _: () = assert!(LAYER_PART_BYTES * 6 + 64 * 1024 < FRAME_BYTES_MAX);

/// Decisions without a question that go to the supervisor one by one, before the spool is used.
pub(crate) const UNLEASED: u32 = 8;
/// How many the egress process asks to put into the spool at first; twice as many each time.
pub(crate) const LEASE_MIN: u64 = 16;
/// How many at most.
pub(crate) const LEASE_MAX: u64 = 256;

/// How long the supervisor's side may be blocked by an egress process that does not read.
pub(crate) const FRAME_WRITE_WAIT: Duration = Duration::from_secs(10);

/// Closing events that are under way to the supervisor at a time; the others wait in their queue.
pub(crate) const CLOSINGS_AT_ONCE: usize = OUTBOX_FRAMES;

/// How long the closing events of the connections that the session's end finds open may take.
pub(crate) const FINISH_WAIT: Duration = Duration::from_secs(1);

/// Revocations that a connection may be behind before it is closed to be safe.
pub(crate) const REVOCATIONS_BEHIND_MAX: usize = 256;

/// How long a client may say nothing before the server is given the word (SMTP, SSH, MySQL wait
/// for the server). Clients that speak first do so within a millisecond on loopback.
pub(crate) const FIRST_BYTE_WINDOW: Duration = Duration::from_millis(300);

/// How long a client may pause in its first line before it counts as waiting for the server, where
/// the line does not begin like HTTP (greetings without a line end, as of JDWP). Long enough for a
/// loaded machine, short enough not to be taken for a hang.
pub(crate) const LINE_PAUSE: Duration = Duration::from_secs(1);

/// How long a client may take to send a whole `ClientHello` or request head.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(15);

/// Largest `ClientHello` handshake message. Post-quantum shares make them about 2 KiB; the format
/// could say 16 MiB.
pub(crate) const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Largest second `ClientHello` of a TLS handshake; `OpenSSL` takes no first one beyond 131,396 bytes.
pub(crate) const SECOND_HELLO_BYTES_MAX: usize = 132 * 1024;

/// Bytes of early data after which no second `ClientHello` is looked for: servers take 16 KiB.
pub(crate) const EARLY_DATA_BYTES_MAX: usize = 256 * 1024;

/// Bytes read before it must be clear what a client speaks: a `ClientHello` in tiny records.
pub(crate) const SNIFF_BYTES_MAX: usize = 32 * 1024;

/// Hosts whose certificates are kept while TLS is opened; past it all are made anew, which takes less
/// than a millisecond each.
pub(crate) const LEAVES_MAX: usize = 1024;

/// How long the certificates of a session hold: longer than any session, and not longer than clients
/// accept.
pub(crate) const AUTHORITY_LASTS: Duration = Duration::from_hours(24 * 90);

/// Bytes of a request or response head, all lines. Servers commonly accept 8 to 48 KiB.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Bytes read at once while a head is not complete.
pub(crate) const HEAD_READ_BYTES: usize = 16 * 1024;

/// Longest request target; RFC 9110 section 4.1 recommends at least 8,000 bytes.
pub(crate) const TARGET_BYTES_MAX: usize = 16 * 1024;

/// Header lines of one message.
pub(crate) const HEADER_LINES_MAX: usize = 128;

/// Bytes of the size line of one chunk and of each trailer line.
pub(crate) const CHUNK_LINE_BYTES_MAX: usize = 4096;

/// Bytes of all trailers of one message.
pub(crate) const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Requests of one HTTP/2 connection that are under way at a time; what browsers and servers use.
pub(crate) const STREAMS_MAX: usize = 128;

/// The same in the form of the protocol.
pub(crate) const STREAMS_MAX_SETTING: u32 = 128;

/// Requests of one HTTP/2 connection that the client may take back before they are answered, beyond
/// those that it lets be answered. Programs that stop what they began take back some; a flood of them
/// (CVE-2023-44487) is work without end for both sides.
pub(crate) const TAKEN_BACK_MAX: u32 = 100;

/// Streams that were reset and are remembered for a second, so that what still comes for them is told
/// from a mistake.
pub(crate) const STREAMS_RESET_MAX: usize = 64;

/// Streams that the client reset before they were looked at.
pub(crate) const STREAMS_UNSEEN_MAX: usize = 20;

/// Resets of ours that answer what is no HTTP/2 before the connection is closed.
pub(crate) const STREAMS_WRONG_MAX: usize = 128;

/// Bytes of a header list of HTTP/2, each field with 32 bytes more (RFC 9113 section 6.5.2): a head
/// of HTTP/1 at its bound fits.
pub(crate) const HEAD_LIST_BYTES_MAX: u32 = 72 * 1024;

/// Bytes of one body that may wait to be passed on: what a link of 100 Mbit/s has under way in 20 ms.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Bytes of all bodies of one connection that may wait to be passed on: sixteen that stand still stop
/// no other.
pub(crate) const STREAMS_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes that wait in one stream to be written.
pub(crate) const STREAM_UNWRITTEN_BYTES: usize = 256 * 1024;

/// Pause until a setting is said again that could not be said, since an earlier one is not confirmed.
pub(crate) const SETTING_PAUSE: Duration = Duration::from_millis(20);

/// Connections to a server of HTTP/1 that are kept for the next requests of one HTTP/2 connection.
pub(crate) const KEPT_SERVERS_MAX: usize = 8;

/// Hosts of which it is remembered which HTTP they speak; past it all are forgotten, which costs one
/// translated connection each.
pub(crate) const SPOKEN_HOSTS_MAX: usize = 1024;

/// Bytes at the beginning of a push in which its commands must be whole: 256 of them with long names
/// fit. Of more, nobody says which refs it changes.
pub(crate) const PUSH_BYTES_MAX: usize = 64 * 1024;

/// Refs that one push changes and that are judged one by one; a person looks at no more.
pub(crate) const PUSH_CHANGES_MAX: usize = 256;

/// Longest line of a push that names a ref; git takes names of up to 4096 bytes from few file systems.
pub(crate) const REF_BYTES_MAX: usize = 1024;

/// Bytes of a call of a model that are read before it is judged: long conversations with pictures have
/// some. Of a longer one, nobody says which tools it names.
pub(crate) const MODEL_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of other JSON that is read before it is judged: a query, a report.
pub(crate) const OTHER_JSON_BYTES_MAX: usize = 256 * 1024;

/// Values of JSON that are kept: the tools of a call, a whole query.
pub(crate) const JSON_VALUES_MAX: usize = 64 * 1024;

/// Tokens of a query in GraphQL; those of clients have some hundreds.
pub(crate) const GRAPHQL_TOKENS_MAX: usize = 64 * 1024;

/// Fields of a mutation that are judged one by one.
pub(crate) const GRAPHQL_FIELDS_MAX: usize = 256;

/// How long a client may take to send as much of a body as is read before it is judged. What it has
/// not sent by then stays unknown.
pub(crate) const OPENING_WAIT: Duration = Duration::from_secs(15);

/// Bytes of a description of a package that are read, packed and unpacked, to learn how old a version is:
/// those of packages with thousands of versions have some. Of a longer one nobody knows it.
pub(crate) const DESCRIPTION_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Descriptions that are asked for at a time: as many as may be held.
pub(crate) const AGES_ASKED_MAX: usize = 4;

/// Longest wait for a description; clients wait half a minute and more for an answer.
pub(crate) const AGE_WAIT: Duration = Duration::from_secs(20);

/// Files and packages of which it is remembered how old they are, or where they are described: what the
/// largest projects install. Beyond it is asked again, or nothing is known.
pub(crate) const AGES_KNOWN_MAX: usize = 16_384;

/// Places that describe one package; clients have a handful of indexes.
pub(crate) const PLACES_MAX: usize = 4;

/// Longest path, and longest name of a package, that is remembered.
pub(crate) const PLACE_BYTES_MAX: usize = 1024;

/// Longest body that is read to be signed for AWS where its client does not say the digest. Calls of
/// services have at most some hundred kilobytes.
pub(crate) const SIGNED_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Fields of a request that are signed for AWS; clients sign about ten.
pub(crate) const SIGNED_FIELDS_MAX: usize = 64;

/// Bytes of bodies that are held at a time, for all connections together; beyond it what bodies say
/// stays unknown.
pub(crate) const HELD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a body that are held back while they could be part of a secret that must not leave; several
/// reads of the largest size. More is refused.
pub(crate) const WAITING_BYTES_MAX: usize = 4 * RELAY_CHUNK_BYTES;

/// Bytes that a compressed body of a request may have once it is unpacked, to be searched. What
/// programs compress before they send it (traces, packs, layers) is smaller; beyond it nothing is
/// searched, or nothing leaves where secrets are denied.
pub(crate) const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// Secrets of one body that are recorded: a file of passwords has more, and these say enough.
pub(crate) const FINDINGS_MAX: usize = 64;

/// Secrets that are remembered so that each is recorded once; past it each is recorded.
pub(crate) const SECRETS_SEEN_MAX: usize = 4096;

/// How long bytes that end a tool call wait until the call is recorded.
pub(crate) const CLAIM_WAIT: Duration = Duration::from_secs(1);

/// Bytes of one text that an event has, as far as `record.content` lets it: of longer ones the beginning,
/// from which people see what was meant.
pub(crate) const SAID_BYTES_MAX: usize = 8 * 1024;

/// Texts of one prompt that an event has; agents put some of their own beside the person's. With
/// [`SAID_BYTES_MAX`] they are most of a record.
pub(crate) const SAID_PARTS_MAX: usize = 6;

/// Calls of models that are read at a time, each of which holds a few MiB at most; agents have some
/// dozens. Of others it is only said that they were made.
pub(crate) const CALLS_READ_MAX: usize = 64;

/// Calls of tools of servers in one request over HTTP that wait for their results; clients send one.
pub(crate) const MCP_CALLS_MAX: usize = 256;

/// Bodies of calls in brotli or Zstandard that are unpacked at a time: each holds up to 16 MiB for that.
pub(crate) const CALLS_UNPACKED_MAX: usize = 16;

/// Window of Zstandard as a power of two: 8 MiB, which is all that HTTP has (RFC 9659).
pub(crate) const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes that are unpacked at once.
pub(crate) const UNPACK_PIECE_BYTES: usize = 16 * 1024;

/// Bytes that the compressed body of a call is unpacked to, to be read.
pub(crate) const CALL_UNPACKED_BYTES_MAX: u64 = stockade_agents::BODY_BYTES_MAX;

/// Entries of each list of a call that are recorded; the others are counted. Agents have some dozens of
/// tools.
pub(crate) const CALL_ENTRIES_MAX: usize = 64;

/// Body of an export of telemetry, unpacked. OpenTelemetry has 4 MiB as the limit of receivers, and
/// exporters send up to 512 records at a time.
pub(crate) const EXPORT_BYTES_MAX: usize = 4 << 20;

/// Bytes of exports that are held until they are recorded.
pub(crate) const EXPORTS_HELD_BYTES_MAX: usize = 16 << 20;

/// Exports that are held until they are recorded, however short they are.
pub(crate) const EXPORTS_HELD_MAX: usize = 1024;

/// Bytes of exports that are read in a second: much more than an agent says, little of the one thread that
/// the process has, and so few that the journal does not reach its bound soon.
pub(crate) const EXPORT_BYTES_PER_SECOND: u64 = 2 << 20;

/// Claims of exports that are taken in a second; an agent makes some dozens.
pub(crate) const EXPORT_CLAIMS_PER_SECOND: u64 = 5000;

/// Seconds whose share of bytes and claims can be used at once, after a pause.
pub(crate) const EXPORT_BURST_SECONDS: u64 = 4;

/// Connections of exporters at a time: an agent has one for each signal.
pub(crate) const EXPORTERS_MAX: usize = 64;

/// Exports of one connection of gRPC at a time; they are taken one after the other.
pub(crate) const EXPORT_STREAMS_MAX: u32 = 8;

/// Bytes that a connection of gRPC may have on their way.
pub(crate) const EXPORT_WINDOW_BYTES: u32 = 256 * 1024;

/// How long an exporter may take to send one export.
pub(crate) const EXPORT_WAIT: Duration = Duration::from_secs(10);

/// How often it is recorded how many exports were not taken.
pub(crate) const EXPORTS_LOST_PERIOD: Duration = Duration::from_secs(1);

/// Body of a request for new tokens of a login; it has a few tokens of a few KiB.
pub(crate) const TOKEN_REQUEST_BYTES_MAX: usize = 64 * 1024;

/// Answer with new tokens, which is held until it is whole.
pub(crate) const TOKEN_ANSWER_BYTES_MAX: usize = 256 * 1024;

/// How long it may take to get new tokens.
pub(crate) const RENEWAL_WAIT: Duration = Duration::from_mins(1);

/// Tokens of logins from before they were renewed that are still taken out of answers; a token is
/// valid for hours.
pub(crate) const OLD_TOKENS_MAX: usize = 32;

/// How long a kept HTTP connection may wait for its next request.
pub(crate) const KEEP_ALIVE_WAIT: Duration = Duration::from_mins(5);

/// How long a server may take to begin its response, or pause in it. Models think for minutes.
pub(crate) const RESPONSE_WAIT: Duration = Duration::from_hours(1);

/// How long no byte may pass in either direction. Long, because notebooks, debuggers and chat
/// streams are silent for hours.
pub(crate) const RELAY_IDLE: Duration = Duration::from_hours(6);

/// Bytes moved per turn of a relay; one buffer for the whole process, since it has one thread.
pub(crate) const RELAY_CHUNK_BYTES: usize = 256 * 1024;

/// How long a client may take to accept a refusal of a few hundred bytes.
pub(crate) const REFUSAL_WAIT: Duration = Duration::from_secs(1);

/// How long a client may pause while we read on after the last answer, so that it gets to see that
/// answer before a reset. Clients that are in the middle of an upload first finish it.
pub(crate) const LINGER_IDLE: Duration = Duration::from_secs(10);

/// How long we read on in all. What is read is thrown away, so its size does not matter.
pub(crate) const LINGER_TOTAL: Duration = Duration::from_mins(1);

/// Pause after `accept` fails for want of descriptors, so that it is not tried in a tight loop.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

const _: () = assert!(CLIENT_HELLO_BYTES_MAX < SNIFF_BYTES_MAX);
const _: () = assert!(LINE_PAUSE.as_millis() < HANDSHAKE_WAIT.as_millis());
/// Definitions in one message to the supervisor. Names of 128 bytes, each written with five at most, and
/// what stands between them take less than 2 KiB for each.
pub(crate) const DEFINED_MAX: usize = 128;

/// Bytes of the texts of these. A byte is written with six at most, and two texts may not fit together.
pub(crate) const DEFINED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of the texts of the new definitions of one request that are shown; of others it is known whether
/// they are the same.
pub(crate) const DEFINITION_TEXTS_BYTES_MAX: usize = 4 << 20;

/// Definitions that are known to have been compared: some hundred servers with some dozen tools.
pub(crate) const KNOWN_DEFINITIONS_MAX: usize = 16 * 1024;

const _: () = assert!(DEFINED_MAX * 2048 + DEFINED_BYTES_MAX * 6 < FRAME_BYTES_MAX);
const _: () = assert!(stockade_agents::TEXT_BYTES_MAX <= DEFINED_BYTES_MAX);
const _: () = assert!(stockade_agents::DEFINITIONS_MAX <= KNOWN_DEFINITIONS_MAX);
const _: () = assert!(LINGER_IDLE.as_millis() < LINGER_TOTAL.as_millis());
const _: () = assert!(HEAD_READ_BYTES <= RELAY_CHUNK_BYTES);
const _: () = assert!(TARGET_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(SIGNED_BODY_BYTES_MAX < HELD_BYTES_MAX);
const _: () = assert!(REF_BYTES_MAX < PUSH_BYTES_MAX && PUSH_BYTES_MAX < HELD_BYTES_MAX);
const _: () = assert!(OTHER_JSON_BYTES_MAX < MODEL_BYTES_MAX && MODEL_BYTES_MAX < HELD_BYTES_MAX);
const _: () = assert!(CALL_ENTRIES_MAX <= stockade_agents::ENTRIES_MAX);
// The receiver of telemetry has an address behind those of names.
const _: () = assert!(SYNTHETIC_NAMES_MAX < (1 << 16));
const _: () = assert!(HEAD_BYTES_MAX < FRAME_BYTES_MAX);
const _: () = assert!(STREAMS_MAX == STREAMS_MAX_SETTING as usize);
const _: () = assert!(STREAM_WINDOW_BYTES <= STREAMS_WINDOW_BYTES);
const _: () = assert!(HEAD_BYTES_MAX < HEAD_LIST_BYTES_MAX as usize);

/// Steps of a plan that an event has; what is beyond is counted. Agents keep a dozen.
pub(crate) const PLAN_STEPS_MAX: usize = 64;

/// Bytes of the words of one step that an event has. An agent says its whole plan again with each change.
pub(crate) const PLAN_STEP_BYTES_MAX: usize = 512;
