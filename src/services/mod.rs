//! The protocols. Each is one file; this is their table.

#[doc(hidden)] // for tests, those in `tests/` among them
pub mod bench;

pub mod admin;
pub mod hello;
pub mod http;
pub mod proxy;
pub mod tcp_echo;
pub mod udp_echo;
pub mod udp_heartbeat;
pub mod udp_ping;
pub mod upload;
