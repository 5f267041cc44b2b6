//! The upload protocol with answers, over the real kernel and with the program itself: the README's
//! client in Python does what the README says, and `kill -9` at any moment loses nothing that was
//! acknowledged.

#[path = "common/acked.rs"]
mod acked;
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use acked::{answer, content, header};
use common::{PATIENCE, Program, connect, temp_dir};
use netlab_reactor::wire::upload::Answer;

/// The README's client.
fn readme_client() -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("the README");
    let blocks = readme.split("```python\n").skip(1);
    let mut blocks = blocks.filter_map(|block| block.split("```").next());
    let client = blocks.find(|block| block.contains("\"\"\"upload.py"));
    client.expect("the client in Python").to_owned()
}

#[test]
fn the_client_of_the_readme_is_a_page_of_plain_python() {
    let client = readme_client();
    let imports: Vec<&str> = client
        .lines()
        .filter(|line| line.contains("import"))
        .collect();
    assert_eq!(imports.len(), 1, "one line of the standard library");
    assert!(client.lines().count() <= 40);
}

#[test]
#[ignore = "needs python3"]
fn the_client_of_the_readme_uploads_and_resumes() {
    let mut server = Program::start(
        "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nsecret = \"tiger\"\n\
         overwrite = \"refuse\"\n[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\n\
         name = \"open\"\nhandshake = \"none\"\ndir = \"open\"\n",
    );
    let [with_secret, open] = server.addresses("upload")[..] else {
        panic!("two listeners");
    };
    let files = temp_dir();
    let script = files.path().join("upload.py");
    fs::write(&script, readme_client()).expect("a file");
    let run = |address: SocketAddr, name: &str, secret: &str| {
        let Output {
            status,
            stdout,
            stderr,
        } = Command::new("python3")
            .arg(&script)
            .args([address.ip().to_string(), address.port().to_string()])
            .arg(files.path().join(name))
            .env("NETLAB_SECRET", secret)
            .output()
            .expect("python3");
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(stderr, "");
        let stdout = String::from_utf8(stdout).expect("UTF-8");
        (status.success(), stdout.trim().to_owned())
    };
    for (name, len) in [("empty", 0), ("small.txt", 100), ("large.bin", 3_000_000)] {
        let body = content(len as u64, len);
        fs::write(files.path().join(name), &body).expect("a file");
        assert_eq!(run(with_secret, name, "tiger"), (true, name.to_owned()));
        let stored = fs::read(server.path("uploads").join(name)).expect("a file");
        assert!(stored == body, "{name}");
    }
    let (is_stored, said) = run(with_secret, "small.txt", "tiger");
    assert!(!is_stored && said.starts_with("exists: "), "{said}");
    // Half of it came before, on a connection that broke.
    let body = fs::read(files.path().join("large.bin")).expect("a file");
    let mut first = connect(open);
    first
        .write_all(&header("large.bin", &body, false))
        .expect("the server reads");
    first
        .write_all(&body[..2_000_000])
        .expect("the server reads");
    assert_eq!(answer(&mut first), Some(Answer::Ready { offset: 0 }));
    drop(first);
    assert_eq!(run(open, "large.bin", ""), (true, "large.bin".to_owned()));
    server.wait_log("a file is gone on with");
    let stored = fs::read(server.path("open").join("large.bin")).expect("a file");
    assert!(stored == body);
    server.stop();
}

/// Rounds of `kill -9`, unless `KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 20;
const CLIENTS: u64 = 4;
/// Files that a client sends one behind the other without a pause.
const BATCH: u64 = 8;

/// What was sent, and what was acknowledged under which name.
#[derive(Default)]
struct Sent {
    lens: BTreeMap<u64, usize>,
    acknowledged: BTreeMap<u64, String>,
}

/// A client of one round, which sends until the connection breaks: small files in batches, and a
/// large one that it goes on with if the last round cut it.
struct Client<'a> {
    address: SocketAddr,
    number: u64,
    sent: &'a Mutex<Sent>,
    resumed: &'a AtomicUsize,
    done: &'a AtomicBool,
}

