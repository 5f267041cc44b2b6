//! How many sessions the descriptors of the process are enough for.
//!
//! Where sessions could take them all, one client with idle connections to one listener would keep
//! everybody from every other, and what is under way would fail for want of a file. So there are no
//! more sessions than descriptors for them, and no client has more than a quarter of these.

use std::num::NonZero;

use crate::config::{Cache, Config, Kind, ProxyConfig, SiteConfig, SiteContent};

/// How many descriptors a configuration may need.
pub(super) fn wanted(config: &Config) -> usize {
    let (reserved, _, each) = needs(config);
    reserved + each * (config.limits.sessions_max + config.limits.sessions_reserved)
}

/// Descriptors that a session may take: the client's connection, and that to an origin, or the file
/// that is being written.
pub(super) fn of_session(kind: &Kind) -> usize {
    let leads_on = match kind {
        Kind::Proxy(_) | Kind::Upload(_) => true,
        Kind::Http(http) => http.sites.iter().any(leads_to_origin),
        _ => false,
    };
    1 + usize::from(leads_on)
}

fn leads_to_origin(site: &SiteConfig) -> bool {
    matches!(site.content, SiteContent::Upstream(_))
}

/// Descriptors that are not for sessions, and those that a session takes: at least, and at most.
fn needs(config: &Config) -> (usize, usize, usize) {
    let kinds = || config.listeners.iter().map(|listener| &listener.kind);
    // Up to so many files are kept open, and connections to origins.
    let kept: usize = kinds()
        .map(|kind| match kind {
            Kind::Http(http) => {
                let kept_of = |site: &SiteConfig| match &site.content {
                    SiteContent::Files { .. } => http.open_files_max,
                    SiteContent::Upstream(proxy) => kept_of_proxy(proxy),
                    _ => 0,
                };
                http.open_files_max + http.sites.iter().map(kept_of).sum::<usize>()
            }
            Kind::Proxy(proxy) => kept_of_proxy(proxy),
            _ => 0,
        })
        .sum();
    let each = || {
        let over_streams = kinds().filter(|kind| kind.stream().is_some());
        over_streams.map(of_session)
    };
    let (least, most) = (each().min().unwrap_or(1), each().max().unwrap_or(1));
    let has_proxies = kinds().any(|kind| !matches!(kind, Kind::Upload(_)) && of_session(kind) > 1);
    let idle_upstreams = match has_proxies {
        true => config.limits.idle_upstreams_max,
        false => 0,
    };
    // Tunnels and uploads take pipes, which have two ends, and do without where there are none.
    let of_pipes = match most {
        1 => 0,
        _ => 2 * config.limits.pipes_max,
    };
    let others = kept + idle_upstreams + of_pipes;
    (config.limits.descriptors_reserved + others, least, most)
}

fn kept_of_proxy(proxy: &ProxyConfig) -> usize {
    match &proxy.cache {
        Cache::On { limits, .. } => limits.open_files_max,
        _ => 0,
    }
}

/// Holds the limits of a configuration to so many descriptors. What its owner should know.
pub(super) fn fit(config: &mut Config, descriptors: u64) -> Option<String> {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let (reserved, least, most) = needs(config);
    // At most half is not for sessions.
    let reserved = reserved.min(descriptors / 2);
    let for_sessions = (descriptors - reserved).max(most);
    let limits = &mut config.limits;
    if limits.sessions_max <= for_sessions / most {
        return None;
    }
    let wanted = limits.sessions_max;
    limits.session_descriptors_max = for_sessions;
    limits.sessions_max = wanted.min(for_sessions / least);
    let share = for_sessions / most / 4;
    let share = u32::try_from(share).unwrap_or(u32::MAX).max(1);
    let per_address = limits.connections_per_address_max.map(NonZero::get);
    limits.connections_per_address_max = per_address
        .map(|max| max.min(share))
        .and_then(|max| max.try_into().ok());
    let dear = match least < most {
        true => format!(", {} if each takes {most} descriptors", for_sessions / most),
        false => String::new(),
    };
    Some(format!(
        "at most {} sessions at once{dear}, though `max_sessions` is {wanted}: \
         the process may have {descriptors} descriptors, {reserved} of them for other things, \
         and a session takes up to {most} (`ulimit -Hn`, `LimitNOFILE`)",
        limits.sessions_max
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
        assert_eq!(
            fitted(&both, 1024),
            (512, Some(64)),
            "an echo takes one, and nobody a quarter of all with two"
        );
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
    fn a_session_takes_one_descriptor_or_two_and_all_have_so_many() {
        let route = "route = [{ prefix = '/api/', upstream = 'http://192.0.2.1' }]\n";
        for (text, each, kept) in [
            (WEB.to_owned(), 1, 1024),
            (format!("{WEB}{route}"), 2, 2 * 1024 + 512 + 256),
            (PROXY.to_owned(), 2, 1024 + 512 + 256),
            (UPLOAD.to_owned(), 2, 256),
        ] {
            let mut config = config(&text);
            assert_eq!(of_session(&config.listeners[0].kind), each, "{text}");
            fit(&mut config, 20_000);
            let all = config.limits.session_descriptors_max;
            assert_eq!(all, 20_000 - 256 - kept, "{text}");
        }
        let mut config = config(&format!("{WEB}{PROXY}"));
        fit(&mut config, 20_000);
        let limits = config.limits;
        assert_eq!(limits.session_descriptors_max, limits.sessions_max);
        assert!(limits.sessions_max > 16_000, "web sessions take one each");
    }

    #[test]
    fn it_is_said() {
        let said = fit(&mut config(ECHO), 1024).expect("too few");
        assert!(said.starts_with("at most 768 sessions at once"), "{said}");
        assert!(said.contains("1024 descriptors, 256 of them"), "{said}");
    }
}
