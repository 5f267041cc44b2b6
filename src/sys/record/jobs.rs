//! Jobs in a record: what was asked as a hash, what came of it as it is. A replay does none; it
//! gives back the job that the loop began, in the state in which a kernel leaves it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use foldhash::quality::FixedState;

use super::wire::{Broken, In, Out, Wire, put_bytes, take_bytes, wire_enum, wire_struct};
use crate::disk::File;
use crate::jobs::TakenFile;
use crate::jobs::{Command, Done, Job, JobId, Query};
use crate::jobs::{NewContents, NewFile, Stored};
use crate::service::datagram::Outbox;
use crate::sys::Batch;
use crate::wire::upload::SafeName;

/// A hash of bytes that is the same in every process.
pub(super) fn hash_of<'a>(runs: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for run in runs {
        hasher.write(run);
    }
    hasher.finish()
}

/// A hash of datagrams that are to be sent, and of whom they are for.
pub(super) fn hash_of_replies(batch: &Batch, out: &Outbox) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    for reply in &out.replies {
        (reply.to, reply.segment_bytes).hash(&mut hasher);
        hasher.write(batch.reply_bytes(out, reply));
    }
    hasher.finish()
}

/// What a job is called in errors.
pub(super) fn name_of(job: &Job) -> String {
    format!("{:?}", job.kind())
}

/// A hash of what a job asks for, passwords left out. Unless `is_whole`, of bytes that become part of
/// a file, logs aside, only their number counts.
pub(super) fn hash_of_job(job: &Job, is_whole: bool) -> u64 {
    let mut to = FixedState::default().build_hasher();
    match job {
        Job::Query(query) => hash_query(query, &mut to),
        Job::Command(command) => hash_command(command, is_whole, &mut to),
    }
    to.finish()
}

fn at(file: &File, path: &Path, to: &mut impl Hasher) {
    file.number().hash(to);
    path.hash(to);
}

fn hash_query(query: &Query, to: &mut impl Hasher) {
    match query {
        Query::Open { root, path } | Query::Look { root, path } => at(root, path, to),
        Query::Metadata { file } | Query::Sync { file } | Query::Free { root: file } => {
            file.number().hash(to);
        }
        Query::Keeps { file, version } => (file.number(), version).hash(to),
        Query::Contents {
            file,
            was,
            small_bytes_max,
        } => (file.number(), was, small_bytes_max).hash(to),
        Query::Read {
            file,
            was,
            offset,
            len,
        } => (file.number(), was, offset, len).hash(to),
        Query::Warm { file, offset, len } => (file.number(), offset, len).hash(to),
        Query::Checksum { root, path, offset } => {
            at(root, path, to);
            offset.hash(to);
        }
        Query::Configured {
            path,
            was,
            bytes_max,
            ..
        } => (path, was, bytes_max).hash(to),
        Query::Names { folder, from } => (folder.number(), from).hash(to),
        Query::SyncNames { root, folder } => at(root, folder, to),
    }
}

fn contents(bytes: &[u8], is_whole: bool, to: &mut impl Hasher) {
    match is_whole {
        true => to.write(bytes),
        false => bytes.len().hash(to),
    }
}

fn hash_command(command: &Command, is_whole: bool, to: &mut impl Hasher) {
    match command {
        Command::Create { root, path } | Command::Remove { root, path } => at(root, path, to),
        Command::Take {
            root,
            path,
            stays,
            len,
        } => {
            at(root, path, to);
            (stays, len).hash(to);
        }
        Command::Leave { file } => file.as_ref().map(File::number).hash(to),
        Command::Expire { root, path, before } => {
            at(root, path, to);
            before.hash(to);
        }
        Command::WriteBack { file, offset, len } => (file.number(), offset, len).hash(to),
        Command::Prepare { path, inner, .. } => (path, inner).hash(to),
        Command::Fill {
            file, offset, len, ..
        } => (file.number(), offset, len).hash(to),
        Command::Write { file, offset, page } => {
            (file.number(), offset).hash(to);
            contents(page.bytes(), is_whole, to);
        }
        Command::WritePiped {
            file,
            offset,
            piped,
        } => (file.number(), offset, piped.bytes).hash(to),
        Command::Append { file, bytes } => {
            file.number().hash(to);
            to.write(bytes);
        }
        Command::OpenLog { path, .. } => path.hash(to),
        Command::Rename {
            root,
            from,
            to: name,
            replace,
        } => {
            at(root, from, to);
            (name, replace).hash(to);
        }
        Command::Discard { root, path, .. } => at(root, path, to),
        Command::Store { root, files, .. } => {
            root.number().hash(to);
            files.iter().for_each(|file| hash_new(file, is_whole, to));
        }
        Command::Put {
            root,
            temporary,
            path,
            bytes,
            ..
        } => {
            at(root, temporary, to);
            path.hash(to);
            contents(bytes, is_whole, to);
        }
        Command::Rewrite { root, path, bytes } => {
            at(root, path, to);
            contents(bytes, is_whole, to);
        }
        Command::Prove { .. } => {}
    }
}

fn hash_new(new: &NewFile, is_whole: bool, to: &mut impl Hasher) {
    (&new.partial, new.name.as_str(), &new.folder).hash(to);
    if let NewContents::Bytes(bytes) = &new.contents {
        contents(bytes, is_whole, to);
    }
}

/// What became of a job, as it is told.
type Outcome = io::Result<Done>;

