//! The program under a service manager: what it tells it (`man 3 sd_notify`), and the units that it
//! makes for it.

mod common;

use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, Program, connect, expect_soon, temp_dir};
use rustix::process::Signal;

const ECHO: &str = "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n";

/// A service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &std::path::Path) -> Self {
        Self::of(UnixDatagram::bind(path).expect("a socket"))
    }

    fn of(socket: UnixDatagram) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(socket)
    }

    /// The next message, as lines.
    fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let count = self.0.recv(&mut bytes).expect("a message");
        let text = std::str::from_utf8(&bytes[..count]).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }
}

fn start(config: &str, variables: &str) -> Program {
    Program::start_by(config, &format!("{variables} exec \"$0\" \"$@\""))
}

#[test]
fn a_manager_hears_of_the_start_of_a_reload_and_of_the_end() {
    let folder = temp_dir();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let mut program = start(ECHO, &format!("NOTIFY_SOCKET={}", path.display()));
    assert_eq!(manager.told(), ["READY=1", "STATUS=listening on 1 address"]);
    let more = ECHO.to_owned() + "[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\n";
    fs::write(program.path("netlab.toml"), more).expect("a file");
    program.signal(Signal::HUP);
    let reloading = manager.told();
    assert_eq!(reloading[0], "RELOADING=1");
    let usec = reloading[1].strip_prefix("MONOTONIC_USEC=");
    let usec = usec.expect("a time").parse::<u64>().expect("a number");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let ago = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000 - usec;
    assert!(ago < 20_000_000, "{ago} us ago");
    assert_eq!(
        manager.told(),
        ["READY=1", "STATUS=listening on 2 addresses"]
    );
    fs::write(
        program.path("netlab.toml"),
        "[[listener]]\nkind = \"nothing\"\n",
    )
    .expect("a file");
    program.signal(Signal::HUP);
    assert_eq!(manager.told()[0], "RELOADING=1");
    let ready = manager.told();
    assert_eq!(ready[0], "READY=1");
    let refused = "STATUS=listening on 2 addresses; configuration refused: ";
    assert!(ready[1].starts_with(refused), "{}", ready[1]);
    assert!(ready[1].contains("netlab.toml:2:8:"), "{}", ready[1]);
    program.terminate();
    assert_eq!(manager.told(), ["STOPPING=1", "STATUS=draining 0 sessions"]);
    assert!(program.wait().success());
}

#[test]
fn a_manager_at_an_abstract_name_hears_signs_of_life_also_while_the_process_drains() {
    let name = format!("netlab-signs-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = Manager::of(UnixDatagram::bind_addr(&address).expect("a socket"));
    let variables = format!("NOTIFY_SOCKET=@{name} WATCHDOG_USEC=200000 WATCHDOG_PID=$$");
    let hello = "[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\n";
    let mut program = start(hello, &variables);
    assert_eq!(manager.told()[0], "READY=1");
    let began = Instant::now();
    for _ in 0..5 {
        assert_eq!(manager.told(), ["WATCHDOG=1"]);
    }
    assert!(
        began.elapsed() > Duration::from_millis(400),
        "half of the time each"
    );
    let mut client = connect(program.address("hello"));
    client.read_exact(&mut [0; 6]).expect("a greeting");
    program.terminate();
    let mut after_the_end = 0;
    let mut is_stopping = false;
    while after_the_end < 3 {
        match &manager.told()[0][..] {
            "STOPPING=1" => is_stopping = true,
            "WATCHDOG=1" => after_the_end += u32::from(is_stopping),
            other => panic!("{other}"),
        }
    }
    drop(client);
    assert!(program.wait().success());
}

#[test]
fn a_loop_that_stands_still_gives_no_sign_of_life() {
    let folder = temp_dir();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let variables = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=100000", path.display());
    let program = start(ECHO, &variables);
    assert_eq!(manager.told()[0], "READY=1");
    assert_eq!(manager.told(), ["WATCHDOG=1"]);
    program.hold_still();
    let pause = Some(Duration::from_millis(500));
    manager.0.set_read_timeout(pause).expect("a time-out");
    let mut left = [0; 100];
    // What was sent before it stood still is there; then there is silence.
    let sent = (0..10).take_while(|_| manager.0.recv(&mut left).is_ok());
    assert!(
        sent.count() < 10,
        "signs of life of a process that is stopped"
    );
    program.signal(Signal::CONT);
    manager
        .0
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out");
    assert_eq!(manager.told(), ["WATCHDOG=1"]);
    program.stop();
}

#[test]
fn a_manager_that_reads_nothing_does_not_hold_up_the_server() {
    let folder = temp_dir();
    let path = folder.path().join("notify");
    let _manager = Manager::at(&path);
    let variables = format!("NOTIFY_SOCKET={} WATCHDOG_USEC=200", path.display());
    let program = start(ECHO, &variables);
    let end = Instant::now() + Duration::from_millis(500);
    while Instant::now() < end {
        let mut client = program.connect("tcp-echo");
        std::io::Write::write_all(&mut client, b"abc").expect("a connection");
        let mut answer = [0; 3];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"ABC");
    }
    program.stop();
}

