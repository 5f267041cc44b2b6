//! AUTH (RFC 4954): PLAIN (RFC 4616) and LOGIN.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::reply::Capabilities;
use super::{Dialogue, Event, Problem, State};
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
    /// The mechanism; `None` takes PLAIN where offered, else LOGIN.
    pub mechanism: Option<Mechanism>,
}

impl Dialogue {
    /// Logs in, where there is somebody to log in, then opens the envelope.
    pub(super) fn log_in(&mut self) {
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

    pub(super) fn send_hidden(&mut self, state: State, line: &str) {
        self.send(state, line);
        self.command = Some("AUTH LOGIN (hidden)".to_owned());
        if let Some(Event::Send { shown, .. }) = self.events.back_mut() {
            *shown = vec!["(hidden)".to_owned()];
        }
    }
}
