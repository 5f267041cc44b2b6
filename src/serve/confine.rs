//! The process as who and where it is to be: ports below 1024 first, then another user, then, once
//! everything is open, no more of the file system than the configuration names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::ServeError;
use super::unit::{FREE_PORTS, written};
use crate::config::{
    self, Bind, Config, HttpConfig, Kind, Landlock, Nameservers, ProxyConfig, SiteContent,
};
use crate::sys::unix::{Given, Identity, Reach, Sandbox};

/// What the process itself reads beside what is configured: how it is, this start of the system,
/// the machine's interfaces, and whom the system trusts.
const OWN: &[&str] = &[
    "/proc/self",
    "/proc/sys/kernel/random/boot_id",
    "/sys/class/net",
    "/sys/devices",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/lib/ssl",
    "/usr/local/share/ca-certificates",
    "/usr/share/ca-certificates",
];

/// What commands need to be run at all.
const SYSTEM: &[&str] = &[
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/sbin",
    "/usr",
    "/nix/store",
];

/// Opens what only root may and becomes whom the configuration names.
///
/// # Errors
/// Whom nobody knows, a port in use, or a process that may not change.
pub(super) fn assume_user(config: &Config, mut given: Given) -> Result<Given, ServeError> {
    let Some(user) = &config.run_as.user else {
        return Ok(given);
    };
    let refused = ServeError::Confined;
    let identity = Identity::find(user, config.run_as.group.as_deref()).map_err(refused)?;
    if identity.is_current() {
        return Ok(given);
    }
    for (listener, bind) in config::addresses(&config.listeners).filter(|(_, at)| is_low(at)) {
        given
            .open(
                super::address(bind),
                listener.kind.stream().is_some(),
                config.limits.backlog,
            )
            .map_err(|error| super::refused(listener, bind, error))?;
    }
    identity.assume().map_err(refused)?;
    log::info!("the process is {identity} from now on");
    Ok(given)
}

/// Ports that are for root.
pub(super) fn is_low(bind: &Bind) -> bool {
    match bind {
        Bind::Tcp(address) | Bind::Udp(address) => (1..FREE_PORTS).contains(&address.port()),
        Bind::Unix(_) => false,
    }
}

/// Keeps the process to what its configuration names, if that is asked for.
///
/// # Errors
/// It is to be kept, and the kernel does not.
pub(super) fn enter(config: &Config) -> Result<Option<Sandbox>, ServeError> {
    let mode = config.sandbox.landlock;
    if mode == Landlock::Off {
        return Ok(None);
    }
    let refused = |why: String| match mode {
        Landlock::On => Err(ServeError::Confined(format!(
            "[sandbox]: landlock = \"on\", but {why}; expected a kernel that has it, or \"auto\""
        ))),
        Landlock::Auto | Landlock::Off => {
            log::warn!("[sandbox]: {why}: the process is not kept to its files");
            Ok(None)
        }
    };
    let sandbox = match Sandbox::enter(&reach(config)) {
        Ok(Some(sandbox)) => sandbox,
        Ok(None) => return refused("the kernel has no Landlock".to_owned()),
        Err(error) => return refused(format!("Landlock: {error}")),
    };
    log::info!("[sandbox]: the process is kept to its files by Landlock");
    if !sandbox.unkept.is_empty() {
        let unkept = sandbox.unkept.join(", ");
        log::warn!("[sandbox]: the kernel is too old to keep it from {unkept} elsewhere");
    }
    for path in &sandbox.missing {
        log::warn!(
            "[sandbox]: {} is not there, and not granted",
            path.display()
        );
    }
    Ok(Some(sandbox))
}

/// Why a process cannot go over to another configuration, a line each.
pub(super) fn objections(sandbox: &Option<Sandbox>, next: &Config) -> Vec<String> {
    let Some(sandbox) = sandbox else {
        return Vec::new();
    };
    let told = |path: PathBuf| {
        let path = path.display();
        format!("{path} was not granted at the start (table [sandbox]); a restart grants it")
    };
    sandbox
        .refused(&reach(next))
        .into_iter()
        .map(told)
        .collect()
}

/// What holds until a restart, of the keys about this; the log tells what that changes.
pub(super) fn until_a_restart(was: &Config, next: &mut Config) {
    if was.run_as != next.run_as {
        log::warn!("`user` and `group` stay as they were; others need a restart");
        next.run_as = was.run_as.clone();
    }
    if was.sandbox.landlock != next.sandbox.landlock {
        log::warn!("[sandbox]: `landlock` stays as it was; a change needs a restart");
        next.sandbox.landlock = was.sandbox.landlock;
    }
}

