//! Files of a folder: found, opened beneath the root, answered.
//!
//! An answer is made once for each file and kept with its open descriptor: status line, headers and, for a small file, the
//! body behind them, so that a request costs one look-up and one copy. A larger body follows its head by `sendfile`. What a
//! request changes (conditions, ranges, a last answer) is written anew from the same parts.

use std::fmt::Write;
use std::io;
use std::path::Path;

use super::Connection;
use super::answer::{Answers, Out, SERVER};
use crate::buffer::File;
use crate::cache::files::{self, FileCache};
use crate::config::HttpConfig;
use crate::http::conditional::{self, EntityTag, Outcome, Validators};
use crate::http::date::{DATE_BYTES, Date, unix_s};
use crate::http::head::{
    RequestHead, put_head_end, put_header, put_header_number, put_status_line,
};
use crate::http::mime::MediaTypes;
use crate::http::path::{SafePath, encode};
use crate::http::range::{Multipart, Ranges, put_content_range, put_content_range_unsatisfied};
use crate::http::{Method, Status};
use crate::service::{FileKind, Metadata};

/// The largest body that is kept in memory behind its head: above, `sendfile` from the page cache is cheaper than a copy
/// through this process (measured: `loadtest/`).
const SMALL_BYTES_MAX: u64 = 8 * 1024;

/// The files of one root.
pub(super) struct Files {
    root: File,
    index: Vec<String>,
    media_types: MediaTypes,
    cache: FileCache<Made>,
}

/// The answer made of a file.
struct Made {
    /// The whole head, its `Date` as of `date_s`, and the body if it is small.
    whole: Vec<u8>,
    head_bytes: usize,
    date_s: u64,
    /// The body stands behind the head in `whole`.
    in_memory: bool,
    content_type: String,
    /// With its quotes.
    tag: String,
    modified_s: u64,
    body_bytes: u64,
}

/// Where the `Date` stands in [`Made::whole`]: behind the status line and `Server`.
const DATE_AT: usize = "HTTP/1.1 200 OK\r\nServer: \r\nDate: ".len() + SERVER.len();

impl Files {
    pub(super) fn new(root: File, config: &HttpConfig) -> Self {
        let limits = files::Limits {
            entries_max: config.open_files_max,
            bytes_max: config.memory_bytes_max,
        };
        Self {
            root,
            index: config.index.clone(),
            media_types: MediaTypes::default(),
            cache: FileCache::new(limits),
        }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_>,
    ) {
        let Some(path) = head.target.path() else {
            return answers.refuse(Status::BAD_REQUEST, "a path was expected", head.method, out);
        };
        if let Some(entry) = self.cache.get(path, out.now, out.disk, &self.root) {
            return put_file(
                &entry.file,
                &mut entry.value,
                head,
                connection,
                answers,
                out,
            );
        }
        match self.find(path, out) {
            Ok(Found::File {
                name,
                file,
                metadata,
            }) => match self.make(&name, &file, &metadata, out) {
                Ok(mut made) => {
                    put_file(&file, &mut made, head, connection, answers, out);
                    let bytes = made.whole.len();
                    self.cache.insert(
                        path,
                        Path::new(&name),
                        (file, metadata),
                        made,
                        bytes,
                        out.now,
                    );
                }
                Err(error) => {
                    log::error!("{name}: {error}");
                    let text = "the file could not be read";
                    answers.text(
                        Status::INTERNAL_SERVER_ERROR,
                        text,
                        head.method,
                        connection,
                        out,
                    );
                }
            },
            Ok(Found::Folder { location }) => {
                answers.redirect(
                    Status::MOVED_PERMANENTLY,
                    &location,
                    head.method,
                    connection,
                    out,
                );
            }
            Err(Refusal { status, text }) => {
                answers.text(status, text, head.method, connection, out);
            }
        }
    }

    /// What a request path leads to.
    fn find(&self, path: &str, out: &mut Out<'_>) -> Result<Found, Refusal> {
        let safe = SafePath::parse(path).map_err(|error| Refusal {
            status: Status::BAD_REQUEST,
            text: error.text(),
        })?;
        if safe.is_hidden() {
            return Err(NOT_FOUND);
        }
        let (file, metadata) = self.open(&safe.relative, out)?;
        match (metadata.kind, safe.folder) {
            (FileKind::Regular, false) => Ok(Found::File {
                name: safe.relative.into_owned(),
                file,
                metadata,
            }),
            (FileKind::Folder, true) => self.find_index(&safe.relative, out),
            (FileKind::Folder, false) => {
                let location = format!("/{}/", encode(&safe.relative));
                Ok(Found::Folder { location })
            }
            (FileKind::Regular, true) => Err(NOT_FOUND),
            (FileKind::Other, _) => Err(Refusal {
                status: Status::FORBIDDEN,
                text: "this is neither a file nor a folder",
            }),
        }
    }

