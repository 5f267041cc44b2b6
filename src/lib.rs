//! `netlab-reactor`: the classic lab servers in one process, one thread, one hand-made reactor.
//!
//! The modules in reading order. The first four are the idea; the rest use it.

// The contract between the reactor and a protocol.
pub mod service;

// How a session ends.
pub mod ending;

// Files, and the trait through which they are reached.
pub mod disk;

// Pages, receive buffers, send queues.
pub mod buffer;

// What goes by them, unread.
pub mod pipe;

// What of what came nobody looks at.
pub mod unread;

// Who is let in.
pub mod gate;

// Places that clients share.
pub mod shares;

// The loop, sessions, timers.
pub mod reactor;

// The kernel: the real one and the simulated one.
pub mod sys;

// The protocols that are served.
pub mod services;

// HTTP/1.1 as pure functions and small machines.
pub mod http;

// The other wire formats, shared by services and clients.
pub mod wire;

// Names to addresses.
pub mod dns;

// Who waits.
pub mod waiter;

// What may wait for a disk.
pub mod jobs;

// Commands that are run when something happened.
pub mod hooks;

// What is kept: open files, responses of origins.
pub mod cache;

// Lines on their way to a log.
pub mod lines;

// The log.
pub mod logging;

// The limits of the whole process.
pub mod limits;

// Every other default, limit and time-out, and the file.
pub mod config;

// What a configuration is made of beside its text.
pub mod surroundings;

// What is counted.
pub mod metrics;

// What can be seen of the loop.
pub mod inside;

// From a configuration to a running reactor.
pub mod serve;

// The client subcommands.
pub mod client;

// For those who learn from all of this.
pub mod course;
