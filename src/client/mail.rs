//! `mail`: writes a message and hands it to an SMTP server.
//!
//! The dialogue itself is [`crate::wire::smtp`]; here are the message (through mail-builder), the socket and TLS.
//!
//! Rules:
//! - Certificates are always checked, with opportunistic TLS as well: who wants none says `--tls off`.
//! - Recipients of `--bcc` stand in the envelope only.
//!
//! Not here: queues. A message that is not taken is not kept; the exit code says whether later may help.

use std::io::{IsTerminal as _, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use mail_builder::MessageBuilder;
use mail_builder::headers::address::Address;
use mail_builder::headers::date::Date;
use mail_builder::headers::message_id::MessageId;
use mail_builder::headers::raw::Raw;
use mail_builder::mime::MimePart;
use serde_json::json;

use super::connect::Target;
use super::output::{Output, Tone};
use super::secrets;
use super::stream::Stream;
use super::tls::TlsArgs;
use super::units::since_epoch;
use super::{CommonArgs, Exit, Failure, Outcome};
use crate::wire::hex;
use crate::wire::smtp::{
    Credentials, Dialogue, Event, Mail, Mailbox, Mechanism, Settings, SmtpError, Tls,
};
use crate::wire::smtp::{Outcome as SmtpOutcome, with_crlf};

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
            for one in split_list(text) {
                list.push(Person::parse(one)?);
            }
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

/// A name and an address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Person {
    name: Option<String>,
    mailbox: Mailbox,
}

impl Person {
    /// Reads `ADDRESS` or `NAME <ADDRESS>`, quotes around the name left out.
    fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim();
        let (name, address) = match text
            .strip_suffix('>')
            .and_then(|text| text.rsplit_once('<'))
        {
            Some((name, address)) => (name.trim().trim_matches('"'), address),
            None => ("", text),
        };
        check_line(name, "a name")?;
        let mailbox = Mailbox::parse(address).map_err(|error| Failure::usage(error.to_string()))?;
        Ok(Self {
            name: (!name.is_empty()).then(|| name.to_owned()),
            mailbox,
        })
    }

    fn address(&self) -> Address<'_> {
        Address::new_address(self.name.as_deref(), self.mailbox.as_str())
    }
}

#[derive(Debug, Default)]
struct Recipients {
    to: Vec<Person>,
    cc: Vec<Person>,
    bcc: Vec<Person>,
}

impl Recipients {
    fn all(&self) -> impl Iterator<Item = &Person> {
        self.to.iter().chain(&self.cc).chain(&self.bcc)
    }
}

/// The addresses of a list, separated by commas outside of quotes.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    let parts = text.split(move |c| {
        is_quoted ^= c == '"';
        c == ',' && !is_quoted
    });
    parts.filter(|part| !part.trim().is_empty())
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

/// An identifier that no other message has (RFC 5322, section 3.6.4).
fn message_id(from: &Person) -> Result<String, Failure> {
    let mut random = [0; 12];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::unavailable(format!("no random numbers: {error}")))?;
    let domain = from
        .mailbox
        .as_str()
        .rsplit('@')
        .next()
        .filter(|domain| domain.is_ascii());
    Ok(format!(
        "{}.{}@{}",
        since_epoch().as_millis(),
        hex::encode(&random),
        domain.unwrap_or("localhost")
    ))
}

/// The message with headers and parts.
fn compose(
    args: &MailArgs,
    from: &Person,
    people: &Recipients,
    message_id: &str,
) -> Result<Vec<u8>, Failure> {
    check_line(&args.subject, "the subject")?;
    let list = |people: &[Person]| -> Vec<Person> { people.to_vec() };
    let (to, cc) = (list(&people.to), list(&people.cc));
    let addresses = |people: &'_ [Person]| -> Address<'static> {
        let one = |person: &Person| {
            Address::new_address(person.name.clone(), person.mailbox.as_str().to_owned())
        };
        Address::new_list(people.iter().map(one).collect())
    };
    let now = i64::try_from(since_epoch().as_secs()).unwrap_or(i64::MAX);
    let mut message = MessageBuilder::new()
        .date(Date::new(now))
        .from(from.address())
        .to(addresses(&to))
        .subject(args.subject.as_str())
        .message_id(MessageId::new(message_id))
        .header("MIME-Version", Raw::new("1.0"));
    if !cc.is_empty() {
        message = message.cc(addresses(&cc));
    }
    let reply_to = args.reply_to.as_deref().map(Person::parse).transpose()?;
    if let Some(person) = &reply_to {
        message = message.reply_to(person.address());
    }
    message
        .body(body(args)?)
        .write_to_vec()
        .map_err(|error| Failure::usage(format!("the message cannot be written: {error}")))
}

