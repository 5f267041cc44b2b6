//! Uploads that are answered: whatever breaks, the connection, the disk, the process or the power,
//! each file that a client was told is stored is there under the name that it was told, to the byte,
//! and nothing stands under any name that was not sent whole. Clients try again, and go on where
//! they were broken off.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use netlab_reactor::config::{Kind, ListenerConfig, Overwrite, SecretSource, UploadConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::rng::Rng;
use netlab_reactor::sys::sim::talker::PATIENCE;
use netlab_reactor::sys::sim::{End, Sim, Stage};
use netlab_reactor::wire::challenge::{Handshake, Secret};
use netlab_reactor::wire::frame::{self, Frame};
use netlab_reactor::wire::upload::{Answer, FileHeader};
use sha2::{Digest, Sha256};

use crate::driver::{ProcessEnd, Scenario, Setting};

const FOLDER: &str = "/srv/sure";
const NAMES: [&str; 4] = ["a.txt", "b", "c.tar.gz", "d"];
/// Folders that clients name; most files go to none.
const FOLDERS: [Option<&str>; 6] = [None, None, None, Some("x"), Some("x/y"), Some("z/x/y")];
/// Connections of one client in one process.
const TRIES: usize = 6;
/// Pauses between them, longer than another connection is waited for.
const PAUSE: Duration = Duration::from_secs(3);
/// The same once nothing goes wrong any more, and a file may be begun anew.
const TRIES_AT_PEACE: usize = 12;

/// A file, and what became of it.
struct Sent {
    name: &'static str,
    folder: Option<&'static str>,
    body: Vec<u8>,
    sha256: [u8; 32],
    /// The name that the client was told.
    stored_as: Option<String>,
    /// The client was told that it is not taken.
    refused: Option<String>,
}

#[derive(Default)]
struct Record {
    files: Vec<Sent>,
    /// What a client was told that cannot be.
    wrong: Option<String>,
}

/// The scenario.
pub(crate) struct Sure {
    rng: Rng,
    record: Rc<RefCell<Record>>,
    overwrite: Overwrite,
    /// The process before this one came to its end.
    is_again: bool,
}

impl Sure {
    pub(crate) fn new(rng: Rng) -> Self {
        Self {
            rng,
            record: Rc::default(),
            overwrite: Overwrite::Version,
            is_again: false,
        }
    }

    fn sender(&mut self, to: &Bind, files: Vec<usize>, setting: &Setting<'_>) -> Sender {
        let least = 1 + setting.payload_max / 500;
        Sender {
            record: Rc::clone(&self.record),
            to: to.clone(),
            files,
            pipelines: !self.is_again && self.rng.chance(400),
            resumes: self.is_again || self.rng.chance(800),
            vanishes: match !self.is_again && self.rng.chance(500) {
                true => self.rng.sized(2 * setting.payload_max),
                false => usize::MAX,
            },
            must_succeed: self.is_again,
            piece_max: self.rng.between(least, setting.payload_max),
            pause_max: Duration::from_micros(self.rng.sized(10_000) as u64),
            state: State::default(),
        }
    }
}

