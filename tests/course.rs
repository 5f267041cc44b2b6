//! The course: that each step does what its header says, and that the step before does not; that
//! each exercise fails as it is given and is solved by its solution; that what the chapter names is
//! there.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

#[path = "course/exercises.rs"]
mod exercises;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step1_blocking.rs"]
mod step1_blocking;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step2_readiness.rs"]
mod step2_readiness;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step3_edges.rs"]
mod step3_edges;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step4_buffers.rs"]
mod step4_buffers;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step5_deadlines.rs"]
mod step5_deadlines;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step6_sans_io.rs"]
mod step6_sans_io;
#[allow(dead_code, reason = "it has a `main`")]
#[path = "course/step7_simulated.rs"]
mod step7_simulated;

use step6_sans_io::upper::{BYTES_MAX, Link, Protocol, Upper};
use step7_simulated::Bug;

/// What comes takes milliseconds; after this it will not come.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what is not to come at all: a wrong server would have sent it long since.
const WHILE: Duration = Duration::from_millis(300);
/// More than all buffers of the kernel between two ends.
const MUCH: usize = 64 << 20;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/course")
}

/// Serves a step in a thread that ends with the test; where it listens.
fn start<R>(serve: impl FnOnce(TcpListener) -> R + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || _ = serve(listener));
    address
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

/// Sends a text; whether its answer comes within that time.
fn answers(stream: &mut TcpStream, text: &[u8], within: Duration) -> bool {
    stream.write_all(text).expect("it listens");
    let mut answer = vec![0; text.len()];
    stream.set_read_timeout(Some(within)).expect("a time-out");
    match stream.read_exact(&mut answer) {
        Ok(()) => answer == text.to_ascii_uppercase(),
        Err(error) => {
            let kinds = [ErrorKind::WouldBlock, ErrorKind::TimedOut];
            assert!(kinds.contains(&error.kind()), "{error}");
            false
        }
    }
}

fn steps() -> [SocketAddr; 6] {
    let idle = Duration::from_secs(60);
    [
        start(|listener| step1_blocking::serve(&listener)),
        start(step2_readiness::serve),
        start(step3_edges::serve),
        start(step4_buffers::serve),
        start(move |listener| step5_deadlines::serve(listener, idle)),
        start(move |listener| {
            step6_sans_io::serve(listener, |now| Upper::new(idle, now)).expect("a poll");
        }),
    ]
}

#[test]
fn each_step_answers_a_client() {
    for (step, address) in (1..).zip(steps()) {
        let mut client = connect(address);
        assert!(answers(&mut client, b"hello", PATIENCE), "step {step}");
        assert!(answers(&mut client, b"again", PATIENCE), "step {step}");
        client.shutdown(Shutdown::Write).expect("a connection");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).expect("an end");
        assert!(rest.is_empty(), "step {step}");
    }
}

#[test]
fn step2_serves_beside_a_silent_client_and_step1_does_not() {
    let all = steps();
    let silent: Vec<TcpStream> = all.iter().map(|address| connect(*address)).collect();
    // The first one is the one that is being served.
    assert!(!answers(&mut connect(all[0]), b"hello", WHILE));
    for (step, address) in (2..).zip(&all[1..]) {
        assert!(
            answers(&mut connect(*address), b"hello", PATIENCE),
            "step {step}"
        );
    }
    drop(silent);
}

#[test]
fn step3_answers_all_that_came_at_once_and_step2_the_first_of_it() {
    let all = steps();
    let text = [b'x'; 3000];
    let mut client = connect(all[1]);
    client.write_all(&text).expect("it listens");
    let mut some = [0; 1024];
    client.read_exact(&mut some).expect("what was read once");
    client.set_read_timeout(Some(WHILE)).expect("a time-out");
    assert!(
        client.read(&mut some).is_err(),
        "step 2 has no edge for the rest"
    );
    for (step, address) in (3..).zip(&all[2..]) {
        assert!(
            answers(&mut connect(*address), &text, PATIENCE),
            "step {step}"
        );
    }
}

