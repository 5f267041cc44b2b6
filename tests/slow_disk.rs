//! A disk each of whose calls takes 100 ms, and a server whose files, uploads and log are all on
//! it: everybody gets theirs, those who ask the disk wait side by side, and who asks nothing of it
//! does not notice. The disk is a file system of ours (`slow_disk/fs.py`) over a folder of the
//! test.
//!
//! `NETLAB_TEST_PYTHON` names a Python that has mfusepy (default `python3`); it needs libfuse3 and
//! fusermount3. Where FUSE cannot be used at all the tests say so and judge nothing.
//!
//! Measured times are printed (`-- --ignored --nocapture`). The bounds are far from them: a server
//! that waits for the disk itself stands still for many seconds.
#![expect(clippy::print_stdout, reason = "it tells what it measured")]

mod common;

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use common::{Peer, Program, connect, expect_soon, temp_dir};
use tempfile::TempDir;

const PER_CALL: Duration = Duration::from_millis(100);
const FETCHERS: usize = 16;
const FILES: usize = 48;
const MISSING: usize = 8;
const LISTED: usize = 200;
const UPLOADS: usize = 12;
/// What one cold file costs: its folder and its name are looked up, it is opened, read, and looked
/// at once more.
const CALLS_PER_FILE: u32 = 5;
/// How long the listing may take; its names may have to be looked at one after the other.
const LISTING_TIMEOUT: Duration = Duration::from_secs(90);
/// The longest that an echo may take; ten calls of the disk.
const ECHO_BOUND: Duration = Duration::from_secs(1);

/// One test at a time: they measure.
static ALONE: Mutex<()> = Mutex::new(());

/// A mounted slow disk, and the folder behind it.
struct SlowDisk {
    dir: TempDir,
    _process: Peer,
}

