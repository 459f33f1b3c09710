//! The program from outside: sessions, terminals, attacks, documents.
#![forbid(unsafe_code)]

mod agent_state;
mod agents;
mod attacks;
mod bad_input;
mod bash_list;
mod bytes;
mod caches;
mod calls;
mod covers;
mod credentials;
mod doctor;
mod documents;
mod git;
mod given;
mod hosts;
mod launch;
mod list;
mod more_agents;
mod names;
mod network;
mod pages;
mod places;
mod policies;
mod pruning;
mod quiet;
mod reading;
mod refusals;
mod registries;
mod repository;
mod second_terminal;
mod settings;
mod shells;
mod terminal;
mod tools;
mod waiting;
