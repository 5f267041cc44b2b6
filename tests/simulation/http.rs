//! The web server: every request has its one answer, in order and whole, from memory and by sendfile.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use netlab_reactor::config::{HttpConfig, Kind, ListenerConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};

use crate::driver::{Scenario, Setting};
use crate::web::{Ask, Browser};

const ROOT: &str = "/srv/www";

#[derive(Default)]
pub(crate) struct WebServer {
    config: HttpConfig,
    files: Vec<(String, Vec<u8>)>,
}

impl Scenario for WebServer {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        setting.volume.make_folder(ROOT);
        for number in 0..setting.rng.sized(6) {
            let len = setting.rng.sized(2 * setting.payload_max) - 1;
            let bytes = setting.rng.bytes(len);
            let name = format!("file{number}.bin");
            setting
                .volume
                .put(format!("{ROOT}/{name}"), &bytes, SystemTime::UNIX_EPOCH);
            self.files.push((name, bytes));
        }
        setting
            .volume
            .link(format!("{ROOT}/out"), "../../etc/passwd");
        setting
            .volume
            .put("/etc/passwd", b"secret", SystemTime::UNIX_EPOCH);
        self.config = HttpConfig {
            root: Some(PathBuf::from(ROOT)),
            head_timeout: Duration::from_secs(60),
            open_files_max: setting.rng.sized(10),
            memory_bytes_max: setting.rng.sized(1 << 20),
            ..HttpConfig::default()
        };
        vec![setting.listener("http", 6789, Kind::Http(self.config.clone()))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.rng.between(1, 5) {
            let after = setting.rng.span(Duration::from_secs(2));
            if setting.rng.chance(100) {
                // A head that never ends: its time is counted from its first byte, and then it is answered.
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
            browser.piece_max = setting.piece_max();
            browser.pause_max = Duration::from_micros(setting.rng.sized(10_000) as u64);
            sim.enter(browser, after);
        }
    }
}

impl WebServer {
    fn ask(&self, setting: &mut Setting<'_>) -> Ask {
        let (name, bytes) = setting.rng.pick(&self.files).clone();
        let text = |method: &str, path: &str| {
            format!("{method} {path} HTTP/1.1\r\nHost: sim\r\n\r\n").into_bytes()
        };
        let (request, is_head, answer) = match setting.rng.below(10) {
            0 => (text("HEAD", &format!("/{name}")), true, (200, None)),
            1 => (text("GET", "/nothing"), false, (404, None)),
            2 => (text("GET", "/out"), false, (404, None)),
            3 => (text("GET", "/%2e%2e/%2e%2e/etc/passwd"), false, (400, None)),
            _ => (text("GET", &format!("/{name}")), false, (200, Some(bytes))),
        };
        let mut answers = vec![answer];
        if setting.faults.is_enabled(Fault::DiskOpenFails) {
            answers.extend([(500, None), (503, None)]);
        }
        Ask {
            request,
            is_head,
            answers,
        }
    }
}