impl Scenario for Sure {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        setting.volume.make_folder("/srv");
        let secret = SecretSource::Given(Secret::from("lab"));
        let mut config = UploadConfig::new(Handshake::None, secret);
        config.dir = PathBuf::from(FOLDER);
        config.overwrite =
            *self
                .rng
                .pick(&[Overwrite::Version, Overwrite::Version, Overwrite::Refuse]);
        config.unanswered_files_max = self.rng.sized(8);
        config.files_per_turn_max = self.rng.sized(8);
        config.reserved_free_bytes = self.rng.sized(1 << 20) as u64;
        if self.rng.chance(300) {
            config.total_bytes_max = Some(1 << 28);
        }
        self.overwrite = config.overwrite;
        vec![setting.listener("sure", 9003, Kind::Upload(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        if !self.record.borrow().files.is_empty() {
            // Another process: what was not answered is sent again, file by file.
            self.is_again = true;
            for file in &mut self.record.borrow_mut().files {
                file.refused = None; // the disk is well now
            }
            let record = self.record.borrow();
            let missing = record.files.iter().enumerate();
            let missing = missing.filter(|(_, file)| file.stored_as.is_none());
            let missing: Vec<usize> = missing.map(|(index, _)| index).collect();
            drop(record);
            let sender = self.sender(&bound[0], missing, setting);
            sim.enter(sender, Duration::ZERO);
            return;
        }
        for client in 0..self.rng.between(1, 4) {
            let mut files = Vec::new();
            for _ in 0..self.rng.sized(5) {
                let index = self.record.borrow().files.len();
                let (name, folder) = (*self.rng.pick(&NAMES), *self.rng.pick(&FOLDERS));
                let len = self.rng.sized(setting.payload_max) - 1;
                let mut body = format!("file {index} of client {client}\n").into_bytes();
                body.extend(self.rng.bytes(len));
                let sha256 = Sha256::digest(&body).into();
                self.record.borrow_mut().files.push(Sent {
                    name,
                    folder,
                    body,
                    sha256,
                    stored_as: None,
                    refused: None,
                });
                files.push(index);
            }
            let sender = self.sender(&bound[0], files, setting);
            let after = self.rng.span(Duration::from_secs(2));
            sim.enter(sender, after);
        }
    }

    fn comes_again(&self) -> bool {
        true
    }

    fn check(&self, sim: &mut Sim, ended: ProcessEnd) -> Result<(), String> {
        let record = self.record.borrow();
        if let Some(wrong) = &record.wrong {
            return Err(wrong.clone());
        }
        for file in &record.files {
            let Some(name) = &file.stored_as else {
                continue;
            };
            let folder = file.folder.map(|folder| format!("{folder}/"));
            if !name.starts_with(&folder.unwrap_or_default()) {
                return Err(format!("{name}: not in {:?}", file.folder));
            }
            let there = sim.volume().contents(format!("{FOLDER}/{name}"));
            if there != Some(&file.body[..]) {
                let there = there.map(<[u8]>::len);
                return Err(format!(
                    "{name}: {} bytes were acknowledged, and {there:?} are there after {ended:?}",
                    file.body.len()
                ));
            }
        }
        let mut paths = vec![FOLDER.to_owned()];
        while let Some(path) = paths.pop() {
            let Some(bytes) = sim.volume().contents(&path) else {
                let names = sim.volume().names(&path).into_iter();
                let visible = names.filter(|name| !name.starts_with('.'));
                paths.extend(visible.map(|name| format!("{path}/{name}")));
                continue;
            };
            if !record.files.iter().any(|file| file.body == bytes) {
                let count = bytes.len();
                return Err(format!("{path}: {count} bytes that nobody sent"));
            }
        }
        let partial = sim.volume().names(format!("{FOLDER}/.partial"));
        match partial.iter().find(|name| !name.starts_with("kept-")) {
            Some(name) if ended != ProcessEnd::InGoodOrder => {
                Err(format!("left behind after a start: {name}"))
            }
            _ => Ok(()),
        }
    }
}

/// A client that sends its files until each is answered.
struct Sender {
    record: Rc<RefCell<Record>>,
    to: Bind,
    files: Vec<usize>,
    /// It sends all, and then reads.
    pipelines: bool,
    resumes: bool,
    /// It breaks its first connection after so many bytes.
    vanishes: usize,
    /// Nothing goes wrong: in the end everything has to be stored.
    must_succeed: bool,
    piece_max: usize,
    pause_max: Duration,
    state: State,
}

#[derive(Default)]
struct State {
    end: Option<End>,
    tries: usize,
    received: Vec<u8>,
    unsent: Vec<u8>,
    sent_bytes: usize,
    /// Files whose headers were sent on this connection, and that have no final answer.
    open: VecDeque<usize>,
    /// Of those, the files that are not told ready, in their order.
    unready: VecDeque<usize>,
    next_at: Duration,
    give_up_at: Duration,
    is_over: bool,
    tired: bool,
    excused: bool,
}

impl Sender {
    fn tries_max(&self) -> usize {
        match self.must_succeed {
            true => TRIES_AT_PEACE,
            false => TRIES,
        }
    }

    /// Files without any answer.
    fn missing(&self) -> Vec<usize> {
        let record = self.record.borrow();
        let is_missing = |index: &&usize| {
            let file = &record.files[**index];
            file.stored_as.is_none() && file.refused.is_none()
        };
        self.files.iter().filter(is_missing).copied().collect()
    }

    /// The connection is over; the next one follows, if there is reason for it.
    fn over(&mut self, hands: &mut Hands<'_>) {
        if let Some(end) = self.state.end.take() {
            hands.close(end);
        }
        let tries = self.state.tries;
        let is_over = self.missing().is_empty() || tries >= self.tries_max() || hands.is_draining();
        self.state = State {
            tries,
            next_at: hands.now() + PAUSE,
            give_up_at: self.state.give_up_at,
            is_over,
            excused: self.state.excused,
            ..State::default()
        };
        hands.wake_in(PAUSE);
    }

    /// Puts the header of a file into what is to be sent, and its body, if it does not wait.
    fn offer(&mut self, index: usize) {
        let record = self.record.borrow();
        let file = &record.files[index];
        let waits = self.resumes && !self.pipelines;
        let header = FileHeader {
            filename: file.name.to_owned(),
            size_bytes: file.body.len() as u64,
            ack: true,
            sha256: Some(file.sha256),
            resume: waits,
            folder: file.folder.map(str::to_owned),
            ..FileHeader::default()
        };
        let state = &mut self.state;
        frame::encode(&header.to_json(), &mut state.unsent).expect("a header");
        if !waits {
            state.unsent.extend(&file.body);
        }
        state.open.push_back(index);
        state.unready.push_back(index);
    }

    fn wrong(&self, what: String) {
        self.record.borrow_mut().wrong.get_or_insert(what);
    }

    fn hear(&mut self) {
        while let Ok(Frame::Complete { payload, consumed }) =
            frame::decode(&self.state.received, 1 << 16)
        {
            let answer = Answer::parse(payload);
            self.state.received.drain(..consumed);
            match answer {
                Some(Answer::Ready { offset }) => self.is_ready(offset),
                Some(Answer::Stored {
                    filename,
                    size_bytes,
                    sha256,
                }) => {
                    let Some(index) = self.state.open.pop_front() else {
                        return self.wrong(format!("{filename}: an answer too many"));
                    };
                    let mut record = self.record.borrow_mut();
                    let file = &mut record.files[index];
                    if (size_bytes, sha256) != (file.body.len() as u64, file.sha256) {
                        let what = format!("{filename}: {size_bytes} bytes that were not sent");
                        record.wrong.get_or_insert(what);
                        return;
                    }
                    file.stored_as = Some(filename);
                }
                Some(Answer::Refused { error, message }) => {
                    let Some(index) = self.state.open.pop_front() else {
                        return self.wrong(format!("{error}: {message}: a refusal too many"));
                    };
                    self.state.unready.retain(|unready| *unready != index);
                    if !["busy", "digest_mismatch", "timeout"].contains(&error.as_str()) {
                        self.record.borrow_mut().files[index].refused = Some(error);
                    }
                }
                None => self.wrong("an answer that is none".to_owned()),
            }
        }
    }

    fn is_ready(&mut self, offset: u64) {
        let Some(index) = self.state.unready.pop_front() else {
            return self.wrong("ready, and nobody asked".to_owned());
        };
        let waits = self.resumes && !self.pipelines;
        let record = self.record.borrow();
        let body = &record.files[index].body;
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        if offset > body.len() || (offset > 0 && !waits) {
            drop(record);
            return self.wrong(format!("ready from {offset} on"));
        }
        if waits {
            self.state.unsent.extend(&body[offset..]);
        }
    }

    fn talk(&mut self, end: End, hands: &mut Hands<'_>) {
        if hands.now() < self.state.next_at {
            return;
        }
        let received = hands.receive(end, 1000);
        match &received {
            Received::Bytes(bytes) => self.state.received.extend_from_slice(bytes),
            Received::Nothing => {}
            Received::End | Received::Broken => {
                self.hear();
                return self.over(hands);
            }
        }
        self.hear();
        let missing = self.missing();
        if missing.is_empty() {
            return self.over(hands);
        }
        let is_begun = self.state.sent_bytes > 0 || !self.state.unsent.is_empty();
        if self.pipelines && !is_begun {
            missing.iter().for_each(|index| self.offer(*index));
        } else if !self.pipelines && self.state.open.is_empty() {
            self.offer(missing[0]);
        }
        let left = self.vanishes.saturating_sub(self.state.sent_bytes);
        let piece = hands.rng().sized(self.piece_max);
        let piece = piece.min(self.state.unsent.len()).min(left);
        let sent = hands.send(end, &self.state.unsent[..piece]);
        self.state.unsent.drain(..sent);
        self.state.sent_bytes += sent;
        if self.state.sent_bytes >= self.vanishes {
            self.vanishes = usize::MAX;
            hands.abort(end);
            return self.over(hands);
        }
        if sent > 0 || matches!(received, Received::Bytes(_)) {
            let pause = match hands.rng().coin() {
                true => Duration::ZERO,
                false => hands.rng().span(self.pause_max),
            };
            self.state.next_at = hands.now() + pause;
            hands.wake_in(pause);
        }
    }
}

impl Actor for Sender {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        self.state.excused |= hands.is_draining();
        let now = hands.now();
        if self.state.give_up_at == Duration::ZERO {
            self.state.give_up_at = now + PATIENCE;
            hands.wake_in(PATIENCE);
        }
        match self.state.end {
            None if now >= self.state.next_at => {
                self.state.tries += 1;
                self.state.end = Some(hands.connect(&self.to));
            }
            None => {}
            Some(end) => match hands.stage(end) {
                Stage::Opening => {}
                Stage::Failed(_) => self.over(hands),
                Stage::Open => self.talk(end, hands),
            },
        }
        if !self.is_done() && now >= self.state.give_up_at {
            self.state.tired = true;
        }
    }

    fn is_done(&self) -> bool {
        self.state.is_over || self.state.tired
    }

    fn verdict(&self) -> Result<(), String> {
        if let Some(wrong) = &self.record.borrow().wrong {
            return Err(wrong.clone());
        }
        if self.state.excused {
            return Ok(());
        }
        let missing = self.missing();
        if self.state.tired || (self.must_succeed && !missing.is_empty()) {
            return Err(format!("files {missing:?} were never answered"));
        }
        Ok(())
    }
}
