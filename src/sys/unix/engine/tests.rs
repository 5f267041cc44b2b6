//! Each engine comes to the same.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::*;
use crate::buffer::{PageSlice, Pool};
use crate::disk::{Contents, Disk, DiskId, File, FileKind, Handle, Metadata, Version};
use crate::jobs::{Command, Done, Query};
use crate::pipe::{Ends, Pipe, Piped};
use crate::wire::argon2id::{Cost, Hash};
use crate::wire::challenge::Secret;
use crate::wire::user_file::Check;

const TOKEN: Token = Token(7);
/// Longer than a page.
const LARGE: usize = 3_000_007;

/// An engine with its poll.
struct Driver {
    poll: Poll,
    engine: Engine,
    last_id: u64,
}

impl Driver {
    fn new(kind: DiskEngine) -> io::Result<Self> {
        let limits = DiskLimits {
            engine: kind,
            jobs_max: 4,
            ..DiskLimits::default()
        };
        let poll = Poll::new()?;
        Ok(Self {
            engine: Engine::new(&limits, &poll, TOKEN)?,
            poll,
            last_id: 0,
        })
    }

    /// One of each kind that this kernel gives.
    fn all() -> Vec<Self> {
        let kinds = [DiskEngine::Inline, DiskEngine::Threads, DiskEngine::IoUring];
        let drivers = kinds.into_iter().filter_map(|kind| match Self::new(kind) {
            Ok(driver) => Some(driver),
            Err(error) => {
                assert_eq!(kind, DiskEngine::IoUring, "{error}");
                eprintln!("skipped: {error}");
                None
            }
        });
        drivers.collect()
    }

    fn start(&mut self, job: impl Into<Job>) -> JobId {
        self.last_id += 1;
        let id = JobId(self.last_id);
        self.engine.start(id, job.into());
        id
    }

    fn wait(&mut self) -> Completed {
        let mut events = mio::Events::with_capacity(8);
        loop {
            if let Some(completed) = self.engine.finished() {
                return completed;
            }
            let long = Some(Duration::from_secs(60));
            let long = self.engine.patience(long);
            match self.poll.poll(&mut events, long) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.expect("a poll"),
            }
            assert!(!events.is_empty() || self.engine.told, "nothing comes");
            self.engine.told |= !events.is_empty();
        }
    }

    fn perform(&mut self, job: impl Into<Job>) -> (Job, io::Result<Done>) {
        let started = self.start(job);
        let (id, job, result) = self.wait();
        assert_eq!(id, started);
        (job, result)
    }

    fn done(&mut self, job: impl Into<Job>) -> Done {
        self.perform(job).1.expect("it works")
    }
}

/// A folder with something of everything.
struct Fixture {
    folder: tempfile::TempDir,
    root: File,
    pool: Pool,
}

impl Fixture {
    /// `slow`: as if it were on a file system that asks others.
    fn new(slow: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("small"), "small").expect("a file");
        std::fs::write(at("large"), large()).expect("a file");
        std::fs::write(at("empty"), "").expect("a file");
        std::fs::create_dir_all(at("folder/inner")).expect("a folder");
        symlink("/etc/passwd", at("away")).expect("a link");
        symlink("folder/../small", at("near")).expect("a link");
        symlink("circle", at("circle")).expect("a link");
        let mut disk = Files { all_are_slow: slow };
        let root = disk.open_folder(folder.path()).expect("a folder");
        assert!(root.is_slow() || !slow);
        let pool = Pool::new(1 << 30, 1 << 30);
        Self { folder, root, pool }
    }

    fn open(&self, path: &str) -> Query {
        let (root, path) = (self.root.clone(), path.into());
        Query::Open { root, path }
    }

    fn look(&self, path: &str) -> Query {
        let (root, path) = (self.root.clone(), path.into());
        Query::Look { root, path }
    }

    fn create(&self, path: &str) -> Command {
        let (root, path) = (self.root.clone(), path.into());
        Command::Create { root, path }
    }

    fn remove(&self, path: &str) -> Command {
        let (root, path) = (self.root.clone(), path.into());
        Command::Remove { root, path }
    }

    fn rename(&self, from: &str, to: &str, replace: bool) -> Command {
        let root = self.root.clone();
        let (from, to) = (from.into(), to.into());
        Command::Rename {
            root,
            from,
            to,
            replace,
        }
    }

    fn page_of(&mut self, bytes: &[u8]) -> PageSlice {
        let mut page = self.pool.take_slice();
        page.space_of(bytes.len()).copy_from_slice(bytes);
        page.filled(bytes.len());
        page
    }

    fn fill(&mut self, file: &File, offset: u64, version: Option<Version>) -> Command {
        Command::Fill {
            file: file.clone(),
            offset,
            len: usize::MAX,
            page: self.pool.take_slice(),
            version: version.map(Arc::new),
        }
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.path().join(name)).expect("a file")
    }
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|i| (i % 251) as u8).collect()
}

