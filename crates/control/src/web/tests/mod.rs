//! The pages over real connections: who gets in, who may do what, and what a browser is told.

mod access;
mod browser;
mod finding;
mod forms;
mod inbox;
mod lab;
mod looks;
mod mail;
mod matrix;
mod oidc;
mod proposals;
mod reading;
mod recorded;
mod requests;
mod schema;
mod settings;
mod sign_in;
mod teams;
mod telling;
mod terminals;
mod together;
