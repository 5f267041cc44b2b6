//! Which requests are answered with an archive, and the head of such an answer.
//!
//! A folder that would be listed is packed for `/folder/?archive=tar`, and for `/folder.tar` where
//! nothing has that name, so that `curl -O` and `wget` store it under it. `?download=zip` and
//! `?zip` mean the same, as other file servers have it. Where a folder has an index, that is all
//! there is to see of it, and it is not packed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, ready};

use super::{Archive, Format, Framing, Wanted};
use crate::disk::{FileKind, Metadata};
use crate::http::conditional::{self, Outcome, Validators};
use crate::http::disposition::put_attachment;
use crate::http::head::{BodyLength, RequestHead, put_head_end, put_header};
use crate::http::path::SafePath;
use crate::http::persistence::Persistence;
use crate::http::{Method, Status, Version};
use crate::jobs::Asking;
use crate::metrics::Limit;
use crate::service::Waiter;
use crate::services::web::files::{Files, NOT_FOUND, PRECONDITION_FAILED, Progress};
use crate::services::web::reply::{Refusal, Reply};

const TOO_MANY_ARCHIVES: Refusal = Refusal::beyond(
    Limit::Archives,
    Status::SERVICE_UNAVAILABLE,
    "too many folders are being sent; try again in a moment",
);

/// The name of the archive of the root, which has none.
const ROOT: &[u8] = b"files";

/// An archive that is asked for.
pub(in crate::services::web::files) struct Asked {
    format: Format,
    /// Relative to the root.
    folder: PathBuf,
    metadata: Metadata,
    /// Of the folder.
    name: Vec<u8>,
}

impl Format {
    /// What a query asks for.
    fn of_query(query: &str) -> Option<Self> {
        query.split('&').find_map(|pair| match pair {
            "archive=tar" | "download=tar" | "tar" => Some(Self::Tar),
            "archive=zip" | "download=zip" | "zip" => Some(Self::Zip),
            _ => None,
        })
    }

    /// What a path asks for, and the folder that it names: `photos.zip` is for `photos`.
    fn of_path(path: &[u8]) -> Option<(Self, &[u8])> {
        let formats = [Self::Tar, Self::Zip].into_iter();
        let mut named = formats.filter_map(|format| {
            let folder = path.strip_suffix(format.ending())?;
            Some((format, folder))
        });
        named.find(|(_, folder)| !folder.is_empty() && !folder.ends_with(b"/"))
    }
}

impl Files {
    /// The archive that a request for a folder without an index asks for.
    pub(in crate::services::web::files) fn archive_of_query(
        &self,
        folder: &Path,
        metadata: Metadata,
        shown: &[u8],
        query: Option<&str>,
    ) -> Option<Asked> {
        let format = query.and_then(Format::of_query)?;
        self.packs().then(|| Asked {
            format,
            folder: folder.to_owned(),
            metadata,
            name: name(shown),
        })
    }

    /// The archive that a request for a path to which nothing leads asks for; [`NOT_FOUND`] if it
    /// asks for none. `path`: relative to the root.
    pub(in crate::services::web::files) fn archive_of_path(
        &self,
        path: &[u8],
        safe: &SafePath<'_>,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Result<Asked, Refusal>> {
        let named = Format::of_path(path).filter(|_| !safe.folder && self.packs());
        let (format, path) = named.ok_or(NOT_FOUND)?;
        // `/private.tar` is not below the other site's `/private/`, but what is in it is.
        if self.elsewhere.iter().any(|other| other == path) {
            return Poll::Ready(Err(NOT_FOUND));
        }
        let folder = Path::new(OsStr::from_bytes(path));
        let (_, metadata) = ready!(self.open(folder, files))?;
        if metadata.kind != FileKind::Folder || ready!(self.index_of(folder, files))?.is_file() {
            return Poll::Ready(Err(NOT_FOUND));
        }
        Poll::Ready(Ok(Asked {
            format,
            folder: folder.to_owned(),
            metadata,
            name: name(path),
        }))
    }

    fn packs(&self) -> bool {
        self.config.listing && self.config.archive
    }

    /// Answers with the head, and for a GET begins the archive.
    pub(in crate::services::web::files) fn put_archive(
        &self,
        asked: &Asked,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let unknown = Validators::default(); // of a body that is not made yet
        let outcome = conditional::evaluate(head.method, &head.headers, Some(&unknown));
        if outcome == Outcome::PreconditionFailed {
            return Err(PRECONDITION_FAILED.into());
        }
        let framing = match head.version {
            Version::Http11 => Framing::Chunked,
            Version::Http10 => Framing::UntilClose,
        };
        let is_get = head.method == Method::Get;
        if is_get {
            if Rc::strong_count(&self.archives) > self.config.archive_limits.archives_max {
                return Err(TOO_MANY_ARCHIVES.into());
            }
            // A body that comes with the request would be read only when the archive is sent.
            if framing == Framing::UntilClose || head.body != BodyLength::None {
                reply.persistence = Persistence::Ends;
            }
        }
        reply.lines = Some(Rc::clone(&self.lines));
        let answer = reply.begin(Status::OK);
        put_header(answer, "Content-Type", asked.format.content_type());
        put_attachment(answer, &[&asked.name[..], asked.format.ending()].concat());
        put_header(answer, "Cache-Control", "no-cache");
        put_header(answer, "X-Content-Type-Options", "nosniff");
        if framing == Framing::Chunked {
            put_header(answer, "Transfer-Encoding", "chunked");
        }
        put_head_end(answer);
        reply.send(0);
        if !is_get {
            return Ok(Progress::Answered);
        }
        let wanted = Wanted {
            root: &self.root,
            folder: &asked.folder,
            metadata: asked.metadata,
            name: &asked.name,
            elsewhere: &self.elsewhere,
            limits: self.config.archive_limits,
        };
        let archive = Archive::new(&wanted, asked.format, framing, Rc::clone(&self.archives));
        Ok(Progress::Packs(Box::new(archive)))
    }
}

/// The last name of a path.
fn name(path: &[u8]) -> Vec<u8> {
    let mut names = path.split(|&byte| byte == b'/').rev();
    names.find(|name| !name.is_empty()).unwrap_or(ROOT).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_or_a_path_names_the_format() {
        for (query, format) in [
            ("archive=tar", Some(Format::Tar)),
            ("sort=size&archive=zip", Some(Format::Zip)),
            ("download=zip", Some(Format::Zip)),
            ("tar", Some(Format::Tar)),
            ("archive=rar", None),
            ("archive=", None),
            ("tarot", None),
            ("", None),
        ] {
            assert_eq!(Format::of_query(query), format, "{query}");
        }
        for (path, folder) in [
            ("photos.zip", Some((Format::Zip, "photos"))),
            ("a/b.c.tar", Some((Format::Tar, "a/b.c"))),
            ("a/.tar", None),
            (".zip", None),
            ("a.tar.gz", None),
            ("a.TAR", None),
        ] {
            let expected = folder.map(|(format, folder)| (format, folder.as_bytes()));
            assert_eq!(Format::of_path(path.as_bytes()), expected, "{path}");
        }
    }
}
