//! `get`: fetches over HTTP/1.1 (RFC 9112), one request per connection.
//!
//! Two forms. `get HOST PORT PATH` prints what the server sent, status line and framing included, byte for byte. `get URL`
//! is for the content: it follows redirects, undoes chunks and compression, resumes, goes through proxies and TLS.
//!
//! Rules:
//! - A body that ends before its framing says so is a failure, and what came of it stays in the file for `-C`.
//! - Every read restarts the time-out while a body makes progress; a head has one time-out as a whole.
//!
//! Not here: cookies, authentication, request bodies; HTTP/2.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::connect::{ConnectTimes, Target};
use super::output::{Output, no_color, write_failure};
use super::stream::Stream;
use super::tls::{TlsArgs, Trust};
use super::url::Url;
use super::{CommonArgs, Exit, Failure, Limits, Outcome};
use crate::http::Method;
use crate::http::body::BodyDecoder;
use crate::http::head::{self, BodyLength, HeadScanner, Parsed};
use crate::wire::text::printable;
use crate::wire::upload::SafeName;

/// Bounds on a response head: generous, since a person chose the server.
const HEAD_LIMITS: head::Limits = head::Limits {
    head_bytes_max: 256 * 1024,
    target_bytes_max: 64 * 1024,
    headers_max: 256,
};

/// The arguments of `get`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor get [OPTIONS] <URL>\n       netlab-reactor get [OPTIONS] <HOST> <PORT> <PATH>",
    after_help = "Examples:
  netlab-reactor get localhost 6789 /HelloWorld.html
  netlab-reactor get http://localhost:6789/ --timing
  netlab-reactor get -C -O https://example.org/big.iso
  http_proxy=http://localhost:8888 netlab-reactor get http://example.org/

HOST PORT PATH prints status line, headers and body as sent; a URL the body.

A proxy is taken from --proxy, or from http_proxy, https_proxy and no_proxy.
Exit codes: 0 done, 1 an error status with --fail, 69 unavailable, 74 an
output cannot be written, 75 the status 429 or 503 with --fail."
)]
pub struct GetArgs {
    /// A URL; or host name, address or unix:PATH
    #[arg(value_name = "URL|HOST")]
    first: String,

    /// Port and path, behind a host
    #[arg(value_name = "PORT PATH")]
    rest: Vec<String>,

    /// Write the body to this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "remote_name")]
    output: Option<PathBuf>,

    /// Write the body to a file named as the last part of the URL
    #[arg(short = 'O', long)]
    remote_name: bool,

    /// Go on where the file ends
    #[arg(short = 'C', long = "continue")]
    resume: bool,

    /// Ask for the head only, and print it
    #[arg(short = 'I', long)]
    head: bool,

    /// Print the head in front of the body
    #[arg(short, long)]
    include: bool,

    /// Print no body and fail when the status is 400 or more
    #[arg(short, long)]
    fail: bool,

    /// Ask for a compressed body, and print it uncompressed
    #[arg(long, conflicts_with = "resume")]
    compressed: bool,

    /// Follow this many redirects at most
    #[arg(long, value_name = "N", default_value_t = 10)]
    max_redirects: u32,

    /// Send this header, too; credentials and Host not to where a redirect leads away from the server
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Go through this proxy; an empty text for none
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,

    /// Tell how long each part took
    #[arg(long)]
    timing: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    tls: TlsArgs,

    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `get`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &GetArgs) -> Outcome {
    for header in &args.headers {
        let name = header.split_once(':').map(|(name, _)| name.as_bytes());
        if !name.is_some_and(crate::http::is_token) || header.contains(['\r', '\n']) {
            return Err(Failure::usage(format!(
                "{header:?} is not a header: expected NAME: VALUE"
            )));
        }
    }
    if args.rest.is_empty() && !args.first.starts_with("unix:") {
        let url = Url::parse(&args.first).map_err(Failure::usage)?;
        return Fetch::new(args)?.follow(&url);
    }
    let (target, rest) = Target::from_arguments(&args.first, &args.rest)?;
    match rest {
        [] => raw(args, &target, "/"),
        [path] if path.starts_with('/') => raw(args, &target, path),
        [path] => raw(args, &target, &format!("/{path}")),
        [_, word, ..] => Err(Failure::usage(format!(
            "unexpected argument {word:?} behind the path"
        ))),
    }
}

/// How long the parts of an exchange took, from the beginning.
#[derive(Debug, Clone, Copy, Default)]
struct Timing {
    connect: ConnectTimes,
    tls: Duration,
    first_byte: Duration,
    total: Duration,
}

