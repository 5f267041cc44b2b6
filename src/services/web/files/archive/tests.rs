//! What a folder comes to as an archive, over a real disk; read back by small readers of our own.
//! Those of others stand in `tests/archives.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::buffer::Front;
use crate::cache::compressed::Compressed;
use crate::disk::Disk;
use crate::dns::{self, Hosts, Resolver};
use crate::http::body::BodyDecoder;
use crate::http::head::BodyLength;
use crate::jobs::Jobs;
use crate::limits::DiskLimits;
use crate::metrics::{Counted, ListenerMetrics, Metrics};
use crate::service::work::Work;
use crate::service::{Id, Service, Waiter};
use crate::services::web::Web;
use crate::sys::unix;

/// The session that an archive is for.
const ID: Id = Id {
    index: 0,
    generation: 0,
};

/// A folder, and an archive of it that is being made.
struct Site {
    dir: tempfile::TempDir,
    disk: unix::Files,
    jobs: Jobs<Waiter>,
    pool: Pool,
    tx: SendQueue,
    metrics: Metrics,
    resolver: Resolver<Id>,
    now: Instant,
    elsewhere: Vec<Vec<u8>>,
    limits: ArchiveLimits,
    /// Each archive of the root has one.
    places: Rc<()>,
}

/// The names of an archive, and what is in the files; `None` for folders.
type Contents = BTreeMap<String, Option<Vec<u8>>>;

impl Site {
    /// With files of these names and sizes below its root; a name with a slash at its end is a
    /// folder.
    fn new(names: &[(&str, usize)]) -> Self {
        Self::on(false, names)
    }

    /// The same; `is_slow`: over a disk that answers by jobs only.
    fn on(is_slow: bool, names: &[(&str, usize)]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir(dir.path().join("root")).expect("made");
        for (name, len) in names {
            let path = dir.path().join("root").join(name);
            let folder = if name.ends_with('/') {
                Some(&*path)
            } else {
                path.parent()
            };
            fs::create_dir_all(folder.expect("a folder")).expect("made");
            if !name.ends_with('/') {
                fs::write(path, bytes(name, *len)).expect("written");
            }
        }
        let listener = ListenerMetrics::new("http", "http", String::new(), Web::counts());
        Self {
            dir,
            disk: unix::Files {
                all_are_slow: is_slow,
            },
            jobs: Jobs::new(DiskLimits::default()),
            pool: Pool::new(64 << 20, 1 << 20),
            tx: SendQueue::new(256 * 1024),
            metrics: Metrics {
                listeners: [(0, listener)].into_iter().collect(),
                ..Metrics::default()
            },
            resolver: Resolver::new(dns::Config::default(), Hosts::parse(""), [7; 32]),
            now: Instant::now(),
            elsewhere: Vec::new(),
            limits: ArchiveLimits::default(),
            places: Rc::new(()),
        }
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join("root").join(name)
    }

    /// An archive of a folder below the root, under the name `top`.
    fn archive(&mut self, folder: &str, format: Format, framing: Framing) -> Archive {
        let root = self.disk.open_folder(&self.path("")).expect("the root");
        let metadata = self.disk.look(&root, Path::new(folder)).expect("a folder");
        let wanted = Wanted {
            root: &root,
            folder: Path::new(folder),
            metadata,
            name: b"top",
            elsewhere: &Rc::from(self.elsewhere.clone()),
            limits: self.limits,
        };
        Archive::new(&wanted, format, framing, Rc::clone(&self.places))
    }

    fn advance(&mut self, archive: &mut Archive) -> Result<Packed, Stopped> {
        let mut cx = Cx {
            jobs: &mut self.jobs,
            hooks: &mut crate::hooks::Hooks::default(),
            now: self.now,
            wall: SystemTime::UNIX_EPOCH,
            turn: self.metrics.turns,
            draining: false,
            pool: &mut self.pool,
            disk: &mut self.disk,
            resolver: &mut self.resolver,
            stores: &mut crate::cache::store::Stores::default(),
            senders: &mut crate::inside::roster::Roster::default(),
            compressed: &mut Compressed::new(1 << 20),
            inside: &mut crate::inside::Inside::default(),
            woken: &mut Vec::new(),
            work: &mut Work::new(Duration::MAX),
            counted: Counted::new(&mut self.metrics, 0),
        };
        archive.go_on(&mut self.tx, ID, &mut cx)
    }