    fn find_index(&self, folder: &str, out: &mut Out<'_>) -> Result<Found, Refusal> {
        for index in &self.index {
            let name = if folder.is_empty() {
                index.clone()
            } else {
                format!("{folder}/{index}")
            };
            if let Ok((file, metadata)) = self.open(&name, out)
                && metadata.kind == FileKind::Regular
            {
                return Ok(Found::File {
                    name,
                    file,
                    metadata,
                });
            }
        }
        Err(Refusal {
            status: Status::FORBIDDEN,
            text: "this folder has no index, and listings are off",
        })
    }

    fn open(&self, name: &str, out: &mut Out<'_>) -> Result<(File, Metadata), Refusal> {
        let opened = out.disk.open(&self.root, Path::new(name)).and_then(|file| {
            let metadata = out.disk.metadata(&file)?;
            Ok((file, metadata))
        });
        opened.map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => Refusal {
                status: Status::FORBIDDEN,
                text: "this file may not be read",
            },
            // A way out of the root, a loop of links, a name that is too long: nothing that this server has.
            _ if is_absent(&error) => NOT_FOUND,
            _ => {
                log::error!("{name}: {error}");
                Refusal {
                    status: Status::SERVICE_UNAVAILABLE,
                    text: "the file cannot be opened now",
                }
            }
        })
    }

    /// Makes the answer of a file.
    fn make(
        &self,
        name: &str,
        file: &File,
        metadata: &Metadata,
        out: &mut Out<'_>,
    ) -> io::Result<Made> {
        let modified_s = unix_s(metadata.modified);
        let tag = entity_tag(metadata);
        let content_type = self.media_types.of(name).into_owned();
        let date_s = unix_s(out.wall);
        let mut whole = Vec::with_capacity(512);
        put_status_line(&mut whole, Status::OK);
        put_header(&mut whole, "Server", SERVER);
        put_header(&mut whole, "Date", Date::new(date_s));
        put_header(&mut whole, "Content-Type", &content_type);
        put_header_number(&mut whole, "Content-Length", metadata.len);
        put_header(&mut whole, "Last-Modified", Date::new(modified_s));
        put_header(&mut whole, "ETag", &tag);
        put_header(&mut whole, "Accept-Ranges", "bytes");
        put_header(&mut whole, "X-Content-Type-Options", "nosniff");
        put_head_end(&mut whole);
        let head_bytes = whole.len();
        let in_memory = metadata.len <= SMALL_BYTES_MAX;
        if in_memory {
            whole.resize(head_bytes + metadata.len as usize, 0);
            read_exact(out, file, &mut whole[head_bytes..])?;
            // A file that changes while it is read would make an answer of two versions.
            if out.disk.metadata(file)? != *metadata {
                return Err(io::Error::other("the file changed while it was read"));
            }
        }
        whole.shrink_to_fit();
        Ok(Made {
            whole,
            head_bytes,
            date_s,
            in_memory,
            content_type,
            tag,
            modified_s,
            body_bytes: metadata.len,
        })
    }
}

/// What a path leads to.
enum Found {
    /// A file, by its name relative to the root.
    File {
        name: String,
        file: File,
        metadata: Metadata,
    },
    /// A folder asked for without its slash: relative links in its index need it.
    Folder { location: String },
}

/// Why there is no file to send.
struct Refusal {
    status: Status,
    text: &'static str,
}

const NOT_FOUND: Refusal = Refusal {
    status: Status::NOT_FOUND,
    text: "there is no such file here",
};

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, InvalidFilename, NotADirectory, NotFound};
    matches!(
        error.kind(),
        CrossesDevices | InvalidFilename | NotADirectory | NotFound
    ) || error.raw_os_error() == Some(libc::ELOOP)
}

fn read_exact(out: &mut Out<'_>, file: &File, mut into: &mut [u8]) -> io::Result<()> {
    let mut offset = 0;
    while !into.is_empty() {
        let count = out.disk.read_at(file, offset, into)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        offset += count as u64;
        into = &mut into[count..];
    }
    Ok(())
}

/// A strong tag: another inode, another length or another time of change is another version. The time has the file system's
/// resolution, far below the second of `Last-Modified`.
fn entity_tag(metadata: &Metadata) -> String {
    let since = metadata
        .modified
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let mut tag = String::with_capacity(48);
    // Invariant: writing to a String does not fail.
    let _ = write!(
        tag,
        "\"{:x}-{:x}-{:x}\"",
        metadata.identity.1,
        metadata.len,
        since.as_nanos()
    );
    tag
}

impl Made {
    fn set_date(&mut self, answers: &mut Answers, out: &Out<'_>) {
        let now_s = unix_s(out.wall);
        if now_s != self.date_s {
            self.date_s = now_s;
            self.whole[DATE_AT..DATE_AT + DATE_BYTES].copy_from_slice(answers.date(out.wall));
        }
    }
}

