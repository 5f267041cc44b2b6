//! `upload`: sends files with the upload protocol: handshake, login, then a header and the bytes of each file.
//!
//! ```text
//! connect ─▶ handshake ─▶ login ─▶ header ─▶ ready? ─▶ body ─▶ stored?
//!    ▲                               ▲          │ no: a plain server   │
//!    │                               └──────────┼──────── next file ───┘
//!    └───────── next file, or again after a pause ◀── half-close, wait for the end
//! ```
//!
//! Rules:
//! - Unless `--plain` is set, each header asks for `ack`. A server that sends `ready` gets all files over one connection
//!   and says of each what became of it. One that says nothing is a plain one: it gets a connection per file, since it
//!   may take no more than one, and the file is "sent, not acknowledged". `--one-connection` is for those who know better.
//! - What may help is tried again with growing pauses; a refusal is not. After `ready` was seen, the next attempt
//!   resumes where the server stands.
//! - A file that changes under way ends short or is cut: what is announced is what is sent, and its digest is compared.
//!
//! Not here: the formats (see [`crate::wire`]).

use std::fs::File;
use std::io::{IsTerminal as _, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::connect::Target;
use super::output::{Output, Tone, no_color};
use super::stream::Stream;
use super::units::Size;
use super::{CommonArgs, Exit, Failure, Outcome, secrets, units};
use crate::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use crate::wire::frame::{self, Frame};
use crate::wire::login::{LOGIN_BYTES_MAX, Login, ObjectScanner, parse_answer};
use crate::wire::text::printable;
use crate::wire::upload::{Answer, FileHeader, HEADER_BYTES_MAX};

/// How long a server is given to say `ready` before it is taken for a plain one.
const READY_WAIT: Duration = Duration::from_millis(500);

/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How much of a file is read and sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// The arguments of `upload`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  NETLAB_SECRET=... netlab-reactor upload localhost 9001 report.pdf
  netlab-reactor upload --secret-file secret localhost 9001 photos/ notes.txt
  netlab-reactor upload --handshake none --plain localhost 9001 a.bin
  netlab-reactor upload --secret-file s --user ann localhost 9001 a.bin

Secrets come from the named file, from NETLAB_SECRET and NETLAB_PASSWORD, or
from a prompt. Folders are sent with all files in them, under their last names;
hidden ones are left out.
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
    #[arg(long, conflicts_with_all = ["sha256", "resume"])]
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

    /// Try again this many times when the connection fails
    #[arg(long, value_name = "N", default_value_t = 2)]
    retries: u32,

    /// Pause before the first retry; it doubles each time
    #[arg(long, value_name = "DURATION", default_value = "500ms", value_parser = units::parse_duration)]
    retry_pause: Duration,

    /// Print nothing but failures
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `upload`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &UploadArgs) -> Outcome {
    let (paths, mut unreadable) = collect(&args.files);
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
    let mut uploader = Uploader {
        target: Target::new(&args.host, args.port),
        args,
        secret,
        login,
        link: None,
        knows_ack: !args.plain,
        was_ready: false,
        output: Output::new(),
        limits: args.common.limits(),
    };
    for path in &paths {
        match Source::open(path, args.sha256) {
            Ok(source) => uploader.upload(source)?,
            Err(words) => unreadable.push(words),
        }
    }
    let farewell = uploader.finish();
    for words in &unreadable {
        eprintln!("netlab-reactor upload: {words}");
    }
    farewell?;
    match unreadable.is_empty() {
        true => Ok(Exit::Done),
        false if paths.is_empty() => Err(Failure::usage("there is no file to upload")),
        false => Ok(Exit::Negative),
    }
}

