//! The answer that is made of a file: itself, its compressed neighbours and its forms, each with
//! its head, and with its body where that is small. What a request changes of it (conditions,
//! ranges, a last answer) is written from the same parts.

use std::fmt::Write;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, SystemTime};

use super::{PRECONDITION_FAILED, Progress};
use crate::cache::compressed::{Answer, Compressed, Source};
use crate::cache::files::Held;
use crate::disk::{Contents, File, Metadata, Version};
use crate::http::conditional::{Dated, EntityTag, Validators};
use crate::http::date::{DATE_BYTES, Date, unix_s};
use crate::http::head::{
    RequestHead, put_head_end, put_header, put_header_number, put_status_line,
};
use crate::http::negotiate::Coding;
use crate::http::range::{ByteRange, Multipart, put_content_range};
use crate::http::select::{self, Selection, select};
use crate::http::{Method, Status};
use crate::service::{Id, work};
use crate::services::web::forms::{self, Forms, put_coding, tag_of};
use crate::services::web::reply::{Detail, Refusal, Reply, SERVER};

/// The largest body that is kept in memory behind its head: above, `sendfile` from the page cache
/// is cheaper than a copy through this process (measured: `loadtest/`).
const SMALL_BYTES_MAX: u64 = 8 * 1024;

/// What an answer takes in memory besides its bytes, about.
const MADE_BYTES: usize = 512;

/// The answer made of a file: itself, its compressed neighbours, and the forms that are compressed
/// on the way.
pub(super) struct Made {
    plain: (Representation, Body),
    neighbours: Vec<(Coding, Representation, Body)>,
    forms: Forms,
    /// Those that were sent. What they are is known from then on, though they may have to be made
    /// again.
    formed: Vec<(Coding, Representation)>,
}

/// One way to send a file.
pub(super) struct Representation {
    /// The whole head, its `Date` as of `date_s`, and the body if it is [`Body::Behind`].
    whole: Vec<u8>,
    head_bytes: usize,
    date_s: i64,
    /// The turn in which `date_s` was looked at: all of a turn is one moment.
    date_turn: u64,
    content_type: String,
    /// Header lines that go with every answer about it, also with one that has no body.
    lines: Vec<u8>,
    /// `Content-Encoding`, if there is one, as a line.
    encoding: Vec<u8>,
    /// With its quotes.
    tag: String,
    modified_s: i64,
    /// What `modified_s` says of this version.
    dated: Dated,
    /// Where `Last-Modified` stands in `whole`.
    modified_at: usize,
    body_bytes: u64,
}

/// Where the body of a representation is.
pub(super) enum Body {
    /// Behind the head, in [`Representation::whole`].
    Behind,
    /// In a file, which is read when it is sent, of the version that the head promises.
    File {
        file: File,
        /// What it was.
        was: Metadata,
        version: Arc<Version>,
    },
    /// In memory, on loan: how long it is kept is not for the answer to say.
    Form(Rc<[u8]>),
}

/// Where the `Date` stands in [`Representation::whole`]: behind the status line and `Server`.
const DATE_AT: usize = "HTTP/1.1 200 OK\r\nServer: \r\nDate: ".len() + SERVER.len();

/// A strong tag: another inode, another length or another time is another version. Both times
/// count, with the file system's resolution, far below the second of `Last-Modified`: the one of
/// modification can be set to what it was, and there are file systems without the other.
fn entity_tag(metadata: &Metadata) -> String {
    let mut tag = String::with_capacity(64);
    // Invariant: writing to a String does not fail.
    let _ = write!(
        tag,
        "\"{:x}-{:x}-{:x}-{:x}\"",
        metadata.identity.1,
        metadata.len,
        nanoseconds(metadata.modified),
        nanoseconds(metadata.changed)
    );
    tag
}

impl Made {
    /// A file, before which its neighbours are preferred. `forms`: those that may be made of it.
    pub(super) fn new(
        plain: (Representation, Body),
        neighbours: Vec<(Coding, Representation, Body)>,
        forms: Forms,
    ) -> Self {
        Self {
            plain,
            neighbours,
            forms,
            formed: Vec::new(),
        }
    }

    /// What it keeps from being closed or thrown away: open files, and bytes in memory.
    pub(super) fn held(&self) -> Held {
        let neighbours = self.neighbours.iter().map(|(_, it, body)| (it, body));
        let (plain, body) = &self.plain;
        let all = || std::iter::once((plain, body)).chain(neighbours.clone());
        let open = |(_, body): (_, &Body)| match body {
            Body::File { file, was, .. } => Some((file.clone(), *was)),
            Body::Behind | Body::Form(_) => None,
        };
        let heads = self.forms.codings().count() * (plain.head_bytes + MADE_BYTES);
        let bytes: usize = all().map(|(it, _)| it.whole.len() + MADE_BYTES).sum();
        Held {
            files: all().filter_map(open).collect(),
            bytes: bytes + heads,
        }
    }

