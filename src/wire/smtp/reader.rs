//! Replies of the server, put together from pieces of a stream.

use super::problem::Problem;
use super::reply::{REPLY_BYTES_MAX, REPLY_LINE_BYTES_MAX, Reply};
use crate::wire::text::printable;

/// Puts replies together from pieces of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ReplyReader {
    pub(super) line: Vec<u8>,
    pub(super) lines: Vec<String>,
    pub(super) bytes: usize,
}

impl ReplyReader {
    /// Takes bytes up to the end of the next whole reply; what is left of `bytes` comes after it.
    pub(super) fn read(&mut self, bytes: &mut &[u8]) -> Result<Option<Reply>, Problem> {
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

    /// Ends a line; answers the reply when it was the last one. A code is three digits, then `-`
    /// where more lines follow (RFC 5321, section 4.2).
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

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}
