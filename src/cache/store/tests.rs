//! The store on a real folder, with a disk that does what it was asked to when a test says so.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::buffer::{Front, RecvBuf, SendQueue};
use crate::disk::Disk;
use crate::http::Method;
use crate::http::Status;
use crate::http::caching::{Rules, Terms, Times, vary};
use crate::http::head::{HeadScanner, Limits as HeadLimits, Parsed, RequestHead};
use crate::jobs::{Command, Done, Job};
use crate::limits::DiskLimits;
use crate::sys::unix;

const KIB: usize = 1024;
const AWAIT: Duration = Duration::from_secs(5);
const PASS: Duration = Duration::from_secs(120);
const A: &str = "/a";

/// A store, and the loop around it.
struct Bed {
    /// Removed when the test ends.
    _folder: TempDir,
    settings: Settings,
    stores: Stores,
    id: StoreId,
    disk: unix::Files,
    jobs: Jobs<Waiter>,
    pool: Pool,
    woken: Vec<Id>,
    now: Instant,
    wall_ms: u64,
}

/// The session of this number.
fn session(index: u32) -> Id {
    Id {
        index,
        generation: 1,
    }
}

/// A body that differs from those with other seeds in nearly all bytes.
fn body(len: usize, seed: u8) -> Vec<u8> {
    let byte = |at: usize| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed;
    (0..len).map(byte).collect()
}

/// What came with a head that has these fields; of `len` bytes, if it says so.
fn object(fields: &str, len: Option<usize>) -> Object {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    let parsed =
        HeadScanner::default().response(head.as_bytes(), &HeadLimits::DEFAULT, Method::Get);
    let Ok(Parsed::Complete(parsed, _)) = parsed else {
        panic!("a head: {head}");
    };
    let times = Times {
        request_s: 1_790_000_000,
        response_s: 1_790_000_000,
    };
    Object {
        selecting: Box::default(),
        status: Status::OK,
        terms: Terms::derive(&parsed, times, &Rules::default()),
        times,
        expected: len.map(|len| len as u64),
        head: head.clone().into_bytes().into(),
    }
}

