//! A disk that is really full: a tmpfs of [`DISK_BYTES`], of which uploads, a cache and a log take their
//! share, and a file that takes all the rest at the worst moment. What cannot be stored is refused,
//! nothing is half visible, what needs no disk is served, and when there is room again everything
//! goes on by itself.
//!
//! The program runs in a mount namespace of its own (`unshare`), and the test reaches its disk
//! through `/proc/PID/root`. Where that is not allowed the tests say so and judge nothing.
#![expect(clippy::print_stdout, reason = "it tells why it is skipped")]

#[path = "common/acked.rs"]
mod acked;
mod common;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use acked::{answer, content, header};
use common::{Program, expect_closed, expect_soon};
use netlab_reactor::wire::frame;
use netlab_reactor::wire::upload::{Answer, Code, FileHeader};

const DISK_BYTES: usize = 8 << 20;

const CONFIG: &str = r#"
[[listener]]
kind = "upload"
bind = "127.0.0.1:0"
handshake = "none"
dir = "disk/up"
reserved_free_bytes = 0

[[listener]]
kind = "http"
bind = "127.0.0.1:0"
root = "."
access_log = "disk/access.log"

[[listener]]
kind = "tcp-echo"
bind = "127.0.0.1:0"
"#;

/// A server with a small disk.
struct Full {
    program: Program,
    disk: PathBuf,
}

impl Full {
    /// None where there can be no such disk.
    fn start(more: &str) -> Option<Self> {
        let alone = ["--user", "--map-root-user", "--mount"];
        let mount = "mount -t tmpfs none /mnt";
        let tried = Command::new("unshare")
            .args(alone)
            .args(["sh", "-c", mount])
            .output();
        if !tried.as_ref().is_ok_and(|output| output.status.success()) {
            println!("skipped: no disk of its own: {tried:?}");
            return None;
        }
        let inner = format!(
            "mkdir disk && mount -t tmpfs -o size={DISK_BYTES} none disk && exec \"$0\" \"$@\""
        );
        let script = format!(
            "exec unshare {} sh -c '{inner}' \"$0\" \"$@\"",
            alone.join(" ")
        );
        let program = Program::start_by(&format!("{CONFIG}{more}"), &script);
        let root = PathBuf::from(format!("/proc/{}/root", program.child.id()));
        let disk = program.path("disk");
        let disk = root.join(disk.strip_prefix("/").expect("an absolute path"));
        Some(Self { program, disk })
    }

    /// A file takes all the room that there is.
    fn fill(&self) {
        let filler = self.disk.join("filler");
        let mut filler = File::options()
            .create(true)
            .append(true)
            .open(filler)
            .expect("a name");
        let written = io::copy(&mut io::repeat(1), &mut filler);
        let error = written.expect_err("a full disk");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    fn empty(&self) {
        fs::remove_file(self.disk.join("filler")).expect("the filler");
    }

    /// The names of files that were uploaded.
    fn stored(&self) -> Vec<String> {
        let entries = fs::read_dir(self.disk.join("up")).expect("the folder");
        let mut names: Vec<String> = entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.into_string().expect("UTF-8"))
            .filter(|name| name != ".partial")
            .collect();
        names.sort_unstable();
        names
    }

    fn is_without_partials(&self) -> bool {
        let partials = fs::read_dir(self.disk.join("up/.partial")).expect("a folder");
        partials.count() == 0
    }

    fn echoes(&self) {
        let mut client = self.program.connect("tcp-echo");
        client.write_all(b"here").expect("it reads");
        let mut answer = [0; 4];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HERE");
    }

    fn upload(&self) -> TcpStream {
        self.program.connect("upload")
    }

    /// The body of the answer of a listener of this kind.
    fn get(&self, kind: &str, path: &str) -> Vec<u8> {
        let mut client = self.program.connect(kind);
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        client.write_all(request.as_bytes()).expect("it reads");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("an answer");
        assert!(
            answer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            answer.escape_ascii()
        );
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        answer.split_off(end.expect("a head") + 4)
    }
}

/// An origin whose every answer may be kept for an hour.
struct Origin {
    address: SocketAddr,
    body: Vec<u8>,
    asked: Arc<AtomicUsize>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let origin = Self {
            address: listener.local_addr().expect("an address"),
            body: content(3, 1 << 20),
            asked: Arc::default(),
        };
        let (body, asked) = (origin.body.clone(), Arc::clone(&origin.asked));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n > 0) {
                    head.extend(byte);
                }
                asked.fetch_add(1, Ordering::SeqCst);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nCache-Control: max-age=3600\r\nConnection: close\r\n\r\n",
                    body.len()
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&body);
            }
        });
        origin
    }

    /// How often it was asked since the last look.
    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

