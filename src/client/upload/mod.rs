//! `upload`: sends files with the upload protocol: handshake, login, then a header and the bytes of
//! each file.
//!
//! ```text
//! connect ─▶ handshake ─▶ login ─▶ header ─▶ ready? ─▶ body ─▶ stored?
//!    ▲                               ▲          │ no: a plain server   │
//!    │                               └──────────┼──────── next file ───┘
//!    └───────── next file, or again after a pause ◀── half-close, wait for the end
//! ```
//!
//! Rules:
//! - Unless `--plain` is set, each header asks for `ack`. A server that sends `ready` gets all
//!   files over one connection and says of each what became of it. One that says nothing is a plain
//!   one: it gets a connection per file, since it may take no more than one, and the file is "sent,
//!   not acknowledged". `--one-connection` is for those who know better.
//! - What may help is tried again with growing pauses; a refusal is not. After `ready` was seen,
//!   the next attempt resumes where the server stands, and sends nothing if that has the whole file
//!   already: no file is stored twice because an answer was lost.
//! - `--jobs` connections share the files: each takes the next one when it is free. The first
//!   failure lets the others end what they have begun. Without it, files arrive in their order.
//! - A file that changes under way ends short or is cut: what is announced is what is sent, and its
//!   digest is compared.
//!
//! The files in reading order: `source` (what is sent), `workers` (who sends it), `uploader` (the
//! dialogue about each file), `link` (one connection), `bars` (progress).
//!
//! Not here: the formats (see [`crate::wire`]).

mod bars;
mod link;
mod source;
mod uploader;
mod workers;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};

use self::source::collect;
use self::workers::Sender;
use super::tls::{TlsArgs, Trust};
use super::{CommonArgs, Exit, Failure, Outcome, secrets, units};
use crate::wire::challenge::{Handshake, Secret};
use crate::wire::login::Login;

/// How long a server is given to say `ready` before it is taken for a plain one.
const READY_WAIT: Duration = Duration::from_millis(500);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// From this size on the digest of a file is announced although nobody asked for it: to read a file
/// twice costs less than to send it twice.
const DIGEST_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// How much of a file is read and sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The arguments of `upload`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  NETLAB_SECRET=... netlab-reactor upload localhost 9001 report.pdf
  netlab-reactor upload --secret-file secret localhost 9001 photos/ notes.txt
  netlab-reactor upload --secret-file secret --jobs 8 localhost 9001 photos/
  netlab-reactor upload --handshake none --plain localhost 9001 a.bin
  netlab-reactor upload --secret-file s --user ann localhost 9001 a.bin
  netlab-reactor upload --secret-file s --tls --ca-file ca.pem host 9001 a.bin

Secrets come from the named file, from NETLAB_SECRET and NETLAB_PASSWORD, or
from a prompt. Folders are sent with all files in them, under their last names
unless --keep-paths is given; hidden ones are left out.
Exit codes: 0 sent, 1 some files could not be read, 69 unreachable, 77 refused.")]
pub struct UploadArgs {
    /// Host name or address
    host: String,

    /// Port
    port: u16,

    /// Files and folders
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How the server checks the secret
    #[arg(long, value_name = "KIND", default_value = "hmac-md5",
        value_parser = PossibleValuesParser::new(Handshake::NAMES).try_map(|name| name.parse::<Handshake>()))]
    handshake: Handshake,

    /// Read the secret from this file
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,

    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Read the password from this file
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// Speak the plain protocol only: ask for no answers
    #[arg(long, conflicts_with_all = ["sha256", "resume", "skip_same", "keep_paths"])]
    plain: bool,

    /// With --plain: send all files over one connection
    #[arg(long, requires = "plain")]
    one_connection: bool,

    /// Announce the digest, so that the server checks what arrives
    #[arg(long)]
    sha256: bool,

    /// Go on where an earlier attempt at the same file ended
    #[arg(long)]
    resume: bool,

    /// Send no file that the server has already, with the same name and digest
    #[arg(long)]
    skip_same: bool,

    /// Keep the structure of folders; a server that knows the plain protocol only sees last names
    #[arg(long)]
    keep_paths: bool,

    /// Send over this many connections at once
    #[arg(short, long, value_name = "N", default_value = "1")]
    jobs: NonZeroUsize,

    /// Try again this many times when the connection fails
    #[arg(long, value_name = "N", default_value_t = 2)]
    retries: u32,

    /// Pause before the first retry; it doubles each time
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = units::parse_duration)]
    retry_pause: Duration,

    /// Print nothing but failures
    #[arg(short, long)]
    quiet: bool,

    /// Speak TLS, which the server's listener has to be configured for
    #[arg(long)]
    tls: bool,

    #[command(flatten)]
    certificates: TlsArgs,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl UploadArgs {
    /// Whom to trust, where TLS is to be spoken.
    fn trust(&self) -> Result<Option<Trust>, Failure> {
        let TlsArgs { ca_file, tls_name } = &self.certificates;
        match self.tls {
            true => self.certificates.trust().map(Some),
            false if ca_file.is_some() || tls_name.is_some() => {
                Err(Failure::usage("--ca-file and --tls-name are for --tls"))
            }
            false => Ok(None),
        }
    }
}

/// Runs `upload`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &UploadArgs) -> Outcome {
    let (files, mut unreadable) = collect(&args.files);
    let sent = sender(args)?.send(&files, &mut unreadable);
    for words in &unreadable {
        eprintln!("netlab-reactor upload: {words}");
    }
    sent?;
    match unreadable.is_empty() {
        true => Ok(Exit::Done),
        false if files.is_empty() => Err(Failure::usage("there is no file to upload")),
        false => Ok(Exit::Negative),
    }
}

/// Uploads one file over one connection; the port of this end is given to `connected`.
pub(super) fn send_one(args: &UploadArgs, connected: &mut dyn FnMut(Option<u16>)) -> Outcome {
    let (files, unreadable) = collect(&args.files);
    match &files[..] {
        [file] => sender(args)?.send_one(file, connected),
        [] => Err(Failure::usage(unreadable.join("; "))),
        _ => Err(Failure::usage("expected one file")),
    }
}

/// Who sends, with the secrets that it needs.
fn sender(args: &UploadArgs) -> Result<Sender<'_>, Failure> {
    let secret = match args.handshake.needs_secret() {
        true => secrets::obtain(args.secret_file.as_deref(), "NETLAB_SECRET", "secret")?,
        false => Secret::default(),
    };
    if args.handshake.needs_secret() && secret.is_empty() {
        return Err(Failure::usage("the secret is empty"));
    }
    let login = match &args.user {
        Some(user) => {
            let password =
                secrets::obtain(args.password_file.as_deref(), "NETLAB_PASSWORD", "password")?;
            Some(Login {
                user: user.clone(),
                password,
            })
        }
        None => None,
    };
    Ok(Sender {
        args,
        secret,
        login,
        trust: args.trust()?,
    })
}
