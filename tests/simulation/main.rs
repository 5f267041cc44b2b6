//! The whole server on a simulated kernel, seed after seed.
//!
//! Each seed draws a few scenarios, a set of faults, a network and limits, and runs them all in one
//! reactor until every client is content. `SIM_SEED=7 cargo test --test simulation sweep --
//! --nocapture` replays seed 7 and prints what happened; `SIM_SEEDS=1000` widens the sweep. See
//! `driver` for what is checked.

mod datagrams;
mod dns;
mod driver;
mod echo;
mod frames;
mod gate;
mod group;
mod heartbeat;
mod hello;
mod http;
mod kept;
mod planted;
mod proxy;
mod relay;
mod replay;
mod rules;
mod secure;
mod sure;
mod sweep;
mod upload;
mod web;