    /// Takes the place of the answer made of a version before: notes of each date whether that was
    /// shown under it.
    pub(super) fn follow(&mut self, former: &Made) {
        self.plain.0.follow(&former.plain.0);
        for (coding, neighbour, _) in &mut self.neighbours {
            let mut before = former.neighbours.iter();
            if let Some((_, before, _)) = before.find(|(before, ..)| before == coding) {
                neighbour.follow(before);
            }
        }
    }

    /// Throws away what others keep of it.
    pub(super) fn discard(&self, compressed: &mut Compressed<Id>) {
        self.forms.discard(compressed);
    }

    /// Sends it as it is, or as its neighbours: for what is made anew for each request.
    pub(super) fn forget_forms(&mut self) {
        self.forms = Forms::default();
    }

    /// Answers with the file, as the request's codings, conditions and ranges have it.
    #[inline]
    pub(super) fn put(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        if !self.neighbours.is_empty() || !self.forms.is_empty() {
            return self.put_chosen(head, reply);
        }
        let (plain, body) = &mut self.plain;
        plain.put(body, head, reply)
    }

    /// Answers with what the client likes best. A neighbour goes before a form: it is there, and
    /// whoever made it took their time.
    #[inline(never)] // most files are one, and the usual request is for the whole of it
    fn put_chosen(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let beside = self.neighbours.iter().map(|(coding, ..)| *coding);
        let coding = forms::choose(beside.chain(self.forms.codings()), &head.headers);
        let mut neighbours = self.neighbours.iter_mut();
        if let Some((_, neighbour, body)) = neighbours.find(|(of, ..)| *of == coding) {
            return neighbour.put(body, head, reply);
        }
        let (plain, body) = &mut self.plain;
        let form = match self.forms.ask(coding, || plain.source(body), reply) {
            Answer::Made(form) => form,
            Answer::Later => return Ok(Progress::Later),
            Answer::Plain => return plain.put(body, head, reply),
        };
        let known = self.formed.iter().position(|(of, _)| *of == coding);
        let place = known.unwrap_or(self.formed.len());
        if known.is_none() {
            self.formed.push((coding, plain.formed(coding, &form)));
        }
        let (len, body) = (plain.body_bytes, Body::Form(Rc::clone(&form)));
        let result = self.formed[place].1.put(&body, head, reply);
        forms::count(&form, len, reply);
        result
    }

    /// Answers with the file as the body of an error.
    pub(super) fn put_as(&self, status: Status, reply: &mut Reply<'_, '_>) {
        let (plain, body) = &self.plain;
        plain.put_as(status, body, reply);
    }
}