/// The files that the arguments mean, folders walked in the order of names; and complaints about those that are none.
fn collect(arguments: &[PathBuf]) -> (Vec<PathBuf>, Vec<String>) {
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    let mut left: Vec<(PathBuf, bool)> = arguments
        .iter()
        .rev()
        .map(|path| (path.clone(), true))
        .collect();
    while let Some((path, is_named)) = left.pop() {
        let kind = match is_named {
            true => std::fs::metadata(&path),
            // Within folders links are not followed: they may lead out, or round in circles.
            false => std::fs::symlink_metadata(&path),
        };
        match kind {
            Ok(kind) if kind.is_dir() => match std::fs::read_dir(&path) {
                Ok(entries) => {
                    let mut inner: Vec<_> = entries
                        .flatten()
                        .map(|entry| entry.path())
                        .filter(|path| is_visible(path))
                        .collect();
                    inner.sort_unstable_by(|a, b| b.cmp(a));
                    left.extend(inner.into_iter().map(|path| (path, false)));
                }
                Err(error) => complaints.push(format!("{}: {error}", path.display())),
            },
            Ok(kind) if kind.is_file() => files.push(path),
            Ok(_) if is_named => {
                complaints.push(format!("{}: neither a file nor a folder", path.display()));
            }
            Ok(_) => {}
            Err(error) => complaints.push(format!("{}: {error}", path.display())),
        }
    }
    (files, complaints)
}

fn is_visible(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

/// One file to send.
struct Source {
    file: File,
    path: PathBuf,
    filename: String,
    size_bytes: u64,
    sha256: Option<[u8; 32]>,
}

impl Source {
    fn open(path: &Path, with_digest: bool) -> Result<Self, String> {
        let complaint = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(complaint)?;
        let size_bytes = file.metadata().map_err(complaint)?.len();
        let Some(filename) = path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
        else {
            return Err(format!("{}: the file's name is not UTF-8", path.display()));
        };
        let mut source = Self {
            file,
            path: path.to_owned(),
            filename,
            size_bytes,
            sha256: None,
        };
        if with_digest {
            source.digest()?;
        }
        Ok(source)
    }

    /// The digest of the whole file, computed once.
    fn digest(&mut self) -> Result<[u8; 32], String> {
        if let Some(digest) = self.sha256 {
            return Ok(digest);
        }
        let complaint = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        self.file
            .rewind()
            .map_err(|error| complaint(&self.path, error))?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match self
                .file
                .read(&mut buffer)
                .map_err(|error| complaint(&self.path, error))?
            {
                0 => break,
                bytes => digest.update(&buffer[..bytes]),
            }
        }
        Ok(*self.sha256.insert(digest.finalize().into()))
    }
}

/// What became of a file.
enum Fate {
    /// The server has it, under this name.
    Stored { filename: String },
    /// Every byte was sent, and the server closed without a word, as plain ones do.
    Unacknowledged,
}

struct Uploader<'a> {
    args: &'a UploadArgs,
    target: Target,
    secret: Secret,
    login: Option<Login>,
    /// The connection to go on with; `None` where the next file needs a new one.
    link: Option<Link>,
    /// False once the server turned out to be a plain one.
    knows_ack: bool,
    /// The server said `ready` at some time, so it can resume.
    was_ready: bool,
    output: Output,
    limits: super::Limits,
}

/// A connection that is past handshake and login, and what came over it.
struct Link {
    stream: Stream,
    received: Vec<u8>,
    /// The server said `ready` on it.
    is_ready: bool,
}

impl Link {
    /// The next whole answer; `None` at the end of the stream, or when `patience` is given and nothing came within it.
    fn answer(&mut self, patience: Option<Duration>) -> Result<Wait, Failure> {
        loop {
            match frame::decode(&self.received, HEADER_BYTES_MAX) {
                Ok(Frame::Complete { payload, consumed }) => {
                    let answer = Answer::parse(payload);
                    let answer =
                        answer.ok_or_else(|| self.stream.broken("an answer came that is none"))?;
                    self.received.drain(..consumed);
                    return Ok(Wait::Answer(answer));
                }
                Ok(Frame::Partial { .. }) => {}
                Err(error) => return Err(self.stream.broken(&error.to_string())),
            }
            let mut piece = [0; 4096];
            let read = match patience {
                Some(wait) if self.received.is_empty() => {
                    self.stream.read_within(wait, &mut piece)?
                }
                _ => Some(self.stream.read(&mut piece)?),
            };
            match read {
                None => return Ok(Wait::Nothing),
                Some(0) if self.received.is_empty() => return Ok(Wait::End),
                Some(0) => return Err(self.stream.closed()),
                Some(bytes) => self.received.extend_from_slice(&piece[..bytes]),
            }
        }
    }
}

