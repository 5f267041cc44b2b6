//! The client's side of an SMTP dialogue (RFC 5321) as a pure state machine.
//!
//! ```text
//! Greeting ─▶ Ehlo ─▶ StartTls ─▶ Handshaking ─▶ Ehlo ─▶ Auth ─▶ Envelope ─▶ Data ─▶ Message ─▶ Quit ─▶ Finished
//!              │ refused                                            │ refused    │        │        ▲
//!              └─▶ Helo ───────────────────────────────────────────▶│            └────────┴─▶ Reset┘
//! ```
//!
//! Feed it what the server sent with [`Dialogue::receive`], then do what [`Dialogue::next_event`] says until it says
//! nothing. Extensions: STARTTLS (RFC 3207), AUTH PLAIN and LOGIN (RFC 4954, RFC 4616), SIZE (RFC 1870), 8BITMIME
//! (RFC 6152), SMTPUTF8 (RFC 6531), PIPELINING (RFC 2920; sender and recipients go out together, DATA waits for their
//! replies, so that no message is begun for nobody).
//!
//! Rules:
//! - Replies are bounded ([`REPLY_LINE_BYTES_MAX`], [`REPLY_BYTES_MAX`]); a server that talks without end is an error.
//! - Passwords cross an unencrypted connection only when [`Settings::force_clear_auth`] says so, and no event or error
//!   shows them. What was read before TLS began is never taken for something that came after (RFC 3207, section 6).
//! - Every error says at which step, after which command, and in which words of the server.
//!
//! Not here: sockets, TLS, time-outs, and how a message is made.

use std::collections::VecDeque;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::challenge::Secret;
use super::text::printable;

/// The longest line of a reply, in bytes. RFC 5321, section 4.5.3.1.5 asks servers for 512; some exceed it a little.
pub const REPLY_LINE_BYTES_MAX: usize = 2048;

/// All lines of one reply together, in bytes.
pub const REPLY_BYTES_MAX: usize = 64 * 1024;

/// When to encrypt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// STARTTLS, or nothing is sent.
    Required,
    /// STARTTLS where the server offers it. A third party on the path can prevent it.
    #[default]
    Opportunistic,
    /// Never.
    Off,
    /// The caller made the connection over TLS before the dialogue began (RFC 8314).
    Implicit,
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// User and password in one base64 text (RFC 4616).
    Plain,
    /// User, then password, each in base64 on a line of its own.
    Login,
}

impl Mechanism {
    /// The name in capabilities and commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }
}

/// Who logs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user's name.
    pub user: String,
    /// The password.
    pub password: Secret,
    /// The mechanism; `None` takes PLAIN where offered, else LOGIN.
    pub mechanism: Option<Mechanism>,
}

/// How to talk to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What EHLO says that this host is: a domain, or an address literal such as `[127.0.0.1]`.
    pub hello_name: String,
    /// When to encrypt.
    pub tls: Tls,
    /// Who logs in, if anybody.
    pub credentials: Option<Credentials>,
    /// Send the password even when the connection is not encrypted.
    pub force_clear_auth: bool,
}

/// A mailbox as it stands between the angle brackets of MAIL FROM and RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox(String);

/// Why a text cannot stand in MAIL FROM or RCPT TO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxError(String);

impl fmt::Display for MailboxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not a mail address: expected NAME@DOMAIN without spaces, angle brackets or control characters",
            self.0
        )
    }
}

impl std::error::Error for MailboxError {}

impl Mailbox {
    /// Takes `name@domain`; whether it exists is for the server to say.
    ///
    /// # Errors
    /// No `@` with something on both sides, more than 320 bytes, or a character that could end the command early.
    pub fn parse(text: &str) -> Result<Self, MailboxError> {
        let wrong = |c: char| c.is_control() || c.is_whitespace() || c == '<' || c == '>';
        match text.rsplit_once('@') {
            Some((name, domain))
                if !name.is_empty()
                    && !domain.is_empty()
                    && text.len() <= 320
                    && !text.contains(wrong) =>
            {
                Ok(Self(text.to_owned()))
            }
            _ => Err(MailboxError(text.to_owned())),
        }
    }

    /// The empty reverse path of notifications that must not be answered (RFC 5321, section 4.5.5).
    pub fn null() -> Self {
        Self(String::new())
    }

    /// The address, without brackets.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is to be delivered: the envelope and the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    from: Mailbox,
    to: Vec<Mailbox>,
    content: Vec<u8>,
}

impl Mail {
    /// `content` is the message with its headers; its line endings become CRLF, and the last line gets one. At least one
    /// recipient is needed.
    pub fn new(from: Mailbox, to: Vec<Mailbox>, content: &[u8]) -> Self {
        assert!(!to.is_empty(), "a mail has at least one recipient");
        Self {
            from,
            to,
            content: with_crlf(content),
        }
    }

    fn needs_8bit(&self) -> bool {
        !self.content.is_ascii()
    }

    fn needs_utf8(&self) -> bool {
        !self.from.0.is_ascii() || self.to.iter().any(|to| !to.0.is_ascii())
    }
}

/// The text with every line ending (CRLF, or CR or LF alone) as CRLF, one at the very end included.
pub fn with_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32 + 2);
    let mut rest = text;
    while let Some(at) = memchr::memchr2(b'\r', b'\n', rest) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(b"\r\n");
        rest = &rest[at
            + if rest[at..].starts_with(b"\r\n") {
                2
            } else {
                1
            }..];
    }
    out.extend_from_slice(rest);
    if !rest.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What goes out after 354: a dot more on each line that begins with one (RFC 5321, section 4.5.2), and the final dot.
/// `content` has CRLF line endings, see [`with_crlf`].
pub fn dot_stuffed(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + content.len() / 64 + 3);
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        if line.first() == Some(&b'.') {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// One reply of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Three digits, 200 to 599.
    pub code: u16,
    /// The text of each line behind code and separator; control characters are replaced, so it may be shown.
    pub lines: Vec<String>,
}

