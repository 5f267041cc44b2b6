//! From a configuration to a web server.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;

use super::Web;
use super::access_log::AccessLog;
use super::admin::Admin;
use super::admission::Admission;
use super::pages::Pages;
use super::proxy::Proxy;
use super::reply::Writer;
use super::sites::{Content, Site, Sites};
use crate::cache::store::StoreId;
use crate::config::{
    self, AdminConfig, Cache, HttpConfig, ListenerConfig, ProxyConfig, Routes, SiteContent,
};
use crate::disk::Disk;
use crate::http::head::Limits;

/// What an answer of our own may need at once in the send queue, besides a small file's bytes: a
/// head of known lines, and a text that names at most one host, one address and one target.
const ANSWER_BYTES: usize = 2 * 1024;
const PROXY_ANSWER_BYTES: usize = 12 * 1024;

/// What the process knows and a web server may tell.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// All listeners.
    pub listeners: &'a [ListenerConfig],
    /// Who may vouch for https origins, where nobody else is named.
    pub authorities: Option<&'a Arc<RootCertStore>>,
    /// Tells this proxy from others on the way of a request. Random.
    pub id: u32,
    /// When it began to serve.
    pub started: SystemTime,
    /// Where responses are kept, by folder.
    pub stores: &'a [(PathBuf, StoreId)],
}

impl Given<'_> {
    /// Where a proxy keeps responses.
    pub(super) fn store(&self, config: &ProxyConfig) -> Option<StoreId> {
        let Cache::On { dir, .. } = &config.cache else {
            return None;
        };
        let mut stores = self.stores.iter();
        stores.find(|(known, _)| known == dir).map(|(_, id)| *id)
    }
}

impl Default for Given<'_> {
    /// What a process without listeners would tell, at the epoch.
    fn default() -> Self {
        Self {
            listeners: &[],
            authorities: None,
            id: 0,
            started: SystemTime::UNIX_EPOCH,
            stores: &[],
        }
    }
}

impl Web {
    /// A web server for files, or for the embedded site.
    ///
    /// # Errors
    /// A root or the log cannot be opened; with its path.
    pub fn files(
        config: &HttpConfig,
        given: &Given<'_>,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let content = match &config.root {
            Some(root) => Content::files(root, "", &config.files, kept(config), disk)?,
            None if config.sites.is_empty() => {
                Content::Pages(Pages::new(given.listeners, &config.files.compress))
            }
            None => Content::Nothing,
        };
        Self::new(config, content, given, disk)
    }

    /// A web proxy, or a gateway to one origin.
    ///
    /// # Errors
    /// As [`Web::files`].
    pub fn proxy(
        config: &ProxyConfig,
        given: &Given<'_>,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let content = Content::Proxy(Proxy::new(config, &config.http, given));
        Self::new(&config.http, content, given, disk)
    }

    /// The admin pages.
    ///
    /// # Errors
    /// As [`Web::files`].
    pub fn admin(
        config: &AdminConfig,
        given: &Given<'_>,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let content = Content::Admin(Admin::new(config, given.started));
        let mut web = Self::new(&config.http, content, given, disk)?;
        let rest = web.sites.rest();
        web.sites.at(rest).take_token(config.token.as_ref(), disk);
        web.stays_while_draining = true;
        Ok(web)
    }

    fn new(
        config: &HttpConfig,
        content: Content,
        given: &Given<'_>,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let mut sites = Vec::new();
        for site in &config.sites {
            let (prefix, auth) = (&site.prefix, site.auth.as_ref());
            let content = match &site.content {
                SiteContent::Files { root, files } => {
                    Content::files(root, prefix, files, kept(config), disk)?
                }
                SiteContent::Upstream(proxy) => Content::Proxy(Proxy::new(proxy, config, given)),
                SiteContent::Admin(admin) => Content::Admin(Admin::new(admin, given.started)),
                SiteContent::Probe => Content::Nothing,
            };
            let mut opened = Site::new(site.host.clone(), prefix, content, auth, disk);
            if let SiteContent::Admin(admin) = &site.content {
                opened.take_token(admin.token.as_ref(), disk);
            }
            opened.has_probe = matches!(site.content, SiteContent::Probe);
            if let Some(files) = site.content.files() {
                opened.cors.clone_from(&files.cors);
                opened.errors = Content::errors(files, kept(config), disk)?;
            }
            sites.push(opened);
        }
        let mut rest = Site::new(None, "", content, config.auth.as_ref(), disk);
        rest.has_probe = config.routes == Routes::Probe;
        rest.cors.clone_from(&config.files.cors);
        rest.errors = Content::errors(&config.files, kept(config), disk)?;
        let sites = Sites::new(sites, rest);
        let log = config.access_log.as_ref().map(|place| {
            let log = AccessLog::open(place, config.log_format, disk);
            log.map(Box::new).map_err(|error| match place {
                config::AccessLog::Path(path) => (path.clone(), error),
                config::AccessLog::StandardError => (PathBuf::from("standard error"), error),
            })
        });
        Ok(Self {
            limits: Limits {
                head_bytes_max: config.head_bytes_max,
                target_bytes_max: config.target_bytes_max,
                ..Limits::default()
            },
            answer_bytes: match sites.forwards() {
                true => PROXY_ANSWER_BYTES,
                false => ANSWER_BYTES,
            },
            admission: Admission::new(config),
            trusted: config.stream.trusted_proxies.iter().copied().collect(),
            config: config.clone(),
            sites,
            writer: Writer::default(),
            log: log.transpose()?,
            working: false,
            is_new: true,
            stays_while_draining: false,
        })
    }
}

/// What is kept of each root.
fn kept(config: &HttpConfig) -> crate::cache::files::Capacity {
    crate::cache::files::Capacity {
        files_max: config.open_files_max,
        bytes_max: config.memory_bytes_max,
    }
}
