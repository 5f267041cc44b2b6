//! The proxy: names, connections and framings of every kind between a client and its origins. A
//! body that was cut short never looks whole. Some origins speak TLS, and some proxies have a parent,
//! to which TLS may be spoken as well: with an origin in its tunnel, TLS goes within TLS.

use std::net::SocketAddr;
use std::time::Duration;

use netlab_reactor::config::{Cache, Kind, ListenerConfig, Parent, Ports, ProxyConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::faults::Fault;
use netlab_reactor::wire::no_proxy::NoProxy;
use netlab_reactor::wire::user_info::Credentials;

use crate::dns::{ORIGIN, PARENT};
use crate::driver::{Scenario, Setting};
use crate::web::{Ask, Browser, Spoken, WebOrigin, body_of};
use crate::{kept, secure};

pub(crate) struct WebProxy;

impl Scenario for WebProxy {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let cache = match setting.later.coin() {
            true => kept::cache(setting),
            false => Cache::Off,
        };
        let mut config = ProxyConfig::new(cache);
        config.allow_destinations = vec!["198.18.0.0/15".parse().expect("a range")];
        config.connect_ports = Ports::Any;
        config.http.head_timeout = Duration::from_secs(60);
        config.ca_file = Some(secure::authorities());
        if setting.later.coin() {
            let host = *setting.later.pick(&["parent.example", "198.18.0.90"]);
            // Its certificate is for its name.
            let tls = host == "parent.example" && setting.later.coin();
            let past_it = *setting
                .later
                .pick(&["", "", "web.example", "secure.example"]);
            config.parent = Some(Parent {
                host: host.to_owned(),
                port: if tls { 3129 } else { 3128 },
                tls,
                credentials: Some(credentials()),
                no_proxy: NoProxy::parse(past_it),
                timeout: Duration::from_secs(30),
            });
        }
        vec![setting.listener("proxy", 8888, Kind::Proxy(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        sim.enter(
            WebOrigin::new(SocketAddr::from((ORIGIN, 80))),
            Duration::ZERO,
        );
        let secure = WebOrigin::secure(SocketAddr::from((ORIGIN, 443)));
        sim.enter(secure, Duration::ZERO);
        for (port, spoken) in [(3128, Spoken::Plainly), (3129, Spoken::ByTls)] {
            let at = SocketAddr::from((PARENT, port));
            let parent = WebOrigin::parent(at, credentials().basic(), spoken);
            sim.enter(parent, Duration::ZERO);
        }
        for _ in 0..setting.rng.between(1, 5) {
            let after = setting.rng.span(Duration::from_secs(2));
            let mut asks: Vec<Ask> = (0..setting.rng.sized(8)).map(|_| ask(setting)).collect();
            if let [only] = &mut asks[..]
                && setting.rng.coin()
            {
                only.of_http_1_0();
            }
            let mut browser = Browser::new(&bound[0], asks);
            browser.pipelines = setting.rng.coin();
            browser.half_closes = setting.rng.coin();
            browser.may_be_cut = setting.faults.is_enabled(Fault::Reset);
            browser.piece_max = setting.piece_max();
            browser.pause_max = Duration::from_micros(setting.rng.sized(10_000) as u64);
            sim.enter(browser, after);
        }
    }
}

fn credentials() -> Credentials {
    Credentials::from_url("ann:tulip").expect("a name without a colon")
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
    let (request, is_head, answer) = match setting.rng.below(13) {
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
        10 | 11 => {
            let url = format!("https://secure.example{path}");
            let request = text("GET", &url, "").into_bytes();
            (request, false, (200, Some(body_of(&path))))
        }
        // The certificate is not for that name.
        12 => {
            let request = text("GET", "https://stranger.example/", "").into_bytes();
            (request, false, (502, None))
        }
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
pub(crate) fn failures(setting: &Setting<'_>) -> Vec<(u16, Option<Vec<u8>>)> {
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
        Fault::DnsTruncates,
    ];
    let may_fail = |fault: &Fault| setting.faults.is_enabled(*fault);
    match upstream.iter().any(may_fail) {
        true => vec![(502, None), (503, None), (504, None)],
        false => Vec::new(),
    }
}
