//! The command line, nothing else: what was asked for becomes a configuration, an error an exit
//! code.
//!
//! Precedence: a flag, then its `NETLAB_*` variable, then the configuration file, then the default.
//! The flags of `serve` may stand before the subcommand or behind it; the ones behind it win.
//!
//! A long file, since the flags of each subcommand stand beside what is done with them.
#![allow(
    clippy::print_stdout,
    reason = "completions, man pages and the example are data"
)]

mod manual;
mod replay;
mod simulate;

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io::{self, IsTerminal, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use netlab_reactor::client::cache::{self, CacheArgs};
use netlab_reactor::client::passwd::{self, PasswdArgs};
use netlab_reactor::client::{self, ClientCommand};
use netlab_reactor::config::explain::{self, Tellers};
use netlab_reactor::config::{
    self, Bind, Config, Kind, ListenerConfig, Overrides, Problems, SecretSource,
};
use netlab_reactor::http::basic;
use netlab_reactor::logging::{self, Filters, Format, Logger};
use netlab_reactor::serve::unit::{self, UnitOptions};
use netlab_reactor::serve::{Recording, Source, serve, serve_recorded};
use netlab_reactor::surroundings::Surroundings;
use netlab_reactor::sys::error_log::ErrorLog;
use netlab_reactor::sys::log_limit::Limited;
use replay::ReplayArgs;
use simulate::SimulateArgs;

/// Every classic lab server in one process, one thread, one hand-made reactor
#[derive(Debug, Parser)]
#[command(name = "netlab-reactor", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What stands below `--help`, for 80 columns.
const AFTER_HELP: &str = "\
Without a subcommand it serves; without a configuration file it serves every
kind of listener at its default address, all of them on loopback.

Examples:
  netlab-reactor                                every listener, on loopback
  netlab-reactor --root site                    the web server serves a folder
  netlab-reactor --bind 0.0.0.0 -v              to all networks; debug logs
  netlab-reactor config example > netlab.toml   every key with its default
  netlab-reactor check --config netlab.toml     what is wrong with the file
  netlab-reactor serve --config netlab.toml     the listeners of the file
  netlab-reactor passwd ann < password          a line for a file of users

Environment (a flag wins over it, it wins over the file):
  NETLAB_CONFIG  the file of --config
  NETLAB_BIND    the address of --bind
  NETLAB_ROOT    the folder of --root
  NETLAB_LOG     what to log: debug, netlab_reactor::dns=trace; else RUST_LOG
  NETLAB_LOG_FORMAT  the format of --log-format

Exit codes:
  0   done
  1   a client's result is negative: no answer, not for all recipients
  2   wrong usage
  65  a file is no record that can be replayed here
  69  unavailable: a port in use, a server that does not answer
  74  an output could not be written
  75  the server says that the same may succeed later
  77  the server refused: a wrong secret or password, a file, a message
  78  the configuration is wrong";

/// The flags of `serve`.
#[derive(Debug, Clone, Default, Args)]
struct ServeArgs {
    /// The configuration file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The IP address of every TCP and UDP listener
    #[arg(long, value_name = "ADDR")]
    bind: Option<IpAddr>,
    /// The folder of every web server
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Log more: -v debug, -vv trace
    #[arg(short, long, action = ArgAction::Count, conflicts_with = "quiet")]
    verbose: u8,
    /// Log less: -q warnings, -qq errors
    #[arg(short, long, action = ArgAction::Count)]
    quiet: u8,
    /// How the log is written
    #[arg(long, value_name = "text|json", value_parser = log_format)]
    log_format: Option<Format>,
    /// What the environment says of what is logged.
    #[arg(skip)]
    told: Option<Filters>,
}

fn log_format(text: &str) -> Result<Format, String> {
    let found = Format::WORDS.iter().find(|(word, _)| *word == text);
    found
        .map(|(_, format)| *format)
        .ok_or_else(|| "expected text or json".to_owned())
}

/// What `serve` alone has.
#[derive(Debug, Clone, Default, Args)]
struct RecordArgs {
    /// Write down what the kernel answers, for `replay`, in place of what the file held. It holds
    /// what clients send, and passwords and secrets of the configuration, but no private key; only its
    /// owner may read it
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// The size at which the recording ends, while the server goes on
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = config::parse_size, requires = "record")]
    record_bytes: u64,
    /// Leave out the bytes of bodies, tunnels and files that are only passed on: zeros stand in their
    /// place, and a replay compares of what leaves no more than its length
    #[arg(long, requires = "record")]
    record_heads_only: bool,
}