    /// Takes what waits to be sent.
    fn take(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let before = all.len();
            match self.tx.front() {
                Front::Empty => return all,
                Front::Piped(_) => unreachable!("an archive is read"),
                Front::One(bytes, _) => all.extend_from_slice(bytes),
                Front::Many(runs, count, _) => {
                    runs[..count]
                        .iter()
                        .for_each(|run| all.extend_from_slice(run));
                }
                Front::File(file, offset, len) => {
                    let mut bytes = vec![0; len as usize];
                    let count = self.disk.read_at(file, offset, &mut bytes).expect("read");
                    assert!(count > 0, "the file is shorter than was promised");
                    all.extend_from_slice(&bytes[..count]);
                }
            }
            self.tx.sent(all.len() - before, &mut self.pool);
        }
    }

    /// Does the jobs that are there; how many.
    fn disk_answers(&mut self) -> usize {
        let mut count = 0;
        while let Some((id, mut job)) = self.jobs.poll_start(self.now) {
            let result = job.perform(&mut self.disk);
            self.jobs.finished(id, job, result, self.now);
            count += 1;
        }
        while self.jobs.poll_woken().is_some() {}
        count
    }

    /// Goes on until the queue is full, or there is no more.
    fn fill(&mut self, archive: &mut Archive) -> Packed {
        loop {
            match self.advance(archive).expect("no error") {
                Packed::Waits(_) => _ = self.disk_answers(),
                Packed::Later => self.metrics.turns += 1,
                packed => return packed,
            }
        }
    }

    /// All that an archive comes to.
    fn whole(&mut self, mut archive: Archive) -> Result<Vec<u8>, Stopped> {
        let mut all = Vec::new();
        loop {
            let progress = self.advance(&mut archive)?;
            all.append(&mut self.take());
            match progress {
                Packed::Done => return Ok(all),
                Packed::Full => {}
                Packed::Later => self.metrics.turns += 1,
                Packed::Waits(_) => {
                    // Again before the disk has answered, there is nothing to do.
                    let again = self.advance(&mut archive)?;
                    assert_eq!((again, self.tx.is_empty()), (progress, true));
                    assert!(self.disk_answers() > 0, "it waits for nothing");
                }
            }
        }
    }

    /// Whether the names of the folder that is packed were not all looked at.
    fn walk_is_in_the_root(&self, archive: &Archive) -> bool {
        !archive.walk.is_below()
    }

    fn packed(&mut self, folder: &str, format: Format) -> Result<Contents, Stopped> {
        let archive = self.archive(folder, format, Framing::UntilClose);
        let all = self.whole(archive)?;
        Ok(match format {
            Format::Tar => read_tar(&all),
            Format::Zip => read_zip(&all),
        })
    }
}

/// Some bytes, others for each name.
fn bytes(name: &str, len: usize) -> Vec<u8> {
    name.bytes()
        .cycle()
        .zip(0u8..=255)
        .map(|(a, b)| a ^ b)
        .cycle()
        .take(len)
        .collect()
}

fn read_tar(mut all: &[u8]) -> Contents {
    let mut contents = Contents::new();
    let mut path = None;
    loop {
        let (header, rest) = all.split_at(512);
        if header.iter().all(|&byte| byte == 0) {
            assert_eq!(rest, [0; 512], "two blocks of zeros and no more");
            return contents;
        }
        let field = |at: usize, len: usize| {
            let text = String::from_utf8_lossy(&header[at..at + len]);
            text.trim_end_matches(['\0', ' ']).to_owned()
        };
        let len = usize::from_str_radix(&field(124, 12), 8).expect("octal");
        let (data, rest) = rest.split_at(len);
        all = &rest[tar::padding(len as u64)..];
        let short = match field(345, 155) {
            prefix if prefix.is_empty() => field(0, 100),
            prefix => format!("{prefix}/{}", field(0, 100)),
        };
        match header[156] {
            b'x' => {
                let text = String::from_utf8_lossy(data).into_owned();
                let (_, value) = text.split_once(" path=").expect("a path");
                path = Some(value.trim_end().to_owned());
                continue;
            }
            b'5' => contents.insert(path.take().unwrap_or(short), None),
            _ => contents.insert(path.take().unwrap_or(short), Some(data.to_vec())),
        };
    }
}

