//! Rules about what requests mean, with the real clients and servers of a lab.

mod git;
mod services;
