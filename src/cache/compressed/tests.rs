use super::*;
use crate::disk::{Disk, File};
use crate::jobs::Jobs;
use crate::limits::DiskLimits;
use crate::sys::unix;
use std::fs;
use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

/// Waiters are numbers.
struct Fixture {
    folder: tempfile::TempDir,
    disk: unix::Files,
    root: File,
    forms: Compressed<u32>,
    /// Whoever waits for the disk, which is all of them together.
    jobs: Jobs<()>,
    now: Instant,
}

/// Over a disk that answers from memory.
fn fixture(bytes_max: usize) -> Fixture {
    fixture_on(bytes_max, false)
}

/// `is_slow`: the disk answers by jobs only.
fn fixture_on(bytes_max: usize, is_slow: bool) -> Fixture {
    let folder = tempfile::tempdir().expect("a folder");
    let mut disk = unix::Files {
        all_are_slow: is_slow,
    };
    let root = disk.open_folder(folder.path()).expect("the folder");
    let forms = Compressed::new(bytes_max);
    Fixture {
        folder,
        disk,
        root,
        forms,
        jobs: Jobs::new(DiskLimits::default()),
        now: Instant::now(),
    }
}

impl Fixture {
    fn file(&mut self, name: &str, content: &[u8]) -> Source {
        fs::write(self.folder.path().join(name), content).expect("a write");
        let file = self.disk.open(&self.root, Path::new(name)).expect("a file");
        let was = self.disk.metadata(&file).expect("an open file");
        let version = self.disk.version(&file, &was).expect("an open file");
        Source::File {
            file,
            was,
            version: version.into(),
        }
    }

    fn ask(&mut self, form: &mut Form, source: &Source, waiter: u32) -> Answer {
        let source = || source.clone();
        let asker = &mut Asker {
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            waiter: (),
            now: self.now,
        };
        self.forms.ask(form, Coding::Gzip, source, waiter, asker)
    }

    /// Does all jobs; how many there were.
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

    /// Ends turns until there is no work; how many had some.
    fn work(&mut self) -> usize {
        let mut turns = 0;
        while self.forms.waiting() > 0 {
            self.turn();
            self.disk_answers();
            turns += 1;
            assert!(turns < 100_000, "the line never ends");
        }
        turns
    }

    fn turn(&mut self) {
        let asker = &mut Asker {
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            waiter: (),
            now: self.now,
        };
        self.forms.work(asker);
    }

    fn woken(&mut self) -> Vec<u32> {
        std::iter::from_fn(|| self.forms.poll_woken()).collect()
    }

    /// The form of a content, however many turns it takes.
    fn make(&mut self, form: &mut Form, source: &Source) -> Answer {
        match self.ask(form, source, 0) {
            Answer::Later => {
                self.work();
                self.woken();
                self.ask(form, source, 0)
            }
            answer => answer,
        }
    }
}

/// Lines as in a log: to about a third of their length.
fn text(len: usize) -> Vec<u8> {
    let line = |i: u32| format!("{i} {:x}\n", i.wrapping_mul(2_654_435_761));
    (0..).flat_map(|i| line(i).into_bytes()).take(len).collect()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(len).collect()
}

fn bytes(content: Vec<u8>) -> Source {
    Source::Bytes(content.into())
}

fn content(answer: &Answer) -> Vec<u8> {
    let Answer::Made(body) = answer else {
        panic!("{answer:?}");
    };
    let mut content = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(&body[..]);
    decoder.read_to_end(&mut content).expect("a whole form");
    content
}

#[test]
fn a_form_is_the_content_whatever_its_length_and_its_disk() {
    let piece = PIECE_BYTES;
    for is_slow in [false, true] {
        let mut f = fixture_on(1 << 20, is_slow);
        for len in [
            400,
            1000,
            piece - 1,
            piece,
            piece + 1,
            3 * piece,
            3 * piece + 7,
            JOB_BYTES + piece + 7,
        ] {
            let text = text(len);
            let file = f.file("a", &text);
            for source in [file, bytes(text.clone())] {
                let answer = f.make(&mut Form::Unasked, &source);
                assert_eq!(content(&answer), text, "{len} bytes");
            }
            f.turn();
        }
        assert!(f.jobs.is_idle());
    }
}