fn read_zip(all: &[u8]) -> Contents {
    let number = |at: usize, len: usize| {
        let mut number = [0; 8];
        number[..len].copy_from_slice(&all[at..at + len]);
        usize::try_from(u64::from_le_bytes(number)).expect("a number")
    };
    let end = all.len() - 22;
    assert_eq!(&all[end..end + 4], b"PK\x05\x06");
    let mut contents = Contents::new();
    let mut at = number(end + 16, 4);
    for _ in 0..number(end + 10, 2) {
        assert_eq!(&all[at..at + 4], b"PK\x01\x02");
        let (name_len, extra) = (number(at + 28, 2), number(at + 30, 2));
        let name = String::from_utf8_lossy(&all[at + 46..at + 46 + name_len]).into_owned();
        let (len, local) = (number(at + 24, 4), number(at + 42, 4));
        assert_eq!(&all[local..local + 4], b"PK\x03\x04");
        let data = local + 30 + number(local + 26, 2) + number(local + 28, 2);
        let data = all[data..data + len].to_vec();
        assert_eq!(
            crc32fast::hash(&data) as usize,
            number(at + 16, 4),
            "{name}"
        );
        let is_folder = name.ends_with('/');
        contents.insert(name, (!is_folder).then_some(data));
        at += 46 + name_len + extra;
    }
    assert_eq!(at, end, "the directory ends where the end begins");
    contents
}

const BOTH: [Format; 2] = [Format::Tar, Format::Zip];

#[test]
fn a_folder_is_packed_with_all_below_it() {
    let names = [
        ("f/empty", 0),
        ("f/small", 10),
        ("f/block", 512),
        ("f/piece", PIECE_BYTES),
        ("f/more", PIECE_BYTES + 1),
        ("f/large", 3 * PIECE_BYTES + 77),
        ("f/a/b/c", 5),
        ("f/f\u{fc}r/x y", 7),
        ("f/nothing/", 0),
        ("beside", 3),
    ];
    let mut expected = Contents::new();
    for (name, len) in &names[..9] {
        let path = name.strip_prefix("f/").expect("below");
        expected.insert(
            format!("top/{path}"),
            (!name.ends_with('/')).then(|| bytes(name, *len)),
        );
    }
    for folder in ["", "a/", "a/b/", "f\u{fc}r/"] {
        expected.insert(format!("top/{folder}"), None);
    }
    for is_slow in [false, true] {
        let mut site = Site::on(is_slow, &names);
        for format in BOTH {
            assert_eq!(
                site.packed("f", format).expect("whole"),
                expected,
                "{format:?}, slow: {is_slow}"
            );
        }
        // The root itself, and a folder without anything.
        let root = site.packed("", Format::Tar).expect("whole");
        assert_eq!(root.len(), expected.len() + 2);
        let none = site.packed("f/nothing", Format::Zip).expect("whole");
        assert_eq!(none.into_keys().collect::<Vec<_>>(), ["top/"]);
        assert!(site.jobs.is_idle());
    }
}

#[test]
fn a_slow_disk_is_asked_for_many_names_at_once() {
    let names: Vec<_> = (0..100).map(|i| format!("a-{i:03}/")).collect();
    let names: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let mut site = Site::on(true, &names);
    let mut archive = site.archive("", Format::Tar, Framing::UntilClose);
    let (mut rounds, mut jobs) = (0, 0);
    while site.walk_is_in_the_root(&archive) {
        match site.advance(&mut archive).expect("no error") {
            Packed::Waits(_) => {
                let count = site.disk_answers();
                (rounds, jobs) = (rounds + 1, jobs + count);
                assert!(count <= walk::LOOKS_MAX, "{count}");
            }
            Packed::Later => site.metrics.turns += 1,
            Packed::Full => drop(site.take()),
            Packed::Done => panic!("there are folders below"),
        }
    }
    assert!((100..105).contains(&jobs), "{jobs}");
    assert!(rounds < 100 / walk::LOOKS_MAX + 10, "{rounds}");
}