/// `serve` with its flags.
#[derive(Debug, Clone, Default, Args)]
struct ServeCommand {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    record: RecordArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one per process")]
enum Command {
    /// Serve (what happens without a subcommand, too)
    #[command(after_help = "\
Examples:
  netlab-reactor serve
  netlab-reactor serve --config netlab.toml
  netlab-reactor serve --bind ::1 --root site -q
  netlab-reactor serve --record run.rec         then: netlab-reactor replay run.rec")]
    Serve(ServeCommand),
    /// Run a recorded server once more: the same turns, states and bytes, without a network
    Replay(ReplayArgs),
    /// Run services and clients in a simulated world, with faults or a planted bug
    Simulate(SimulateArgs),
    /// Say what is wrong with a configuration, by line and column
    #[command(after_help = "\
Examples:
  netlab-reactor check --config netlab.toml
  netlab-reactor check --config netlab.toml --explain
  netlab-reactor check --explain --json | jq '.[] | select(.origin != \"default\")'

Exit codes: 0 nothing is wrong, 78 something is.")]
    Check(CheckArgs),
    /// Print the systemd units that run a configuration as a service, in a sandbox that fits it
    #[command(after_help = "\
Examples:
  netlab-reactor systemd-unit --config netlab.toml
  netlab-reactor systemd-unit --config netlab.toml --dir /etc/systemd/system
  systemctl daemon-reload && systemctl enable --now netlab-reactor.socket")]
    SystemdUnit(UnitArgs),
    /// About configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a line of a web server's file of users (key `auth`), for a password from standard
    /// input; or write the line of an upload listener's user into its file (key `login`)
    #[command(after_help = "\
Examples:
  netlab-reactor passwd ann < password >> users
  systemd-ask-password | netlab-reactor passwd ann >> users
  netlab-reactor passwd --login userinfo ann
  NETLAB_PASSWORD=... netlab-reactor passwd --login userinfo ann

With --login the password comes from the named file, from NETLAB_PASSWORD, or
from a prompt, twice. The file is replaced in one step, and a server that uses
it takes it at the next login.")]
    Passwd(PasswdArgs),
    /// Print the completions for a shell
    #[command(after_help = "\
Examples:
  bash:  cd ~/.local/share/bash-completion/completions &&
         netlab-reactor completions bash > netlab-reactor
  zsh:   netlab-reactor completions zsh > ~/.zfunc/_netlab-reactor
         with fpath+=~/.zfunc before compinit in ~/.zshrc
  fish:  cd ~/.config/fish/completions &&
         netlab-reactor completions fish > netlab-reactor.fish")]
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write all of them into a folder
    #[command(after_help = "\
Examples:
  netlab-reactor man | man -l -
  netlab-reactor man ping | man -l -
  netlab-reactor man --dir ~/.local/share/man/man1")]
    Man {
        /// The subcommand whose page is printed, instead of the program's
        #[arg(conflicts_with = "dir")]
        command: Vec<String>,
        /// The folder, which is made if need be
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Look at what a proxy keeps, purge it, verify it, warm it
    Cache(CacheArgs),
    /// The clients
    #[command(flatten)]
    Client(ClientCommand),
}

/// The flags of `check`.
#[derive(Debug, Clone, Args)]
struct CheckArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Print every key, its value in force, and where that came from
    #[arg(long)]
    explain: bool,
    /// The same as JSON
    #[arg(long, requires = "explain")]
    json: bool,
}

/// The flags of `systemd-unit`.
#[derive(Debug, Clone, Args)]
struct UnitArgs {
    #[command(flatten)]
    serve: ServeArgs,
    /// Write NAME.service and NAME.socket into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The name of the units
    #[arg(long, default_value = "netlab-reactor", value_parser = unit_word)]
    name: String,
    /// The user and group that it runs as
    #[arg(long, default_value = "netlab-reactor", value_parser = unit_word)]
    user: String,
    /// The program opens its sockets itself
    #[arg(long)]
    no_socket: bool,
}

/// A name that needs no quotes in a unit.
fn unit_word(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    match !text.is_empty() && text.len() <= 200 && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("expected letters, digits, and any of _-.".to_owned()),
    }
}

