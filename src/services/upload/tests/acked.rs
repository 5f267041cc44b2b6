//! Dialogues with clients that ask for answers.

use super::*;
use crate::jobs::Kind;
use crate::services::bench::Aside;
use crate::wire::upload::Answer;
use sha2::{Digest as _, Sha256};
use std::path::PathBuf;
use std::time::SystemTime;

use super::super::kept::Key;
use super::super::store::BUSY_WAIT;

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn header(name: &str, body: &[u8], resume: bool) -> Vec<u8> {
    let header = FileHeader {
        filename: name.to_owned(),
        size_bytes: body.len() as u64,
        ack: true,
        sha256: Some(sha256(body)),
        resume,
        ..FileHeader::default()
    };
    let mut bytes = Vec::new();
    frame::encode(&header.to_json(), &mut bytes).expect("a header");
    bytes
}

/// A file whose client asks for an answer, with its digest.
fn acked(name: &str, body: &[u8]) -> Vec<u8> {
    [header(name, body, false), body.to_vec()].concat()
}

/// A file with these keys beside its name and size.
pub(super) fn with_keys(name: &str, body: &[u8], keys: &str) -> Vec<u8> {
    let json = format!(
        "{{\"filename\": {name:?}, \"filesize\": {}, {keys}}}",
        body.len()
    );
    [framed(&json), body.to_vec()].concat()
}

fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let mut answers = Vec::new();
    while let Ok(Frame::Complete { payload, consumed }) = frame::decode(bytes, 1 << 16) {
        answers.push(Answer::parse(payload).expect("an answer"));
        bytes = &bytes[consumed..];
    }
    assert!(bytes.is_empty(), "half an answer");
    answers
}

pub(super) fn ready(offset: u64) -> Answer {
    Answer::Ready { offset }
}

pub(super) fn stored(name: &str, body: &[u8]) -> Answer {
    Answer::Stored {
        filename: name.to_owned(),
        size_bytes: body.len() as u64,
        sha256: sha256(body),
    }
}

/// The codes of refusals, and what else was told as a word.
pub(super) fn words(answers: &[Answer]) -> Vec<&str> {
    let word = |answer: &'_ Answer| match answer {
        Answer::Ready { .. } => "ready",
        Answer::Stored { .. } => "ok",
        Answer::Refused { error, .. } => {
            let codes = Code::ALL.iter().map(|code| code.word());
            codes
                .into_iter()
                .find(|code| code == error)
                .expect("a code")
        }
    };
    answers.iter().map(word).collect()
}

impl Server {
    pub(super) fn told(&mut self) -> Vec<Answer> {
        answers(&self.bench.received())
    }

    pub(super) fn expect_told(&mut self, expected: &[Answer]) -> &mut Self {
        assert_eq!(self.told(), expected);
        self
    }

    pub(super) fn expect_words(&mut self, expected: &[&str]) -> &mut Self {
        let told = self.told();
        assert_eq!(words(&told), expected, "{told:?}");
        self
    }

    /// The names of half-received files.
    pub(super) fn partial_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.config.dir.join(PARTIAL)).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        entries
            .map(|entry| name(entry).into_string().expect("UTF-8"))
            .collect()
    }

    pub(super) fn jobs_of(&self, kind: Kind) -> u64 {
        self.bench.jobs.counts(kind).finished
    }

    /// The disk does what it is asked, however long that takes.
    pub(super) fn settles(&mut self) {
        while self.bench.disk_does(1) {}
    }
}

#[test]
fn a_file_is_answered_once_it_is_ready_for_and_once_it_is_sure() {
    for body in [&b""[..], b"abc", &large_body(0)] {
        let mut server = Server::plain();
        server.sends(&acked("a.txt", body));
        server.expect_told(&[ready(0), stored("a.txt", body)]);
        server.expect_files(&[("a.txt", body)]);
        // One of the file, and one of the folder, which is counted apart.
        assert_eq!(server.jobs_of(Kind::Sync), 1);
        server.bench.expect_open().peer_closes().expect_closed();
        assert_eq!(server.partials(), 0);
        let counted = server.bench.metrics.listeners[0].of.upload();
        assert_eq!(counted.map(|counted| counted.files_stored), Some(1));
    }
}

#[test]
fn without_a_digest_in_the_header_the_answer_has_one_all_the_same() {
    for body in [&b"abc"[..], &large_body(0)] {
        let mut server = Server::plain();
        server.sends(&with_keys("a", body, "\"ack\": true"));
        server.expect_told(&[ready(0), stored("a", body)]);
    }
    // And a digest alone is no wish for an answer.
    let mut server = Server::plain();
    let keys = format!("\"sha256\": \"{}\"", hex::encode(&sha256(b"abc")));
    server.sends(&with_keys("a", b"abc", &keys));
    server.expect_told(&[]).expect_files(&[("a", b"abc")]);
}

#[test]
fn another_digest_leaves_nothing_and_the_connection_goes_on() {
    let large = large_body(0);
    for body in [&b"abc"[..], &large] {
        let mut server = Server::plain();
        let mut wrong = acked("a", body);
        let last = wrong.len() - 1;
        wrong[last] ^= 1;
        server
            .sends(&wrong)
            .expect_words(&["ready", "digest_mismatch"]);
        server.expect_files(&[]);
        assert_eq!(server.partials(), 0);
        server.bench.expect_open();
        server.sends(&acked("a", body));
        server.expect_told(&[ready(0), stored("a", body)]);
        server.expect_files(&[("a", body)]);
    }
}

