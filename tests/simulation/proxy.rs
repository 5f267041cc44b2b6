//! The proxy: names, connections and framings of every kind between a client and its origins. A
//! body that was cut short never looks whole.

use std::net::SocketAddr;
use std::time::Duration;

use netlab_reactor::config::{Cache, CacheLimits, Kind, ListenerConfig, Ports, ProxyConfig};
use netlab_reactor::http::caching::RuleBook;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::faults::Fault;

use crate::dns::ORIGIN;
use crate::driver::{Scenario, Setting};
use crate::web::{Ask, Browser, WebOrigin, body_of};

const CACHE: &str = "/var/cache/proxy";

/// How many resources there are that may be kept.
const RESOURCES_MAX: usize = 5;

#[derive(Default)]
pub(crate) struct WebProxy {
    /// Those, as paths.
    resources: Vec<String>,
}

impl Scenario for WebProxy {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        setting.volume.make_folder("/var/cache");
        let cache = match setting.later.chance(800) {
            true => cache(setting),
            false => Cache::Off,
        };
        let kinds = ["length", "length", "chunked", "close", "cut", "broken"];
        let policies = ["fresh", "fresh", "short", "error", "check", "never"];
        for number in 0..setting.later.between(1, RESOURCES_MAX + 1) {
            let len = setting.later.sized(setting.payload_max) - 1;
            let (kind, policy) = (*setting.later.pick(&kinds), *setting.later.pick(&policies));
            self.resources
                .push(format!("/{len}/{kind}/{number}/{policy}"));
        }
        let mut config = ProxyConfig::new(cache);
        config.allow_destinations = vec!["198.18.0.0/15".parse().expect("a range")];
        config.connect_ports = Ports::Any;
        config.http.head_timeout = Duration::from_secs(60);
        vec![setting.listener("proxy", 8888, Kind::Proxy(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        sim.enter(
            WebOrigin::new(SocketAddr::from((ORIGIN, 80))),
            Duration::ZERO,
        );
        for _ in 0..setting.rng.between(1, 5) {
            let after = setting.rng.span(Duration::from_secs(2));
            let mut asks: Vec<Ask> = (0..setting.rng.sized(8)).map(|_| ask(setting)).collect();
            for ask in &mut asks {
                if setting.later.chance(700) {
                    *ask = ask_for_kept(&self.resources, setting);
                }
            }
            if let [only] = &mut asks[..]
                && setting.rng.coin()
            {
                only.of_http_1_0();
            }
            let mut browser = Browser::new(&bound[0], asks);
            browser.pipelines = setting.rng.coin();
            browser.half_closes = setting.rng.coin();
            // So is what the origin cuts, and what was taken to be kept and could not be.
            browser.may_be_cut = setting.faults.is_enabled(Fault::Reset)
                || may_give_up(setting)
                || self
                    .resources
                    .iter()
                    .any(|path| path.contains("/cut/") || path.contains("/broken/"));
            if setting.later.chance(200) {
                browser.leaves_after = Some(setting.later.sized(2 * setting.payload_max));
            }
            browser.piece_max = setting.piece_max();
            browser.pause_max = Duration::from_micros(setting.rng.sized(10_000) as u64);
            sim.enter(browser, after);
        }
    }
}

/// Whether what was begun to be kept may not be kept after all: then those who follow it are cut.
fn may_give_up(setting: &Setting<'_>) -> bool {
    let Kind::Proxy(config) = setting.config_of("proxy") else {
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
    match config.cache {
        Cache::On { limits, .. } => disk_fails || limits.object_bytes_max < length_max,
        Cache::Off => false,
    }
}

/// A cache in which little has room.
fn cache(setting: &mut Setting<'_>) -> Cache {
    let bytes = setting.payload_max;
    Cache::On {
        dir: CACHE.into(),
        bytes_max: setting.later.sized(20 * bytes) as u64,
        limits: CacheLimits {
            objects_max: setting.later.sized(10),
            object_bytes_max: setting.later.sized(4 * bytes) as u64,
            memory_bytes_max: setting.later.sized(10 * bytes) as u64,
            small_bytes_max: setting.later.sized(bytes) as u64,
            wait_timeout: Duration::from_micros(setting.later.sized(5_000_000) as u64),
            finish_bytes: setting.later.sized(bytes) as u64,
            open_files_max: setting.later.sized(6),
        },
        rules: RuleBook::default(),
        purge_from: Vec::new(),
    }
}

fn ask(setting: &mut Setting<'_>) -> Ask {
    let kind = *setting.rng.pick(&["length", "length", "chunked", "close"]);
    let path = format!(
        "/{}/{kind}/{}",
        setting.rng.sized(setting.payload_max) - 1,
        setting.rng.below(50)
    );
    let text = |method: &str, url: &str, rest: &str| {
        format!("{method} {url} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n")
    };
    let url = format!("http://web.example{path}");
    let (request, is_head, answer) = match setting.rng.below(10) {
        0 => (text("HEAD", &url, "").into_bytes(), true, (200, None)),
        1 => (
            text("GET", "http://inside.example/", "").into_bytes(),
            false,
            (403, None),
        ),
        2 => (
            text("GET", "http://nobody.example/", "").into_bytes(),
            false,
            (502, None),
        ),
        3 => (
            text("GET", &format!("/web.example{path}"), "").into_bytes(),
            false,
            (200, Some(body_of(&path))),
        ),
        4 => (
            text("GET", "http://198.18.0.81/", "").into_bytes(),
            false,
            (502, None),
        ),
        5 | 6 => {
            let len = setting.rng.sized(setting.payload_max) - 1;
            let body = setting.rng.bytes(len);
            let head = text("POST", &url, &format!("Content-Length: {}\r\n", body.len()));
            ([head.as_bytes(), &body].concat(), false, (200, Some(body)))
        }
        _ => (
            text("GET", &url, "").into_bytes(),
            false,
            (200, Some(body_of(&path))),
        ),
    };
    let mut answers = vec![answer];
    answers.extend(failures(setting));
    Ask {
        request,
        is_head,
        answers,
        versions_of: None,
        is_current: false,
    }
}

/// Answers of the proxy's own where an origin may fail.
fn failures(setting: &Setting<'_>) -> Vec<(u16, Option<Vec<u8>>)> {
    let upstream = [
        Fault::Reset,
        Fault::ConnectFails,
        Fault::ConnectRefused,
        Fault::ConnectHangs,
        Fault::ConnectSlow,
        Fault::DatagramLost,
        Fault::DatagramSendBlocked,
        Fault::DatagramRefused,
        Fault::DatagramReordered,
        Fault::DnsLies,
        Fault::DnsSlow,
    ];
    let may_fail = |fault: &Fault| setting.faults.is_enabled(*fault);
    match upstream.iter().any(may_fail) {
        true => vec![(502, None), (503, None), (504, None)],
        false => Vec::new(),
    }
}

/// Asks for a resource that changes, and may be kept.
fn ask_for_kept(resources: &[String], setting: &mut Setting<'_>) -> Ask {
    let path = setting.later.pick(resources).clone();
    let is_head = setting.later.below(8) == 0;
    let only_if_cached = setting.later.below(10) == 0;
    let method = if is_head { "HEAD" } else { "GET" };
    let rest = match setting.later.below(8) {
        _ if only_if_cached => "Cache-Control: only-if-cached\r\n",
        0 => "Cache-Control: no-cache\r\n",
        1 => "Cache-Control: max-stale\r\n",
        _ => "",
    };
    let target = match setting.later.below(5) {
        0 => format!("/web.example{path}"),
        _ => format!("http://web.example{path}"),
    };
    let mut answers = vec![(200, None)];
    answers.extend(failures(setting));
    if only_if_cached {
        answers.push((504, None));
    }
    if path.contains("/broken/") {
        answers.push((502, None)); // the break may overtake the head
    }
    Ask {
        request: format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{rest}\r\n")
            .into_bytes(),
        is_head,
        answers,
        is_current: path.ends_with("/never"),
        versions_of: Some(path),
    }
}
