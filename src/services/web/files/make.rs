//! The answer that is made of a file: itself and its compressed neighbours, each with its head, and with its body where that is
//! small. What a request changes of it (conditions, ranges, a last answer) is written from the same parts.

use std::fmt::Write;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use super::PRECONDITION_FAILED;
use crate::cache::files::Held;
use crate::disk::{Disk, File, Metadata, Version};
use crate::http::conditional::{Dated, EntityTag, Validators};
use crate::http::date::{DATE_BYTES, Date, unix_s};
use crate::http::head::{
    Headers, RequestHead, put_head_end, put_header, put_header_number, put_status_line,
};
use crate::http::negotiate::{AcceptedCodings, Coding};
use crate::http::persistence::Persistence;
use crate::http::range::{ByteRange, Multipart, put_content_range};
use crate::http::select::{self, Selection, select};
use crate::http::{Method, Status};
use crate::service::Cx;
use crate::services::web::reply::{Detail, Refusal, Reply, SERVER};

/// The largest body that is kept in memory behind its head: above, `sendfile` from the page cache is cheaper than a copy
/// through this process (measured: `loadtest/`).
const SMALL_BYTES_MAX: u64 = 8 * 1024;

/// How often a small file that changes while it is read is read again.
const READS_MAX: usize = 3;

/// What an answer takes in memory besides its bytes, about.
const MADE_BYTES: usize = 512;

/// The answer made of a file: itself, and its compressed neighbours.
pub(super) struct Made {
    pub(super) plain: Representation,
    pub(super) coded: Vec<(Coding, Representation)>,
}

/// One way to send a file.
pub(super) struct Representation {
    /// The whole head, its `Date` as of `date_s`, and the body if it is small.
    whole: Vec<u8>,
    head_bytes: usize,
    date_s: i64,
    /// The file and the version that the head promises; `None` where the body stands behind the head in `whole`.
    file: Option<(File, Rc<Version>)>,
    /// What the file was.
    was: Metadata,
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

/// Where the `Date` stands in [`Representation::whole`]: behind the status line and `Server`.
const DATE_AT: usize = "HTTP/1.1 200 OK\r\nServer: \r\nDate: ".len() + SERVER.len();

/// What an answer has of a file.
enum Contents {
    Small(Vec<u8>),
    /// It is read when it is sent.
    Large(Version),
}

/// Reads a small file, or notes the version of another; and what the file was then.
fn read(
    file: &File,
    mut metadata: Metadata,
    disk: &mut dyn Disk,
) -> io::Result<(Contents, Metadata)> {
    for _ in 0..READS_MAX {
        let contents = match metadata.len > SMALL_BYTES_MAX {
            true => disk.version(file, &metadata).ok().map(Contents::Large),
            false => {
                let mut bytes = vec![0; metadata.len as usize];
                read_whole(disk, file, &mut bytes)?.then_some(Contents::Small(bytes))
            }
        };
        let now = disk.metadata(file)?;
        // A file that changed while it was read would make an answer of two versions.
        if let Some(contents) = contents
            && now == metadata
        {
            return Ok((contents, metadata));
        }
        metadata = now;
    }
    let version = disk.version(file, &metadata)?;
    Ok((Contents::Large(version), metadata))
}

/// Reads from the beginning until `into` is full; whether there was as much.
fn read_whole(disk: &mut dyn Disk, file: &File, mut into: &mut [u8]) -> io::Result<bool> {
    let mut offset = 0;
    while !into.is_empty() {
        let count = disk.read_at(file, offset, into)?;
        if count == 0 {
            return Ok(false);
        }
        offset += count as u64;
        into = &mut into[count..];
    }
    Ok(true)
}

/// A strong tag: another inode, another length or another time is another version. Both times count, with the file system's
/// resolution, far below the second of `Last-Modified`: the one of modification can be set to what it was, and there are file
/// systems without the other.
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
    /// What it keeps from being closed or thrown away: open files, and bytes in memory.
    pub(super) fn held(&self) -> Held {
        let all = || std::iter::once(&self.plain).chain(self.coded.iter().map(|(_, coded)| coded));
        let open = |made: &Representation| Some((made.file.as_ref()?.0.clone(), made.was));
        Held {
            files: all().filter_map(open).collect(),
            bytes: all().map(|made| made.whole.len() + MADE_BYTES).sum(),
        }
    }

    /// Notes of each date whether a version before was shown under it.
    pub(super) fn follow(&mut self, former: &Made) {
        self.plain.follow(&former.plain);
        for (coding, coded) in &mut self.coded {
            let mut before = former.coded.iter();
            if let Some((_, before)) = before.find(|(before, _)| before == coding) {
                coded.follow(before);
            }
        }
    }

