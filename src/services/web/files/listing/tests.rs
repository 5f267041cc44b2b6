//! Listings over a real disk that answers from memory, or by jobs that are done when a test says
//! so. What they look like is tested with the whole service.

use std::fs;

use super::*;
use crate::buffer::Pool;
use crate::cache::compressed::Compressed;
use crate::disk::Disk;
use crate::dns::{self, Hosts, Resolver};
use crate::jobs::Jobs;
use crate::limits::DiskLimits;
use crate::metrics::{Counted, ListenerMetrics, Metrics};
use crate::service::{Service, Waiter};
use crate::services::web::Web;
use crate::sys::unix;

struct Fixture {
    dir: tempfile::TempDir,
    disk: unix::Files,
    root: File,
    jobs: Jobs<Waiter>,
    pool: Pool,
    resolver: Resolver<Id>,
    compressed: Compressed<Id>,
    metrics: Metrics,
    woken: Vec<Id>,
    now: Instant,
    listings: Listings,
}

/// A folder with these files, and listings of it.
fn fixture(names: &[&str], is_slow: bool) -> Fixture {
    let dir = tempfile::tempdir().expect("a folder");
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        match name.ends_with('/') {
            true => fs::create_dir_all(path).expect("a folder"),
            false => fs::write(path, format!("this is {name}\n")).expect("a file"),
        }
    }
    let mut disk = unix::Files {
        all_are_slow: is_slow,
    };
    let root = disk.open_folder(dir.path()).expect("the folder");
    let listener = ListenerMetrics::new("http", "http", String::new(), Web::counts());
    Fixture {
        dir,
        disk,
        root,
        jobs: Jobs::new(DiskLimits {
            jobs_max: 1000,
            jobs_per_disk_max: 1000,
            ..DiskLimits::default()
        }),
        pool: Pool::new(1 << 20, 1 << 20),
        resolver: Resolver::new(dns::Config::default(), Hosts::parse(""), [7; 32]),
        compressed: Compressed::new(1 << 20),
        metrics: Metrics {
            listeners: [(0, listener)].into_iter().collect(),
            ..Metrics::default()
        },
        woken: Vec::new(),
        now: Instant::now(),
        listings: Listings::new(&FilesConfig::default()),
    }
}

fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("file-{number:04}"))
        .collect()
}

fn session(index: u32) -> Id {
    Id {
        index,
        generation: 1,
    }
}

fn client(last: u8) -> Peer {
    Peer::Inet(([192, 0, 2, last], 40_000).into())
}

fn wanted(folder: &str, query: &str) -> Wanted {
    let shown = format!("/{folder}").into_bytes();
    Wanted::new(shown, folder.into(), Some(query), ListingFormat::Html)
}

