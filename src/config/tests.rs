//! Whole files of configuration: what they come to, and what is wrong with them.

use super::*;
use crate::dns;
use crate::http::caching::RuleBook;
use crate::http::cors::{Cors, Names, Origins, Rules};
use crate::http::negotiate::Coding;
use crate::limits::{DiskEngine, DiskLimits};
use crate::wire::challenge::Handshake;
use std::fs;
use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroU64;
use std::time::Duration;

/// The shortest configuration.
const HELLO: &str = "[[listener]]\nkind = 'hello'\n";

/// Reads a text as if it stood in `conf/x.toml`.
fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, Path::new("conf/x.toml"), &Overrides::default())
}

mod upstreams;

/// The problems of a text, one line each.
fn problems(text: &str) -> String {
    parse(text).expect_err("should be refused").to_string()
}

/// The kind of the only listener, which has these lines.
fn kind(lines: &str) -> Kind {
    let text = format!("[[listener]]\n{lines}\n");
    let mut listeners = parse(&text)
        .unwrap_or_else(|problems| panic!("{problems}"))
        .listeners;
    assert_eq!(listeners.len(), 1);
    listeners.remove(0).kind
}

/// The addresses of a listener.
fn addresses(listener: &ListenerConfig) -> String {
    let all: Vec<String> = listener.bind.iter().map(Bind::to_string).collect();
    all.join(" ")
}

#[test]
fn a_listener_has_one_address_or_several() {
    let bound = |kind: &str, bind: &str| {
        let config = parse(&format!("[[listener]]\nkind = '{kind}'\nbind = {bind}\n"));
        addresses(
            &config
                .unwrap_or_else(|problems| panic!("{problems}"))
                .listeners[0],
        )
    };
    let two = "['127.0.0.1:80', '[::1]:80']";
    assert_eq!(bound("http", two), "127.0.0.1:80 [::1]:80");
    assert_eq!(bound("udp-echo", two), "127.0.0.1:80 [::1]:80");
    assert_eq!(bound("hello", "'*:80'"), "[::]:80");
    assert_eq!(
        bound("hello", "['unix:x', '*:0', '*:0']"),
        "unix:conf/x [::]:0 [::]:0"
    );
    for (bind, expected) in [
        ("[]", "3:8: `bind` is empty"),
        ("7", "3:8: `bind` is an integer"),
        (
            "['127.0.0.1:1',\n  '127.0.0.1']",
            "4:3: an entry of `bind` is \"127.0.0.1\", without a port",
        ),
        ("'*:'", "3:8: `bind` is \"*:\", without a proper port"),
        ("'*:+7'", "3:8: `bind` is \"*:+7\", without a proper port"),
        (
            "'*:65536'",
            "3:8: `bind` is \"*:65536\", without a proper port",
        ),
        ("'*'", "3:8: `bind` is \"*\", not an IP address with a port"),
        (
            "['*:1', 'unix:x']",
            "3:16: an entry of `bind` is \"unix:x\", a Unix socket",
        ),
    ] {
        let wrong = problems(&format!("[[listener]]\nkind = 'udp-echo'\nbind = {bind}\n"));
        assert!(
            wrong.starts_with(&format!("conf/x.toml:{expected}")),
            "{wrong}"
        );
    }
}

#[test]
fn addresses_that_are_in_each_others_way_are_told() {
    let two = |one: &str, other: &str| {
        format!("[[listener]]\nkind = 'http'\nbind = ['{one}',\n  '{other}']\n")
    };
    for (one, other) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
        ("[::]:80", "0.0.0.0:80"),
        ("*:80", "0.0.0.0:80"),
        ("*:80", "[::]:80"),
        ("*:80", "127.0.0.1:80"),
        ("*:80", "[::1]:80"),
        ("0.0.0.0:80", "10.1.2.3:80"),
        ("unix:x", "unix:./x"),
    ] {
        for (one, other) in [(one, other), (other, one)] {
            let wrong = problems(&two(one, other));
            let taken = wrong.starts_with("conf/x.toml:4:3: the address ")
                && wrong.contains("listener \"http\" (line 3)");
            assert!(taken, "{one} {other}: {wrong}");
        }
    }
    for (one, other) in [
        ("*:0", "*:0"),
        ("127.0.0.1:80", "[::1]:80"),
        ("0.0.0.0:80", "[::1]:80"),
        ("*:80", "127.0.0.1:81"),
        ("unix:x", "unix:y"),
    ] {
        parse(&two(one, other)).unwrap_or_else(|problems| panic!("{one} {other}: {problems}"));
    }
    // Two listeners, and the same port over TCP and UDP.
    let wrong = problems(
        "[[listener]]\nkind = 'hello'\nbind = ['127.0.0.1:1', '*:2']\n\
         [[listener]]\nkind = 'http'\nbind = '127.0.0.1:2'\n\
         [[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:2'\n",
    );
    let expected = "conf/x.toml:6:8: the address 127.0.0.1:2 is taken by [::]:2 of listener \"hello\" \
                    (line 3); expected another `bind`";
    assert_eq!(wrong, expected);
}

#[test]
fn without_a_file_every_kind_listens_on_loopback() {
    let config = Config::without_a_file(&Overrides::default()).unwrap();
    let lines: Vec<String> = config
        .listeners
        .iter()
        .map(|listener| format!("{} {}", listener.name, addresses(listener)))
        .collect();
    let expected = [
        "tcp-echo 127.0.0.1:12000",
        "udp-echo 127.0.0.1:12002",
        "udp-ping 127.0.0.1:12000",
        "udp-heartbeat 127.0.0.1:12001",
        "hello 127.0.0.1:9000",
        "http 127.0.0.1:6789",
        "proxy 127.0.0.1:8888",
        "upload 127.0.0.1:9001",
        "frame-echo 127.0.0.1:9002",
        "admin 127.0.0.1:9090",
    ];
    assert_eq!(lines, expected);
    for (listener, row) in config.listeners.iter().zip(KINDS) {
        assert_eq!(listener.kind.name(), row.name);
    }
}

#[test]
fn each_kind_has_a_command_that_shows_it_at_work_wherever_it_is() {
    let config = Config::without_a_file(&Overrides::default()).unwrap();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, 81));
    for ListenerConfig { kind, .. } in &config.listeners {
        let at = kind.attempt(&Bind::Tcp(address)).expect("a command");
        assert!(at.contains("::1 81") != at.contains("//[::1]:81"), "{at}");
        let at = kind.attempt(&Bind::Unix("/x".into()));
        assert!(at.is_none_or(|at| at.contains(" unix:/x")));
    }
}