/// All that a configuration needs of the file system. Files are granted with their folders, since
/// they are replaced by others of their name.
fn reach(config: &Config) -> Reach {
    let all: Vec<&Bind> = config::addresses(&config.listeners)
        .map(|(_, at)| at)
        .collect();
    let mut reach = Reach {
        write: written(config, &all),
        ..Reach::default()
    };
    reach.write.extend(config.sandbox.write.iter().cloned());
    reach.write.insert("/dev/null".into());
    reach.read.extend(config.sandbox.read.iter().cloned());
    let names = &config.resolver;
    let mut files = config.files.clone();
    files.push(names.hosts.clone());
    if let Nameservers::System(path) = &names.nameservers {
        files.push(path.clone());
    }
    reach
        .read
        .extend(std::env::var_os("SSL_CERT_DIR").map(PathBuf::from));
    files.extend(std::env::var_os("SSL_CERT_FILE").map(PathBuf::from));
    for file in &files {
        // A link and what it leads to may both be replaced.
        let led_to = file.canonicalize().ok();
        let folders = [Some(file), led_to.as_ref()].into_iter().flatten();
        reach.read.extend(folders.map(|file| folder_of(file)));
    }
    for listener in &config.listeners {
        let read = &mut reach.read;
        match &listener.kind {
            Kind::Http(http) => read_by_http(http, read),
            Kind::Proxy(proxy) => read_by_http(&proxy.http, read),
            Kind::Admin(admin) => read_by_http(&admin.http, read),
            _ => {}
        }
    }
    reach.execute.extend(config.sandbox.execute.iter().cloned());
    for program in programs(config).filter(|program| program.contains('/')) {
        reach.execute.insert(folder_of(Path::new(program)));
    }
    let (commands, own): (Vec<PathBuf>, Vec<PathBuf>) =
        system(config).partition(|path| SYSTEM.iter().any(|own| path == Path::new(own)));
    reach.execute.extend(commands);
    reach.read.extend(own);
    reach
}

/// What every process, and every process with commands, needs where it is there.
fn system(config: &Config) -> impl Iterator<Item = PathBuf> {
    let has_commands = programs(config).next().is_some();
    let commands = SYSTEM.iter().filter(move |_| has_commands);
    let all = OWN.iter().chain(commands).map(PathBuf::from);
    all.filter(|path| path.exists())
}

/// The programs that listeners run.
fn programs(config: &Config) -> impl Iterator<Item = &str> {
    let hooks = config
        .listeners
        .iter()
        .filter_map(|listener| match &listener.kind {
            Kind::Upload(upload) => upload.on_stored.as_ref(),
            Kind::UdpHeartbeat(heartbeat) => heartbeat.on_change.as_ref(),
            _ => None,
        });
    hooks.map(|hook| &*hook.command[0])
}

fn read_by_http(http: &HttpConfig, all: &mut BTreeSet<PathBuf>) {
    all.extend(http.root.clone());
    all.extend(http.files.error_root.clone());
    for site in &http.sites {
        match &site.content {
            SiteContent::Files { root, .. } => _ = all.insert(root.clone()),
            SiteContent::Upstream(proxy) => {
                let ProxyConfig { http, .. } = &**proxy;
                read_by_http(http, all);
            }
            SiteContent::Admin(_) | SiteContent::Probe => {}
        }
        let files = site.content.files();
        all.extend(files.and_then(|files| files.error_root.clone()));
    }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(folder) if folder != Path::new("") => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;

    fn parsed(text: &str) -> Config {
        let file = Path::new("/lab/netlab.toml");
        Config::parse(text, file, &Overrides::default()).unwrap_or_else(|wrong| panic!("{wrong}"))
    }

    #[test]
    fn a_process_reaches_what_its_configuration_names() {
        let config = parsed(
            "[sandbox]\nread = 'more'\nexecute = ['/opt/lab']\n\
             [[listener]]\nkind = 'http'\nroot = 'site'\nerror_root = 'errors'\naccess_log = '/log/web/access.log'\n\
             [[listener.route]]\nprefix = '/docs/'\nroot = '/docs'\n\
             [[listener]]\nkind = 'upload'\nhandshake = 'none'\ndir = 'in'\non_stored = ['./scan', '-q']\n\
             [[listener]]\nkind = 'proxy'\ncache_dir = '/cache'\n\
             [[listener]]\nkind = 'hello'\nbind = 'unix:/run/lab/hello.sock'\n",
        );
        let reach = reach(&config);
        let has = |set: &BTreeSet<PathBuf>, path: &str| set.contains(Path::new(path));
        for path in [
            "/lab",
            "/lab/site",
            "/lab/errors",
            "/docs",
            "/lab/more",
            "/etc",
        ] {
            assert!(has(&reach.read, path), "{path}");
        }
        for path in ["/log/web", "/lab/in", "/cache", "/run/lab", "/dev/null"] {
            assert!(has(&reach.write, path), "{path}");
        }
        for path in ["/lab/.", "/opt/lab", "/usr"] {
            assert!(has(&reach.execute, path), "{path}");
        }
        assert!(!has(&reach.read, "/") && !has(&reach.write, "/lab"));
        let without = parsed("[[listener]]\nkind = 'tcp-echo'\n");
        assert!(super::reach(&without).execute.is_empty(), "nothing is run");
    }
}