#[test]
fn an_archive_that_has_no_client_any_more_leaves_no_job_and_no_open_file() {
    for rounds in 0..40 {
        let mut site = Site::on(
            true,
            &[("a/b", 10), ("c", 300_000), ("d", 40_000), ("e", 3)],
        );
        for format in BOTH {
            let mut archive = site.archive("", format, Framing::UntilClose);
            for _ in 0..rounds {
                if let Packed::Waits(_) = site.advance(&mut archive).expect("no error") {
                    site.disk_answers();
                }
                site.metrics.turns += 1;
                site.take();
            }
            let _ = site.advance(&mut archive).expect("no error");
            let begun = site.jobs.poll_start(site.now);
            drop(archive);
            site.jobs.forget(Waiter::Session(ID));
            if let Some((id, mut job)) = begun {
                let result = job.perform(&mut site.disk);
                site.jobs.finished(id, job, result, site.now);
            }
            assert!(site.jobs.is_idle(), "{format:?} after {rounds} rounds");
            site.take();
            assert_eq!(site.pool.pages_held(), 0);
        }
    }
}

#[test]
fn it_is_told_since_when_it_cannot_go_on_for_the_disk() {
    let mut site = Site::on(true, &[("a/", 0), ("b/", 0)]);
    let mut archive = site.archive("", Format::Tar, Framing::UntilClose);
    for _ in 0..3 {
        let since = site.now;
        for _ in 0..2 {
            let packed = site.advance(&mut archive).expect("no error");
            assert_eq!(packed, Packed::Waits(since));
            site.now += Duration::from_secs(1);
        }
        site.disk_answers();
    }
}

#[test]
fn a_script_stays_executable() {
    let mut site = Site::new(&[("run", 3)]);
    fs::set_permissions(site.path("run"), fs::Permissions::from_mode(0o750)).expect("a mode");
    let archive = site.archive("", Format::Tar, Framing::UntilClose);
    let all = site.whole(archive).expect("whole");
    assert_eq!(&all[512 + 100..512 + 108], b"0000755\0");
}

#[test]
fn what_a_listing_does_not_show_is_not_packed() {
    for is_slow in [false, true] {
        what_a_listing_does_not_show_is_not_packed_on(is_slow);
    }
}

fn what_a_listing_does_not_show_is_not_packed_on(is_slow: bool) {
    let mut site = Site::on(
        is_slow,
        &[
            (".git/config", 1),
            ("a/.hidden", 1),
            ("a/shown", 1),
            ("private/secret", 1),
            ("b/private/open", 1),
        ],
    );
    fs::create_dir(site.dir.path().join("outside")).expect("made");
    for (link, to) in [
        ("out", "../outside"),
        ("absolute", "/etc/passwd"),
        ("dead", "nowhere"),
        ("loop", "loop"),
        ("a/up", ".."),
        ("a/same", "."),
        ("link", "a"),
        ("file", "a/shown"),
    ] {
        symlink(to, site.path(link)).expect("a link");
    }
    let _socket = std::os::unix::net::UnixListener::bind(site.path("socket")).expect("a socket");
    site.elsewhere = vec![b"private".to_vec()];
    for format in BOTH {
        let names = site.packed("", format).expect("whole");
        let names: Vec<_> = names.into_keys().collect();
        let expected = [
            "top/",
            "top/a/",
            "top/a/shown",
            "top/b/",
            "top/b/private/",
            "top/b/private/open",
            "top/file",
            "top/link/",
            "top/link/shown",
        ];
        assert_eq!(names, expected, "{format:?}");
    }
}

