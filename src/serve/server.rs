//! One process that serves, over whatever kernel: it opens what its configuration says, turns, and
//! goes over to another configuration when it is told to.

use std::io::{self, Write as _};
use std::path::PathBuf;

use super::{InForce, ServeError, confine, descriptors, given, open, reload, tell};
use crate::config::{self, Config, Overrides, Problems};
use crate::limits::Limits;
use crate::logging;
use crate::reactor::{Reactor, Turn};
use crate::surroundings::Surroundings;
use crate::sys::unix::Sandbox;
use crate::sys::{News, Sys};

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The file; without one there is nothing to read again, and the defaults hold.
    pub file: Option<PathBuf>,
    /// What wins over it.
    pub overrides: Overrides,
}

impl Source {
    /// The configuration, for a start.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(&self, around: &Surroundings) -> Result<Config, Problems> {
        Config::load_in(self.file.as_deref(), &self.overrides, around)
    }

    fn load_again(&self, around: &Surroundings) -> Result<Config, Problems> {
        Config::load_again_in(self.file.as_deref(), &self.overrides, around)
    }
}

/// A process that serves.
pub struct Server<S: Sys> {
    reactor: Reactor<S>,
    /// Always there between two turns.
    in_force: Option<InForce>,
    source: Source,
    /// What holds where there is no file.
    defaults: Config,
    /// Descriptors that it may have, if there is a limit.
    descriptors: Option<u64>,
    sandbox: Option<Sandbox>,
}

impl<S: Sys> Server<S> {
    /// Opens every listener of a configuration.
    ///
    /// # Errors
    /// The first listener that could not be opened, or a given socket that is for nobody.
    pub fn open(
        mut sys: S,
        config: Config,
        source: Source,
        descriptors: Option<u64>,
    ) -> Result<Self, ServeError> {
        let defaults = config.clone();
        let mut config = fitted(config, descriptors);
        if let Some(left) = given::place(&mut config, &sys.given_sockets()).pop() {
            return Err(ServeError::Given(left.why));
        }
        tell(&config.remarks);
        let (reactor, bound) = open(sys, &config)?;
        Ok(Self {
            reactor,
            in_force: Some(InForce { config, bound }),
            source,
            defaults,
            descriptors,
            sandbox: None,
        })
    }

    /// Keeps the process to what its configuration names, if that is asked for.
    pub(super) fn confine(&mut self) -> Result<(), ServeError> {
        if let Some(in_force) = &self.in_force {
            self.sandbox = confine::enter(&in_force.config)?;
        }
        Ok(())
    }

    /// Tells the service manager that it is ready.
    pub fn begin(&mut self) {
        let status = self.in_force.as_ref().map(InForce::status);
        self.reactor.tell(News::Ready(status.unwrap_or_default()));
    }

    /// Tells standard output where it listens.
    pub(super) fn announce(&self) -> Result<(), ServeError> {
        let Some(InForce { config, bound }) = &self.in_force else {
            return Ok(());
        };
        let mut out = io::stdout().lock();
        let mut write = || {
            for ((listener, _), bound) in config::addresses(&config.listeners).zip(bound) {
                writeln!(out, "listening {} {bound}", listener.kind.name())?;
            }
            writeln!(out, "ready")?;
            out.flush()
        };
        write().map_err(ServeError::System)
    }

    /// Turns until the process is to end.
    pub(super) fn run(&mut self) -> Result<(), ServeError> {
        while self.turn().map_err(ServeError::System)? {}
        Ok(())
    }

    /// One turn, and what the process was told in it. Whether there is another one.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn turn(&mut self) -> io::Result<bool> {
        match self.reactor.turn()? {
            Turn::Continue => Ok(true),
            Turn::Reload => {
                self.reload();
                Ok(true)
            }
            Turn::Stop => Ok(false),
        }
    }

    fn reload(&mut self) {
        // Invariant: it is always there between two turns.
        let Some(in_force) = self.in_force.take() else {
            return;
        };
        self.reactor.tell(News::Reloading);
        let mut next = None;
        self.reactor.sys_mut().surroundings(&mut |around| {
            let loaded = match self.source.file {
                Some(_) => self
                    .source
                    .load_again(around)
                    .map_err(|all| all.to_string()),
                None => Ok(self.defaults.clone()),
            };
            next = Some(loaded.and_then(|next| {
                let objections = || confine::objections(&self.sandbox, &next).join("\n");
                match around.said("sandbox", objections) {
                    all if all.is_empty() => Ok(next),
                    all => Err(all),
                }
            }));
        });
        let (status, now) = match next {
            Some(Ok(mut next)) => {
                confine::until_a_restart(&in_force.config, &mut next);
                let next = fitted(next, self.descriptors);
                let now = reload_given(&mut self.reactor, in_force, next);
                (now.status(), now)
            }
            Some(Err(all)) => {
                for problem in all.lines() {
                    log::error!("the configuration stays as it was: {problem}");
                }
                if self.sandbox.is_some() && all.contains("Permission denied") {
                    log::error!(
                        "[sandbox]: what was not granted at the start is granted by a restart"
                    );
                }
                let first = all.lines().next().unwrap_or_default();
                let stays = format!("{}; configuration refused: {first}", in_force.status());
                (stays, in_force)
            }
            None => (in_force.status(), in_force),
        };
        logging::set(now.config.log.clone());
        self.in_force = Some(now);
        self.reactor.tell(News::Ready(status));
    }

    /// Everything that it counted, as text.
    pub fn counted(&mut self) -> String {
        format!("{:#?}", self.reactor.metrics())
    }

    /// What turned.
    pub(super) fn into_reactor(self) -> Reactor<S> {
        self.reactor
    }

    /// What turns.
    pub fn reactor(&mut self) -> &mut Reactor<S> {
        &mut self.reactor
    }

    /// The kernel.
    pub fn sys_mut(&mut self) -> &mut S {
        self.reactor.sys_mut()
    }
}

/// Goes over to another configuration. A given socket that none of its listeners wants is closed.
fn reload_given<S: Sys>(reactor: &mut Reactor<S>, was: InForce, mut next: Config) -> InForce {
    let left = given::place(&mut next, &reactor.sys_mut().given_sockets());
    let now = reload(reactor, was, next);
    for given::Unwanted { number, why } in left {
        if reactor.sys_mut().close_given(number) {
            log::warn!("{why}; it is closed");
        }
    }
    now
}

/// A configuration whose limits so many descriptors are enough for; the log tells what that
/// changes.
fn fitted(mut config: Config, descriptors: Option<u64>) -> Config {
    let is_default = config.limits.sessions_max == Limits::default().sessions_max;
    let said = descriptors.and_then(|descriptors| descriptors::fit(&mut config, descriptors));
    if let Some(said) = said {
        // Nobody asked for as many as the default has.
        let level = match is_default {
            true => log::Level::Info,
            false => log::Level::Warn,
        };
        log::log!(level, "{said}");
    }
    config
}