/// The parts, nested as RFC 2046 and RFC 2387 have it: alternatives innermost, then what belongs to the HTML, then files.
fn body(args: &MailArgs) -> Result<MimePart<'static>, Failure> {
    let mut part = MimePart::new("text/plain", text(args)?);
    if let Some(path) = &args.html_file {
        let html = String::from_utf8(read(path)?);
        let html =
            html.map_err(|_| Failure::usage(format!("{}: the HTML is not UTF-8", path.display())))?;
        part = MimePart::new(
            "multipart/alternative",
            vec![part, MimePart::new("text/html", html)],
        );
    }
    if !args.inline.is_empty() {
        let mut parts = vec![part];
        for path in &args.inline {
            let (name, kind) = describe(path)?;
            parts.push(
                MimePart::new(kind, read(path)?)
                    .cid(content_id(&name))
                    .header(
                        "Content-Disposition",
                        mail_builder::headers::content_type::ContentType::new("inline")
                            .attribute("filename", name),
                    ),
            );
        }
        let kind = if args.html_file.is_some() {
            "multipart/related"
        } else {
            "multipart/mixed"
        };
        part = MimePart::new(kind, parts);
    }
    if !args.attach.is_empty() {
        let mut parts = vec![part];
        for path in &args.attach {
            let (name, kind) = describe(path)?;
            parts.push(MimePart::new(kind, read(path)?).attachment(name));
        }
        part = MimePart::new("multipart/mixed", parts);
    }
    Ok(part)
}

/// The text of the message: an argument, a file or standard input.
fn text(args: &MailArgs) -> Result<String, Failure> {
    let (bytes, whence) = match (&args.body, &args.body_file) {
        (Some(text), _) => return Ok(text.clone()),
        (None, Some(path)) => (read(path)?, path.display().to_string()),
        (None, None) => {
            if std::io::stdin().is_terminal() {
                eprintln!("netlab-reactor mail: type the text, then Ctrl-D");
            }
            let mut bytes = Vec::new();
            let result = std::io::stdin().lock().read_to_end(&mut bytes);
            result.map_err(|error| Failure::usage(format!("reading standard input: {error}")))?;
            (bytes, "standard input".to_owned())
        }
    };
    String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{whence}: the text is not UTF-8")))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A file's name and media type.
fn describe(path: &Path) -> Result<(String, String), Failure> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let name = name.ok_or_else(|| Failure::usage(format!("{}: not a file", path.display())))?;
    check_line(&name, "a file's name")?;
    Ok((
        name,
        mime_guess::from_path(path)
            .first_or_octet_stream()
            .essence_str()
            .to_owned(),
    ))
}

/// What stands behind `cid:`: the file's name, other characters than the harmless ones replaced.
fn content_id(name: &str) -> String {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    name.chars()
        .map(|c| if is_harmless(c) { c } else { '_' })
        .collect()
}

/// Where to connect to.
fn server(args: &MailArgs) -> Result<Target, Failure> {
    let text = args.server.as_deref().unwrap_or("localhost");
    let port = match (args.tls, &args.user) {
        (TlsMode::Implicit, _) => 465,
        (_, Some(_)) => 587,
        _ => 25,
    };
    let is_bare_v6 = text.parse::<std::net::Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        Some((_, tail)) if !is_bare_v6 && !tail.ends_with(']') => Target::parse(text),
        _ => Ok(Target::new(text, port)),
    }
}

