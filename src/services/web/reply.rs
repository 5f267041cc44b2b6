//! One answer: what is known of the request that it is for, where it goes, and what was sent.
//! Whoever answers writes through it, so that the head of every answer is written in one place and
//! the connection knows what came of the request.

use std::borrow::Cow;
use std::rc::Rc;

use super::html::Html;
use crate::buffer::SendQueue;
use crate::http::Status;
use crate::http::cors::Cors;
use crate::http::date::{DateCache, unix_s};
use crate::http::head::{Headers, put_head_end, put_header, put_header_number, put_status_line};
use crate::http::negotiate::ErrorFormat;
use crate::http::persistence::Persistence;
use crate::http::proxy_status::ProxyError;
use crate::inside::ring::Topic;
use crate::jobs::Asking;
use crate::metrics::Limit;
use crate::service::{Cx, Id, Peer, Waiter};

/// The methods of a file.
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The value of `Server`.
pub(super) const SERVER: &str = "netlab-reactor";

/// What was answered, for the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) status: Status,
    /// Bytes of the body, as far as it is sent.
    pub(super) body_bytes: u64,
}

/// Why a request is not answered as it wishes. It is returned to where every error is answered:
/// [`super::sites::Site::refuse`]; in a box from whatever may also answer, or the way of each
/// answer would have room for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub(super) struct Refusal {
    pub(super) status: Status,
    /// A sentence for people. It may name what the client sent.
    pub(super) text: Cow<'static, str>,
    pub(super) detail: Detail,
    /// What it is counted as, if it is for a limit.
    pub(super) limit: Option<Limit>,
}

/// What the head of an error says beside its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    None,
    /// The methods that there are (RFC 9110 section 15.5.6).
    Allow(&'static str),
    /// How many bytes there are, of which none was asked for (RFC 9110 section 15.5.17).
    Length(u64),
    /// Where to ask instead (RFC 9110 section 10.2.2).
    Location(String),
    /// Why the origin did not answer.
    Proxied(ProxyError),
}

impl Refusal {
    pub(super) const fn new(status: Status, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
            detail: Detail::None,
            limit: None,
        }
    }

    /// With a text that is made for this request.
    pub(super) fn told(status: Status, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            ..Self::new(status, "")
        }
    }

    /// For a client beyond a limit.
    pub(super) const fn beyond(limit: Limit, status: Status, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
            detail: Detail::None,
            limit: Some(limit),
        }
    }

    /// A method that the resource does not have.
    pub(super) const fn method(allow: &'static str) -> Self {
        Self {
            status: Status::METHOD_NOT_ALLOWED,
            text: Cow::Borrowed("this resource has other methods; see the Allow header"),
            detail: Detail::Allow(allow),
            limit: None,
        }
    }

    /// For a request to which its origin has no answer: what failed, and when.
    pub(super) fn proxied(status: Status, error: ProxyError, text: &str) -> Self {
        Self {
            detail: Detail::Proxied(error),
            ..Self::told(status, format!("{text} (phase: {})", error.phase()))
        }
    }

    /// For a request for which no origin is asked.
    pub(super) const fn unasked(status: Status, text: &'static str) -> Self {
        Self {
            status,
            text: Cow::Borrowed(text),
            detail: Detail::Proxied(ProxyError::ProxyInternalResponse),
            limit: None,
        }
    }

    /// Writes the header by which a proxy tells programs why it answers, if that is for an error.
    pub(super) fn put_proxy_status(&self, lines: &mut Vec<u8>) {
        let error = match self.detail {
            Detail::Proxied(error) => Some(error),
            _ => ProxyError::of(self.status),
        };
        if let Some(error) = error {
            error.put(lines, &self.text);
        }
    }

    /// What is asked for is elsewhere.
    pub(super) fn redirect(status: Status, text: &'static str, location: String) -> Self {
        Self {
            detail: Detail::Location(location),
            ..Self::new(status, text)
        }
    }
}

