//! Uploads: what a client was told is stored is there, whole and once; what is there was sent,
//! whole; and nothing half stands under a name, whenever the connection, the disk or the process
//! breaks. Where the power fails, nothing was promised yet, and a file may be there in part: but of
//! what was sent under its name.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use netlab_reactor::config::{Kind, ListenerConfig, Overwrite, SecretSource, UploadConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::ActorId;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::rng::Rng;
use netlab_reactor::sys::sim::talker::PATIENCE;
use netlab_reactor::sys::sim::volume::power::SECTOR_BYTES;
use netlab_reactor::sys::sim::{End, Sim, Stage};
use netlab_reactor::wire::argon2id::{Cost, Hash};
use netlab_reactor::wire::challenge::{Handshake, Secret};
use netlab_reactor::wire::user_file::UserInfo;

use crate::driver::{ProcessEnd, Scenario, Setting};

const FOLDER: &str = "/srv/up";
const NAMES: [(&str, &str); 3] = [
    ("a.txt", "a.txt"),
    ("b", "b"),
    ("../../c.tar.gz", "c.tar.gz"),
];

#[derive(Default)]
pub(crate) struct Uploads {
    uploaders: Vec<ActorId>,
    overwrite: Overwrite,
    /// Nothing can go wrong with the disk.
    sound: bool,
    /// A file that is to be removed may stay until the next start.
    jobs_fail: bool,
}

/// The simulation is of those who wait, not of the processor.
const CHEAP: Cost = Cost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};

