//! The units with which systemd runs the program (`man 5 systemd.service`, `systemd.socket`,
//! `systemd.exec`): a service that may do what its configuration needs and nothing else, and the
//! sockets of its listeners.
//!
//! Rules:
//! - Pure: from a configuration, whose paths are absolute, to text. Nothing is looked up.
//! - What a unit allows follows from the configuration; what it forbids does not depend on it.
//! - One socket unit has one name for all its sockets, so the listeners find theirs by address: those
//!   at port 0 have none there.
//!
//! Not here: commands that listeners run (`on_stored`, `on_change`); they live in the sandbox of the
//! service, and what they need beyond it is for the administrator to add.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::descriptors;
use crate::config::{
    self, AccessLog, Bind, Cache, Config, HttpConfig, Kind, ListenerConfig, ProxyConfig,
    SiteContent,
};

/// Time beyond that of the drain and of the last jobs, after which systemd kills the process.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// Within what time the loop must show that it turns.
const WATCHDOG: Duration = Duration::from_secs(30);
/// Ports below this one are for who has CAP_NET_BIND_SERVICE (`ip_unprivileged_port_start`).
pub(super) const FREE_PORTS: u16 = 1024;

/// What is not in the configuration.
#[derive(Clone, Debug)]
pub struct UnitOptions {
    /// The program, by its absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// The name of the units, without its ending.
    pub name: String,
    /// The user and group that it runs as.
    pub user: String,
    /// systemd opens the sockets.
    pub with_socket: bool,
    /// The folder in which a proxy keeps what it fetched unless it is told another one.
    pub default_cache: PathBuf,
}

/// The text of both units; no socket unit where there is nothing to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Units {
    /// `NAME.service`.
    pub service: String,
    /// `NAME.socket`.
    pub socket: Option<String>,
}

/// The units for a configuration.
pub fn units(config: &Config, options: &UnitOptions) -> Units {
    let opened = |(_, bind): &(&ListenerConfig, &Bind)| options.with_socket && is_fixed(bind);
    let (given, own): (Vec<_>, Vec<_>) = config::addresses(&config.listeners).partition(opened);
    let given: Vec<&Bind> = given.into_iter().map(|(_, bind)| bind).collect();
    let own: Vec<&Bind> = own.into_iter().map(|(_, bind)| bind).collect();
    Units {
        service: service(config, options, &own, !given.is_empty()),
        socket: (!given.is_empty()).then(|| socket(config, options, &given)),
    }
}

/// Whether an address is known before it is bound, and can stand in a unit.
fn is_fixed(bind: &Bind) -> bool {
    match bind {
        Bind::Tcp(address) | Bind::Udp(address) => address.port() != 0,
        Bind::Unix(path) => path
            .to_str()
            .is_some_and(|path| !path.contains(char::is_control)),
    }
}