/// What a test does with a request for a path, and fields of its own.
fn asking<T>(path: &str, fields: &str, then: impl FnOnce(&RequestHead<'_>) -> T) -> T {
    let text = format!("GET http://h.test{path} HTTP/1.1\r\nHost: h.test\r\n{fields}\r\n");
    let parsed = HeadScanner::default().request(text.as_bytes(), &HeadLimits::DEFAULT);
    let Ok(Parsed::Complete(head, _)) = parsed else {
        panic!("a request: {text}");
    };
    then(&head)
}

fn text_of(path: &str) -> Vec<u8> {
    format!("GET http://h.test{path}").into_bytes()
}

impl Bed {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// With settings that differ from those of most tests.
    fn with(alter: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = Settings {
            dir: folder.path().join("cache"),
            bytes_max: 64 << 20,
            objects_max: 1000,
            object_bytes_max: 16 << 20,
            memory_bytes_max: 16 << 20,
            open_files_max: 16,
            small_bytes_max: 8 * KIB,
            await_timeout: AWAIT,
            pass_time: PASS,
            rules: RuleBook::default(),
            boot: 7,
        };
        alter(&mut settings);
        let mut disk = unix::Files::default();
        let mut stores = Stores::default();
        let id = stores.open(settings.clone(), &mut disk);
        let mut bed = Self {
            _folder: folder,
            settings,
            stores,
            id,
            disk,
            jobs: Jobs::new(DiskLimits::default()),
            pool: Pool::new(64 << 20, 1 << 20),
            woken: Vec::new(),
            now: Instant::now(),
            wall_ms: 1_790_000_000_000,
        };
        bed.scan();
        bed
    }

    fn store(&mut self) -> (&mut Store, Hands<'_>) {
        let hands = Hands {
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            pool: &mut self.pool,
            woken: &mut self.woken,
            now: self.now,
            wall_ms: self.wall_ms,
        };
        (self.stores.at(self.id), hands)
    }

    fn expire(&mut self) {
        let mut hands = Hands {
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            pool: &mut self.pool,
            woken: &mut self.woken,
            now: self.now,
            wall_ms: self.wall_ms,
        };
        self.stores.expire(&mut hands);
    }

    fn scan(&mut self) {
        let (store, mut hands) = self.store();
        store.scan(&mut hands);
    }

    /// The process ends as it is, and another one begins in the same folder.
    fn restart(&mut self) {
        self.stores = Stores::default();
        self.jobs = Jobs::new(DiskLimits::default());
        self.pool = Pool::new(64 << 20, 1 << 20);
        self.id = self.stores.open(self.settings.clone(), &mut self.disk);
        self.scan();
    }

    /// Does one job in this way. Whether there was one.
    fn work_by(
        &mut self,
        perform: impl FnOnce(&mut Job, &mut unix::Files) -> io::Result<Done>,
    ) -> bool {
        let Some((id, mut job)) = self.jobs.poll_start(self.now) else {
            return false;
        };
        let result = perform(&mut job, &mut self.disk);
        self.jobs.finished(id, job, result, self.now);
        self.tell();
        true
    }

    /// Tells those who waited for jobs that these are done.
    fn tell(&mut self) {
        while let Some(waiter) = self.jobs.poll_woken() {
            match waiter {
                Waiter::Store { store, task } => {
                    let mut hands = Hands {
                        disk: &mut self.disk,
                        jobs: &mut self.jobs,
                        pool: &mut self.pool,
                        woken: &mut self.woken,
                        now: self.now,
                        wall_ms: self.wall_ms,
                    };
                    self.stores.job_done(store, task, &mut hands);
                }
                Waiter::Session(id) => self.woken.push(id),
                Waiter::Sending(_) | Waiter::Service | Waiter::NameFiles => {}
            }
        }
        while let Some(page) = self.jobs.poll_page() {
            self.pool.give_slice(page);
        }
    }

    fn work(&mut self) -> bool {
        self.work_by(|job, disk| job.perform(disk))
    }

    /// The disk does all that it was asked to.
    fn settle(&mut self) {
        while self.work() {}
    }

    /// The same, but jobs of one kind fail.
    fn settle_failing(&mut self, fails: fn(&Job) -> bool, code: i32) {
        while self.work_by(|job, disk| match fails(job) {
            true => Err(io::Error::from_raw_os_error(code)),
            false => job.perform(disk),
        }) {}
    }

    /// What there is for a request, once that is known.
    fn look(&mut self, path: &str, fields: &str) -> Option<Rc<Kept>> {
        let text = text_of(path);
        let found = loop {
            let (store, mut hands) = self.store();
            let key = store.hasher().key(&text);
            let wanted = Wanted { key, text: &text };
            let look = asking(path, fields, |head| {
                store.look(wanted, head, session(1), &mut hands)
            });
            match look {
                Look::Kept(kept) => break Some(kept),
                Look::Nothing { .. } => break None,
                Look::Later => assert!(self.work(), "it waits for nothing"),
            }
        };
        self.jobs.settle(Waiter::Session(session(1)));
        found
    }

    /// The body that is kept for a request.
    fn kept(&mut self, path: &str) -> Option<Vec<u8>> {
        let kept = self.look(path, "")?;
        let mut tx = SendQueue::new(u32::MAX);
        put_body(&kept.body, 0, kept.body_bytes, &mut tx, &mut self.pool);
        Some(self.collect(&mut tx))
    }

    fn collect(&mut self, tx: &mut SendQueue) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            match tx.front() {
                Front::Piped(_) => unreachable!("nothing is relayed here"),
                Front::Empty => return all,
                Front::One(bytes, _) => all.extend_from_slice(bytes),
                Front::Many(runs, count, _) => {
                    runs[..count]
                        .iter()
                        .for_each(|run| all.extend_from_slice(run));
                }
                Front::File(file, offset, len) => {
                    let mut bytes = vec![0; len as usize];
                    let count = self
                        .disk
                        .read_full(file, offset, &mut bytes)
                        .expect("a file");
                    assert_eq!(count as u64, len, "the file is shorter than was promised");
                    all.extend(bytes);
                }
            }
            tx.sent(all.len() - before, &mut self.pool);
        }
    }

    fn key(&mut self, path: &str) -> Key {
        self.store().0.hasher().key(&text_of(path))
    }

    fn lead(&mut self, path: &str) -> FetchId {
        let (text, key, now) = (text_of(path), self.key(path), self.now);
        self.store().0.lead(Wanted { key, text: &text }, now)
    }

    fn begin(&mut self, id: FetchId, object: Object) -> bool {
        let (store, mut hands) = self.store();
        store.begin(id, object, &mut hands)
    }

    /// Who else asks for the same.
    fn under_way(&mut self, path: &str, waiter: Id) -> UnderWay {
        let (text, key, now) = (text_of(path), self.key(path), self.now);
        let wanted = Wanted { key, text: &text };
        asking(path, "", |head| {
            self.store().0.under_way(wanted, head, waiter, now)
        })
    }

    /// Bytes arrive for the leader of a fetch, who moves them into the store as far as that takes
    /// them without the disk. How many.
    fn take(&mut self, id: FetchId, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while taken < bytes.len() && self.store().0.has_room(id, session(1)) {
            let mut rx = RecvBuf::default();
            let count = rx.push(&bytes[taken..], &mut self.pool);
            let (store, mut hands) = self.store();
            store.take(id, &mut rx, count, &mut hands);
            assert!(rx.is_empty());
            rx.release(&mut self.pool);
            taken += count;
        }
        taken
    }

    /// The same with a disk that works.
    fn take_all(&mut self, id: FetchId, bytes: &[u8]) {
        let mut taken = 0;
        while taken < bytes.len() {
            taken += self.take(id, &bytes[taken..]);
            assert!(self.work() || taken == bytes.len(), "it takes no more");
        }
    }

    fn finish(&mut self, id: FetchId) {
        let (store, mut hands) = self.store();
        store.finish(id, &mut hands);
    }

    fn leave(&mut self, id: FetchId) {
        let (store, mut hands) = self.store();
        store.leave(id, &mut hands);
    }

    fn break_off(&mut self, id: FetchId) {
        let (store, mut hands) = self.store();
        store.break_off(id, &mut hands);
    }

    fn cut(&mut self, id: FetchId) {
        let (store, mut hands) = self.store();
        store.cut(id, &mut hands);
    }

    fn gave_up(&mut self, id: FetchId) -> bool {
        self.store().0.gave_up(id)
    }

    /// Keeps a response, from its request to the last job.
    fn keep(&mut self, path: &str, bytes: &[u8]) {
        self.keep_unwritten(path, bytes);
        self.settle();
    }

    /// The same before the disk does anything.
    fn keep_unwritten(&mut self, path: &str, bytes: &[u8]) {
        let id = self.lead(path);
        assert!(self.begin(
            id,
            object("Cache-Control: max-age=60\r\n", Some(bytes.len()))
        ));
        let taken = self.take(id, bytes);
        self.take_all(id, &bytes[taken..]);
        self.finish(id);
        self.leave(id);
        self.wall_ms += 1;
    }

    /// The disk does all that it was asked to, and what waits for it is asked for, until no more
    /// is. Nothing is to be removed.
    fn settle_in_turns(&mut self) {
        let removes = |job: &Job| matches!(job, Job::Command(Command::Remove { .. }));
        self.expire();
        while !self.jobs.is_idle() {
            while self.work_by(|job, disk| {
                assert!(!removes(job), "a file is removed");
                job.perform(disk)
            }) {}
            self.expire();
        }
    }

    /// Reads what there is of a fetch from `at` on, without the disk doing anything; and what
    /// stands behind it.
    fn read(&mut self, id: FetchId, at: u64, waiter: Id) -> (Vec<u8>, Ahead) {
        let mut tx = SendQueue::new(u32::MAX);
        let mut read = at;
        loop {
            let store = self.stores.at(self.id);
            match store.ahead(id, read, waiter) {
                Ahead::Bytes { count, .. } => {
                    let before = tx.memory_bytes();
                    store.put(id, (read, count), &mut tx, &mut self.pool);
                    assert!(
                        tx.memory_bytes() - before < 1 << 20,
                        "much was copied at once"
                    );
                    read += count;
                }
                end => return (self.collect(&mut tx), end),
            }
        }
    }

    fn is_woken(&mut self, waiter: Id) -> bool {
        let woken = std::mem::take(&mut self.woken);
        let times = woken.iter().filter(|id| **id == waiter).count();
        assert!(times <= 1, "it is woken {times} times");
        times > 0
    }

    /// The files of objects that are there.
    fn files(&self) -> Vec<PathBuf> {
        let folders = object::folders().map(|folder| self.settings.dir.join(folder));
        let all = folders.flat_map(|folder| fs::read_dir(folder).expect("a folder"));
        all.map(|entry| entry.expect("an entry").path()).collect()
    }

    fn temporary_files(&self) -> usize {
        fs::read_dir(self.settings.dir.join("tmp"))
            .expect("a folder")
            .count()
    }

    /// Nobody asks for anything, and the disk has done its work.
    fn assert_nothing_is_left(&mut self) {
        self.settle();
        assert_eq!(self.store().0.left_over(), None);
        assert!(self.jobs.is_idle(), "a job is left");
        assert_eq!(self.pool.pages_held(), 0, "pages are left");
        assert_eq!(self.temporary_files(), 0, "temporary files are left");
        let (objects, bytes) = self.store().0.size().0;
        let files = self.files();
        assert_eq!(
            files.len(),
            objects as usize,
            "files, and those that are known"
        );
        let len = |path: &PathBuf| fs::metadata(path).expect("a file").len();
        assert_eq!(files.iter().map(len).sum::<u64>(), bytes);
    }
}

