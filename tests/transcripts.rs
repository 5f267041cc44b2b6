//! Golden transcripts: dialogues in `tests/transcripts/KIND/*.txt`, each about one rule, which its
//! first line names with its section of the RFC. Each is replayed against the service on the bench,
//! with what the client sends in one piece, byte by byte, split in two at every place, and cut at
//! random: the answer is the same every time.
//!
//! A transcript is made of lines:
//!
//! ```text
//! # …            a remark
//! set KEY = …    a key of the listener, as in the configuration
//! >> …           the client sends this
//! << …           and receives exactly this
//! end            the client sends its end
//! last …         the client sends this and its end at once
//! wait 10s       time passes
//! open, closed   how the session stands
//! dropped        it was ended without a word
//! file NAME …    the upload folder has this file with this in it
//! ```
//!
//! Texts know `\r \n \t \0 \\ \{ \xHH`, and `{a*8000}` for an `a` 8,000 times over. What is
//! received is compared with all `<<` lines since the last other line, in which `{head}` stands for
//! the header lines with the empty line behind them, `{head: A; B; !C}` for such that have the
//! lines A and B and no line that begins with C, `{body}` for as many bytes as their Content-Length
//! says, and `{*}` for anything within a line.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use netlab_reactor::config::{Config, Kind, Overrides};
use netlab_reactor::service::Service;
use netlab_reactor::services::bench::Bench;
use netlab_reactor::services::{upload::Upload, web::Given, web::Web};
use netlab_reactor::sys::unix;

/// Beyond so many bytes in one go, not every split in two is tried.
const SPLITS_MAX: usize = 300;
/// Random fragmentations of each transcript.
const CUTS: u64 = 24;

enum Line {
    Send(Vec<u8>),
    Expect(String),
    End,
    Last(Vec<u8>),
    Wait(Duration),
    Open,
    Closed,
    Dropped,
    File(String, Vec<u8>),
}

struct Transcript {
    name: String,
    settings: String,
    lines: Vec<(usize, Line)>,
}

/// How the bytes of the transcript's sends are cut into pieces.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Bytes,
    /// All bytes that are sent counted through: a piece ends here.
    At(usize),
    Random(u64),
}

impl Transcript {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a readable transcript");
        let name = path.display().to_string();
        assert!(
            text.starts_with("# RFC ") || text.starts_with("# The upload protocol"),
            "{name}: the first line names the rule"
        );
        let mut transcript = Self {
            name,
            settings: String::new(),
            lines: Vec::new(),
        };
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let parsed = match word {
                "" | "#" => continue,
                "set" => {
                    transcript.settings += rest;
                    transcript.settings.push('\n');
                    continue;
                }
                ">>" => Line::Send(unescape(rest)),
                "<<" => Line::Expect(rest.to_owned()),
                "end" => Line::End,
                "last" => Line::Last(unescape(rest)),
                "wait" => Line::Wait(seconds(rest)),
                "open" => Line::Open,
                "closed" => Line::Closed,
                "dropped" => Line::Dropped,
                "file" => {
                    let (name, bytes) = rest.split_once(' ').unwrap_or((rest, ""));
                    Line::File(name.to_owned(), unescape(bytes))
                }
                _ => panic!("{}:{number}: {line:?}", transcript.name),
            };
            match (parsed, transcript.lines.last_mut()) {
                (Line::Send(more), Some((_, Line::Send(bytes)))) => bytes.extend(more),
                (Line::Expect(more), Some((_, Line::Expect(text)))) => *text += &more,
                (line, _) => transcript.lines.push((number, line)),
            }
        }
        transcript
    }

    fn sent_bytes(&self) -> usize {
        let sends = self.lines.iter().map(|(_, line)| match line {
            Line::Send(bytes) | Line::Last(bytes) => bytes.len(),
            _ => 0,
        });
        sends.sum()
    }

    /// Every way to cut what is sent.
    fn cuts(&self) -> Vec<Cut> {
        let len = self.sent_bytes();
        let mut cuts = vec![Cut::Whole, Cut::Bytes];
        let step = len.div_ceil(SPLITS_MAX).max(1);
        cuts.extend((1..len).step_by(step).map(Cut::At));
        cuts.extend((1..=CUTS).map(Cut::Random));
        cuts
    }

    /// Replays the dialogue; everything that the client received.
    fn replay<T: Service>(&self, bench: &mut Bench<T>, cut: Cut, folder: &Path) -> Vec<u8> {
        let mut random = match cut {
            Cut::Random(seed) => seed,
            _ => 1,
        };
        let (mut sent, mut all) = (0, Vec::new());
        let mut lines = self.lines.iter().peekable();
        while let Some((number, line)) = lines.next() {
            let place = format!("{}:{number} ({cut:?})", self.name);
            match line {
                Line::Send(bytes) => {
                    send(bench, bytes, sent, cut, &mut random);
                    sent += bytes.len();
                }
                Line::Expect(_) => panic!("{place}: nothing happened before"),
                Line::End => {
                    bench.peer_closes();
                }
                Line::Last(bytes) if matches!(cut, Cut::Whole) => {
                    bench.peer_sends_and_closes(bytes);
                }
                Line::Last(bytes) => {
                    send(bench, bytes, sent, cut, &mut random);
                    sent += bytes.len();
                    if !bench.is_over() {
                        bench.peer_closes();
                    }
                }
                Line::Wait(span) => {
                    bench.later(*span);
                }
                Line::Open => {
                    bench.expect_open();
                }
                Line::Closed => {
                    bench.expect_closed();
                }
                Line::Dropped => assert!(bench.failed.is_some(), "{place}: it was not dropped"),
                Line::File(name, bytes) => {
                    let found = fs::read(folder.join(name))
                        .unwrap_or_else(|error| panic!("{place}: {error}"));
                    assert_eq!(
                        found.escape_ascii().to_string(),
                        bytes.escape_ascii().to_string(),
                        "{place}"
                    );
                }
            }
            let pattern = match lines.peek() {
                Some((_, Line::Expect(text))) => {
                    lines.next();
                    text.as_str()
                }
                _ => "",
            };
            let received = bench.received();
            if let Err(why) = compare(pattern, &received) {
                panic!(
                    "{place}: {why}\nreceived:\n{}",
                    received.escape_ascii().to_string().replace("\\n", "\\n\n")
                );
            }
            all.extend(received);
        }
        all
    }
}

