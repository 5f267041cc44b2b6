//! AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{Dialogue, Event, Problem, Reply, State};
use crate::wire::challenge::Secret;

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
    /// The mechanism; `None` takes PLAIN where offered, and LOGIN where it is not, or where the
    /// server refuses PLAIN.
    pub mechanism: Option<Mechanism>,
}

impl Dialogue {
    /// Logs in, where there is somebody to log in, then opens the envelope.
    pub(super) fn log_in(&mut self) {
        let Some(credentials) = &self.settings.credentials else {
            return self.open_envelope();
        };
        let (wanted, what): (&[Mechanism], _) = match credentials.mechanism {
            Some(Mechanism::Plain) => (&[Mechanism::Plain], "AUTH PLAIN"),
            Some(Mechanism::Login) => (&[Mechanism::Login], "AUTH LOGIN"),
            None => (&[Mechanism::Plain, Mechanism::Login], "AUTH PLAIN or LOGIN"),
        };
        let offered = |mechanism: &Mechanism| match mechanism {
            Mechanism::Plain => self.capabilities.auth_plain,
            Mechanism::Login => self.capabilities.auth_login,
        };
        let mut usable = wanted.iter().copied().filter(offered);
        let (first, next) = (usable.next(), usable.next());
        let state = State::Auth { next: None };
        match first {
            None => {
                let why = "to log in";
                self.fail(state, Problem::NotOffered { what, why });
            }
            Some(_) if !self.encrypted && !self.settings.force_clear_auth => {
                self.fail(state, Problem::ClearText);
            }
            Some(mechanism) => self.authenticate(mechanism, next),
        }
    }

    /// Begins with a mechanism; `next` is tried when the server refuses it. Servers offer what they
    /// cannot do with every user, or not at all (504).
    pub(super) fn authenticate(&mut self, mechanism: Mechanism, next: Option<Mechanism>) {
        let Some(Credentials { user, password, .. }) = &self.settings.credentials else {
            return self.open_envelope();
        };
        match mechanism {
            Mechanism::Plain => {
                let text = [b"\0", user.as_bytes(), b"\0", password.expose()].concat();
                let line = format!("AUTH PLAIN {}", BASE64.encode(text));
                self.send_hidden(State::Auth { next }, &line, "AUTH PLAIN (hidden)");
            }
            Mechanism::Login => {
                let left = vec![BASE64.encode(password.expose()), BASE64.encode(user)];
                self.send(State::AuthLogin { left }, "AUTH LOGIN");
            }
        }
    }

    /// The server asks for the next line of AUTH LOGIN, the user or the password; `left` are those
    /// to come, last first.
    pub(super) fn answer_login(&mut self, mut left: Vec<String>, reply: Reply) {
        let Some(line) = left.pop() else {
            return self.fail(State::Auth { next: None }, Problem::Unexpected(reply));
        };
        let state = match left.is_empty() {
            true => State::Auth { next: None },
            false => State::AuthLogin { left },
        };
        self.send_hidden(state, &line, "(hidden)");
        self.command = Some("AUTH LOGIN (hidden)".to_owned());
    }

    /// Sends a line that holds a secret; people see `shown` instead.
    fn send_hidden(&mut self, state: State, line: &str, shown: &str) {
        self.state = state;
        self.command = Some(shown.to_owned());
        self.events.push_back(Event::Send {
            bytes: format!("{line}\r\n").into_bytes(),
            shown: vec![shown.to_owned()],
        });
    }
}
