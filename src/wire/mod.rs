//! Wire formats: the pure codecs that the services and the clients share.
//!
//! Rules:
//! - Bytes (and, where a protocol needs it, the time) go in as values; events and bytes come out. Nothing here opens a
//!   socket or a file, reads a clock or draws a random number.
//! - Every decoder is incremental: the answer is the same however the input is cut, and each has a bound.
//! - What a peer sends is never asserted on; it is parsed into a type or refused with an error that names the fault.
//!
//! Not here: HTTP (see [`crate::http`]), DNS messages (see [`crate::dns`]), anything that waits.

pub mod challenge;
pub mod frame;
pub mod heartbeat;
pub mod hex;
pub mod idn;
pub mod login;
pub mod ping;
pub mod smtp;
pub mod stamp;
pub mod text;
pub mod upload;
pub mod upper;
