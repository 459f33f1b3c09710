//! The journal from outside: what is written, what is kept, and which changes are detected.
#![forbid(unsafe_code)]

mod common;
mod compact;
mod events;
mod follow;
mod full_disk;
mod golden;
mod killed;
mod lines;
mod packed;
mod pieces;
mod spool;
mod tampering;
