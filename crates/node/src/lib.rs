//! The agent of a machine that belongs to an organisation.
#![forbid(unsafe_code)]

mod shipping;

pub use shipping::{
    Answered, BATCH_BYTES_MAX, Here, JOURNALS_MAX, Next, Shipping, Stopped,
};
