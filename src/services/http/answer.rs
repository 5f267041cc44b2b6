//! Answers that are not files: short texts, errors, and the lines that every head shares.

use std::rc::Rc;
use std::time::SystemTime;

use super::Connection;
use crate::buffer::SendQueue;
use crate::http::date::{DateCache, unix_s};
use crate::http::head::{put_head_end, put_header, put_header_number, put_status_line};
use crate::http::{Method, Status};
use crate::metrics::Limit;
use crate::service::{Cx, Io};

/// The methods of a file.
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Where an answer goes, and what it may look at.
pub(super) struct Out<'a, 'c> {
    pub(super) tx: &'a mut SendQueue,
    pub(super) cx: &'a mut Cx<'c>,
}

impl<'a, 'c> Out<'a, 'c> {
    pub(super) fn of(io: &'a mut Io<'c>) -> Self {
        Out {
            tx: &mut io.down.tx,
            cx: &mut io.cx,
        }
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tx.put(bytes, self.cx.pool);
    }
}

/// What was answered last, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) status: Status,
    /// Bytes of the body, as far as it is sent.
    pub(super) body_bytes: u64,
}

/// Why a request is not answered as it wishes. It is returned to where every error is answered: [`super::sites::Site::refuse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Refusal {
    pub(super) status: Status,
    pub(super) text: &'static str,
    pub(super) detail: Detail,
    /// What it is counted as, if it is for a limit.
    pub(super) limit: Option<Limit>,
}

/// What the head of an error says beside its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    /// The methods that there are (RFC 9110 section 15.5.6).
    Allow(&'static str),
    /// How many bytes there are, of which none was asked for (RFC 9110 section 15.5.17).
    Length(u64),
}

impl Refusal {
    pub(super) const fn new(status: Status, text: &'static str) -> Self {
        Self {
            status,
            text,
            detail: Detail::None,
            limit: None,
        }
    }

    /// For somebody beyond a limit.
    pub(super) const fn beyond(limit: Limit, status: Status, text: &'static str) -> Self {
        Self {
            limit: Some(limit),
            ..Self::new(status, text)
        }
    }

    /// A method that the resource does not have.
    pub(super) const fn method(allow: &'static str) -> Self {
        Self {
            detail: Detail::Allow(allow),
            ..Self::new(
                Status::METHOD_NOT_ALLOWED,
                "this resource has other methods; see the Allow header",
            )
        }
    }
}

/// Writes answers.
pub(super) struct Answers {
    pub(super) answered: Answered,
    /// That was an error, and nothing was logged for it.
    pub(super) refused: bool,
    /// Header lines that the site at work adds to every answer of its own.
    pub(super) lines: Rc<[u8]>,
    date: DateCache,
    /// The answer being written, kept for its memory only.
    scratch: Vec<u8>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            answered: Answered {
                status: Status::OK,
                body_bytes: 0,
            },
            refused: false,
            lines: Rc::from([]),
            date: DateCache::default(),
            scratch: Vec::new(),
        }
    }
}

impl Answers {
    /// Begins a head: status line and the headers of every answer. What follows goes into the vector returned, which
    /// [`Answers::send`] sends.
    pub(super) fn begin(
        &mut self,
        status: Status,
        connection: Connection,
        wall: SystemTime,
    ) -> &mut Vec<u8> {
        self.scratch.clear();
        put_status_line(&mut self.scratch, status);
        put_header(&mut self.scratch, "Server", SERVER);
        put_header(&mut self.scratch, "Date", self.date.at(unix_s(wall)));
        self.scratch.extend_from_slice(connection.header());
        self.scratch.extend_from_slice(&self.lines);
        self.answered = Answered {
            status,
            body_bytes: 0,
        };
        &mut self.scratch
    }

    /// Sends what was begun.
    pub(super) fn send(&self, out: &mut Out<'_, '_>) {
        out.put(&self.scratch);
    }

    /// The time stamp of this second.
    pub(super) fn date(&mut self, wall: SystemTime) -> &[u8] {
        self.date.at(unix_s(wall)).as_bytes()
    }

    /// An answer with a body of its own type.
    pub(super) fn body(
        &mut self,
        status: Status,
        content_type: &str,
        body: &[u8],
        method: Method<'_>,
        connection: Connection,
        out: &mut Out<'_, '_>,
    ) {
        let head = self.begin(status, connection, out.cx.wall);
        put_header(head, "Content-Type", content_type);
        put_header_number(head, "Content-Length", body.len() as u64);
        put_header(head, "X-Content-Type-Options", "nosniff");
        put_head_end(head);
        if method != Method::Head {
            head.extend_from_slice(body);
            self.answered.body_bytes = body.len() as u64;
        }
        self.send(out);
    }

    /// An answer in plain text.
    pub(super) fn plain(
        &mut self,
        status: Status,
        body: &[u8],
        method: Method<'_>,
        connection: Connection,
        out: &mut Out<'_, '_>,
    ) {
        self.body(
            status,
            "text/plain; charset=utf-8",
            body,
            method,
            connection,
            out,
        );
    }

    /// A page that says why there is nothing better.
    pub(super) fn text(
        &mut self,
        status: Status,
        text: &str,
        method: Method<'_>,
        connection: Connection,
        out: &mut Out<'_, '_>,
    ) {
        let page = page(status, text);
        self.body(
            status,
            "text/html; charset=utf-8",
            page.as_bytes(),
            method,
            connection,
            out,
        );
    }

    /// The answer to OPTIONS (RFC 9110 section 9.3.7).
    pub(super) fn options(&mut self, connection: Connection, allow: &str, out: &mut Out<'_, '_>) {
        let head = self.begin(Status::NO_CONTENT, connection, out.cx.wall);
        put_header(head, "Allow", allow);
        put_head_end(head);
        self.send(out);
    }
}

/// The value of `Server`.
pub(super) const SERVER: &str = "netlab-reactor";

/// A small page. `text` is ours, never a client's.
fn page(status: Status, text: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\n\
         <h1>{status}</h1>\n<p>{text}</p>\n</html>\n"
    )
}