impl Timing {
    fn json(&self) -> serde_json::Value {
        let millis = |span: Duration| span.as_secs_f64() * 1e3;
        json!({
            "resolve": millis(self.connect.resolve), "connect": millis(self.connect.connect),
            "tls": millis(self.tls), "first_byte": millis(self.first_byte), "total": millis(self.total),
        })
    }
}

/// Headers that were given for the server that was asked first, and are not for those that it redirects to.
const FOR_THE_FIRST: [&str; 4] = ["Authorization", "Cookie", "Host", "Proxy-Authorization"];

/// A request without its empty line. `elsewhere`: a redirect led to another server than was asked first.
fn request(args: &GetArgs, target: &str, host: &str, elsewhere: bool) -> Vec<u8> {
    let given: Vec<(&str, &str)> = args
        .headers
        .iter()
        .map(|line| (line.split_once(':').map_or("", |(name, _)| name), &line[..]))
        .filter(|(name, _)| {
            !elsewhere || !FOR_THE_FIRST.iter().any(|of| of.eq_ignore_ascii_case(name))
        })
        .collect();
    let mut bytes = Vec::with_capacity(256);
    let method = if args.head { Method::Head } else { Method::Get };
    head::put_request_line(&mut bytes, method, target);
    let agent = concat!("netlab-reactor/", env!("CARGO_PKG_VERSION"));
    for (name, value) in [
        ("Host", host),
        ("User-Agent", agent),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ] {
        // Two lines of Host would make the request ambiguous (RFC 9112, section 3.2).
        if !given
            .iter()
            .any(|(given, _)| given.eq_ignore_ascii_case(name))
        {
            head::put_header(&mut bytes, name, value);
        }
    }
    for (_, line) in given {
        bytes.extend_from_slice(line.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// What the client has to know of a head.
#[derive(Debug, Clone)]
struct Head {
    /// The head as it came, its empty line included.
    text: Vec<u8>,
    status: u16,
    reason: String,
    body: BodyLength,
    location: Option<String>,
    content_encoding: String,
    content_range: Option<String>,
}

/// Reads heads until one that is not interim; what follows it stays in `received`.
fn read_head(
    stream: &mut Stream,
    received: &mut Vec<u8>,
    method: Method<'_>,
) -> Result<(Head, Instant), Failure> {
    let mut first_byte = None;
    let mut scanner = HeadScanner::default();
    loop {
        let parsed = scanner.response(received, &HEAD_LIMITS, method);
        let parsed = parsed.map_err(|error| {
            let beginning = printable(&received[..received.len().min(40)]);
            stream.broken(&format!(
                "the server does not speak HTTP ({}; it sent {beginning:?})",
                error.text()
            ))
        })?;
        if let Parsed::Complete(head, bytes) = parsed {
            let text = |name: &str| {
                head.headers
                    .first(name)
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            };
            let summary = Head {
                text: received[..bytes].to_vec(),
                status: head.status.code(),
                reason: printable(head.reason),
                body: head.body,
                location: text("location"),
                content_encoding: text("content-encoding")
                    .unwrap_or_default()
                    .to_ascii_lowercase(),
                content_range: text("content-range"),
            };
            let is_interim = head.status.is_interim();
            received.drain(..bytes);
            if !is_interim {
                return Ok((summary, first_byte.unwrap_or_else(Instant::now)));
            }
            scanner = HeadScanner::default();
            continue;
        }
        let mut piece = [0; 16 * 1024];
        match stream.read(&mut piece)? {
            0 => return Err(stream.closed()),
            bytes => received.extend_from_slice(&piece[..bytes]),
        }
        first_byte.get_or_insert_with(Instant::now);
    }
}

/// Reads a body to the end of its framing and hands on its pieces: framing as well when `verbatim`.
fn read_body(
    stream: &mut Stream,
    received: Vec<u8>,
    length: BodyLength,
    verbatim: bool,
    take: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut decoder = BodyDecoder::new(length);
    let mut buffer = received;
    let mut came = 0_u64;
    stream.begin("receiving the body");
    loop {
        let mut rest = buffer.as_slice();
        while !rest.is_empty() && !decoder.is_done() {
            let step = decoder
                .step(rest)
                .map_err(|error| stream.broken(error.text()))?;
            let from = if verbatim { 0 } else { step.framing };
            take(&rest[from..step.consumed()])?;
            came += step.payload as u64;
            rest = &rest[step.consumed()..];
        }
        if decoder.is_done() {
            return Ok(());
        }
        buffer.resize(64 * 1024, 0);
        stream.touch();
        let bytes = stream.read(&mut buffer)?;
        buffer.truncate(bytes);
        if bytes == 0 {
            // RFC 9112, section 9.8: where the end of the connection is the end of the body, TLS must tell of it.
            if stream.is_cut() && matches!(decoder, BodyDecoder::UntilEof) {
                return Err(stream.broken(&format!(
                    "the end of the body was not announced by TLS after {came} bytes, so some may be missing"
                )));
            }
            let missing = match decoder {
                BodyDecoder::Length { left } => format!(", {left} bytes are missing"),
                _ => format!(" after {came} bytes of a chunked body"),
            };
            return decoder.end_of_stream().map_err(|_| {
                stream.broken(&format!(
                    "the server closed the connection too early{missing}"
                ))
            });
        }
    }
}

/// Where a body goes.
enum Sink {
    Stdout(Output),
    File(File, PathBuf),
    Memory(Vec<u8>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(output) => output.write(bytes).map(|()| bytes.len()),
            Self::File(file, _) => file.write(bytes),
            Self::Memory(memory) => memory.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn failure(&self, error: &io::Error) -> Failure {
        match self {
            Self::File(_, path) => write_failure(&path.display().to_string(), error),
            Self::Stdout(_) | Self::Memory(_) => write_failure("standard output", error),
        }
    }
}

/// Undoes the content coding on the way to the sink.
enum Unpacker {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    Deflate(Box<ZlibDecoder<Sink>>),
}

impl Unpacker {
    fn new(coding: &str, sink: Sink) -> Result<Self, Failure> {
        match coding {
            "" | "identity" => Ok(Self::Plain(sink)),
            "gzip" | "x-gzip" => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(sink)))),
            "deflate" => Ok(Self::Deflate(Box::new(ZlibDecoder::new(sink)))),
            other => Err(Failure::unavailable(format!(
                "the body is compressed with {other:?}, which was not asked for"
            ))),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = match self {
            Self::Plain(sink) => sink.write_all(bytes),
            Self::Gzip(gzip) => gzip.write_all(bytes),
            Self::Deflate(deflate) => deflate.write_all(bytes),
        };
        written.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &io::Error) -> Failure {
        let is_packed = matches!(
            error.kind(),
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData
        );
        match self {
            Self::Plain(sink) => sink.failure(error),
            _ if is_packed => {
                Failure::unavailable(format!("the compressed body is broken: {error}"))
            }
            Self::Gzip(gzip) => gzip.get_ref().failure(error),
            Self::Deflate(deflate) => deflate.get_ref().failure(error),
        }
    }

    fn finish(self) -> Result<Sink, Failure> {
        let broken = |error: io::Error| {
            Failure::unavailable(format!("the compressed body is broken: {error}"))
        };
        match self {
            Self::Plain(sink) => Ok(sink),
            Self::Gzip(gzip) => gzip.finish().map_err(broken),
            Self::Deflate(deflate) => deflate.finish().map_err(broken),
        }
    }
}

/// `get HOST PORT PATH`: everything as it came.
fn raw(args: &GetArgs, target: &Target, path: &str) -> Outcome {
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Failure::usage(format!(
            "{path:?}: a path has no spaces and only ASCII; encode others as %20"
        )));
    }
    let started = Instant::now();
    let mut stream = Stream::connect(target, args.common.family(), args.common.limits())?;
    stream.begin("sending the request");
    let host = match target {
        Target::Unix(_) => "localhost".to_owned(),
        Target::Net { .. } => target.to_string(),
    };
    let mut bytes = request(args, path, &host, false);
    head::put_head_end(&mut bytes);
    stream.write_all(&bytes)?;
    stream.begin("waiting for the response");
    let mut received = Vec::new();
    let method = if args.head { Method::Head } else { Method::Get };
    let (head, first_byte) = read_head(&mut stream, &mut received, method)?;
    let mut sink = sink(args, args.output.as_deref(), false)?;
    let mut put = |bytes: &[u8]| {
        let written = sink.write_all(bytes);
        written.map_err(|error| sink.failure(&error))
    };
    put(&head.text)?;
    read_body(&mut stream, received, head.body, true, &mut put)?;
    let timing = Timing {
        connect: stream.times(),
        tls: Duration::ZERO,
        first_byte: first_byte - started,
        total: started.elapsed(),
    };
    if let Sink::Memory(response) = sink {
        Output::new().json(&json!({
            "status": head.status, "reason": head.reason, "response": String::from_utf8_lossy(&response),
            "timing_ms": timing.json(),
        }))?;
    } else if args.timing {
        tell_timing(&timing);
    }
    Ok(judge(args, &head))
}

