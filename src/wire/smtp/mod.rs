//! The client's side of an SMTP dialogue (RFC 5321) as a pure state machine.
//!
//! ```text
//! Greeting ─▶ Ehlo ─▶ StartTls ─▶ Handshaking ─▶ Ehlo ─▶ Auth ─▶ Envelope ─▶ Data ─▶ Message ─▶ Quit ─▶ Finished
//!              │ refused                                            │ refused    │        │        ▲
//!              └─▶ Helo ───────────────────────────────────────────▶│            └────────┴─▶ Reset┘
//! ```
//!
//! Feed it what the server sent with [`Dialogue::receive`], then do what [`Dialogue::next_event`]
//! says until it says nothing. Extensions: STARTTLS (RFC 3207), AUTH PLAIN and LOGIN (RFC 4954, RFC
//! 4616), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), PIPELINING (RFC 2920; sender
//! and recipients go out together, DATA waits for their replies, so that no message is begun for
//! nobody).
//!
//! Rules:
//! - Replies are bounded ([`REPLY_LINE_BYTES_MAX`], [`REPLY_BYTES_MAX`]); a server that talks
//!   without end is an error.
//! - Passwords cross an unencrypted connection only when [`Settings::force_clear_auth`] says so,
//!   and no event or error shows them. What was read before TLS began is never taken for something
//!   that came after (RFC 3207, section 6).
//! - Every error says at which step, after which command, and in which words of the server.
//!
//! Not here: sockets, TLS, time-outs, and how a message is made.

mod auth;
mod content;
mod mailbox;
mod problem;
mod reader;
mod reply;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::auth::{Credentials, Mechanism};
pub use self::content::{dot_stuffed, with_crlf};
pub use self::mailbox::{MAILBOX_BYTES_MAX, Mailbox, MailboxError};
pub use self::problem::{Problem, SmtpError, SmtpStep};
use self::reader::ReplyReader;
pub use self::reply::{Capabilities, REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, Reply};

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

/// What is to be delivered: the envelope and the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail {
    from: Mailbox,
    to: Vec<Mailbox>,
    content: Vec<u8>,
}

impl Mail {
    /// `content` is the message with its headers; its line endings become CRLF, and the last line
    /// gets one. At least one recipient is needed.
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
        !self.from.as_str().is_ascii() || self.to.iter().any(|to| !to.as_str().is_ascii())
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
    /// Everything of AUTH was sent; another mechanism is left for when the server refuses this one.
    Auth {
        next: Option<Mechanism>,
    },
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
    /// What makes going on pointless: no SMTP, replies without end. Refusals are no errors here:
    /// they lead to RSET and QUIT, then to [`Event::Finished`].
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

    /// The server closed the connection, or did not answer in time. After the message was taken or
    /// refused that changes nothing, and [`Event::Finished`] follows.
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

    /// The TLS handshake that [`Event::StartTls`] asked for succeeded: everything before it is
    /// forgotten.
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
    pub fn step(&self) -> SmtpStep {
        match &self.state {
            State::Greeting => SmtpStep::Greeting,
            State::Ehlo | State::Helo => SmtpStep::Hello,
            State::StartTls | State::Handshaking => SmtpStep::StartTls,
            State::AuthLogin { .. } | State::Auth { .. } => SmtpStep::Auth,
            State::Envelope { answered: 0, .. } => SmtpStep::Sender,
            State::Envelope { .. } => SmtpStep::Recipient,
            State::Data => SmtpStep::Data,
            State::Message => SmtpStep::Message,
            State::Reset(_) => SmtpStep::Reset,
            State::Quit(_) | State::Finished => SmtpStep::Quit,
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
            State::AuthLogin { left } if reply.code == 334 => self.answer_login(left, reply),
            State::Auth { .. } if reply.is_positive() => self.open_envelope(),
            State::Auth { next: Some(next) } if reply.code >= 500 => self.authenticate(next, None),
            State::Envelope {
                sent,
                answered,
                sender_refused,
            } => {
                self.answer_envelope(sent, answered, sender_refused, reply);
            }
            State::Data if reply.code == 354 => self.send_content(),
            State::Message if reply.is_positive() => self.quit(Ok(reply)),
            State::Reset(delivered) => self.quit(delivered),
            State::Quit(delivered) => self.finish(delivered),
            // A reply that nothing asked for. What it means is unknown, so nothing after it can be
            // trusted.
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
            return format!("RCPT TO:<{}>", self.mail.to[recipient].as_str());
        }
        let mut command = format!("MAIL FROM:<{}>", self.mail.from.as_str());
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

    /// One reply to a command of the envelope: goes on to the next one, to DATA, or to RSET when
    /// nobody is left.
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

    fn send_content(&mut self) {
        let content = &self.mail.content;
        let shown = format!("({} bytes of message)", content.len());
        self.events.push_back(Event::Send {
            bytes: dot_stuffed(content),
            shown: vec![shown, ".".to_owned()],
        });
        self.state = State::Message;
        self.command = Some("the message and its final dot".to_owned());
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
            | State::Auth { .. }
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

    /// Whether bytes of an unfinished reply wait, which tells a slow server from a silent one in a
    /// time-out's message.
    pub fn is_mid_reply(&self) -> bool {
        !self.reader.is_empty()
    }
}