#[test]
fn without_a_file_the_upload_secret_is_random() {
    let secret = || {
        let config = Config::without_a_file(&Overrides::default()).unwrap();
        let upload = config
            .listeners
            .into_iter()
            .find_map(|listener| match listener.kind {
                Kind::Upload(upload) => Some((upload.handshake, upload.secret)),
                _ => None,
            });
        match upload {
            Some((Handshake::HmacMd5, SecretSource::Random(secret))) => secret,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(secret().expose().len(), 32);
    assert_ne!(secret(), secret());
}

#[test]
fn a_file_without_a_listener_is_a_mistake() {
    let told = "the file has no listener; expected at least one table [[listener]] (the defaults \
                are for a start without a file)";
    for (text, place) in [
        ("", "1:1"),
        ("\n\n", "3:1"),
        ("# [[listener]]\n# kind = 'http'\n", "3:1"),
        ("\u{feff}# only a comment", "1:17"),
        ("drain_timeout = '1s'\n[limits]\nbacklog = 7", "3:12"),
    ] {
        assert_eq!(problems(text), format!("conf/x.toml:{place}: {told}"));
    }
    // A word that was mistyped is told as well.
    let wrong = problems("[[listner]]\nkind = 'http'");
    assert!(
        wrong.contains("`listener`") && wrong.ends_with(told),
        "{wrong}"
    );
}

#[test]
fn overrides_win_over_the_file() {
    let text = "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:81'\nroot = 'a'\n\
                [[listener]]\nkind = 'hello'\nbind = 'unix:x.sock'\n\
                [[listener]]\nkind = 'hello'\nname = 'two'\n\
                bind = ['127.0.0.1:1', '[::1]:1', '127.0.0.1:2', 'unix:y', '*:0', '127.0.0.1:0']\n";
    let overrides = Overrides {
        bind: Some("::1".parse().unwrap()),
        root: Some(PathBuf::from("b")),
        ..Overrides::default()
    };
    let config = Config::parse(text, Path::new("conf/x.toml"), &overrides).unwrap();
    assert_eq!(addresses(&config.listeners[0]), "[::1]:81");
    assert_eq!(addresses(&config.listeners[1]), "unix:conf/x.sock");
    let moved = "[::1]:1 [::1]:2 unix:conf/y [::1]:0 [::1]:0";
    assert_eq!(addresses(&config.listeners[2]), moved);
    match &config.listeners[0].kind {
        Kind::Http(http) => assert_eq!(http.root.as_deref(), Some(Path::new("b"))),
        other => panic!("{other:?}"),
    }
}

#[test]
fn relative_paths_lead_from_the_folder_of_the_file() {
    let Kind::Http(http) = kind("kind = 'http'\nroot = 'site'") else {
        panic!()
    };
    assert_eq!(http.root.as_deref(), Some(Path::new("conf/site")));
    let Kind::Upload(upload) = kind("kind = 'upload'\nhandshake = 'none'") else {
        panic!()
    };
    assert_eq!(upload.dir, Path::new("conf/uploads"));
    let Kind::Proxy(proxy) = kind("kind = 'proxy'\ncache_dir = '/c'") else {
        panic!()
    };
    assert_eq!(
        proxy.cache,
        Cache::On {
            dir: PathBuf::from("/c"),
            bytes_max: CACHE_BYTES_MAX,
            limits: CacheLimits::default(),
            rules: RuleBook::default(),
            purge_from: Vec::new(),
        }
    );
}

#[test]
fn each_kind_reads_its_keys() {
    let Kind::UdpPing(ping) = kind(
        "kind = 'udp-ping'\nloss = 0.3\nduplicate = '1/2'\n\
        reorder = 1\ndelay = '5ms'\nseed = 7\nsource_rate_max = 0",
    ) else {
        panic!()
    };
    assert_eq!(Some(ping.loss), Fraction::new(3, 10));
    assert_eq!(Some(ping.duplicate), Fraction::new(1, 2));
    assert_eq!(ping.reorder, Fraction::ONE);
    assert_eq!((ping.delay, ping.seed), (Duration::from_millis(5), Some(7)));
    assert_eq!(ping.datagram.source_rate_max, None);
    let Kind::Proxy(proxy) = kind(
        "kind = 'proxy'\nconnect_ports = []\nforward_ports = [25]\ncache = 'off'\n\
        allow_destinations = ['127.0.0.0/8', '::1']\nupstream = 'http://127.0.0.1:8000'\n\
        hosts = ['Proxy.LAN.', 'p']",
    ) else {
        panic!()
    };
    assert_eq!(proxy.hosts, ["proxy.lan", "p"]);
    assert_eq!(proxy.connect_ports, Ports::Any);
    assert_eq!(proxy.forward_ports, Ports::Only(vec![25]));
    assert_eq!(proxy.cache, Cache::Off);
    assert_eq!(proxy.upstream.unwrap().to_string(), "127.0.0.1:8000");
    assert_eq!(proxy.allow_destinations[1].to_string(), "::1/128");
    let Kind::Http(http) = kind(
        "kind = 'http'\nindex = 'home.html'\nroutes = 'probe'\n\
        max_body_bytes = '64MiB'\nmax_requests_per_connection = 100",
    ) else {
        panic!()
    };
    assert_eq!(http.files.index, ["home.html"]);
    assert_eq!(
        (http.routes, http.body_bytes_max),
        (Routes::Probe, 64 << 20)
    );
    assert_eq!(http.requests_per_connection_max, NonZeroU64::new(100));
}

#[test]
fn who_may_come_is_read() {
    let keys = "allow = ['192.0.2.0/24', '2001:db8::1']\ndeny = '192.0.2.66'\n";
    let stream = "max_connections_per_address = 5\nmax_accept_rate = 10\nmax_accept_burst = 50\n";
    for row in KINDS {
        let more = if row.name == "upload" {
            "handshake = 'none'"
        } else {
            ""
        };
        let kind = |keys: &str| kind(&format!("kind = '{}'\n{keys}{more}", row.name));
        let access = |kind: &Kind| match (kind.stream(), kind.datagram()) {
            (Some(keys), _) => keys.access.clone(),
            (_, Some(keys)) => keys.access.clone(),
            _ => panic!("{} is over neither", row.name),
        };
        assert_eq!(access(&kind("")), AccessConfig::default());
        let AccessConfig { allow, deny } = access(&kind(keys));
        let allow: Vec<String> = allow.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(allow, ["192.0.2.0/24", "2001:db8::1/128"]);
        assert_eq!(deny[0].to_string(), "192.0.2.66/32");
        if let Some(keys) = kind("").stream() {
            assert_eq!(
                (keys.connections_per_address_max, keys.accept_rate_max),
                (None, None)
            );
            let given = kind(stream);
            let given = given.stream().unwrap();
            let numbers = [
                given.connections_per_address_max,
                given.accept_rate_max,
                given.accept_burst_max,
            ];
            assert_eq!(numbers.map(|number| number.unwrap().get()), [5, 10, 50]);
        }
    }
    for (line, expected) in [
        ("allow = []", "`allow` is empty"),
        (
            "allow = ['192.0.2.0/33']",
            "an entry of `allow` is \"192.0.2.0/33\"; expected an address range",
        ),
        (
            "deny = ['::1', 'localhost']",
            "an entry of `deny` is \"localhost\"",
        ),
        ("max_accept_burst = 3", "`max_accept_burst` without a rate"),
        ("max_accept_rate = -1", "`max_accept_rate` is -1"),
    ] {
        let wrong = problems(&format!("{HELLO}{line}\n"));
        assert!(
            wrong.starts_with("conf/x.toml:3:") && wrong.contains(expected),
            "{wrong}"
        );
    }
    let limit = |more: &str| parse(&format!("{HELLO}{more}")).unwrap().limits;
    assert_eq!(limit("").connections_per_address_max.unwrap().get(), 16_384);
    let none = limit("[limits]\nmax_connections_per_address = 0");
    assert_eq!(none.connections_per_address_max, None);
}

#[test]
fn a_resolver_is_read() {
    let config = parse(&format!(
        "{HELLO}[resolver]\nnameservers = ['127.0.0.1:5353', '::1']\nhosts = 'h'"
    ))
    .unwrap();
    let servers = ["127.0.0.1:5353", "[::1]:53"].map(|server| server.parse().unwrap());
    assert_eq!(
        config.resolver.nameservers,
        Nameservers::Listed(servers.to_vec())
    );
    assert_eq!(config.resolver.hosts, Path::new("conf/h"));
    let config = parse(&format!(
        "{HELLO}[resolver]\nreread_interval = '8s'\nquery_timeout = '200ms'\nattempts = 2\nlookup_timeout = '3s'\nsecond_family_delay = '0s'\n\
         max_waiters = 7\nmin_cached_time = '4s'\nmax_negative_time = '5s'\nfailure_time = '6s'\n\
         max_stale_time = '0s'\nstale_delay = '0s'\nstale_time = '7s'",
    ));
    let resolver = config.unwrap().resolver;
    let expected = ResolverConfig {
        query_timeout: Some(Duration::from_millis(200)),
        attempts: Some(2),
        reread_interval: Duration::from_secs(8),
        settings: dns::Config {
            lookup_timeout: Duration::from_secs(3),
            second_family_delay: Duration::ZERO,
            waiters_max: 7,
            ttl_min: Duration::from_secs(4),
            negative_ttl_max: Duration::from_secs(5),
            failure_ttl: Duration::from_secs(6),
            stale_max: Duration::ZERO,
            stale_delay: Duration::ZERO,
            stale_ttl: Duration::from_secs(7),
            ..dns::Config::default()
        },
        ..ResolverConfig::default()
    };
    assert_eq!(resolver, expected);
    let wrong = problems("[resolver]\nnameservers = ['127.0.0.1:5353',\n 'here']");
    assert!(
        wrong.starts_with("conf/x.toml:3:2: an entry of `nameservers` is \"here\""),
        "{wrong}"
    );
}

#[test]
fn how_disks_are_asked_is_read() {
    let disk = |lines: &str| {
        parse(&format!("{HELLO}[disk]\n{lines}"))
            .unwrap()
            .limits
            .disk
    };
    assert_eq!(disk(""), DiskLimits::default());
    let all = "engine = 'threads'\nmax_jobs = 32\nmax_jobs_per_disk = 20\n\
               max_waiting_jobs_per_disk = 0";
    assert_eq!(
        disk(all),
        DiskLimits {
            engine: DiskEngine::Threads,
            jobs_max: 32,
            jobs_per_disk_max: 20,
            waiting_per_disk_max: 0,
        }
    );
    assert_eq!(disk("engine = 'io_uring'").engine, DiskEngine::IoUring);
    let few = disk("max_jobs = 3");
    assert_eq!((few.jobs_max, few.jobs_per_disk_max), (3, 3));
    for (line, expected) in [
        (
            "engine = 'iouring'",
            "\"iouring\", probably meant as \"io_uring\"; expected one of \"auto\", \"io_uring\", \
             \"threads\", \"inline\"",
        ),
        (
            "max_jobs = 0",
            "`max_jobs` is 0; expected an integer from 1 to 1024",
        ),
        (
            "max_jobs = 4\nmax_jobs_per_disk = 5",
            "`max_jobs_per_disk` is 5, and `max_jobs` 4; expected at most as many",
        ),
        (
            "max_job = 3",
            "unknown key `max_job`, probably meant as `max_jobs`",
        ),
    ] {
        let wrong = problems(&format!("{HELLO}[disk]\n{line}"));
        assert!(wrong.contains(expected), "{line}: {wrong}");
    }
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    let wrong = problems("[[listener]]\nkind = 'http'\nidle_timout = '1s'\n");
    assert!(
        wrong.starts_with(
            "conf/x.toml:3:1: unknown key `idle_timout`, probably meant as `idle_timeout`; \
             expected for kind \"http\" one of kind, bind, name, root, "
        ),
        "{wrong}"
    );
    let wrong = problems("[limits]\nmax_session = 1\n[resolver]\nx = 1");
    assert!(
        wrong.starts_with("conf/x.toml:2:1: unknown key `max_session`, probably"),
        "{wrong}"
    );
    assert!(wrong.contains("\nconf/x.toml:4:1: unknown key `x`; expected in table [resolver]"));
}

#[test]
fn keys_of_another_kind_are_refused_by_its_name() {
    let wrong = problems("[[listener]]\nkind = 'http'\ncache_dir = 'x'\n");
    let expected = "conf/x.toml:3:1: key `cache_dir` belongs to kind \"proxy\", not \"http\"";
    assert!(wrong.starts_with(expected), "{wrong}");
    let wrong = problems("root = 'x'\n");
    let expected = "conf/x.toml:1:1: key `root` belongs to a [[listener]] of kind \"http\"";
    assert!(wrong.starts_with(expected), "{wrong}");
}

#[test]
fn wrong_types_are_refused_at_the_value() {
    for (line, expected) in [
        (
            "kind = 3",
            "2:8: `kind` is an integer; expected one of tcp-echo, ",
        ),
        (
            "kind = 'http'\nroot = []",
            "3:8: `root` is an array; expected a path",
        ),
        (
            "kind = 'http'\nindex = 1",
            "3:9: `index` is an integer; expected a list",
        ),
        (
            "kind = 'http'\nidle_timeout = 60",
            "3:16: `idle_timeout` is 60 without a unit",
        ),
        (
            "kind = 'http'\nmax_body_bytes = true",
            "3:18: `max_body_bytes` is a boolean",
        ),
        (
            "kind = 'hello'\ncount = '1'",
            "3:9: `count` is a string; expected an integer",
        ),
        (
            "kind = 'udp-ping'\nloss = true",
            "3:8: `loss` is a boolean; expected a share",
        ),
    ] {
        let wrong = problems(&format!("[[listener]]\n{line}"));
        assert!(
            wrong.starts_with(&format!("conf/x.toml:{expected}")),
            "{wrong}"
        );
    }
    assert!(problems("limits = 3").starts_with("conf/x.toml:1:10: `limits` is an integer"));
    assert!(problems("listener = 3").starts_with("conf/x.toml:1:12: `listener` is an integer"));
}

#[test]
fn bad_values_are_refused_at_the_value() {
    for (line, expected) in [
        (
            "kind = 'http'\nbind = 'localhost:80'",
            "\"localhost:80\", not an IP address",
        ),
        (
            "kind = 'udp-ping'\nbind = 'unix:x'",
            "\"unix:x\", a Unix socket",
        ),
        (
            "kind = 'http'\nidle_timeout = '0s'",
            "zero; expected a duration above zero",
        ),
        (
            "kind = 'http'\nidle_timeout = '11y'",
            "\"11y\", not a number with a unit",
        ),
        (
            "kind = 'http'\nidle_timeout = '9999d'",
            "\"9999d\", above ten years",
        ),
        (
            "kind = 'http'\nmax_head_bytes = '1GiB'",
            "1073741824; expected a size from 256",
        ),
        (
            "kind = 'http'\nmax_connections = 0",
            "0; expected an integer from 1",
        ),
        (
            "kind = 'http'\nroutes = 'prob'",
            "\"prob\", probably meant as \"probe\"",
        ),
        ("kind = 'http'\nname = ''", "empty; expected a name"),
        (
            "kind = 'udp-ping'\nloss = 1.5",
            "1.5, not a share from 0 to 1; expected",
        ),
        (
            "kind = 'udp-ping'\nsource_rate_max = -1",
            "-1; expected an integer from 0",
        ),
        (
            "kind = 'proxy'\nconnect_ports = [70000]",
            "70000; expected a port",
        ),
        (
            "kind = 'proxy'\nallow_destinations = ['x']",
            "\"x\"; expected an address range",
        ),
        (
            "kind = 'admin'\nhosts = ['x:80']",
            "\"x:80\"; expected the name of a host",
        ),
        ("kind = 'admin'\ntoken = ''", "empty; expected a text"),
        (
            "kind = 'admin'\ntoken = 'a b'",
            "not printable ASCII without blanks; expected a text",
        ),
        (
            "kind = 'http'\nroute = [{ prefix = '/a/', admin = true, token = '' }]",
            "empty; expected a text",
        ),
        (
            "kind = 'proxy'\nhosts = ['[::1]']",
            "\"[::1]\"; expected the name of a host",
        ),
        (
            "kind = 'proxy'\nupstream = 'ftp://x'",
            "\"ftp://x\", not an http:// or https:// address",
        ),
        (
            "kind = 'tcp-echo'\ntransform = 'lower'",
            "\"lower\"; expected one of \"upper\"",
        ),
    ] {
        let wrong = problems(&format!("[[listener]]\n{line}"));
        assert!(wrong.starts_with("conf/x.toml:3:"), "{wrong}");
        assert!(wrong.contains(&format!(" is {expected}")), "{wrong}");
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
}

#[test]
fn a_parent_is_read_with_its_credentials_from_one_place() {
    let parent = |lines: &str| {
        let Kind::Proxy(proxy) = kind(&format!("kind = 'proxy'\ncache_dir = '/c'\n{lines}")) else {
            panic!()
        };
        proxy.parent
    };
    assert_eq!(parent(""), None);
    let read = parent("parent = 'http://p.example:3128'").expect("a parent");
    let address = (read.host.as_str(), read.port, read.tls);
    assert_eq!(address, ("p.example", 3128, false));
    assert!(parent("parent = 'https://p.example:3129'").is_some_and(|parent| parent.tls));
    assert_eq!((read.credentials, read.timeout), (None, PARENT_TIMEOUT));
    let read = parent(
        "parent = 'http://ann:tulip@[::1]:3128'\nparent_timeout = '2s'\nno_proxy = ['localhost', '*.lab:8080', '10.0.0.0/8']",
    )
    .expect("a parent");
    assert_eq!((read.host.as_str(), read.timeout.as_secs()), ("::1", 2));
    assert!(read.no_proxy.names("a.lab", 8080) && read.no_proxy.names("10.1.2.3", 80));
    assert!(!format!("{read:?}").contains("tulip"));
    let ours = read.credentials.expect("credentials").basic();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parent");
    fs::write(&file, "ann:tulip\n").unwrap();
    let (at, line) = (
        "parent = 'http://p:3128'",
        format!("parent_credentials_file = '{}'", file.display()),
    );
    let read = parent(&format!("{at}\n{line}")).expect("a parent");
    assert_eq!(read.credentials.expect("credentials").basic(), ours);
    // Whatever the tests are run with, there is a path, and on Unix it lists folders between colons.
    let read = parent(&format!("{at}\nparent_credentials_variable = 'PATH'")).expect("a parent");
    assert!(read.credentials.is_some());
}

#[test]
fn a_wrong_parent_is_refused_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("parent");
    fs::write(&file, "tulip").unwrap();
    let file = file.display();
    for (lines, expected) in [
        (
            "parent = 'socks5://ann:tulip@p:1'".to_owned(),
            "`parent` is no http:// or https:// address; expected the address of a proxy such as",
        ),
        (
            "parent = 'http://ann:tulip@p'".to_owned(),
            "`parent` is \"http://p\", without a port; expected",
        ),
        (
            "no_proxy = ['a']".to_owned(),
            "`no_proxy` is for a parent proxy; expected `parent` beside it",
        ),
        (
            "parent_timeout = '1s'".to_owned(),
            "`parent_timeout` is for a parent proxy; expected",
        ),
        (
            "parent = 'http://p:1'\nno_proxy = ['a b']".to_owned(),
            "an entry of `no_proxy` is \"a b\"; expected a host such as",
        ),
        (
            "parent = 'http://p:1'\nno_proxy = 'a'".to_owned(),
            "`no_proxy` is a string; expected a list",
        ),
        (
            "parent = 'http://p:1'\nparent_timeout = '0s'".to_owned(),
            "`parent_timeout` is zero; expected",
        ),
        (
            "parent = 'http://p:1'\nparent_credentials_variable = 'NETLAB_NONE'".to_owned(),
            "is \"NETLAB_NONE\", which is not set; expected the name of a variable",
        ),
        (
            format!("parent = 'http://p:1'\nparent_credentials_file = '{file}'"),
            "which holds something else; expected a file that holds USER:PASSWORD",
        ),
        (
            "parent = 'http://p:1'\nparent_credentials_file = 'none'".to_owned(),
            "`parent_credentials_file` names conf/none: ",
        ),
        (
            "parent = 'http://ann:tulip@p:1'\nparent_credentials_variable = 'PATH'".to_owned(),
            "are given more than once; expected them in the address",
        ),
        (
            "parent = 'http://p:1'\nupstream = 'http://o'\nsend_proxy = 'v1'".to_owned(),
            "that is the parent; expected one of the two",
        ),
    ] {
        let wrong = problems(&format!(
            "[[listener]]\nkind = 'proxy'\ncache = 'off'\n{lines}"
        ));
        assert!(wrong.contains(expected), "{lines}: {wrong}");
        assert!(!wrong.contains("tulip"), "{wrong}");
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
}

#[test]
fn what_a_folder_is_served_with_is_read_and_judged() {
    let Kind::Http(http) = kind(
        "kind = 'http'\nroot = 'a'\nlisting = true\nspa = '/app/index.html'\n\
         error_pages = { 404 = 'no.html' }\nheaders = { X-A = ' b ' }\nmedia_types = { '.md' = 'text/plain' }\n\
         access_log = 'log'\n[[listener.site]]\nhost = 'A.Example'\nprefix = '/x//y/'\nroot = 'b'\nlisting = true",
    ) else {
        panic!()
    };
    let files = &http.files;
    assert_eq!(files.spa.as_deref(), Some("app/index.html"));
    assert_eq!(files.error_pages[&404], "no.html");
    assert_eq!(files.headers, [("X-A".to_owned(), "b".to_owned())]);
    assert_eq!(files.media_types[0].0, "md");
    assert_eq!(http.access_log, Some(AccessLog::Path("conf/log".into())));
    let site = &http.sites[0];
    assert_eq!(
        (site.host.as_deref(), site.prefix.as_str()),
        (Some("a.example"), "x/y")
    );
    let SiteContent::Files { root, files } = &site.content else {
        panic!("{site:?}")
    };
    assert_eq!(root, Path::new("conf/b"));
    assert!(files.listing && files.archive && !files.precompressed);
    for (line, codings) in [
        ("", &[][..]),
        ("compress = false", &[]),
        ("compress = true", &[Coding::Zstd, Coding::Br, Coding::Gzip]),
        ("compress = 'gzip'", &[Coding::Gzip]),
        ("compress = ['zstd', 'br']", &[Coding::Zstd, Coding::Br]),
    ] {
        let Kind::Http(http) = kind(&format!("kind = 'http'\nroot = 'a'\n{line}")) else {
            panic!()
        };
        assert_eq!(http.files.compress.codings, codings, "{line}");
    }
    for (line, expected) in [
        (
            "compress = 1",
            "3:12: `compress` is an integer; expected true, false, or",
        ),
        (
            "compress = ['zst']",
            "3:13: an entry of `compress` is \"zst\", probably meant as \"zstd\"; expected true",
        ),
        ("compress = 'deflate'", "3:12: `compress` is \"deflate\""),
        (
            "max_compress_bytes = 100",
            "3:22: `max_compress_bytes` is 100, below `min_compress_bytes`, 1024",
        ),
        (
            "min_compress_bytes = '2MiB'",
            "3:22: `max_compress_bytes` is 1048576, below `min_compress_bytes`, 2097152",
        ),
        (
            "compress_types = ['html']",
            "3:19: an entry of `compress_types` is \"html\"; expected a media type",
        ),
        (
            "listing = 'yes'",
            "3:11: `listing` is a string; expected true or false",
        ),
        (
            "max_listing_entries = 0",
            "3:23: `max_listing_entries` is 0; expected",
        ),
        ("max_listings = 0", "3:16: `max_listings` is 0; expected"),
        (
            "max_listings_per_address = -1",
            "3:28: `max_listings_per_address` is -1; expected",
        ),
        (
            "max_readme_bytes = '2MiB'",
            "3:20: `max_readme_bytes` is 2097152; expected",
        ),
        (
            "max_archive_entries = 0",
            "3:23: `max_archive_entries` is 0; expected",
        ),
        ("max_archives = 0", "3:16: `max_archives` is 0; expected"),
        (
            "spa = '../x'",
            "3:7: `spa` is \"../x\"; expected a file below the root",
        ),
        (
            "error_pages = { 304 = 'x' }",
            "3:23: an entry of `error_pages` is \"304\"; expected",
        ),
        (
            "routes = 'probe'\n[[listener.route]]\nupstream = 'http://a'\nerror_pages = { 502 = 'x' }",
            "6:15: `error_pages` without a folder; expected `error_root`, or `root`, beside it",
        ),
        (
            "error_pages = { 404 = '/etc/../x' }",
            "3:23: an entry of `error_pages` is \"/etc/../x\"",
        ),
        (
            "headers = { content-length = '1' }",
            "3:30: an entry of `headers` is \"content-length\"",
        ),
        (
            "headers = { Transfer-Encoding = 'x' }",
            "3:33: an entry of `headers` is",
        ),
        (
            "headers = { 'a b' = 'x' }",
            "3:21: an entry of `headers` is \"a b\"",
        ),
        (
            "headers = { a = \"x\\r\\ny\" }",
            "3:17: an entry of `headers` is",
        ),
        (
            "media_types = { a = 'b' }",
            "3:21: an entry of `media_types` is \"b\"",
        ),
        (
            "cache_control = [{ match = '*' }]",
            "3:18: an entry of `cache_control` without `value`",
        ),
        (
            "cache_control = [{ match = '*', value = '' }]",
            "3:41: `value` is \"\"",
        ),
        (
            "auth = { realm = 'a\"b', file = 'none' }",
            "3:18: `realm` is",
        ),
        ("auth = { realm = 'x' }", "3:8: `auth` without `file`"),
        (
            "site = [{ host = 'a:1', root = 'x' }]",
            "3:18: `host` is \"a:1\"",
        ),
        (
            "site = [{ prefix = 'x', root = 'x' }]",
            "3:20: `prefix` is \"x\"",
        ),
        (
            "site = [{ host = 'a' }]",
            "3:9: a route that leads nowhere; expected one of",
        ),
        (
            "site = [{ root = 'a', bind = 'x' }]",
            "3:23: unknown key `bind`",
        ),
        (
            "log_format = 'jsonl'",
            "3:14: `log_format` is \"jsonl\", probably meant as \"json\"",
        ),
    ] {
        let wrong = problems(&format!("[[listener]]\nkind = 'http'\n{line}"));
        assert!(
            wrong.starts_with(&format!("conf/x.toml:{expected}")),
            "{wrong}"
        );
    }
}

/// The web server that these lines make of a listener.
fn web_server(lines: &str) -> HttpConfig {
    match kind(&format!("kind = 'http'\n{lines}")) {
        Kind::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

/// What is wrong with each of these lines, which stand third in the file.
fn refused(lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let wrong = problems(&format!("[[listener]]\nkind = 'http'\n{line}"));
        let expected = format!("conf/x.toml:{expected}");
        assert!(wrong.starts_with(&expected), "{wrong}");
        assert!(wrong.contains("; expected "), "{wrong}");
    }
}

#[test]
fn who_may_read_across_origins_is_read_and_judged() {
    let http = web_server(
        "cors = { origins = ['https://A.example:443', 'http://localhost:5173'], methods = 'PUT', \
         headers = ['X-A', 'X-B'], expose = 'ETag', credentials = true, max_age = '10m' }\n\
         [[listener.site]]\nroot = 'b'\ncors = { origins = '*', headers = '*' }\n\
         [[listener.site]]\nprefix = '/c/'\nroot = 'c'",
    );
    let origin = |text: &str| text.parse().expect("an origin");
    let rules = Rules {
        origins: Origins::Only {
            list: vec![origin("https://a.example"), origin("http://localhost:5173")],
            credentials: true,
        },
        methods: vec!["PUT".to_owned()],
        headers: Names::Only(vec!["X-A".to_owned(), "X-B".to_owned()]),
        expose: vec!["ETag".to_owned()],
        max_age: Some(Duration::from_secs(600)),
    };
    assert_eq!(http.files.cors, Some(Cors::new(&rules)));
    let all = Rules {
        origins: Origins::Any,
        methods: Vec::new(),
        headers: Names::Any,
        expose: Vec::new(),
        max_age: None,
    };
    let cors_of = |site: &SiteConfig| match &site.content {
        SiteContent::Files { files, .. } => files.cors.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(cors_of(&http.sites[0]), Some(Cors::new(&all)));
    assert_eq!(cors_of(&http.sites[1]), None, "a site has its own");
    refused(&[
        ("cors = true", "3:8: `cors` is a boolean"),
        ("cors = {}", "3:8: `cors` without `origins`"),
        (
            "cors = { origins = 'https://a.example/' }",
            "3:20: `origins` is \"https://a.example/\", which is a URL with a path",
        ),
        (
            "cors = { origins = ['*', 'https://a.example'] }",
            "3:21: an entry of `origins` is \"*\", which is no origin",
        ),
        (
            "cors = { origins = 'null' }",
            "3:20: `origins` is \"null\", which is no origin",
        ),
        (
            "cors = { origins = '*', credentials = true }",
            "3:39: `credentials` for every origin would let any page act as its visitor",
        ),
        (
            "cors = { origins = '*', methods = ['put'] }",
            "3:36: an entry of `methods` is \"put\"",
        ),
        (
            "cors = { origins = '*', headers = ['a b'] }",
            "3:36: an entry of `headers` is \"a b\"",
        ),
        (
            "cors = { origins = '*', expose = '*' }",
            "3:34: `expose` is \"*\"",
        ),
        (
            "cors = { origins = '*', max_age = 600 }",
            "3:35: `max_age` is 600 without a unit",
        ),
        ("cors = { origin = '*' }", "3:8: `cors` without `origins`"),
    ]);
}

#[test]
fn what_has_moved_is_read_and_judged() {
    let http = web_server(
        "[[listener.redirect]]\nfrom = '/a'\nto = '/b'\n\
         [[listener.redirect]]\nhost = 'Old.Example'\nfrom = '/x/**'\nto = 'https://new.example/**'\nstatus = 308\n\
         [[listener.redirect]]\nfrom = '*.php'\nto = '/'\nstatus = 0x12e",
    );
    let [one, two, three] = &http.redirects[..] else {
        panic!("{:?}", http.redirects)
    };
    assert_eq!((&one.host, one.status.code()), (&None, 301));
    assert_eq!(
        (two.host.as_deref(), two.status.code()),
        (Some("old.example"), 308)
    );
    assert_eq!(two.from, "/x/**".parse().unwrap());
    assert_eq!(two.to, "https://new.example/**".parse().unwrap());
    assert_eq!(three.status.code(), 302);
    refused(&[
        ("redirect = 'x'", "3:12: `redirect` is a string"),
        (
            "redirect = [{ from = '/a' }]",
            "3:13: a redirect without `to`",
        ),
        (
            "redirect = [{ to = '/a' }]",
            "3:13: a redirect without `from`",
        ),
        (
            "redirect = [{ from = 'a', to = '/b' }]",
            "3:22: `from` is \"a\", which does not begin with a slash",
        ),
        (
            "redirect = [{ from = '/a', to = 'b' }]",
            "3:33: `to` is \"b\", which is neither a path nor a URL",
        ),
        (
            "redirect = [{ from = '/a', to = '/b', status = 304 }]",
            "3:48: `status` is 304",
        ),
        (
            "redirect = [{ from = '/a', to = '/b', host = 'a:1' }]",
            "3:46: `host` is \"a:1\"",
        ),
        (
            "redirect = [{ from = '/a', to = '/b', code = 301 }]",
            "3:39: unknown key `code`",
        ),
        (
            "redirect = [{ from = '/a', to = '/b/**' }]",
            "3:33: `to` has a `**` for which `from` has none",
        ),
        (
            "redirect = [{ from = '/a', to = '/a' }]",
            "3:33: `to` leads in a circle, from /a to /a",
        ),
    ]);
}

#[test]
fn redirects_in_a_circle_are_refused_where_they_stand() {
    let wrong = problems(
        "[[listener]]\nkind = 'http'\nbind = '127.0.0.1:8080'\n\
         [[listener.redirect]]\nfrom = '/fine'\nto = '/a'\n\
         [[listener.redirect]]\nfrom = '/a/**'\nto = '/b/**'\n\
         [[listener.redirect]]\nfrom = '/b/**'\nto = 'http://localhost:8080/a/**'\n\
         [[listener.site]]\nhost = 'localhost'\nroot = 'x'",
    );
    let lines: Vec<_> = wrong.lines().collect();
    let [one, two, three] = lines[..] else {
        panic!("{wrong}")
    };
    assert!(one.starts_with("conf/x.toml:6:6: `to` leads in a circle, from /fine to /a to /b/"));
    assert!(two.starts_with("conf/x.toml:9:6: `to` leads in a circle, from /a/ to /b/ to http:"));
    assert!(three.starts_with("conf/x.toml:12:6: `to` leads in a circle"));
    for (bind, port, is_here) in [
        ("['127.0.0.1:8080', '*:8081']", 8081, true),
        ("['127.0.0.1:8080', '*:8081']", 8080, true),
        ("['127.0.0.1:8080', '*:8081']", 6789, false),
        ("'unix:/x/y:8080'", 6789, false),
    ] {
        let text = format!(
            "[[listener]]\nkind = 'http'\nbind = {bind}\n\
             redirect = [{{ from = '/**', to = 'http://h:{port}/**', host = 'h' }}]"
        );
        assert_eq!(parse(&text).is_err(), is_here, "{text}");
    }
    let default = "[[listener]]\nkind = 'http'\n\
                   redirect = [{ from = '/**', to = 'http://h:6789/**', host = 'h' }]";
    assert!(problems(default).contains("in a circle"));
    // Over TLS, `http` is another listener.
    let elsewhere = "[[listener]]\nkind = 'http'\nredirect = [{ from = '/**', to = 'http://h/**', host = 'h' }]";
    assert!(problems(elsewhere).contains("in a circle"));
    let elsewhere = elsewhere.replace("http://", "https://");
    assert!(parse(&elsewhere).is_ok());
}

#[test]
fn unknown_and_missing_kinds_are_refused() {
    let wrong = problems("[[listener]]\nkind = 'htp'\n[[listener]]\nbind = '127.0.0.1:1'");
    let expected = "conf/x.toml:2:8: `kind` is \"htp\", probably meant as \"http\"; expected";
    assert!(wrong.starts_with(expected), "{wrong}");
    assert!(
        wrong.contains("\nconf/x.toml:3:1: a [[listener]] without `kind`; expected"),
        "{wrong}"
    );
    assert!(problems("listener = []").contains("`listener` is empty"));
    assert!(problems("[listener]\nkind = 'http'").contains("1:1: `listener` is a table"));
}

#[test]
fn duplicate_binds_and_names_are_refused() {
    let http = |bind: &str, name: &str| {
        format!("[[listener]]\nkind = 'http'\nbind = '{bind}'\nname = '{name}'\n")
    };
    let wrong = problems(&format!(
        "{}{}",
        http("127.0.0.1:80", "a"),
        http("127.0.0.1:80", "a")
    ));
    assert_eq!(
        wrong,
        "conf/x.toml:7:8: the address 127.0.0.1:80 is taken by listener \"a\" (line 3); \
         expected another `bind`\n\
         conf/x.toml:8:8: the name \"a\" is taken (line 4); expected another `name`"
    );
    parse(&format!(
        "{}{}",
        http("127.0.0.1:0", "a"),
        http("127.0.0.1:0", "b")
    ))
    .unwrap();
    // Two of one kind at their default address collide as well.
    assert!(problems("[[listener]]\nkind='http'\n[[listener]]\nkind='http'").contains(":3:1:"));
}

#[test]
fn a_secret_handshake_needs_a_secret() {
    let wrong = problems("[[listener]]\nkind = 'upload'\n");
    assert!(
        wrong.starts_with("conf/x.toml:1:1: handshake \"hmac-md5\" has no secret"),
        "{wrong}"
    );
    let wrong = problems("[[listener]]\nkind = 'upload'\nhandshake = 'sha1'");
    assert!(
        wrong.starts_with("conf/x.toml:3:13: handshake \"sha1\" has no secret"),
        "{wrong}"
    );
    let wrong = problems("[[listener]]\nkind = 'upload'\nhandshake = 'md5'");
    assert_eq!(wrong.lines().count(), 1, "{wrong}");
    let wrong = problems("[[listener]]\nkind = 'upload'\nsecret = ''");
    assert_eq!(
        wrong,
        "conf/x.toml:3:10: `secret` is empty; expected a text that is not empty"
    );
    let wrong = problems("[[listener]]\nkind = 'upload'\nsecret_file = 'missing'");
    assert!(
        wrong.starts_with("conf/x.toml:3:15: `secret_file` names conf/missing: "),
        "{wrong}"
    );
}

#[test]
fn a_secret_file_loses_its_last_newline() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("secret"), "tiger \r\n").unwrap();
    let users = "ann|c29ea9a1ab8ef6ca0f3ee3bbbdbda2b5\n";
    fs::write(folder.path().join("users"), users).unwrap();
    let file = folder.path().join("x.toml");
    fs::write(
        &file,
        "[[listener]]\nkind = 'upload'\nsecret_file = 'secret'\nlogin = 'users'",
    )
    .unwrap();
    let config = Config::load(Some(&file), &Overrides::default()).unwrap();
    let Kind::Upload(upload) = &config.listeners[0].kind else {
        panic!()
    };
    assert_eq!(upload.secret.secret().expose(), b"tiger ");
    assert_eq!(upload.login.as_ref().unwrap().len(), 1);
    assert!(!format!("{config:?}").contains("tiger"));
}

#[test]
fn a_wrong_user_file_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), "# staff\nann|00\n").unwrap();
    let text = "[[listener]]\nkind = 'upload'\nsecret = 'x'\nlogin = 'users'";
    let file = folder.path().join("x.toml");
    let wrong = Config::parse(text, &file, &Overrides::default())
        .unwrap_err()
        .to_string();
    let users = folder.path().join("users");
    assert!(
        wrong.contains(&format!(
            ":4:9: `login` names {}: line 2: the hash of \"ann\" is not 32",
            users.display()
        )),
        "{wrong}"
    );
}

