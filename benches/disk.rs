//! Jobs for the disk, by each engine: how many a second, processor time for each (the kernel's
//! workers and helper threads included), how long one takes from its start to its result through
//! the poll, and how long the loop stood still at most, but for a thousandth of the calls.
//!
//! Not by criterion, which knows no processor time. `DISK_BENCH_FOLDER` names the folder whose disk
//! is asked; the default is that for temporary files.

#![allow(clippy::print_stdout, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use netlab_reactor::disk::{Disk, File};
use netlab_reactor::jobs::{Done, Job, JobId, Query};
use netlab_reactor::limits::{DiskEngine, DiskLimits};
use netlab_reactor::sys::Sys;
use netlab_reactor::sys::unix::{Files, Unix};
use rustix::fs::{Advice, fadvise};
use rustix::time::{ClockId, clock_gettime};

/// How long one figure is measured.
const SPAN: Duration = Duration::from_millis(1500);
const FILES: usize = 256;
const FILE_BYTES: usize = 256 * 1024;

struct Fixture {
    _folder: tempfile::TempDir,
    root: File,
    files: Vec<File>,
    /// New files, which a sync has something to do for.
    written: Vec<File>,
}

impl Fixture {
    fn new(at: &Path) -> Self {
        let folder = tempfile::tempdir_in(at).expect("a folder");
        let mut disk = Files::default();
        let root = disk.open_folder(folder.path()).expect("a folder");
        for i in 0..FILES {
            let path = folder.path().join(format!("file-{i}"));
            fs::write(&path, vec![b'x'; FILE_BYTES]).expect("a file");
            fs::File::open(&path)
                .and_then(|file| file.sync_all())
                .expect("a sync");
        }
        let mut open = |i| {
            disk.open(&root, format!("file-{i}").as_ref())
                .expect("a file")
        };
        let files = (0..FILES).map(&mut open).collect();
        let mut create = |i| {
            disk.create(&root, format!("new-{i}").as_ref())
                .expect("a file")
        };
        let written = (0..64).map(&mut create).collect();
        Self {
            _folder: folder,
            root,
            files,
            written,
        }
    }

    /// Whatever is in memory of the files goes.
    fn chill(&self) {
        for file in &self.files {
            let netlab_reactor::disk::Handle::Fd(fd) = file.handle() else {
                continue;
            };
            fadvise(fd, 0, None, Advice::DontNeed).expect("an advice");
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum What {
    WarmRead,
    ColdRead,
    OpenAndStat,
    Sync,
}

impl What {
    fn job(self, i: usize, f: &Fixture) -> Job {
        match self {
            What::WarmRead => Job::Query(Query::Read {
                was: None,
                file: f.files[i % 16].clone(),
                offset: 0,
                len: 4096,
            }),
            // Each place once between two chills, far enough from the last for no reading ahead.
            What::ColdRead => Job::Query(Query::Read {
                was: None,
                file: f.files[i % FILES].clone(),
                offset: (i / FILES % 2 * FILE_BYTES / 2) as u64,
                len: 4096,
            }),
            What::OpenAndStat => Job::Query(Query::Open {
                root: f.root.clone(),
                path: PathBuf::from(format!("file-{}", i % FILES)),
            }),
            What::Sync => {
                let file = f.written[i % f.written.len()].clone();
                let mut disk = Files::default();
                disk.write_at(&file, 0, &[i as u8; 512]).expect("a write");
                Job::Query(Query::Sync { file })
            }
        }
    }
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What came of a run.
#[derive(Default)]
struct Outcome {
    jobs: usize,
    elapsed: Duration,
    /// Of the processor's time.
    used: Duration,
    /// For how long the calls of the engine kept the loop, each.
    kept: Vec<Duration>,
}

/// Runs jobs for a while, so many at once.
fn run(sys: &mut Unix, what: What, depth: usize, f: &Fixture) -> Outcome {
    let mut kept = Vec::new();
    let (mut events, mut begun, mut under_way, mut finished) = (Vec::new(), 0, 0, 0);
    let (mut elapsed, mut used) = (Duration::ZERO, Duration::ZERO);
    while elapsed < SPAN {
        if what == What::ColdRead {
            f.chill();
        }
        let (start, start_used) = (Instant::now(), processor_time());
        let batch = finished + 2 * FILES;
        while finished < batch {
            while under_way < depth && begun < batch {
                let job = what.job(begun, f);
                let before = Instant::now();
                sys.start(JobId(begun as u64), job);
                kept.push(before.elapsed());
                (begun, under_way) = (begun + 1, under_way + 1);
            }
            loop {
                let before = Instant::now();
                let finished_one = sys.finished();
                kept.push(before.elapsed());
                let Some((_, _, result)) = finished_one else {
                    break;
                };
                let done = result.expect("it works");
                assert!(!matches!(&done, Done::Bytes(bytes) if bytes.len() != 4096));
                (finished, under_way) = (finished + 1, under_way - 1);
            }
            if under_way == depth || begun == batch && under_way > 0 {
                events.clear();
                sys.poll(&mut events, None).expect("a poll");
            }
        }
        elapsed += start.elapsed();
        used += processor_time() - start_used;
    }
    kept.sort_unstable();
    Outcome {
        jobs: finished,
        elapsed,
        used,
        kept,
    }
}

fn main() {
    let at = env::var_os("DISK_BENCH_FOLDER").map_or_else(env::temp_dir, PathBuf::from);
    let f = Fixture::new(&at);
    println!(
        "job             engine    at once     jobs/s   cpu µs/job    µs each   loop p99.9 µs"
    );
    for (name, what) in [
        ("warm read 4 KiB", What::WarmRead),
        ("cold read 4 KiB", What::ColdRead),
        ("open and stat", What::OpenAndStat),
        ("write and sync", What::Sync),
    ] {
        for engine in [DiskEngine::Inline, DiskEngine::Threads, DiskEngine::IoUring] {
            let limits = DiskLimits {
                engine,
                ..DiskLimits::default()
            };
            let Ok(mut sys) = Unix::with_engine(false, &limits) else {
                println!("{name:<15} {:<8}  refused", engine.word());
                continue;
            };
            for depth in [1, 12] {
                let o = run(&mut sys, what, depth, &f);
                let each = |time: Duration| time.as_secs_f64() * 1e6 / o.jobs as f64;
                println!(
                    "{name:<15} {:<8} {depth:>8} {:>10.0} {:>12.2} {:>10.1} {:>15.0}",
                    engine.word(),
                    o.jobs as f64 / o.elapsed.as_secs_f64(),
                    each(o.used),
                    each(o.elapsed) * depth as f64,
                    o.kept[o.kept.len() - 1 - o.kept.len() / 1000].as_secs_f64() * 1e6,
                );
            }
        }
    }
}
