//! Credentials that programs inside use without having them.

mod basic;
mod lab;