#[test]
fn in_chunks_it_is_the_same_and_ends_with_the_last_one() {
    for is_slow in [false, true] {
        let mut site = Site::on(
            is_slow,
            &[("a", 10), ("b", 40_000), ("c/d", 100_000), ("e", 0)],
        );
        for format in BOTH {
            let plain = site.archive("", format, Framing::UntilClose);
            let plain = site.whole(plain).expect("whole");
            let chunked = site.archive("", format, Framing::Chunked);
            let chunked = site.whole(chunked).expect("whole");
            let mut decoder = BodyDecoder::new(BodyLength::Chunked);
            let (mut rest, mut decoded) = (&chunked[..], Vec::new());
            while !decoder.is_done() {
                let step = decoder.step(rest).expect("chunks");
                decoded.extend_from_slice(&rest[step.framing..step.consumed()]);
                rest = &rest[step.consumed()..];
            }
            assert!(rest.is_empty());
            assert!(decoded == plain, "{format:?}");
        }
    }
}

#[test]
fn the_work_of_a_turn_is_bounded_and_shared() {
    let mut site = Site::new(&[]);
    for i in 0..1000 {
        fs::write(site.path(format!(".hidden-{i}")), "").expect("written");
    }
    for archives in [1, 4, 1000] {
        let mut archive = site.archive("", Format::Tar, Framing::Chunked);
        let _others = vec![Rc::clone(&site.places); archives - 1];
        let mut turns = 0;
        loop {
            match site.advance(&mut archive).expect("no error") {
                Packed::Later => {}
                Packed::Waits(_) => {
                    site.disk_answers(); // names, which come by jobs
                    continue;
                }
                Packed::Done | Packed::Full => break,
            }
            // Again in the same turn, there is nothing to do.
            let queued = site.tx.memory_bytes();
            let again = site.advance(&mut archive).expect("no error");
            assert_eq!((again, site.tx.memory_bytes()), (Packed::Later, queued));
            site.metrics.turns += 1;
            turns += 1;
        }
        let steps = (STEPS_PER_TURN / archives).max(1);
        assert!((1000 / steps..1100 / steps).contains(&turns), "{turns}");
        site.take();
    }
}

#[test]
fn a_client_that_takes_nothing_holds_one_file_and_one_queue() {
    let names: Vec<_> = (0..200).map(|i| format!("file-{i:03}")).collect();
    let names: Vec<_> = names.iter().map(|name| (name.as_str(), 50_000)).collect();
    let mut site = Site::new(&names);
    let open_files = || fs::read_dir("/proc/self/fd").expect("a folder").count();
    for format in BOTH {
        let before = open_files();
        let mut archive = site.archive("", format, Framing::Chunked);
        assert_eq!(site.fill(&mut archive), Packed::Full, "{format:?}");
        assert!(
            site.tx.was_refused(),
            "so that it goes on when there is room"
        );
        assert!(site.tx.memory_bytes() <= 256 * 1024 + STEP_BYTES);
        // Tests beside this one open files too.
        assert!(open_files() < before + 100, "{format:?}");
        site.tx.clear(&mut site.pool);
    }
}

#[test]
fn a_limit_ends_it_short() {
    let mut site = Site::new(&[("a/b/c/d", 1), ("e", 1)]);
    site.limits.depth_max = 2;
    for format in BOTH {
        let error = site.packed("", format).expect_err("too deep");
        assert_eq!(
            error.to_string(),
            "\"a/b/c\" is deeper than max_archive_depth"
        );
        site.take();
    }
    site.limits.depth_max = 3;
    assert_eq!(site.packed("", Format::Tar).expect("whole").len(), 6);
    site.limits.entries_max = 5;
    assert_eq!(
        site.packed("", Format::Tar).expect("whole").len(),
        6,
        "the folder itself is free"
    );
    site.limits.entries_max = 4;
    let error = site.packed("", Format::Zip).expect_err("too many");
    assert_eq!(error.to_string(), "more than max_archive_entries = 4");
}