    /// Answers with the file, as the request's codings, conditions and ranges have it.
    #[inline]
    pub(super) fn put(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<(), Refusal> {
        let representation = match self.coded.is_empty() {
            true => &mut self.plain,
            false => self.choose(&head.headers),
        };
        representation.put(head, reply)
    }

    /// What the client likes best. One that takes nothing of what there is gets the file as it is: it is more use than 406.
    fn choose(&mut self, headers: &Headers<'_>) -> &mut Representation {
        let mut available = [Coding::Identity; Coding::ALL.len()];
        for (place, (coding, _)) in available.iter_mut().zip(&self.coded) {
            *place = *coding;
        }
        let chosen = AcceptedCodings::parse(headers).choose(&available);
        let mut coded = self.coded.iter_mut();
        match coded.find(|(coding, _)| Some(*coding) == chosen) {
            Some((_, representation)) => representation,
            None => &mut self.plain,
        }
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
        cx: &mut Cx<'_>,
    ) -> io::Result<(Self, Metadata)> {
        let (contents, metadata) = read(&file, metadata, cx.disk)?;
        let modified_s = unix_s(metadata.modified);
        let dated = match modified_s == unix_s(metadata.changed) {
            true => Dated::ByClock,
            false => Dated::BySomebody,
        };
        let tag = entity_tag(&metadata);
        let date_s = unix_s(cx.wall);
        let mut encoding = Vec::new();
        if coding != Coding::Identity {
            put_header(&mut encoding, "Content-Encoding", coding.name());
        }
        let mut whole = Vec::with_capacity(512);
        put_status_line(&mut whole, Status::OK);
        put_header(&mut whole, "Server", SERVER);
        put_header(&mut whole, "Date", Date::new(date_s));
        put_header(&mut whole, "Content-Type", content_type);
        whole.extend_from_slice(&encoding);
        put_header_number(&mut whole, "Content-Length", metadata.len);
        let modified_at = whole.len() + "Last-Modified: ".len();
        put_header(
            &mut whole,
            "Last-Modified",
            Date::new(modified_s.min(date_s)),
        );
        put_header(&mut whole, "ETag", &tag);
        put_header(&mut whole, "Accept-Ranges", "bytes");
        put_header(&mut whole, "X-Content-Type-Options", "nosniff");
        whole.extend_from_slice(lines);
        put_head_end(&mut whole);
        let head_bytes = whole.len();
        let file = match contents {
            Contents::Small(body) => {
                whole.extend_from_slice(&body);
                None
            }
            Contents::Large(version) => Some((file, Rc::new(version))),
        };
        whole.shrink_to_fit();
        let made = Self {
            whole,
            head_bytes,
            date_s,
            file,
            was: metadata,
            content_type: content_type.to_owned(),
            lines: lines.to_vec(),
            encoding,
            tag,
            modified_s,
            dated,
            modified_at,
            body_bytes: metadata.len,
        };
        Ok((made, metadata))
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
    fn put(&mut self, head: &RequestHead<'_>, reply: &mut Reply<'_, '_>) -> Result<(), Refusal> {
        self.set_date(reply);
        if !select::decides(&head.headers) {
            self.put_whole(head.method, reply);
            return Ok(());
        }
        let current = Validators {
            tag: EntityTag::parse(self.tag.as_bytes()),
            modified_s: Some(self.modified_s),
            date: self.dated,
        };
        let now_s = unix_s(reply.cx.wall);
        match select(head.method, &head.headers, &current, self.body_bytes, now_s) {
            Selection::Whole => self.put_whole(head.method, reply),
            Selection::NotModified => {
                let answer = reply.begin(Status::NOT_MODIFIED);
                self.put_validators(answer);
                put_head_end(answer);
                reply.send(0);
            }
            Selection::Failed => return Err(PRECONDITION_FAILED),
            Selection::Part(range) => self.put_part(range, reply),
            Selection::Parts(ranges) => self.put_parts(&ranges, reply),
            Selection::Unsatisfiable => {
                let text = "the file has none of the bytes that the request asks for";
                return Err(Refusal {
                    detail: Detail::Length(self.body_bytes),
                    ..Refusal::new(Status::RANGE_NOT_SATISFIABLE, text)
                });
            }
        }
        Ok(())
    }

    fn put_whole(&self, method: Method<'_>, reply: &mut Reply<'_, '_>) {
        let is_get = method == Method::Get;
        reply.answered(Status::OK, if is_get { self.body_bytes } else { 0 });
        if reply.persistence == Persistence::Stays && self.file.is_none() && is_get {
            reply.put(&self.whole); // the usual request: one copy
            return;
        }
        match reply.persistence.line() {
            b"" => reply.put(&self.whole[..self.head_bytes]),
            line => {
                reply.put(&self.whole[..self.head_bytes - 2]);
                reply.put(line);
                reply.put(b"\r\n");
            }
        }
        if is_get {
            self.put_body(0, self.body_bytes, reply);
        }
    }

    /// One range of it (RFC 9110 section 15.3.7.1).
    fn put_part(&self, range: ByteRange, reply: &mut Reply<'_, '_>) {
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
        self.put_body(range.start, range.end, reply);
    }

    /// Several ranges of it (RFC 9110 section 15.3.7.2).
    fn put_parts(&self, ranges: &[ByteRange], reply: &mut Reply<'_, '_>) {
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
        for &range in ranges {
            framing.clear();
            parts.put_part_head(&mut framing, range);
            reply.put(&framing);
            self.put_body(range.start, range.end, reply);
        }
        framing.clear();
        parts.put_end(&mut framing);
        reply.put(&framing);
    }

    /// Answers with it as the body of an error.
    pub(super) fn put_as(&self, status: Status, reply: &mut Reply<'_, '_>) {
        let answer = reply.begin(status);
        put_header(answer, "Content-Type", &self.content_type);
        put_header_number(answer, "Content-Length", self.body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
        put_head_end(answer);
        if reply.send(self.body_bytes) {
            self.put_body(0, self.body_bytes, reply);
        }
    }

    /// Some of the body, from memory or by `sendfile`.
    fn put_body(&self, start: u64, end: u64, reply: &mut Reply<'_, '_>) {
        match &self.file {
            None => reply.put(&self.whole[self.head_bytes..][start as usize..end as usize]),
            Some((file, version)) => {
                let (version, len) = (Some(version), end - start);
                reply
                    .tx
                    .put_file_as_of(file, version, start, len, reply.cx.pool);
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

/// Whether a compressed copy is older than its file. Tools that hand the file's time on may cut it to whole seconds; such a
/// copy is compared in seconds.
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