#[test]
fn a_small_response_is_in_memory_at_once_and_its_file_follows() {
    let mut bed = Bed::new();
    let bytes = body(5000, 1);
    assert!(bed.look(A, "").is_none());
    bed.settle();
    assert_eq!(bed.store().0.size().1, (0, 0));
    let id = bed.lead(A);
    assert!(bed.begin(id, object("Cache-Control: max-age=60\r\n", Some(5000))));
    assert_eq!(bed.take(id, &bytes), 5000);
    bed.finish(id);
    assert_eq!(bed.kept(A), Some(bytes.clone()));
    assert_eq!(bed.files().len(), 0);
    let (objects, in_memory) = bed.store().0.size().1;
    assert!(objects == 1 && in_memory > 5000, "{objects} {in_memory}");
    bed.leave(id);
    bed.settle();
    assert_eq!(bed.files().len(), 1);
    bed.assert_nothing_is_left();
    bed.restart();
    assert_eq!(bed.kept(A), Some(bytes));
    assert_eq!(bed.store().0.counts().loaded, 1);
}

#[test]
fn a_large_response_grows_in_its_file_and_has_its_name_at_the_end() {
    let mut bed = Bed::new();
    let bytes = body(300 * KIB, 2);
    let id = bed.lead(A);
    assert!(bed.begin(
        id,
        object("Cache-Control: max-age=60\r\n", Some(bytes.len()))
    ));
    assert_eq!(bed.take(id, &bytes), 0, "there is no file yet");
    bed.take_all(id, &bytes);
    bed.finish(id);
    bed.leave(id);
    assert_eq!(bed.files().len(), 0, "it has no name before all is written");
    bed.settle();
    assert_eq!(bed.kept(A), Some(bytes.clone()));
    bed.assert_nothing_is_left();
    bed.restart();
    assert_eq!(bed.kept(A), Some(bytes));
}

#[test]
fn a_response_of_unknown_length_moves_to_a_file_when_it_grows() {
    for len in [8 * KIB, 8 * KIB + 1, 100 * KIB] {
        let mut bed = Bed::new();
        let bytes = body(len, 3);
        let id = bed.lead(A);
        assert!(bed.begin(id, object("", None)));
        for piece in bytes.chunks(3000) {
            bed.take_all(id, piece);
        }
        bed.finish(id);
        let (read, end) = bed.read(id, 0, session(1));
        assert!(bytes.starts_with(&read) && matches!(end, Ahead::Nothing | Ahead::End));
        bed.leave(id);
        bed.settle();
        assert_eq!(bed.kept(A), Some(bytes.clone()), "{len} bytes");
        bed.assert_nothing_is_left();
        bed.restart();
        assert_eq!(bed.kept(A), Some(bytes));
    }
}

#[test]
fn followers_read_at_their_own_speed_and_are_woken_once_for_more() {
    let mut bed = Bed::new();
    let bytes = body(100 * KIB, 4);
    let id = bed.lead(A);
    for _ in 0..3 {
        assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
    }
    assert!(bed.store().0.is_wanted(id));
    assert!(bed.begin(id, object("", Some(bytes.len()))));
    assert!(bed.is_woken(session(2)));
    let UnderWay::Follow(followed) = bed.under_way(A, session(2)) else {
        panic!("there is a head");
    };
    assert_eq!(followed, id);
    bed.store().0.follow(id);
    assert!(bed.store().0.is_wanted(id));
    assert_eq!(bed.read(id, 0, session(2)), (Vec::new(), Ahead::Nothing));
    bed.take_all(id, &bytes[..70 * KIB]);
    bed.settle();
    assert!(bed.is_woken(session(2)));
    let (mut read, end) = bed.read(id, 0, session(2));
    assert_eq!((read.len(), end), (70 * KIB, Ahead::Nothing));
    bed.take_all(id, &bytes[70 * KIB..]);
    bed.finish(id);
    bed.leave(id);
    bed.settle();
    assert!(bed.is_woken(session(2)));
    let (rest, end) = bed.read(id, 70 * KIB as u64, session(2));
    read.extend(rest);
    assert!(read == bytes && end == Ahead::End);
    assert!(bed.store().0.left_over().is_some());
    bed.leave(id);
    bed.assert_nothing_is_left();
}

#[test]
fn those_who_follow_a_fetch_that_breaks_are_cut_and_those_who_wait_ask_again() {
    let mut bed = Bed::new();
    for len in [100, 100 * KIB] {
        let id = bed.lead(A);
        assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
        bed.break_off(id);
        assert!(bed.is_woken(session(2)));
        assert!(matches!(
            bed.under_way(A, session(2)),
            UnderWay::Nobody { alone: false }
        ));
        bed.assert_nothing_is_left();

        let id = bed.lead(A);
        assert!(bed.begin(id, object("", Some(len))));
        bed.store().0.follow(id);
        bed.take_all(id, &body(len / 2, 5));
        bed.settle();
        let (read, _) = bed.read(id, 0, session(2));
        assert_eq!(read.len(), len / 2);
        bed.break_off(id);
        assert!(bed.is_woken(session(2)));
        assert_eq!(bed.read(id, read.len() as u64, session(2)).1, Ahead::Broken);
        bed.leave(id);
        assert_eq!(bed.look(A, "").map(|kept| kept.body_bytes), None);
        bed.assert_nothing_is_left();
    }
}

