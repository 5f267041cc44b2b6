//! The web server: every request has its one answer, in order and whole, from memory and by
//! sendfile. Where files are replaced or grow meanwhile, an answer is one version of its file; if
//! one is rewritten under its inode, it may end short. Where files are compressed on the way, what
//! is decoded is one version just the same.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use netlab_reactor::config::{CompressConfig, FilesConfig, HttpConfig, Kind, ListenerConfig};
use netlab_reactor::http::negotiate::Coding;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::actor::{Actor, Hands};
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::talker::{Ending, PATIENCE, Script, Talker};

use crate::driver::{Scenario, Setting};
use crate::web::{Ask, Browser};

const ROOT: &str = "/srv/www";

#[derive(Default)]
pub(crate) struct WebServer {
    config: HttpConfig,
    files: Vec<Versions>,
    /// What stands in the folder that is fetched as an archive; nobody changes it.
    packed: Vec<(String, Vec<u8>)>,
}

/// A file, and what may stand in it.
#[derive(Clone)]
struct Versions {
    name: String,
    kind: Versioning,
    all: Vec<Vec<u8>>,
}

/// How its versions differ.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Versioning {
    /// They have different lengths.
    Apart,
    /// They have one length and one time of modification, as builds with fixed times make them.
    Alike,
    /// Each begins with the one before: a log.
    Growing,
}

impl Versions {
    fn draw(name: String, is_text: bool, setting: &mut Setting<'_>) -> Self {
        let kinds = [Versioning::Apart, Versioning::Alike, Versioning::Growing];
        let kind = *setting.rng.pick(&kinds);
        // What is sent at once cannot change meanwhile.
        let max = if changes_under_way(setting) { 8 } else { 2 } * setting.payload_max;
        let mut all: Vec<Vec<u8>> = Vec::new();
        while all.len() < 3 {
            let drawn = match setting.rng.coin() {
                true => setting.rng.sized(max) - 1,
                false => setting.rng.between(max / 2, max),
            };
            let first = all.first().map_or(drawn, Vec::len);
            let mut version = match kind {
                Versioning::Growing => all.last().cloned().unwrap_or_default(),
                Versioning::Apart | Versioning::Alike => Vec::new(),
            };
            version.extend(match kind {
                Versioning::Alike => setting.rng.bytes(first),
                Versioning::Growing if !all.is_empty() => setting.rng.bytes(1 + drawn / 8),
                Versioning::Apart | Versioning::Growing => setting.rng.bytes(drawn),
            });
            let is_alike = |other: &Vec<u8>| other.len() == version.len();
            if kind == Versioning::Alike || !all.iter().any(is_alike) {
                all.push(version);
            }
        }
        if is_text {
            let letter = |byte: &mut u8| *byte = b'a' + (*byte & 7);
            all.iter_mut().flatten().for_each(letter);
        }
        Self { name, kind, all }
    }

    fn path(&self) -> String {
        format!("{ROOT}/{}", self.name)
    }
}

/// Whether what is being sent changes.
fn changes_under_way(setting: &Setting<'_>) -> bool {
    let faults = [Fault::FileRewritten, Fault::FileGrown];
    faults.iter().any(|fault| setting.faults.is_enabled(*fault))
}

/// Whether the disk fails.
fn cannot_read(setting: &Setting<'_>) -> bool {
    let faults = [Fault::DiskOpenFails, Fault::JobFails];
    faults.iter().any(|fault| setting.faults.is_enabled(*fault))
}

/// Another program that changes the files.
struct Editor {
    files: Vec<Versions>,
    changes: usize,
    pause_max: Duration,
}

