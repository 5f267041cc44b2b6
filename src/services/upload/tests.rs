//! Dialogues on the bench, with folders of their own on the real disk.

use super::store::{PARTIAL, RETRY_AFTER};
use super::*;
use crate::buffer::PAGE_BYTES;
use crate::config::{Overwrite, SecretSource};
use crate::services::bench::Bench;
use crate::sys::unix;
use crate::wire::frame::{self, Frame};
use crate::wire::upload::{Code, FileHeader, SafeName};
use crate::wire::user_file::UserInfo;
use crate::wire::{hex, login};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

mod acked;
mod folders;

const SECRET: &str = "tiger";
const LOGIN: &[u8] = br#"{"operate": "login", "user": "ann", "passwd": "tulip"}"#;

/// A connection to a listener with a folder of its own.
struct Server {
    _folder: TempDir,
    config: UploadConfig,
    bench: Bench<Upload>,
}

impl Server {
    fn new(handshake: Handshake, change: impl FnOnce(&mut UploadConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let secret = SecretSource::Given(Secret::from(SECRET));
        let mut config = UploadConfig::new(handshake, secret);
        config.dir = folder.path().join("a/b");
        change(&mut config);
        let bench = connect(&config);
        Self {
            _folder: folder,
            config,
            bench,
        }
    }

    fn plain() -> Self {
        Self::new(Handshake::None, |_| {})
    }

    /// Another connection, after a new start.
    fn again(&mut self) -> &mut Self {
        self.bench = connect(&self.config);
        self
    }

    fn sends(&mut self, bytes: &[u8]) -> &mut Self {
        self.bench.peer_sends(bytes);
        self
    }

    /// What stands in the folder.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(&self.config.dir).expect("the folder") {
            let entry = entry.expect("an entry");
            if entry.file_type().expect("a type").is_file() {
                let name = entry.file_name().into_string().expect("UTF-8");
                files.insert(name, fs::read(entry.path()).expect("a file"));
            }
        }
        files
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.config.dir.join(PARTIAL))
            .expect("a folder")
            .count()
    }

    fn expect_files(&self, files: &[(&str, &[u8])]) {
        let expected: BTreeMap<String, Vec<u8>> = files
            .iter()
            .map(|&(name, bytes)| (name.to_owned(), bytes.to_vec()))
            .collect();
        assert_eq!(self.files(), expected);
    }

    /// The connection was dropped, and nothing of the file is left.
    fn expect_dropped(&self, why: &str) {
        let failed = self.bench.failed.as_ref().expect("the connection goes on");
        assert!(failed.to_string().contains(why), "{failed}");
        assert_eq!(self.partials(), 0);
        self.expect_files(&[]);
    }
}

fn connect(config: &UploadConfig) -> Bench<Upload> {
    let mut disk = unix::Files::default();
    Bench::new(Upload::new(config, &mut disk).expect("a folder"))
}

fn framed(json: &str) -> Vec<u8> {
    let mut bytes = (json.len() as i32).to_le_bytes().to_vec();
    bytes.extend_from_slice(json.as_bytes());
    bytes
}

fn file(name: &str, body: &[u8]) -> Vec<u8> {
    let json = format!("{{\"filename\": {name:?}, \"filesize\": {}}}", body.len());
    [framed(&json), body.to_vec()].concat()
}

/// The bytes of a file that does not fit a page: one of several.
fn large_body(which: u8) -> Vec<u8> {
    (0..150_000_u32).map(|i| (i % 251) as u8 ^ which).collect()
}

#[test]
fn every_handshake_takes_the_right_answer_and_no_other() {
    for handshake in Handshake::ALL.into_iter().filter(|h| h.needs_secret()) {
        let mut server = Server::new(handshake, |_| {});
        let challenge = server.bench.received().try_into().expect("32 bytes");
        let answer = handshake.answer(&Secret::from(SECRET), &challenge);
        server.sends(&answer).sends(&file("a.txt", b"abc"));
        server.expect_files(&[("a.txt", b"abc")]);

        // A challenge is good for one connection: yesterday's answer is worth nothing.
        server.again();
        assert_ne!(server.bench.received(), challenge);
        server.sends(&[&answer[..], &file("b.txt", b"b")].concat());
        let failed = server.bench.failed.as_ref().expect("dropped");
        assert!(failed.to_string().contains("a wrong answer"), "{failed}");
        server.expect_files(&[("a.txt", b"abc")]);
    }
}