/// What a client sends, and what it is told in the end: digest errors, versions, plain files among
/// those that are answered, and some that are large.
fn conversation() -> (Vec<u8>, Vec<&'static str>) {
    let (large, other) = (large_body(0), large_body(1));
    let mut wrong = acked("wrong", &other);
    let at = wrong.len() - 70_000;
    wrong[at] ^= 1;
    let sent = [
        acked("a.txt", b"1"),
        acked("a.txt", b"2"),
        file("plain", b"p"),
        acked("large", &large),
        wrong,
        acked("empty", b""),
        file("plain", &other),
        acked("a.txt", b"3"),
        with_keys(
            "page",
            &[b'p'; PAGE_BYTES],
            "\"ack\": true, \"sha256\": null",
        ),
    ];
    let finals = vec!["ok", "ok", "ok", "digest_mismatch", "ok", "ok", "ok"];
    (sent.concat(), finals)
}

/// The final answers of a conversation, and what it left.
fn converse(
    change: impl FnOnce(&mut UploadConfig),
    talk: impl FnOnce(&mut Server, &[u8]),
) -> BTreeMap<String, Vec<u8>> {
    let (sent, finals) = conversation();
    let mut server = Server::new(Handshake::None, change);
    talk(&mut server, &sent);
    server.bench.peer_closes().expect_closed();
    let told = server.told();
    let told = words(&told);
    assert_eq!(told.iter().filter(|word| **word == "ready").count(), 7);
    let told: Vec<&str> = told.into_iter().filter(|word| *word != "ready").collect();
    assert_eq!(told, finals);
    assert_eq!(server.partials(), 0);
    assert!(server.bench.jobs.is_idle());
    server.files()
}

fn conversed() -> BTreeMap<String, Vec<u8>> {
    let files: [(&str, Vec<u8>); 8] = [
        ("a.txt", b"1".to_vec()),
        ("a.1.txt", b"2".to_vec()),
        ("a.2.txt", b"3".to_vec()),
        ("plain", b"p".to_vec()),
        ("plain.1", large_body(1)),
        ("large", large_body(0)),
        ("empty", Vec::new()),
        ("page", vec![b'p'; PAGE_BYTES]),
    ];
    files.map(|(name, body)| (name.to_owned(), body)).into()
}

#[test]
fn a_conversation_is_answered_in_its_order() {
    let files = converse(|_| {}, |server, sent| _ = server.sends(sent));
    assert!(files == conversed());
    let files = converse(
        |config| config.unanswered_files_max = 1,
        |server, sent| _ = server.sends(sent),
    );
    assert!(files == conversed());
}

#[test]
fn a_conversation_with_a_late_disk_is_the_same() {
    for (at_once, is_slow) in [(1, false), (100, false), (1, true)] {
        let files = converse(
            |_| {},
            |server, sent| {
                if is_slow {
                    server.bench.disk.all_are_slow = true;
                    let upload = Upload::new(&server.config, &mut server.bench.disk);
                    server.bench.service = upload.expect("a folder");
                }
                server.bench.disk_rests = true;
                let mut rest = sent;
                loop {
                    rest = offer(server, rest);
                    server.bench.now += Duration::from_secs(14);
                    if !server.bench.disk_does(at_once) {
                        break;
                    }
                    server.bench.expect_open();
                }
                assert_eq!(rest.len(), 0);
            },
        );
        assert!(files == conversed());
    }
}

#[test]
fn no_call_hashes_more_than_its_share() {
    let files = converse(
        |_| {},
        |server, sent| {
            server.bench.share = Duration::from_micros(1);
            server.sends(sent);
        },
    );
    assert!(files == conversed());
    let mut server = Server::plain();
    let body = vec![b'x'; 3 << 20];
    server.bench.share = Duration::from_micros(50);
    let began = server.bench.metrics.turns;
    server.sends(&acked("a", &body));
    server.expect_told(&[ready(0), stored("a", &body)]);
    let turns = server.bench.metrics.turns - began;
    assert!(turns as usize >= body.len() / (2 * PAGE_BYTES), "{turns}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_cut_of_a_conversation_shows(cuts in proptest::collection::vec(any::<u32>(), 0..40), share in 1_u64..200) {
        let files = converse(|_| {}, |server, sent| {
            server.bench.share = Duration::from_micros(share);
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut as usize % sent.len()).collect();
            cuts.extend([0, sent.len()]);
            cuts.sort_unstable();
            for piece in cuts.windows(2) {
                server.sends(&sent[piece[0]..piece[1]]);
            }
        });
        prop_assert!(files == conversed());
    }
}