#[test]
fn two_secrets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("s"), "tiger").unwrap();
    let text = "[[listener]]\nkind = 'upload'\nsecret = 'x'\nsecret_file = 's'";
    let file = folder.path().join("x.toml");
    let wrong = Config::parse(text, &file, &Overrides::default())
        .unwrap_err()
        .to_string();
    assert!(
        wrong.contains(":4:15: `secret_file` is given beside `secret`"),
        "{wrong}"
    );
}

#[test]
fn listeners_that_share_a_cache_folder_share_its_limit() {
    let proxy = |port: u16, more: &str| {
        format!("[[listener]]\nkind='proxy'\nbind='127.0.0.1:{port}'\ncache_dir='c'\n{more}\n")
    };
    let config = parse(&format!(
        "{}{}",
        proxy(1, ""),
        proxy(2, "cache_max_bytes = '1MB'")
    ))
    .unwrap();
    for listener in config.listeners {
        let Kind::Proxy(proxy) = listener.kind else {
            panic!()
        };
        let dir = PathBuf::from("conf/c");
        assert_eq!(
            proxy.cache,
            Cache::On {
                dir,
                bytes_max: 1_000_000,
                limits: CacheLimits::default(),
                rules: RuleBook::default(),
                purge_from: Vec::new(),
            }
        );
    }
    let wrong = problems(&format!(
        "{}{}",
        proxy(1, "cache_max_bytes = 1"),
        proxy(2, "cache_max_bytes = 2")
    ));
    assert!(
        wrong.starts_with("conf/x.toml:10:19: `cache_max_bytes` is 2 for a folder"),
        "{wrong}"
    );
}

