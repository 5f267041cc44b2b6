//! The proxy with its cache: resources that change, clients that ask for the same ones at the same
//! time, or ranges of them, and go away when they like, an origin that pauses, cuts and breaks
//! anywhere, and a disk that does too. What broke off is a part, which later requests complete. An answer says which version of a resource it is of, and every byte of it is that version's.

use std::net::SocketAddr;
use std::time::Duration;

use netlab_reactor::cache::store::object::{self, Body, Decoded, Header, Name};
use netlab_reactor::config::{Cache, CacheLimits, Kind, ListenerConfig, Ports, ProxyConfig};
use netlab_reactor::http::caching::RuleBook;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::faults::Fault;

use crate::dns::ORIGIN;
use crate::driver::{ProcessEnd, Scenario, Setting};
use crate::proxy::failures;
use crate::web::{Ask, Browser, WebOrigin, body_of_version, content_range};

const CACHE: &str = "/var/cache/proxy";
const PORT: u16 = 8081;

#[derive(Default)]
pub(crate) struct KeptProxy {
    /// The resources, as paths.
    resources: Vec<String>,
}

impl Scenario for KeptProxy {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let kinds = [
            "length", "length", "chunked", "chunked", "close", "cut", "broken", "cut",
        ];
        let policies = [
            "fresh", "fresh", "short", "short", "error", "check", "never", "steady", "steady",
        ];
        for number in 0..setting.later.between(1, 5) {
            let len = setting.later.sized(setting.payload_max) - 1;
            let (kind, policy) = (*setting.later.pick(&kinds), *setting.later.pick(&policies));
            self.resources
                .push(format!("/{len}/{kind}/{number}/{policy}"));
        }
        let mut config = ProxyConfig::new(cache(setting));
        config.allow_destinations = vec!["198.18.0.0/15".parse().expect("a range")];
        config.forward_ports = Ports::Any;
        config.http.head_timeout = Duration::from_secs(60);
        vec![setting.listener("kept", 8889, Kind::Proxy(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        let origin = SocketAddr::from((ORIGIN, PORT));
        sim.enter(WebOrigin::new(origin), Duration::ZERO);
        let may_be_cut = setting.faults.is_enabled(Fault::Reset) || self.may_give_up(setting);
        for _ in 0..setting.later.between(2, 9) {
            let after = setting.later.span(Duration::from_secs(8));
            let count = setting.later.between(1, 9);
            let mut asks: Vec<Ask> = (0..count).map(|_| self.ask(setting)).collect();
            if let [only] = &mut asks[..]
                && setting.later.coin()
            {
                only.of_http_1_0();
            }
            let mut browser = Browser::new(&bound[0], asks);
            browser.pipelines = setting.later.chance(300);
            browser.half_closes = setting.later.coin();
            browser.may_be_cut = may_be_cut;
            if setting.later.chance(300) {
                browser.leaves_after = Some(setting.later.sized(2 * setting.payload_max));
            }
            let least = 1 + setting.payload_max / 500;
            browser.piece_max = setting.later.between(least, setting.payload_max);
            browser.pause_max = Duration::from_micros(setting.later.sized(1_000_000) as u64);
            sim.enter(browser, after);
        }
        // Whoever got something that broke off asks for it again.
        let breaks = |path: &&String| path.contains("/cut/") || path.contains("/broken/");
        for path in self.resources.iter().filter(breaks) {
            for turn in 0..setting.later.between(1, 5) {
                let asks = vec![self.ask_for(path, "GET", "", setting)];
                let mut browser = Browser::new(&bound[0], asks);
                browser.may_be_cut = may_be_cut;
                let pause = setting.later.span(Duration::from_secs(1));
                sim.enter(browser, Duration::from_secs(turn as u64) + pause);
            }
        }
    }

    fn comes_again(&self) -> bool {
        true
    }

    fn check(&self, sim: &mut Sim, ended: ProcessEnd) -> Result<(), String> {
        for folder in object::folders() {
            for name in sim.volume().names(format!("{CACHE}/{folder}")) {
                let path = format!("{CACHE}/{folder}/{name}");
                let file = sim.volume().contents(&path).unwrap_or_default();
                let is_named = Name::parse(folder.as_bytes(), name.as_bytes())
                    .is_some_and(|name| name.bytes == file.len() as u64);
                let is_object = is_named && self.is_object(file);
                // What the power failed for may be there in part: the next process tells by its
                // checksum.
                if !is_object && ended != ProcessEnd::PowerLost {
                    return Err(format!("{path}: {} bytes that are no object", file.len()));
                }
            }
        }
        match sim.volume().names(format!("{CACHE}/tmp")) {
            left if !left.is_empty() && ended != ProcessEnd::InGoodOrder => {
                Err(format!("left behind after a start: {left:?}"))
            }
            _ => Ok(()),
        }
    }
}

impl KeptProxy {
    /// Whether a file is an object, and its body that of the version that its head names, or the part
    /// of that which its head names as well.
    fn is_object(&self, file: &[u8]) -> bool {
        let Decoded::Header(header, at) = Header::decode(file) else {
            return false;
        };
        let body = &file[at..];
        let bytes = body.len() as u64;
        let is_whole = matches!(header.body, Body::Whole { bytes: known, .. } if known == bytes);
        let head = String::from_utf8_lossy(header.head);
        let mut lines = head.split("\r\n");
        let version = lines.find_map(|line| line.strip_prefix("X-Version: "));
        let mut lines = head.split("\r\n");
        let range = lines.find_map(|line| content_range(line.strip_prefix("Content-Range: ")?));
        let key = String::from_utf8_lossy(&header.key);
        let mut ours = self.resources.iter();
        let path = ours.find(|path| key == format!("GET http://web.example:{PORT}{path}"));
        is_whole
            && match (path, version.and_then(|version| version.parse().ok())) {
                (Some(path), Some(version)) => {
                    let whole = body_of_version(path, version);
                    let (first, end) = range.unwrap_or((0, whole.len()));
                    whole.get(first..end) == Some(body)
                }
                (Some(_), None) => false,
                (None, _) => true, // another scenario's
            }
    }

    /// Whether an answer may be cut: by the origin, or since what was begun to be kept is not kept
    /// after all, and others followed it.
    fn may_give_up(&self, setting: &Setting<'_>) -> bool {
        let Kind::Proxy(config) = setting.config_of("kept") else {
            panic!("a proxy");
        };
        let faults = [
            Fault::DiskFull,
            Fault::DiskOpenFails,
            Fault::DiskCreateFails,
            Fault::DiskRenameFails,
            Fault::JobFails,
            Fault::Crash,
            Fault::TornWrite,
            Fault::PowerLoss,
        ];
        let disk_fails = faults.iter().any(|fault| setting.faults.is_enabled(*fault));
        let length_max = setting.payload_max as u64 + 100;
        let is_cut = |path: &String| path.contains("/cut/") || path.contains("/broken/");
        match config.cache {
            Cache::On { limits, .. } if limits.object_bytes_max < length_max => true,
            Cache::On { .. } | Cache::Off => disk_fails || self.resources.iter().any(is_cut),
        }
    }

    fn ask(&self, setting: &mut Setting<'_>) -> Ask {
        let path = setting.later.pick(&self.resources).clone();
        let is_head = setting.later.below(10) == 0;
        let method = if is_head { "HEAD" } else { "GET" };
        let mut answers = Vec::new();
        let rest = match setting.later.below(15) {
            0 => "Cache-Control: no-cache\r\n",
            1 => "Cache-Control: max-stale\r\n",
            2 => {
                answers.push((504, None));
                "Cache-Control: only-if-cached\r\n"
            }
            3..6 => {
                let first = setting.later.below(setting.payload_max / 2);
                let last = first + setting.later.below(setting.payload_max / 2);
                answers.extend([(206, None), (416, None)]);
                match setting.later.coin() {
                    true => &format!("Range: bytes={first}-{last}\r\n"),
                    false => &format!("Range: bytes={first}-\r\n"),
                }
            }
            _ => "",
        };
        let mut ask = self.ask_for(&path, method, rest, setting);
        ask.answers.extend(answers);
        ask
    }

    /// A request for a resource with these fields, to which any 200 is an answer that is of one of
    /// its versions.
    fn ask_for(&self, path: &str, method: &str, rest: &str, setting: &mut Setting<'_>) -> Ask {
        let mut answers = vec![(200, None)];
        answers.extend(failures(setting));
        if path.contains("/broken/") {
            answers.push((502, None)); // the reset may overtake the head
        }
        let target = match setting.later.below(5) {
            0 => format!("/web.example:{PORT}{path}"),
            _ => format!("http://web.example:{PORT}{path}"),
        };
        Ask {
            request: format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n")
                .into_bytes(),
            is_head: method == "HEAD",
            answers,
            is_current: path.ends_with("/never"),
            versions_of: Some(path.to_owned()),
        }
    }
}

/// A cache in which more or less has room.
pub(crate) fn cache(setting: &mut Setting<'_>) -> Cache {
    setting.volume.make_folder("/var/cache");
    let all = 4 * setting.payload_max;
    let rng = &mut setting.later;
    let bytes = |rng: &mut netlab_reactor::sys::sim::rng::Rng| match rng.chance(300) {
        true => rng.sized(all),
        false => 10 * all,
    };
    Cache::On {
        dir: CACHE.into(),
        bytes_max: bytes(rng) as u64,
        limits: CacheLimits {
            objects_max: rng.sized(20),
            object_bytes_max: bytes(rng) as u64,
            memory_bytes_max: bytes(rng) as u64,
            small_bytes_max: rng.sized(all) as u64,
            wait_timeout: Duration::from_micros(rng.sized(10_000_000) as u64),
            finish_bytes: rng.sized(all) as u64,
            open_files_max: setting.later.sized(6),
        },
        rules: RuleBook::default(),
        purge_from: Vec::new(),
    }
}
