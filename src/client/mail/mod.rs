//! `mail`: writes a message and hands it to an SMTP server.
//!
//! The dialogue itself is [`crate::wire::smtp`]; here are the message (through mail-builder), the
//! socket and TLS.
//!
//! Rules:
//! - Certificates are always checked, with opportunistic TLS as well: who wants none says `--tls
//!   off`.
//! - Recipients of `--bcc` stand in the envelope only.
//!
//! Not here: queues. A message that is not taken is not kept; the exit code says whether later may
//! help.

mod address;
mod deliver;
mod message;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use self::address::{Person, Recipients};
use self::deliver::{deliver, failure, server};
use self::message::{compose, message_id};
use super::output::{Output, Tone};
use super::tls::TlsArgs;
use super::{CommonArgs, Exit, Failure, Outcome};
use crate::wire::smtp::{Mail, Mailbox, Outcome as SmtpOutcome, with_crlf};

/// When to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// STARTTLS, or nothing is sent
    Required,
    /// STARTTLS where the server offers it
    Opportunistic,
    /// Never
    Off,
    /// TLS from the first byte
    Implicit,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AuthKind {
    /// AUTH PLAIN
    Plain,
    /// AUTH LOGIN
    Login,
}

/// The arguments of `mail`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo Hello | netlab-reactor mail --server localhost:25 \\
      --from a@x.org --to b@y.org --subject Hi
  netlab-reactor mail --server mail.x.org --tls required --user ann \\
      --from 'Ann <ann@x.org>' --to b@y.org c@z.org --subject Grüße \\
      --body-file text.txt --html-file text.html --inline logo.png
  netlab-reactor mail --dry-run --from a@x.org --to b@y.org --body hello

--tls required is STARTTLS or nothing is sent, opportunistic STARTTLS where the
server offers it, implicit TLS from the first byte.
An image of --inline is shown in HTML as <img src=\"cid:logo.png\">, by its
file's name.
The password comes from --password-file, from NETLAB_PASSWORD, or from a prompt.
Exit codes: 0 taken for all, 1 taken, but not for all recipients,
69 unavailable, 75 try later, 77 refused.")]
pub struct MailArgs {
    /// The mail server; without a port 25, 465 with --tls implicit, 587 with --user
    #[arg(long, value_name = "HOST[:PORT]", required_unless_present = "dry_run")]
    server: Option<String>,

    /// The sender
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "The sender: ADDRESS or 'NAME <ADDRESS>'"
    )]
    from: String,

    /// The recipients
    #[arg(long, value_name = "ADDRESS", num_args = 1.., required = true)]
    to: Vec<String>,

    /// Recipients of a copy
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    cc: Vec<String>,

    /// Recipients of a copy whom the others do not see
    #[arg(long, value_name = "ADDRESS", num_args = 1..)]
    bcc: Vec<String>,

    /// Where answers shall go
    #[arg(long, value_name = "ADDRESS")]
    reply_to: Option<String>,

    /// The subject
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    subject: String,

    /// The text; without it and --body-file it comes from standard input
    #[arg(long, value_name = "TEXT", conflicts_with = "body_file")]
    body: Option<String>,

    /// The file that holds the text
    #[arg(long, value_name = "FILE")]
    body_file: Option<PathBuf>,

    /// The same as HTML
    #[arg(long, value_name = "FILE")]
    html_file: Option<PathBuf>,

    /// Images shown within the message
    #[arg(long, value_name = "FILE", num_args = 1..)]
    inline: Vec<PathBuf>,

    /// Files sent along
    #[arg(long, value_name = "FILE", num_args = 1..)]
    attach: Vec<PathBuf>,

    /// Log in as this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,

    /// Read the password from this file
    #[arg(long, value_name = "FILE", requires = "user")]
    password_file: Option<PathBuf>,

    /// How to log in: plain or login [default: plain where offered, else login]
    #[arg(
        long,
        value_name = "KIND",
        requires = "user",
        hide_possible_values = true
    )]
    auth: Option<AuthKind>,

    /// Send the password even over an unencrypted connection
    #[arg(long, requires = "user")]
    force_clear_auth: bool,

    /// When to encrypt: required, opportunistic, implicit or off
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "opportunistic",
        hide_possible_values = true
    )]
    tls: TlsMode,

    #[command(flatten)]
    certificates: TlsArgs,

    /// What EHLO says that this host is
    #[arg(long, value_name = "NAME")]
    helo: Option<String>,

    /// Show the dialogue, secrets hidden
    #[arg(short, long)]
    verbose: bool,

    /// Print the message instead of sending it
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    common: CommonArgs,
}

/// Runs `mail`.
///
/// # Errors
/// See [`Failure`].
pub fn run(args: &MailArgs) -> Outcome {
    let from = Person::parse(&args.from)?;
    let mut people = Recipients::default();
    for (texts, list) in [
        (&args.to, &mut people.to),
        (&args.cc, &mut people.cc),
        (&args.bcc, &mut people.bcc),
    ] {
        for text in texts {
            list.extend(Person::parse_list(text)?);
        }
    }
    if people.to.is_empty() {
        return Err(Failure::usage("--to names nobody"));
    }
    let message_id = message_id(&from)?;
    let content = compose(args, &from, &people, &message_id)?;
    if args.dry_run {
        Output::new().bytes(&with_crlf(&content))?;
        return Ok(Exit::Done);
    }
    let everybody: Vec<Mailbox> = people.all().map(|person| person.mailbox.clone()).collect();
    let mail = Mail::new(from.mailbox, everybody, &content);
    let outcome = deliver(args, mail)?;
    tell(args, &people, &message_id, outcome)
}

/// A header's value must not end its line and begin another header.
fn check_line(text: &str, what: &str) -> Result<(), Failure> {
    match text.chars().any(char::is_control) {
        true => Err(Failure::usage(format!(
            "{what} must not hold control characters: {text:?}"
        ))),
        false => Ok(()),
    }
}

/// Says what became of the message.
fn tell(args: &MailArgs, people: &Recipients, message_id: &str, outcome: SmtpOutcome) -> Outcome {
    let mut output = Output::new();
    let refused: Vec<_> = outcome
        .refused
        .iter()
        .map(|one| (one.mailbox.as_str(), one.reply.to_string()))
        .collect();
    if args.common.json {
        let words = match &outcome.delivered {
            Ok(reply) => reply.to_string(),
            Err(error) => error.to_string(),
        };
        output.json(&json!({
            "delivered": outcome.delivered.is_ok(), "reply": words, "message_id": message_id,
            "refused": refused.iter().map(|(who, why)| json!({"recipient": who, "reply": why})).collect::<Vec<_>>(),
        }))?;
    }
    for (who, why) in &refused {
        eprintln!("netlab-reactor mail: {who} was refused: {why}");
    }
    let reply = match outcome.delivered {
        Ok(reply) => reply,
        Err(error) => return Err(failure(&server(args)?, &error)),
    };
    let takers: Vec<&str> = people
        .all()
        .map(|person| person.mailbox.as_str())
        .filter(|taker| refused.iter().all(|(who, _)| who != taker))
        .collect();
    if !args.common.json {
        output.line(
            Tone::Plain,
            &format!("taken for {}: {reply}", takers.join(", ")),
        )?;
    }
    Ok(if refused.is_empty() {
        Exit::Done
    } else {
        Exit::Negative
    })
}