#[test]
fn a_file_that_changes_is_one_version_or_the_end() {
    const LEN: usize = 400 * 1024;
    fn rewrite(path: &Path) {
        fs::write(path, vec![b'x'; LEN]).expect("written");
    }
    fn shrink(path: &Path) {
        fs::write(path, "short").expect("written");
    }
    fn remove(path: &Path) {
        fs::remove_file(path).expect("removed");
    }
    fn grow(path: &Path) {
        let mut file = fs::File::options().append(true).open(path).expect("a file");
        file.write_all(b"more").expect("written");
    }
    for (what, change, is_whole) in [
        ("rewritten", rewrite as fn(&Path), false),
        ("shorter", shrink, false),
        ("removed", remove, true),
        ("longer", grow, true),
    ] {
        // Zip reads it in pieces: some before the change, some after.
        for is_slow in [false, true] {
            let mut site = Site::on(is_slow, &[("a", LEN), ("b", 1)]);
            let path = site.path("a");
            let mut archive = site.archive("", Format::Zip, Framing::UntilClose);
            assert_eq!(site.fill(&mut archive), Packed::Full);
            let mut all = site.take();
            assert!(all.len() < LEN);
            change(&path);
            match site.whole(archive) {
                Ok(mut rest) => {
                    all.append(&mut rest);
                    let contents = read_zip(&all);
                    assert_eq!(contents["top/a"], Some(bytes("a", LEN)), "{what}");
                    assert!(is_whole, "{what}");
                }
                Err(Stopped::Changed(path)) => {
                    assert_eq!((path, is_whole), ("a".into(), false), "{what}");
                }
                Err(error) => panic!("{what}: {error}"),
            }
        }
        // Of tar the queue holds the file to its promise.
        let mut site = Site::new(&[("a", LEN)]);
        let path = site.path("a");
        let mut archive = site.archive("", Format::Tar, Framing::UntilClose);
        assert_eq!(site.fill(&mut archive), Packed::Full);
        let headers = site.tx.memory_bytes() - tar::padding(LEN as u64);
        site.tx.sent(headers, &mut site.pool);
        site.tx.begin_turn();
        change(&path);
        let (Front::File(file, ..), Some(promised)) = (site.tx.front(), site.tx.promised()) else {
            panic!("no file that was promised");
        };
        assert_eq!(site.disk.keeps(file, promised), is_whole, "{what}");
    }
}

#[test]
fn what_goes_away_meanwhile_is_left_out() {
    for is_slow in [false, true] {
        let mut site = Site::on(
            is_slow,
            &[("a/x", 1), ("b/y", 300_000), ("c/z", 1), ("d", 1)],
        );
        let mut archive = site.archive("", Format::Zip, Framing::UntilClose);
        assert_eq!(site.fill(&mut archive), Packed::Full);
        fs::remove_dir_all(site.path("c")).expect("removed");
        let all = site.take();
        let rest = site.whole(archive).expect("whole");
        let names: Vec<_> = read_zip(&[all, rest].concat()).into_keys().collect();
        let expected = [
            "top/", "top/a/", "top/a/x", "top/b/", "top/b/y", "top/c/", "top/d",
        ];
        assert_eq!(names, expected, "slow: {is_slow}");
    }
}

#[test]
fn names_of_bytes_that_are_no_text_are_kept() {
    let mut site = Site::new(&[]);
    let name = std::ffi::OsStr::from_bytes(b"a\xff\nb");
    fs::write(site.path(name), "x").expect("written");
    for format in BOTH {
        let archive = site.archive("", format, Framing::UntilClose);
        let all = site.whole(archive).expect("whole");
        let name = b"top/a\xff\nb";
        let found = all.windows(name.len()).filter(|part| part == name).count();
        let expected = if format == Format::Tar { 1 } else { 2 }; // here and in the directory
        assert_eq!(found, expected, "{format:?}");
    }
}

#[test]
fn a_small_room_gives_the_same_bytes() {
    let names = [("a", 10), ("b", 70_000), ("c/d", 20_000), ("c/e", 0)];
    for (format, is_slow) in BOTH.into_iter().flat_map(|one| [(one, false), (one, true)]) {
        let mut site = Site::on(is_slow, &names);
        let archive = site.archive("", format, Framing::Chunked);
        let plain = site.whole(archive).expect("whole");
        site.tx.set_memory_bytes_max(1);
        let archive = site.archive("", format, Framing::Chunked);
        let small = site.whole(archive).expect("whole");
        site.tx.set_memory_bytes_max(256 * 1024);
        assert!(plain == small, "{format:?}");
    }
}