#[test]
fn a_refusal_before_the_body_is_told_and_ends_the_connection() {
    let full = |config: &mut UploadConfig| {
        config.file_bytes_max = 1 << 50;
        config.overwrite = Overwrite::Refuse;
    };
    let huge = format!(
        "{{\"filename\": \"a\", \"filesize\": {}, \"ack\": true}}",
        1_u64 << 49
    );
    let larger = format!(
        "{{\"filename\": \"a\", \"filesize\": {}, \"ack\": true}}",
        1_u64 << 51
    );
    let cases: [(Vec<u8>, &str, &str); 9] = [
        (acked("CON", b"x"), "bad_name", "device"),
        (acked("a/", b"x"), "bad_name", "empty"),
        (framed(&larger), "too_large", "above the limit"),
        (framed(&huge), "no_space", "the disk has room for"),
        (acked("taken", b"x"), "exists", "there is such a file"),
        (
            acked("taken", &large_body(0)),
            "exists",
            "there is such a file",
        ),
        (
            with_keys("a", b"x", "\"ack\": true, \"sha256\": \"xy\""),
            "bad_header",
            "\"sha256\"",
        ),
        (
            with_keys("a", b"x", "\"ack\": true, \"resume\": true"),
            "bad_header",
            "\"resume\"",
        ),
        (
            framed("{\"filename\": 1, \"ack\": true}"),
            "bad_header",
            "\"filename\"",
        ),
    ];
    for (sent, code, why) in cases {
        let mut server = Server::new(Handshake::None, full);
        server.sends(&file("taken", b"before"));
        server.sends(&acked("good", b"good"));
        server.expect_words(&["ready", "ok"]);
        server.sends(&sent);
        let told = server.told();
        let [Answer::Refused { error, message }] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(error, code);
        assert!(message.contains(why), "{message}");
        server.bench.expect_closed();
        assert_eq!(server.bench.ending, Ending::Refused);
        server.expect_files(&[("good", b"good"), ("taken", b"before")]);
        assert_eq!(server.partials(), 0);
        let counted = server.bench.metrics.listeners[0].of.upload();
        let counted = counted.map(|counted| counted.files_refused.iter().sum());
        assert_eq!(counted, Some(1_u64));
    }
    // Who asks for no answer is dropped, whatever was asked before.
    let mut server = Server::plain();
    server.sends(&acked("a", b"x")).sends(&file("..", b"x"));
    server.expect_words(&["ready", "ok"]);
    assert!(matches!(server.bench.failed, Some(Error::Refused(_))));
}

#[test]
fn a_refusal_comes_behind_the_answers_to_what_was_before() {
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    let sent = [acked("a", b"1"), acked("b", b"2"), acked("..", b"3")].concat();
    server.sends(&sent);
    server.settles();
    server.expect_words(&["ready", "ok", "ready", "ok", "bad_name"]);
    server.bench.expect_closed();
    server.expect_files(&[("a", b"1"), ("b", b"2")]);
    // So does the end of a stream within a file, of which nobody is told.
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    server.sends(&[acked("a", b"1"), header("b", b"22", false), b"2".to_vec()].concat());
    server.bench.peer_closes().expect_open();
    server.settles();
    server.expect_words(&["ready", "ok", "ready"]);
    assert!(server.bench.failed.is_some());
    server.expect_files(&[("a", b"1")]);
}

#[test]
fn files_that_come_together_are_made_sure_together() {
    let mut server = Server::plain();
    let sent: Vec<u8> = (0..10_u8).flat_map(|i| acked("a", &[i])).collect();
    server.sends(&sent);
    assert_eq!(server.files().len(), 10);
    assert_eq!(
        (server.jobs_of(Kind::Store), server.jobs_of(Kind::Sync)),
        (1, 1)
    );
    for i in 1..10_u8 {
        assert_eq!(server.files()[&format!("a.{i}")], [i]);
    }
    let told = server.told();
    let told = told
        .iter()
        .filter(|told| matches!(told, Answer::Stored { .. }));
    let names: Vec<Answer> = told.cloned().collect();
    assert_eq!(names[0], stored("a", &[0]));
    assert_eq!(names[9], stored("a.9", &[9]));
}

#[test]
fn the_next_file_comes_while_the_one_before_is_made_sure() {
    let (one, two) = (large_body(0), large_body(1));
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    let sent = [acked("1", &one), acked("2", &two), acked("3", b"3")].concat();
    let mut rest = offer(&mut server, &sent);
    // Everything but what stores: that is never done.
    let mut held = Vec::new();
    for _ in 0..60 {
        while let Some((id, mut job)) = server.bench.jobs.poll_start(server.bench.now) {
            if format!("{job:?}").contains("Store {") {
                held.push((id, job));
                continue;
            }
            let result = job.perform(&mut server.bench.disk);
            server
                .bench
                .jobs
                .finished(id, job, result, server.bench.now);
        }
        server.bench.step();
        rest = offer(&mut server, rest);
    }
    assert!(rest.is_empty());
    assert_eq!(held.len(), 1, "one job stores at a time");
    server.expect_words(&["ready"]);
    server.expect_files(&[]);
    for (id, mut job) in held {
        let result = job.perform(&mut server.bench.disk);
        server
            .bench
            .jobs
            .finished(id, job, result, server.bench.now);
    }
    server.bench.step();
    server.settles();
    server.expect_words(&["ok", "ready", "ok", "ready", "ok"]);
    server.expect_files(&[("1", &one), ("2", &two), ("3", b"3")]);
}

#[test]
fn no_more_files_are_taken_than_may_be_unanswered() {
    let mut server = Server::new(Handshake::None, |c| c.unanswered_files_max = 3);
    server.bench.disk_rests = true;
    let sent: Vec<u8> = (0..10_u8).flat_map(|i| acked("a", &[i])).collect();
    // What the disk has free is asked once.
    server.sends(&sent);
    server.bench.disk_does(1);
    assert_eq!(words(&server.told()), ["ready"]);
    assert_eq!(server.bench.down.rx.len(), sent.len() / 10 * 7);
    // The time of the disk is not the client's, and neither is that of the others.
    server.bench.later(Duration::from_secs(29)).expect_open();
    server.settles();
    assert_eq!(server.files().len(), 10);
    server.bench.later(Duration::from_secs(59)).expect_open();
    server.bench.later(Duration::from_secs(1));
    assert!(matches!(
        server.bench.failed,
        Some(Error::TimedOut(Phase::Idle))
    ));
}

