//! `tcp`: sends lines over TCP or a Unix socket and prints the replies; or pumps bytes both ways.
//!
//! Rules:
//! - A reply to a line ends with a line ending, or with the stream. A frame's reply is a frame.
//! - With `-` nothing is interpreted: standard input goes out, the half-close follows its end, and
//!   everything that comes is printed until the server closes.
//!
//! Not here: load (see [`super::flood`]).

use std::io::{self, BufRead, Read};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::connect::Target;
use super::output::Output;
use super::statistics::{RoundTrips, Summary};
use super::stream::Stream;
use super::{CommonArgs, Exit, Failure, Outcome};
use crate::wire::frame;

/// The longest reply that is waited for, in bytes.
const REPLY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The arguments of `tcp`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor tcp [OPTIONS] <HOST> <PORT> [TEXT...]\n       netlab-reactor tcp [OPTIONS] unix:PATH [TEXT...]",
    after_help = "Examples:
  netlab-reactor tcp localhost 12000 hello
  printf 'one\\ntwo\\n' | netlab-reactor tcp localhost 12000
  netlab-reactor tcp --frames localhost 9002 hello
  netlab-reactor tcp localhost 12000 - < picture.png > echoed
  netlab-reactor tcp localhost 12000 --repeat 1000 x > /dev/null

Exit codes: 0 done, 69 unavailable, a reply missing or incomplete."
)]
pub struct TcpArgs {
    /// Host name or address, or unix:PATH
    host: String,

    /// Port, then the line to send; without a line each one of standard input, with - bytes both
    /// ways
    #[arg(value_name = "PORT TEXT")]
    rest: Vec<String>,

    /// Send each line this many times and print round-trip statistics
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    repeat: u64,

    /// Send each line as a frame, with its length (32 bits, little-endian) in front and no line
    /// ending, and expect frames
    #[arg(long, alias = "frame")]
    frames: bool,

    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// The statistics, as `--json` prints them.
#[derive(Debug, Serialize)]
struct Statistics {
    statistics: Summary,
}

/// Runs `tcp`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &TcpArgs) -> Outcome {
    converse(args, &mut |_| {})
}

/// The same; the port of this end is given to `connected`.
pub(super) fn converse(args: &TcpArgs, connected: &mut dyn FnMut(Option<u16>)) -> Outcome {
    let (target, text) = Target::from_arguments(&args.host, &args.rest)?;
    let stream = Stream::connect(&target, args.common.family(), args.common.timeouts())?;
    connected(stream.local_port());
    if text == ["-"] {
        return pump(stream);
    }
    let mut conversation = Conversation {
        stream,
        framed: args.frames,
        json: args.common.json,
        received: Vec::new(),
        output: Output::new(),
        trips: RoundTrips::new(),
        sequence: 0,
    };
    if text.is_empty() {
        for line in io::stdin().lock().split(b'\n') {
            let line =
                line.map_err(|error| Failure::usage(format!("reading standard input: {error}")))?;
            conversation
                .exchange_repeatedly(line.strip_suffix(b"\r").unwrap_or(&line), args.repeat)?;
        }
    } else {
        conversation.exchange_repeatedly(text.join(" ").as_bytes(), args.repeat)?;
    }
    if args.repeat > 1 {
        conversation.tell_statistics()?;
    }
    Ok(Exit::Done)
}

/// Lines or frames going back and forth over one connection.
struct Conversation {
    stream: Stream,
    framed: bool,
    json: bool,
    /// What came and was not printed yet.
    received: Vec<u8>,
    output: Output,
    trips: RoundTrips,
    sequence: u64,
}

impl Conversation {
    fn exchange_repeatedly(&mut self, line: &[u8], times: u64) -> Result<(), Failure> {
        for _ in 0..times {
            self.exchange(line)?;
        }
        Ok(())
    }