const TAGGED: &str = "Cache-Control: max-age=60\r\nETag: \"1\"\r\n";

/// A tagged response of which `taken` of `len` bytes came, and no more will.
fn cut_off(bed: &mut Bed, len: usize, taken: usize) {
    let id = bed.lead(A);
    let fields = format!("{TAGGED}Content-Length: {len}\r\n");
    assert!(bed.begin(id, object(&fields, Some(len))));
    bed.take_all(id, &body(len, 5)[..taken]);
    bed.cut(id);
}

#[test]
fn what_is_there_of_a_fetch_that_is_cut_is_a_part_also_after_a_restart_and_a_loss_of_power() {
    for (len, taken) in [(100, 30), (8 * KIB, 8 * KIB - 1), (100 * KIB, 30 * KIB)] {
        let mut bed = Bed::new();
        cut_off(&mut bed, len, taken);
        bed.settle();
        for boot in [7, 7, 8] {
            let kept = bed.look(A, "").expect("it is kept");
            let part = kept.part.expect("a part");
            assert_eq!((part.range.start, part.range.end), (0, taken as u64));
            assert_eq!((part.total, kept.status.code()), (Some(len as u64), 206));
            drop(kept);
            assert!(bed.kept(A).expect("its body") == body(len, 5)[..taken]);
            bed.assert_nothing_is_left();
            bed.settings.boot = boot;
            bed.restart();
        }
        // What the power failed for is not believed.
        let path = bed.files().remove(0);
        let mut file = fs::read(&path).expect("the file");
        *file.last_mut().expect("a byte") ^= 1;
        fs::write(&path, file).expect("written");
        bed.settings.boot = 9;
        bed.restart();
        assert!(bed.look(A, "").is_none(), "{len}");
        bed.assert_nothing_is_left();
    }
}

#[test]
fn those_who_follow_what_is_cut_get_all_of_that_and_no_end() {
    for (len, taken) in [(100, 30), (100 * KIB, 30 * KIB)] {
        let mut bed = Bed::new();
        let id = bed.lead(A);
        let fields = format!("{TAGGED}Content-Length: {len}\r\n");
        assert!(bed.begin(id, object(&fields, Some(len))));
        bed.store().0.follow(id);
        bed.take_all(id, &body(len, 5)[..taken]);
        bed.cut(id);
        assert!(matches!(
            bed.under_way(A, session(3)),
            UnderWay::Nobody { alone: false }
        ));
        let (mut read, _) = bed.read(id, 0, session(2));
        bed.settle();
        let (rest, end) = bed.read(id, read.len() as u64, session(2));
        read.extend(rest);
        assert!(read == body(len, 5)[..taken] && end == Ahead::Broken);
        bed.leave(id);
        bed.assert_nothing_is_left();
    }
}

#[test]
fn where_the_disk_fails_what_is_cut_leaves_nothing() {
    for (what, fails) in FAILING {
        let mut bed = Bed::new();
        let len = 100 * KIB;
        let id = bed.lead(A);
        let fields = format!("{TAGGED}Content-Length: {len}\r\n");
        assert!(bed.begin(id, object(&fields, Some(len))));
        bed.settle();
        bed.take(id, &body(16 * KIB, 5));
        bed.cut(id);
        bed.settle_failing(fails, libc::EIO);
        let is_kept = bed.look(A, "").is_some();
        assert_eq!(is_kept, what == "create", "{what}: it was created before");
        bed.assert_nothing_is_left();
    }
}

#[test]
fn what_is_cut_does_not_take_the_place_of_more_or_of_the_whole() {
    for len in [1000, 100 * KIB] {
        let mut bed = Bed::new();
        let part_end = |bed: &mut Bed| {
            let kept = bed.look(A, "").expect("it is kept");
            kept.part.map(|part| part.range.end as usize)
        };
        for (taken, stays) in [(len / 2, len / 2), (len / 3, len / 2), (len - 1, len - 1)] {
            cut_off(&mut bed, len, taken);
            bed.settle();
            assert_eq!(part_end(&mut bed), Some(stays));
        }
        bed.keep(A, &body(len, 5));
        cut_off(&mut bed, len, len - 1);
        bed.settle();
        assert_eq!(part_end(&mut bed), None, "the whole stays");
        bed.assert_nothing_is_left();
        // What changed at its origin meanwhile is not kept in part either.
        let id = bed.lead("/b");
        let fields = format!("{TAGGED}Content-Length: {len}\r\n");
        assert!(bed.begin(id, object(&fields, Some(len))));
        bed.take_all(id, &body(len, 5)[..9]);
        let key = bed.key("/b");
        let (store, mut hands) = bed.store();
        store.invalidate(key, &mut hands);
        bed.cut(id);
        bed.settle();
        assert!(bed.look("/b", "").is_none());
        bed.assert_nothing_is_left();
    }
}

#[test]
fn nobody_waits_for_what_failed_or_could_not_be_kept() {
    for (time, passes) in [(Duration::from_secs(1), false), (PASS, true)] {
        let mut bed = Bed::new();
        let id = bed.lead(A);
        assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
        let (store, mut hands) = bed.store();
        match passes {
            true => store.pass(id, &mut hands),
            false => store.fail(id, &mut hands),
        }
        assert!(bed.is_woken(session(2)));
        let second = bed.lead(A);
        assert!(matches!(
            bed.under_way(A, session(2)),
            UnderWay::Nobody { alone: true }
        ));
        bed.break_off(second);
        bed.now += time;
        let third = bed.lead(A);
        assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
        bed.break_off(third);
        bed.assert_nothing_is_left();
    }
}

#[test]
fn a_head_is_waited_for_only_so_long() {
    let mut bed = Bed::new();
    let id = bed.lead(A);
    assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
    assert_eq!(bed.stores.deadline(), Some(bed.now + AWAIT));
    bed.now += AWAIT;
    bed.expire();
    assert!(bed.is_woken(session(2)));
    assert!(matches!(
        bed.under_way(A, session(2)),
        UnderWay::Nobody { alone: true }
    ));
    assert_eq!(bed.stores.deadline(), None);
    bed.break_off(id);
    bed.assert_nothing_is_left();
}