fn with_login(config: &mut UploadConfig) {
    let line = UserInfo::line("ann", &Secret::from("tulip"));
    config.login = Some(UserInfo::parse(&line).expect("a user file"));
}

#[test]
fn a_login_is_answered_without_a_length() {
    let mut server = Server::new(Handshake::None, with_login);
    server
        .bench
        .peer_sends(LOGIN)
        .expect(b"{\"flag\": true}")
        .expect_open();
    server.sends(&file("a", b"x")).bench.expect(b"");
    server.expect_files(&[("a", b"x")]);
    for wrong in [
        LOGIN.to_ascii_uppercase(),
        br#"{"operate": "login", "user": "ann", "passwd": "rose"}"#.to_vec(),
        br#"{"operate": "login", "user": "bob", "passwd": "tulip"}"#.to_vec(),
    ] {
        let mut server = Server::new(Handshake::None, with_login);
        server.bench.peer_sends(&wrong);
        if server.bench.failed.is_none() {
            server.bench.expect(b"{\"flag\": false}").expect_closed();
        }
        server.expect_files(&[]);
    }
}

/// What a client may put behind a line: it typed it, or printed it.
const LINE_ENDS: [&[u8]; 6] = [b"\n", b"\r\n", b"\r", b" \r\n", b"\r\n\r\n", b" \t \n"];

#[test]
fn a_line_end_behind_an_answer_or_a_login_is_passed_over_at_every_cut() {
    for end in LINE_ENDS {
        for handshake in Handshake::ALL {
            let connect = || {
                let mut server = Server::new(handshake, with_login);
                let mut sent = Vec::new();
                if handshake.needs_secret() {
                    let challenge = server.bench.received().try_into().expect("32 bytes");
                    sent = handshake.answer(&Secret::from(SECRET), &challenge);
                    sent.extend(end);
                }
                sent.extend([LOGIN, end].concat());
                // Headers whose length is 32, that of a blank, and 29.
                sent.extend(file("a", b"abc"));
                sent.extend(framed("{\"filename\":\"b\",\"filesize\":0}"));
                (server, sent)
            };
            for cut in (0..connect().1.len()).step_by(7).chain([usize::MAX]) {
                let (mut server, sent) = connect();
                match cut {
                    usize::MAX => sent.chunks(1).for_each(|byte| _ = server.sends(byte)),
                    cut => _ = server.sends(&sent[..cut]).sends(&sent[cut..]),
                }
                server.bench.expect(login::ACCEPTED).expect_open();
                server.bench.peer_closes().expect_closed();
                server.expect_files(&[("a", b"abc"), ("b", b"")]);
            }
            // Without a login the line end stands in front of the first header.
            if handshake.needs_secret() {
                let mut server = Server::new(handshake, |_| {});
                let challenge = server.bench.received().try_into().expect("32 bytes");
                let answer = handshake.answer(&Secret::from(SECRET), &challenge);
                server.sends(&answer).sends(end).sends(&file("a", b"abc"));
                server.expect_files(&[("a", b"abc")]);
            }
        }
    }
}

#[test]
fn a_line_end_is_no_beginning_of_a_header() {
    for end in LINE_ENDS {
        let logged_in = || {
            let mut server = Server::new(Handshake::None, with_login);
            server.sends(&[LOGIN, end].concat());
            server.bench.expect(login::ACCEPTED).expect_open();
            server
        };
        // It may end the stream, it may be followed by a pause, and it waits for no more when the
        // process ends.
        logged_in().bench.peer_closes().expect_closed();
        let mut server = logged_in();
        server.bench.later(Duration::from_secs(59)).expect_open();
        server.sends(&file("a", b"abc"));
        server.expect_files(&[("a", b"abc")]);
        let mut server = logged_in();
        server.bench.draining = true;
        server.bench.step();
        server.bench.expect_closed();
    }
}