fn service(config: &Config, options: &UnitOptions, own: &[&Bind], has_socket: bool) -> String {
    let mut unit = String::new();
    let mut line = |text: &str| {
        unit.push_str(text);
        unit.push('\n');
    };
    let UnitOptions { name, user, .. } = options;
    line("[Unit]");
    line("Description=netlab-reactor, servers on one event loop");
    line("After=network.target");
    if has_socket {
        line(&format!("Requires={name}.socket\nAfter={name}.socket"));
    }
    line("\n[Service]\nType=notify\nNotifyAccess=main");
    let words = [options.program.to_string_lossy().into_owned()];
    let words = words.iter().chain(&options.arguments);
    let command: Vec<String> = words.map(|word| quoted(word).replace('$', "$$")).collect();
    line(&format!("ExecStart={}", command.join(" ")));
    line("ExecReload=/bin/kill -HUP $MAINPID");
    line("Restart=on-failure\nRestartPreventExitStatus=78");
    line(&format!("WatchdogSec={}", WATCHDOG.as_secs()));
    let limits = &config.limits;
    let stop = limits.drain_timeout + limits.last_jobs_timeout + STOP_MARGIN;
    line(&format!("TimeoutStopSec={}", stop.as_secs_f64().ceil()));
    line(&format!("LimitNOFILE={}", descriptors::wanted(config)));
    line(&format!("User={user}\nGroup={user}\nUMask=0027"));
    line("\n# What it may write, and see.\nProtectSystem=strict");
    let written = written(config, own);
    let in_own_cache = |path: &&PathBuf| **path == options.default_cache;
    if written.iter().any(|path| in_own_cache(&path)) {
        line("CacheDirectory=netlab-reactor\nEnvironment=XDG_CACHE_HOME=/var/cache");
    }
    let mut paths = written.iter().filter(|path| !in_own_cache(path)).peekable();
    if paths.peek().is_some() {
        line("# These have to be there, and to belong to the user.");
    }
    for path in paths {
        line(&format!(
            "ReadWritePaths={}",
            quoted(&path.to_string_lossy())
        ));
    }
    let mut named = named(config, &options.arguments);
    named.extend(written);
    line(&homes_and_tmp(&named));
    line(CAGE.trim_end());
    let needs_port = |bind: &&&Bind| match bind {
        Bind::Tcp(address) | Bind::Udp(address) => (1..FREE_PORTS).contains(&address.port()),
        Bind::Unix(_) => false,
    };
    match own.iter().any(|bind| needs_port(&bind)) {
        true => line(
            "AmbientCapabilities=CAP_NET_BIND_SERVICE\nCapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        ),
        false => line("CapabilityBoundingSet="),
    }
    line("\n[Install]\nWantedBy=multi-user.target");
    if has_socket {
        line(&format!("Also={name}.socket"));
    }
    unit
}

/// What no configuration needs. `@aio` has the calls of io_uring, `@system-service` all others that
/// the program makes (`systemd-analyze syscall-filter`).
const CAGE: &str = "\
PrivateDevices=yes
ProtectProc=invisible
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes

# What it may do.
NoNewPrivileges=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service @aio
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
";

/// Homes and the folders for temporary files are hidden, unless the configuration names something
/// there.
fn homes_and_tmp(named: &BTreeSet<PathBuf>) -> String {
    let is_below = |roots: &[&str]| {
        let mut paths = named.iter();
        paths.any(|path| roots.iter().any(|root| path.starts_with(root)))
    };
    let homes = match is_below(&["/home", "/root", "/run/user"]) {
        true => "read-only",
        false => "yes",
    };
    let tmp = match is_below(&["/tmp", "/var/tmp"]) {
        true => "# The configuration names something below /tmp.\nPrivateTmp=no",
        false => "PrivateTmp=yes",
    };
    format!("ProtectHome={homes}\n{tmp}")
}

/// The folders that the process writes to.
pub(super) fn written(config: &Config, own: &[&Bind]) -> BTreeSet<PathBuf> {
    let mut all = BTreeSet::new();
    for listener in &config.listeners {
        match &listener.kind {
            Kind::Upload(upload) => _ = all.insert(upload.dir.clone()),
            Kind::Proxy(proxy) => written_by_proxy(proxy, &mut all),
            Kind::Http(http) => written_by_http(http, &mut all),
            Kind::Admin(admin) => written_by_http(&admin.http, &mut all),
            _ => {}
        }
    }
    for bind in own {
        if let Bind::Unix(path) = bind {
            all.extend(path.parent().map(Path::to_owned));
        }
    }
    all
}

fn written_by_proxy(proxy: &ProxyConfig, all: &mut BTreeSet<PathBuf>) {
    if let Cache::On { dir, .. } = &proxy.cache {
        all.insert(dir.clone());
    }
    written_by_http(&proxy.http, all);
}

fn written_by_http(http: &HttpConfig, all: &mut BTreeSet<PathBuf>) {
    if let Some(AccessLog::Path(path)) = &http.access_log {
        all.extend(path.parent().map(Path::to_owned));
    }
    for site in &http.sites {
        if let SiteContent::Upstream(proxy) = &site.content {
            written_by_proxy(proxy, all);
        }
    }
}

/// What else the process is told to look at: served folders and the configuration. Certificates
/// and files of users are read where they stand, most often below /etc.
fn named(config: &Config, arguments: &[String]) -> BTreeSet<PathBuf> {
    let mut all: BTreeSet<PathBuf> = arguments.iter().map(PathBuf::from).collect();
    for listener in &config.listeners {
        let (Kind::Http(http) | Kind::Proxy(ProxyConfig { http, .. })) = &listener.kind else {
            continue;
        };
        all.extend(http.root.clone());
        for site in &http.sites {
            if let SiteContent::Files { root, .. } = &site.content {
                all.insert(root.clone());
            }
        }
    }
    all
}

fn socket(config: &Config, options: &UnitOptions, given: &[&Bind]) -> String {
    let mut unit = String::from("[Unit]\nDescription=Sockets of netlab-reactor\n\n[Socket]\n");
    for bind in given {
        // Writing to a string does not fail.
        let _ = match bind {
            Bind::Tcp(address) => writeln!(unit, "ListenStream={address}"),
            Bind::Udp(address) => writeln!(unit, "ListenDatagram={address}"),
            Bind::Unix(path) => {
                let path = path.to_string_lossy().replace('%', "%%");
                writeln!(unit, "ListenStream={path}")
            }
        };
    }
    let _ = write!(
        unit,
        "BindIPv6Only=default\nBacklog={}\nService={}.service\n\n[Install]\nWantedBy=sockets.target\n",
        config.limits.backlog, options.name
    );
    unit
}

/// A word of a unit, as `man 7 systemd.syntax` quotes it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' => out.push_str("%%"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn of(config: &str, with_socket: bool) -> Units {
        let file = Path::new("/etc/netlab/netlab.toml");
        let config = Config::parse(config, file, &Overrides::default()).expect("it is right");
        units(
            &config,
            &UnitOptions {
                program: "/usr/bin/netlab-reactor".into(),
                arguments: vec!["serve".into(), "--config".into(), "/etc/a b%$.toml".into()],
                name: "lab".into(),
                user: "lab".into(),
                with_socket,
                default_cache: "/root/.cache/netlab-reactor/cache".into(),
            },
        )
    }

    fn has(unit: &str, line: &str) -> bool {
        unit.lines().any(|own| own == line)
    }

    const ALL: &str = r#"
        drain_timeout = "20s"
        [limits]
        backlog = 99
        last_jobs_timeout = "2s"
        [[listener]]
        kind = "http"
        bind = ["127.0.0.1:80", "[::]:443", "unix:/run/lab/web.sock"]
        access_log = "/var/log/lab/access.log"
        [[listener]]
        kind = "udp-echo"
        bind = "127.0.0.1:7"
        [[listener]]
        kind = "upload"
        bind = "127.0.0.1:0"
        dir = "/srv/up loads"
        handshake = "none"
        [[listener]]
        kind = "proxy"
        cache_dir = "/var/cache/lab"
    "#;

    #[test]
    fn each_fixed_address_is_a_socket_and_needs_no_capability() {
        let units = of(ALL, true);
        let socket = units.socket.expect("there are some");
        for line in [
            "ListenStream=127.0.0.1:80",
            "ListenStream=[::]:443",
            "ListenStream=/run/lab/web.sock",
            "ListenDatagram=127.0.0.1:7",
            "ListenStream=127.0.0.1:8888",
            "Backlog=99",
            "Service=lab.service",
        ] {
            assert!(has(&socket, line), "{line}: {socket}");
        }
        assert_eq!(socket.matches("Listen").count(), 5, "not the one at port 0");
        let service = units.service;
        for line in [
            "Type=notify",
            "Requires=lab.socket",
            "ExecStart=/usr/bin/netlab-reactor serve --config \"/etc/a b%%$$.toml\"",
            "WatchdogSec=30",
            "TimeoutStopSec=27",
            "ReadWritePaths=\"/srv/up loads\"",
            "ReadWritePaths=/var/cache/lab",
            "ReadWritePaths=/var/log/lab",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
            "CapabilityBoundingSet=",
        ] {
            assert!(has(&service, line), "{line}: {service}");
        }
        assert_eq!(service.matches("ReadWritePaths").count(), 3);
    }

    #[test]
    fn without_a_socket_unit_low_ports_need_the_capability_and_paths_their_folder() {
        let units = of(ALL, false);
        assert_eq!(units.socket, None);
        let service = units.service;
        assert!(has(&service, "CapabilityBoundingSet=CAP_NET_BIND_SERVICE"));
        assert!(has(&service, "AmbientCapabilities=CAP_NET_BIND_SERVICE"));
        assert!(has(&service, "ReadWritePaths=/run/lab"));
        assert!(!service.contains("lab.socket"));
        let high = of("[[listener]]\nkind = \"hello\"\n", false).service;
        assert!(has(&high, "CapabilityBoundingSet="));
    }

    #[test]
    fn what_is_named_below_homes_and_tmp_can_be_seen() {
        let root = |root: &str| {
            let config = format!("[[listener]]\nkind = \"http\"\nroot = \"{root}\"\n");
            of(&config, true).service
        };
        assert!(has(&root("/srv/www"), "ProtectHome=yes"));
        assert!(has(&root("/home/ann/www"), "ProtectHome=read-only"));
        assert!(has(&root("/tmp/www"), "PrivateTmp=no"));
        assert!(has(&root("/tmpfiles"), "PrivateTmp=yes"));
    }

    #[test]
    fn the_default_cache_becomes_that_of_the_service() {
        let config =
            "[[listener]]\nkind = \"proxy\"\ncache_dir = \"/root/.cache/netlab-reactor/cache\"\n";
        let service = of(config, true).service;
        assert!(has(&service, "CacheDirectory=netlab-reactor"));
        assert!(has(&service, "Environment=XDG_CACHE_HOME=/var/cache"));
        assert!(!service.contains("ReadWritePaths"));
    }
}