impl Representation {
    /// Reads a small file, remembers a large one; and what the file was then.
    pub(super) fn new(
        file: File,
        metadata: Metadata,
        content_type: &str,
        lines: &[u8],
        coding: Coding,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<io::Result<((Self, Body), Metadata)>> {
        let contents = reply.files().contents(&file, &metadata, SMALL_BYTES_MAX);
        let (contents, was) = ready!(contents)?;
        let modified_s = unix_s(was.modified);
        let dated = match modified_s == unix_s(was.changed) {
            true => Dated::ByClock,
            false => Dated::BySomebody,
        };
        let mut made = Self {
            whole: Vec::new(),
            head_bytes: 0,
            date_s: unix_s(reply.cx.wall),
            date_turn: reply.cx.turn,
            content_type: content_type.to_owned(),
            lines: lines.to_vec(),
            encoding: Vec::new(),
            tag: entity_tag(&was),
            modified_s,
            dated,
            modified_at: 0,
            body_bytes: was.len,
        };
        put_coding(&mut made.encoding, coding);
        made.write_head();
        let body = match contents {
            Contents::Small(body) => {
                made.whole.extend_from_slice(&body);
                Body::Behind
            }
            Contents::Large(version) => Body::File {
                file,
                was,
                version: Arc::new(version),
            },
        };
        made.whole.shrink_to_fit();
        Poll::Ready(Ok(((made, body), was)))
    }

    /// What a form of it is.
    fn formed(&self, coding: Coding, form: &[u8]) -> Self {
        let mut formed = Self {
            whole: Vec::new(),
            head_bytes: 0,
            date_s: self.date_s,
            date_turn: self.date_turn,
            content_type: self.content_type.clone(),
            lines: self.lines.clone(),
            encoding: Vec::new(),
            tag: tag_of(&self.tag, coding, form),
            modified_s: self.modified_s,
            dated: self.dated,
            modified_at: 0,
            body_bytes: form.len() as u64,
        };
        put_coding(&mut formed.encoding, coding);
        formed.write_head();
        formed.whole.shrink_to_fit();
        formed
    }

    /// Writes the head of the whole.
    fn write_head(&mut self) {
        let mut whole = Vec::with_capacity(512);
        put_status_line(&mut whole, Status::OK);
        put_header(&mut whole, "Server", SERVER);
        put_header(&mut whole, "Date", Date::new(self.date_s));
        put_header(&mut whole, "Content-Type", &self.content_type);
        whole.extend_from_slice(&self.encoding);
        put_header_number(&mut whole, "Content-Length", self.body_bytes);
        self.modified_at = whole.len() + "Last-Modified: ".len();
        put_header(
            &mut whole,
            "Last-Modified",
            Date::new(self.last_modified_s()),
        );
        put_header(&mut whole, "ETag", &self.tag);
        put_header(&mut whole, "Accept-Ranges", "bytes");
        put_header(&mut whole, "X-Content-Type-Options", "nosniff");
        whole.extend_from_slice(&self.lines);
        put_head_end(&mut whole);
        self.head_bytes = whole.len();
        self.whole = whole;
    }

    /// What it is compressed from.
    fn source(&self, body: &Body) -> Source {
        match body {
            Body::Behind => Source::Bytes(self.whole[self.head_bytes..].into()),
            Body::File { file, was, version } => Source::File {
                file: file.clone(),
                was: *was,
                version: Arc::clone(version),
            },
            Body::Form(form) => Source::Bytes(Rc::clone(form)),
        }
    }

    /// Notes that a version before was shown under the same date, if it was.
    fn follow(&mut self, former: &Representation) {
        let is_other = former.tag != self.tag || former.dated == Dated::Twice;
        if is_other && former.modified_s == self.modified_s {
            self.dated = Dated::Twice;
        }
    }

    /// The value of `Last-Modified`: never later than that of `Date` (RFC 9110 section 8.8.2.1).
    fn last_modified_s(&self) -> i64 {
        self.modified_s.min(self.date_s)
    }

    /// Gives the head the `Date` of this second.
    fn set_date(&mut self, reply: &mut Reply<'_, '_>) {
        if reply.cx.turn == self.date_turn {
            return;
        }
        self.date_turn = reply.cx.turn;
        let now_s = unix_s(reply.cx.wall);
        if now_s == self.date_s {
            return;
        }
        let shown_s = self.last_modified_s();
        self.date_s = now_s;
        self.whole[DATE_AT..][..DATE_BYTES].copy_from_slice(reply.date());
        if self.last_modified_s() != shown_s {
            let modified = Date::new(self.last_modified_s());
            self.whole[self.modified_at..][..DATE_BYTES].copy_from_slice(modified.as_bytes());
        }
    }

    /// Answers with it, as the request's conditions and ranges have it.
    #[inline]
    fn put(
        &mut self,
        body: &Body,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        self.set_date(reply);
        if select::decides(&head.headers) {
            return self.put_selected(body, head, reply);
        }
        self.put_whole(body, head.method, reply);
        Ok(Progress::Answered)
    }

    /// The same for a request that has some of those.
    #[inline(never)]
    fn put_selected(
        &self,
        body: &Body,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let current = Validators {
            tag: EntityTag::parse(self.tag.as_bytes()),
            modified_s: Some(self.modified_s),
            date: self.dated,
        };
        let now_s = unix_s(reply.cx.wall);
        match select(head.method, &head.headers, &current, self.body_bytes, now_s) {
            Selection::Whole => self.put_whole(body, head.method, reply),
            Selection::NotModified => {
                let answer = reply.begin(Status::NOT_MODIFIED);
                self.put_validators(answer);
                put_head_end(answer);
                reply.send(0);
            }
            Selection::Failed => return Err(PRECONDITION_FAILED.into()),
            Selection::Part(range) => self.put_part(range, body, reply),
            Selection::Parts(ranges) => self.put_parts(&ranges, body, reply),
            Selection::Unsatisfiable => {
                let text = "the file has none of the bytes that the request asks for";
                return Err(Box::new(Refusal {
                    detail: Detail::Length(self.body_bytes),
                    ..Refusal::new(Status::RANGE_NOT_SATISFIABLE, text)
                }));
            }
        }
        Ok(Progress::Answered)
    }

    fn put_whole(&self, body: &Body, method: Method<'_>, reply: &mut Reply<'_, '_>) {
        let is_get = method == Method::Get;
        reply.answered(Status::OK, if is_get { self.body_bytes } else { 0 });
        if !reply.is_particular() && matches!(body, Body::Behind) && is_get {
            reply.put(&self.whole); // the usual request: one copy
            return;
        }
        reply.put_head(&self.whole[..self.head_bytes]);
        if is_get {
            self.put_body(body, 0..self.body_bytes, reply);
        }
    }

    /// One range of it (RFC 9110 section 15.3.7.1).
    fn put_part(&self, range: ByteRange, body: &Body, reply: &mut Reply<'_, '_>) {
        let answer = reply.begin(Status::PARTIAL_CONTENT);
        put_header(answer, "Content-Type", &self.content_type);
        answer.extend_from_slice(&self.encoding);
        answer.extend_from_slice(b"Content-Range: ");
        put_content_range(answer, range, self.body_bytes);
        answer.extend_from_slice(b"\r\n");
        put_header_number(answer, "Content-Length", range.len());
        put_header(answer, "X-Content-Type-Options", "nosniff");
        self.put_validators(answer);
        put_head_end(answer);
        reply.send(range.len());
        self.put_body(body, range.start..range.end, reply);
    }

    /// Several ranges of it (RFC 9110 section 15.3.7.2).
    fn put_parts(&self, ranges: &[ByteRange], body: &Body, reply: &mut Reply<'_, '_>) {
        let mut seed = [0; 8];
        reply.cx.disk.entropy(&mut seed);
        let seed = u64::from_ne_bytes(seed);
        let parts = Multipart::new(seed, &self.content_type, self.body_bytes);
        let body_bytes = parts.body_bytes(ranges);
        let answer = reply.begin(Status::PARTIAL_CONTENT);
        answer.extend_from_slice(b"Content-Type: ");
        parts.put_content_type(answer);
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&self.encoding);
        put_header_number(answer, "Content-Length", body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
        self.put_validators(answer);
        put_head_end(answer);
        reply.send(body_bytes);
        let mut framing = Vec::new();
        reply.cx.work.charge_each(ranges.len(), work::RANGE_NS);
        for &range in ranges {
            framing.clear();
            parts.put_part_head(&mut framing, range);
            reply.put(&framing);
            self.put_body(body, range.start..range.end, reply);
        }
        framing.clear();
        parts.put_end(&mut framing);
        reply.put(&framing);
    }

    /// Answers with it as the body of an error.
    fn put_as(&self, status: Status, body: &Body, reply: &mut Reply<'_, '_>) {
        let answer = reply.begin(status);
        put_header(answer, "Content-Type", &self.content_type);
        put_header_number(answer, "Content-Length", self.body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
        put_head_end(answer);
        if reply.send(self.body_bytes) {
            self.put_body(body, 0..self.body_bytes, reply);
        }
    }

    /// Some of the body, from memory or by `sendfile`.
    fn put_body(&self, body: &Body, range: Range<u64>, reply: &mut Reply<'_, '_>) {
        let (start, len) = (range.start, range.end - range.start);
        let places = range.start as usize..range.end as usize;
        let pool = &mut *reply.cx.pool;
        match body {
            Body::Behind => reply.put(&self.whole[self.head_bytes..][places]),
            Body::Form(form) if len <= SMALL_BYTES_MAX => reply.put(&form[places]),
            Body::Form(form) => reply.tx.put_shared(form, places, pool),
            Body::File { file, version, .. } => {
                reply
                    .tx
                    .put_file_as_of(file, Some(version), start, len, pool);
            }
        }
    }

    fn put_validators(&self, answer: &mut Vec<u8>) {
        put_header(answer, "Last-Modified", Date::new(self.last_modified_s()));
        put_header(answer, "ETag", &self.tag);
        put_header(answer, "Accept-Ranges", "bytes");
        answer.extend_from_slice(&self.lines);
    }
}

/// Whether a compressed copy is older than its file. Tools that hand the file's time on may cut it
/// to whole seconds; such a copy is compared in seconds.
pub(super) fn is_older(copy: SystemTime, file: SystemTime) -> bool {
    match nanoseconds(copy) % 1_000_000_000 {
        0 => unix_s(copy) < unix_s(file),
        _ => copy < file,
    }
}

/// A moment in nanoseconds since the epoch.
fn nanoseconds(moment: SystemTime) -> i128 {
    let span = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => span(since),
        Err(error) => -span(error.duration()),
    }
}