#[test]
fn what_is_decided_about_responses_is_read_and_judged() {
    let Kind::Proxy(proxy) = kind(
        "kind = 'proxy'\ncache_heuristic_percent = 20\ncache_heuristic_max = '1h'\n\
        cache_lifetime_max = '30d'\ncache_stale_if_unreachable = '0s'\npurge_from = '127.0.0.1'\n\
        refresh = [{ match = '*.css', minimum = '1m', ignore = ['no-store', 'private'] },\n\
        { match = 'http://a.test/**', maximum = '5s' }]",
    ) else {
        panic!()
    };
    let rules = proxy.cache.rules();
    let rest = rules.rest;
    assert_eq!((rest.heuristic_percent, rest.heuristic_max_s), (20, 3600));
    assert_eq!(
        (rest.lifetime_max_s, rest.stale_if_unreachable_s),
        (2_592_000, 0)
    );
    let style = rules.of(b"GET http://b.test/x/a.css?1");
    assert_eq!((style.lifetime_min_s, style.heuristic_percent), (60, 20));
    assert!(style.ignore.no_store && style.ignore.private && !style.ignore.no_cache);
    assert_eq!(rules.of(b"GET http://a.test/x").lifetime_max_s, 5);
    assert_eq!(rules.of(b"GET http://b.test/x"), &rest);
    let Cache::On { purge_from, .. } = proxy.cache else {
        panic!()
    };
    assert_eq!(purge_from, ["127.0.0.1/32".parse().unwrap()]);
    for (lines, what) in [
        ("refresh = [{ minimum = '1s' }]", "without `match`"),
        ("refresh = [{ match = '' }]", "is empty"),
        (
            "refresh = [{ match = '*', minimum = '2s', maximum = '1s' }]",
            "more than `maximum`",
        ),
        (
            "refresh = [{ match = '*', ignore = ['vary'] }]",
            "is \"vary\"; expected one of",
        ),
        (
            "refresh = [{ match = '*', min = '1s' }]",
            "unknown key `min`",
        ),
        ("cache_heuristic_percent = 101", "is 101"),
        ("purge_from = ['x']", "is \"x\""),
    ] {
        let wrong = problems(&format!("[[listener]]\nkind = 'proxy'\n{lines}\n"));
        assert!(wrong.contains(what), "{lines}: {wrong}");
    }
}

