//! Objects on disk, kept for the proxy.
//!
//! [`key`]: what an object is called. [`object`]: the file of one. [`index`]: which there are, and
//! which has to go.

pub mod index;
pub mod key;
pub mod object;
