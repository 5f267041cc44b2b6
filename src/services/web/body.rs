//! A request body that nobody sends on: read and dropped, or sent back by the probe.

use std::time::Instant;

use super::reply::Refusal;
use crate::buffer::{Pool, SendQueue};
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

const SCARCE: Refusal = Refusal::new(
    Status::SERVICE_UNAVAILABLE,
    "this server has no memory left for a body that it is to send back",
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
    /// In pages of the pool, so that it counts like all that waits to be sent.
    pub(super) body: SendQueue,
    pub(super) persistence: Persistence,
    /// When the first byte of the request came.
    pub(super) began: Instant,
}

impl Echo {
    pub(super) fn new(persistence: Persistence, began: Instant) -> Self {
        Self {
            body: SendQueue::new(u32::MAX),
            persistence,
            began,
        }
    }
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

    /// It is not to be sent back after all.
    pub(super) fn release(&mut self, pool: &mut Pool) {
        if let Some(mut echo) = self.echo.take() {
            echo.body.clear(pool);
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
                if io.cx.pool.is_scarce() && !echo.body.is_empty() {
                    return Received::Bad(SCARCE);
                }
                echo.body.put(&bytes[step.framing..consumed], io.cx.pool);
            }
            io.down.rx.consume(step.framing);
            io.down
                .rx
                .pass_unread(step.payload as u64 + self.decoder.payload_ahead());
            io.down.rx.consume(step.payload);
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