#[test]
fn text_that_is_not_toml_is_refused() {
    let wrong = problems("a = 1\na = 2\nb = \n[x\n");
    assert!(
        wrong.contains("conf/x.toml:2:1: duplicate key; expected TOML"),
        "{wrong}"
    );
    assert!(wrong.lines().count() >= 2, "{wrong}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    fs::write(&file, b"a = 1\nb = '\xff'\n").unwrap();
    let wrong = Config::load(Some(&file), &Overrides::default()).unwrap_err();
    assert_eq!(wrong.0[0].place, Some(Place { line: 2, column: 6 }));
    let wrong = Config::load(Some(folder.path()), &Overrides::default()).unwrap_err();
    assert_eq!(wrong.0[0].place, None);
}

/// What is read with the file may be read again: a sandbox has to know of it.
#[test]
fn files_of_secrets_are_among_those_that_the_file_names() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netlab.toml");
    fs::write(
        &file,
        "[[listener]]\nkind = 'upload'\nsecret_file = 'secret'\n\
         [[listener]]\nkind = 'admin'\ntoken_file = 'token'\n\
         [[listener]]\nkind = 'http'\nroot = '.'\n\
         route = [{ prefix = '/livez/', admin = true, token_file = 'token-of-route' }]\n",
    )
    .unwrap();
    let named = ["secret", "token", "token-of-route"].map(|name| folder.path().join(name));
    for path in &named {
        fs::write(path, "tulip").unwrap();
    }
    let config = Config::load(Some(&file), &Overrides::default()).unwrap();
    for path in &named {
        assert!(
            config.files.contains(path),
            "{}: {:?}",
            path.display(),
            config.files
        );
    }
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let file = Path::new("");
    let from_example = Config::parse(example(), file, &Overrides::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let mut default = Config::without_a_file(&Overrides::default()).unwrap();
    for listener in &mut default.listeners {
        if let Kind::Upload(upload) = &mut listener.kind {
            upload.secret = SecretSource::Given(Secret::from("change me"));
        }
    }
    assert!(from_example.files.is_empty() || from_example.files == [file]);
    default.files.clone_from(&from_example.files);
    assert_eq!(from_example, default);

    // Each part of the example has each key of its table, some of them behind a `# `.
    let parts: Vec<Vec<&str>> = example()
        .split("\n[")
        .map(|part| {
            let key = |line: &'static str| {
                let (key, _) = line.trim_start_matches("# ").split_once(" =")?;
                key.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                    .then_some(key)
            };
            part.lines().filter_map(key).collect()
        })
        .collect();
    let around = Surroundings::live();
    let folders = Folders::of(file, &around);
    let empty = DeTable::new();
    let mut known = vec![vec!["drain_timeout", "user", "group"]];
    let mut section = Section::new(&empty, 0..0, &folders);
    read_log(&mut Settings::default(), &mut section);
    known.push(std::mem::take(&mut section.known));
    SandboxConfig::default().read(&mut section);
    known.push(std::mem::take(&mut section.known));
    ResolverConfig::default().read(&mut section);
    known.push(std::mem::take(&mut section.known));
    Limits::default().read(&mut section);
    known.push(std::mem::take(&mut section.known));
    DiskLimits::default().read(&mut section);
    known.push(std::mem::take(&mut section.known));
    Limits::default().read_trace(&mut section);
    known.push(section.known);
    known.extend(KINDS.iter().map(|row| {
        let mut keys = vec!["kind", "bind", "name"];
        keys.extend(listener_keys(row));
        keys
    }));
    assert_eq!(parts.len(), known.len());
    for (mut part, mut known) in parts.into_iter().zip(known) {
        part.sort_unstable();
        known.sort_unstable();
        assert_eq!(part, known);
    }
}