/// Answers with a file, as the request's conditions and ranges have it.
fn put_file(
    file: &File,
    made: &mut Made,
    head: &RequestHead<'_>,
    connection: Connection,
    answers: &mut Answers,
    out: &mut Out<'_>,
) {
    made.set_date(answers, out);
    let conditional = CONDITIONS.iter().any(|name| head.headers.contains(name));
    if conditional && put_conditional(file, made, head, connection, answers, out) {
        return;
    }
    if connection == Connection::Keep && made.in_memory && head.method == Method::Get {
        return out.put(&made.whole); // the usual request: one copy
    }
    put_head(made, connection, out);
    if head.method == Method::Get {
        put_body(file, made, 0, made.body_bytes, out);
    }
}

/// The headers that may make the answer another one than the whole file.
const CONDITIONS: [&str; 5] = [
    "range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
];

/// The head of the whole file.
fn put_head(made: &Made, connection: Connection, out: &mut Out<'_>) {
    if connection == Connection::Keep {
        return out.put(&made.whole[..made.head_bytes]);
    }
    out.put(&made.whole[..made.head_bytes - 2]);
    out.put(connection.header());
    out.put(b"\r\n");
}

/// Some of the body, from memory or by `sendfile`.
fn put_body(file: &File, made: &Made, start: u64, end: u64, out: &mut Out<'_>) {
    if made.in_memory {
        out.put(&made.whole[made.head_bytes..][start as usize..end as usize]);
    } else {
        out.tx.put_file(file, start, end - start, out.pool);
    }
}

/// Answers a request with conditions or ranges in the order of RFC 9110 section 13.2.2. Whether that was an answer: `false`
/// means the whole file.
fn put_conditional(
    file: &File,
    made: &Made,
    head: &RequestHead<'_>,
    connection: Connection,
    answers: &mut Answers,
    out: &mut Out<'_>,
) -> bool {
    let tag = EntityTag::parse(made.tag.as_bytes());
    let current = Validators {
        tag,
        modified_s: Some(made.modified_s),
    };
    match conditional::evaluate(head.method, &head.headers, Some(&current)) {
        Outcome::Proceed => {}
        Outcome::NotModified => {
            let answer = answers.begin(Status::NOT_MODIFIED, connection, out.wall);
            put_validators(answer, made);
            put_head_end(answer);
            answers.send(out);
            return true;
        }
        Outcome::PreconditionFailed => {
            let text = "the file is not the version that the request is about";
            answers.text(
                Status::PRECONDITION_FAILED,
                text,
                head.method,
                connection,
                out,
            );
            return true;
        }
    }
    // Range is defined for GET alone (RFC 9110 section 14.2).
    let Some(range) = head
        .headers
        .only("range")
        .filter(|_| head.method == Method::Get)
    else {
        return false;
    };
    if !conditional::range_applies(&head.headers, &current, unix_s(out.wall)) {
        return false;
    }
    match Ranges::parse(range, made.body_bytes) {
        Ranges::Whole => return false,
        Ranges::One(range) => {
            let answer = answers.begin(Status::PARTIAL_CONTENT, connection, out.wall);
            put_header(answer, "Content-Type", &made.content_type);
            answer.extend_from_slice(b"Content-Range: ");
            put_content_range(answer, range, made.body_bytes);
            answer.extend_from_slice(b"\r\n");
            put_header_number(answer, "Content-Length", range.len());
            put_validators(answer, made);
            put_head_end(answer);
            answers.send(out);
            put_body(file, made, range.start, range.end, out);
        }
        Ranges::Many(ranges) => {
            let mut seed = [0; 8];
            out.disk.entropy(&mut seed);
            let parts = Multipart::new(
                u64::from_ne_bytes(seed),
                &made.content_type,
                made.body_bytes,
            );
            let answer = answers.begin(Status::PARTIAL_CONTENT, connection, out.wall);
            answer.extend_from_slice(b"Content-Type: ");
            parts.put_content_type(answer);
            answer.extend_from_slice(b"\r\n");
            put_header_number(answer, "Content-Length", parts.body_bytes(&ranges));
            put_validators(answer, made);
            put_head_end(answer);
            answers.send(out);
            let mut framing = Vec::new();
            for range in ranges {
                framing.clear();
                parts.put_part_head(&mut framing, range);
                out.put(&framing);
                put_body(file, made, range.start, range.end, out);
            }
            framing.clear();
            parts.put_end(&mut framing);
            out.put(&framing);
        }
        Ranges::Unsatisfiable => {
            let answer = answers.begin(Status::RANGE_NOT_SATISFIABLE, connection, out.wall);
            answer.extend_from_slice(b"Content-Range: ");
            put_content_range_unsatisfied(answer, made.body_bytes);
            answer.extend_from_slice(b"\r\nContent-Length: 0\r\n");
            put_head_end(answer);
            answers.send(out);
        }
    }
    true
}

fn put_validators(answer: &mut Vec<u8>, made: &Made) {
    put_header(answer, "Last-Modified", Date::new(made.modified_s));
    put_header(answer, "ETag", &made.tag);
    put_header(answer, "Accept-Ranges", "bytes");
}
