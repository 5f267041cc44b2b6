//! Where the settings of a resolver come from: the configuration, and the files that it names.
//!
//! Two rules: what the configuration says goes before the options of `resolv.conf`; and a
//! `resolv.conf` that is read again while names are asked for counts only if it names a server, since
//! one that was cut short or emptied would otherwise turn every name to this machine.
//!
//! Deliberately not here: reading the files (`serve`, and while the loop turns `reactor`).

use std::path::PathBuf;
use std::time::Duration;

use super::{Config, ResolvConf};

/// What the configuration says, and the files that say the rest.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The file that names the servers, in the format of `resolv.conf(5)`; `None` where the
    /// settings do.
    pub resolv_conf: Option<PathBuf>,
    /// The file of fixed names, in the format of `hosts(5)`.
    pub hosts: PathBuf,
    /// The settings where the file says nothing.
    pub settings: Config,
    /// Goes before the option of the file.
    pub attempts: Option<u32>,
    /// Goes before the option of the file.
    pub attempt_timeout: Option<Duration>,
    /// While names are asked for, the files are looked at for changes so often; zero for never.
    pub reread_interval: Duration,
}

impl Sources {
    /// Default of [`Sources::reread_interval`].
    pub const REREAD_INTERVAL: Duration = Duration::from_secs(5);

    /// The settings, with what is in `resolv_conf`, if there is such a file. `interface`: the number
    /// of a network interface by its name.
    pub fn config(&self, resolv_conf: &str, interface: impl FnMut(&str) -> Option<u32>) -> Config {
        let mut config = self.settings.clone();
        if self.resolv_conf.is_some() {
            ResolvConf::parse(resolv_conf, interface).apply(&mut config);
        }
        config.attempts = self.attempts.unwrap_or(config.attempts);
        config.attempt_timeout = self.attempt_timeout.unwrap_or(config.attempt_timeout);
        config
    }

    /// The same for a file that has changed; `None` if it names no server.
    pub fn config_again(
        &self,
        resolv_conf: &str,
        mut interface: impl FnMut(&str) -> Option<u32>,
    ) -> Option<Config> {
        let named = ResolvConf::parse(resolv_conf, &mut interface).nameservers;
        (!named.is_empty()).then(|| self.config(resolv_conf, interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources() -> Sources {
        Sources {
            resolv_conf: Some("/etc/resolv.conf".into()),
            hosts: "/etc/hosts".into(),
            settings: Config::default(),
            attempts: None,
            attempt_timeout: None,
            reread_interval: Sources::REREAD_INTERVAL,
        }
    }

    #[test]
    fn the_configuration_goes_before_the_options_of_the_file() {
        let text = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions attempts:3 timeout:5\n";
        let mut sources = sources();
        let config = sources.config(text, |_| None);
        assert_eq!(config.attempts, 2 * 3);
        assert_eq!(config.attempt_timeout, Duration::from_secs(5));
        sources.attempts = Some(1);
        sources.attempt_timeout = Some(Duration::from_millis(200));
        let config = sources.config(text, |_| None);
        assert_eq!(config.attempts, 1);
        assert_eq!(config.attempt_timeout, Duration::from_millis(200));
        assert_eq!(config.nameservers.len(), 2);
        sources.resolv_conf = None;
        assert!(sources.config(text, |_| None).nameservers.is_empty());
    }

    #[test]
    fn a_changed_file_without_a_server_says_nothing() {
        let sources = sources();
        for text in ["", "# nothing", "search a.test", "nameserver", "nameserv"] {
            assert_eq!(sources.config_again(text, |_| None), None, "{text}");
            assert!(
                !sources.config(text, |_| None).nameservers.is_empty(),
                "{text}"
            );
        }
        let config = sources
            .config_again("nameserver 192.0.2.1", |_| None)
            .expect("one");
        assert_eq!(config, sources.config("nameserver 192.0.2.1", |_| None));
    }
}
