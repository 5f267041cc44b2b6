//! One connection that is past handshake and login, and the answers that come over it.

use std::time::Duration;

use crate::client::Failure;
use crate::client::stream::Stream;
use crate::wire::frame::{self, Frame};
use crate::wire::upload::{Answer, HEADER_BYTES_MAX};

/// A connection that is past handshake and login, and what came over it.
pub(super) struct Link {
    pub(super) stream: Stream,
    pub(super) received: Vec<u8>,
    /// The server said `ready` on it.
    pub(super) is_ready: bool,
}

impl Link {
    /// The next whole answer; `None` at the end of the stream, or when `patience` is given and
    /// nothing came within it.
    pub(super) fn answer(&mut self, patience: Option<Duration>) -> Result<Wait, Failure> {
        loop {
            match frame::decode(&self.received, HEADER_BYTES_MAX) {
                Ok(Frame::Complete { payload, consumed }) => {
                    let answer = Answer::parse(payload);
                    let answer =
                        answer.ok_or_else(|| self.stream.broken("an answer came that is none"))?;
                    self.received.drain(..consumed);
                    return Ok(Wait::Answer(answer));
                }
                Ok(Frame::Partial { .. }) => {}
                Err(error) => return Err(self.stream.broken(&error.to_string())),
            }
            let mut piece = [0; 4096];
            let read = match patience {
                Some(wait) if self.received.is_empty() => {
                    self.stream.read_within(wait, &mut piece)?
                }
                _ => Some(self.stream.read(&mut piece)?),
            };
            match read {
                None => return Ok(Wait::Nothing),
                Some(0) if self.received.is_empty() => return Ok(Wait::End),
                Some(0) => return Err(self.stream.closed()),
                Some(bytes) => self.received.extend_from_slice(&piece[..bytes]),
            }
        }
    }
}

/// What waiting for an answer came to.
pub(super) enum Wait {
    Answer(Answer),
    Nothing,
    End,
}
