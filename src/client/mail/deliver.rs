//! The dialogue with the server, carried by a socket and TLS.

use std::net::IpAddr;

use super::{AuthKind, MailArgs, TlsMode, check_line};
use crate::client::connect::Target;
use crate::client::stream::Stream;
use crate::client::{Exit, Failure, secrets};
use crate::wire::smtp::{
    Credentials, Dialogue, Event, Mail, Mechanism, Outcome, Settings, SmtpError, Tls,
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