/// The exit for a status, under `--fail`.
fn judge(args: &GetArgs, head: &Head) -> Exit {
    match head.status {
        429 | 503 if args.fail => Exit::TryLater,
        400.. if args.fail => Exit::Negative,
        _ => Exit::Done,
    }
}

fn sink(args: &GetArgs, path: Option<&Path>, append: bool) -> Result<Sink, Failure> {
    let Some(path) = path else {
        return Ok(if args.common.json {
            Sink::Memory(Vec::new())
        } else {
            Sink::Stdout(Output::new())
        });
    };
    let mut options = File::options();
    let options = if append {
        options.append(true)
    } else {
        options.write(true).truncate(true)
    };
    match options.create(true).open(path) {
        Ok(file) => Ok(Sink::File(file, path.to_owned())),
        Err(error) => Err(Failure::usage(format!(
            "writing to {}: {error}",
            path.display()
        ))),
    }
}

/// `get URL`.
struct Fetch<'a> {
    args: &'a GetArgs,
    limits: Limits,
    trust: Option<Trust>,
    started: Instant,
}

/// One answered request: the connection, what came behind the head.
struct Answered {
    stream: Stream,
    received: Vec<u8>,
    head: Head,
    timing: Timing,
}

impl<'a> Fetch<'a> {
    fn new(args: &'a GetArgs) -> Result<Self, Failure> {
        Ok(Self {
            args,
            limits: args.common.limits(),
            trust: None,
            started: Instant::now(),
        })
    }