#[test]
fn who_is_not_told_ready_yet_has_time() {
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    let body = large_body(0);
    server.sends(&[acked("a", b"1"), header("b", &body, true)].concat());
    // The disk has 30 s for each job, and the client 60 for its bytes, from when it is told.
    for _ in 0..3 {
        server.bench.later(Duration::from_secs(29)).expect_open();
        server.bench.disk_does(9);
    }
    server.expect_words(&["ready", "ok", "ready"]);
    server.bench.later(Duration::from_secs(59)).expect_open();
    server.bench.disk_rests = false;
    server.sends(&body).expect_told(&[stored("b", &body)]);
}

#[test]
fn who_takes_no_answers_sends_no_more() {
    let mut server = Server::new(Handshake::None, |_| {});
    server.bench.peer_takes_only(0);
    let sent: Vec<u8> = (0..200_000_u32)
        .flat_map(|i| acked(&format!("{i}"), b""))
        .take(30 << 20)
        .collect();
    let taken = server.bench.peer_offers(&sent);
    assert!(taken < sent.len() / 2, "{taken} bytes were taken");
    assert!(server.bench.queued(crate::service::Side::Down) <= 512 * 1024 + 4096);
    server.bench.expect_open();
}

#[test]
fn answers_come_after_a_half_close() {
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    let body = large_body(0);
    let sent = [acked("a", b"abc"), acked("b", &body)].concat();
    let mut rest = offer(&mut server, &sent);
    while !rest.is_empty() {
        server.bench.disk_does(1);
        rest = offer(&mut server, rest);
    }
    server.bench.peer_closes();
    server.settles();
    server.expect_words(&["ready", "ok", "ready", "ok"]);
    server.bench.expect_closed();
    // And so do they when the process ends.
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    server.sends(&acked("a", b"abc"));
    server.bench.draining = true;
    server.bench.step();
    server.bench.expect_open();
    server.settles();
    server.expect_words(&["ready", "ok"]);
    server.bench.expect_closed();
}

#[test]
fn a_disk_that_does_not_make_sure_in_time_is_told() {
    for done_before in 1..3 {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        server.sends(&acked("a", b"abc"));
        for _ in 0..done_before {
            assert!(server.bench.disk_does(1));
        }
        server.bench.later(Duration::from_secs(29)).expect_open();
        server.bench.later(Duration::from_secs(1));
        server.expect_words(&["ready", "timeout"]);
        server.bench.expect_closed();
        server.settles();
        // It came whole, so it is stored, whether or not anybody is told.
        server.expect_files(&[("a", b"abc")]);
        assert!(server.bench.jobs.is_idle());
        assert!(!server.bench.service.is_busy());
    }
}

#[test]
fn a_client_that_is_too_slow_is_told_and_can_go_on_later() {
    let mut server = Server::new(Handshake::None, |config| config.body_rate_min = None);
    let body = large_body(0);
    let sent = acked("a", &body);
    server.sends(&sent[..sent.len() - 1000]);
    server.bench.later(Duration::from_secs(60));
    server.expect_words(&["ready", "timeout"]);
    server.bench.expect_closed();
    assert_eq!(server.bench.ending, Ending::TimedOut(Phase::Body));
    assert_eq!(server.partials(), 1);
}

/// A connection broke within a large file.
fn broken(change: impl FnOnce(&mut UploadConfig), body: &[u8], left: usize) -> Server {
    let mut server = Server::new(Handshake::None, change);
    let sent = acked("a", body);
    server.sends(&sent[..sent.len() - left]);
    server.bench.breaks();
    server
}

/// Offers to go on with a file; from where on the server wants it.
fn resumes(server: &mut Server, body: &[u8]) -> u64 {
    server.sends(&header("a", body, true));
    let told = server.told();
    let [Answer::Ready { offset }] = told[..] else {
        panic!("{told:?}");
    };
    offset
}

#[test]
fn a_file_is_gone_on_with_where_it_broke_off_also_after_a_restart() {
    let body = [large_body(0), large_body(1), large_body(2)].concat();
    let key = Key::new(
        None,
        &SafeName::reduce("a").expect("a name").into(),
        body.len() as u64,
        &sha256(&body),
    );
    for left in [1, 1000, 300_000, body.len() - PAGE_BYTES] {
        let mut server = broken(|_| {}, &body, left);
        assert_eq!(
            server.partial_names(),
            [key.file_name().display().to_string()]
        );
        server.again();
        let offset = resumes(&mut server, &body);
        // A piece that was not worth a job yet is lost.
        assert!(
            offset > 0 && offset as usize + PAGE_BYTES >= body.len() - left - PAGE_BYTES,
            "{offset}"
        );
        server.bench.expect_open();
        server.sends(&body[offset as usize..]);
        server.expect_told(&[stored("a", &body)]);
        server.expect_files(&[("a", &body)]);
        assert_eq!(server.partials(), 0);
        let counted = server.bench.metrics.listeners[0]
            .of
            .upload()
            .expect("an upload");
        assert_eq!(
            (counted.files_resumed, counted.file_bytes_resumed),
            (1, offset)
        );
    }
}

