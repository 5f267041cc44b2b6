//! The subcommand `replay`: a record in, what is seen of it out.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;
use netlab_reactor::config::parse_size;
use netlab_reactor::serve::replay::show;
use netlab_reactor::serve::replay::step::{Prompt, line_of};
use netlab_reactor::serve::replay::{Replay, ReplayError, Seen, Verdict};

use super::Failure;

/// The flags of `replay`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  netlab-reactor replay run.rec --check
  netlab-reactor replay run.rec --session 7      what was done for session #7
  netlab-reactor replay run.rec --trace run.json then open ui.perfetto.dev
  netlab-reactor replay run.rec --until 1000     the sessions after turn 1000
  netlab-reactor replay run.rec --step           a prompt; `help` says more
  netlab-reactor replay run.rec --serve          the same in a browser

A record knows when a turn began, and in which order things were done in it:
within a turn they are shown a microsecond apart.

Exit codes: 0 all was as it was then, 1 it was not, 65 no record that can be
replayed here.")]
pub(crate) struct ReplayArgs {
    /// What `serve --record` or `simulate --record` wrote
    file: PathBuf,
    /// Only say whether all is as it was then
    #[arg(long, conflicts_with_all = ["until", "session", "step", "trace", "text"])]
    check: bool,
    /// End after this turn, and show the sessions that there are then
    #[arg(long, value_name = "TURN")]
    until: Option<u64>,
    /// What was done for this session, by the number that it has in `sessions.json` and in lines
    #[arg(long, value_name = "ID")]
    session: Option<u32>,
    /// Go on by hand: a prompt
    #[arg(long, conflicts_with_all = ["until", "session", "trace", "text"])]
    step: bool,
    /// Serve the dashboard with what is seen of the record: its turns, one by one, and its sessions
    #[arg(long, conflicts_with_all = ["check", "session", "step", "trace", "text"])]
    serve: bool,
    /// Serve it at this address
    #[arg(
        long,
        value_name = "ADDRESS",
        default_value = "127.0.0.1:9091",
        requires = "serve"
    )]
    at: SocketAddr,
    /// Bytes of what it has of the turns: the newest
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = parse_size, requires = "serve")]
    ring_bytes: u64,
    /// Write trace events, as ui.perfetto.dev opens them, to this file
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Lines for a reader, on standard output or in the file of --trace
    #[arg(long)]
    text: bool,
}

/// A file for a record: its owner's alone, since it holds what clients sent.
pub(crate) fn create(path: &Path) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let named = |error: io::Error| Failure::Unavailable(format!("{}: {error}", path.display()));
    let file = options.open(path).map_err(named)?;
    // One that was there keeps its mode, and may be somebody else's to read.
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    let is_regular = file.metadata().map_err(named)?.is_file();
    if is_regular {
        file.set_permissions(mode).map_err(named)?;
    }
    Ok(file)
}

/// Runs `replay`.
pub(crate) fn run(args: &ReplayArgs) -> Result<(), Failure> {
    let bad = |error| failure(&args.file, error);
    let began = Instant::now();
    let mut replay = open(args)?;
    if args.serve {
        let name = args.file.display().to_string();
        let seen = show::Seen::of(replay, &name, args.until, args.ring_bytes);
        eprintln!("{}", seen.about());
        return seen
            .serve(args.at)
            .map_err(|error| Failure::Unavailable(error.to_string()));
    }
    let mut out = BufWriter::new(io::stdout());
    if args.step {
        let prompt = Prompt::new(&mut replay, &mut out);
        let stepped = prompt.run(&mut io::stdin().lock()).map_err(bad);
        out.flush().map_err(Failure::Output)?;
        return stepped;
    }
    let ended = turn_all(args, &mut replay, &mut out).map_err(bad);
    if let Ok(verdict) = &ended {
        let told = conclude(args, &mut replay, verdict.as_ref(), began, &mut out);
        told.map_err(Failure::Output)?;
    }
    out.flush().map_err(Failure::Output)?;
    ended.map(drop)
}

/// Writes the trace events of a record to a file.
pub(crate) fn trace(record: &Path, to: &Path) -> Result<(), Failure> {
    let args = ReplayArgs {
        file: record.to_owned(),
        check: false,
        until: None,
        session: None,
        step: false,
        serve: false,
        at: ([127, 0, 0, 1], 0).into(),
        ring_bytes: 0,
        trace: Some(to.to_owned()),
        text: false,
    };
    let mut replay = open(&args)?;
    let turned = turn_all(&args, &mut replay, &mut io::sink());
    turned.map(drop).map_err(|error| failure(record, error))
}

fn open(args: &ReplayArgs) -> Result<Replay, Failure> {
    let path = &args.file;
    let file = File::open(path);
    let file = file.map_err(|error| Failure::Data(format!("{}: {error}", path.display())))?;
    let replay = Replay::begin(BufReader::with_capacity(1 << 20, file));
    replay.map_err(|error| failure(path, error))
}

fn failure(path: &Path, error: ReplayError) -> Failure {
    let path = path.display();
    match error {
        ReplayError::Bad(_) | ReplayError::Config(_) => Failure::Data(format!("{path}: {error}")),
        ReplayError::Output(error) => Failure::Output(error),
        error => Failure::Diverged(format!("{path}: {error}")),
    }
}

/// Turns to the end, or as far as is wanted; writes what is to be seen.
fn turn_all(
    args: &ReplayArgs,
    replay: &mut Replay,
    out: &mut dyn Write,
) -> Result<Option<Verdict>, ReplayError> {
    let mut file;
    let to: &mut dyn Write = match &args.trace {
        Some(path) => {
            file = BufWriter::new(File::create(path)?);
            &mut file
        }
        None => out,
    };
    let as_lines = args.text || args.trace.is_none();
    let is_seen = args.trace.is_some() || args.text || args.session.is_some();
    let mut seen = is_seen.then(|| Seen::new(as_lines, args.session));
    if is_seen {
        replay.watch();
    }
    let mut verdict = Ok(None);
    while args.until.is_none_or(|until| replay.played().turns < until) {
        verdict = replay.turn();
        if let Some(seen) = &mut seen {
            to.write_all(seen.go_on(replay).as_bytes())?;
        }
        if !matches!(verdict, Ok(None)) {
            break;
        }
    }
    if let Some(seen) = seen {
        to.write_all(seen.end(replay).as_bytes())?;
    }
    to.flush()?;
    verdict
}

/// What came of it, in words.
fn conclude(
    args: &ReplayArgs,
    replay: &mut Replay,
    verdict: Option<&Verdict>,
    began: Instant,
    out: &mut dyn Write,
) -> io::Result<()> {
    let played = replay.played();
    let (turns, calls) = (played.turns, played.calls);
    let (sent, received) = (played.sent_bytes, played.received_bytes);
    let mut counted =
        format!("{turns} turns, {calls} calls, {received} bytes in, {sent} bytes out");
    if replay.start().heads_only {
        counted.push_str(" (heads only: what left is compared by its length)");
    }
    match verdict {
        Some(Verdict::Exact) => writeln!(out, "exact: {counted}, and the same was counted")?,
        Some(Verdict::Stopped(why)) => writeln!(out, "exact as far as it goes: {counted}; {why}")?,
        None => {
            writeln!(out, "exact up to here: {counted}")?;
            for row in replay.rows() {
                writeln!(out, "{}", line_of(&row))?;
            }
        }
    }
    if !args.check {
        let took = began.elapsed();
        writeln!(out, "the replay took {took:.3?}")?;
    }
    Ok(())
}
