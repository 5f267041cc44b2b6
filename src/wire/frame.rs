//! Length-prefixed frames: a signed 32-bit little-endian length, then that many bytes.
//!
//! ```text
//! +------------+-------------------+
//! | i32le: N   | N bytes of payload|
//! +------------+-------------------+
//! ```
//!
//! Rules:
//! - The length is checked as soon as its four bytes are there, before any of the payload is waited
//!   for.
//! - A negative length, or one beyond the caller's limit, is an error that names both.
//! - Nothing is copied: a complete frame borrows its payload from the caller's buffer.
//!
//! Not here: what a payload means.

use std::fmt;

/// Bytes of the length in front of each frame.
pub const LENGTH_BYTES: usize = 4;

/// The longest payload that a length can announce.
pub const PAYLOAD_BYTES_MAX: usize = i32::MAX as usize;

/// What the front of a byte stream holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// The frame is not all there yet; at least this many bytes more are needed.
    Partial {
        /// How many bytes are certainly still to come; at least 1.
        missing: usize,
    },
    /// One whole frame.
    Complete {
        /// The bytes after the length.
        payload: &'a [u8],
        /// How many bytes to drop from the front of the stream: the length and the payload.
        consumed: usize,
    },
}

/// Why a length cannot be a frame's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The announced length is below zero.
    Negative {
        /// The length as read.
        length: i32,
        /// The largest length that the reader takes, in bytes.
        limit: usize,
    },
    /// The announced length, or the payload to encode, is above the limit.
    TooLong {
        /// The length as read or asked for, in bytes.
        length: usize,
        /// The largest length allowed, in bytes.
        limit: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Negative { length, limit } => {
                write!(
                    f,
                    "frame length {length} is negative (0 to {limit} bytes are accepted)"
                )
            }
            Self::TooLong { length, limit } => {
                write!(
                    f,
                    "frame length {length} is above the limit of {limit} bytes"
                )
            }
        }
    }
}

impl std::error::Error for FrameError {}

/// The payload length that a prefix announces, in bytes.
///
/// # Errors
/// A negative length, or one above `limit` bytes.
pub fn decode_length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = i32::from_le_bytes(prefix);
    let Ok(bytes) = usize::try_from(length) else {
        return Err(FrameError::Negative { length, limit });
    };
    if bytes > limit {
        return Err(FrameError::TooLong {
            length: bytes,
            limit,
        });
    }
    Ok(bytes)
}

/// Looks for one frame at the front of `bytes`; pure, so call it again with more bytes after
/// [`Frame::Partial`].
///
/// # Errors
/// A negative length, or one above `limit` bytes. The stream cannot be resynchronised after it.
pub fn decode(bytes: &[u8], limit: usize) -> Result<Frame<'_>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Ok(Frame::Partial {
            missing: LENGTH_BYTES - bytes.len(),
        });
    };
    let length = decode_length(*prefix, limit)?;
    Ok(match rest.get(..length) {
        Some(payload) => Frame::Complete {
            payload,
            consumed: LENGTH_BYTES + length,
        },
        None => Frame::Partial {
            missing: length - rest.len(),
        },
    })
}

/// The length prefix of a payload of `length` bytes.
///
/// # Errors
/// A payload longer than [`PAYLOAD_BYTES_MAX`].
pub fn encode_length(length: usize) -> Result<[u8; LENGTH_BYTES], FrameError> {
    match i32::try_from(length) {
        Ok(length) => Ok(length.to_le_bytes()),
        Err(_) => Err(FrameError::TooLong {
            length,
            limit: PAYLOAD_BYTES_MAX,
        }),
    }
}

/// Appends one frame around `payload` to `out`.
///
/// # Errors
/// A payload longer than [`PAYLOAD_BYTES_MAX`]; `out` is then unchanged.
pub fn encode(payload: &[u8], out: &mut Vec<u8>) -> Result<(), FrameError> {
    let prefix = encode_length(payload.len())?;
    out.extend_from_slice(&prefix);
    out.extend_from_slice(payload);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_length_is_little_endian() {
        let mut out = Vec::new();
        encode(b"abc", &mut out).unwrap();
        assert_eq!(out, b"\x03\0\0\0abc");
    }

    #[test]
    fn a_bad_length_is_refused_before_the_payload_comes() {
        assert_eq!(
            decode(b"\xff\xff\xff\xff", 10),
            Err(FrameError::Negative {
                length: -1,
                limit: 10
            })
        );
        assert_eq!(
            decode(b"\x0b\0\0\0", 10),
            Err(FrameError::TooLong {
                length: 11,
                limit: 10
            })
        );
        assert_eq!(
            FrameError::TooLong {
                length: 11,
                limit: 10
            }
            .to_string(),
            "frame length 11 is above the limit of 10 bytes"
        );
    }

    #[test]
    fn an_empty_frame_is_complete_with_its_length() {
        assert_eq!(
            decode(b"\0\0\0\0x", 10),
            Ok(Frame::Complete {
                payload: b"",
                consumed: 4
            })
        );
    }

    proptest! {
        #[test]
        fn frames_come_back_from_any_prefix(payload in proptest::collection::vec(any::<u8>(), 0..100), tail in any::<u8>()) {
            let mut stream = Vec::new();
            encode(&payload, &mut stream).unwrap();
            for cut in 0..stream.len() {
                let Ok(Frame::Partial { missing }) = decode(&stream[..cut], 100) else {
                    panic!("complete at {cut} of {}", stream.len());
                };
                prop_assert!(missing >= 1 && cut + missing <= stream.len());
            }
            stream.push(tail);
            prop_assert_eq!(
                decode(&stream, 100),
                Ok(Frame::Complete { payload: &payload, consumed: payload.len() + LENGTH_BYTES })
            );
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20), limit in 0_usize..100) {
            let _ = decode(&bytes, limit);
        }
    }
}