#[test]
fn a_fetch_whose_head_came_asks_for_no_alarm() {
    let mut bed = Bed::new();
    let ids: Vec<FetchId> = (0..10).map(|_| bed.lead(A)).collect();
    assert!(bed.begin(ids[0], object("", Some(0))));
    assert!(bed.stores.deadline().is_some());
    for id in ids {
        bed.break_off(id);
    }
    assert_eq!(bed.stores.deadline(), None);
    bed.assert_nothing_is_left();
}

/// Whether it is the job that fails.
type Fails = fn(&Job) -> bool;

/// What is done to a file.
type Damage = fn(&mut Vec<u8>);

/// Jobs that may fail while a large response is written.
const FAILING: [(&str, Fails); 4] = [
    ("create", |job| {
        matches!(job, Job::Command(Command::Create { .. }))
    }),
    ("body", |job| {
        matches!(job, Job::Command(Command::Write { offset: 1.., .. }))
    }),
    ("header", |job| {
        matches!(job, Job::Command(Command::Write { offset: 0, .. }))
    }),
    ("rename", |job| {
        matches!(job, Job::Command(Command::Rename { .. }))
    }),
];

#[test]
fn where_the_disk_fails_what_was_taken_is_still_read_and_nothing_is_left_of_it() {
    for (what, fails) in FAILING {
        for code in [libc::ENOSPC, libc::EIO] {
            let mut bed = Bed::new();
            let bytes = body(100 * KIB, 6);
            let id = bed.lead(A);
            assert!(bed.begin(id, object("", Some(bytes.len()))));
            bed.store().0.follow(id);
            let mut taken = 0;
            loop {
                taken += bed.take(id, &bytes[taken..]);
                if taken == bytes.len() || bed.gave_up(id) {
                    break;
                }
                bed.settle_failing(fails, code);
            }
            if !bed.gave_up(id) {
                bed.finish(id);
            }
            bed.settle_failing(fails, code);
            let (read, end) = bed.read(id, 0, session(1));
            assert_eq!(read.len(), taken, "{what}: the leader has what was taken");
            assert!(bytes.starts_with(&read), "{what}");
            let is_whole = taken == bytes.len();
            assert_eq!(
                end,
                if is_whole { Ahead::End } else { Ahead::Broken },
                "{what}"
            );
            assert_eq!(is_whole, matches!(what, "header" | "rename"));
            assert!(matches!(
                bed.under_way(A, session(3)),
                UnderWay::Nobody { alone: false }
            ));
            bed.leave(id);
            match is_whole {
                true => bed.leave(id),
                false => bed.break_off(id),
            }
            assert_eq!(bed.kept(A), None, "{what}");
            assert_eq!(bed.files().len(), 0, "{what}");
            assert_eq!(bed.store().0.counts().failed, 1);
            bed.assert_nothing_is_left();
        }
    }
}

#[test]
fn a_small_response_that_cannot_be_written_is_not_kept() {
    let mut bed = Bed::new();
    bed.settle();
    let id = bed.lead(A);
    assert!(bed.begin(id, object("", Some(10))));
    bed.take_all(id, &[1; 10]);
    bed.finish(id);
    bed.leave(id);
    bed.settle_failing(
        |job| matches!(job, Job::Command(Command::Put { .. })),
        libc::ENOSPC,
    );
    assert_eq!(bed.kept(A), None);
    bed.assert_nothing_is_left();
}

/// What was on its way to the disk when an object turned out to be too large was left out of what
/// the leader read.
#[test]
fn what_turns_out_to_be_too_large_is_passed_on_in_order() {
    let mut bed = Bed::with(|settings| settings.object_bytes_max = 50_000);
    let bytes = body(120_000, 7);
    let id = bed.lead(A);
    assert!(bed.begin(id, object("", None)));
    let mut taken = 0;
    let (mut read, mut end) = (Vec::new(), Ahead::Nothing);
    while !bed.gave_up(id) {
        taken += bed.take(id, &bytes[taken..]);
        let more = bed.read(id, read.len() as u64, session(1));
        read.extend(more.0);
        end = more.1;
        assert!(
            bytes.starts_with(&read),
            "{} bytes are not those that came",
            read.len()
        );
        if end == Ahead::Nothing {
            bed.work();
        }
    }
    assert!(matches!(
        bed.under_way(A, session(3)),
        UnderWay::Nobody { alone: false }
    ));
    while end == Ahead::Nothing {
        assert!(bed.work(), "it waits for nothing");
        let more = bed.read(id, read.len() as u64, session(1));
        read.extend(more.0);
        end = more.1;
    }
    assert!(bytes.starts_with(&read));
    assert_eq!((read.len(), end), (taken, Ahead::Broken));
    bed.break_off(id);
    assert_eq!(bed.kept(A), None);
    bed.assert_nothing_is_left();
}

#[test]
fn what_says_that_it_is_too_large_is_not_begun() {
    let mut bed = Bed::with(|settings| settings.object_bytes_max = 50_000);
    let id = bed.lead(A);
    assert!(matches!(bed.under_way(A, session(2)), UnderWay::Awaited));
    assert!(!bed.begin(id, object("", Some(50_001))));
    assert!(bed.is_woken(session(2)));
    bed.assert_nothing_is_left();
}

#[test]
fn requests_are_answered_while_the_folder_is_read_after_a_start() {
    let mut bed = Bed::new();
    let paths: Vec<String> = (0..40).map(|number| format!("/{number}")).collect();
    for (number, path) in paths.iter().enumerate() {
        bed.keep(path, &body(100 + number, number as u8));
    }
    bed.restart();
    let mut jobs = 0;
    while jobs < 5 && bed.work() {
        jobs += 1;
    }
    assert_eq!(bed.kept("/7"), Some(body(107, 7)));
    assert_eq!(bed.kept("/none"), None);
    assert!(bed.store().0.size().0.0 < 40, "not all is known yet");
    bed.settle();
    assert_eq!(bed.store().0.size().0.0, 40);
    for (number, path) in paths.iter().enumerate() {
        assert_eq!(bed.kept(path), Some(body(100 + number, number as u8)));
    }
    bed.assert_nothing_is_left();
}