fn opened(done: Done) -> (File, Metadata) {
    match done {
        Done::File(file, metadata) => (file, metadata),
        other => panic!("{other:?}"),
    }
}

/// What a result says, without what differs from folder to folder.
fn told((job, result): &(Job, io::Result<Done>)) -> String {
    let of = |m: &Metadata| format!("{:?} {} {}", m.kind, length(m), m.executable);
    let told = match result {
        Err(error) => match error.raw_os_error() {
            Some(code) => format!("error {code}"),
            None => format!("error {:?}", error.kind()),
        },
        Ok(Done::File(file, metadata)) => format!("file {} {}", of(metadata), file.is_slow()),
        Ok(Done::Metadata(metadata)) => of(metadata),
        Ok(Done::Kept(is_kept)) => format!("kept {is_kept}"),
        Ok(Done::Bytes(bytes)) => format!("bytes {}", digest(bytes)),
        Ok(Done::Contents(Contents::Small(bytes), was)) => {
            format!("contents {} {}", digest(bytes), of(was))
        }
        Ok(Done::Contents(Contents::Large(version), was)) => {
            format!("version {} {} {}", version.len, version.sample, of(was))
        }
        Ok(Done::Configured(None)) => "as it was".to_owned(),
        Ok(Done::Configured(Some((bytes, metadata)))) => {
            format!("configured {} {}", digest(bytes), of(metadata))
        }
        Ok(Done::Names(names, _)) => {
            let mut names: Vec<&Path> = names.iter().map(PathBuf::as_path).collect();
            names.sort_unstable();
            format!("names {names:?}")
        }
        // Others use the same disk.
        Ok(Done::Count(_)) if matches!(job, Job::Query(Query::Free { .. })) => "free".to_owned(),
        Ok(Done::Count(count)) => format!("count {count}"),
        Ok(Done::Log(_, ends)) => format!("log {ends:?}"),
        Ok(Done::Stored(stored)) => format!("{stored:?}"),
        Ok(Done::Taken(taken)) => format!("taken with {} bytes", taken.held_bytes),
        Ok(Done::Folders(..)) => "folders".to_owned(),
        Ok(Done::Proven(is_of)) => format!("proven {is_of}"),
        Ok(Done::Nothing) => "nothing".to_owned(),
    };
    match job {
        Job::Command(Command::Fill { page, .. } | Command::Write { page, .. }) => {
            format!("{told}, page {}", digest(page.bytes()))
        }
        Job::Command(Command::WritePiped { piped, .. }) => format!("{told}, {} left", piped.bytes),
        _ => told,
    }
}

/// A pipe with these bytes in it.
fn piped(bytes: &[u8]) -> Piped {
    let (output, input) = rustix::pipe::pipe().expect("a pipe");
    assert_eq!(rustix::io::write(&input, bytes).expect("room"), bytes.len());
    let pipe = Pipe::new(Ends::Kernel { output, input });
    Piped {
        pipe,
        bytes: bytes.len(),
    }
}

fn disk_metadata(file: &File) -> Metadata {
    Files::default().metadata(file).expect("an open file")
}