impl Reply {
    fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the same may succeed at another time (RFC 5321, section 4.2.1).
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

/// Puts replies together from pieces of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct ReplyReader {
    line: Vec<u8>,
    lines: Vec<String>,
    bytes: usize,
}

impl ReplyReader {
    /// Takes bytes up to the end of the next whole reply; what is left of `bytes` comes after it.
    fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, Problem> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (piece, rest) = bytes.split_at(end + 1);
            *bytes = rest;
            self.take(piece)?;
            if let Some(reply) = self.end_line()? {
                return Ok(Some(reply));
            }
        }
        let piece = std::mem::take(bytes);
        self.take(piece)?;
        Ok(None)
    }

    fn take(&mut self, piece: &[u8]) -> Result<(), Problem> {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > REPLY_BYTES_MAX {
            return Err(Problem::ReplyTooLong);
        }
        if self.line.len() + piece.len() > REPLY_LINE_BYTES_MAX {
            return Err(Problem::LineTooLong);
        }
        self.line.extend_from_slice(piece);
        Ok(())
    }

    /// Ends a line; answers the reply when it was the last one. A code is three digits, then `-` where more lines follow
    /// (RFC 5321, section 4.2).
    fn end_line(&mut self) -> Result<Option<Reply>, Problem> {
        let line = std::mem::take(&mut self.line);
        let line = line.trim_ascii_end();
        let not_smtp = || Problem::NotSmtp {
            line: printable(&line[..line.len().min(80)]),
        };
        let (digits, rest) = line.split_first_chunk::<3>().ok_or_else(not_smtp)?;
        if !digits.iter().all(u8::is_ascii_digit) || !(b'2'..=b'5').contains(&digits[0]) {
            return Err(not_smtp());
        }
        let code = digits
            .iter()
            .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(not_smtp()),
        };
        self.lines.push(printable(text));
        if !last {
            return Ok(None);
        }
        self.bytes = 0;
        Ok(Some(Reply {
            code,
            lines: std::mem::take(&mut self.lines),
        }))
    }

    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// What the server said that it can do, from its reply to EHLO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// STARTTLS is offered.
    pub starttls: bool,
    /// AUTH PLAIN is offered.
    pub auth_plain: bool,
    /// AUTH LOGIN is offered.
    pub auth_login: bool,
    /// Several commands may be sent at once.
    pub pipelining: bool,
    /// Bytes above 127 may stand in a message.
    pub eight_bit_mime: bool,
    /// Addresses may hold other characters than ASCII.
    pub smtputf8: bool,
    /// SIZE is offered, with the largest message in bytes where the server named one.
    pub size: Option<Option<u64>>,
}

impl Capabilities {
    /// Reads the lines after the first one of the reply to EHLO (RFC 5321, section 4.1.1.1); case does not matter.
    fn parse(reply: &Reply) -> Self {
        let mut capabilities = Self::default();
        for line in reply.lines.iter().skip(1) {
            let line = line.to_ascii_uppercase();
            // Some old servers write `AUTH=LOGIN`.
            let mut words = line.split([' ', '=', '\t']).filter(|word| !word.is_empty());
            match words.next() {
                Some("STARTTLS") => capabilities.starttls = true,
                Some("PIPELINING") => capabilities.pipelining = true,
                Some("8BITMIME") => capabilities.eight_bit_mime = true,
                Some("SMTPUTF8") => capabilities.smtputf8 = true,
                Some("SIZE") => {
                    let limit = words.next().and_then(|word| word.parse().ok());
                    capabilities.size = Some(limit.filter(|&limit| limit > 0));
                }
                Some("AUTH") => {
                    for word in words {
                        capabilities.auth_plain |= word == "PLAIN";
                        capabilities.auth_login |= word == "LOGIN";
                    }
                }
                _ => {}
            }
        }
        capabilities
    }
}

/// The part of the dialogue that something happened in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waiting for the server's first words.
    Greeting,
    /// EHLO or HELO.
    Hello,
    /// STARTTLS and the handshake behind it.
    StartTls,
    /// AUTH.
    Auth,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA.
    Data,
    /// The message itself, up to the reply to its final dot.
    Message,
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Greeting => "greeting",
            Self::Hello => "hello",
            Self::StartTls => "starttls",
            Self::Auth => "log-in",
            Self::Sender => "sender",
            Self::Recipient => "recipient",
            Self::Data => "data",
            Self::Message => "message",
            Self::Reset => "reset",
            Self::Quit => "quit",
        })
    }
}

/// Why a dialogue failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpError {
    /// Where.
    pub step: Step,
    /// After which command, with secrets hidden; `None` before the first one.
    pub command: Option<String>,
    /// What happened.
    pub problem: Problem,
}

impl SmtpError {
    /// Whether the same may succeed at another time.
    pub fn is_transient(&self) -> bool {
        matches!(&self.problem, Problem::Refused(reply) if reply.is_transient())
    }

    /// Whether the server said no, or could not be asked without breaking a rule of ours; the rest is a broken server
    /// or connection.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self.problem,
            Problem::Refused(_)
                | Problem::NotOffered { .. }
                | Problem::ClearText
                | Problem::TooLarge { .. }
        )
    }
}