/// Sends `bytes`, the first of which is number `start` of the transcript.
fn send<T: Service>(bench: &mut Bench<T>, bytes: &[u8], start: usize, cut: Cut, random: &mut u64) {
    let mut at = 0;
    while at < bytes.len() && !bench.is_over() {
        let rest = bytes.len() - at;
        let len = match cut {
            Cut::Whole => rest,
            Cut::Bytes => 1,
            Cut::At(place) if place > start + at => rest.min(place - start - at),
            Cut::At(_) => rest,
            Cut::Random(_) => {
                // xorshift: short pieces mostly, long ones now and then.
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                let bound = if *random & 7 == 0 { 4096 } else { 16 };
                rest.min(1 + (*random >> 8) as usize % bound)
            }
        };
        bench.peer_sends(&bytes[at..at + len]);
        at += len;
    }
}

fn seconds(text: &str) -> Duration {
    let number = text.strip_suffix('s').and_then(|n| n.parse().ok());
    Duration::from_secs_f64(number.unwrap_or_else(|| panic!("{text:?} is no time")))
}

/// The bytes that a text stands for.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => bytes.push(escaped(&mut chars)),
            '{' => {
                let repeat: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let (what, times) = repeat.rsplit_once('*').expect("{TEXT*TIMES}");
                let times = times.parse().expect("a number");
                bytes.extend(unescape(what).repeat(times));
            }
            c => bytes.extend(c.to_string().bytes()),
        }
    }
    bytes
}

fn escaped(chars: &mut std::str::Chars<'_>) -> u8 {
    match chars.next() {
        Some('r') => b'\r',
        Some('n') => b'\n',
        Some('t') => b'\t',
        Some('0') => 0,
        Some('x') => {
            let digits: String = chars.by_ref().take(2).collect();
            u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
        }
        Some(c @ ('\\' | '{' | '}' | ' ')) => c as u8,
        other => panic!("no such escape: {other:?}"),
    }
}

/// Compares what was received with an expectation.
fn compare(pattern: &str, received: &[u8]) -> Result<(), String> {
    let mut rest = received;
    let mut length = None;
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let literal = match c {
            '{' => {
                let wildcard: String = chars.by_ref().take_while(|&c| c != '}').collect();
                let (name, conditions) = wildcard.split_once(':').unwrap_or((&wildcard, ""));
                let len = match name {
                    "head" => {
                        let (len, content_length) = head(rest, conditions)?;
                        length = content_length;
                        len
                    }
                    "body" => length
                        .take()
                        .ok_or("a body without a Content-Length before it")?,
                    "*" => rest
                        .iter()
                        .position(|byte| b"\r\n".contains(byte))
                        .unwrap_or(rest.len()),
                    _ => panic!("no such wildcard: {name:?}"),
                };
                rest = rest.get(len..).ok_or("shorter than its Content-Length")?;
                continue;
            }
            '\\' => vec![escaped(&mut chars)],
            c => c.to_string().into_bytes(),
        };
        rest = rest.strip_prefix(literal.as_slice()).ok_or_else(|| {
            let at = received.len() - rest.len();
            format!(
                "byte {at} is not {:?}; expected:\n{pattern}",
                literal.escape_ascii().to_string()
            )
        })?;
    }
    match rest {
        [] => Ok(()),
        more => Err(format!(
            "{} bytes too many; expected:\n{pattern}",
            more.len()
        )),
    }
}

