//! Rules about what requests mean, with the real clients and servers of a lab.

mod ages;
mod git;
mod services;