impl fmt::Display for SmtpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at the step {}", self.step)?;
        if let Some(command) = &self.command {
            write!(f, " ({command})")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for SmtpError {}

/// What went wrong in a dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The server said no.
    Refused(Reply),
    /// The server said something that does not belong here.
    Unexpected(Reply),
    /// A line that does not begin with a reply code.
    NotSmtp {
        /// The beginning of the line.
        line: String,
    },
    /// A line without end.
    LineTooLong,
    /// A reply without end.
    ReplyTooLong,
    /// The connection ended.
    Closed,
    /// Something stood behind the reply to STARTTLS: somebody on the path may have put it there.
    Injected,
    /// The server lacks an extension that is needed.
    NotOffered {
        /// The extension.
        what: &'static str,
        /// What it is needed for.
        why: &'static str,
    },
    /// The password would have crossed the network unencrypted.
    ClearText,
    /// The message is larger than the server takes.
    TooLarge {
        /// The message, in bytes.
        size: u64,
        /// The server's limit, in bytes.
        limit: u64,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reply) => write!(f, "the server answered {reply}"),
            Self::Unexpected(reply) => write!(f, "unexpected answer {reply}"),
            Self::NotSmtp { line } => write!(f, "the server does not speak SMTP, it sent {line:?}"),
            Self::LineTooLong => write!(
                f,
                "the server sent a line of more than {REPLY_LINE_BYTES_MAX} bytes"
            ),
            Self::ReplyTooLong => write!(
                f,
                "the server sent a reply of more than {REPLY_BYTES_MAX} bytes"
            ),
            Self::Closed => f.write_str("the server closed the connection"),
            Self::Injected => f.write_str("bytes arrived in clear behind the reply to STARTTLS"),
            Self::NotOffered { what, why } => {
                write!(f, "the server does not offer {what}, needed {why}")
            }
            Self::ClearText => {
                f.write_str("the connection is not encrypted, so the password was not sent")
            }
            Self::TooLarge { size, limit } => {
                write!(f, "the message has {size} bytes, the server takes {limit}")
            }
        }
    }
}

/// A recipient that the server did not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecipient {
    /// Who.
    pub mailbox: Mailbox,
    /// The server's words.
    pub reply: Reply,
}

/// How a dialogue ended that came to an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The server's words when it took the message, or why it did not.
    pub delivered: Result<Reply, SmtpError>,
    /// Recipients that the server did not take; the others, if any, got the message.
    pub refused: Vec<RefusedRecipient>,
}

/// What the caller has to do or may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Send these bytes.
    Send {
        /// What goes to the server.
        bytes: Vec<u8>,
        /// The lines to show a person instead: no secrets, and the message as its size only.
        shown: Vec<String>,
    },
    /// The server sent this; for showing only.
    Received(Reply),
    /// Do a TLS handshake now, then call [`Dialogue::tls_started`].
    StartTls,
    /// It is over; close the connection.
    Finished(Outcome),
}

/// Where the dialogue stands, that is, which reply it waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Handshaking,
    /// AUTH LOGIN was sent: these lines are still to be sent, last first.
    AuthLogin {
        left: Vec<String>,
    },
    /// Everything of AUTH was sent.
    Auth,
    /// Of MAIL FROM (number 0) and RCPT TO (from 1 on), these many were sent and answered.
    Envelope {
        sent: usize,
        answered: usize,
        sender_refused: Option<SmtpError>,
    },
    Data,
    Message,
    Reset(Result<Reply, SmtpError>),
    Quit(Result<Reply, SmtpError>),
    Finished,
}

/// One delivery, from greeting to QUIT.
#[derive(Debug, Clone)]
pub struct Dialogue {
    settings: Settings,
    mail: Mail,
    state: State,
    encrypted: bool,
    capabilities: Capabilities,
    refused: Vec<RefusedRecipient>,
    reader: ReplyReader,
    events: VecDeque<Event>,
    command: Option<String>,
}

impl Dialogue {
    /// Begins with waiting for the greeting.
    pub fn new(settings: Settings, mail: Mail) -> Self {
        Self {
            encrypted: settings.tls == Tls::Implicit,
            settings,
            mail,
            state: State::Greeting,
            capabilities: Capabilities::default(),
            refused: Vec::new(),
            reader: ReplyReader::default(),
            events: VecDeque::new(),
            command: None,
        }
    }

    /// Takes in bytes of the server, cut anywhere.
    ///
    /// # Errors
    /// What makes going on pointless: no SMTP, replies without end. Refusals are no errors here: they lead to RSET and
    /// QUIT, then to [`Event::Finished`].
    pub fn receive(&mut self, bytes: &[u8]) -> Result<(), SmtpError> {
        let mut bytes = bytes;
        if self.state == State::Handshaking && !bytes.is_empty() {
            return Err(self.error(Problem::Injected));
        }
        while let Some(reply) = self
            .reader
            .read(&mut bytes)
            .map_err(|problem| self.error(problem))?
        {
            self.events.push_back(Event::Received(reply.clone()));
            self.handle(reply)?;
            if self.state == State::Handshaking && !bytes.is_empty() {
                return Err(self.error(Problem::Injected));
            }
            if self.state == State::Finished {
                break;
            }
        }
        Ok(())
    }