#[test]
fn what_is_there_is_read_in_pieces_and_in_many_turns() {
    let body: Vec<u8> = (0..30).flat_map(large_body).collect();
    let mut server = broken(|_| {}, &body, 1);
    server.again();
    server.bench.share = Duration::from_micros(1);
    let (began, read) = (server.bench.metrics.turns, server.jobs_of(Kind::Read));
    let offset = resumes(&mut server, &body);
    assert!(offset > 4_000_000);
    assert!(server.bench.metrics.turns - began > 60);
    assert!(server.jobs_of(Kind::Read) - read > 5);
    assert!(server.bench.pool.pages_held() <= 3);
    server.sends(&body[offset as usize..]);
    server.expect_told(&[stored("a", &body)]);
    // Each piece has the time of a job, not all of them together.
    let mut server = broken(|_| {}, &body, 1);
    server.again();
    server.bench.disk_rests = true;
    server.sends(&header("a", &body, true));
    while server.bench.disk_does(1) {
        server.bench.later(Duration::from_secs(12)).expect_open();
    }
    assert_eq!(words(&server.told()), ["ready"]);
}

#[test]
fn it_begins_anew_for_who_does_not_resume_and_for_another_file() {
    let body = large_body(0);
    let mut server = broken(|_| {}, &body, 10);
    server.again().sends(&acked("a", &body));
    server.expect_told(&[ready(0), stored("a", &body)]);
    assert_eq!(server.partials(), 0);
    let mut server = broken(|_| {}, &body, 10);
    assert_eq!(resumes(server.again(), &large_body(1)), 0);
    server.bench.breaks();
    assert_eq!(
        resumes(server.again(), &[large_body(0), vec![1]].concat()),
        0
    );
}

/// The only partial file.
fn partial_path(server: &Server) -> PathBuf {
    let folder = server.config.dir.join(PARTIAL);
    folder.join(&server.partial_names()[0])
}

#[test]
fn a_prefix_that_the_power_tore_is_found_and_thrown_away() {
    let body = large_body(0);
    let mut server = broken(|_| {}, &body, 10);
    let path = partial_path(&server);
    let mut bytes = fs::read(&path).expect("a file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&path, &bytes).expect("a file");
    server.again();
    let offset = resumes(&mut server, &body);
    assert_eq!(offset as usize, bytes.len());
    server.sends(&body[offset as usize..]);
    server.expect_words(&["digest_mismatch"]);
    server.expect_files(&[]);
    assert_eq!(server.partials(), 0);
    // The next try begins anew, on the same connection.
    assert_eq!(resumes(&mut server, &body), 0);
    server.sends(&body);
    server.expect_told(&[stored("a", &body)]);
    // One that is longer than the file is none of it.
    let mut server = broken(|_| {}, &body, 10);
    let path = partial_path(&server);
    fs::write(&path, [&body[..], b"more"].concat()).expect("a file");
    assert_eq!(resumes(server.again(), &body), 0);
}

#[test]
fn a_file_that_is_there_in_all_is_stored_without_a_byte_more() {
    let body = large_body(0);
    let mut server = broken(|_| {}, &body, 10);
    let path = partial_path(&server);
    fs::write(&path, &body).expect("a file");
    server.again().sends(&header("a", &body, true));
    server.expect_told(&[ready(body.len() as u64), stored("a", &body)]);
    server.expect_files(&[("a", &body)]);
}

/// Another connection to the same server; the first one stays as it is.
fn beside(server: &mut Server) -> Aside<Conn> {
    server.bench.another()
}

#[test]
fn two_connections_do_not_write_to_one_file() {
    let body = large_body(0);
    let mut server = Server::plain();
    let sent = acked("a", &body);
    server.sends(&sent[..100_000]);
    let mut first = beside(&mut server);
    // One that wants to go on with it is told that it is being received, after a while.
    server.sends(&header("a", &body, true)).expect_told(&[]);
    server.bench.later(BUSY_WAIT / 2).expect_open();
    server.bench.later(BUSY_WAIT);
    server.expect_words(&["busy"]);
    server.bench.expect_closed();
    // One that does not gets a file of its own.
    server.bench.switch(&mut first);
    let mut first = beside(&mut server);
    server.sends(&sent);
    server.expect_told(&[ready(0), stored("a", &body)]);
    server.bench.peer_closes().expect_closed();
    server.bench.switch(&mut first);
    server.sends(&sent[100_000..]);
    server.expect_told(&[ready(0), stored("a.1", &body)]);
    server.expect_files(&[("a", &body), ("a.1", &body)]);
    assert_eq!(server.partials(), 0);
}

#[test]
fn a_connection_that_ends_in_time_is_waited_for() {
    let body = large_body(0);
    let mut server = Server::plain();
    let sent = acked("a", &body);
    server.sends(&sent[..100_000]);
    let mut first = beside(&mut server);
    server.sends(&header("a", &body, true)).expect_told(&[]);
    let mut second = std::mem::take(&mut first);
    server.bench.switch(&mut second);
    server.bench.breaks();
    server.bench.switch(&mut second);
    server.bench.later(RETRY_AFTER);
    let told = server.told();
    assert!(
        matches!(told[..], [Answer::Ready { offset: 1.. }]),
        "{told:?}"
    );
}

/// A half-received file was last written to that long ago.
fn ages(server: &Server, name: &str, by: Duration) {
    let path = server.config.dir.join(PARTIAL).join(name);
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(server.bench.wall - by).expect("a time");
}

#[test]
fn half_received_files_go_when_nobody_came_for_them() {
    let (body, hour) = (large_body(0), Duration::from_secs(3600));
    let mut server = broken(|_| {}, &body, 10);
    let name = server.partial_names().remove(0);
    // A restart does not make it younger, and a start finds it by itself.
    ages(&server, &name, 23 * hour);
    server.again();
    server.bench.turn_ends();
    server.settles();
    assert_eq!(server.partials(), 1);
    let at = server.bench.service.turn_deadline().expect("a moment");
    assert!(at <= server.bench.now + hour + Duration::from_secs(1));
    server.bench.now += 2 * hour;
    server.bench.wall += 2 * hour;
    server.bench.turn_ends();
    server.settles();
    server.bench.turn_ends();
    server.settles();
    assert_eq!(server.partials(), 0);
    let counted = server.bench.metrics.listeners[0]
        .of
        .upload()
        .expect("an upload");
    assert_eq!((counted.partial_files, counted.partial_bytes), (0, 0));
}

#[test]
fn one_that_is_being_received_does_not_go() {
    let body = large_body(0);
    let mut server = Server::plain();
    let sent = acked("a", &body);
    server.sends(&sent[..sent.len() - 10]);
    let name = server.partial_names().remove(0);
    ages(&server, &name, Duration::from_secs(1_000_000));
    server.bench.turn_ends();
    server.settles();
    assert_eq!(server.partials(), 1);
    server.sends(&sent[sent.len() - 10..]);
    server.expect_told(&[ready(0), stored("a", &body)]);
}

#[test]
fn no_more_are_kept_than_may_be_the_oldest_goes() {
    let mut server = Server::new(Handshake::None, |config| config.partial_files_max = 3);
    for which in 0..6 {
        let sent = acked("a", &large_body(which));
        server.bench = connect(&server.config);
        server.bench.wall =
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000 + u64::from(which));
        server.sends(&sent[..sent.len() - 10]);
        server.bench.breaks();
        let names = server.partial_names();
        let newest = names.iter().max_by_key(|name| {
            let path = server.config.dir.join(PARTIAL).join(name);
            fs::metadata(path)
                .and_then(|m| m.modified())
                .expect("a time")
        });
        ages(&server, newest.expect("a file"), Duration::ZERO);
        server.bench.turn_ends();
        server.settles();
        server.bench.turn_ends();
        server.settles();
        assert_eq!(server.partials(), 3.min(which as usize + 1));
    }
    for which in 0..6 {
        let body = large_body(which);
        server.again();
        let offset = resumes(&mut server, &body);
        assert_eq!(offset > 0, which >= 3, "{which}");
        server.bench.breaks();
    }
}

