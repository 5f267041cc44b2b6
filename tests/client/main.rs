//! The clients as processes, against small servers on threads of this test and against our own
//! listeners: what a person would see.
//!
//! No fixed ports, no outside programs but in `outside`, and nothing waits for time to pass but
//! where a time-out is the matter of the test.

#[path = "../common/mod.rs"]
mod common;
mod harness;

mod echo;
mod get;
mod hello;
mod mail;
mod misbehaving;
mod outside;
mod own;
mod ping;
mod upload;
