//! The protocols. Each is one file; this is their table.

#[cfg(test)]
pub(crate) mod bench;

pub mod hello;
pub mod tcp_echo;
pub mod udp_echo;
pub mod udp_ping;