    fn exchange(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.sequence += 1;
        let started = Instant::now();
        self.stream
            .begin(format!("sending message {}", self.sequence));
        let mut message = Vec::with_capacity(line.len() + 4);
        if self.framed {
            frame::encode(line, &mut message).map_err(|error| Failure::usage(error.to_string()))?;
        } else {
            message.extend_from_slice(line);
            message.push(b'\n');
        }
        self.stream.write_all(&message)?;
        self.stream.begin(format!(
            "waiting for the reply to message {}",
            self.sequence
        ));
        let reply = self.reply()?;
        let rtt = started.elapsed();
        self.trips.record(rtt);
        let exchange = (line, &reply[..]);
        self.output
            .exchange(self.json, self.sequence, exchange, rtt)
    }

    /// One reply, without its line ending or length.
    fn reply(&mut self) -> Result<Vec<u8>, Failure> {
        let mut looked_at = 0;
        loop {
            if let Some((reply, consumed)) = self.complete(looked_at)? {
                let reply = reply.to_vec();
                self.received.drain(..consumed);
                return Ok(reply);
            }
            looked_at = self.received.len();
            if looked_at > REPLY_BYTES_MAX {
                return Err(self.stream.broken("a reply without end came"));
            }
            let mut piece = [0; 16 * 1024];
            match self.stream.read(&mut piece) {
                Ok(0) if self.received.is_empty() || self.framed => {
                    return Err(self.stream.closed());
                }
                Ok(0) => return Ok(std::mem::take(&mut self.received)),
                Ok(bytes) => self.received.extend_from_slice(&piece[..bytes]),
                Err(failure) if self.received.is_empty() || self.framed => return Err(failure),
                Err(mut failure) => {
                    self.output.peer_text(&self.received)?;
                    failure.message.push_str(": no line ending came");
                    return Err(failure);
                }
            }
        }
    }

    /// The first whole reply of what came, and how many bytes it takes; `looked_at` bytes hold no
    /// line ending.
    fn complete(&self, looked_at: usize) -> Result<Option<(&[u8], usize)>, Failure> {
        if !self.framed {
            let end = memchr::memchr(b'\n', &self.received[looked_at..]).map(|at| looked_at + at);
            return Ok(end.map(|end| {
                let line = &self.received[..end];
                (line.strip_suffix(b"\r").unwrap_or(line), end + 1)
            }));
        }
        match frame::decode(&self.received, REPLY_BYTES_MAX) {
            Ok(frame::Frame::Complete { payload, consumed }) => Ok(Some((payload, consumed))),
            Ok(frame::Frame::Partial { .. }) => Ok(None),
            Err(error) => Err(self.stream.broken(&error.to_string())),
        }
    }

    fn tell_statistics(&mut self) -> Result<(), Failure> {
        let summary = self.trips.summary();
        if self.json {
            return self.output.json(&Statistics {
                statistics: summary,
            });
        }
        eprintln!("{} round trips", summary.count);
        for line in summary.lines() {
            eprintln!("{line}");
        }
        Ok(())
    }
}

/// Standard input to the server, the server to standard output, until it closes.
fn pump(mut stream: Stream) -> Outcome {
    let mut sender = stream.second_handle()?;
    let (ended, end) = mpsc::channel();
    thread::spawn(move || ended.send(send_all(&mut sender)));
    let mut output = Output::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut sending = true;
    stream.begin("waiting for the server to finish");
    loop {
        if sending && let Ok(sent) = end.try_recv() {
            sent?;
            sending = false;
            stream.touch();
        }
        // While standard input is open, silence is nobody's fault.
        match stream.read_within(Duration::from_millis(100), &mut buffer)? {
            Some(0) => return Ok(Exit::Done),
            Some(bytes) => {
                output.bytes(&buffer[..bytes])?;
                stream.touch();
            }
            None if sending => {}
            None => stream.check_deadline()?,
        }
    }
}

/// Sends standard input to its end, then half-closes.
fn send_all(stream: &mut Stream) -> Result<(), Failure> {
    let mut input = io::stdin().lock();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let bytes = input
            .read(&mut buffer)
            .map_err(|error| Failure::usage(format!("reading standard input: {error}")))?;
        if bytes == 0 {
            stream.finish();
            return Ok(());
        }
        stream.begin("sending standard input");
        stream.write_all(&buffer[..bytes])?;
    }
}