/// What was found only later came back, although it was not true any more.
#[test]
fn what_is_invalidated_before_its_folder_was_read_does_not_come_back() {
    let mut bed = Bed::new();
    bed.keep(A, b"old");
    bed.keep("/b", b"another");
    bed.restart();
    let key = bed.key(A);
    let (store, mut hands) = bed.store();
    assert_eq!(store.invalidate(key, &mut hands), 0);
    bed.wall_ms += 1;
    assert_eq!(bed.kept(A), None);
    assert_eq!(bed.kept("/b").as_deref(), Some(&b"another"[..]));
    bed.keep(A, b"new");
    bed.assert_nothing_is_left();
    bed.restart();
    assert_eq!(bed.kept(A).as_deref(), Some(&b"new"[..]));
}

/// Its removal overtook its file, which a restart found.
#[test]
fn what_is_invalidated_while_it_is_written_does_not_come_back() {
    for len in [100, 100 * KIB] {
        let mut bed = Bed::new();
        bed.settle();
        let id = bed.lead(A);
        assert!(bed.begin(id, object("", Some(len))));
        bed.take_all(id, &body(len, 8));
        bed.finish(id);
        bed.leave(id);
        let started = bed.jobs.poll_start(bed.now);
        let key = bed.key(A);
        let (store, mut hands) = bed.store();
        store.invalidate(key, &mut hands);
        bed.settle();
        let (job_id, mut job) = started.expect("it is being written");
        let result = job.perform(&mut bed.disk);
        bed.jobs.finished(job_id, job, result, bed.now);
        bed.tell();
        bed.settle();
        assert_eq!(bed.kept(A), None);
        bed.assert_nothing_is_left();
        bed.restart();
        assert_eq!(bed.kept(A), None);
    }
}

#[test]
fn a_fetch_that_was_under_way_when_its_object_changed_is_not_kept() {
    for len in [100, 100 * KIB] {
        let mut bed = Bed::new();
        let id = bed.lead(A);
        assert!(bed.begin(id, object("", Some(len))));
        let key = bed.key(A);
        let (store, mut hands) = bed.store();
        store.invalidate(key, &mut hands);
        assert!(matches!(
            bed.under_way(A, session(2)),
            UnderWay::Nobody { alone: false }
        ));
        let second = bed.lead(A);
        let bytes = body(len, 9);
        bed.take_all(id, &bytes);
        bed.finish(id);
        assert!(bed.store().0.is_under_way(key), "the second one is");
        bed.settle();
        assert_eq!(bed.read(id, 0, session(1)), (bytes, Ahead::End));
        bed.leave(id);
        assert_eq!(bed.kept(A), None);
        bed.break_off(second);
        bed.assert_nothing_is_left();
    }
}

#[test]
fn a_file_that_is_not_what_was_written_is_never_served() {
    let damages: [(&str, Damage); 7] = [
        ("cut", |bytes| bytes.truncate(bytes.len() - 1)),
        ("cut in its header", |bytes| bytes.truncate(100)),
        ("empty", Vec::clear),
        ("longer", |bytes| bytes.push(0)),
        ("a bit of its header", |bytes| bytes[150] ^= 1),
        ("its first byte", |bytes| bytes[0] ^= 1),
        ("zeros", |bytes| bytes.fill(0)),
    ];
    for len in [500, 100 * KIB] {
        for (what, damage) in damages {
            let mut bed = Bed::new();
            bed.keep(A, &body(len, 10));
            let file = bed.files().pop().expect("a file");
            let mut bytes = fs::read(&file).expect("a file");
            damage(&mut bytes);
            fs::write(&file, &bytes).expect("a file");
            bed.restart();
            assert_eq!(bed.kept(A), None, "{what}, {len} bytes");
            bed.assert_nothing_is_left();
            bed.keep(A, b"anew");
            assert_eq!(bed.kept(A).as_deref(), Some(&b"anew"[..]));
        }
    }
}

#[test]
fn after_another_boot_a_body_is_believed_by_its_checksum_only() {
    for (len, flips, is_served) in [
        (500, false, true),
        (500, true, false),
        (100 * KIB, false, true),
        (100 * KIB, true, false),
    ] {
        let mut bed = Bed::new();
        bed.keep(A, &body(len, 11));
        let file = bed.files().pop().expect("a file");
        let mut bytes = fs::read(&file).expect("a file");
        *bytes.last_mut().expect("a body") ^= u8::from(flips);
        fs::write(&file, &bytes).expect("a file");
        bed.settings.boot = 8;
        bed.restart();
        assert_eq!(
            bed.kept(A).is_some(),
            is_served,
            "{len} bytes, flipped: {flips}"
        );
        bed.assert_nothing_is_left();
    }
}

#[test]
fn a_file_that_was_removed_by_hand_is_a_miss_and_an_open_one_is_still_read() {
    let mut bed = Bed::new();
    bed.keep(A, &body(100 * KIB, 12));
    fs::remove_file(&bed.files()[0]).expect("a file");
    assert_eq!(bed.kept(A), Some(body(100 * KIB, 12)));
    bed.restart();
    assert_eq!(bed.kept(A), None);
    bed.keep("/b", &body(500, 13));
    bed.restart();
    bed.settle();
    fs::remove_file(&bed.files()[0]).expect("a file");
    assert_eq!(bed.kept("/b"), None);
    bed.assert_nothing_is_left();
}

#[test]
fn without_its_folder_the_store_gives_up_and_leaves_nothing() {
    let mut bed = Bed::new();
    bed.keep("/b", &body(50 * KIB, 14));
    fs::remove_dir_all(&bed.settings.dir).expect("a folder");
    for len in [100, 100 * KIB] {
        let id = bed.lead(A);
        assert!(bed.begin(id, object("", Some(len))));
        bed.settle();
        if !bed.gave_up(id) {
            assert_eq!(bed.take(id, &body(len, 15)), len);
            bed.finish(id);
            bed.leave(id);
        } else {
            bed.break_off(id);
        }
        bed.settle();
        assert_eq!(bed.kept(A), None);
    }
    assert_eq!(bed.kept("/b"), Some(body(50 * KIB, 14)), "it is open");
    assert_eq!(bed.store().0.left_over(), None);
    assert!(bed.jobs.is_idle());
    assert_eq!(bed.pool.pages_held(), 0);
}

#[test]
fn what_has_to_go_leaves_no_file() {
    let mut bed = Bed::with(|settings| settings.objects_max = 5);
    for number in 0..20 {
        let len = if number % 2 == 0 { 100 } else { 20 * KIB };
        bed.keep(&format!("/{number}"), &body(len, number));
        bed.assert_nothing_is_left();
    }
    assert_eq!(bed.files().len(), 5);
    assert_eq!(bed.store().0.counts().evicted, 15);
    bed.settings.objects_max = 2;
    let id = bed.stores.open(bed.settings.clone(), &mut bed.disk);
    assert_eq!(id, bed.id, "one folder is one store");
    bed.scan();
    bed.assert_nothing_is_left();
    assert_eq!(bed.files().len(), 2);
}