/// What all answers of a listener share: the time stamp of the second, and memory for the head
/// being written.
#[derive(Default)]
pub(super) struct Writer {
    date: DateCache,
    /// `Server` and `Date` as they stand in the head of every answer, and the second of that.
    stamp: (i64, Vec<u8>),
    scratch: Vec<u8>,
    /// What pages of other sites are told, in the answer at hand.
    cors: Vec<u8>,
    /// Whose response the answer at hand is, if it is what is kept of one; else empty.
    pub(super) kept_of: String,
}

impl Writer {
    /// Makes the lines that all heads of this second have.
    fn stamp_at(&mut self, unix_s: i64) {
        let (second, lines) = &mut self.stamp;
        if *second != unix_s || lines.is_empty() {
            *second = unix_s;
            lines.clear();
            put_header(lines, "Server", SERVER);
            put_header(lines, "Date", self.date.at(unix_s));
        }
    }
}

/// One answer.
pub(super) struct Reply<'r, 'c> {
    pub(super) tx: &'r mut SendQueue,
    pub(super) cx: &'r mut Cx<'c>,
    /// Which session is answered: for what wakes it later.
    pub(super) id: Id,
    /// Who asked, if anybody did who may have a share of something.
    pub(super) peer: Option<&'r Peer>,
    pub(super) persistence: Persistence,
    /// The request is a HEAD.
    without_body: bool,
    writer: &'r mut Writer,
    /// Header lines that the site adds to every answer of its own.
    pub(super) lines: Option<Rc<[u8]>>,
    /// The request may wait for a better form of what it asks for.
    pub(super) may_wait: bool,
    /// It may wait for the page of an error, too.
    pub(super) may_wait_for_page: bool,
    /// What was sent; `None` as long as nothing was.
    pub(super) sent: Option<Answered>,
}

impl<'r, 'c> Reply<'r, 'c> {
    /// An answer. `without_body`: to a HEAD.
    pub(super) fn new(
        without_body: bool,
        persistence: Persistence,
        writer: &'r mut Writer,
        (tx, cx, id): (&'r mut SendQueue, &'r mut Cx<'c>, Id),
    ) -> Self {
        writer.cors.clear();
        writer.kept_of.clear();
        Self {
            tx,
            cx,
            id,
            peer: None,
            persistence,
            without_body,
            writer,
            lines: None,
            may_wait: true,
            may_wait_for_page: false,
            sent: None,
        }
    }

    /// Files, for this session.
    pub(super) fn files(&mut self) -> Asking<'_, Waiter> {
        self.cx.files(Waiter::Session(self.id))
    }