#[test]
fn a_header_is_json_and_may_be_surrounded_by_blanks() {
    for json in [
        "{\"filename\":\"a\",\"filesize\":1}\r\n",
        "\n {\"filename\": \"a\",\n\"filesize\": 1}\n\n",
    ] {
        let mut server = Server::plain();
        server.sends(&framed(json)).sends(b"x");
        server.expect_files(&[("a", b"x")]);
    }
}

#[test]
fn a_name_that_is_not_safe_everywhere_is_refused_with_the_reason() {
    for (name, why) in [
        ("CON", "\"CON\": the name is that of a device"),
        ("x/nul.txt", "\"x/nul.txt\": the name is that of a device"),
        ("a:b", "\"a:b\": the name holds ':'"),
        (
            "x.",
            "\"x.\": the name begins or ends with a blank, or ends with a dot",
        ),
        ("x ", "\"x \": the name begins or ends with a blank"),
        ("-rf", "\"-rf\": the name begins with a hyphen"),
        (
            "a\\u202eb",
            "\"a\\u{202e}b\": the name holds a character that is not seen: U+202E",
        ),
        (
            "a\\nb",
            "\"a\\nb\": the name holds a character that is not seen: U+000A",
        ),
    ] {
        let mut server = Server::plain();
        let json = format!("{{\"filename\": \"{name}\", \"filesize\": 1}}");
        server.sends(&framed(&json)).expect_dropped(why);
    }
    let mut server = Server::plain();
    let long = format!(
        "{{\"filename\": \"{}\", \"filesize\": 1}}",
        "x".repeat(60_000)
    );
    server
        .sends(&framed(&long))
        .expect_dropped("bytes more]\": the name is longer than 255 bytes");
    let failed = server.bench.failed.expect("refused").to_string();
    assert!(failed.len() < 400, "{failed}");
    let mut server = Server::plain();
    server
        .sends(&framed(&format!("{:?}", "x".repeat(60_000))))
        .expect_dropped("it is a text");
    let failed = server.bench.failed.expect("refused").to_string();
    assert!(failed.len() < 100, "{failed}");
}

#[test]
fn several_files_and_an_empty_one_come_on_one_connection() {
    let mut server = Server::plain();
    let body: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
    server
        .sends(&file("big.bin", &body))
        .sends(&file("empty", b""))
        .sends(&file("../../etc/x.tar.gz", b"y"))
        .bench
        .peer_closes()
        .expect(b"")
        .expect_closed();
    server.expect_files(&[("big.bin", &body), ("empty", b""), ("x.tar.gz", b"y")]);
    assert_eq!(server.partials(), 0);
    let counted = server.bench.metrics.listeners[0].of.upload();
    assert_eq!(counted.map(|counted| counted.files_stored), Some(3));
}

#[test]
fn many_small_files_take_many_turns() {
    let mut server = Server::new(Handshake::None, |config| config.files_per_turn_max = 4);
    let began = server.bench.metrics.turns;
    let all: Vec<u8> = (0..10).flat_map(|i| file(&format!("{i}"), b"")).collect();
    server.sends(&all);
    assert_eq!(server.files().len(), 10);
    // Each of four files, four, and the other two is stored in a turn of its own.
    assert_eq!(server.bench.metrics.turns - began, 4);
    server.bench.peer_closes().expect_closed();
}

#[test]
fn the_last_bytes_may_come_with_the_end() {
    let mut server = Server::plain();
    server.bench.down.eof = true;
    server.sends(&file("a", b"abc")).bench.expect_closed();
    server.expect_files(&[("a", b"abc")]);
}

#[test]
fn a_taken_name_is_versioned_replaced_or_refused() {
    let upload = |overwrite, count: u8| {
        let mut server = Server::new(Handshake::None, |c| c.overwrite = overwrite);
        for i in 0..count {
            server.again().sends(&file("a.txt", &[i]));
        }
        server
    };
    let server = upload(Overwrite::Version, 40);
    let files = server.files();
    assert_eq!(files.len(), 40);
    assert_eq!(files["a.txt"], [0]);
    for i in 1..40u8 {
        assert_eq!(files[&format!("a.{i}.txt")], [i]);
    }
    upload(Overwrite::Replace, 3).expect_files(&[("a.txt", &[2])]);
    let server = upload(Overwrite::Refuse, 2);
    server.expect_files(&[("a.txt", &[0])]);
    assert!(matches!(server.bench.failed, Some(Error::Refused(_))));
    assert_eq!(server.partials(), 0);
}