    fn follow(mut self, first: &Url) -> Outcome {
        let path = match self.args.remote_name {
            true => Some(remote_name(first)?),
            false => self.args.output.clone(),
        };
        if self.args.resume && path.is_none() {
            return Err(Failure::usage(
                "-C needs a file: name it with -o, or use -O",
            ));
        }
        let offset = match &path {
            Some(path) if self.args.resume => std::fs::metadata(path).map_or(0, |file| file.len()),
            _ => 0,
        };
        let mut url = first.clone();
        for followed in 0.. {
            let server = |url: &Url| (url.is_https, url.host.to_ascii_lowercase(), url.port);
            let answered = self.ask(&url, server(&url) != server(first), offset)?;
            let is_redirect = matches!(answered.head.status, 301 | 302 | 303 | 307 | 308);
            let location = answered
                .head
                .location
                .clone()
                .filter(|_| is_redirect && self.args.max_redirects > 0);
            let Some(location) = location else {
                return self.save(&url, answered, path.as_deref(), offset);
            };
            if followed >= self.args.max_redirects {
                let limit = self.args.max_redirects;
                return Err(Failure::unavailable(format!(
                    "{url}: more than {limit} redirects"
                )));
            }
            url = url
                .join(&location)
                .map_err(|words| Failure::unavailable(format!("redirect to {words}")))?;
        }
        unreachable!("the loop returns at the limit of redirects")
    }

    /// Connects, through a proxy where one is set, asks and reads the head.
    fn ask(&mut self, url: &Url, elsewhere: bool, offset: u64) -> Result<Answered, Failure> {
        let args = self.args;
        let proxy = proxy_for(args, url)?;
        let target = proxy.as_ref().map_or_else(|| url.target(), Url::target);
        let mut stream = Stream::connect(&target, args.common.family(), self.limits)?;
        let mut tls = Duration::ZERO;
        if url.is_https {
            if proxy.is_some() {
                open_tunnel(&mut stream, url)?;
            }
            let trust = match self.trust.take() {
                Some(trust) => trust,
                None => args.tls.trust()?,
            };
            let before = Instant::now();
            stream.begin("starting TLS");
            stream.start_tls(&url.host, &trust)?;
            tls = before.elapsed();
            self.trust = Some(trust);
        }
        let absolute = url.to_string();
        let target = if proxy.is_some() && !url.is_https {
            &absolute
        } else {
            &url.path
        };
        let mut bytes = request(args, target, &url.authority(), elsewhere);
        if args.compressed {
            head::put_header(&mut bytes, "Accept-Encoding", "gzip, deflate");
        }
        if offset > 0 {
            head::put_header(&mut bytes, "Range", format!("bytes={offset}-"));
        }
        head::put_head_end(&mut bytes);
        stream.begin("sending the request");
        stream.write_all(&bytes)?;
        stream.begin("waiting for the response");
        let mut received = Vec::new();
        let method = if args.head { Method::Head } else { Method::Get };
        let (head, first_byte) = read_head(&mut stream, &mut received, method)?;
        let timing = Timing {
            connect: stream.times(),
            tls,
            first_byte: first_byte - self.started,
            total: Duration::ZERO,
        };
        Ok(Answered {
            stream,
            received,
            head,
            timing,
        })
    }