/// What waiting for an answer came to.
enum Wait {
    Answer(Answer),
    Nothing,
    End,
}

impl Uploader<'_> {
    /// Sends one file, trying again where that may help, and tells what became of it.
    fn upload(&mut self, mut source: Source) -> Result<(), Failure> {
        let mut pause = self.args.retry_pause;
        let mut attempt = 0;
        let bar = self.progress(&source);
        let fate = loop {
            let resumes = self.args.resume || (attempt > 0 && self.was_ready);
            let result = self.attempt(&mut source, resumes, &bar);
            let failure = match result {
                Ok(fate) => break fate,
                Err(failure) => failure,
            };
            self.link = None;
            if attempt >= self.args.retries || !failure.is_worth_retrying() || self.limits.is_over()
            {
                bar.finish_and_clear();
                return Err(Failure {
                    message: format!("{}: {}", source.path.display(), failure.message),
                    ..failure
                });
            }
            attempt += 1;
            bar.suspend(|| {
                let pause = units::Span(pause);
                eprintln!(
                    "netlab-reactor upload: {}: {failure}; trying again in {pause}",
                    source.path.display()
                );
            });
            thread::sleep(pause);
            pause = (pause * 2).min(PAUSE_MAX);
        };
        bar.finish_and_clear();
        self.tell(&source, &fate)
    }

    fn tell(&mut self, source: &Source, fate: &Fate) -> Result<(), Failure> {
        let path = source.path.display().to_string();
        let (acknowledged, stored_as) = match fate {
            Fate::Stored { filename } => (true, Some(filename.as_str())),
            Fate::Unacknowledged => (false, None),
        };
        if self.args.common.json {
            return self.output.json(&json!({
                "file": path, "bytes": source.size_bytes, "acknowledged": acknowledged, "stored_as": stored_as,
            }));
        }
        if self.args.quiet {
            return Ok(());
        }
        let what = match stored_as {
            Some(name) => format!("stored as {}", printable(name.as_bytes())),
            None => "sent, not acknowledged".to_owned(),
        };
        self.output.line(
            Tone::Plain,
            &format!("{path}: {} {what}", Size(source.size_bytes)),
        )
    }

    fn progress(&self, source: &Source) -> ProgressBar {
        if self.args.quiet || self.args.common.json || !std::io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar =
            ProgressBar::with_draw_target(Some(source.size_bytes), ProgressDrawTarget::stderr());
        let colour = if no_color() { "" } else { ":15.green" };
        let template = format!(
            "{{msg:16!}} {{bar{}}} {{bytes:>11}}/{{total_bytes}} {{bytes_per_sec}} {{eta}} left",
            if colour.is_empty() { ":15" } else { colour }
        );
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_message(source.filename.clone());
        bar
    }

    fn attempt(
        &mut self,
        source: &mut Source,
        resumes: bool,
        bar: &ProgressBar,
    ) -> Result<Fate, Failure> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        let asks = self.knows_ack;
        let header = FileHeader {
            filename: source.filename.clone(),
            size_bytes: source.size_bytes,
            ack: asks,
            sha256: match asks && (resumes || self.args.sha256) {
                true => Some(source.digest().map_err(Failure::usage)?),
                false => None,
            },
            resume: asks && resumes,
        };
        let mut bytes = Vec::new();
        // Invariant: a header holds a file name, a number and a digest, far less than a frame's two gibibytes.
        frame::encode(&header.to_json(), &mut bytes).expect("a header fits into a frame");
        link.stream
            .begin(format!("sending the header of {:?}", source.filename));
        let sent = link.stream.write_all(&bytes);
        sent.map_err(|failure| self.or_refused_secret(&link.stream, failure))?;
        let offset = if asks {
            self.await_ready(&mut link, header.resume)?
        } else {
            0
        };
        let digest = self.send_body(&mut link, source, offset, bar)?;
        if link.is_ready {
            let fate = self.await_stored(&mut link, source, digest)?;
            self.link = Some(link);
            return Ok(fate);
        }
        if self.args.one_connection {
            self.link = Some(link);
            return Ok(Fate::Unacknowledged);
        }
        self.farewell(link)
    }

    /// Connects, answers the challenge and logs in.
    fn connect(&self) -> Result<Link, Failure> {
        let mut stream = Stream::connect(&self.target, self.args.common.family(), self.limits)?;
        if self.args.handshake.needs_secret() {
            stream.begin("waiting for the challenge");
            let mut challenge = [0; CHALLENGE_BYTES];
            stream.read_exact(&mut challenge)?;
            stream.begin("answering the challenge");
            stream.write_all(&self.args.handshake.answer(&self.secret, &challenge))?;
        }
        let Some(login) = &self.login else {
            return Ok(Link {
                stream,
                received: Vec::new(),
                is_ready: false,
            });
        };
        stream.begin("logging in");
        stream.write_all(&login.to_json())?;
        let mut scanner = ObjectScanner::new(LOGIN_BYTES_MAX);
        let mut received = Vec::new();
        stream.begin("waiting for the answer to the login");
        loop {
            let end = scanner
                .scan(&received)
                .map_err(|error| stream.broken(&error.to_string()))?;
            if let Some(end) = end {
                let accepted = parse_answer(&received[..end])
                    .map_err(|error| stream.broken(&error.to_string()))?;
                if !accepted {
                    return Err(Failure::refused(format!(
                        "{}: user or password is wrong",
                        self.target
                    )));
                }
                received.drain(..end);
                return Ok(Link {
                    stream,
                    received,
                    is_ready: false,
                });
            }
            let mut piece = [0; 512];
            match stream.read(&mut piece) {
                Ok(0) => return Err(self.refused_secret(&stream)),
                Ok(bytes) => received.extend_from_slice(&piece[..bytes]),
                Err(failure) => return Err(self.or_refused_secret(&stream, failure)),
            }
        }
    }

    /// A server that closes after the handshake did not like its answer.
    fn refused_secret(&self, stream: &Stream) -> Failure {
        if !self.args.handshake.needs_secret() {
            return stream.closed();
        }
        let kind = self.args.handshake;
        let Failure { message, .. } = stream.broken("the server dropped the connection");
        Failure::refused(format!(
            "{message}: is the secret right, and is {kind} the server's handshake?"
        ))
    }

    /// The same for one that throws the connection away instead of closing it: bytes of ours were on the way.
    fn or_refused_secret(&self, stream: &Stream, failure: Failure) -> Failure {
        match stream.is_reset() && !self.was_ready && self.args.handshake.needs_secret() {
            true => self.refused_secret(stream),
            false => failure,
        }
    }

    /// Waits for `ready`: a moment where the server may be a plain one, the whole time-out where its offset is needed.
    fn await_ready(&mut self, link: &mut Link, is_needed: bool) -> Result<u64, Failure> {
        link.stream.begin("waiting for the server to be ready");
        let patience = (!link.is_ready && !is_needed).then(|| READY_WAIT.min(self.limits.timeout));
        let is_first = !link.is_ready;
        let answer = link.answer(patience).map_err(|failure| match is_first {
            true => self.or_refused_secret(&link.stream, failure),
            false => failure,
        })?;
        match answer {
            Wait::Answer(Answer::Ready { offset }) => {
                link.is_ready = true;
                self.was_ready = true;
                Ok(offset)
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
            Wait::Nothing => {
                self.knows_ack = false;
                Ok(0)
            }
            Wait::End if link.is_ready => Err(link.stream.closed()),
            Wait::End => Err(self.refused_secret(&link.stream)),
        }
    }

    /// Sends the bytes from `offset` on; answers the digest of the whole file, where it is known without reading twice.
    fn send_body(
        &mut self,
        link: &mut Link,
        source: &mut Source,
        offset: u64,
        bar: &ProgressBar,
    ) -> Result<Option<[u8; 32]>, Failure> {
        if offset > source.size_bytes {
            return Err(link.stream.broken(&format!(
                "the server asks for byte {offset} of {}",
                source.size_bytes
            )));
        }
        let unreadable = |error: std::io::Error| Failure::usage(format!("reading: {error}"));
        source
            .file
            .seek(SeekFrom::Start(offset))
            .map_err(unreadable)?;
        let mut digest = (offset == 0 && link.is_ready).then(Sha256::new);
        let mut buffer = vec![0; PIECE_BYTES];
        let mut left = source.size_bytes - offset;
        bar.set_position(offset);
        link.stream.begin(format!("sending {:?}", source.filename));
        while left > 0 {
            let room = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let bytes = source.file.read(&mut buffer[..room]).map_err(unreadable)?;
            if bytes == 0 {
                return Err(Failure::usage(format!(
                    "the file became shorter while it was sent, {left} bytes are missing"
                )));
            }
            if let Some(digest) = &mut digest {
                digest.update(&buffer[..bytes]);
            }
            link.stream.touch();
            if let Err(failure) = link.stream.write_all(&buffer[..bytes]) {
                return Err(match left == source.size_bytes {
                    true => self.or_refused_secret(&link.stream, failure),
                    false => self.why_it_broke(link, failure),
                });
            }
            left -= bytes as u64;
            bar.inc(bytes as u64);
        }
        Ok(digest
            .map(|digest| digest.finalize().into())
            .or(source.sha256))
    }

    /// A server that breaks off while a file comes may have said why.
    fn why_it_broke(&mut self, link: &mut Link, failure: Failure) -> Failure {
        if !link.is_ready {
            return failure;
        }
        match link.answer(Some(READY_WAIT)) {
            Ok(Wait::Answer(answer @ Answer::Refused { .. })) => self.refusal(&link.stream, answer),
            _ => failure,
        }
    }

    /// The final answer of a server that said `ready`.
    fn await_stored(
        &mut self,
        link: &mut Link,
        source: &Source,
        digest: Option<[u8; 32]>,
    ) -> Result<Fate, Failure> {
        link.stream
            .begin(format!("waiting for {:?} to be stored", source.filename));
        match link.answer(None)? {
            Wait::Answer(Answer::Stored {
                filename,
                size_bytes,
                sha256,
            }) => {
                if size_bytes != source.size_bytes || digest.is_some_and(|digest| digest != sha256)
                {
                    return Err(link
                        .stream
                        .broken("the server stored other bytes than were sent"));
                }
                Ok(Fate::Stored { filename })
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
            Wait::End | Wait::Nothing => Err(link.stream.closed()),
        }
    }

    fn refusal(&self, stream: &Stream, answer: Answer) -> Failure {
        match answer {
            Answer::Refused { error, message } => {
                let words = printable(format!("{error}: {message}").as_bytes());
                Failure::refused(format!(
                    "{}: the server refused the file: {words}",
                    self.target
                ))
            }
            Answer::Ready { .. } | Answer::Stored { .. } => {
                stream.broken("an answer came that does not belong there")
            }
        }
    }

    /// Half-closes after the last file of a plain connection and waits for the server to do the same: a reset instead
    /// would mean that bytes were thrown away.
    fn farewell(&mut self, mut link: Link) -> Result<Fate, Failure> {
        link.stream
            .begin("waiting for the server to close the connection");
        link.stream.finish();
        let answer = link
            .answer(None)
            .map_err(|failure| self.or_refused_secret(&link.stream, failure))?;
        match answer {
            Wait::End | Wait::Nothing => Ok(Fate::Unacknowledged),
            // The server speaks of acknowledgements after all, but late.
            Wait::Answer(Answer::Ready { .. }) if self.knows_ack || !self.args.plain => {
                match link.answer(None)? {
                    Wait::Answer(Answer::Stored { filename, .. }) => Ok(Fate::Stored { filename }),
                    Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
                    Wait::End | Wait::Nothing => Ok(Fate::Unacknowledged),
                }
            }
            Wait::Answer(answer) => Err(self.refusal(&link.stream, answer)),
        }
    }

    /// Ends a connection that is still open after the last file. Where everything on it was acknowledged there is
    /// nothing to wait for.
    fn finish(&mut self) -> Result<(), Failure> {
        match self.link.take() {
            Some(mut link) if link.is_ready => link.stream.finish(),
            Some(link) => _ = self.farewell(link)?,
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order_without_hidden_files_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/inner")).unwrap();
        for name in ["a/2", "a/inner/3", "a/.hidden", "b"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), at("a/loop")).unwrap();
        let (files, complaints) = collect(&[at("b"), at("a"), at("missing")]);
        assert_eq!(files, [at("b"), at("a/2"), at("a/inner/3")]);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("missing"));
    }
}
