//! Kind `frame-echo`: messages with their length in front.

use std::num::NonZeroU32;
use std::time::Duration;

use super::small::TRANSFORMS;
use super::{Kind, Row, StreamConfig, Transform, Transport};
use crate::config::section::Section;

/// The bounds of `max_frame_bytes`: an answer three times as long has to have a length as well.
const FRAME_BYTES: std::ops::RangeInclusive<usize> = 1..=256 * 1024 * 1024;

/// The keys of kind `frame-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// Bytes of one frame, without its length. Key `max_frame_bytes`, default 1 MiB.
    pub frame_bytes_max: usize,
    /// Silence, or refusal to take our bytes, after which a connection is closed.
    /// Key `idle_timeout`, default 5 min.
    pub idle_timeout: Duration,
    /// Bytes a second that a frame must bring: each byte buys its share of a second, and
    /// `idle_timeout` is the most that can be in hand. `None` for no minimum. Key `min_body_rate`
    /// (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// What every kind over streams has.
    pub stream: StreamConfig,
}

impl Default for FrameEchoConfig {
    fn default() -> FrameEchoConfig {
        FrameEchoConfig {
            transform: Transform::default(),
            frame_bytes_max: 1024 * 1024,
            idle_timeout: Duration::from_secs(5 * 60),
            body_rate_min: NonZeroU32::new(240),
            stream: StreamConfig::default(),
        }
    }
}

impl FrameEchoConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "frame-echo",
        transport: Transport::Stream,
        port: 9002,
        attempt: "netlab-reactor tcp --frames {at} \"hello, world\"",
        read: |section| Kind::FrameEcho(FrameEchoConfig::read(section)),
    };

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> FrameEchoConfig {
        let mut config = FrameEchoConfig::default();
        section.choice("transform", &TRANSFORMS, &mut config.transform);
        section.memory_size("max_frame_bytes", FRAME_BYTES, &mut config.frame_bytes_max);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        config.stream.read(section);
        config
    }
}