/// Sends much, and reads nothing until all is sent or so much time is over; how much comes back.
fn read_late(address: SocketAddr, after: Duration) -> usize {
    let mut client = connect(address);
    let mut sending = client.try_clone().expect("a socket");
    let sender = thread::spawn(move || {
        let piece = vec![b'x'; 1 << 20];
        for _ in 0..MUCH / piece.len() {
            sending.write_all(&piece).expect("it listens");
        }
        sending.shutdown(Shutdown::Write).expect("a connection");
    });
    let end = Instant::now() + after;
    while !sender.is_finished() && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    let (mut count, mut bytes) = (0, vec![0; 1 << 20]);
    loop {
        match client.read(&mut bytes).expect("an answer") {
            0 => break,
            more => count += more,
        }
    }
    sender.join().expect("it sends all");
    count
}

#[test]
fn step4_waits_for_a_client_that_reads_late_and_step3_loses_bytes() {
    let all = steps();
    // A server that reads all the same has all of it some time; one that waits for its client never.
    assert!(read_late(all[2], PATIENCE) < MUCH, "step 3");
    for (step, address) in (4..).zip(&all[3..]) {
        assert_eq!(read_late(*address, 3 * WHILE), MUCH, "step {step}");
    }
}

#[test]
fn step5_ends_a_silent_client_and_step4_keeps_it() {
    let idle = Duration::from_millis(200);
    let mut kept = connect(start(step4_buffers::serve));
    let ended = [
        start(move |listener| step5_deadlines::serve(listener, idle)),
        start(move |listener| step6_sans_io::serve(listener, |now| Upper::new(idle, now))),
    ];
    for address in ended {
        let mut client = connect(address);
        assert_eq!(client.read(&mut [0; 1]).expect("an end"), 0);
    }
    kept.set_read_timeout(Some(2 * idle)).expect("a time-out");
    assert!(kept.read(&mut [0; 1]).is_err(), "nobody ends it");
}

#[test]
fn step6_is_tested_in_any_pieces_at_any_time_and_without_a_socket() {
    let start = Instant::now();
    let idle = Duration::from_secs(5);
    let text = b"any pieces at all";
    for piece in 1..=text.len() {
        let (mut link, mut upper) = (Link::default(), Upper::new(idle, start));
        for part in text.chunks(piece) {
            link.received.extend(part);
            upper.advance(&mut link, start);
            upper.advance(&mut link, start); // nothing new, nothing done
        }
        assert_eq!(link.to_send, text.to_ascii_uppercase(), "pieces of {piece}");
        assert!(!link.closed);
        let at = upper.deadline();
        assert_eq!(at, start + idle);
        upper.advance(&mut link, at);
        assert!(link.closed, "5 s were over at once");
    }
    // Without room nothing is consumed.
    let (mut link, mut upper) = (Link::default(), Upper::new(idle, start));
    (link.to_send, link.received) = (vec![b'X'; BYTES_MAX], b"more".to_vec());
    upper.advance(&mut link, start);
    assert_eq!(link.received, b"more");
}

#[test]
fn step7_finds_no_seed_that_fails_and_each_planted_mistake_within_a_hundred() {
    for seed in 0..2000 {
        assert_eq!(step7_simulated::run(seed, Bug::None), Ok(()), "seed {seed}");
    }
    for bug in [Bug::ReadOnce, Bug::ForgetEdge] {
        let found = (0..100).find_map(|seed| step7_simulated::run(seed, bug).err());
        let found = found.expect("a seed that finds it");
        assert!(found.contains("and all is still"), "{found}");
    }
}

#[test]
fn each_step_is_short_says_what_is_new_and_can_be_run() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("the manifest");
    let mut names: Vec<String> = fs::read_dir(folder())
        .expect("the course")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .filter(|name| name.starts_with("step"))
        .collect();
    names.sort();
    assert_eq!(names.len(), 7);
    for name in names {
        let text = fs::read_to_string(folder().join(&name)).expect("a step");
        let lines = text.lines().count();
        assert!(lines < 150, "{name} has {lines} lines");
        assert!(text.contains("//! New: "), "{name}");
        assert!(text.contains("//! What is wrong: ") || text.contains("//! What is left: "));
        let name = name.trim_end_matches(".rs");
        assert!(
            text.contains(&format!("cargo run --example {name}")),
            "{name}"
        );
        assert!(manifest.contains(&format!(
            "name = \"{name}\"\npath = \"tests/course/{name}.rs\""
        )));
    }
}

