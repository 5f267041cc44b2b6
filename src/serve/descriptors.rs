//! How many sessions the descriptors of the process are enough for.
//!
//! Where sessions could take them all, one client with idle connections to one listener would keep
//! everybody from every other, and what is under way would fail for want of a file. So there are no
//! more sessions than descriptors for them, and no client has more than a quarter of these.

use std::num::NonZero;

use crate::config::{Cache, Config, Kind, ProxyConfig};

/// How many descriptors a configuration may need.
pub(super) fn wanted(config: &Config) -> usize {
    let (reserved, each) = needs(config);
    reserved + each * (config.limits.sessions_max + config.limits.sessions_reserved)
}

/// Descriptors that are not for sessions, and those that a session takes.
fn needs(config: &Config) -> (usize, usize) {
    let kinds = || config.listeners.iter().map(|listener| &listener.kind);
    // Up to so many files are kept open, and connections to origins.
    let kept: usize = kinds()
        .map(|kind| match kind {
            Kind::Http(http) => http.open_files_max,
            Kind::Proxy(ProxyConfig {
                cache: Cache::On { limits, .. },
                ..
            }) => limits.open_files_max,
            _ => 0,
        })
        .sum();
    let has_proxies = kinds().any(|kind| matches!(kind, Kind::Proxy(_)));
    let has_uploads = kinds().any(|kind| matches!(kind, Kind::Upload(_)));
    let idle_upstreams = match has_proxies {
        true => config.limits.idle_upstreams_max,
        false => 0,
    };
    // Tunnels and uploads take pipes, which have two ends, and do without where there are none.
    // A session has the client's connection, and that to an origin, or the file that is being
    // written.
    let (of_pipes, each) = match has_proxies || has_uploads {
        true => (2 * config.limits.pipes_max, 2),
        false => (0, 1),
    };
    let others = kept + idle_upstreams + of_pipes;
    (config.limits.descriptors_reserved + others, each)
}

/// Holds the limits of a configuration to so many descriptors. What its owner should know.
pub(super) fn fit(config: &mut Config, descriptors: u64) -> Option<String> {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let (reserved, each) = needs(config);
    // At most half is not for sessions.
    let reserved = reserved.min(descriptors / 2);
    let sessions_max = ((descriptors - reserved) / each).max(1);
    let limits = &mut config.limits;
    if limits.sessions_max <= sessions_max {
        return None;
    }
    let wanted = limits.sessions_max;
    limits.sessions_max = sessions_max;
    let share = u32::try_from(sessions_max / 4).unwrap_or(u32::MAX).max(1);
    let per_address = limits.connections_per_address_max.map(NonZero::get);
    limits.connections_per_address_max = per_address
        .map(|max| max.min(share))
        .and_then(|max| max.try_into().ok());
    Some(format!(
        "at most {sessions_max} sessions at once, and not the {wanted} of `max_sessions`: \
         the process may have {descriptors} descriptors, {reserved} of them for other things, \
         and a session takes up to {each} (`ulimit -Hn`, `LimitNOFILE`)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::path::Path;

    fn config(text: &str) -> Config {
        let file = Path::new("x.toml");
        Config::parse(text, file, &Overrides::default()).expect("a configuration")
    }

    const ECHO: &str = "[[listener]]\nkind = 'tcp-echo'\n";
    const WEB: &str = "[[listener]]\nkind = 'http'\n";
    const PROXY: &str = "[[listener]]\nkind = 'proxy'\n";
    const UPLOAD: &str = "[[listener]]\nkind = 'upload'\nhandshake = 'none'\n";

    /// Sessions in all and of one client, with so many descriptors.
    fn fitted(text: &str, descriptors: u64) -> (usize, Option<u32>) {
        let mut config = config(text);
        fit(&mut config, descriptors);
        let limits = config.limits;
        let per_address = limits.connections_per_address_max;
        (limits.sessions_max, per_address.map(NonZero::get))
    }

    #[test]
    fn where_there_are_descriptors_enough_nothing_changes() {
        let mut config = config(PROXY);
        let before = config.limits;
        assert_eq!(fit(&mut config, 1 << 20), None);
        assert_eq!(fit(&mut config, u64::MAX), None);
        assert_eq!(config.limits, before);
    }

    #[test]
    fn sessions_leave_descriptors_for_the_rest_and_no_client_has_more_than_a_quarter() {
        assert_eq!(fitted(ECHO, 4096), (4096 - 256, Some(960)));
        assert_eq!(fitted(WEB, 20_000), (20_000 - 256 - 1024, Some(4680)));
        assert_eq!(fitted(PROXY, 4096), ((4096 - 2048) / 2, Some(256)));
        assert_eq!(fitted(UPLOAD, 4096), ((4096 - 512) / 2, Some(448)));
        let both = format!("{ECHO}{PROXY}");
        assert_eq!(fitted(&both, 1024), ((1024 - 512) / 2, Some(64)));
        assert_eq!(fitted(WEB, 1024), (512, Some(128)), "half at most is kept");
        assert_eq!(fitted(ECHO, 1), (1, Some(1)));
    }

    #[test]
    fn what_was_asked_for_stays_if_it_is_less() {
        let limits = "[limits]\nmax_connections_per_address = 7\nreserved_descriptors = 10\n";
        assert_eq!(fitted(&format!("{limits}{ECHO}"), 1000), (990, Some(7)));
        let none = "[limits]\nmax_connections_per_address = 0\n";
        assert_eq!(fitted(&format!("{none}{ECHO}"), 1256), (1000, None));
    }

    #[test]
    fn it_is_said() {
        let said = fit(&mut config(ECHO), 1024).expect("too few");
        assert!(said.starts_with("at most 768 sessions at once"), "{said}");
        assert!(said.contains("1024 descriptors, 256 of them"), "{said}");
    }
}
