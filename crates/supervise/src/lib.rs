//! Judges everything that happens in a session: every execution waits here for its verdict, every
//! change of a path is judged and made here, and both are recorded before the caller has the
//! answer.
//!
//! The kernel's notifier hands a system call over ([`start`]). The caller is read from `/proc`
//! (`procfs`, `processes`), the meaning of the call from its arguments (`resolve`, `locate`), and
//! its verdict comes from policy; the answer goes back to the call. Nothing here knows how a
//! session starts or ends.
#![forbid(unsafe_code)]

mod act;
mod areas;
mod asking;
mod blanked;
mod calls;
mod changes;
mod covers;
mod denials;
mod drafts;
mod environment;
mod exec;
mod files;
mod git;
mod hands;
mod interpreter;
mod judged;
mod lanes;
mod limits;
mod lives;
mod locate;
mod mount_watch;
pub mod mountinfo;
mod moved;
mod news;
mod notices;
mod origins;
mod owners;
pub mod places;
mod processes;
mod procfs;
mod program_file;
pub mod protected;
mod push;
mod read_only;
mod recorder;
mod repeats;
pub mod repository;
mod resolve;
mod running;
mod search;
mod serve;
mod shadow;
mod supervision;
mod tracing;
mod tree;
mod turns;
mod verify;

pub use areas::Areas;
pub use environment::StartEnvironment;
pub use git::{Remotes, addresses_of_remotes};
pub use lives::{GroupUse, Lives};
pub use mount_watch::{MountWatch, Replaced};
pub use news::{NEWS_FILE, News, Newspaper};
pub use notices::Notices;
pub use origins::{Origins, Speaker};
pub use owners::{Owners, Search, Wanted};
pub use processes::{Processes, shown_words};
pub use procfs::{descendants, sockets};
pub use push::parse_settings;
pub use recorder::{Bounds, EGRESS, Recorder, SUPERVISOR, lock, now};
pub use serve::start;
pub use supervision::{Parts, refused};

use hands::Hands;
use supervision::{
    Answer, Caller, EMPTY_PATH, ERRNO_DENIED, ERRNO_NOT_JUDGED, Reply, Supervision, descriptor,
    later, state,
};