#[test]
fn while_a_content_waits_for_its_disk_there_is_no_work_and_others_go_on() {
    let mut f = fixture_on(1 << 20, true);
    let (mut slow, mut fast) = (Form::Unasked, Form::Unasked);
    let file = f.file("a", &text(100_000));
    assert_eq!(f.ask(&mut slow, &file, 1), Answer::Later);
    assert!(!f.forms.has_work(), "a job is under way");
    let other = bytes(text(100_000));
    assert_eq!(f.ask(&mut fast, &other, 2), Answer::Later);
    assert!(f.forms.has_work());
    while f.forms.has_work() {
        f.turn();
    }
    assert_eq!(f.woken(), [2]);
    assert_eq!(content(&f.ask(&mut fast, &other, 2)), text(100_000));
    assert_eq!(f.disk_answers(), 1, "all of it is read by one job");
    f.work();
    assert_eq!(f.woken(), [1]);
    assert_eq!(content(&f.ask(&mut slow, &file, 1)), text(100_000));
    assert!(f.jobs.is_idle());
}

#[test]
fn a_disk_that_does_not_answer_keeps_no_place_in_the_line() {
    let mut f = fixture_on(1 << 20, true);
    let mut forms: Vec<Form> = Vec::new();
    forms.resize_with(AT_WORK_MAX, Form::default);
    let file = f.file("a", &text(100_000));
    for form in &mut forms {
        assert_eq!(f.ask(form, &file, 1), Answer::Later);
    }
    let (mut behind, other) = (Form::Unasked, bytes(text(5000)));
    assert_eq!(f.ask(&mut behind, &other, 2), Answer::Later);
    f.turn();
    assert!(f.woken().is_empty() && !f.forms.has_work());
    f.now += DISK_WAIT_MAX;
    f.turn();
    assert_eq!(f.woken().len(), AT_WORK_MAX + 1);
    assert_eq!(content(&f.ask(&mut behind, &other, 2)), text(5000));
    assert!(f.jobs.is_idle(), "what was not begun is not wanted");
    assert_eq!(f.ask(&mut forms[0], &file, 1), Answer::Plain);
}

#[test]
fn what_is_discarded_leaves_no_job_behind() {
    let mut f = fixture_on(1 << 20, true);
    let file = f.file("a", &text(100_000));
    for is_begun in [false, true] {
        let mut form = Form::Unasked;
        assert_eq!(f.ask(&mut form, &file, 1), Answer::Later);
        let begun = is_begun.then(|| f.jobs.poll_start(f.now).expect("a job"));
        f.forms.discard(&form);
        f.turn();
        if let Some((id, job)) = begun {
            f.jobs
                .finished(id, job, Err(io::ErrorKind::TimedOut.into()), f.now);
        }
        assert!(f.jobs.is_idle() && f.woken() == [1]);
    }
}

#[test]
fn a_short_content_is_compressed_at_once_and_once() {
    let mut f = fixture(1 << 20);
    let mut form = Form::Unasked;
    let first = f.ask(&mut form, &bytes(text(PIECE_BYTES)), 1);
    assert!(matches!(first, Answer::Made(_)));
    assert!(!f.forms.has_work());
    let second = f.ask(&mut form, &bytes(Vec::new()), 2);
    assert_eq!(second, first);
    assert_eq!(f.forms.counters().made, 1);
    assert_eq!(f.woken(), [] as [u32; 0], "nobody waited");
}

#[test]
fn a_turn_does_no_more_than_its_share() {
    let mut f = fixture(1 << 20);
    let mut form = Form::Unasked;
    let pieces = 10;
    let long = f.file("long", &text(pieces * PIECE_BYTES));
    assert_eq!(f.ask(&mut form, &long, 1), Answer::Later);
    // The first piece was coded when it was asked for, the others one in each turn after that one.
    assert_eq!(f.work(), pieces);
    assert_eq!(f.woken(), [1]);

    let mut forms: Vec<Form> = Vec::new();
    forms.resize_with(40, Form::default);
    let short = bytes(text(1000));
    for form in &mut forms {
        f.ask(form, &short, 2);
    }
    let each = BEGINNING_BYTES + 1000;
    assert_eq!(f.work(), 40_usize.div_ceil(TURN_BYTES / each));
}