impl Actor for Editor {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let file = hands.rng().pick(&self.files).clone();
        let version = hands.rng().pick(&file.all).clone();
        let wall = SystemTime::UNIX_EPOCH + hands.wall();
        let modified = match file.kind {
            Versioning::Alike => SystemTime::UNIX_EPOCH,
            Versioning::Apart | Versioning::Growing => wall,
        };
        let (is_rewritten, has_grown) = (
            hands.strikes(Fault::FileRewritten),
            file.kind == Versioning::Growing && hands.strikes(Fault::FileGrown),
        );
        let volume = hands.volume();
        let len = volume.contents(file.path()).map_or(0, <[u8]>::len);
        let longer = file.all.iter().find(|longer| longer.len() > len);
        match (is_rewritten, longer) {
            (true, _) => volume.rewrite(file.path(), &version, modified, wall),
            (false, Some(longer)) if has_grown => {
                volume.rewrite(file.path(), longer, wall, wall);
            }
            (false, _) => volume.put(file.path(), &version, modified),
        }
        self.changes -= 1;
        if self.changes > 0 {
            let pause = hands.rng().span(self.pause_max);
            hands.wake_in(pause);
        }
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Scenario for WebServer {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        setting.volume.make_folder(ROOT);
        let compresses = setting.rng.coin();
        let extension = if compresses { "txt" } else { "bin" };
        for number in 0..setting.rng.sized(6) {
            let name = format!("file{number}.{extension}");
            let file = Versions::draw(name, compresses, setting);
            let first = &file.all[0];
            let epoch = SystemTime::UNIX_EPOCH;
            setting.volume.put(file.path(), first, epoch);
            self.files.push(file);
        }
        for number in 0..setting.rng.below(5) {
            let len = setting.rng.sized(2 * setting.payload_max) - 1;
            let (name, bytes) = (format!("packed/{number}"), setting.rng.bytes(len));
            let path = format!("{ROOT}/{name}");
            setting.volume.put(path, &bytes, SystemTime::UNIX_EPOCH);
            self.packed.push((name, bytes));
        }
        setting.volume.make_folder(format!("{ROOT}/packed"));
        setting
            .volume
            .link(format!("{ROOT}/out"), "../../etc/passwd");
        setting
            .volume
            .put("/etc/passwd", b"secret", SystemTime::UNIX_EPOCH);
        // What is in memory cannot change while it is sent, and what is not kept is not compressed.
        let memory_bytes_max = match changes_under_way(setting) && setting.rng.coin() {
            true => 1,
            false if compresses => 1 << 20,
            false => setting.rng.sized(1 << 20),
        };
        self.config = HttpConfig {
            root: Some(PathBuf::from(ROOT)),
            head_timeout: Duration::from_secs(60),
            answer_timeout: 2 * PATIENCE, // a client that is never woken is to be found
            open_files_max: setting.rng.sized(10),
            memory_bytes_max,
            files: FilesConfig {
                compress: CompressConfig {
                    codings: match compresses {
                        true => vec![Coding::Zstd, Coding::Gzip],
                        false => Vec::new(),
                    },
                    bytes_min: setting.rng.sized(2000) as u64,
                    ..CompressConfig::default()
                },
                listing: true,
                ..FilesConfig::default()
            },
            ..HttpConfig::default()
        };
        vec![setting.listener("http", 6789, Kind::Http(self.config.clone()))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        let rewritten = setting.faults.is_enabled(Fault::FileRewritten);
        let cannot_read = cannot_read(setting);
        let changing = changes_under_way(setting);
        if changing || setting.rng.chance(200) {
            let editor = Editor {
                files: self.files.clone(),
                changes: setting.rng.between(1, if changing { 1000 } else { 200 }),
                pause_max: Duration::from_millis(setting.rng.between(1, 30) as u64),
            };
            sim.enter(editor, Duration::ZERO);
        }
        // Many at once ask for what was just kept.
        let browsers = if changing && setting.roomy { 20 } else { 5 };
        for _ in 0..setting.rng.between(1, browsers) {
            let after = setting.rng.span(Duration::from_secs(2));
            if setting.rng.chance(100) {
                // A head that never ends: its time is counted from its first byte, and then it is
                // answered.
                let script = Script {
                    question: b"GET /file0.bin HTTP/1.1\r\nHo".to_vec(),
                    ending: Ending::WaitsForEnd(setting.late(self.config.head_timeout)),
                    any_answer: true,
                    ..Script::new(&bound[0])
                };
                sim.enter(Talker::new(script), after);
                continue;
            }
            let asks = (0..setting.rng.sized(12))
                .map(|_| self.ask(setting))
                .collect();
            let mut browser = Browser::new(&bound[0], asks);
            browser.pipelines = setting.rng.coin();
            browser.half_closes = setting.rng.coin();
            // What cannot be opened makes an archive end short, and what cannot be read any answer,
            // as a file that was rewritten does.
            browser.may_be_cut = rewritten || cannot_read;
            browser.piece_max = setting.piece_max();
            browser.pause_max = Duration::from_micros(setting.rng.sized(10_000) as u64);
            sim.enter(browser, after);
        }
    }
}

impl WebServer {
    fn ask(&self, setting: &mut Setting<'_>) -> Ask {
        let Versions { name, all, .. } = setting.rng.pick(&self.files).clone();
        let accepted = *setting.rng.pick(&["gzip", "zstd, gzip", "identity"]);
        let text = |method: &str, path: &str| {
            let lines = format!("Host: sim\r\nAccept-Encoding: {accepted}\r\n");
            format!("{method} {path} HTTP/1.1\r\n{lines}\r\n").into_bytes()
        };
        let fails = cannot_read(setting);
        let (request, is_head, mut answers) = match setting.rng.below(13) {
            0 => (text("HEAD", &format!("/{name}")), true, vec![(200, None)]),
            1 => (text("GET", "/nothing"), false, vec![(404, None)]),
            2 => (text("GET", "/out"), false, vec![(404, None)]),
            3 => {
                let path = "/%2e%2e/%2e%2e/etc/passwd";
                (text("GET", path), false, vec![(400, None)])
            }
            4 => {
                let answers = vec![(200, Some(tar(&self.packed)))];
                (text("GET", "/packed/?archive=tar"), false, answers)
            }
            5 => (text("GET", "/packed.zip"), false, vec![(200, None)]),
            6 => {
                // A name that cannot be looked at is not shown.
                let listed = (!fails).then(|| listing(&self.packed));
                (
                    text("GET", "/packed/?format=json"),
                    false,
                    vec![(200, listed)],
                )
            }
            _ => {
                let any = all.into_iter().map(|version| (200, Some(version)));
                (text("GET", &format!("/{name}")), false, any.collect())
            }
        };
        if fails {
            answers.extend([(500, None), (503, None)]);
        }
        Ask {
            request,
            is_head,
            answers,
            versions_of: None,
            is_current: false,
        }
    }
}

/// The files as a listing of their folder in JSON.
fn listing(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut entries: Vec<String> = files
        .iter()
        .map(|(path, bytes)| {
            let name = path.rsplit('/').next().expect("a name");
            let (len, time) = (bytes.len(), "1970-01-01T00:00:00Z");
            format!(
                "\n{{\"name\":\"{name}\",\"href\":\"./{name}\",\"kind\":\"file\",\"size\":{len},\"modified\":\"{time}\"}}"
            )
        })
        .collect();
    entries.sort();
    let entries = entries.join(",");
    format!("{{\"path\":\"/packed/\",\"entries\":[{entries}\n],\"more\":false}}\n").into_bytes()
}

/// The files as a tar of their folder (POSIX.1-2017, `pax`, "ustar Interchange Format").
fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut all = Vec::new();
    let folder = ("packed/".to_owned(), Vec::new());
    for (name, bytes) in std::iter::once(&folder).chain(files) {
        let is_folder = name.ends_with('/');
        let mode = if is_folder { "0000755" } else { "0000644" };
        let (kind, len) = (
            if is_folder { "5" } else { "0" },
            format!("{:011o}", bytes.len()),
        );
        let mut header = vec![0; 512];
        let id = "0000000";
        for (at, text) in [
            (0, name.as_str()),
            (100, mode),
            (108, id),
            (116, id),
            (124, &len),
            (136, "00000000000"),
            (148, "        "),
            (156, kind),
            (257, "ustar\x0000"),
            (329, id),
            (337, id),
        ] {
            header[at..at + text.len()].copy_from_slice(text.as_bytes());
        }
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        all.extend(header);
        all.extend(bytes);
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all.resize(all.len() + 1024, 0);
    all
}