fn plain(name: &str, body: &[u8]) -> Vec<u8> {
    let header = FileHeader {
        filename: name.to_owned(),
        size_bytes: body.len() as u64,
        ..FileHeader::default()
    };
    let mut bytes = Vec::new();
    frame::encode(&header.to_json(), &mut bytes).expect("a header");
    bytes
}

#[test]
#[ignore = "needs unshare and a tmpfs of its own"]
fn uploads_that_a_full_disk_cuts_leave_nothing_and_others_follow_when_there_is_room() {
    let Some(mut full) = Full::start("") else {
        return;
    };
    let large = content(1, 3 << 20);
    let mut cut = full.upload();
    cut.write_all(&plain("plain.bin", &large))
        .expect("it reads");
    cut.write_all(&large[..1 << 20]).expect("it reads");
    let mut told = full.upload();
    let body = content(2, 2 << 20);
    told.write_all(&header("told.bin", &body, false))
        .expect("it reads");
    assert_eq!(answer(&mut told), Some(Answer::Ready { offset: 0 }));
    told.write_all(&body[..9]).expect("it reads");
    let partials = full.disk.join("up/.partial");
    let counts = || fs::read_dir(&partials).expect("a folder").count();
    expect_soon(|| counts() == 2, || format!("{} are under way", counts()));

    full.fill();
    let _ = cut.write_all(&large[1 << 20..]); // it may be closed meanwhile
    let _ = told.write_all(&body[9..]);
    // Whose room was reserved before it was ready has it.
    assert!(matches!(answer(&mut told), Some(Answer::Stored { .. })));
    full.program.wait_log("plain.bin");
    expect_closed(&mut cut);
    expect_soon(
        || full.is_without_partials(),
        || "a partial file is left".to_owned(),
    );
    full.fill();
    // What is small is stored by one job, and what is announced too late is refused at once.
    let mut small = full.upload();
    small
        .write_all(&[header("s.bin", &body[..9000], false), body[..9000].to_vec()].concat())
        .expect("it reads");
    loop {
        match answer(&mut small) {
            Some(Answer::Ready { .. }) => {}
            Some(Answer::Refused { error, .. }) => break assert_eq!(error, Code::NoSpace.word()),
            other => panic!("{other:?}"),
        }
    }
    full.echoes();
    assert_eq!(full.stored(), ["told.bin"]);
    assert!(full.is_without_partials());

    full.empty();
    let mut again = full.upload();
    again
        .write_all(&[header("again.bin", &body, false), body.clone()].concat())
        .expect("it reads");
    assert_eq!(answer(&mut again), Some(Answer::Ready { offset: 0 }));
    assert!(matches!(answer(&mut again), Some(Answer::Stored { .. })));
    again
        .write_all(&[plain("plain.bin", &large), large.clone()].concat())
        .expect("it reads");
    drop(again);
    full.program.wait_log("stored plain.bin");
    assert_eq!(full.stored(), ["again.bin", "plain.bin", "told.bin"]);
    assert!(fs::read(full.disk.join("up/plain.bin")).expect("a file") == large);
    full.program.stop();
}

#[test]
#[ignore = "needs unshare and a tmpfs of its own"]
fn a_full_disk_takes_away_the_cache_and_the_log_and_no_answer() {
    let origin = Origin::start();
    let proxy = format!(
        "[[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\nupstream = \"http://{}\"\n\
         cache_dir = \"disk/cache\"\ncache_max_memory_bytes = 0\n",
        origin.address
    );
    let Some(full) = Full::start(&proxy) else {
        return;
    };
    let config = format!("{CONFIG}{proxy}");
    full.fill();
    for _ in 0..3 {
        assert!(full.get("proxy", "/large") == origin.body);
        assert_eq!(full.get("http", "/netlab.toml"), config.as_bytes());
    }
    full.echoes();
    assert_eq!(origin.asked(), 3, "nothing could be kept");
    let log = full.disk.join("access.log");
    let logged = || fs::read_to_string(&log).expect("the log").lines().count();
    let before = logged();

    full.empty();
    expect_soon(
        || full.get("proxy", "/large") == origin.body && origin.asked() == 0,
        || "it is not kept although there is room".to_owned(),
    );
    assert_eq!(full.get("http", "/netlab.toml"), config.as_bytes());
    expect_soon(|| logged() > before, || "it is not logged".to_owned());
    full.program.stop();
}