impl Client<'_> {
    fn run(&self, round: u64, unfinished: &mut Option<u64>) {
        let Ok(mut stream) = TcpStream::connect(self.address) else {
            return; // it was killed already
        };
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut next = (round * CLIENTS + self.number) * 1_000_000;
        while !self.done.load(Ordering::SeqCst) {
            let large = *unfinished.get_or_insert(next);
            next += 1;
            if self.large(&mut stream, large).is_none() {
                return;
            }
            *unfinished = None;
            if self.batch(&mut stream, next).is_none() {
                return;
            }
            next += BATCH;
        }
    }

    fn large(&self, stream: &mut TcpStream, number: u64) -> Option<()> {
        let body = content(number, 100_000 + (number % 7) as usize * 150_000);
        self.remember(number, &body);
        let name = format!("{number}.bin");
        stream.write_all(&header(&name, &body, true)).ok()?;
        let offset = match answer(stream)? {
            Answer::Ready { offset } => offset as usize,
            // The process before has it no more, so nobody else does.
            other => panic!("{name}: {other:?}"),
        };
        self.resumed
            .fetch_add(usize::from(offset > 0), Ordering::SeqCst);
        stream.write_all(&body[offset..]).ok()?;
        self.acknowledged(number, answer(stream)?);
        Some(())
    }

    fn batch(&self, stream: &mut TcpStream, first: u64) -> Option<()> {
        let mut all = Vec::new();
        for number in first..first + BATCH {
            let body = content(number, (number % 5) as usize * 3_000);
            self.remember(number, &body);
            all.extend(header(&format!("{number}.bin"), &body, false));
            all.extend(body);
        }
        stream.write_all(&all).ok()?;
        for number in first..first + BATCH {
            assert_eq!(answer(stream)?, Answer::Ready { offset: 0 });
            self.acknowledged(number, answer(stream)?);
        }
        Some(())
    }

    fn remember(&self, number: u64, body: &[u8]) {
        let mut sent = self.sent.lock().expect("no panic");
        sent.lens.insert(number, body.len());
    }

    fn acknowledged(&self, number: u64, answer: Answer) {
        let Answer::Stored { filename, .. } = answer else {
            panic!("{number}: {answer:?}");
        };
        let mut sent = self.sent.lock().expect("no panic");
        sent.acknowledged.insert(number, filename);
    }
}

/// Everything that was acknowledged is there, and nothing else that was not sent whole.
fn check(folder: &Path, sent: &Sent) {
    for (number, name) in &sent.acknowledged {
        let there = fs::read(folder.join(name));
        let there = there.unwrap_or_else(|error| panic!("{name} was acknowledged: {error}"));
        assert!(
            there == content(*number, sent.lens[number]),
            "{name} is another file"
        );
    }
    for entry in fs::read_dir(folder).expect("the folder") {
        let name = entry.expect("an entry").file_name();
        let name = name.to_str().expect("UTF-8");
        if name == ".partial" {
            continue;
        }
        let number = name
            .split('.')
            .next()
            .and_then(|number| number.parse().ok());
        let number: u64 = number.expect("the name of a file that was sent");
        let there = fs::read(folder.join(name)).expect("a file");
        assert!(
            there == content(number, sent.lens[&number]),
            "{name} is half a file"
        );
    }
}

#[test]
#[ignore = "takes a while: it kills the program twenty times"]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let folder = temp_dir();
    let dir = folder.path().join("up");
    let config = format!(
        "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nhandshake = \"none\"\ndir = {dir:?}\n"
    );
    let (sent, resumed) = (Mutex::new(Sent::default()), AtomicUsize::new(0));
    let mut unfinished = vec![None; CLIENTS as usize];
    let began = Instant::now();
    let rounds = std::env::var("KILL_ROUNDS").ok();
    let rounds = rounds.map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    for round in 0..=rounds {
        let mut server = Some(Program::start(&config));
        let address = server.as_ref().map(|server| server.address("upload"));
        let address = address.expect("a server");
        let done = AtomicBool::new(false);
        let is_last = round == rounds;
        thread::scope(|scope| {
            for (number, unfinished) in (0..).zip(&mut unfinished) {
                let client = Client {
                    address,
                    number,
                    sent: &sent,
                    resumed: &resumed,
                    done: &done,
                };
                scope.spawn(move || client.run(round, unfinished));
            }
            // A moment that no two rounds have, from none at all to a third of a second.
            thread::sleep(Duration::from_micros(round * 7_919_003 % 333_000));
            if is_last {
                done.store(true, Ordering::SeqCst);
            } else {
                server = None; // it is killed
            }
        });
        check(&dir, &sent.lock().expect("no panic"));
        let most = PATIENCE * u32::try_from(rounds / 5).expect("a number");
        assert!(began.elapsed() < most, "it takes too long");
    }
    let sent = sent.lock().expect("no panic");
    assert!(unfinished.iter().all(Option::is_none));
    assert!(sent.acknowledged.len() > 20, "{}", sent.acknowledged.len());
    assert!(resumed.load(Ordering::SeqCst) > 0, "nothing was resumed");
}