impl Scenario for Uploads {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        setting.volume.make_folder("/srv");
        let handshake = *setting.rng.pick(&Handshake::ALL);
        let mut config = UploadConfig::new(handshake, SecretSource::Given(Secret::from("lab")));
        config.dir = PathBuf::from(FOLDER);
        config.handshake_timeout = Duration::from_secs(60);
        self.overwrite = *setting.rng.pick(&[
            Overwrite::Version,
            Overwrite::Version,
            Overwrite::Replace,
            Overwrite::Refuse,
        ]);
        config.overwrite = self.overwrite;
        if setting.rng.coin() {
            let line = match setting.later.coin() {
                true => UserInfo::line("ada", &Secret::from("pw")),
                false => UserInfo::line_with("ada", &Hash::of(b"pw", [7; 16], CHEAP)),
            };
            config.login = Some(UserInfo::parse(&line).expect("one line"));
            if setting.later.coin() {
                let users = line.as_bytes();
                setting.volume.put("/srv/userinfo", users, UNIX_EPOCH);
                config.login_file = Some(PathBuf::from("/srv/userinfo"));
            }
        }
        self.sound = ![
            Fault::DiskFull,
            Fault::DiskCreateFails,
            Fault::DiskOpenFails,
            Fault::DiskRenameFails,
            Fault::JobFails,
            Fault::Crash,
            Fault::TornWrite,
            Fault::PowerLoss,
        ]
        .iter()
        .any(|&fault| setting.faults.is_enabled(fault));
        self.jobs_fail = setting.faults.is_enabled(Fault::JobFails);
        vec![setting.listener("upload", 9001, Kind::Upload(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        // Invariant: `listeners` made exactly one, of this kind.
        let config = setting.config_of("upload");
        let Kind::Upload(config) = config else {
            panic!("an upload listener")
        };
        for number in 0..setting.rng.between(1, 6) {
            let mut files = Vec::new();
            for index in 0..setting.rng.sized(4) {
                let (name, _) = *setting.rng.pick(&NAMES);
                let len = setting.rng.sized(setting.payload_max) - 1;
                let mut bytes = format!("file {index} of client {number}\n").into_bytes();
                bytes.extend(setting.rng.bytes(len));
                files.push((name.to_owned(), bytes));
            }
            let ending = match setting.rng.below(8) {
                0 => Ending::Vanishes,
                1 => Ending::KeepsStill(setting.late(config.idle_timeout)),
                2 => Ending::WrongAnswer,
                _ => Ending::Orderly,
            };
            let uploader = Uploader {
                to: bound[0].clone(),
                handshake: config.handshake,
                logs_in: config.login.is_some(),
                files,
                ending,
                piece_max: setting.piece_max(),
                pause_max: Duration::from_micros(setting.rng.sized(10_000) as u64),
                state: Sending::default(),
            };
            let after = setting.rng.span(Duration::from_secs(2));
            self.uploaders.push(sim.enter(uploader, after));
        }
    }

    fn check(&self, sim: &mut Sim, ended: ProcessEnd) -> Result<(), String> {
        let names = sim.volume().names(FOLDER);
        let mut stored: Vec<(String, Vec<u8>)> = Vec::new();
        for name in names.into_iter().filter(|name| name != ".partial") {
            let bytes = sim
                .volume()
                .contents(format!("{FOLDER}/{name}"))
                .unwrap_or_default();
            stored.push((name, bytes.to_vec()));
        }
        let uploaders = || self.uploaders.iter().filter_map(|&id| sim_actor(sim, id));
        for (name, bytes) in &stored {
            let sent = uploaders().flat_map(|uploader| uploader.files.iter());
            let is_it = |sent: &[u8]| match ended {
                ProcessEnd::PowerLost => is_left_of(bytes, sent),
                ProcessEnd::InGoodOrder | ProcessEnd::Died => sent == bytes,
            };
            let fits = |sent: &&(String, Vec<u8>)| is_it(&sent.1) && may_be_called(&sent.0, name);
            if sent.filter(fits).count() == 0 {
                return Err(format!(
                    "{name}: {} bytes that nobody sent under that name",
                    bytes.len()
                ));
            }
        }
        for uploader in uploaders() {
            for (name, bytes) in &uploader.files {
                let count = stored.iter().filter(|stored| stored.1 == *bytes).count();
                let must = uploader.was_served()
                    && self.sound
                    && ended == ProcessEnd::InGoodOrder
                    && self.overwrite == Overwrite::Version;
                if count > 1 || (must && count == 0) {
                    return Err(format!(
                        "{name}: {} bytes were sent and stand there {count} times",
                        bytes.len()
                    ));
                }
            }
        }
        let partial = sim.volume().names(format!("{FOLDER}/.partial"));
        if !partial.is_empty() && !self.jobs_fail {
            return Err(format!("left behind: {partial:?}"));
        }
        Ok(())
    }
}

fn sim_actor(sim: &Sim, id: ActorId) -> Option<&Uploader> {
    sim.actor::<Uploader>(id)
}

/// Whether `bytes` are what the disk may have kept of `sent`: each sector is there, or zeros.
fn is_left_of(bytes: &[u8], sent: &[u8]) -> bool {
    let mut sectors = bytes.chunks(SECTOR_BYTES).enumerate();
    bytes.len() <= sent.len()
        && sectors.all(|(number, sector)| {
            let was = &sent[number * SECTOR_BYTES..][..sector.len()];
            sector == was || sector.iter().all(|byte| *byte == 0)
        })
}

/// Whether a file sent as `sent` may stand as `name`.
fn may_be_called(sent: &str, name: &str) -> bool {
    let Some((_, base)) = NAMES.iter().find(|(as_sent, _)| *as_sent == sent) else {
        return false;
    };
    let numbered = |number: u32| match base.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.{number}.{extension}"),
        None => format!("{base}.{number}"),
    };
    name == *base || (1..100).any(|number| name == numbered(number))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Sends everything and its end, and waits for the server's.
    Orderly,
    /// Breaks the connection somewhere within.
    Vanishes,
    /// Stops somewhere within: the server must end it within this time.
    KeepsStill(Duration),
    /// Does not know the secret, or the password.
    WrongAnswer,
}

struct Uploader {
    to: Bind,
    handshake: Handshake,
    logs_in: bool,
    files: Vec<(String, Vec<u8>)>,
    ending: Ending,
    piece_max: usize,
    pause_max: Duration,
    state: Sending,
}

#[derive(Default)]
struct Sending {
    end: Option<End>,
    received: Vec<u8>,
    step: Step,
    unsent: Vec<u8>,
    finished: bool,
    next_at: Duration,
    silent_since: Duration,
    over_at: Duration,
    give_up_at: Duration,
    fate: Option<&'static str>,
    excused: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Challenge,
    Login,
    Files,
}

impl Uploader {
    /// Everything arrived and the server said goodbye: all of it must be there.
    fn was_served(&self) -> bool {
        self.ending == Ending::Orderly && self.state.fate == Some("ended") && !self.state.excused
    }