#[test]
fn all_who_wait_for_a_form_share_it_and_are_woken_once_in_their_order() {
    let mut f = fixture(1 << 20);
    let (mut one, mut two) = (Form::Unasked, Form::Unasked);
    let (long, other) = (bytes(text(100_000)), bytes(text(50_000)));
    for waiter in [1, 2, 1, 3] {
        assert_eq!(f.ask(&mut one, &long, waiter), Answer::Later);
    }
    assert_eq!(f.ask(&mut two, &other, 4), Answer::Later);
    f.work();
    assert_eq!(f.woken(), [1, 2, 3, 4]);
    assert_eq!(f.forms.counters().made, 2);
    assert_eq!(content(&f.ask(&mut one, &long, 2)), text(100_000));
    assert_eq!(content(&f.ask(&mut two, &other, 4)), text(50_000));
}

#[test]
fn so_many_wait_for_a_form_and_the_others_get_the_content() {
    let mut f = fixture(1 << 20);
    let (mut form, long) = (Form::Unasked, bytes(text(100_000)));
    let max = WAITERS_MAX as u32;
    for waiter in 0..max {
        assert_eq!(f.ask(&mut form, &long, waiter), Answer::Later);
    }
    assert_eq!(f.ask(&mut form, &long, max), Answer::Plain);
    assert_eq!(f.ask(&mut form, &long, max - 1), Answer::Later);
    f.work();
    assert_eq!(f.woken().len(), WAITERS_MAX);
}

#[test]
fn what_the_line_has_no_room_for_is_not_begun() {
    let mut f = fixture(1 << 20);
    let half = bytes(text(LINE_BYTES_MAX as usize / 2 - BEGINNING_BYTES));
    let mut forms = [Form::Unasked, Form::Unasked, Form::Unasked];
    assert_eq!(f.ask(&mut forms[0], &half, 1), Answer::Later);
    assert_eq!(f.ask(&mut forms[1], &half, 2), Answer::Later);
    assert_eq!(f.ask(&mut forms[2], &bytes(text(1000)), 3), Answer::Plain);
    assert_eq!(f.forms.counters().refused, 1);
    f.work();
    assert_eq!(f.woken(), [1, 2]);
    let later = f.ask(&mut forms[2], &bytes(text(1000)), 3);
    assert_eq!(content(&later), text(1000), "the line has room again");
    assert_eq!(f.forms.line_bytes, 0);
}

#[test]
fn what_is_longer_than_the_line_is_made_and_nobody_waits_for_it() {
    let mut f = fixture(8 << 20);
    let text = text(LINE_BYTES_MAX as usize + 1);
    let (mut form, long) = (Form::Unasked, bytes(text.clone()));
    assert_eq!(f.ask(&mut form, &long, 1), Answer::Plain);
    assert_eq!(f.ask(&mut form, &long, 2), Answer::Plain);
    f.work();
    assert_eq!(f.woken(), [] as [u32; 0]);
    assert_eq!(content(&f.ask(&mut form, &long, 1)), text);
}

#[test]
fn a_content_that_hardly_becomes_smaller_is_sent_as_it_is_ever_after() {
    let mut f = fixture(1 << 20);
    for source in [bytes(noise(5000)), bytes(Vec::new()), bytes(text(20))] {
        let mut form = Form::Unasked;
        assert_eq!(f.make(&mut form, &source), Answer::Plain);
        assert!(matches!(form, Form::Worthless));
        assert_eq!(f.ask(&mut form, &source, 1), Answer::Plain);
        f.turn();
    }
    assert_eq!((f.forms.counters().worthless, f.forms.bytes()), (3, 0));
}

#[test]
fn no_form_is_made_of_two_versions() {
    for is_slow in [false, true] {
        no_form_is_made_of_two_versions_on(fixture_on(1 << 20, is_slow));
    }
}

