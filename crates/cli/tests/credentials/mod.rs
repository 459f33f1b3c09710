//! Credentials that programs inside use without having them.

mod answers;
mod aws;
mod basic;
mod git;
mod kinds;
mod lab;
mod logins;
mod redirects;
mod sources;