impl Fixture {
    fn with<T>(&mut self, call: impl FnOnce(&mut Listings, &File, &mut Cx<'_>) -> T) -> T {
        let mut cx = Cx {
            work: &mut crate::service::work::Work::new(Duration::MAX),
            now: self.now,
            wall: std::time::SystemTime::UNIX_EPOCH,
            turn: self.metrics.turns,
            draining: false,
            pool: &mut self.pool,
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            hooks: &mut crate::hooks::Hooks::default(),
            resolver: &mut self.resolver,
            stores: &mut crate::cache::store::Stores::default(),
            senders: &mut crate::inside::roster::Roster::default(),
            compressed: &mut self.compressed,
            inside: &mut crate::inside::Inside::default(),
            woken: &mut self.woken,
            counted: Counted::new(&mut self.metrics, 0),
        };
        call(&mut self.listings, &self.root, &mut cx)
    }

    /// Asks; the text if it is there.
    fn ask(
        &mut self,
        wanted: &Wanted,
        waiter: u32,
        peer: &Peer,
    ) -> Poll<Result<Rc<[u8]>, Unlisted>> {
        self.with(|listings, root, cx| {
            let waiter = (session(waiter), Some(peer));
            let page = listings.page(wanted, root, waiter, cx);
            page.map(|page| page.map(|page| Rc::clone(&page.text)))
        })
    }

    /// Ends a turn. Whether there is more to do at once.
    fn turn(&mut self) -> bool {
        self.metrics.turns += 1;
        self.with(Listings::work)
    }

    /// Ends turns until there is nothing more to do at once; how many.
    fn turns(&mut self) -> usize {
        let mut turns = 1;
        while self.turn() {
            turns += 1;
        }
        turns
    }

    /// Does the jobs that are there; how many.
    fn disk_answers(&mut self) -> usize {
        let started: Vec<_> = std::iter::from_fn(|| self.jobs.poll_start(self.now)).collect();
        let count = started.len();
        for (id, mut job) in started {
            let result = job.perform(&mut self.disk);
            self.jobs.finished(id, job, result, self.now);
        }
        while self.jobs.poll_woken().is_some() {}
        count
    }

    /// A listing, whatever it takes.
    fn text(&mut self, wanted: &Wanted) -> String {
        loop {
            match self.ask(wanted, 1, &client(1)) {
                Poll::Pending => {
                    self.turns();
                    self.disk_answers();
                }
                Poll::Ready(text) => {
                    let text = text.expect("a listing");
                    return String::from_utf8(text.to_vec()).expect("text");
                }
            }
        }
    }

    fn forget(&mut self, waiter: u32) {
        self.with(|listings, _, cx| listings.forget(session(waiter), cx));
    }
}

fn is_busy(answer: &Poll<Result<Rc<[u8]>, Unlisted>>) -> bool {
    matches!(answer, Poll::Ready(Err(Unlisted::Busy)))
}

#[test]
fn a_slow_disk_gives_the_same_listing() {
    let names = ["b", "A", "c/d", "README.md", "readme", ".hidden", "empty/"];
    for query in ["", "sort=size&order=desc", "format=json", "order=desc"] {
        let mut fast = fixture(&names, false);
        let text = fast.text(&wanted("", query));
        let mut slow = fixture(&names, true);
        for name in ["b", "A", "c", "README.md", "readme", "empty"] {
            let stat = fs::metadata(fast.dir.path().join(name)).expect("a file");
            let file = fs::File::open(slow.dir.path().join(name)).expect("a file");
            file.set_modified(stat.modified().expect("a time"))
                .expect("a time");
        }
        assert_eq!(slow.text(&wanted("", query)), text, "{query}");
        assert_eq!(text.contains("this is readme"), !query.contains("json"));
        assert!(fast.jobs.is_idle() && slow.jobs.is_idle(), "{query}");
    }
}

#[test]
fn many_names_are_looked_at_at_once_and_nothing_is_to_do_meanwhile() {
    let names = many(200);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut f = fixture(&names, true);
    let wanted = wanted("", "");
    let mut answers = Vec::new();
    while f.ask(&wanted, 1, &client(1)).is_pending() {
        f.turns();
        assert!(!f.turn(), "the disk is to do something");
        answers.push(f.disk_answers());
    }
    // Some names and that there are no more, each asked for on its own; the first round of names
    // goes along with the second question for names.
    assert_eq!(answers.iter().sum::<usize>(), 202, "{answers:?}");
    assert!(
        answers.len() <= 2 + 200_usize.div_ceil(LOOKS_MAX),
        "{answers:?}"
    );
    assert!(LOOKS_MAX < DiskLimits::default().jobs_per_disk_max);
    assert!(
        answers.iter().all(|&count| count <= LOOKS_MAX + 1),
        "{answers:?}"
    );
    assert_eq!(f.woken, [session(1)]);
}

#[test]
fn a_listing_whose_askers_have_gone_leaves_nothing() {
    let names = many(100);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for rounds in 0..100 {
        let mut f = fixture(&names, true);
        let wanted = wanted("", "");
        for waiter in [1, 2] {
            assert!(f.ask(&wanted, waiter, &client(1)).is_pending());
        }
        for _ in 0..rounds {
            f.turns();
            f.disk_answers();
        }
        f.turns();
        if f.listings.deadline().is_some() {
            return; // it was done before they went
        }
        let begun = f.jobs.poll_start(f.now);
        f.forget(1);
        assert!(!f.jobs.is_idle(), "there is one left");
        f.forget(2);
        assert!(f.listings.jobs.is_empty());
        if let Some((id, job)) = begun {
            let late = Err(io::ErrorKind::TimedOut.into());
            f.jobs.finished(id, job, late, f.now);
        }
        assert!(f.jobs.is_idle(), "after {rounds} rounds");
        assert!(!f.root.is_shared());
    }
    panic!("it is never done");
}

#[test]
fn what_is_done_is_thrown_away_by_itself() {
    let mut f = fixture(&["a"], false);
    assert_eq!(f.listings.deadline(), None);
    f.text(&wanted("", ""));
    let Poll::Ready(Ok(text)) = f.ask(&wanted("", ""), 1, &client(1)) else {
        panic!("it is fresh");
    };
    let deadline = f.listings.deadline().expect("an end");
    assert_eq!(deadline, f.now + FRESH_FOR);
    f.now = deadline;
    assert!(!f.turn());
    assert_eq!(Rc::strong_count(&text), 1, "there is only ours");
    assert_eq!(f.listings.deadline(), None);
    drop(text);
    f.turn();
    assert!(f.listings.sent.is_empty());
}

#[test]
fn a_client_has_its_share_of_the_places_and_no_other_waits_for_it() {
    let mut f = fixture(&["a"], true);
    let in_all = f.listings.shows.listings_max;
    let listing = |number: usize| wanted(&format!("{number}/"), "");
    let share = f.listings.shows.per_address_max;
    for number in 0..share {
        assert!(f.ask(&listing(number), 1, &client(1)).is_pending());
    }
    assert!(is_busy(&f.ask(&listing(share), 1, &client(1))));
    assert!(
        f.ask(&listing(0), 2, &client(1)).is_pending(),
        "what is at work may be asked for by anybody"
    );
    // The places in all: others have theirs, those on this machine as many as there are.
    for number in share..in_all - share {
        let peer = Peer::Inet(([127, 0, 0, 1], 40_000).into());
        assert!(f.ask(&listing(number), 3, &peer).is_pending());
    }
    for number in in_all - share..in_all {
        assert!(f.ask(&listing(number), 4, &client(2)).is_pending());
    }
    assert!(is_busy(&f.ask(&listing(in_all), 5, &client(3))));
    f.forget(4);
    assert!(f.ask(&listing(in_all), 5, &client(3)).is_pending());
}

#[test]
fn what_is_done_makes_room_once_those_who_waited_had_their_turn() {
    let mut f = fixture(&["a"], false);
    let in_all = f.listings.shows.listings_max;
    let listing = |number: usize| wanted(&format!("{number}/"), "");
    for number in 0..in_all {
        f.text(&listing(number));
    }
    let others = client(9);
    assert!(is_busy(&f.ask(&listing(in_all), 1, &others)) || f.metrics.turns > 1);
    f.turn();
    f.turn();
    assert!(f.ask(&listing(in_all), 1, &others).is_pending());
    assert_eq!(f.listings.jobs.len(), in_all);
    assert!(f.ask(&listing(1), 2, &others).is_ready(), "the oldest went");
}

#[test]
fn a_folder_that_cannot_be_read_and_a_disk_that_takes_nothing_are_told_apart() {
    let mut f = fixture(&["a"], true);
    let it = wanted("", "");
    assert!(f.ask(&it, 1, &client(1)).is_pending());
    f.turns();
    let (id, job) = f.jobs.poll_start(f.now).expect("a job");
    let error = io::Error::from_raw_os_error(libc::EIO);
    let kind = error.kind();
    f.jobs.finished(id, job, Err(error), f.now);
    f.turns();
    let Poll::Ready(Err(Unlisted::Disk(told))) = f.ask(&it, 1, &client(1)) else {
        panic!("it was read");
    };
    assert_eq!(told, kind);

    f.now += FRESH_FOR;
    f.jobs.set_limits(DiskLimits {
        waiting_per_disk_max: 0,
        ..DiskLimits::default()
    });
    assert!(f.ask(&it, 1, &client(1)).is_pending());
    f.turns();
    assert!(is_busy(&f.ask(&it, 1, &client(1))));
}

#[test]
fn with_little_room_for_jobs_every_name_is_shown_all_the_same() {
    let names = many(50);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut f = fixture(&names, true);
    f.jobs.set_limits(DiskLimits {
        jobs_max: 1,
        jobs_per_disk_max: 1,
        waiting_per_disk_max: 3,
        ..DiskLimits::default()
    });
    let text = f.text(&wanted("", ""));
    assert_eq!(text.matches("<td><a href=\"./file-").count(), 50);
}

#[test]
fn beyond_the_entries_that_are_shown_nothing_is_looked_at() {
    let names = many(300);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for is_slow in [false, true] {
        let mut f = fixture(&names, is_slow);
        f.listings.shows.entries_max = 100;
        let text = f.text(&wanted("", "format=json"));
        assert_eq!(text.matches("\"name\"").count(), 100);
        assert!(text.ends_with("\"more\":true}\n") && f.jobs.is_idle());
    }
}