/// Connects and lives through the dialogue.
fn deliver(args: &MailArgs, mail: Mail) -> Result<SmtpOutcome, Failure> {
    let target = server(args)?;
    let credentials = match &args.user {
        Some(user) => Some(Credentials {
            user: user.clone(),
            password: secrets::obtain(
                args.password_file.as_deref(),
                "NETLAB_PASSWORD",
                "password",
            )?,
            mechanism: args.auth.map(|kind| match kind {
                AuthKind::Plain => Mechanism::Plain,
                AuthKind::Login => Mechanism::Login,
            }),
        }),
        None => None,
    };
    let trust = match args.tls {
        TlsMode::Required | TlsMode::Implicit => Some(args.certificates.trust()?),
        TlsMode::Opportunistic | TlsMode::Off => None,
    };
    let mut stream = Stream::connect(&target, args.common.family(), args.common.limits())?;
    if let (TlsMode::Implicit, Some(trust)) = (args.tls, &trust) {
        stream.begin("starting TLS");
        stream.start_tls(&target.host(), trust)?;
    }
    let settings = Settings {
        hello_name: args.helo.clone().unwrap_or_else(|| hello_name(&stream)),
        tls: match args.tls {
            TlsMode::Required => Tls::Required,
            TlsMode::Opportunistic => Tls::Opportunistic,
            TlsMode::Off => Tls::Off,
            TlsMode::Implicit => Tls::Implicit,
        },
        credentials,
        force_clear_auth: args.force_clear_auth,
    };
    check_line(&settings.hello_name, "the name of --helo")?;
    let mut dialogue = Dialogue::new(settings, mail);
    stream.begin("waiting for the greeting");
    let mut buffer = vec![0; 16 * 1024];
    let mut broken = None;
    loop {
        while let Some(event) = dialogue.next_event() {
            match event {
                Event::Send { bytes, shown } => {
                    show(args, '>', &shown);
                    stream.begin(format!("sending at the step {}", dialogue.step()));
                    // A server that closes early may have said why: its words are still to be read.
                    broken = stream.write_all(&bytes).err();
                    stream.begin(waiting(&dialogue));
                }
                Event::Received(reply) => {
                    let last = reply.lines.len() - 1;
                    let line = |(index, text): (usize, &String)| {
                        format!(
                            "{}{}{text}",
                            reply.code,
                            if index == last { ' ' } else { '-' }
                        )
                    };
                    show(
                        args,
                        '<',
                        &reply.lines.iter().enumerate().map(line).collect::<Vec<_>>(),
                    );
                    stream.begin(waiting(&dialogue));
                }
                Event::StartTls => {
                    stream.begin("starting TLS");
                    let trust = match &trust {
                        Some(trust) => trust.clone(),
                        None => args.certificates.trust()?,
                    };
                    stream
                        .start_tls(&target.host(), &trust)
                        .map_err(|failure| with_hint(args, failure))?;
                    show(args, ' ', &["(encrypted from here on)".to_owned()]);
                    dialogue.tls_started();
                }
                Event::Finished(outcome) => return Ok(outcome),
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) => dialogue
                .closed()
                .map_err(|error| broken.take().unwrap_or_else(|| failure(&target, &error)))?,
            Ok(bytes) => dialogue
                .receive(&buffer[..bytes])
                .map_err(|error| failure(&target, &error))?,
            // Once the message is taken, a lost farewell does not matter.
            Err(failure) => dialogue.closed().map_err(|_| failure)?,
        }
    }
}

/// A server with a certificate of its own making is common where mail stays at home; what to do is worth a word.
fn with_hint(args: &MailArgs, failure: Failure) -> Failure {
    if args.tls != TlsMode::Opportunistic || !failure.message.contains("certificate") {
        return failure;
    }
    let hint = "trust its authority with --ca-file, or send in clear with --tls off";
    Failure {
        message: format!("{}; {hint}", failure.message),
        ..failure
    }
}

/// The step's name for a time-out's message.
fn waiting(dialogue: &Dialogue) -> String {
    let step = dialogue.step();
    let partly = if dialogue.is_mid_reply() {
        "the rest of "
    } else {
        ""
    };
    match dialogue.command() {
        Some(command) => format!("waiting for {partly}the reply to {command:?} (step {step})"),
        None => format!("waiting for {partly}the greeting"),
    }
}

fn show(args: &MailArgs, direction: char, lines: &[String]) {
    if args.verbose {
        for line in lines {
            eprintln!("{direction} {line}");
        }
    }
}

/// What EHLO says: this host's full name, or the address that the server sees (RFC 5321, section 4.1.4).
fn hello_name(stream: &Stream) -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let is_full = name.contains('.')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte));
    match stream.local_address() {
        _ if is_full => name.to_owned(),
        Some(IpAddr::V4(address)) => format!("[{address}]"),
        Some(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        None => "localhost".to_owned(),
    }
}

/// An error of the dialogue as an exit code and words.
fn failure(target: &Target, error: &SmtpError) -> Failure {
    let exit = match error {
        error if error.is_transient() => Exit::TryLater,
        error if error.is_refusal() => Exit::Refused,
        _ => Exit::Unavailable,
    };
    Failure {
        exit,
        message: format!("{target}: {error}"),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_and_lists() {
        let person = |text: &str| {
            Person::parse(text).map(|person| (person.name, person.mailbox.as_str().to_owned()))
        };
        assert_eq!(person(" a@b "), Ok((None, "a@b".into())));
        assert_eq!(person("Änn <a@b>"), Ok((Some("Änn".into()), "a@b".into())));
        assert_eq!(
            person("\"Doe, J\" <a@b>"),
            Ok((Some("Doe, J".into()), "a@b".into()))
        );
        assert!(person("a").is_err() && person("x\nBcc: y <a@b>").is_err());
        let parts: Vec<_> = split_list("a@b,\"Doe, J\" <c@d>, ").collect();
        assert_eq!(parts, ["a@b", "\"Doe, J\" <c@d>"]);
    }

    #[test]
    fn content_ids_are_harmless() {
        assert_eq!(content_id("my logo>.png"), "my_logo_.png");
    }
}