    /// Queues bytes as they are.
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.tx.put(bytes, self.cx.pool);
    }

    /// Tells pages of other sites in the answer what they may do with it.
    pub(super) fn allow(&mut self, cors: &Cors, headers: &Headers<'_>) {
        let lines = &mut self.writer.cors;
        lines.extend_from_slice(cors.always());
        lines.extend_from_slice(cors.lines_for(headers));
    }

    /// Whether the head says anything of this request and its connection alone.
    pub(super) fn is_particular(&self) -> bool {
        !self.persistence.line().is_empty() || !self.writer.cors.is_empty()
    }

    /// Queues a head that was made before, with what it says of this request besides.
    pub(super) fn put_head(&mut self, head: &[u8]) {
        if !self.is_particular() {
            return self.put(head);
        }
        let (lines, end) = head.split_at(head.len() - b"\r\n".len());
        let pool = &mut *self.cx.pool;
        for part in [lines, self.persistence.line(), &self.writer.cors, end] {
            self.tx.put(part, pool);
        }
    }

    /// Begins a head: status line and the headers of every answer. What follows goes into the
    /// vector returned, which [`Reply::send`] sends.
    pub(super) fn begin(&mut self, status: Status) -> &mut Vec<u8> {
        self.answered(status, 0);
        self.writer.stamp_at(unix_s(self.cx.wall));
        let Writer {
            stamp: (_, stamp),
            scratch,
            cors,
            ..
        } = &mut *self.writer;
        scratch.clear();
        put_status_line(scratch, status);
        scratch.extend_from_slice(stamp);
        scratch.extend_from_slice(self.persistence.line());
        scratch.extend_from_slice(self.lines.as_deref().unwrap_or_default());
        scratch.extend_from_slice(cors);
        scratch
    }

    /// Sends what was begun. A body of `body_bytes` follows, unless the request is a HEAD: whether
    /// it does.
    pub(super) fn send(&mut self, body_bytes: u64) -> bool {
        self.tx.put(&self.writer.scratch, self.cx.pool);
        let follows = body_bytes > 0 && !self.without_body;
        if let Some(sent) = &mut self.sent
            && follows
        {
            sent.body_bytes = body_bytes;
        }
        follows
    }

    /// Notes what was sent by other means.
    pub(super) fn answered(&mut self, status: Status, body_bytes: u64) {
        self.sent = Some(Answered { status, body_bytes });
    }

    /// The same of what is kept of an origin's response.
    pub(super) fn answered_for(&mut self, origin: &str, answered: Answered) {
        let ring = &mut self.cx.inside.ring;
        ring.tell(self.id, Topic::Destination, || {
            format!("none: what is kept of {origin}")
        });
        self.writer.kept_of.push_str(origin);
        self.sent = Some(answered);
    }

    /// The time stamp of this second.
    pub(super) fn date(&mut self) -> &[u8] {
        self.writer.date.at(unix_s(self.cx.wall)).as_bytes()
    }

    /// An answer with a body of its own type.
    pub(super) fn body(&mut self, status: Status, content_type: &str, body: &[u8]) {
        if self.body_head(status, content_type, body.len() as u64) {
            self.put(body);
        }
    }

    /// The head of an answer with a body of so many bytes. Whether that is to follow.
    fn body_head(&mut self, status: Status, content_type: &str, body_bytes: u64) -> bool {
        let head = self.begin(status);
        put_header(head, "Content-Type", content_type);
        put_header_number(head, "Content-Length", body_bytes);
        put_header(head, "X-Content-Type-Options", "nosniff");
        put_head_end(head);
        self.send(body_bytes)
    }

    /// An answer in plain text.
    pub(super) fn plain(&mut self, status: Status, body: &[u8]) {
        self.body(status, "text/plain; charset=utf-8", body);
    }

    /// An answer in plain text that waits in a queue of its own.
    pub(super) fn plain_from(&mut self, status: Status, body: &mut SendQueue) {
        let body_bytes = body.memory_bytes() as u64;
        match self.body_head(status, "text/plain; charset=utf-8", body_bytes) {
            true => self.tx.append(body, self.cx.pool),
            false => body.clear(self.cx.pool),
        }
    }

    /// A small page, or a text, that says why there is nothing better.
    pub(super) fn error(&mut self, status: Status, text: &str, format: ErrorFormat) {
        match format {
            ErrorFormat::Html => {
                let page = format!(
                    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\n\
                     <h1>{status}</h1>\n<p>{}</p>\n</html>\n",
                    Html(text.as_bytes())
                );
                self.body(status, "text/html; charset=utf-8", page.as_bytes());
            }
            ErrorFormat::Text => self.plain(status, format!("{status}\n\n{text}\n").as_bytes()),
        }
    }

    /// The answer to OPTIONS (RFC 9110 section 9.3.7), with header lines for a preflight.
    pub(super) fn options(&mut self, allow: &str, lines: &[u8]) {
        let head = self.begin(Status::NO_CONTENT);
        put_header(head, "Allow", allow);
        head.extend_from_slice(lines);
        put_head_end(head);
        self.send(0);
    }
}