/// The subcommands of `config`.
#[derive(Debug, Clone, Copy, Subcommand)]
enum ConfigCommand {
    /// Print a complete configuration with every key, its default and a comment
    Example,
}

/// Why the program ends with an error.
#[derive(Debug)]
enum Failure {
    /// The command line or the environment is wrong: exit code 2.
    Usage(clap::Error),
    /// The configuration is wrong: exit code 78, `EX_CONFIG` of sysexits(3).
    Config(Problems),
    /// Serving could not start or go on, as with a port in use: exit code 69, `EX_UNAVAILABLE`.
    Unavailable(String),
    /// Standard output or a file could not be written: exit code 74, `EX_IOERR`.
    Output(io::Error),
    /// A file is not what it should be: exit code 65, `EX_DATAERR`.
    Data(String),
    /// A replay is not what was recorded: exit code 1.
    Diverged(String),
}

impl Failure {
    /// The exit code, as the help documents it.
    fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) => ExitCode::from(2),
            Failure::Unavailable(_) => ExitCode::from(69),
            Failure::Output(_) => ExitCode::from(74),
            Failure::Data(_) => ExitCode::from(65),
            Failure::Diverged(_) => ExitCode::from(1),
            Failure::Config(_) => ExitCode::from(78),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(error) => error.fmt(out),
            Failure::Config(problems) => problems.fmt(out),
            Failure::Unavailable(why) | Failure::Data(why) | Failure::Diverged(why) => {
                write!(out, "netlab-reactor: {why}")
            }
            Failure::Output(error) => write!(out, "netlab-reactor: cannot write: {error}"),
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            // A standard error that is closed leaves the exit code to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            failure.code()
        }
    }
}

