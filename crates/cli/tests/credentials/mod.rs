//! Credentials that programs inside use without having them.

mod answers;
mod basic;
mod lab;