/// Of a burst that the disk did not take at once, most was lost, and the removal of files that
/// there had never been kept the disk from writing the rest.
#[test]
fn what_the_disk_does_not_take_at_once_waits_in_memory() {
    let mut bed = Bed::new();
    let body_of = |number: usize| body(100 + number, number as u8);
    for number in 0..300 {
        bed.keep_unwritten(&format!("/{number}"), &body_of(number));
    }
    for number in 0..300 {
        assert_eq!(bed.kept(&format!("/{number}")), Some(body_of(number)));
    }
    bed.settle_in_turns();
    bed.assert_nothing_is_left();
    assert_eq!(bed.files().len(), 300);
    assert_eq!(bed.store().0.counts().failed, 0);
    bed.restart();
    bed.settle();
    for number in 0..300 {
        assert_eq!(bed.kept(&format!("/{number}")), Some(body_of(number)));
    }
}

#[test]
fn what_waits_for_the_disk_and_has_to_go_leaves_nothing() {
    let mut bed = Bed::with(|settings| settings.memory_bytes_max = 64 * KIB);
    bed.settle();
    for number in 0..300 {
        bed.keep_unwritten(&format!("/{number}"), &body(KIB, number as u8));
    }
    // The last ones are in memory and wait.
    let key = bed.key("/299");
    let (store, mut hands) = bed.store();
    assert_eq!(store.invalidate(key, &mut hands), 1);
    let key = bed.key("/298");
    let (store, mut hands) = bed.store();
    assert_eq!(store.purge(key, session(1), &mut hands), Poll::Ready(Ok(1)));
    bed.settle_in_turns();
    bed.assert_nothing_is_left();
    assert_eq!(bed.kept("/0"), Some(body(KIB, 0)), "it was begun at once");
    assert_eq!(bed.kept("/100"), None, "memory was wanted for others");
    assert_eq!(bed.kept("/297"), Some(body(KIB, 41)));
    assert_eq!(bed.kept("/298"), None);
    assert_eq!(bed.kept("/299"), None);
}

/// Its file came after its removal and stayed for ever.
#[test]
fn what_is_more_than_there_is_room_for_leaves_no_file() {
    for len in [5000, 30_000] {
        let mut bed = Bed::with(|settings| settings.bytes_max = 4000);
        bed.keep(A, &body(len, 1));
        assert_eq!(bed.kept(A), None);
        bed.assert_nothing_is_left();
        assert_eq!(bed.files().len(), 0);
    }
}

#[test]
fn a_disk_that_refuses_to_remove_is_asked_again() {
    let mut bed = Bed::with(|settings| settings.objects_max = 50);
    for number in 0..50 {
        bed.keep(&format!("/{number}"), b"x");
    }
    bed.jobs.set_limits(DiskLimits {
        waiting_per_disk_max: 3,
        ..DiskLimits::default()
    });
    bed.settings.objects_max = 10;
    let id = bed.stores.open(bed.settings.clone(), &mut bed.disk);
    assert_eq!(id, bed.id);
    bed.scan();
    bed.settle();
    assert_eq!(bed.files().len(), 10);
    bed.keep("/next", b"x");
    bed.assert_nothing_is_left();
    assert_eq!(bed.files().len(), 10);
}

#[test]
fn a_busy_disk_reads_the_folder_later() {
    let mut bed = Bed::new();
    for number in 0..20 {
        bed.keep(&format!("/{number}"), b"x");
    }
    bed.restart();
    bed.jobs.set_limits(DiskLimits {
        waiting_per_disk_max: 1,
        ..DiskLimits::default()
    });
    bed.settle();
    assert_eq!(bed.store().0.size().0.0, 20);
    bed.assert_nothing_is_left();
}

/// An object that did not fit into memory was read for ever.
#[test]
fn where_memory_is_small_objects_are_read_each_time() {
    for memory_bytes_max in [0, 2000] {
        let mut bed = Bed::with(|settings| settings.memory_bytes_max = memory_bytes_max);
        for number in 0..6 {
            let len = if number % 2 == 0 { 1000 } else { 20 * KIB };
            bed.keep(&format!("/{number}"), &body(len, number));
        }
        for round in 0..2 {
            for number in 0..6 {
                let len = if number % 2 == 0 { 1000 } else { 20 * KIB };
                let path = format!("/{number}");
                assert_eq!(bed.kept(&path), Some(body(len, number)), "round {round}");
                let (_, bytes) = bed.store().0.size().1;
                assert!(bytes <= memory_bytes_max, "{bytes} bytes are in memory");
            }
        }
        bed.assert_nothing_is_left();
    }
}

/// What could be opened but not read at once was opened anew for every answer of the disk, and the
/// answer was that of another file.
#[test]
fn what_is_opened_at_once_and_not_read_at_once_is_read_all_the_same() {
    let mut bed = Bed::new();
    for number in 0..4 {
        bed.keep(
            &format!("/{number}"),
            &body((number + 1) * 7 * KIB, number as u8),
        );
    }
    for memory_bytes_max in [16 << 20, 0] {
        bed.settings.memory_bytes_max = memory_bytes_max;
        bed.restart();
        unix::COLD.set(true);
        for number in 0..4 {
            let expected = body((number + 1) * 7 * KIB, number as u8);
            assert_eq!(bed.kept(&format!("/{number}")), Some(expected));
        }
        unix::COLD.set(false);
    }
    bed.assert_nothing_is_left();
}

