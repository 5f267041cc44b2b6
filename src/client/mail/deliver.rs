//! The dialogue with the server, carried by a socket and TLS.

use std::net::IpAddr;

use super::{AuthKind, MailArgs, TlsMode, check_line};
use crate::client::connect::Target;
use crate::client::stream::Stream;
use crate::client::tls::Trust;
use crate::client::{Exit, Failure, secrets};
use crate::wire::smtp::{
    Credentials, Dialogue, Event, Mail, Mechanism, Outcome, Reply, Settings, SmtpError, Tls,
};

/// Where to connect to.
pub(super) fn server(args: &MailArgs) -> Result<Target, Failure> {
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
pub(super) fn deliver(args: &MailArgs, mail: Mail) -> Result<Outcome, Failure> {
    let target = server(args)?;
    let credentials = credentials(args)?;
    let trust = match args.tls {
        TlsMode::Required | TlsMode::Implicit => Some(args.certificates.trust()?),
        TlsMode::Opportunistic | TlsMode::Off => None,
    };
    let mut stream = Stream::connect(&target, args.common.family(), args.common.timeouts())?;
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
    let delivery = Delivery {
        args,
        target,
        trust,
        stream,
        dialogue: Dialogue::new(settings, mail),
        unsent: None,
    };
    delivery.run()
}

fn credentials(args: &MailArgs) -> Result<Option<Credentials>, Failure> {
    let Some(user) = args.user.clone() else {
        return Ok(None);
    };
    let file = args.password_file.as_deref();
    Ok(Some(Credentials {
        user,
        password: secrets::obtain(file, "NETLAB_PASSWORD", "password")?,
        mechanism: args.auth.map(|kind| match kind {
            AuthKind::Plain => Mechanism::Plain,
            AuthKind::Login => Mechanism::Login,
        }),
    }))
}

/// A dialogue and the connection that carries it.
struct Delivery<'a> {
    args: &'a MailArgs,
    target: Target,
    /// What the certificate is checked by; read late where TLS may not come about.
    trust: Option<Trust>,
    stream: Stream,
    dialogue: Dialogue,
    /// Why the latest bytes could not be sent. A server that closes early may have said why: its
    /// words are read first.
    unsent: Option<Failure>,
}

impl Delivery<'_> {
    fn run(mut self) -> Result<Outcome, Failure> {
        self.stream.begin("waiting for the greeting");
        let mut buffer = vec![0; 16 * 1024];
        loop {
            while let Some(event) = self.dialogue.next_event() {
                if let Some(outcome) = self.act(event)? {
                    return Ok(outcome);
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.dialogue.closed().map_err(|error| {
                    let unsent = self.unsent.take();
                    unsent.unwrap_or_else(|| failure(&self.target, &error))
                })?,
                Ok(bytes) => {
                    let received = self.dialogue.receive(&buffer[..bytes]);
                    received.map_err(|error| failure(&self.target, &error))?;
                }
                // Once the message is taken, a lost farewell does not matter.
                Err(failure) => self.dialogue.closed().map_err(|_| failure)?,
            }
        }
    }

    /// Does what the dialogue asks for; answers how it ended, when it did.
    fn act(&mut self, event: Event) -> Result<Option<Outcome>, Failure> {
        match event {
            Event::Send { bytes, shown } => {
                show(self.args, '>', &shown);
                let step = self.dialogue.step();
                self.stream.begin(format!("sending at the step {step}"));
                self.unsent = self.stream.write_all(&bytes).err();
                self.stream.begin(waiting(&self.dialogue));
            }
            Event::Received(reply) => {
                show(self.args, '<', &reply_lines(&reply));
                self.stream.begin(waiting(&self.dialogue));
            }
            Event::StartTls => {
                self.stream.begin("starting TLS");
                let trust = match self.trust.take() {
                    Some(trust) => trust,
                    None => self.args.certificates.trust()?,
                };
                self.stream
                    .start_tls(&self.target.host(), &trust)
                    .map_err(|failure| with_hint(self.args, failure))?;
                show(self.args, ' ', &["(encrypted from here on)".to_owned()]);
                self.dialogue.tls_started();
            }
            Event::Finished(outcome) => return Ok(Some(outcome)),
        }
        Ok(None)
    }
}

/// The lines of a reply as they came (RFC 5321, section 4.2).
fn reply_lines(reply: &Reply) -> Vec<String> {
    let last = reply.lines.len() - 1;
    let line = |(index, text): (usize, &String)| {
        let separator = if index == last { ' ' } else { '-' };
        format!("{}{separator}{text}", reply.code)
    };
    reply.lines.iter().enumerate().map(line).collect()
}

/// A server with a certificate of its own making is common where mail stays at home; what to do is
/// worth a word.
fn with_hint(args: &MailArgs, failure: Failure) -> Failure {
    if args.tls != TlsMode::Opportunistic || !failure.message.contains("certificate") {
        return failure;
    }
    let hint = "--tls off sends in clear";
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

/// What EHLO says: this host's full name, or the address that the server sees (RFC 5321, section
/// 4.1.4).
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
pub(super) fn failure(target: &Target, error: &SmtpError) -> Failure {
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
