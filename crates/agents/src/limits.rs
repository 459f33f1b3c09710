//! Every bound of this crate in one place, each with the reason for its value.

/// Bytes of one body that are read. A request carries the whole conversation, pictures included, and
/// servers take 20 to 32 MiB.
pub const BODY_BYTES_MAX: u64 = 32 << 20;

/// Values of JSON that are kept of one text. The new part of a conversation and some hundred tools
/// have a few thousand; each takes about 100 bytes.
pub(crate) const VALUES_MAX: usize = 16 * 1024;

/// How much of a text, or of an item that is handed out, is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    /// Values.
    pub(crate) values: usize,
    /// How deep they are.
    pub(crate) depth: usize,
}

impl Room {
    /// What calls of models need.
    pub(crate) const CALLS: Self = Self {
        values: VALUES_MAX,
        depth: DEPTH_MAX,
    };
}

/// Values that a text has room for beside those, for members of the outermost object: what says the
/// model stands there, and can come last.
pub(crate) const OUTER_VALUES_MAX: usize = 256;

/// Depth to which JSON is kept; schemas of tools are deepest, and are not kept.
pub(crate) const DEPTH_MAX: usize = 32;

/// Bytes of a name of a member; longer ones mean nothing here.
pub(crate) const KEY_BYTES_MAX: usize = 128;

/// Bytes of a text that is always kept, if its value is.
pub(crate) const SHORT_BYTES_MAX: usize = 256;

/// Bytes of one text that is kept; of a longer one length and digest are known.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// Bytes of all longer texts of one body that are kept at a time.
pub(crate) const TEXTS_BYTES_MAX: usize = 1 << 20;

/// Digits of a number.
pub(crate) const NUMBER_BYTES_MAX: usize = 32;

/// Bytes of a name that a claim has: of a model, a tool, a call. What is longer is cut.
pub const NAME_BYTES_MAX: usize = 128;

/// Entries of each list of a claim; what is beyond is counted. Agents declare some dozens of tools.
pub const ENTRIES_MAX: usize = 256;

/// Tool calls that are put together at a time, as their pieces come.
pub(crate) const OPEN_CALLS_MAX: usize = 64;

/// Commands, files and hosts that are taken from one tool call, of each; a large patch names some
/// dozens of files.
pub(crate) const INTENT_ENTRIES_MAX: usize = 64;

/// Bytes of a frame of an event stream; the format has 16 MiB at most.
pub(crate) const FRAME_BYTES_MAX: u32 = 16 << 20;

/// Bytes of the headers of a frame: three short ones are usual.
pub(crate) const FRAME_HEADER_BYTES_MAX: usize = 4096;

/// Claims that are taken of one export; exporters send 512 records at a time.
pub(crate) const EXPORT_CLAIMS_MAX: usize = 4096;

/// Attributes of a record that are read; agents write about thirty.
pub(crate) const ATTRIBUTES_MAX: usize = 128;

/// Names of members that lead to a value which a reader looks for.
pub(crate) const PATH_MAX: usize = 4;

/// Values of the definition of one tool: the schemas of the largest real ones have some thousands.
pub(crate) const DEFINITION_VALUES_MAX: usize = 64 * 1024;

/// Depth of the definition of a tool, from the beginning of the request: the deepest real schemas have
/// about twenty levels.
pub(crate) const DEFINITION_DEPTH_MAX: usize = 64;

/// Values of one message to a server of tools, or from it, and how deep they are: the schemas of all tools
/// of a server can stand in one.
pub(crate) const DEFINITION_ROOM: Room = Room {
    values: DEFINITION_VALUES_MAX,
    depth: DEFINITION_DEPTH_MAX,
};

/// Tools of servers that one request may define: services take some hundred tools at most.
pub const DEFINITIONS_MAX: usize = 4096;

const _: () = assert!(NAME_BYTES_MAX <= SHORT_BYTES_MAX);
const _: () = assert!(SHORT_BYTES_MAX < TEXT_BYTES_MAX && TEXT_BYTES_MAX < TEXTS_BYTES_MAX);
const _: () = assert!(NUMBER_BYTES_MAX < SHORT_BYTES_MAX);