#[test]
fn at_a_time_of_zero_nothing_is_kept() {
    let body = large_body(0);
    let mut server = broken(|config| config.partial_ttl = Duration::ZERO, &body, 10);
    assert_eq!(server.partials(), 0);
    assert_eq!(resumes(server.again(), &body), 0);
    server.bench.breaks();
    // What was kept before goes with the start, or soon after it where another server runs.
    let key = Key::new(
        None,
        &SafeName::reduce("a").expect("a name").into(),
        1,
        &[0; 32],
    );
    let server = Server::new(Handshake::None, |config| {
        config.partial_ttl = Duration::ZERO;
        let partials = config.dir.join(PARTIAL);
        fs::create_dir_all(&partials).expect("a folder");
        fs::write(partials.join(key.file_name()), "half").expect("a file");
    });
    assert_eq!(server.partials(), 0);
}

#[test]
fn all_files_together_are_limited() {
    let mut server = Server::new(Handshake::None, |config| {
        config.total_bytes_max = Some(400_000);
        config.overwrite = Overwrite::Replace;
        fs::create_dir_all(&config.dir).expect("a folder");
        fs::write(config.dir.join("before"), large_body(9)).expect("a file");
    });
    let body = large_body(0);
    server.sends(&acked("a", &body));
    server.expect_words(&["ready", "ok"]);
    server.sends(&acked("b", &body)).expect_words(&["quota"]);
    server.bench.expect_closed();
    // Plain files count, and are limited, too; what is replaced counts no more.
    server.again().sends(&file("c", &[b'c'; 50_000]));
    server.bench.expect_open();
    server.again().sends(&file("c", &[b'c'; 50_000]));
    server.bench.expect_open();
    server
        .sends(&file("c", &[b'd'; 50_000]))
        .sends(&file("d", &[b'd'; 50_000]));
    assert_eq!(server.files().len(), 4);
    server.sends(&file("e", b"e"));
    let failed = server.bench.failed.as_ref().expect("dropped").to_string();
    assert!(failed.contains("may get 0 more"), "{failed}");
    // Others make room, which a count finds.
    fs::remove_file(server.config.dir.join("before")).expect("a file");
    server
        .again()
        .sends(&acked("e", b"e"))
        .expect_words(&["ready", "ok"]);
}