    fn over(&mut self, fate: &'static str, hands: &mut Hands<'_>) {
        if let Some(end) = self.state.end {
            self.state.excused |= hands.is_excused(end);
            hands.close(end);
        }
        self.state.over_at = hands.now();
        self.state.fate = Some(fate);
    }

    fn all_files(&self, rng: &mut Rng) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, bytes) in &self.files {
            let header = format!(r#"{{"filename": "{name}", "filesize": {}}}"#, bytes.len());
            out.extend((header.len() as i32).to_le_bytes());
            out.extend(header.as_bytes());
            out.extend(bytes);
        }
        if matches!(self.ending, Ending::KeepsStill(_) | Ending::Vanishes) {
            out.truncate(rng.below(out.len()));
        }
        out
    }

    /// What the server's words so far allow to be said next.
    fn step(&mut self, rng: &mut Rng) {
        let wrong = self.ending == Ending::WrongAnswer;
        if self.state.step == Step::Challenge {
            if self.handshake != Handshake::None {
                let Some(challenge) = self.state.received.first_chunk() else {
                    return;
                };
                let secret = Secret::from(if wrong && !self.logs_in {
                    "no idea"
                } else {
                    "lab"
                });
                let answer = self.handshake.answer(&secret, challenge);
                self.state.unsent.extend(answer);
                self.state.received.drain(..challenge.len());
            }
            self.state.step = Step::Login;
            if self.logs_in {
                let password = if wrong { "guess" } else { "pw" };
                let login =
                    format!(r#"{{"operate": "login", "user": "ada", "passwd": "{password}"}}"#);
                self.state.unsent.extend(login.as_bytes());
            }
        }
        if self.state.step == Step::Login {
            const YES: &[u8] = br#"{"flag": true}"#;
            if self.logs_in && !self.state.received.starts_with(YES) {
                return;
            }
            self.state.step = Step::Files;
            let files = self.all_files(rng);
            self.state.unsent.extend(files);
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
            Received::End => return self.over("ended", hands),
            Received::Broken => return self.over("broken", hands),
        }
        self.step(hands.rng());
        let piece = hands
            .rng()
            .sized(self.piece_max)
            .min(self.state.unsent.len());
        let sent = hands.send(end, &self.state.unsent[..piece]);
        self.state.unsent.drain(..sent);
        if sent > 0 {
            self.state.silent_since = hands.now();
        }
        let all_sent = self.state.step == Step::Files && self.state.unsent.is_empty();
        if all_sent && self.ending == Ending::Vanishes {
            hands.abort(end);
            return self.over("gone", hands);
        }
        if all_sent && self.ending == Ending::Orderly && !self.state.finished {
            self.state.finished = true;
            hands.finish(end);
        }
        if sent > 0 || matches!(received, Received::Bytes(_)) {
            let pause = if hands.rng().coin() {
                Duration::ZERO
            } else {
                hands.rng().span(self.pause_max)
            };
            self.state.next_at = hands.now() + pause;
            hands.wake_in(pause);
        }
    }
}

impl Actor for Uploader {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        self.state.excused |= hands.is_draining();
        let Some(end) = self.state.end else {
            self.state.end = Some(hands.connect(&self.to));
            self.state.give_up_at = hands.now() + PATIENCE;
            return hands.wake_in(PATIENCE);
        };
        match hands.stage(end) {
            Stage::Opening => {}
            Stage::Failed(_) => self.over("not connected", hands),
            Stage::Open => self.talk(end, hands),
        }
        if !self.is_done() && hands.now() >= self.state.give_up_at {
            self.over("tired of waiting", hands);
        }
    }

    fn is_done(&self) -> bool {
        self.state.fate.is_some()
    }

    fn verdict(&self) -> Result<(), String> {
        let complain = |what: &str| {
            Err(format!(
                "uploader {:?}: {what}, {} bytes unsent",
                self.state.end,
                self.state.unsent.len()
            ))
        };
        match (self.state.fate, self.ending) {
            (None, _) => complain("not done"),
            (Some("tired of waiting"), _) => complain("nothing came of it"),
            _ if self.state.excused => Ok(()),
            (Some(_), Ending::KeepsStill(most))
                if self.state.over_at > self.state.silent_since + most =>
            {
                complain("was ended too late")
            }
            (Some("not connected"), _) => complain("could not connect"),
            _ => Ok(()),
        }
    }
}
