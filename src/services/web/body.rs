//! A request body that nobody sends on: read and dropped, or sent back by the probe.

use std::time::Instant;

use super::reply::Refusal;
use crate::config::HttpConfig;
use crate::http::Status;
use crate::http::body::BodyDecoder;
use crate::http::head::BodyLength;
use crate::http::persistence::Persistence;
use crate::metrics::Limit;
use crate::service::{Io, work};
use crate::services::prolonged;

pub(super) const BODY_TOO_LARGE: Refusal = Refusal::beyond(
    Limit::Body,
    Status::CONTENT_TOO_LARGE,
    "the body is longer than this server takes",
);

/// A request body that is being received.
pub(super) struct RequestBody {
    decoder: BodyDecoder,
    pub(super) until: Instant,
    /// Bytes that may still come, framing included.
    left: u64,
    /// The probe's `POST /`: the body is sent back when it is whole.
    pub(super) echo: Option<Echo>,
}

/// A body that is sent back, and what becomes of the connection then.
pub(super) struct Echo {
    pub(super) bytes: Vec<u8>,
    pub(super) persistence: Persistence,
}

/// What came of receiving some of a body.
pub(super) enum Received {
    Part,
    Whole,
    Bad(Refusal),
}

impl RequestBody {
    /// A body of this length that begins to come now.
    pub(super) fn new(
        length: BodyLength,
        echo: Option<Echo>,
        config: &HttpConfig,
        now: Instant,
    ) -> Self {
        Self {
            decoder: BodyDecoder::new(length),
            until: now + config.body_timeout,
            left: config.body_bytes_max,
            echo,
        }
    }

    /// Takes what has arrived of it, as far as the session's share of work goes.
    pub(super) fn receive(&mut self, config: &HttpConfig, io: &mut Io<'_>) -> Received {
        while !io.cx.work.is_spent() {
            let bytes = io.down.rx.bytes();
            let step = match self.decoder.step(bytes) {
                Ok(step) => step,
                Err(error) => {
                    return Received::Bad(Refusal::new(Status::BAD_REQUEST, error.text()));
                }
            };
            let consumed = step.consumed();
            if let Some(echo) = &mut self.echo {
                echo.bytes.extend_from_slice(&bytes[step.framing..consumed]);
            }
            io.down.rx.consume(consumed);
            if consumed > 0 {
                io.cx.work.charge(work::PIECE_NS);
            }
            let (rate_min, most) = (config.body_rate_min, config.body_timeout);
            self.until = prolonged(self.until, consumed, rate_min, io.cx.now, most);
            let Some(left) = self.left.checked_sub(consumed as u64) else {
                return Received::Bad(BODY_TOO_LARGE);
            };
            self.left = left;
            if step.done {
                return Received::Whole;
            }
            if consumed == 0 {
                break;
            }
        }
        Received::Part
    }
}