#[test]
fn a_command_that_is_run_hears_nothing_of_the_manager() {
    let folder = temp_dir();
    let path = folder.path().join("notify");
    let manager = Manager::at(&path);
    let told = folder.path().join("told");
    let hook = format!(
        "on_change = [\"/bin/sh\", \"-c\", \"env > {0}.new; mv {0}.new {0}\"]",
        told.display()
    );
    let config =
        format!("[[listener]]\nkind = \"udp-heartbeat\"\nbind = \"127.0.0.1:0\"\n{hook}\n");
    let variables = format!(
        "NOTIFY_SOCKET={} WATCHDOG_USEC=60000000 WATCHDOG_PID=$$ LISTEN_PID=1 LISTEN_FDS=1 LISTEN_FDNAMES=x KEPT=1",
        path.display()
    );
    let program = start(&config, &variables);
    assert_eq!(manager.told()[0], "READY=1");
    let socket = program.datagrams("udp-heartbeat");
    socket.send(b"Heartbeat 1 1.0").expect("a datagram");
    expect_soon(|| told.exists(), || "the command was not run".to_owned());
    let environment = fs::read_to_string(&told).expect("a file");
    let names = environment
        .lines()
        .filter_map(|line| line.split('=').next());
    let left: Vec<&str> = names
        .filter(|name| {
            ["NOTIFY_", "WATCHDOG_", "LISTEN_"]
                .iter()
                .any(|p| name.starts_with(p))
        })
        .collect();
    assert_eq!(left, [""; 0]);
    assert!(environment.contains("KEPT=1"), "{environment}");
    program.stop();
}

/// Units in a folder, made from this configuration.
fn units(config: &str, more: &[&str]) -> tempfile::TempDir {
    let folder = temp_dir();
    fs::write(folder.path().join("netlab.toml"), config).expect("a file");
    let arguments = ["systemd-unit", "--config", "netlab.toml", "--dir", "."];
    let mut command = common::command(&arguments);
    let output = command
        .args(more)
        .current_dir(folder.path())
        .output()
        .expect("the program runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    folder
}

const SERVED: &str = "[[listener]]\nkind = \"http\"\nbind = [\"127.0.0.1:80\", \"unix:/run/lab.sock\"]\n\
                      access_log = \"/var/log/netlab/access.log\"\n\
                      [[listener]]\nkind = \"udp-echo\"\n[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\n\
                      [[listener]]\nkind = \"upload\"\ndir = \"/srv/up loads\"\nhandshake = \"none\"\n\
                      [[listener]]\nkind = \"proxy\"\n";

#[test]
fn units_have_absolute_paths_and_are_printed_or_written() {
    let folder = units(SERVED, &["--name", "lab", "--user", "ann"]);
    let text = |name: &str| fs::read_to_string(folder.path().join(name)).expect("a file");
    let (service, socket) = (text("lab.service"), text("lab.socket"));
    let config = fs::canonicalize(folder.path().join("netlab.toml")).expect("a path");
    let starts = service.lines().find(|line| line.starts_with("ExecStart=/"));
    let expected = format!(" serve --config {}", config.display());
    assert!(starts.expect("a command").ends_with(&expected), "{service}");
    assert!(service.contains("\nUser=ann\n") && socket.contains("\nService=lab.service\n"));
    assert!(
        socket.contains("\nListenDatagram=127.0.0.1:12002\n"),
        "{socket}"
    );
    let file = folder.path().join("netlab.toml");
    let file = file.to_str().expect("UTF-8");
    let printed = common::command(&["systemd-unit", "--config", file]).output();
    let printed = printed.expect("the program runs").stdout;
    let printed = String::from_utf8_lossy(&printed);
    let headings = printed
        .lines()
        .filter(|line| line.starts_with("# netlab-reactor."));
    assert_eq!(
        headings.collect::<Vec<_>>(),
        ["# netlab-reactor.service", "# netlab-reactor.socket"]
    );
    for (wrong, code) in [
        (&["--name", "a b"][..], 2),
        (&["--config", "none.toml"], 78),
    ] {
        let mut command = common::command(&["systemd-unit"]);
        let output = command.args(wrong).output().expect("the program runs");
        assert_eq!(output.status.code(), Some(code), "{wrong:?}");
    }
}

#[test]
#[ignore = "needs systemd-analyze"]
fn systemd_finds_nothing_wrong_with_the_units() {
    let tool = "systemd-analyze";
    if Command::new(tool).arg("--version").output().is_err() {
        eprintln!("skipped: there is no {tool} (package systemd)");
        return;
    }
    for more in [&[][..], &["--no-socket"]] {
        let folder = units(SERVED, more);
        let all = fs::read_dir(folder.path()).expect("a folder");
        let all = all.map(|entry| entry.expect("an entry").path());
        let units: Vec<_> = all.filter(|path| !path.ends_with("netlab.toml")).collect();
        assert_eq!(units.len(), 2 - more.len());
        let output = Command::new(tool)
            .args(["--man=no", "--recursive-errors=no", "verify"])
            .args(&units)
            .output()
            .expect("the tool");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{said}");
        let service = folder.path().join("netlab-reactor.service");
        let output = Command::new(tool)
            .args(["security", "--offline=yes", "--threshold=30"])
            .arg(&service)
            .output()
            .expect("the tool");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    }
}