impl SlowDisk {
    /// Mounts it over a folder that `fill` fills; none where this machine does not allow that.
    fn mount(fill: impl FnOnce(&Path)) -> Option<Self> {
        let device = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        if let Err(error) = device {
            println!("skipped: /dev/fuse: {error}");
            return None;
        }
        let dir = temp_dir();
        for folder in ["behind", "mounted"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        fill(&dir.path().join("behind"));
        let python = std::env::var("NETLAB_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
        let mut process = Command::new(python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slow_disk/fs.py"))
            .args([dir.path().join("behind"), dir.path().join("mounted")])
            .arg(PER_CALL.as_secs_f64().to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python3");
        let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
        let disk = Self {
            dir,
            _process: Peer(process),
        };
        let mut line = String::new();
        BufReader::new(stdout.expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        if line == "mounted\n" {
            return Some(disk);
        }
        let mut error = String::new();
        stderr
            .expect("a pipe")
            .read_to_string(&mut error)
            .expect("UTF-8");
        let refusals = ["Operation not permitted", "Permission denied"];
        assert!(refusals.iter().any(|text| error.contains(text)), "{error}");
        println!("skipped: {error}");
        None
    }

    /// A path on the slow disk.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mounted").join(name)
    }

    /// The same file without the waiting.
    fn behind(&self, name: &str) -> PathBuf {
        self.dir.path().join("behind").join(name)
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        // Before its process is killed, after which nobody would answer. It is not mounted if that
        // was refused.
        let _ = Command::new("fusermount3")
            .args(["-u", "-z", "-q"])
            .arg(self.dir.path().join("mounted"))
            .status();
    }
}

/// About 100 kB, another content for each number.
fn content(number: usize) -> Vec<u8> {
    (0..100_000 + number * 11)
        .map(|at| (at * (number + 3) / 7) as u8)
        .collect()
}

/// A file's name; a fetcher's files are in a folder of its own, where it looks for names alone.
fn cold(number: usize) -> String {
    format!("{}/{number}.bin", number % FETCHERS)
}

fn fill(folder: &Path) {
    let site = folder.join("site");
    for name in ["site/many", "uploads", "logs"] {
        fs::create_dir_all(folder.join(name)).expect("a folder");
    }
    for number in 0..FETCHERS {
        fs::create_dir(site.join(number.to_string())).expect("a folder");
    }
    for number in 0..FILES {
        fs::write(site.join(cold(number)), content(number)).expect("a file");
    }
    for number in 0..LISTED {
        let name = format!("many/entry-{number}.txt");
        fs::write(site.join(name), number.to_string()).expect("a file");
    }
}

fn start(disk: &SlowDisk, engine: &str) -> Program {
    let (root, uploads) = (disk.path("site"), disk.path("uploads"));
    let log = disk.path("logs/access.log");
    Program::start(&format!(
        "[disk]\nengine = \"{engine}\"\n\
         [[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = {root:?}\nlisting = true\n\
         access_log = {log:?}\nanswer_timeout = \"{}s\"\n\
         [[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\ndir = {uploads:?}\n\
         handshake = \"none\"\n",
        LISTING_TIMEOUT.as_secs()
    ))
}

/// The status and the body of a response.
fn get(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    let mut client = connect(address);
    client
        .set_read_timeout(Some(LISTING_TIMEOUT))
        .expect("a time-out");
    write!(client, "GET {path} HTTP/1.0\r\n\r\n").expect("the server reads");
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("a response");
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a head") + 4);
    let head = String::from_utf8(bytes).expect("UTF-8");
    let status = head.split(' ').nth(1).expect("a status").parse();
    (status.expect("a number"), body)
}

/// Each fetcher fetches its files one after the other; all have to be right.
fn fetch_all(address: SocketAddr) {
    thread::scope(|scope| {
        for first in 0..FETCHERS {
            scope.spawn(move || {
                for number in (first..FILES).step_by(FETCHERS) {
                    let (status, body) = get(address, &format!("/{}", cold(number)));
                    assert!(
                        status == 200 && body == content(number),
                        "{number}: {status}"
                    );
                }
            });
        }
    });
}

fn ask_for_missing_names(address: SocketAddr) {
    for number in 0..MISSING {
        let (status, _) = get(address, &format!("/missing-{number}"));
        assert_eq!(status, 404);
    }
}

fn list(address: SocketAddr) {
    let (status, body) = get(address, "/many/");
    let page = String::from_utf8(body).expect("UTF-8");
    assert_eq!(status, 200);
    for number in 0..LISTED {
        let link = format!("entry-{number}.txt\"");
        assert_eq!(page.matches(&link).count(), 1, "{link}\n{page}");
    }
}

/// Every other one asks for answers.
fn upload(address: SocketAddr, number: usize) -> TcpStream {
    let body = content(number);
    let ack = number % 2 == 1;
    let json = format!(
        "{{\"filename\": \"up-{number}.bin\", \"filesize\": {}, \"ack\": {ack}}}",
        body.len()
    );
    let mut client = connect(address);
    let head = [&(json.len() as i32).to_le_bytes(), json.as_bytes()].concat();
    client.write_all(&head).expect("the server reads");
    client.write_all(&body).expect("the server reads");
    client
}

/// What the server answers to a file, once it has closed.
fn answered(mut client: TcpStream) -> String {
    let mut answers = Vec::new();
    client.shutdown(Shutdown::Write).expect("the end");
    client.read_to_end(&mut answers).expect("answers");
    String::from_utf8_lossy(&answers).into_owned()
}

/// The round trips of an echo client until it is told to stop, sorted.
fn echo(address: SocketAddr, stop: &AtomicBool) -> Vec<Duration> {
    let mut client = connect(address);
    client.set_nodelay(true).expect("no delay");
    let mut round_trips = Vec::new();
    let mut answer = [0; 5];
    while !stop.load(Ordering::SeqCst) {
        let sent = Instant::now();
        client.write_all(b"ping\n").expect("the server reads");
        client.read_exact(&mut answer).expect("an echo");
        round_trips.push(sent.elapsed());
        assert_eq!(&answer, b"PING\n");
        thread::sleep(Duration::from_millis(2));
    }
    round_trips.sort_unstable();
    round_trips
}

/// Runs `work`, and tells how long it took.
fn timed(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

/// Everybody at once; how long the files took, and the echo's sorted round trips.
fn load(server: &Program, disk: &SlowDisk) -> (Duration, Vec<Duration>) {
    let [echoes, http, uploads] = ["tcp-echo", "http", "upload"].map(|kind| server.address(kind));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(echoes, &stop));
        let all = scope.spawn(|| {
            thread::scope(|scope| {
                let fetched = scope.spawn(|| timed(|| fetch_all(http)));
                let listed = scope.spawn(|| timed(|| list(http)));
                let missed = scope.spawn(|| timed(|| ask_for_missing_names(http)));
                let stored = timed(|| {
                    let clients: Vec<TcpStream> =
                        (0..UPLOADS).map(|number| upload(uploads, number)).collect();
                    for (number, client) in clients.into_iter().enumerate() {
                        let answers = answered(client);
                        let is_told =
                            answers.contains("\"ready\":true") && answers.contains("\"ok\":true");
                        assert_eq!(is_told, number % 2 == 1, "{answers}");
                    }
                    expect_stored(disk);
                });
                let [fetched, listed, missed] =
                    [fetched, listed, missed].map(|thread| thread.join().expect("all right"));
                println!(
                    "files {fetched:.2?}, listing {listed:.2?}, missing names {missed:.2?}, \
                     uploads {stored:.2?}"
                );
                fetched
            })
        });
        let fetched = all.join();
        stop.store(true, Ordering::SeqCst);
        let round_trips = echo.join().expect("echoes");
        (fetched.expect("all right"), round_trips)
    })
}

fn expect_stored(disk: &SlowDisk) {
    for number in 0..UPLOADS {
        let name = format!("uploads/up-{number}.bin");
        let path = disk.behind(&name);
        expect_soon(|| path.exists(), || format!("{name} is not stored"));
        assert!(
            fs::read(&path).expect("a file") == content(number),
            "{name}"
        );
    }
}

fn nobody_else_waits(engine: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(disk) = SlowDisk::mount(fill) else {
        return;
    };
    let server = start(&disk, engine);
    let (fetched, round_trips) = load(&server, &disk);
    let at = |percent: usize| round_trips[(round_trips.len() - 1) * percent / 100];
    println!(
        "{engine}: {} echoes, p50 {:.2?}, p99 {:.2?}, max {:.2?}",
        round_trips.len(),
        at(50),
        at(99),
        at(100)
    );
    server.stop();
    let log = fs::read_to_string(disk.behind("logs/access.log")).expect("a log");
    assert_eq!(log.lines().count(), FILES + MISSING + 1, "{log}");
    let one_after_the_other = PER_CALL * CALLS_PER_FILE * FILES as u32;
    assert!(
        fetched < one_after_the_other / 2,
        "{FILES} files took {fetched:?}, one after the other {one_after_the_other:?}"
    );
    assert!(at(100) < ECHO_BOUND, "an echo took {:?}", at(100));
}

#[test]
#[ignore = "needs FUSE, python3 and mfusepy"]
fn a_slow_disk_asked_by_threads_stops_nobody() {
    nobody_else_waits("threads");
}

#[test]
#[ignore = "needs FUSE, python3 and mfusepy"]
fn a_slow_disk_asked_by_io_uring_stops_nobody() {
    let mut chosen = Program::start(
        "[disk]\nengine = \"auto\"\n[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n",
    );
    let line = chosen.wait_log("disk engine:");
    chosen.stop();
    if line.contains("io_uring") {
        nobody_else_waits("io_uring");
    } else {
        println!("skipped: the kernel gives no io_uring: {line}");
    }
}