/// Each path below `src/`, `tests/` and `benches/` that a text names is there.
fn names_what_is_there(text: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |word: &&str| {
        ["src/", "tests/", "benches/"]
            .iter()
            .any(|top| word.starts_with(top))
            && !word.contains(' ')
    };
    for path in quoted.filter(is_path) {
        assert!(root.join(path).exists(), "{path} is not there");
    }
}

fn chapter() -> String {
    fs::read_to_string(folder().join("README.md")).expect("the chapter")
}

#[test]
fn what_the_chapter_names_is_there() {
    let (root, text) = (Path::new(env!("CARGO_MANIFEST_DIR")), chapter());
    names_what_is_there(&text);
    // `NAME` in `FILE`.
    let words: Vec<&str> = text.split('`').collect();
    let pairs = words
        .windows(3)
        .filter(|w| w[1].trim() == "in" && w[2].starts_with("src/"));
    let mut count = 0;
    for pair in pairs {
        let source = fs::read_to_string(root.join(pair[2])).expect(pair[2]);
        let name = pair[0].rsplit("::").next().unwrap_or_default();
        assert!(source.contains(name), "{name} is not in {}", pair[2]);
        count += 1;
    }
    assert!(count >= 8, "only {count} names");
}

/// The rows of the table under a heading, in cells.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = text.split_once(heading).expect("a heading");
    let table = section.lines().skip_while(|line| !line.starts_with('|'));
    let table = table.take_while(|line| line.starts_with('|')).skip(2);
    let cell = |cell: &str| cell.trim().to_owned();
    table
        .map(|line| line.split('|').map(cell).collect())
        .collect()
}

#[test]
fn the_reading_stops_at_functions_that_there_are_and_takes_an_hour() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut minutes = 0;
    for row in rows(&chapter(), "\n## Reading the loop\n") {
        minutes += row[1].parse::<u32>().expect("minutes");
        let file = row[2].trim_matches('`');
        let source = fs::read_to_string(root.join(file)).expect(file);
        for function in row[3].split('`').skip(1).step_by(2) {
            let is_there = ["(", "<"]
                .iter()
                .any(|end| source.contains(&format!("fn {function}{end}")));
            assert!(is_there, "{file} has no function {function}");
        }
    }
    assert_eq!(minutes, 60);
}

#[test]
fn the_steps_of_the_chapter_are_those_that_can_be_run() {
    let all = rows(&chapter(), "\n## Seven steps\n");
    assert_eq!(all.len(), 7);
    for (number, row) in (1..).zip(all) {
        let name = row[2]
            .trim_matches('`')
            .rsplit(' ')
            .next()
            .unwrap_or_default()
            .to_owned();
        assert!(name.starts_with(&format!("step{number}_")), "{name}");
        assert!(folder().join(format!("{name}.rs")).exists(), "{name}");
    }
}

#[test]
fn each_lab_has_its_parts() {
    let text = chapter();
    let labs: Vec<&str> = text.split("\n### Lab ").skip(1).collect();
    assert_eq!(labs.len(), 10);
    for lab in labs {
        let parts = [
            "**Asked:**",
            "**Bytes:**",
            "**Machine:**",
            "**What goes wrong:**",
            "**To change:**",
        ];
        for part in parts {
            assert!(lab.contains(part), "{part} is not in lab {}", &lab[..20]);
        }
        // What the server or the client says of itself.
        let traces = ["traced.sh ", "explain --admin ", "mail -v "];
        assert!(
            traces.iter().any(|trace| lab.contains(trace)),
            "no trace is in lab {}",
            &lab[..20]
        );
        assert!(
            lab.contains("```console\n$ "),
            "nothing is run in lab {}",
            &lab[..20]
        );
    }
}