#[test]
fn files_under_way_count_too() {
    let body = large_body(0);
    let mut server = Server::new(Handshake::None, |c| c.total_bytes_max = Some(200_000));
    let sent = acked("a", &body);
    server.sends(&sent[..100_000]).expect_words(&["ready"]);
    let mut first = beside(&mut server);
    server.sends(&acked("b", &body)).expect_words(&["quota"]);
    server.bench.switch(&mut first);
    server.bench.breaks();
    // So does what is kept, but not twice.
    server.bench = connect(&server.config);
    server.bench.turn_ends();
    server.settles();
    server.sends(&acked("b", &body)).expect_words(&["quota"]);
    server.again();
    server.bench.turn_ends();
    server.settles();
    let offset = resumes(&mut server, &body);
    server.sends(&body[offset as usize..]);
    server.expect_told(&[stored("a", &body)]);
}

#[test]
fn the_files_are_counted_before_the_first_one_comes() {
    let mut server = Server::new(Handshake::None, |config| {
        config.total_bytes_max = Some(1000);
        fs::create_dir_all(&config.dir).expect("a folder");
        for i in 0..500 {
            fs::write(config.dir.join(format!("{i}")), "").expect("a file");
        }
    });
    server.bench.disk_rests = true;
    server.bench.share = Duration::from_micros(100);
    server.sends(&file("plain", b"x")).expect_told(&[]);
    server.expect_told(&[]);
    assert_eq!(server.files().len(), 500);
    server.settles();
    assert_eq!(server.files().len(), 501);
    server.bench.expect_open();
}

#[test]
fn a_folder_that_is_removed_is_made_anew() {
    let body = large_body(0);
    for sent in [
        acked("a", b"abc"),
        acked("a", &body),
        file("a", b"abc"),
        file("a", &body),
    ] {
        let mut server = Server::plain();
        server.sends(&file("before", b"x"));
        fs::remove_dir_all(&server.config.dir).expect("a folder");
        let mut rest = offer(&mut server, &sent);
        for _ in 0..5 {
            server.bench.later(RETRY_AFTER).expect_open();
            rest = offer(&mut server, rest);
        }
        assert!(rest.is_empty());
        let files = server.files();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["a"]);
        assert_eq!(server.partials(), 0);
    }
    // A file that was being received is lost with its folder, and the next one is not.
    let mut server = Server::plain();
    let sent = acked("a", &body);
    server.sends(&sent[..100_000]);
    fs::remove_dir_all(&server.config.dir).expect("a folder");
    server
        .sends(&sent[100_000..])
        .expect_words(&["ready", "storage"]);
    server.bench.expect_open();
    server.sends(&acked("b", b"b"));
    for _ in 0..3 {
        server.bench.later(RETRY_AFTER);
    }
    server.expect_told(&[ready(0), stored("b", b"b")]);
}

#[test]
fn a_session_that_is_dropped_at_any_job_leaves_nothing_half_but_what_is_kept() {
    let (sent, _) = conversation();
    let conversed = conversed();
    for done_before in 0..40 {
        let mut server = Server::plain();
        server.bench.disk_rests = true;
        let mut rest = offer(&mut server, &sent);
        for _ in 0..done_before {
            server.bench.disk_does(1);
            rest = offer(&mut server, rest);
        }
        server.bench.breaks();
        while server.bench.disk_does(1) {}
        assert!(server.bench.jobs.is_idle(), "{done_before}");
        assert_eq!(server.bench.pool.pages_held(), 0, "{done_before}");
        assert!(!server.bench.service.is_busy());
        let partials = server.partial_names();
        let is_kept = |name: &String| Key::of(name.as_ref()).is_some();
        assert!(partials.iter().all(is_kept), "{partials:?}");
        assert!(partials.len() <= 1);
        for (name, bytes) in server.files() {
            let known = conversed.values().any(|body| *body == bytes);
            assert!(known, "{name} after {done_before}");
        }
    }
}

#[test]
fn files_that_are_answered_wait_for_descriptors_and_each_has_its_answer() {
    let mut server = Server::new(Handshake::None, |c| c.overwrite = Overwrite::Refuse);
    server.sends(&file("c", b"before"));
    server.bench.disk_rests = true;
    let names = ["a", "b", "c", "d", "e"];
    // A taken name is seen at once by who looks; here it is taken later.
    fs::remove_file(server.config.dir.join("c")).expect("a file");
    server.sends(&names.map(|name| acked(name, name.as_bytes())).concat());
    // Names that were never looked for are not in memory.
    while server.bench.disk_does_by(1, |job, disk| match job {
        crate::jobs::Job::Query(_) => job.perform(disk),
        crate::jobs::Job::Command(_) => job.perform(&mut unix::Scarce::new(disk, 0)),
    }) {}
    fs::write(server.config.dir.join("c"), "before").expect("a file");
    for descriptors in [2, 0, 0, 9] {
        tries(&mut server, descriptors);
    }
    server.settles();
    let told = server.told();
    let told: Vec<&str> = words(&told).into_iter().filter(|w| *w != "ready").collect();
    assert_eq!(told, ["ok", "ok", "exists", "ok", "ok"]);
    assert_eq!(server.files()["c"], b"before");
    assert_eq!(server.files().len(), 5);
    assert_eq!(server.partials(), 0);
}