/// The length of a folder is its file system's business.
fn length(metadata: &Metadata) -> u64 {
    match metadata.kind {
        FileKind::Folder => 0,
        _ => metadata.len,
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("{} {:x}", bytes.len(), crc32fast::hash(bytes))
}

/// Jobs of every kind, one after the other, and what each comes to.
fn everything(driver: &mut Driver, slow: bool) -> Vec<String> {
    let mut f = Fixture::new(slow);
    let mut all = Vec::new();
    questions(driver, &mut f, &mut all);
    pages(driver, &mut f, &mut all);
    changes(driver, &mut f, &mut all);
    all
}

fn questions(driver: &mut Driver, f: &mut Fixture, all: &mut Vec<String>) {
    let mut tell = |what: &str, completed| all.push(format!("{what}: {}", told(&completed)));
    for path in [
        "small",
        "",
        "folder",
        "near",
        "missing",
        "missing/x",
        "small/x",
        "away",
        "../small",
        "/etc",
        "circle",
        "a\0b",
    ] {
        tell(&format!("open {path:?}"), driver.perform(f.open(path)));
        tell(&format!("look {path:?}"), driver.perform(f.look(path)));
    }
    for path in ["small", "near", "large", "folder", "missing", "circle"] {
        let configured = |was| Query::Configured {
            beside: f.root.clone(),
            path: f.folder.path().join(path),
            was,
            bytes_max: LARGE - 1,
        };
        let first = driver.perform(configured(None));
        let was = match &first.1 {
            Ok(Done::Configured(Some((_, metadata)))) => Some(*metadata),
            _ => None,
        };
        tell(&format!("configured {path}"), first);
        let again = driver.perform(configured(was));
        assert_eq!(was.is_some(), matches!(again.1, Ok(Done::Configured(None))));
        tell(&format!("configured {path} again"), again);
    }
    let (large, was) = opened(driver.done(f.open("large")));
    let (folder, _) = opened(driver.done(f.open("folder")));
    let file = large.clone();
    tell("metadata", driver.perform(Query::Metadata { file }));
    let file = large.clone();
    let version = Query::Contents {
        file,
        was,
        small_bytes_max: 0,
    };
    tell("version", driver.perform(version));
    for (offset, len) in [
        (0, LARGE),
        (5, 100),
        (0, LARGE + 1),
        (LARGE as u64, 9),
        (1 << 40, 1),
        (0, 0),
    ] {
        let file = large.clone();
        let read = Query::Read {
            file,
            was: None,
            offset,
            len,
        };
        tell(&format!("read {offset} {len}"), driver.perform(read));
    }
    for (offset, len) in [(0, LARGE), (9, 1), (LARGE - 5, 99), (LARGE + 1, 9)] {
        let (file, offset, len) = (large.clone(), offset as u64, len as u64);
        let warm = Query::Warm { file, offset, len };
        tell(&format!("warm {offset} {len}"), driver.perform(warm));
    }
    let was = disk_metadata(&large);
    for small_bytes_max in [0, u64::MAX] {
        let contents = Query::Contents {
            file: large.clone(),
            was,
            small_bytes_max,
        };
        tell(
            &format!("contents {small_bytes_max}"),
            driver.perform(contents),
        );
    }
    let file = folder.clone();
    let read = Query::Read {
        file,
        was: None,
        offset: 0,
        len: 9,
    };
    tell("read a folder", driver.perform(read));
    tell("names", driver.perform(Query::Names { folder, from: 0 }));
    let root = f.root.clone();
    tell("free", driver.perform(Query::Free { root }));
}

fn pages(driver: &mut Driver, f: &mut Fixture, all: &mut Vec<String>) {
    let mut tell = |what: &str, completed| all.push(format!("{what}: {}", told(&completed)));
    let (large, was) = opened(driver.done(f.open("large")));
    let (empty, _) = opened(driver.done(f.open("empty")));
    for (what, file, offset) in [
        ("fill", &large, 0),
        ("fill at the end", &large, LARGE as u64 - 3),
        ("fill beyond it", &large, LARGE as u64 + 3),
        ("fill from nothing", &empty, 0),
    ] {
        let fill = f.fill(file, offset, None);
        tell(what, driver.perform(fill));
    }
    let file = large.clone();
    let small_bytes_max = 0;
    let asked = driver.done(Query::Contents {
        file,
        was,
        small_bytes_max,
    });
    let Done::Contents(Contents::Large(version), _) = asked else {
        panic!("no version");
    };
    let fill = f.fill(&large, 4, Some(version));
    tell("fill of that version", driver.perform(fill));
    let (modified, changed) = (was.modified, version.changed - Duration::from_secs(1));
    let renamed = Version { changed, ..version };
    let fill = f.fill(&large, 4, Some(renamed));
    tell("fill of one whose bytes must tell", driver.perform(fill));
    let sample = version.sample ^ 1;
    let rewritten = Version { sample, ..renamed };
    let fill = f.fill(&large, 4, Some(rewritten));
    tell(
        "fill of one whose bytes tell of another",
        driver.perform(fill),
    );
    let modified = modified - Duration::from_secs(1);
    let older = Version {
        modified,
        ..renamed
    };
    let fill = f.fill(&large, 4, Some(older));
    tell("fill of another", driver.perform(fill));
    for version in [version, renamed, rewritten, older] {
        let file = large.clone();
        tell("keeps", driver.perform(Query::Keeps { file, version }));
    }
}

fn changes(driver: &mut Driver, f: &mut Fixture, all: &mut Vec<String>) {
    let mut tell = |what: &str, completed| all.push(format!("{what}: {}", told(&completed)));
    let created = driver.perform(f.create("new"));
    let (new, metadata) = opened(created.1.expect("a new file"));
    let created = (created.0, Ok(Done::File(new.clone(), metadata)));
    tell("create", created);
    for path in [
        "new",
        "folder",
        "missing/new",
        "away",
        "../new",
        "small/new",
    ] {
        tell(&format!("create {path}"), driver.perform(f.create(path)));
    }
    let bytes: Vec<u8> = large()[..100_000].to_vec();
    for (offset, bytes) in [(0, &bytes[..]), (50_000, &bytes[..9]), (9, &[])] {
        let (file, page) = (new.clone(), f.page_of(bytes));
        let write = Command::Write { file, offset, page };
        tell(&format!("write at {offset}"), driver.perform(write));
    }
    let (small, _) = opened(driver.done(f.open("small")));
    for (what, file, offset, count) in [
        ("move from a pipe", &new, 7, 60_000),
        ("move from a pipe to the end", &new, 100_000, 9),
        ("move to what was opened to be read", &small, 0, 9),
    ] {
        let (file, piped) = (file.clone(), piped(&bytes[..count]));
        let write = Command::WritePiped {
            file,
            offset,
            piped,
        };
        tell(what, driver.perform(write));
    }
    let moved = f.content("new");
    assert_eq!(moved[7..60_007], bytes[..60_000]);
    assert_eq!(moved[100_000..], bytes[..9]);
    let (file, page) = (small, f.page_of(b"x"));
    let write = Command::Write {
        file,
        offset: 0,
        page,
    };
    tell("write to what was opened to be read", driver.perform(write));
    for file in [&new, &f.root] {
        let file = file.clone();
        tell("sync", driver.perform(Query::Sync { file }));
    }
    for password in ["tulip", "rose"] {
        let cost = Cost {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
        };
        let prove = Command::Prove {
            beside: f.root.clone(),
            check: Check::of(Arc::new(Hash::of(b"tulip", [7; 16], cost))),
            password: Secret::from(password),
        };
        tell(password, driver.perform(prove));
    }
    for (from, to, replace) in [
        ("new", "newer", false),
        ("new", "newer", true),
        ("newer", "small", false),
        ("newer", "small", true),
        ("small", "missing/x", true),
        ("small", "folder", true),
        ("folder", "small", true),
        ("a\0b", "c", true),
    ] {
        let what = format!("rename {from:?} {to} {replace}");
        tell(&what, driver.perform(f.rename(from, to, replace)));
    }
    for path in ["empty", "empty", "folder", "small/x", "circle"] {
        tell(&format!("remove {path}"), driver.perform(f.remove(path)));
    }
    logs(driver, f, all);
    all.push(format!("small is {}", digest(&f.content("small"))));
}

fn logs(driver: &mut Driver, f: &mut Fixture, all: &mut Vec<String>) {
    let path = f.folder.path().join("log");
    for text in ["one\n", "half"] {
        let (path, before) = (path.clone(), f.root.clone());
        let log = driver.perform(Command::OpenLog { path, before });
        all.push(format!("log: {}", told(&log)));
        let Ok(Done::Log(file, _)) = log.1 else {
            panic!("no log");
        };
        let bytes = Arc::from(text.as_bytes());
        let append = driver.perform(Command::Append { file, bytes });
        all.push(format!("append: {}", told(&append)));
    }
    all.push(format!("log is {}", digest(&f.content("log"))));
}

#[test]
fn every_job_comes_to_the_same_by_every_engine() {
    for slow in [false, true] {
        let mut drivers = Driver::all();
        let expected = everything(&mut drivers[0], slow);
        for (line, error) in [
            ("open \"missing\"", libc::ENOENT),
            ("look \"missing\"", libc::ENOENT),
            ("open \"small/x\"", libc::ENOTDIR),
            ("open \"away\"", libc::EXDEV),
            ("look \"../small\"", libc::EXDEV),
            ("open \"circle\"", libc::ELOOP),
            ("create new", libc::EEXIST),
            ("create away", libc::EEXIST),
            ("rename \"newer\" small false", libc::EEXIST),
            ("remove folder", libc::EISDIR),
        ] {
            let line = format!("{line}: error {error}");
            assert!(expected.contains(&line), "{line} is not in {expected:#?}");
        }
        for driver in &mut drivers[1..] {
            let kind = driver.engine.kind();
            let all = everything(driver, slow);
            for (one, other) in expected.iter().zip(&all) {
                assert_eq!(one, other, "by {kind:?}, slow: {slow}");
            }
            assert_eq!(expected.len(), all.len());
        }
    }
}

#[test]
fn a_thousand_jobs_at_once_are_each_done_once() {
    for driver in &mut Driver::all() {
        let f = Fixture::new(false);
        let (file, _) = opened(driver.done(f.open("large")));
        let first = driver.last_id + 1;
        for i in 0..1000 {
            let (file, offset, len) = (file.clone(), i * 1000, 1000);
            driver.start(Query::Read {
                file,
                was: None,
                offset,
                len,
            });
        }
        let mut all: Vec<_> = (0..1000).map(|_| driver.wait()).collect();
        all.sort_by_key(|(id, ..)| *id);
        let large = large();
        for (i, (id, _, result)) in all.into_iter().enumerate() {
            assert_eq!(id, JobId(first + i as u64));
            let Ok(Done::Bytes(bytes)) = result else {
                panic!("{result:?}");
            };
            assert!(*bytes == large[i * 1000..][..1000], "{id:?}");
        }
        assert!(driver.engine.finished().is_none());
    }
}

#[test]
fn an_engine_that_is_dropped_frees_nothing_that_the_kernel_has() {
    for mut driver in Driver::all() {
        let kind = driver.engine.kind();
        let mut f = Fixture::new(false);
        // A read that lasts until somebody writes.
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let pipe = File::new(Handle::Fd(reader), DiskId(0), true);
        let fill = f.fill(&pipe, 0, None);
        driver.start(fill);
        for i in 0..100 {
            let fill = f.fill(&f.root.clone(), i, None);
            driver.start(fill);
        }
        let taken = driver.engine.finished().into_iter().count();
        drop(driver);
        rustix::io::write(&writer, b"late").expect("a reader");
        if kind == DiskEngine::IoUring {
            assert!(
                pipe.is_shared(),
                "{taken}: the job went although it was not done"
            );
        }
    }
}

#[test]
fn where_io_uring_is_refused_threads_do_it_unless_it_was_asked_for() {
    let poll = Poll::new().expect("a poll");
    let with = |engine| {
        let limits = DiskLimits {
            engine,
            ..DiskLimits::default()
        };
        let refuse = || Err(io::ErrorKind::PermissionDenied.into());
        Engine::with(refuse, &limits, &poll, TOKEN)
    };
    let error = with(DiskEngine::IoUring).err().expect("it is refused");
    let text = "disk engine \"io_uring\": the kernel refuses it: permission denied";
    assert_eq!(error.to_string(), text);
    let engine = with(DiskEngine::Auto).expect("another one");
    assert_eq!(engine.kind(), DiskEngine::Threads);
    let mut driver = Driver {
        poll,
        engine,
        last_id: 0,
    };
    let f = Fixture::new(false);
    let (_, metadata) = opened(driver.done(f.open("small")));
    assert_eq!(metadata.len, 5);
}

#[test]
fn the_engine_that_is_asked_for_is_the_one_in_use() {
    let mut kinds = Vec::new();
    for driver in Driver::all() {
        kinds.push(driver.engine.kind());
    }
    assert_eq!(kinds[..2], [DiskEngine::Inline, DiskEngine::Threads]);
    let auto = Driver::new(DiskEngine::Auto).expect("one of them");
    assert_eq!(Some(&auto.engine.kind()), kinds.last());
}