fn no_form_is_made_of_two_versions_on(mut f: Fixture) {
    let len = JOB_BYTES + 100_000;
    for (name, change) in [
        ("grown", &b"one more line"[..]),
        ("cut", b""),
        ("written", &text(len)[1..]),
    ] {
        let file = f.file(name, &text(len));
        let mut form = Form::Unasked;
        assert_eq!(f.ask(&mut form, &file, 1), Answer::Later);
        f.disk_answers();
        f.turn();
        match name {
            "grown" => {
                let path = f.folder.path().join(name);
                let mut options = fs::OpenOptions::new();
                let mut open = options.append(true).open(path).expect("the file");
                io::Write::write_all(&mut open, change).expect("a write");
            }
            _ => fs::write(f.folder.path().join(name), change).expect("a write"),
        }
        f.work();
        assert_eq!(f.woken(), [1]);
        assert_eq!(f.ask(&mut form, &file, 1), Answer::Plain, "{name}");
        assert!(matches!(form, Form::Unasked), "{name}: another may be made");
    }
    assert_eq!((f.forms.counters().lost, f.forms.bytes()), (3, 0));
}

#[test]
fn forms_are_bounded_together_with_those_that_are_being_sent() {
    let mut f = fixture(100_000);
    let mut sent = Vec::new();
    let mut refused = 0;
    for i in 0..60_usize {
        let source = bytes(text(20_000 + i));
        match f.make(&mut Form::Unasked, &source) {
            Answer::Made(body) => sent.push(body),
            Answer::Plain => refused += 1,
            Answer::Later => panic!("there was no more work"),
        }
        f.turn();
        let held: usize = sent.iter().map(|body| body.len()).sum();
        assert!(held <= 100_000, "{held} bytes are being sent");
    }
    assert!(refused > 0 && !sent.is_empty());
    sent.clear();
    let answer = f.make(&mut Form::Unasked, &bytes(text(20_000)));
    assert!(matches!(answer, Answer::Made(_)), "there is room again");
}

#[test]
fn what_is_asked_for_again_stays_and_what_was_evicted_is_made_again() {
    let mut f = fixture(100_000);
    let source = |i: usize| bytes(text(20_000 + i));
    let mut asked_again = Form::Unasked;
    f.make(&mut asked_again, &source(0));
    let mut evicted = Form::Unasked;
    f.make(&mut evicted, &source(1));
    for i in 2..60 {
        f.turn();
        f.make(&mut Form::Unasked, &source(i));
        f.ask(&mut asked_again, &source(0), 0);
        assert!(f.forms.bytes() <= 100_000);
    }
    let made = f.forms.counters().made;
    assert_eq!(made, 60, "the first was never made again");
    f.turn();
    let again = f.make(&mut evicted, &source(1));
    assert_eq!(content(&again), text(20_001));
    assert_eq!(f.forms.counters().made, made + 1);
}

#[test]
fn a_form_beyond_all_bounds_is_not_tried_again() {
    for bytes_max in [0, 100, ENTRY_BYTES + 100] {
        let mut f = fixture(bytes_max);
        let mut form = Form::Unasked;
        for _ in 0..3 {
            assert_eq!(f.make(&mut form, &bytes(text(10_000))), Answer::Plain);
            f.turn();
        }
        let counters = f.forms.counters();
        assert_eq!((counters.made, f.forms.bytes()), (0, 0));
        assert!(counters.worthless <= 1);
    }
}

#[test]
fn a_discarded_version_takes_its_form_along() {
    let mut f = fixture(1 << 20);
    let (mut made, mut begun, mut next) = (Form::Unasked, Form::Unasked, Form::Unasked);
    f.make(&mut made, &bytes(text(5000)));
    f.turn();
    assert_eq!(f.ask(&mut begun, &bytes(text(100_000)), 1), Answer::Later);
    assert_eq!(f.ask(&mut next, &bytes(text(60_000)), 2), Answer::Later);
    f.turn();
    f.forms.discard(&made);
    f.forms.discard(&begun);
    f.forms.discard(&begun);
    f.forms.discard(&Form::Worthless);
    assert_eq!(f.forms.bytes(), 0);
    assert_eq!(f.woken(), [1], "to ask for the next version");
    f.work();
    assert_eq!(
        content(&f.ask(&mut next, &bytes(Vec::new()), 2)),
        text(60_000)
    );
    // The old names lead to nothing, though their places are used again.
    let answer = f.ask(&mut made, &bytes(text(3000)), 1);
    assert_eq!(content(&answer), text(3000));
}