/// A disk that fails in one of its calls.
#[test]
fn what_the_disk_refuses_is_told_by_its_code() {
    for (errno, code) in [
        (libc::ENOSPC, "no_space"),
        (libc::EACCES, "storage"),
        (libc::EIO, "storage"),
    ] {
        for kind in ["Take", "Write", "Store", "Sync"] {
            let mut server = Server::plain();
            server.bench.disk_rests = true;
            let sent = acked("a", &large_body(0));
            let mut rest = offer(&mut server, &sent);
            for _ in 0..20 {
                server.bench.disk_does_by(1, |job, disk| {
                    match format!("{job:?}").contains(&format!("({kind}")) {
                        true => Err(io::Error::from_raw_os_error(errno)),
                        false => job.perform(disk),
                    }
                });
                rest = offer(&mut server, rest);
            }
            server.settles();
            let told = server.told();
            assert_eq!(words(&told).last(), Some(&code), "{kind} {told:?}");
            // Only a name that could not be made sure stands there.
            assert_eq!(server.files().len(), usize::from(kind == "Sync"), "{kind}");
            // After the last byte the connection goes on.
            assert_eq!(
                server.bench.is_over(),
                ["Take", "Write"].contains(&kind),
                "{kind}"
            );
            assert!(server.bench.jobs.is_idle());
        }
    }
}

#[test]
fn the_files_of_a_user_are_limited_and_those_of_others_are_not_counted() {
    let body = large_body(0);
    let mut server = Server::new(Handshake::None, |config| {
        with_login(config);
        config.user_folders = true;
        config.user_bytes_max = Some(310_000);
        for user in ["ann", "bob"] {
            fs::create_dir_all(config.dir.join(user)).expect("a folder");
            fs::write(config.dir.join(user).join("before"), large_body(9)).expect("a file");
        }
        fs::write(config.dir.join("nobodys"), &body).expect("a file");
    });
    let log_in = |server: &mut Server| {
        server.sends(LOGIN);
        assert_eq!(server.bench.received(), login::ACCEPTED);
    };
    log_in(&mut server);
    server.sends(&acked("a", &body));
    server.expect_told(&[ready(0), stored("a", &body)]);
    let there = fs::read(server.config.dir.join("ann/a")).expect("the file of the user");
    assert!(there == body);
    server.sends(&acked("b", &large_body(1)));
    let told = server.told();
    let [Answer::Refused { error, message }] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(error, "quota");
    assert!(message.contains("may get 10000 more"), "{message}");
    server.again();
    log_in(&mut server);
    server
        .sends(&acked("b", &[b'b'; 10_000]))
        .expect_words(&["ready", "ok"]);
    server.sends(&file("c", b"c"));
    assert!(server.bench.failed.is_some());
    assert_eq!(server.partials(), 0);
}

#[test]
fn what_is_kept_of_a_user_is_no_other_users() {
    let body = large_body(0);
    let mut server = Server::new(Handshake::None, with_login);
    server.sends(LOGIN);
    server.bench.received();
    let sent = acked("a", &body);
    server.sends(&sent[..sent.len() - 10]);
    server.bench.breaks();
    assert_eq!(server.partials(), 1);
    // Somebody who is nobody, of a listener that came after it.
    server.config.login = None;
    assert_eq!(resumes(server.again(), &body), 0);
    server.bench.breaks();
    with_login(&mut server.config);
    server.again().sends(LOGIN);
    server.bench.received();
    assert!(resumes(&mut server, &body) > 0);
}

fn skipping(name: &str, body: &[u8]) -> Vec<u8> {
    let keys = format!(
        "\"ack\": true, \"skip_same\": true, \"sha256\": \"{}\"",
        hex::encode(&sha256(body))
    );
    with_keys(name, body, &keys)
}

#[test]
fn what_is_there_already_is_not_sent_again() {
    for body in [&b""[..], b"abc", &large_body(0)] {
        for share in [Duration::MAX, Duration::from_micros(1)] {
            let mut server = Server::plain();
            server.bench.share = share;
            server.sends(&file("a", body)).expect_told(&[]);
            let sent = skipping("a", body);
            let (head, tail) = sent.split_at(sent.len() - body.len());
            server.sends(head).expect_told(&[stored("a", body)]);
            // Its bytes and its name are made sure by then.
            assert_eq!(server.jobs_of(Kind::Sync), 2);
            // Another one of that name, and one of another name, come.
            let other = [body, b"x"].concat();
            server
                .sends(&skipping("a", &other))
                .expect_told(&[ready(0), stored("a.1", &other)]);
            server.sends(head).expect_told(&[stored("a", body)]);
            let tail: Vec<u8> = tail.iter().map(|byte| byte ^ 1).collect();
            if !tail.is_empty() {
                server
                    .sends(&skipping("a", &tail))
                    .expect_told(&[ready(0), stored("a.2", &tail)]);
            }
            server
                .sends(&skipping("b", body))
                .expect_told(&[ready(0), stored("b", body)]);
            server.bench.peer_closes().expect_closed();
            assert_eq!(server.partials(), 0);
            assert!(server.bench.jobs.is_idle());
        }
    }
}

#[test]
fn a_client_that_leaves_while_files_are_compared_leaves_them_as_they_are() {
    let body = large_body(0);
    for done_before in 0..6 {
        let mut server = Server::plain();
        server.sends(&file("a", &body));
        server.bench.disk_rests = true;
        let sent = skipping("a", &body);
        server.sends(&sent[..sent.len() - body.len()]);
        for _ in 0..done_before {
            server.bench.disk_does(1);
        }
        server.bench.breaks();
        server.settles();
        server.expect_files(&[("a", &body)]);
        assert!(server.bench.jobs.is_idle());
        assert_eq!(server.bench.pool.pages_held(), 0);
    }
}
