//! `hello`: follows a stream of `hello0`, `hello1`, … and answers each.
//!
//! The messages have no ends of their own: the server sends the next one only after an answer. So
//! the number that is due tells when a message is whole, however its bytes arrive, and `hello1` is
//! never taken for the beginning of `hello12`.
//!
//! Not here: reconnecting; a stream that ended is over.

use clap::Args;
use serde::Serialize;

use super::connect::Target;
use super::output::{Output, Tone};
use super::stream::Stream;
use super::{CommonArgs, Exit, Failure, Outcome};
use crate::wire::text::printable;

/// The arguments of `hello`.
#[derive(Debug, Args)]
#[command(
    override_usage = "netlab-reactor hello [OPTIONS] <HOST> <PORT>",
    after_help = "Examples:
  netlab-reactor hello localhost 9000
  netlab-reactor hello localhost 9000 --count 3 --reply thanks
  netlab-reactor hello unix:/run/hello.sock --json

Exit codes: 0 the stream ended between two messages, 69 it broke or something
else came."
)]
pub struct HelloArgs {
    /// Host name or address, or unix:PATH
    host: String,

    /// Port
    #[arg(value_name = "PORT")]
    rest: Vec<String>,

    /// What to answer to each message
    #[arg(long, value_name = "TEXT", default_value = "byebye")]
    reply: String,

    /// Stop after this many messages; fewer are a failure then
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,

    #[command(flatten)]
    common: CommonArgs,
}

/// One message, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Message<'a> {
    number: u64,
    message: &'a str,
}

/// Runs `hello`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &HelloArgs) -> Outcome {
    let (target, rest) = Target::from_arguments(&args.host, &args.rest)?;
    if let Some(word) = rest.first() {
        return Err(Failure::usage(format!(
            "unexpected argument {word:?} behind host and port"
        )));
    }
    let mut stream = Stream::connect(&target, args.common.family(), args.common.timeouts())?;
    let mut output = Output::new();
    for number in 0..args.count.unwrap_or(u64::MAX) {
        stream.begin(format!("waiting for message {number}"));
        let Some(message) = receive(&mut stream, number)? else {
            return if number == 0 || args.count.is_some() {
                Err(stream.closed())
            } else {
                Ok(Exit::Done)
            };
        };
        if args.common.json {
            output.json(&Message {
                number,
                message: &message,
            })?;
        } else {
            output.line(Tone::Plain, &message)?;
        }
        stream.begin(format!("answering message {number}"));
        stream.write_all(args.reply.as_bytes())?;
    }
    Ok(Exit::Done)
}

/// The message with this number; `None` when the stream ended between two messages.
fn receive(stream: &mut Stream, number: u64) -> Result<Option<String>, Failure> {
    let expected = format!("hello{number}");
    let mut received = vec![0; expected.len()];
    let mut filled = 0;
    while filled < expected.len() {
        let bytes = stream.read(&mut received[filled..])?;
        filled += bytes;
        if bytes == 0 && filled == 0 {
            return Ok(None);
        } else if bytes == 0 {
            return Err(stream.broken("the server closed the connection within a message"));
        } else if !expected.as_bytes().starts_with(&received[..filled]) {
            let found = printable(&received[..filled]);
            return Err(stream.broken(&format!("unexpected bytes {found:?}, not {expected:?},")));
        }
    }
    Ok(Some(expected))
}
