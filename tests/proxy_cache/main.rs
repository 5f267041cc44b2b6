//! The proxy with its store over the real kernel: killed and started again, with a thousand clients
//! for one object, in front of origins that misbehave, and with the clients and proxies that others
//! use, before and behind it. The public suite is in `http_cache.rs`; what needs no store in `loopback_proxy.rs`.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod crashes;
mod crowd;
mod haproxy;
mod http;
mod misbehaving;
mod ranges;

use common::Program;

/// Whether the proxy has a store yet. Without one, nothing here expects an answer from it, and all
/// the rest holds.
const STORES: bool = true;

/// A proxy that may reach this machine, with these further keys and its store in its own folder.
fn proxy(keys: &str) -> Program {
    Program::start(&format!("{}{keys}\n", proxy_keys("cache")))
}

/// The same as a section of a configuration; the store is in `cache_dir`.
fn proxy_keys(cache_dir: &str) -> String {
    format!(
        "[[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\n\
         allow_destinations = [\"127.0.0.0/8\"]\nconnect_ports = []\ncache_dir = \"{cache_dir}\"\n\
         cache_max_bytes = \"256MiB\"\n"
    )
}