    /// The server closed the connection, or did not answer in time. After the message was taken or refused that changes
    /// nothing, and [`Event::Finished`] follows.
    ///
    /// # Errors
    /// Anywhere else it is one.
    pub fn closed(&mut self) -> Result<(), SmtpError> {
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Reset(delivered) | State::Quit(delivered) => {
                self.finish(delivered);
                Ok(())
            }
            State::Finished => Ok(()),
            state => {
                self.state = state;
                Err(self.error(Problem::Closed))
            }
        }
    }

    /// The TLS handshake that [`Event::StartTls`] asked for succeeded: everything before it is forgotten.
    pub fn tls_started(&mut self) {
        assert_eq!(
            self.state,
            State::Handshaking,
            "TLS starts when the dialogue asks for it"
        );
        self.encrypted = true;
        self.capabilities = Capabilities::default();
        self.ehlo();
    }

    /// What to do next; `None`: wait for the server.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Where the dialogue stands, for a time-out's message.
    pub fn step(&self) -> Step {
        match &self.state {
            State::Greeting => Step::Greeting,
            State::Ehlo | State::Helo => Step::Hello,
            State::StartTls | State::Handshaking => Step::StartTls,
            State::AuthLogin { .. } | State::Auth => Step::Auth,
            State::Envelope { answered: 0, .. } => Step::Sender,
            State::Envelope { .. } => Step::Recipient,
            State::Data => Step::Data,
            State::Message => Step::Message,
            State::Reset(_) => Step::Reset,
            State::Quit(_) | State::Finished => Step::Quit,
        }
    }

    /// The command whose reply is awaited, with secrets hidden; `None` before the first one.
    pub fn command(&self) -> Option<&str> {
        self.command.as_deref()
    }

    /// What the server offers, as far as it said.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn error(&self, problem: Problem) -> SmtpError {
        SmtpError {
            step: self.step(),
            command: self.command.clone(),
            problem,
        }
    }

    fn handle(&mut self, reply: Reply) -> Result<(), SmtpError> {
        // The server may say at any time that it is going down (RFC 5321, section 3.8).
        if reply.code == 421 && !matches!(self.state, State::Reset(_) | State::Quit(_)) {
            let error = self.error(Problem::Refused(reply));
            self.finish(Err(error));
            return Ok(());
        }
        match std::mem::replace(&mut self.state, State::Finished) {
            State::Greeting if reply.code == 220 => self.ehlo(),
            State::Ehlo if reply.is_positive() => {
                self.capabilities = Capabilities::parse(&reply);
                self.after_hello();
            }
            State::Ehlo if matches!(reply.code, 500 | 501 | 502 | 504 | 550) => {
                let line = format!("HELO {}", self.settings.hello_name);
                self.send(State::Helo, &line);
            }
            State::Helo if reply.is_positive() => self.after_hello(),
            State::StartTls if reply.code == 220 => {
                self.state = State::Handshaking;
                self.events.push_back(Event::StartTls);
            }
            State::StartTls if self.settings.tls == Tls::Opportunistic => self.log_in(),
            State::AuthLogin { mut left } if reply.code == 334 => match left.pop() {
                Some(line) => {
                    let state = if left.is_empty() {
                        State::Auth
                    } else {
                        State::AuthLogin { left }
                    };
                    self.send_hidden(state, &line);
                }
                None => self.fail(State::Auth, Problem::Unexpected(reply)),
            },
            State::Auth if reply.is_positive() => self.open_envelope(),
            State::Envelope {
                sent,
                answered,
                sender_refused,
            } => {
                self.answer_envelope(sent, answered, sender_refused, reply);
            }
            State::Data if reply.code == 354 => {
                let bytes = dot_stuffed(&self.mail.content);
                let shown = format!("({} bytes of message)", self.mail.content.len());
                self.state = State::Message;
                self.command = Some("the message and its final dot".to_owned());
                self.events.push_back(Event::Send {
                    bytes,
                    shown: vec![shown, ".".to_owned()],
                });
            }
            State::Message if reply.is_positive() => self.quit(Ok(reply)),
            State::Reset(delivered) => self.quit(delivered),
            State::Quit(delivered) => self.finish(delivered),
            // A reply that nothing asked for. What it means is unknown, so nothing after it can be trusted.
            state @ (State::Handshaking | State::Finished) => {
                self.state = state;
                return Err(self.error(Problem::Unexpected(reply)));
            }
            state if reply.code >= 400 => self.fail(state, Problem::Refused(reply)),
            state => self.fail(state, Problem::Unexpected(reply)),
        }
        Ok(())
    }

    fn ehlo(&mut self) {
        let line = format!("EHLO {}", self.settings.hello_name);
        self.send(State::Ehlo, &line);
    }

    fn after_hello(&mut self) {
        let wanted =
            !self.encrypted && matches!(self.settings.tls, Tls::Required | Tls::Opportunistic);
        if wanted && self.capabilities.starttls {
            self.send(State::StartTls, "STARTTLS");
        } else if wanted && self.settings.tls == Tls::Required {
            let problem = Problem::NotOffered {
                what: "STARTTLS",
                why: "because encryption is required",
            };
            self.fail(State::StartTls, problem);
        } else {
            self.log_in();
        }
    }

    fn log_in(&mut self) {
        let Some(Credentials {
            user,
            password,
            mechanism,
        }) = self.settings.credentials.clone()
        else {
            return self.open_envelope();
        };
        let Capabilities {
            auth_plain,
            auth_login,
            ..
        } = self.capabilities;
        let mechanism = match mechanism {
            None | Some(Mechanism::Plain) if auth_plain => Mechanism::Plain,
            None | Some(Mechanism::Login) if auth_login => Mechanism::Login,
            Some(Mechanism::Plain) => {
                return self.fail(
                    State::Auth,
                    Problem::NotOffered {
                        what: "AUTH PLAIN",
                        why: "to log in",
                    },
                );
            }
            Some(Mechanism::Login) => {
                return self.fail(
                    State::Auth,
                    Problem::NotOffered {
                        what: "AUTH LOGIN",
                        why: "to log in",
                    },
                );
            }
            None => {
                let why = "to log in";
                return self.fail(
                    State::Auth,
                    Problem::NotOffered {
                        what: "AUTH PLAIN or LOGIN",
                        why,
                    },
                );
            }
        };
        if !self.encrypted && !self.settings.force_clear_auth {
            return self.fail(State::Auth, Problem::ClearText);
        }
        match mechanism {
            Mechanism::Plain => {
                let text = [b"\0", user.as_bytes(), b"\0", password.expose()].concat();
                self.command = Some("AUTH PLAIN (hidden)".to_owned());
                self.state = State::Auth;
                self.events.push_back(Event::Send {
                    bytes: format!("AUTH PLAIN {}\r\n", BASE64.encode(text)).into_bytes(),
                    shown: vec!["AUTH PLAIN (hidden)".to_owned()],
                });
            }
            Mechanism::Login => {
                let left = vec![BASE64.encode(password.expose()), BASE64.encode(user)];
                self.send(State::AuthLogin { left }, "AUTH LOGIN");
            }
        }
    }

    /// MAIL FROM, with all RCPT TO where the server takes them at once.
    fn open_envelope(&mut self) {
        let Capabilities {
            eight_bit_mime,
            smtputf8,
            size,
            pipelining,
            ..
        } = self.capabilities;
        let bytes = self.mail.content.len() as u64;
        let envelope = State::Envelope {
            sent: 0,
            answered: 0,
            sender_refused: None,
        };
        match size {
            Some(Some(limit)) if bytes > limit => {
                return self.fail(envelope, Problem::TooLarge { size: bytes, limit });
            }
            _ if self.mail.needs_utf8() && !smtputf8 => {
                let why = "for an address with characters beyond ASCII";
                return self.fail(
                    envelope,
                    Problem::NotOffered {
                        what: "SMTPUTF8",
                        why,
                    },
                );
            }
            _ if self.mail.needs_8bit() && !eight_bit_mime => {
                let why = "for a message with bytes beyond ASCII";
                return self.fail(
                    envelope,
                    Problem::NotOffered {
                        what: "8BITMIME",
                        why,
                    },
                );
            }
            _ => {}
        }
        let sent = if pipelining {
            1 + self.mail.to.len()
        } else {
            1
        };
        self.send_envelope(0, sent);
        self.state = State::Envelope {
            sent,
            answered: 0,
            sender_refused: None,
        };
    }

    /// Sends the commands of the envelope from number `from` up to `to`, without it.
    fn send_envelope(&mut self, from: usize, to: usize) {
        let shown: Vec<String> = (from..to)
            .map(|number| self.envelope_command(number))
            .collect();
        let bytes = shown
            .iter()
            .flat_map(|line| [line.as_bytes(), b"\r\n"])
            .flatten()
            .copied()
            .collect();
        self.command = Some(self.envelope_command(from));
        self.events.push_back(Event::Send { bytes, shown });
    }

    fn envelope_command(&self, number: usize) -> String {
        if let Some(recipient) = number.checked_sub(1) {
            return format!("RCPT TO:<{}>", self.mail.to[recipient].0);
        }
        let mut command = format!("MAIL FROM:<{}>", self.mail.from.0);
        if self.capabilities.size.is_some() {
            command.push_str(&format!(" SIZE={}", self.mail.content.len()));
        }
        if self.mail.needs_8bit() {
            command.push_str(" BODY=8BITMIME");
        }
        if self.mail.needs_utf8() {
            command.push_str(" SMTPUTF8");
        }
        command
    }

    /// One reply to a command of the envelope: goes on to the next one, to DATA, or to RSET when nobody is left.
    fn answer_envelope(
        &mut self,
        sent: usize,
        answered: usize,
        sender_refused: Option<SmtpError>,
        reply: Reply,
    ) {
        self.state = State::Envelope {
            sent,
            answered,
            sender_refused: None,
        };
        self.command = Some(self.envelope_command(answered));
        let error = (!reply.is_positive()).then(|| self.error(Problem::Refused(reply.clone())));
        let sender_refused = match (answered, sender_refused) {
            (0, _) => error.clone(),
            (_, earlier) => earlier,
        };
        if let (Some(recipient), None, Some(_)) = (answered.checked_sub(1), &sender_refused, &error)
        {
            let mailbox = self.mail.to[recipient].clone();
            self.refused.push(RefusedRecipient { mailbox, reply });
        }
        let answered = answered + 1;
        if answered < sent {
            self.command = Some(self.envelope_command(answered));
            self.state = State::Envelope {
                sent,
                answered,
                sender_refused,
            };
        } else if let Some(error) = sender_refused {
            self.reset(Err(error));
        } else if sent <= self.mail.to.len() {
            self.send_envelope(sent, sent + 1);
            self.state = State::Envelope {
                sent: sent + 1,
                answered,
                sender_refused,
            };
        } else if self.refused.len() < self.mail.to.len() {
            self.send(State::Data, "DATA");
        } else if let Some(error) = error {
            self.reset(Err(error));
        }
    }

    /// Gives up at this state: RSET where a mail was begun, then QUIT, then the error.
    fn fail(&mut self, state: State, problem: Problem) {
        self.state = state;
        let error = self.error(problem);
        match &self.state {
            // Nothing was begun; without an open dialogue there is not even something to quit.
            State::Greeting
            | State::Ehlo
            | State::Helo
            | State::StartTls
            | State::Auth
            | State::AuthLogin { .. } => {
                self.quit(Err(error));
            }
            State::Envelope { sent: 0, .. } => self.quit(Err(error)),
            _ => self.reset(Err(error)),
        }
    }

    fn reset(&mut self, delivered: Result<Reply, SmtpError>) {
        self.send(State::Reset(delivered), "RSET");
    }

    fn quit(&mut self, delivered: Result<Reply, SmtpError>) {
        self.send(State::Quit(delivered), "QUIT");
    }

    fn finish(&mut self, delivered: Result<Reply, SmtpError>) {
        self.state = State::Finished;
        let refused = std::mem::take(&mut self.refused);
        self.events
            .push_back(Event::Finished(Outcome { delivered, refused }));
    }

    fn send(&mut self, state: State, line: &str) {
        self.state = state;
        self.command = Some(line.to_owned());
        self.events.push_back(Event::Send {
            bytes: format!("{line}\r\n").into_bytes(),
            shown: vec![line.to_owned()],
        });
    }

    fn send_hidden(&mut self, state: State, line: &str) {
        self.send(state, line);
        self.command = Some("AUTH LOGIN (hidden)".to_owned());
        if let Some(Event::Send { shown, .. }) = self.events.back_mut() {
            *shown = vec!["(hidden)".to_owned()];
        }
    }

    /// Whether bytes of an unfinished reply wait, which tells a slow server from a silent one in a time-out's message.
    pub fn is_mid_reply(&self) -> bool {
        !self.reader.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(tls: Tls) -> Settings {
        Settings {
            hello_name: "me".into(),
            tls,
            credentials: None,
            force_clear_auth: false,
        }
    }

    fn with_login(tls: Tls, mechanism: Option<Mechanism>) -> Settings {
        let credentials = Credentials {
            user: "ann".into(),
            password: "tulip".into(),
            mechanism,
        };
        Settings {
            credentials: Some(credentials),
            ..settings(tls)
        }
    }

    fn mail(to: &[&str], content: &str) -> Mail {
        let mailbox = |text: &str| Mailbox::parse(text).unwrap();
        Mail::new(
            mailbox("a@x"),
            to.iter().map(|to| mailbox(to)).collect(),
            content.as_bytes(),
        )
    }

    /// What came of a dialogue with a server that says these replies, one after each of our sends.
    struct Played {
        sent: Vec<String>,
        shown: Vec<String>,
        outcome: Result<Outcome, SmtpError>,
    }

    impl Played {
        fn error(&self) -> String {
            match &self.outcome {
                Err(error) => error.to_string(),
                Ok(outcome) => outcome.delivered.clone().unwrap_err().to_string(),
            }
        }
    }

    fn play_cut(settings: Settings, mail: Mail, replies: &[&str], piece_bytes: usize) -> Played {
        let mut dialogue = Dialogue::new(settings, mail);
        let (mut sent, mut shown) = (Vec::new(), Vec::new());
        let mut replies = replies.iter();
        loop {
            while let Some(event) = dialogue.next_event() {
                match event {
                    Event::Send {
                        bytes,
                        shown: lines,
                    } => {
                        sent.push(String::from_utf8(bytes).unwrap());
                        shown.extend(lines);
                    }
                    Event::Received(_) => {}
                    Event::StartTls => {
                        sent.push("(TLS)".into());
                        dialogue.tls_started();
                    }
                    Event::Finished(outcome) => {
                        return Played {
                            sent,
                            shown,
                            outcome: Ok(outcome),
                        };
                    }
                }
            }
            let result = match replies.next() {
                Some(reply) => reply
                    .as_bytes()
                    .chunks(piece_bytes)
                    .try_for_each(|piece| dialogue.receive(piece)),
                None => dialogue.closed(),
            };
            if let Err(error) = result {
                return Played {
                    sent,
                    shown,
                    outcome: Err(error),
                };
            }
        }
    }

    fn play(settings: Settings, mail: Mail, replies: &[&str]) -> Played {
        play_cut(settings, mail, replies, usize::MAX)
    }

    const GREETING: &str = "220 mx ready\r\n";
    const OK: &str = "250 ok\r\n";

    #[test]
    fn the_plain_dialogue() {
        let replies = [
            GREETING,
            "250-mx\r\n250 HELP\r\n",
            OK,
            OK,
            "354 go\r\n",
            "250 queued\r\n",
            "221 bye\r\n",
        ];
        let played = play(
            settings(Tls::Opportunistic),
            mail(&["b@y"], "S: x\n\n.dot\n"),
            &replies,
        );
        let expected = [
            "EHLO me\r\n",
            "MAIL FROM:<a@x>\r\n",
            "RCPT TO:<b@y>\r\n",
            "DATA\r\n",
            "S: x\r\n\r\n..dot\r\n.\r\n",
            "QUIT\r\n",
        ];
        assert_eq!(played.sent, expected);
        let outcome = played.outcome.unwrap();
        assert_eq!(outcome.delivered.unwrap().to_string(), "250 queued");
        assert_eq!(outcome.refused, []);
        assert!(
            played.shown.contains(&"(14 bytes of message)".to_owned()),
            "{:?}",
            played.shown
        );
    }

    #[test]
    fn a_missing_farewell_does_not_matter() {
        let replies = [GREETING, OK, OK, OK, "354 go\r\n", OK];
        assert!(
            play(settings(Tls::Off), mail(&["b@y"], "x"), &replies)
                .outcome
                .unwrap()
                .delivered
                .is_ok()
        );
    }

    #[test]
    fn ehlo_falls_back_to_helo() {
        let replies = [GREETING, "502 what\r\n", OK, OK, OK, "354 go\r\n", OK, OK];
        let played = play(settings(Tls::Opportunistic), mail(&["b@y"], "x"), &replies);
        assert_eq!(played.sent[..2], ["EHLO me\r\n", "HELO me\r\n"]);
        assert!(played.outcome.unwrap().delivered.is_ok());
    }

    #[test]
    fn starttls_then_login_with_capabilities_asked_again() {
        let clear = "250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n";
        let inside = "250-mx\r\n250 AUTH LOGIN\r\n";
        let replies = [
            GREETING,
            clear,
            "220 go\r\n",
            inside,
            "334 VXNlcm5hbWU6\r\n",
            "334 UGFzc3dvcmQ6\r\n",
            "235 in\r\n",
            OK,
            OK,
            "354 go\r\n",
            OK,
            OK,
        ];
        let played = play(
            with_login(Tls::Required, None),
            mail(&["b@y"], "x"),
            &replies,
        );
        let expected = [
            "EHLO me\r\n",
            "STARTTLS\r\n",
            "(TLS)",
            "EHLO me\r\n",
            "AUTH LOGIN\r\n",
            "YW5u\r\n",
            "dHVsaXA=\r\n",
        ];
        assert_eq!(played.sent[..7], expected);
        assert_eq!(played.shown[3..6], ["AUTH LOGIN", "(hidden)", "(hidden)"]);
        assert!(played.outcome.unwrap().delivered.is_ok());
    }

    #[test]
    fn plain_login_over_implicit_tls_is_preferred_and_hidden() {
        let replies = [
            GREETING,
            "250-mx\r\n250 AUTH LOGIN PLAIN\r\n",
            "535 no\r\n",
            "221 bye\r\n",
        ];
        let played = play(
            with_login(Tls::Implicit, None),
            mail(&["b@y"], "x"),
            &replies,
        );
        assert_eq!(played.sent[1], "AUTH PLAIN AGFubgB0dWxpcA==\r\n");
        assert_eq!(played.shown[1], "AUTH PLAIN (hidden)");
        assert_eq!(played.sent[2], "QUIT\r\n");
        assert_eq!(
            played.error(),
            "at the step log-in (AUTH PLAIN (hidden)): the server answered 535 no"
        );
        let replies = [
            GREETING,
            "250-mx\r\n250 AUTH LOGIN PLAIN\r\n",
            "334 x\r\n",
            "535 no\r\n",
            "221 bye\r\n",
        ];
        let played = play(
            with_login(Tls::Implicit, Some(Mechanism::Login)),
            mail(&["b@y"], "x"),
            &replies,
        );
        assert_eq!(played.sent[1], "AUTH LOGIN\r\n");
        assert!(played.error().contains("(AUTH LOGIN (hidden))"));
    }

    #[test]
    fn a_password_never_goes_in_clear_unless_forced() {
        let replies = [GREETING, "250-mx\r\n250 AUTH=PLAIN\r\n", "221 bye\r\n"];
        let played = play(
            with_login(Tls::Opportunistic, None),
            mail(&["b@y"], "x"),
            &replies,
        );
        assert_eq!(played.sent, ["EHLO me\r\n", "QUIT\r\n"]);
        assert!(
            played
                .error()
                .ends_with("not encrypted, so the password was not sent")
        );
        let forced = Settings {
            force_clear_auth: true,
            ..with_login(Tls::Off, None)
        };
        assert!(play(forced, mail(&["b@y"], "x"), &replies).sent[1].starts_with("AUTH PLAIN"));
    }

    #[test]
    fn required_tls_that_is_not_offered_or_refused_ends_it() {
        let played = play(
            settings(Tls::Required),
            mail(&["b@y"], "x"),
            &[GREETING, OK, "221 bye\r\n"],
        );
        assert!(
            played
                .error()
                .ends_with("does not offer STARTTLS, needed because encryption is required")
        );
        let replies = [
            GREETING,
            "250-mx\r\n250 STARTTLS\r\n",
            "454 not now\r\n",
            "221 bye\r\n",
        ];
        let played = play(settings(Tls::Required), mail(&["b@y"], "x"), &replies);
        assert_eq!(
            played.error(),
            "at the step starttls (STARTTLS): the server answered 454 not now"
        );
        let replies = [
            GREETING,
            "250-mx\r\n250 STARTTLS\r\n",
            "454 not now\r\n",
            OK,
            OK,
            "354 go\r\n",
            OK,
        ];
        assert!(
            play(settings(Tls::Opportunistic), mail(&["b@y"], "x"), &replies)
                .outcome
                .unwrap()
                .delivered
                .is_ok()
        );
    }

    #[test]
    fn words_behind_the_reply_to_starttls_are_an_attack() {
        let replies = [
            GREETING,
            "250-mx\r\n250 STARTTLS\r\n",
            "220 go\r\n250 AUTH PLAIN\r\n",
        ];
        let played = play(settings(Tls::Required), mail(&["b@y"], "x"), &replies);
        assert_eq!(played.outcome.unwrap_err().problem, Problem::Injected);
        let played = play_cut(settings(Tls::Required), mail(&["b@y"], "x"), &replies, 1);
        assert!(played.outcome.is_err());
    }

    #[test]
    fn recipients_may_be_refused_one_by_one() {
        let replies = [
            GREETING,
            OK,
            OK,
            "550 who\r\n",
            OK,
            "451 later\r\n",
            "354 go\r\n",
            OK,
            "221 bye\r\n",
        ];
        let played = play(
            settings(Tls::Off),
            mail(&["b@y", "c@y", "d@y"], "x"),
            &replies,
        );
        let outcome = played.outcome.unwrap();
        assert!(outcome.delivered.is_ok());
        let refused: Vec<_> = outcome
            .refused
            .iter()
            .map(|r| (r.mailbox.as_str(), r.reply.code))
            .collect();
        assert_eq!(refused, [("b@y", 550), ("d@y", 451)]);
    }

    #[test]
    fn nobody_left_means_rset_and_quit() {
        let replies = [GREETING, OK, OK, "550 who\r\n", OK, "221 bye\r\n"];
        let played = play(settings(Tls::Off), mail(&["b@y"], "x"), &replies);
        assert_eq!(played.sent[3..], ["RSET\r\n", "QUIT\r\n"]);
        assert_eq!(
            played.error(),
            "at the step recipient (RCPT TO:<b@y>): the server answered 550 who"
        );
        assert_eq!(played.outcome.unwrap().refused.len(), 1);
    }

    #[test]
    fn the_envelope_is_pipelined_and_announces_what_it_needs() {
        let ehlo = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
        let replies = [
            GREETING,
            ehlo,
            "250 a\r\n250 b\r\n550 c\r\n",
            "354 go\r\n",
            OK,
            "221 bye\r\n",
        ];
        let played = play(settings(Tls::Off), mail(&["b@y", "ü@y"], "grüß"), &replies);
        assert_eq!(
            played.sent[1],
            "MAIL FROM:<a@x> SIZE=8 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@y>\r\nRCPT TO:<ü@y>\r\n"
        );
        let outcome = played.outcome.unwrap();
        assert!(outcome.delivered.is_ok());
        assert_eq!(outcome.refused[0].mailbox.as_str(), "ü@y");
        // A refused sender makes the refusals of the recipients behind it mere consequences.
        let replies = [
            GREETING,
            ehlo,
            "451 a\r\n503 b\r\n503 c\r\n",
            OK,
            "221 bye\r\n",
        ];
        let played = play(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies);
        assert!(
            played
                .error()
                .ends_with("(MAIL FROM:<a@x> SIZE=3): the server answered 451 a"),
            "{}",
            played.error()
        );
        let outcome = played.outcome.unwrap();
        assert!(outcome.refused.is_empty() && outcome.delivered.unwrap_err().is_transient());
    }

    #[test]
    fn what_the_server_cannot_take_is_not_begun() {
        let error = |mail: Mail, ehlo: &str| {
            play(settings(Tls::Off), mail, &[GREETING, ehlo, "221 bye\r\n"]).error()
        };
        let sized = error(mail(&["b@y"], "123456789"), "250-mx\r\n250 SIZE 5\r\n");
        assert!(
            sized.ends_with("the message has 11 bytes, the server takes 5"),
            "{sized}"
        );
        assert!(error(mail(&["b@y"], "ü"), OK).contains("8BITMIME"));
        assert!(error(mail(&["ü@y"], "u"), OK).contains("SMTPUTF8"));
    }

    #[test]
    fn a_refused_message_is_reset() {
        let replies = [
            GREETING,
            OK,
            OK,
            OK,
            "354 go\r\n",
            "554 spam\r\n",
            OK,
            "221 bye\r\n",
        ];
        let played = play(settings(Tls::Off), mail(&["b@y"], "x"), &replies);
        assert_eq!(played.sent[5..], ["RSET\r\n", "QUIT\r\n"]);
        assert!(played.error().starts_with(
            "at the step message (the message and its final dot): the server answered 554"
        ));
    }

    #[test]
    fn servers_that_do_not_speak_smtp() {
        let error =
            |replies: &[&str]| play(settings(Tls::Off), mail(&["b@y"], "x"), replies).error();
        assert_eq!(
            error(&[]),
            "at the step greeting: the server closed the connection"
        );
        assert!(error(&["SSH-2.0-x\r\n"]).contains("does not speak SMTP, it sent \"SSH-2.0-x\""));
        assert!(error(&["\r\n"]).contains("does not speak SMTP"));
        assert!(
            error(&["220\x1b[31m x\r\n"]).contains("\u{fffd}[31m"),
            "control characters are not shown"
        );
        assert!(error(&[&"2".repeat(5000)]).contains("a line of more than 2048 bytes"));
        assert!(error(&[&"220-x\r\n".repeat(20_000)]).contains("a reply of more than 65536 bytes"));
        assert!(error(&[GREETING, "354 go\r\n", OK]).contains("unexpected answer 354 go"));
        assert!(error(&["421 closing\r\n"]).ends_with("the server answered 421 closing"));
        assert!(
            error(&[GREETING, OK, OK])
                .starts_with("at the step recipient (RCPT TO:<b@y>): the server closed")
        );
        assert!(
            error(&["554 no\r\n", "221 bye\r\n"])
                .starts_with("at the step greeting: the server answered 554 no")
        );
    }

    #[test]
    fn addresses() {
        for text in [
            "",
            "a",
            "a@",
            "@b",
            "a b@c",
            "a@b>\r\nDATA",
            "<a@b>",
            "a@b\n",
        ] {
            assert!(Mailbox::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Mailbox::parse("\"a@b\"@c").unwrap().as_str(), "\"a@b\"@c");
    }

    #[test]
    fn line_endings_and_dots() {
        assert_eq!(with_crlf(b"a\nb\rc\r\n\n"), b"a\r\nb\r\nc\r\n\r\n");
        assert_eq!(with_crlf(b"a"), b"a\r\n");
        assert_eq!(with_crlf(b""), b"");
        assert_eq!(
            dot_stuffed(b".\r\n..\r\na.\r\n"),
            b"..\r\n...\r\na.\r\n.\r\n"
        );
        assert_eq!(dot_stuffed(b""), b".\r\n");
    }

    proptest! {
        #[test]
        fn cuts_never_show(piece_bytes in 1_usize..20) {
            let replies = [
                GREETING, "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n", "250 a\r\n550-b\r\n550 b\r\n250 c\r\n",
                "354 go\r\n", OK, "221 bye\r\n",
            ];
            let whole = play(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies);
            let cut = play_cut(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies, piece_bytes);
            prop_assert_eq!(whole.sent, cut.sent);
            prop_assert_eq!(whole.outcome, cut.outcome);
        }

        #[test]
        fn no_bytes_panic(replies in proptest::collection::vec("(220|250|354|334|235|451|550|[0-9a-z]{0,4})[ -]?[A-Z]{0,4}\r?\n?", 0..12)) {
            let replies: Vec<&str> = replies.iter().map(String::as_str).collect();
            let _ = play(with_login(Tls::Opportunistic, None), mail(&["b@y", "c@y"], "x"), &replies);
        }

        /// A server that undoes the stuffing gets the message, and no line of it ends the message early.
        #[test]
        fn stuffing_is_undone(text in "[.a\r\n]{0,40}") {
            let content = with_crlf(text.as_bytes());
            let stuffed = dot_stuffed(&content);
            let mut undone = Vec::new();
            let mut lines = stuffed.split_inclusive(|&byte| byte == b'\n').peekable();
            while let Some(line) = lines.next() {
                prop_assert!(line.ends_with(b"\r\n"));
                prop_assert_eq!(line == b".\r\n", lines.peek().is_none());
                if lines.peek().is_some() {
                    undone.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
                }
            }
            prop_assert_eq!(undone, content);
        }
    }
}