#[test]
fn a_name_taken_while_the_file_came_is_not_lost() {
    let mut server = Server::plain();
    let bytes = file("a.txt", b"late");
    server.sends(&bytes[..bytes.len() - 1]);
    fs::write(server.config.dir.join("a.txt"), "first").expect("a file");
    server.sends(b"e");
    server.expect_files(&[("a.txt", b"first"), ("a.1.txt", b"late")]);
}

#[test]
fn what_breaks_the_protocol_leaves_nothing() {
    let header = |json: &str| framed(json);
    for (bytes, why) in [
        ((-1i32).to_le_bytes().to_vec(), "negative"),
        (i32::MAX.to_le_bytes().to_vec(), "above the limit"),
        (header("{"), "not a JSON object"),
        (header("[]"), "not a JSON object"),
        (header("{}"), "no \"filename\""),
        (header(r#"{"filename": "a"}"#), "no \"filesize\""),
        (
            header(r#"{"filename": "a", "filesize": -1}"#),
            "it is negative",
        ),
        (
            header(r#"{"filename": "a", "filesize": 1001}"#),
            "above the limit of 1000",
        ),
        (header(r#"{"filename": "..", "filesize": 1}"#), "a dot"),
        (header(r#"{"filename": "a/", "filesize": 1}"#), "empty"),
        (
            header(r#"{"filename": ".partial", "filesize": 1}"#),
            "a dot",
        ),
    ] {
        let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = 1000);
        server.sends(&bytes).expect_dropped(why);
    }
    let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = u64::MAX);
    let huge = format!(r#"{{"filename": "a", "filesize": {}}}"#, u64::MAX / 2);
    server.sends(&header(&huge)).expect_dropped("has room for");
}

#[test]
fn a_body_that_ends_early_leaves_nothing() {
    let mut server = Server::plain();
    let bytes = file("a", b"abcdef");
    server.sends(&bytes[..bytes.len() - 1]);
    server.bench.peer_closes();
    server.expect_dropped("ended within a after 5 of 6 bytes");
    let mut server = Server::plain();
    let bytes = file("a", &large_body(0));
    server.sends(&bytes[..bytes.len() - 1]);
    assert_eq!(server.partials(), 1);
    server.bench.peer_closes();
    server.expect_dropped("ended within a after 149999 of 150000 bytes");
}

#[test]
fn each_phase_has_its_time() {
    let seconds = Duration::from_secs;
    let timed_out = |server: &Server| match server.bench.failed {
        Some(Error::TimedOut(phase)) => Some(phase),
        _ => None,
    };
    // The handshake and a header are bounded as a whole: more bytes do not buy more time.
    let mut server = Server::new(Handshake::Sha1, |_| {});
    server.bench.later(seconds(6)).peer_sends(b"0");
    server.bench.later(seconds(4));
    assert_eq!(timed_out(&server), Some(Phase::Handshake));
    let mut server = Server::plain();
    let bytes = file("abc", b"abc");
    server.sends(&bytes[..1]).bench.later(seconds(6));
    server.sends(&bytes[1..2]).bench.later(seconds(4));
    assert_eq!(timed_out(&server), Some(Phase::Head));
    // A connection between files has its time anew, and so has a body that moves, if it may move
    // slowly.
    let mut server = Server::new(Handshake::None, |config| config.body_rate_min = None);
    server.sends(&bytes[..bytes.len() - 2]);
    server.bench.later(seconds(59));
    server.sends(b"b").bench.later(seconds(59)).expect_open();
    server.bench.later(seconds(1));
    assert_eq!(timed_out(&server), Some(Phase::Body));
    server.expect_dropped("timed out");
    let mut server = Server::plain();
    server.bench.later(seconds(60));
    assert_eq!(timed_out(&server), Some(Phase::Idle));
}

#[test]
fn a_drip_does_not_last() {
    let mut server = Server::new(Handshake::None, |config| {
        config.body_rate_min = NonZeroU32::new(10);
    });
    let bytes = file("a", &[b'x'; 1000]);
    let (head, body) = bytes.split_at(bytes.len() - 1000);
    server.sends(head);
    // At the rate asked for it goes on, and no faster client has more than `idle_timeout` in hand.
    for piece in body[..500].chunks(100) {
        server.bench.later(Duration::from_secs(10));
        server.sends(piece).bench.expect_open();
    }
    // A byte buys a tenth of a second, not another minute.
    server.bench.later(Duration::from_secs(59));
    server.sends(b"x").bench.expect_open();
    server.bench.later(Duration::from_secs(2));
    server.expect_dropped("timed out: body");
}

#[test]
fn draining_finishes_the_file_under_way() {
    let mut server = Server::plain();
    let bytes = file("a", b"abcdef");
    server.sends(&bytes[..bytes.len() - 3]);
    server.bench.draining = true;
    server.bench.step();
    server.bench.expect_open();
    server.sends(b"def").bench.expect_closed();
    server.expect_files(&[("a", b"abcdef")]);
    assert_eq!(server.partials(), 0);
    let mut idle = Server::plain();
    idle.bench.draining = true;
    idle.bench.step();
    idle.bench.expect_closed();
}

#[test]
fn what_a_crash_left_is_cleared_at_the_next_start() {
    let server = Server::new(Handshake::None, |config| {
        let partials = config.dir.join(PARTIAL);
        fs::create_dir_all(&partials).expect("a folder");
        fs::write(partials.join("7"), "half").expect("a file");
    });
    assert_eq!(server.partials(), 0);
}

#[test]
fn a_start_beside_a_server_that_runs_leaves_its_files_alone() {
    let mut server = Server::plain();
    let body = large_body(0);
    let bytes = file("a", &body);
    server.sends(&bytes[..bytes.len() - 3]);
    let mut second = connect(&server.config);
    second.peer_sends(&file("b", b"x"));
    drop(second);
    let third = connect(&server.config);
    assert_eq!(server.partials(), 1);
    server.sends(&body[body.len() - 3..]).bench.expect_open();
    server.expect_files(&[("a", &body), ("b", b"x")]);
    // The last to end need not be the first that began.
    fs::write(server.config.dir.join(PARTIAL).join("7"), "half").expect("a file");
    server.bench = third;
    server.again();
    assert_eq!(server.partials(), 1);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("a file");
    let mut config = UploadConfig::new(Handshake::None, SecretSource::Given(Secret::default()));
    config.dir = folder.path().join("file/uploads");
    let mut disk = unix::Files::default();
    let error = Upload::new(&config, &mut disk).err().expect("an error");
    assert!(error.to_string().contains("file/uploads"), "{error}");
}

/// Everything that a client of a listener with login sends: two users' worth of files, one of them
/// empty, and a header longer than a page.
fn dialogue() -> Vec<u8> {
    let long = format!(
        "{{\"filename\": \"long\", \"filesize\": 2, \"note\": {:?}}}",
        "x".repeat(PAGE_BYTES + 10)
    );
    [
        LOGIN.to_vec(),
        file("a.txt", b"{\"x\"}"),
        file("empty", b""),
        framed(&long),
        b"ok".to_vec(),
    ]
    .concat()
}

fn outcome(pieces: &[&[u8]]) -> BTreeMap<String, Vec<u8>> {
    let mut server = Server::new(Handshake::None, with_login);
    for piece in pieces {
        server.sends(piece);
    }
    server
        .bench
        .peer_closes()
        .expect(login::ACCEPTED)
        .expect_closed();
    assert_eq!(server.partials(), 0);
    server.files()
}

#[test]
fn no_cut_shows() {
    let all = dialogue();
    let expected = outcome(&[&all]);
    assert_eq!(expected.len(), 3);
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(outcome(&bytes), expected);
    // The long note is one place to cut as good as another.
    let cuts = (1..200).chain(all.len() - 20..all.len());
    for cut in cuts {
        assert_eq!(
            outcome(&[&all[..cut], &all[cut..]]),
            expected,
            "cut at {cut}"
        );
    }
}

/// Files large and small, with headers and ends of bodies in one page.
fn mixed() -> (Vec<u8>, Vec<(&'static str, Vec<u8>)>) {
    let files = vec![
        ("small", b"abc".to_vec()),
        ("large", large_body(0)),
        ("empty", Vec::new()),
        ("page", vec![b'p'; PAGE_BYTES]),
        ("above", vec![b'q'; PAGE_BYTES + 1]),
        ("last", large_body(1)),
    ];
    let sent = files.iter().flat_map(|(name, body)| file(name, body));
    (sent.collect(), files)
}

/// Sends what is left as far as it is taken.
fn offer<'a>(server: &mut Server, rest: &'a [u8]) -> &'a [u8] {
    let taken = server.bench.peer_offers(rest);
    &rest[taken..]
}

#[test]
fn a_disk_that_answers_late_changes_nothing_but_the_time() {
    for (at_once, is_slow) in [(1, false), (2, false), (100, false), (1, true), (100, true)] {
        let (sent, files) = mixed();
        let mut server = Server::plain();
        if is_slow {
            server.bench.disk.all_are_slow = true;
            let upload = Upload::new(&server.config, &mut server.bench.disk);
            server.bench.service = upload.expect("a folder");
        }
        server.bench.disk_rests = true;
        let mut rest = &sent[..];
        loop {
            rest = offer(&mut server, rest);
            server.bench.now += Duration::from_secs(14);
            if !server.bench.disk_does(at_once) {
                break;
            }
            server.bench.expect_open();
        }
        assert_eq!(rest.len(), 0);
        server.bench.peer_closes().expect_closed();
        let files: Vec<_> = files
            .iter()
            .map(|(name, body)| (*name, &body[..]))
            .collect();
        server.expect_files(&files);
        assert_eq!(server.partials(), 0);
    }
}

#[test]
fn no_more_is_received_than_a_page_beside_what_is_being_written() {
    let mut server = Server::plain();
    let body = vec![b'x'; 8 << 20];
    server.bench.disk_rests = true;
    let sent = file("a", &body);
    let mut rest = offer(&mut server, &sent);
    while server.partials() == 0 {
        server.bench.disk_does(1);
    }
    rest = offer(&mut server, rest);
    assert_eq!(offer(&mut server, rest).len(), rest.len());
    assert!(rest.len() > 7 << 20, "{} bytes are left", rest.len());
    assert!(server.bench.pool.pages_held() <= 3);
    // The time of the disk is not the client's.
    for _ in 0..6 {
        server.bench.later(Duration::from_secs(14));
        assert!(server.bench.disk_does(1));
        rest = offer(&mut server, rest);
    }
    server.bench.expect_open().disk_rests = false;
    while !rest.is_empty() {
        server.bench.step();
        rest = offer(&mut server, rest);
    }
    server.bench.peer_closes().expect_closed();
    server.expect_files(&[("a", &body)]);
}

#[test]
fn a_disk_that_does_not_answer_ends_the_upload() {
    let too_long = "the disk took longer than 30s";
    for done_before in 0..12 {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        let sent = file("a", &large_body(0));
        let mut rest = offer(&mut server, &sent);
        for _ in 0..done_before {
            server.bench.disk_does(1);
            rest = offer(&mut server, rest);
        }
        if !server.files().is_empty() {
            assert!(done_before > 4);
            break;
        }
        server.bench.later(Duration::from_secs(29)).expect_open();
        server.bench.later(Duration::from_secs(1));
        let failed = server
            .bench
            .failed
            .as_ref()
            .expect("the connection goes on");
        assert!(failed.to_string().contains(too_long), "{failed}");
        while server.bench.disk_does(1) {}
        assert!(server.bench.jobs.is_idle());
        assert_eq!(server.partials(), 0, "after {done_before} jobs");
    }
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    server.sends(&file("a", b"abc"));
    server.bench.later(Duration::from_secs(30));
    let failed = server
        .bench
        .failed
        .as_ref()
        .expect("the connection goes on");
    assert!(failed.to_string().contains(too_long), "{failed}");
}

/// The disk does one job with so many descriptors.
fn disk_does_with(server: &mut Server, descriptors: usize) -> bool {
    server.bench.disk_does_by(1, |job, disk| {
        job.perform(&mut unix::Scarce::new(disk, descriptors))
    })
}

/// Time enough passes for another try; what is asked of the disk is done with so many descriptors.
fn tries(server: &mut Server, descriptors: usize) {
    server.bench.later(RETRY_AFTER);
    while disk_does_with(server, descriptors) {}
}

#[test]
fn a_large_file_waits_for_a_descriptor() {
    let body = large_body(0);
    for overwrite in [Overwrite::Version, Overwrite::Refuse] {
        let mut server = Server::new(Handshake::None, |c| c.overwrite = overwrite);
        server.bench.disk_rests = true;
        let sent = file("a", &body);
        let mut rest = offer(&mut server, &sent);
        while disk_does_with(&mut server, 0) {}
        for _ in 0..100 {
            tries(&mut server, 0);
            server.bench.expect_open();
        }
        assert!(server.files().is_empty() && server.partials() == 0);
        server.bench.later(RETRY_AFTER).disk_rests = false;
        for _ in 0..9 {
            server.bench.step();
            rest = offer(&mut server, rest);
        }
        assert!(rest.is_empty());
        server.bench.peer_closes().expect_closed();
        server.expect_files(&[("a", &body)]);
        assert_eq!(server.partials(), 0);
    }
}

#[test]
fn small_files_wait_for_descriptors_and_are_stored_once_and_in_their_order() {
    let names = ["a", "b", "c", "d", "e"];
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    server.sends(&names.map(|name| file(name, name.as_bytes())).concat());
    server.bench.peer_closes().expect_open();
    // Two are stored, then none, then two more.
    for (descriptors, stored) in [(2, 2), (0, 2), (0, 2), (2, 4), (0, 4), (9, 5)] {
        tries(&mut server, descriptors);
        let expected: Vec<_> = names.map(|name| (name, name.as_bytes()))[..stored].to_vec();
        server.expect_files(&expected);
        assert_eq!(server.partials(), 0);
        let counted = server.bench.metrics.listeners[0].of.upload();
        let counted = counted.map(|counted| counted.files_stored);
        assert_eq!(counted, Some(stored as u64));
    }
    server.bench.expect_closed();
}

#[test]
fn a_try_is_made_every_200_ms_only() {
    for sent in [file("a", b"abc"), file("a", &large_body(0))] {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        offer(&mut server, &sent);
        while disk_does_with(&mut server, 0) {}
        assert_eq!(
            server.bench.deadline(),
            Some(server.bench.now + RETRY_AFTER)
        );
        server.bench.later(RETRY_AFTER - Duration::from_millis(1));
        assert!(!server.bench.disk_does(1), "it asked too early");
        server.bench.later(Duration::from_millis(1));
        assert!(server.bench.disk_does(1), "it did not ask");
    }
}

#[test]
fn for_want_of_descriptors_an_upload_ends_when_the_disk_had_its_time() {
    for sent in [file("a", b"abc"), file("a", &large_body(0))] {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        offer(&mut server, &sent);
        while disk_does_with(&mut server, 0) {}
        let began = server.bench.now;
        while !server.bench.is_over() {
            tries(&mut server, 0);
        }
        let took = server.bench.now - began;
        let timeout = server.config.store_timeout;
        assert!(
            took < timeout && took + 2 * RETRY_AFTER >= timeout,
            "{took:?}"
        );
        server.expect_dropped("Too many open files");
        assert!(server.bench.jobs.is_idle());
    }
}

#[test]
fn files_of_a_session_that_is_gone_wait_for_descriptors_too() {
    for unseen in [false, true] {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        server.sends(&[file("a", b"1"), file("b", b"2")].concat());
        if unseen {
            let now = server.bench.now;
            let (id, mut job) = server.bench.jobs.poll_start(now).expect("a job");
            let result = job.perform(&mut unix::Scarce::new(&mut server.bench.disk, 1));
            server.bench.jobs.finished(id, job, result, now);
        } else {
            disk_does_with(&mut server, 1);
        }
        server.bench.breaks();
        server.expect_files(&[("a", b"1")]);
        disk_does_with(&mut server, 0);
        assert!(server.bench.service.is_busy());
        let at = server.bench.service.turn_deadline();
        assert_eq!(at, Some(server.bench.now + RETRY_AFTER));
        server.bench.now += RETRY_AFTER;
        server.bench.turn_ends();
        while server.bench.disk_does(1) {}
        server.expect_files(&[("a", b"1"), ("b", b"2")]);
        assert!(!server.bench.service.is_busy());
    }
}

#[test]
fn a_version_is_found_without_a_descriptor() {
    let mut server = Server::plain();
    for body in [b"1", b"2", b"3"] {
        server.sends(&file("a", body));
    }
    server.bench.disk_rests = true;
    server.sends(&file("a", b"4"));
    disk_does_with(&mut server, 1);
    server.expect_files(&[("a", b"1"), ("a.1", b"2"), ("a.2", b"3"), ("a.3", b"4")]);
}

#[test]
fn a_session_that_is_dropped_at_any_job_leaves_nothing_half() {
    let (sent, files) = mixed();
    for late_jobs in [0, 1] {
        for done_before in 0..30 {
            let mut server = Server::plain();
            server.bench.disk_rests = true;
            let mut rest = offer(&mut server, &sent);
            for _ in 0..done_before {
                server.bench.disk_does(1);
                rest = offer(&mut server, rest);
            }
            // Some are done, and their session is gone before it has looked.
            let mut started = Vec::new();
            while started.len() < late_jobs
                && let Some(job) = server.bench.jobs.poll_start(server.bench.now)
            {
                started.push(job);
            }
            let now = server.bench.now;
            for (id, mut job) in started {
                let result = job.perform(&mut server.bench.disk);
                server.bench.jobs.finished(id, job, result, now);
            }
            server.bench.breaks();
            while server.bench.disk_does(1) {}
            assert!(server.bench.jobs.is_idle(), "{done_before}");
            assert_eq!(server.bench.pool.pages_held(), 0, "{done_before}");
            assert_eq!(server.partials(), 0, "{done_before}");
            let stored = server.files();
            for (name, bytes) in &stored {
                let (_, body) = files.iter().find(|(sent, _)| sent == name).expect("sent");
                assert!(bytes == body, "{name} after {done_before}");
            }
            let counted = server.bench.metrics.listeners[0].of.upload();
            let counted = counted.map(|counted| counted.files_stored);
            assert_eq!(counted, Some(stored.len() as u64), "{done_before}");
            assert!(!server.bench.service.is_busy());
        }
    }
}

#[test]
fn what_came_whole_is_stored_whatever_comes_behind_it() {
    let mut server = Server::plain();
    let bad = [
        file("a", b"abc"),
        file("b", b""),
        (-1i32).to_le_bytes().to_vec(),
    ]
    .concat();
    server.sends(&bad);
    let failed = server
        .bench
        .failed
        .as_ref()
        .expect("the connection goes on");
    assert!(failed.to_string().contains("negative"), "{failed}");
    server.expect_files(&[("a", b"abc"), ("b", b"")]);
    // And nothing behind one that is refused.
    let mut server = Server::new(Handshake::None, |c| c.overwrite = Overwrite::Refuse);
    server.sends(&[file("a", b"1"), file("a", b"2"), file("b", b"3")].concat());
    let failed = server
        .bench
        .failed
        .as_ref()
        .expect("the connection goes on");
    assert_eq!(failed.to_string(), "refused: a: there is such a file");
    server.expect_files(&[("a", b"1")]);
    assert_eq!(server.partials(), 0);
}

#[test]
fn files_of_one_name_are_versions_in_their_order() {
    let mut server = Server::plain();
    let sent: Vec<u8> = (0..40_u8).flat_map(|i| file("a.txt", &[i])).collect();
    server.sends(&sent);
    let files = server.files();
    assert_eq!(files["a.txt"], [0]);
    for i in 1..40u8 {
        assert_eq!(files[&format!("a.{i}.txt")], [i]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut server = Server::new(Handshake::None, |c| c.file_bytes_max = 100);
        for piece in pieces {
            server.sends(&piece);
        }
        server.bench.peer_closes();
        prop_assert!(server.bench.is_over());
        prop_assert_eq!(server.partials(), 0);
    }
}
