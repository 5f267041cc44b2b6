//! `cache`: what a proxy keeps on disk, looked at and changed by a person.
//!
//! Rules:
//! - Looking needs nobody: a store's folder is read as it is, whether or not a server uses it. What
//!   goes while it is read is left out.
//! - Changing is the server's, as long as one runs: it is asked by `PURGE`. That one runs is known
//!   by the lock of `tmp/`, which is held here while files are removed, so that none starts.
//! - A file is shown, judged and compared as the server does it: by [`crate::cache::store`].
//!
//! In reading order: this one, `folder` (the objects on disk), `list` (`ls`, `show`, `verify`),
//! `purge`, `ask` (one request to a proxy), `warm`.
//!
//! Not here: which folder and which proxy the configuration names; `main.rs` says ([`Place`]).

mod ask;
mod folder;
mod list;
mod purge;
mod warm;

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{CommonArgs, Outcome};
use crate::http::caching::RuleBook;

/// The arguments of `cache`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netlab-reactor cache ls --prefix http://example.org/
  netlab-reactor --config netlab.toml cache ls --json
  netlab-reactor cache show http://example.org/page
  netlab-reactor cache purge http://example.org/page
  netlab-reactor cache purge --prefix http://example.org/assets/
  netlab-reactor cache purge --tag news http://example.org/
  netlab-reactor cache verify
  netlab-reactor cache warm urls.txt

Folder and proxy are those of the first proxy with a cache in the file of
--config (or NETLAB_CONFIG, or the defaults), unless --dir and --proxy say
otherwise. A running server is asked to purge; it obeys those in purge_from.
Exit codes: 0 done, 1 nothing found, a bad file, or a URL that failed, 69 no
server or no folder, 77 the server refuses.")]
pub struct CacheArgs {
    /// The folder of the cache
    #[arg(long, value_name = "DIR", global = true)]
    pub dir: Option<PathBuf>,

    /// The address of the proxy
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub proxy: Option<String>,

    #[command(subcommand)]
    command: CacheCommand,
}

/// The subcommands of `cache`.
#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// List what is kept: bytes on disk, age, for how long it is fresh, URL
    Ls(ListArgs),
    /// Print the header of what is kept for a URL, of each variant
    Show(ShowArgs),
    /// Have what is kept forgotten: a URL, all that begin alike, or all of a host with a tag
    Purge(PurgeArgs),
    /// Compare every file with its name and its checksums
    Verify(VerifyArgs),
    /// Fetch URLs through the proxy, so that it has them
    Warm(WarmArgs),
}

/// The arguments of `cache ls`.
#[derive(Debug, Args)]
struct ListArgs {
    /// Only URLs that begin so
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,

    #[command(flatten)]
    common: CommonArgs,
}

/// The arguments of `cache show`.
#[derive(Debug, Args)]
struct ShowArgs {
    /// The URL
    url: String,
}

/// The arguments of `cache purge`.
#[derive(Debug, Args)]
struct PurgeArgs {
    /// The URL; with --tag any one of the host
    #[arg(required_unless_present = "prefix")]
    url: Option<String>,

    /// All URLs that begin so
    #[arg(long, value_name = "URL", conflicts_with_all = ["url", "tags"])]
    prefix: Option<String>,

    /// All of the URL's host with this tag in Surrogate-Key or Cache-Tag; may be given again
    #[arg(long = "tag", value_name = "TAG", requires = "url")]
    tags: Vec<String>,

    #[command(flatten)]
    common: CommonArgs,
}

/// The arguments of `cache verify`.
#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    common: CommonArgs,
}

/// The arguments of `cache warm`.
#[derive(Debug, Args)]
struct WarmArgs {
    /// A file with a URL on each line; `-` for standard input
    file: PathBuf,

    /// Requests at once
    #[arg(short = 'n', long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,

    /// Header of every request; `Accept-Encoding: gzip` for those who take that
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    #[command(flatten)]
    common: CommonArgs,
}

/// What the configuration says of a cache.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// Its folder.
    pub dir: PathBuf,
    /// The address of its proxy.
    pub proxy: String,
    /// What is decided about its responses.
    pub rules: RuleBook,
}

/// Runs `cache`.
///
/// # Errors
/// See [`super::Failure`].
pub fn run(args: &CacheArgs, place: &Place) -> Outcome {
    match &args.command {
        CacheCommand::Ls(list) => list::list(list, place),
        CacheCommand::Show(show) => list::show(show, place),
        CacheCommand::Verify(verify) => list::verify(verify, place),
        CacheCommand::Purge(purge) => purge::purge(purge, place),
        CacheCommand::Warm(warm) => warm::warm(warm, place),
    }
}
