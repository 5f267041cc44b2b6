//! `netlab-reactor`: every classic lab server in one process, one thread, one hand-made reactor.
//!
//! The modules in reading order:

pub mod buffer;
pub mod cache;
pub mod client;
pub mod serve;
pub mod metrics;
pub mod config;
pub mod dns;
pub mod http;
pub mod reactor;
pub mod service;
pub mod services;
pub mod sys;
pub mod wire;