/// Does what the command line asks for.
fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let outer = cli.serve;
    match cli
        .command
        .unwrap_or_else(|| Command::Serve(ServeCommand::default()))
    {
        Command::Serve(inner) => serve_command(inner.serve.or(outer), &inner.record)?,
        Command::Replay(args) => replay::run(&args)?,
        Command::Simulate(args) => {
            let code = u8::from(!simulate::run(&args)?);
            return Ok(ExitCode::from(code));
        }
        Command::Client(client) => return Ok(client.run()),
        Command::Cache(args) => {
            let place = cache_place(&args, &outer.or_environment()?)?;
            return Ok(client::told("cache", cache::run(&args, &place)));
        }
        Command::Check(args) => check(args, outer)?,
        Command::SystemdUnit(args) => systemd_unit(args, outer)?,
        Command::Passwd(args) => match &args.login {
            Some(file) => return Ok(client::told("passwd", passwd::write(&args, file))),
            None => print(user_line(&args.user)?.as_bytes())?,
        },
        Command::Config(ConfigCommand::Example) => print(config::example().as_bytes())?,
        Command::Completions { shell } => {
            print(manual::completions(shell, Cli::command()).as_bytes())?;
        }
        Command::Man { command, dir: None } => {
            let name = ["netlab-reactor".to_owned()].into_iter().chain(command);
            let name = name.collect::<Vec<_>>().join("-");
            let pages = manual::pages(Cli::command()).map_err(Failure::Output)?;
            let Some((_, page)) = pages.into_iter().find(|(title, _)| *title == name) else {
                let wrong = format!("there is no manual page {name}");
                let error = Cli::command().error(ErrorKind::InvalidValue, wrong);
                return Err(Failure::Usage(error));
            };
            print(&page)?;
        }
        Command::Man { dir: Some(dir), .. } => {
            let written = manual::pages(Cli::command()).and_then(|pages| {
                fs::create_dir_all(&dir)?;
                let write = |(name, page): &(String, Vec<u8>)| {
                    fs::write(dir.join(format!("{name}.1")), page)
                };
                pages.iter().try_for_each(write)
            });
            written.map_err(Failure::Output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Says what is wrong with a configuration, or what it comes to.
fn check(args: CheckArgs, outer: ServeArgs) -> Result<(), Failure> {
    let flags = args.serve.or(outer);
    let teller = |is_flag, flag, variable| if is_flag { flag } else { variable };
    let tellers = Tellers {
        bind: teller(flags.bind.is_some(), "--bind", "NETLAB_BIND"),
        root: teller(flags.root.is_some(), "--root", "NETLAB_ROOT"),
        log_format: teller(
            flags.log_format.is_some(),
            "--log-format",
            "NETLAB_LOG_FORMAT",
        ),
        log_filters: match (flags.verbose, flags.quiet) {
            (0, 0) if variable("NETLAB_LOG").is_some() => "NETLAB_LOG",
            (0, 0) => "RUST_LOG",
            (0, _) => "-q",
            (_, _) => "-v",
        },
    };
    let serve = flags.or_environment()?;
    let config = serve.load()?;
    for problem in &config.remarks.0 {
        let _ = writeln!(io::stderr(), "{problem}");
    }
    if args.explain {
        let file = serve.config.as_deref();
        let text = file.map(fs::read_to_string).transpose();
        let text = text.map_err(Failure::Output)?.unwrap_or_default();
        let source = (file.unwrap_or(Path::new("")), &*text);
        let all = explain::explain(&config, source, &serve.overrides(), tellers);
        let shown = match args.json {
            true => explain::json(&all),
            false => explain::text(&all),
        };
        return print(shown.as_bytes());
    }
    let count = config.listeners.len();
    let ending = if count == 1 { "" } else { "s" };
    print(format!("ok: {count} listener{ending}\n").as_bytes())
}

/// Prints the units, or writes them into a folder. Paths in them are absolute.
fn systemd_unit(args: UnitArgs, outer: ServeArgs) -> Result<(), Failure> {
    let mut serve = args.serve.or(outer).or_environment()?;
    for path in [&mut serve.config, &mut serve.root].into_iter().flatten() {
        *path = std::path::absolute(&path).map_err(Failure::Output)?;
    }
    let config = serve.load()?;
    let mut arguments = vec!["serve".to_owned()];
    let flags = [
        (
            "--config",
            serve.config.as_ref().map(|path| path.display().to_string()),
        ),
        (
            "--root",
            serve.root.as_ref().map(|path| path.display().to_string()),
        ),
        ("--bind", serve.bind.map(|address| address.to_string())),
    ];
    for (flag, value) in flags {
        arguments.extend(value.into_iter().flat_map(|value| [flag.to_owned(), value]));
    }
    let options = UnitOptions {
        program: env::current_exe().map_err(Failure::Output)?,
        arguments,
        name: args.name,
        user: args.user,
        with_socket: !args.no_socket,
        default_cache: config::default_cache(serve.config.as_deref()),
    };
    let units = unit::units(&config, &options);
    let files = [
        ("service", Some(&units.service)),
        ("socket", units.socket.as_ref()),
    ];
    for (ending, text) in files {
        let Some(text) = text else { continue };
        let name = format!("{}.{ending}", options.name);
        match &args.dir {
            Some(dir) => fs::write(dir.join(&name), text).map_err(Failure::Output)?,
            None => print(format!("# {name}\n{text}\n").as_bytes())?,
        }
    }
    Ok(())
}

/// The line of a file of users; the password is the first line of standard input, which need not
/// end.
fn user_line(user: &str) -> Result<String, Failure> {
    let usage = |what: &str| Failure::Usage(Cli::command().error(ErrorKind::ValueValidation, what));
    if user.is_empty()
        || user.starts_with('#')
        || user.contains(|c: char| c == ':' || c.is_control())
    {
        return Err(usage("expected a name without a colon"));
    }
    let mut password = String::new();
    io::stdin()
        .read_line(&mut password)
        .map_err(Failure::Output)?;
    let password = password.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(usage("expected a password on standard input"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| Failure::Unavailable(error.to_string()))?;
    let line = basic::user_line(user, password.as_bytes(), &salt, basic::ROUNDS);
    Ok(line + "\n")
}

/// The cache that is meant: that of the flags, else of the first proxy that has one.
fn cache_place(args: &CacheArgs, serve: &ServeArgs) -> Result<cache::Place, Failure> {
    let is_told = args.dir.is_some() && args.proxy.is_some();
    let config = match is_told && serve.config.is_none() {
        true => None,
        false => Some(serve.load()?),
    };
    let listeners = config.iter().flat_map(|config| &config.listeners);
    let mut places = listeners.filter_map(|listener| match &listener.kind {
        Kind::Proxy(proxy) => match &proxy.cache {
            config::Cache::On { dir, rules, .. } => Some(cache::Place {
                dir: dir.clone(),
                // Invariant: a listener has an address.
                proxy: listener.bind[0].to_string(),
                rules: rules.clone(),
            }),
            config::Cache::Off => None,
        },
        _ => None,
    });
    let found = match &args.dir {
        Some(dir) => places.find(|place| place.dir == *dir),
        None => places.next(),
    };
    let place = match (&args.dir, found) {
        (None, None) => {
            let text = "no proxy of the configuration has a cache; expected --dir";
            let error = Cli::command().error(ErrorKind::MissingRequiredArgument, text);
            return Err(Failure::Usage(error));
        }
        (_, found) => found.unwrap_or_default(),
    };
    Ok(cache::Place {
        dir: args.dir.clone().unwrap_or(place.dir),
        proxy: args.proxy.clone().unwrap_or(place.proxy),
        ..place
    })
}

/// Serves until it is told to stop.
fn serve_command(args: ServeArgs, record: &RecordArgs) -> Result<(), Failure> {
    let args = args.or_environment()?;
    let source = args.source();
    let around = Surroundings::live();
    let config = source.load(&around).map_err(Failure::Config)?;
    start_log(&config);
    for listener in &config.listeners {
        if let Some(use_of_secret) = use_of_random_secret(listener) {
            // Not a log line: without it nobody can use the listener, however quiet the log is.
            let _ = writeln!(io::stderr(), "{use_of_secret}");
        }
    }
    let served = match &record.record {
        None => serve(config, source),
        Some(path) => {
            let to = replay::create(path)?;
            let recording = Recording {
                bytes_max: record.record_bytes,
                heads_only: record.record_heads_only,
            };
            serve_recorded(config, source, around.notes(), to, recording)
        }
    };
    served.map_err(|error| Failure::Unavailable(error.to_string()))
}

/// How to send a file to an upload listener whose secret was made up; `None` for any other
/// listener.
fn use_of_random_secret(listener: &ListenerConfig) -> Option<String> {
    let Kind::Upload(upload) = &listener.kind else {
        return None;
    };
    let SecretSource::Random(secret) = &upload.secret else {
        return None;
    };
    let secret = String::from_utf8_lossy(secret.expose());
    // Invariant: a listener has an address.
    let destination = match &listener.bind[0] {
        Bind::Tcp(address) => format!("{} {}", address.ip(), address.port()),
        other => other.to_string(),
    };
    Some(format!(
        "listener {:?}: no secret is configured, this run's is {secret}; to send a file:\n  \
         NETLAB_SECRET={secret} netlab-reactor upload --handshake {} {destination} FILE",
        listener.name, upload.handshake,
    ))
}

/// Sets up the log: on standard error, but never waited for.
fn start_log(config: &Config) {
    logging::set(config.log.clone());
    let plain = variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|t| t == "dumb");
    let is_coloured = io::stderr().is_terminal() && !plain;
    let logger = Logger::new(|| ErrorLog, SystemTime::now, is_coloured);
    // Invariant: no logger was set before.
    log::set_boxed_logger(Box::new(Limited::new(logger))).expect("the first logger");
}

/// The value of an environment variable; an empty one counts as absent.
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// Writes data to standard output; a reader that had enough is not an error.
fn print(data: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

impl ServeArgs {
    /// These flags, and the outer ones where these are absent.
    fn or(self, outer: ServeArgs) -> ServeArgs {
        let (verbose, quiet) = match (self.verbose, self.quiet) {
            (0, 0) => (outer.verbose, outer.quiet),
            inner => inner,
        };
        ServeArgs {
            config: self.config.or(outer.config),
            bind: self.bind.or(outer.bind),
            root: self.root.or(outer.root),
            verbose,
            quiet,
            log_format: self.log_format.or(outer.log_format),
            told: None,
        }
    }

    /// These flags, and the environment where they are absent.
    fn or_environment(mut self) -> Result<ServeArgs, Failure> {
        self.config = self
            .config
            .or_else(|| variable("NETLAB_CONFIG").map(PathBuf::from));
        self.root = self
            .root
            .or_else(|| variable("NETLAB_ROOT").map(PathBuf::from));
        let usage =
            |wrong: String| Failure::Usage(Cli::command().error(ErrorKind::ValueValidation, wrong));
        if let (None, Some(word)) = (self.log_format, variable("NETLAB_LOG_FORMAT")) {
            let word = word.to_string_lossy();
            let wrong = |expected| usage(format!("NETLAB_LOG_FORMAT is {word:?}; {expected}"));
            self.log_format = Some(log_format(&word).map_err(wrong)?);
        }
        self.told = match (variable("NETLAB_LOG"), variable("RUST_LOG")) {
            (Some(filters), _) => {
                let filters = Filters::parse(&filters.to_string_lossy());
                Some(filters.map_err(|wrong| usage(format!("NETLAB_LOG: {wrong}")))?)
            }
            (None, Some(filters)) => Some(Filters::parse_loosely(&filters.to_string_lossy())),
            (None, None) => None,
        };
        if let (None, Some(address)) = (self.bind, variable("NETLAB_BIND")) {
            let address = address.to_string_lossy();
            let wrong =
                format!("NETLAB_BIND is {address:?}; expected an IP address without a port");
            let error = |_| Cli::command().error(ErrorKind::ValueValidation, wrong);
            self.bind = Some(address.parse().map_err(error).map_err(Failure::Usage)?);
        }
        Ok(self)
    }

    /// The configuration that they ask for.
    fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config.as_deref(), &self.overrides()).map_err(Failure::Config)
    }

    /// Where it comes from.
    fn source(&self) -> Source {
        Source {
            file: self.config.clone(),
            overrides: self.overrides(),
        }
    }

    /// What wins over the file.
    fn overrides(&self) -> Overrides {
        Overrides {
            bind: self.bind,
            root: self.root.clone(),
            log_format: self.log_format,
            log_filters: self.log_filters(),
        }
    }

    /// What is logged: by `-v` and `-q`, or else by the environment.
    fn log_filters(&self) -> Option<Filters> {
        let level = match (self.verbose, self.quiet) {
            (0, 0) => return self.told.clone(),
            (0, 1) => "warn",
            (0, _) => "error",
            (1, _) => "debug",
            (_, _) => "trace",
        };
        Filters::parse(level).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_behind_the_subcommand_win() {
        let line = [
            "x", "--config", "a", "--root", "r", "-q", "serve", "--config", "b", "-vv",
        ];
        let cli = Cli::try_parse_from(line).unwrap();
        let Some(Command::Serve(inner)) = cli.command else {
            panic!()
        };
        let args = inner.serve.or(cli.serve);
        assert_eq!(args.config, Some(PathBuf::from("b")));
        assert_eq!(args.root, Some(PathBuf::from("r")));
        assert_eq!((args.verbose, args.quiet), (2, 0));
    }

    #[test]
    fn a_random_secret_is_printed_with_its_use() {
        let config = Config::without_a_file(&Overrides::default()).unwrap();
        let uses: Vec<String> = config
            .listeners
            .iter()
            .filter_map(use_of_random_secret)
            .collect();
        assert_eq!(uses.len(), 1);
        assert!(
            uses[0].contains("upload --handshake hmac-md5 127.0.0.1 9001 FILE"),
            "{}",
            uses[0]
        );
    }
}
