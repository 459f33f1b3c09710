//! The egress process from outside: names, connections, requests, and its control connection.
#![forbid(unsafe_code)]

mod asking;
mod connections;
mod differential;
mod fence;
mod http;
mod http2;
mod lab;
mod names;
mod volume;
mod wire;