/// The length of the header lines at the beginning of `bytes`, and what Content-Length says.
fn head(bytes: &[u8], conditions: &str) -> Result<(usize, Option<usize>), String> {
    let len = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or("no end of a head")?
        + 4;
    let text = std::str::from_utf8(&bytes[..len]).map_err(|error| error.to_string())?;
    let lines: Vec<_> = text.split_terminator("\r\n").collect();
    for condition in conditions
        .split(';')
        .map(str::trim)
        .filter(|c| !c.is_empty())
    {
        let met = match condition.strip_prefix('!') {
            Some(unwanted) => !lines.iter().any(|line| line.starts_with(unwanted)),
            None => lines.contains(&condition),
        };
        if !met {
            return Err(format!("{condition:?} is not so in\n{text}"));
        }
    }
    let length = lines
        .iter()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    Ok((len, length.and_then(|text| text.parse().ok())))
}

fn transcripts(kind: &str) -> Vec<Transcript> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/transcripts")
        .join(kind);
    let entries = fs::read_dir(folder).expect("transcripts");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    paths.sort();
    paths.iter().map(|path| Transcript::read(path)).collect()
}

/// Replays every transcript of a kind, and only then fails, with the names of those that went
/// wrong.
fn each(kind: &str, replay: impl Fn(&Transcript)) {
    let mut wrong = Vec::new();
    for transcript in transcripts(kind) {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| replay(&transcript)));
        if result.is_err() {
            wrong.push(transcript.name);
        }
    }
    assert!(wrong.is_empty(), "went wrong: {wrong:#?}");
}

/// The listener's configuration.
fn configure(kind: &str, settings: &str, folder: &Path) -> Kind {
    let text = format!("[[listener]]\nkind = \"{kind}\"\n{settings}");
    let config = Config::parse(&text, &folder.join("test.toml"), &Overrides::default());
    let mut config = config.unwrap_or_else(|problems| panic!("{problems}"));
    config.listeners.remove(0).kind
}

#[test]
fn http_dialogues_are_the_same_in_every_fragmentation() {
    let site = tempfile::tempdir().expect("a folder");
    let files: HashMap<&str, Vec<u8>> = HashMap::from([
        ("index.html", b"<p>index</p>\n".to_vec()),
        ("hello.txt", b"hello, world\n".to_vec()),
        ("folder/index.html", b"<p>folder</p>\n".to_vec()),
        ("big.bin", (0..100_000u32).map(|i| i as u8).collect()),
    ]);
    fs::create_dir(site.path().join("folder")).expect("a folder");
    for (name, bytes) in files {
        let path = site.path().join(name);
        fs::write(&path, bytes).expect("a file");
        let modified = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let file = fs::File::options()
            .write(true)
            .open(path)
            .expect("the file");
        file.set_modified(modified).expect("a time");
    }
    each("http", |transcript| {
        let settings = format!("root = \".\"\n{}", transcript.settings);
        let Kind::Http(config) = configure("http", &settings, site.path()) else {
            unreachable!("that kind was asked for");
        };
        let mut first = None;
        for cut in transcript.cuts() {
            let mut disk = unix::Files::default();
            let service = Web::files(&config, &Given::default(), &mut disk).expect("a root");
            let received = transcript.replay(&mut Bench::new(service), cut, site.path());
            let first = first.get_or_insert_with(|| received.clone());
            assert!(
                *first == received,
                "{} ({cut:?}): other bytes than in one piece",
                transcript.name
            );
        }
    });
}

#[test]
fn upload_dialogues_are_the_same_in_every_fragmentation() {
    each("upload", |transcript| {
        for cut in transcript.cuts() {
            let folder = tempfile::tempdir().expect("a folder");
            // The user `student` with the password `secret`: MD5 of both, as Python's hashlib has
            // it.
            fs::write(
                folder.path().join("users"),
                "student|2fea1bf41e41b1cc542d466e76d7d2a9\n",
            )
            .expect("a file");
            let mut settings = String::from("dir = \"files\"\n");
            settings += &transcript.settings;
            let Kind::Upload(config) = configure("upload", &settings, folder.path()) else {
                unreachable!("that kind was asked for");
            };
            let mut disk = unix::Files::default();
            let service = Upload::new(&config, &mut disk).expect("a folder");
            transcript.replay(&mut Bench::new(service), cut, &folder.path().join("files"));
        }
    });
}

/// A transcript that expects something else than what is answered fails.
#[test]
fn the_comparison_is_exact() {
    let received = b"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 2\r\n\r\nOKmore";
    let mut pattern = String::from("HTTP/1.1 200 OK\\r\\n{head: A: b; !D}{body}more");
    assert_eq!(compare(&pattern, received), Ok(()));
    assert!(compare("", b"x").is_err());
    assert!(compare("x", b"").is_err());
    assert!(compare("HTTP/1.1 200 OK\\r\\n{head: A: c}{body}more", received).is_err());
    assert!(compare("HTTP/1.1 200 OK\\r\\n{head: !A}{body}more", received).is_err());
    assert!(compare("HTTP/1.1 {*}\\r\\n{head}OKmore", received).is_ok());
    write!(pattern, "!").expect("a String");
    assert!(compare(&pattern, received).is_err());
}