#[test]
fn responses_that_vary_are_kept_beside_each_other() {
    let mut bed = Bed::new();
    let keep = |bed: &mut Bed, language: &str| {
        let id = bed.lead(A);
        let mut object = object("Vary: accept-language\r\n", Some(language.len()));
        let fields = format!("Accept-Language: {language}\r\n");
        let response = Rc::clone(&object.head);
        let mut scanner = HeadScanner::default();
        let parsed = scanner.response(&response, &HeadLimits::DEFAULT, Method::Get);
        let Ok(Parsed::Complete(response, _)) = parsed else {
            panic!("a head");
        };
        let mut selecting = Vec::new();
        asking(A, &fields, |head| {
            vary::put_key(&mut selecting, &response.headers, &head.headers).expect("a key");
        });
        object.selecting = selecting.into();
        assert!(bed.begin(id, object));
        bed.take_all(id, language.as_bytes());
        bed.finish(id);
        bed.leave(id);
        bed.settle();
    };
    for language in ["de", "fr", "it"] {
        keep(&mut bed, language);
    }
    for memory_bytes_max in [16 << 20, 0] {
        bed.settings.memory_bytes_max = memory_bytes_max;
        bed.restart();
        for language in ["fr", "de", "it"] {
            let found = bed.look(A, &format!("Accept-Language: {language}\r\n"));
            let found = found.expect("it is kept");
            let Body::Bytes(bytes) = &found.body else {
                panic!("it is small");
            };
            assert_eq!(**bytes, *language.as_bytes());
        }
        assert!(bed.look(A, "Accept-Language: en\r\n").is_none());
        assert!(bed.look(A, "").is_none());
    }
    bed.assert_nothing_is_left();
}

#[test]
fn what_was_found_to_be_good_still_has_its_new_head() {
    for len in [100, 100 * KIB] {
        let mut bed = Bed::new();
        bed.keep(A, &body(len, 16));
        let kept = bed.look(A, "").expect("it is kept");
        let Object {
            head, terms, times, ..
        } = object("Cache-Control: max-age=99\r\n", None);
        let (store, mut hands) = bed.store();
        let fresh = store.refreshed(&kept, (Rc::clone(&head), terms, times), &mut hands);
        assert_eq!(fresh.head, head);
        assert_eq!(bed.look(A, "").expect("it is kept").head, head);
        assert_eq!(bed.kept(A), Some(body(len, 16)));
        bed.assert_nothing_is_left();
        bed.settle();
        bed.restart();
        let again = bed.look(A, "").expect("it is kept");
        assert_eq!(again.head, head);
    }
}

/// The older body took the place of the newer one.
#[test]
fn what_is_found_to_be_good_does_not_replace_what_came_since() {
    let mut bed = Bed::new();
    bed.keep(A, b"old");
    let kept = bed.look(A, "").expect("it is kept");
    let key = bed.key(A);
    let (store, mut hands) = bed.store();
    store.invalidate(key, &mut hands);
    bed.keep(A, b"new");
    let Object {
        head, terms, times, ..
    } = object("Cache-Control: max-age=99\r\n", None);
    let (store, mut hands) = bed.store();
    store.refreshed(&kept, (head, terms, times), &mut hands);
    assert_eq!(bed.kept(A).as_deref(), Some(&b"new"[..]));
    bed.assert_nothing_is_left();
    bed.restart();
    assert_eq!(bed.kept(A).as_deref(), Some(&b"new"[..]));
}

/// It was taken for older than what was there, and never kept.
#[test]
fn what_comes_after_the_clock_was_set_back_is_newer_all_the_same() {
    let mut bed = Bed::new();
    bed.keep(A, b"old");
    bed.wall_ms -= 1_000_000;
    bed.restart();
    assert_eq!(bed.kept(A).as_deref(), Some(&b"old"[..]));
    bed.keep(A, b"new");
    assert_eq!(bed.kept(A).as_deref(), Some(&b"new"[..]));
    bed.assert_nothing_is_left();
    bed.restart();
    assert_eq!(bed.kept(A).as_deref(), Some(&b"new"[..]));
}

#[test]
fn another_process_in_the_same_folder_has_memory_only() {
    let mut bed = Bed::new();
    bed.keep(A, b"x");
    let mut other = Stores::default();
    let id = other.open(bed.settings.clone(), &mut bed.disk);
    std::mem::swap(&mut other, &mut bed.stores);
    let first = std::mem::replace(&mut bed.id, id);
    assert_eq!(bed.kept(A), None);
    bed.keep(A, b"y");
    assert_eq!(bed.kept(A).as_deref(), Some(&b"y"[..]));
    assert_eq!(bed.files().len(), 1);
    let key = bed.key(A);
    let (store, mut hands) = bed.store();
    assert_eq!(store.invalidate(key, &mut hands), 1);
    assert_eq!(bed.kept(A), None);
    std::mem::swap(&mut other, &mut bed.stores);
    bed.id = first;
    assert_eq!(bed.kept(A).as_deref(), Some(&b"x"[..]));
    bed.assert_nothing_is_left();
}

#[test]
fn a_fetch_of_one_generation_is_not_that_of_another() {
    let mut bed = Bed::new();
    let first = bed.lead(A);
    bed.break_off(first);
    let second = bed.lead(A);
    assert_eq!(first.index, second.index);
    assert!(bed.gave_up(first));
    bed.leave(first);
    bed.break_off(first);
    assert!(bed.begin(second, object("", Some(3))));
    bed.finish(first);
    assert_eq!(bed.read(first, 0, session(1)).1, Ahead::Broken);
    bed.take_all(second, b"abc");
    bed.finish(second);
    bed.leave(second);
    assert_eq!(bed.kept(A).as_deref(), Some(&b"abc"[..]));
    bed.assert_nothing_is_left();
}

/// After a start the bans of the last process are in force before it is known what they cover.
#[test]
fn what_was_banned_is_not_used_after_a_start_though_its_file_is_there() {
    let mut bed = Bed::new();
    bed.keep("/a/1", &body(100, 1));
    bed.keep("/b/1", &body(100, 2));
    bed.wall_ms += 5000;
    let (store, mut hands) = bed.store();
    let scope = Scope::Prefix("GET http://h.test/a/".to_owned());
    assert!(store.ban(scope, session(1), &mut hands).is_pending());
    let removes = |job: &Job| matches!(job, Job::Command(Command::Remove { .. }));
    bed.settle_failing(removes, libc::EIO);
    assert_eq!(bed.files().len(), 2, "what is banned could not be removed");
    bed.restart();
    assert!(bed.look("/a/1", "").is_none());
    assert_eq!(bed.kept("/b/1"), Some(body(100, 2)));
    bed.wall_ms -= 5000; // the clock of this process is behind that of the last one
    bed.keep_unwritten("/a/1", &body(100, 3));
    assert_eq!(bed.kept("/a/1"), Some(body(100, 3)));
    bed.settle();
    assert_eq!(bed.kept("/a/1"), Some(body(100, 3)));
    assert_eq!(bed.files().len(), 2);
}

mod parts;