    /// Brings the body to where it belongs.
    fn save(&self, url: &Url, answered: Answered, path: Option<&Path>, offset: u64) -> Outcome {
        let Answered {
            mut stream,
            received,
            head,
            mut timing,
        } = answered;
        let args = self.args;
        if offset > 0 && head.status == 416 && is_complete(&head, offset) {
            eprintln!("netlab-reactor get: {url}: the file is complete already");
            return Ok(Exit::Done);
        }
        let exit = judge(args, &head);
        if exit != Exit::Done {
            return Err(Failure {
                exit,
                message: format!("{url}: the server answered {} {}", head.status, head.reason),
            });
        }
        let appends = offset > 0 && head.status == 206 && begins_at(&head, offset);
        if offset > 0 && head.status == 206 && !appends {
            return Err(Failure::unavailable(format!(
                "{url}: the server sent another part than was asked for"
            )));
        }
        // An error page must not replace or lengthen a file that is half there.
        if offset > 0 && head.status >= 400 {
            return Err(Failure::unavailable(format!(
                "{url}: the server answered {} {}",
                head.status, head.reason
            )));
        }
        if (args.head || args.include) && !args.common.json {
            Output::new().peer_text(&head.text)?;
        }
        let coding = if args.compressed && !args.head {
            head.content_encoding.as_str()
        } else {
            ""
        };
        let mut unpacker = Unpacker::new(coding, sink(args, path, appends)?)?;
        let bar = self.progress(&head, path, if appends { offset } else { 0 });
        let mut carried = 0_u64;
        let result = read_body(&mut stream, received, head.body, false, &mut |bytes| {
            carried += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
            unpacker.put(bytes)
        });
        bar.finish_and_clear();
        result?;
        let sink = match carried {
            // A body that may not be there is not a broken compressed one.
            0 => None,
            _ => Some(unpacker.finish()?),
        };
        timing.total = self.started.elapsed();
        if args.timing && !args.common.json {
            tell_timing(&timing);
        }
        if args.common.json {
            let body = match sink {
                Some(Sink::Memory(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                _ => None,
            };
            Output::new().json(&json!({
                "url": url.to_string(), "status": head.status, "reason": head.reason,
                "head": String::from_utf8_lossy(&head.text), "bytes": carried,
                "file": path.map(|path| path.display().to_string()), "body": body,
                "timing_ms": timing.json(),
            }))?;
        }
        Ok(exit)
    }

    fn progress(&self, head: &Head, path: Option<&Path>, offset: u64) -> ProgressBar {
        let is_watched = path.is_some() && io::stderr().is_terminal();
        if self.args.quiet || self.args.common.json || !is_watched {
            return ProgressBar::hidden();
        }
        let colour = if no_color() { "" } else { ".green" };
        let (length, template) = match head.body {
            BodyLength::Length(bytes) => (
                Some(offset + bytes),
                format!(
                    "{{bar:30{colour}}} {{bytes:>11}}/{{total_bytes}} {{bytes_per_sec}} {{eta}} left"
                ),
            ),
            _ => (None, "{spinner} {bytes} {bytes_per_sec}".to_owned()),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_position(offset);
        bar
    }
}

/// The last part of the URL's path, as a file name that is safe here.
fn remote_name(url: &Url) -> Result<PathBuf, Failure> {
    let path = url.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8_lossy();
    match SafeName::reduce(&name) {
        Ok(name) => Ok(PathBuf::from(name.as_str())),
        Err(error) => Err(Failure::usage(format!(
            "{url}: {error}: name the file with -o"
        ))),
    }
}

/// Whether a partial response begins where the file ends.
fn begins_at(head: &Head, offset: u64) -> bool {
    head.content_range
        .as_deref()
        .is_some_and(|range| range.trim().starts_with(&format!("bytes {offset}-")))
}

/// Whether the file has all the bytes there are, by the `bytes */LENGTH` of a 416 (RFC 9110, section 15.5.17).
fn is_complete(head: &Head, offset: u64) -> bool {
    head.content_range
        .as_deref()
        .is_some_and(|range| range.trim() == format!("bytes */{offset}"))
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
fn open_tunnel(stream: &mut Stream, url: &Url) -> Result<(), Failure> {
    let authority = url.target().to_string();
    let mut bytes = Vec::new();
    head::put_request_line(&mut bytes, Method::Connect, &authority);
    head::put_header(&mut bytes, "Host", &authority);
    head::put_head_end(&mut bytes);
    stream.begin("asking the proxy for a tunnel");
    stream.write_all(&bytes)?;
    stream.begin("waiting for the proxy's answer");
    let mut received = Vec::new();
    let (head, _) = read_head(stream, &mut received, Method::Connect)?;
    match head.status {
        200..300 if received.is_empty() => Ok(()),
        200..300 => Err(stream.broken("the proxy sent something of its own into the tunnel")),
        status => Err(stream.broken(&format!("the proxy answered {status} {}", head.reason))),
    }
}

/// The proxy for a URL, from the flag or the environment.
fn proxy_for(args: &GetArgs, url: &Url) -> Result<Option<Url>, Failure> {
    let variable = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| std::env::var(name).ok())
            .filter(|text| !text.is_empty())
    };
    let text = match &args.proxy {
        Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        None if variable(&["no_proxy", "NO_PROXY"])
            .is_some_and(|list| is_exempt(&list, &url.host)) =>
        {
            None
        }
        None if url.is_https => variable(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
        // Not HTTP_PROXY: in a CGI program that is a header of the request.
        None => variable(&["http_proxy", "all_proxy", "ALL_PROXY"]),
    };
    let Some(text) = text else { return Ok(None) };
    match Url::parse(&text) {
        Ok(proxy) if !proxy.is_https => Ok(Some(proxy)),
        Ok(_) => Err(Failure::usage(format!(
            "{text:?}: a proxy is spoken to over http only"
        ))),
        Err(words) => Err(Failure::usage(format!("the proxy {words}"))),
    }
}

/// Whether `no_proxy` names the host: itself, a domain above it, or `*` for all.
fn is_exempt(list: &str, host: &str) -> bool {
    list.split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
        .any(|entry| {
            let entry = entry.trim_start_matches('.').trim_matches(['[', ']']);
            let is_below = || {
                let tail = host
                    .len()
                    .checked_sub(entry.len() + 1)
                    .and_then(|at| host.get(at..));
                tail.is_some_and(|tail| {
                    tail.starts_with('.') && tail[1..].eq_ignore_ascii_case(entry)
                })
            };
            entry == "*" || host.eq_ignore_ascii_case(entry) || is_below()
        })
}

/// How long each part took, each from the end of the one before, and the whole.
fn tell_timing(timing: &Timing) {
    let Timing {
        connect,
        tls,
        first_byte,
        total,
    } = timing;
    let waited = first_byte.saturating_sub(connect.resolve + connect.connect + *tls);
    let parts = [
        ("resolve", connect.resolve),
        ("connect", connect.connect),
        ("TLS", *tls),
        ("first byte", waited),
        ("body", total.saturating_sub(*first_byte)),
        ("total", *total),
    ];
    let longest = total.as_secs_f64().max(1e-9);
    for (name, span) in parts {
        let bar = "━".repeat((span.as_secs_f64() / longest * 40.0).round() as usize);
        let line = format!("{name:<10} {:>10.3} ms  {bar}", span.as_secs_f64() * 1e3);
        eprintln!("{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exemptions_from_the_proxy() {
        for (list, host, exempt) in [
            ("localhost, .example.org", "www.example.org", true),
            ("example.org", "example.org", true),
            ("example.org", "notexample.org", false),
            ("*", "anything", true),
            ("[::1]", "::1", true),
            ("", "a", false),
            ("é", "xé", false),
        ] {
            assert_eq!(is_exempt(list, host), exempt, "{list:?} {host:?}");
        }
    }

    #[test]
    fn names_from_urls_stay_in_the_folder() {
        let name = |url: &str| {
            remote_name(&Url::parse(url).unwrap()).map(|path| path.display().to_string())
        };
        assert_eq!(name("http://a/b/c.txt?d=/e").unwrap(), "c.txt");
        assert_eq!(name("http://a/x%20y").unwrap(), "x y");
        assert_eq!(name("http://a/%2e%2e%2fpasswd").unwrap(), "passwd");
        assert!(name("http://a/").is_err() && name("http://a/..").is_err());
    }
}