/// Writes a job that was done.
pub(super) fn put_finished(finished: Option<&(JobId, Job, Outcome)>, out: &mut Out) {
    finished.is_some().put(out);
    let Some((id, job, result)) = finished else {
        return;
    };
    id.put(out);
    result.put(out);
    match job {
        Job::Command(Command::Fill { page, .. }) => put_bytes(page.bytes(), out),
        Job::Command(Command::WritePiped { piped, .. }) => piped.bytes.put(out),
        _ => {}
    }
}

/// Reads one, which is among those that were begun.
pub(super) fn take_finished(
    from: &mut In,
    begun: &mut BTreeMap<JobId, Job>,
) -> Result<Option<(JobId, Job, Outcome)>, Broken> {
    if !bool::take(from)? {
        return Ok(None);
    }
    let id = JobId::take(from)?;
    let mut result = Outcome::take(from)?;
    let mut job = begun.remove(&id).ok_or(Broken("a job that was begun"))?;
    if let Job::Command(command) = &mut job {
        leave(command, &mut result, from)?;
    }
    Ok(Some((id, job, result)))
}

/// Leaves a command as a kernel does, and gives its outcome what it took of it.
fn leave(command: &mut Command, result: &mut Outcome, from: &mut In) -> Result<(), Broken> {
    match command {
        Command::Fill { page, .. } => {
            let bytes = take_bytes(from)?;
            let space = page.space_of(bytes.len());
            if space.len() != bytes.len() {
                return Err(Broken("bytes that fit a page"));
            }
            space.copy_from_slice(bytes);
            let count = bytes.len();
            page.filled(count);
        }
        Command::WritePiped { piped, .. } => piped.bytes = usize::take(from)?,
        Command::Leave { file } | Command::Discard { file, .. } => *file = None,
        Command::Store { files, .. } => {
            if let Ok(Done::Stored(stored)) = result {
                // Invariant: it was just read, and nobody else has it.
                let stored = Arc::get_mut(stored).ok_or(Broken("new files"))?;
                give_back(files, stored)?;
            }
            files.clear();
        }
        _ => {}
    }
    Ok(())
}

/// The files that come back are the last ones that were given, in another state perhaps.
fn give_back(files: &mut Vec<NewFile>, stored: &mut Stored) -> Result<(), Broken> {
    let count = stored.rest.len();
    let from = files
        .len()
        .checked_sub(count)
        .ok_or(Broken("fewer files"))?;
    for (given, back) in files.drain(from..).zip(&mut stored.rest) {
        let contents = std::mem::replace(&mut back.contents, NewContents::Stored);
        let is_same = matches!(contents, NewContents::Bytes(_));
        *back = given;
        if !is_same {
            back.contents = contents;
        }
    }
    Ok(())
}

wire_struct!(TakenFile {
    file,
    held_bytes,
    is_reserved
});

impl Wire for SafeName {
    fn put(&self, out: &mut Out) {
        put_bytes(self.as_str().as_bytes(), out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        SafeName::reduce(&String::take(from)?).map_err(|_| Broken("a safe name"))
    }
}

impl Wire for Stored {
    fn put(&self, out: &mut Out) {
        self.names.put(out);
        self.failed.put(out);
        self.replaced_bytes.put(out);
        self.rest.put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let (names, (failed, (replaced_bytes, rest))) = Wire::take(from)?;
        Ok(Self {
            names,
            failed,
            rest,
            replaced_bytes,
        })
    }
}

/// Its names are known to whoever asked; its bytes as well.
impl Wire for NewFile {
    fn put(&self, out: &mut Out) {
        self.name.put(out);
        let (state, file, why) = match &self.contents {
            NewContents::Bytes(_) => (0_u8, None, None),
            NewContents::Written(file) => (1, Some(file), None),
            NewContents::Secured(file) => (2, Some(file), None),
            NewContents::Stored => (3, None, None),
            NewContents::Lost(why) => (4, None, Some(why)),
        };
        state.put(out);
        if let Some(file) = file {
            file.put(out);
        }
        if let Some(why) = why {
            why.put(out);
        }
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        let name = SafeName::take(from)?;
        let contents = match u8::take(from)? {
            0 => NewContents::Bytes(Box::default()),
            1 => NewContents::Written(File::take(from)?),
            2 => NewContents::Secured(File::take(from)?),
            3 => NewContents::Stored,
            4 => NewContents::Lost(io::Error::take(from)?),
            _ => return Err(Broken("the state of a new file")),
        };
        Ok(Self {
            partial: Path::new("").into(),
            contents,
            name,
            folder: Path::new("").into(),
        })
    }
}

wire_enum!(Done {
    0 File(file, metadata),
    1 Folders(outer, inner),
    2 Taken(taken),
    3 Metadata(metadata),
    4 Kept(is_kept),
    5 Contents(contents, was),
    6 Bytes(bytes),
    7 Configured(read),
    8 Names(names, next),
    9 Count(count),
    10 Log(file, ends_within_a_line),
    11 Stored(stored),
    12 Proven(is_proven),
    13 Nothing,
});

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, out: &mut Out) {
        (**self).put(out);
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        T::take(from).map(Arc::new)
    }
}

/// Names in a folder.
impl Wire for Arc<[PathBuf]> {
    fn put(&self, out: &mut Out) {
        self.len().put(out);
        self.iter().for_each(|name| name.put(out));
    }

    fn take(from: &mut In) -> Result<Self, Broken> {
        Vec::take(from).map(Into::into)
    }
}
