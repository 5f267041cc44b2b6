//! `netlab-reactor`: every classic lab server in one process, one thread, one hand-made reactor.
//!
//! The modules in reading order:

pub mod service;
pub mod buffer;
pub mod reactor;
pub mod sys;
pub mod services;
pub mod http;
pub mod wire;
pub mod dns;
pub mod cache;
pub mod config;
pub mod client;
