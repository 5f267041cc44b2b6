//! The README's walk-through and the labs of the course, run as they stand there: each command is
//! given to a shell, and must print what they say that it prints.
//!
//! - The server is the program with its defaults, moved to a loopback address of this test alone,
//!   so that the ports are free whatever else runs here. A program that listens at one of them on
//!   every address is still in the way.
//! - A `console` block holds commands behind `$ ` (a continued line behind `> `) with their
//!   outputs; `cargo run` starts the server. A `text` block holds lines that the server logs, a `bytes`
//!   block what is on the wire, which is not looked at.
//! - What differs from run to run is compared by its kind: times, round trips, loss, ports of
//!   clients, numbers of sessions, the made-up secret.

mod common;

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, temp_dir};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// What the shell prints behind the output of a command.
const MARK: &str = "--- that was all ---";

#[test]
fn the_walkthrough_of_the_readme_is_true() {
    walk(
        "README.md",
        "## Five minutes, every listener\n",
        &own_address(100),
        12,
    );
}

#[test]
fn the_labs_of_the_course_are_true() {
    walk(
        "tests/course/README.md",
        "## The labs\n",
        &own_address(170),
        30,
    );
}

/// Runs what a file has under a heading, with a server at this address; at least so many commands.
fn walk(file: &str, heading: &str, address: &str, commands_min: usize) {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
    let blocks = blocks(&text.expect("a file"), heading);
    let folder = temp_dir();
    let release = folder.path().join("target/release");
    fs::create_dir_all(&release).expect("a folder");
    symlink(
        env!("CARGO_BIN_EXE_netlab-reactor"),
        release.join("netlab-reactor"),
    )
    .expect("a link");

    let mut server: Option<Running> = None;
    let mut shell = Running::start(folder.path(), "sh", false);
    let mut secrets: Option<(String, String)> = None;
    let mut differences = Vec::new();
    let mut commands = 0;
    for block in &blocks {
        match block {
            Block::Command { command, output } if command.starts_with("cargo run") => {
                let line = format!("exec target/release/netlab-reactor --bind {address}");
                let mut started = Running::start(folder.path(), &line, true);
                let actual = started.until_ready();
                secrets = Some((secret_of(output), secret_of(&actual)));
                // The README leaves the log out here.
                let said: Vec<&str> = actual
                    .lines()
                    .filter(|line| !line.starts_with("[20"))
                    .collect();
                compare(
                    command,
                    output,
                    &said.join("\n"),
                    address,
                    &secrets,
                    &mut differences,
                );
                server = Some(started);
            }
            Block::Command { command, output } => {
                let mut line = command.replace("127.0.0.1", address);
                if let Some((shown, real)) = &secrets {
                    line = line.replace(shown, real);
                }
                let actual = shell.run(&line);
                compare(
                    command,
                    output,
                    &actual,
                    address,
                    &secrets,
                    &mut differences,
                );
                commands += 1;
            }
            Block::Logged(lines) => {
                let server = server.as_mut().expect("cargo run comes first");
                for line in lines {
                    server.await_line(&normal(line), address);
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(commands >= commands_min, "only {commands} commands");
    server.expect("a server").interrupt();
}

enum Block {
    Command { command: String, output: String },
    Logged(Vec<String>),
}

/// The blocks under a heading, a command each.
fn blocks(text: &str, heading: &str) -> Vec<Block> {
    let (_, section) = text.split_once(heading).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut blocks = Vec::new();
    let mut parts = section.split("```").skip(1).step_by(2);
    for block in &mut parts {
        let (language, text) = block.split_once('\n').expect("a line behind ```");
        match language {
            "text" => blocks.push(Block::Logged(text.lines().map(str::to_owned).collect())),
            "console" => commands(text, &mut blocks),
            "bytes" => {}
            other => panic!("a block of the language {other:?} under {heading:?}"),
        }
    }
    blocks
}

fn commands(text: &str, blocks: &mut Vec<Block>) {
    for line in text.lines() {
        if let Some(start) = line.strip_prefix("$ ") {
            blocks.push(Block::Command {
                command: start.to_owned(),
                output: String::new(),
            });
            continue;
        }
        let Some(Block::Command { command, output }) = blocks.last_mut() else {
            panic!("{line:?} stands before any command");
        };
        match line.strip_prefix("> ") {
            Some(more) if output.is_empty() => *command += &format!("\n{more}"),
            _ => *output += &format!("{line}\n"),
        }
    }
}

/// A loopback address that no other test has: `from` tells those of one process apart.
fn own_address(from: u8) -> String {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    format!("127.{}.{c}.{d}", from + b)
}

/// The made-up secret in what the server said.
fn secret_of(text: &str) -> String {
    let is_secret = |word: &&str| word.len() == 32 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.find(is_secret).expect("a secret").to_owned()
}

fn compare(
    command: &str,
    expected: &str,
    actual: &str,
    address: &str,
    secrets: &Option<(String, String)>,
    differences: &mut Vec<String>,
) {
    let mut actual = actual.replace(address, "127.0.0.1");
    if let Some((shown, real)) = secrets {
        actual = actual.replace(real, shown);
    }
    // On a busy machine an answer to a ping may come after its time was over, or after the next
    // one.
    let is_late = |line: &str| {
        line.contains(": Late reply from ") || line.ends_with(" late") || line.ends_with("of order")
    };
    let kind = |text: &str| -> Vec<String> {
        let lines = text.trim_end().lines();
        lines.filter(|line| !is_late(line)).map(normal).collect()
    };
    if kind(expected) != kind(&actual) {
        differences.push(format!(
            "$ {command}\nthe README says:\n{expected}\nit printed:\n{actual}"
        ));
    }
}

/// A line without what differs from run to run.
fn normal(line: &str) -> String {
    for name in ["Date:", "Message-ID:"] {
        if line.starts_with(name) {
            return name.to_owned();
        }
    }
    if let Some((number, rest)) = line
        .strip_prefix("Sequence ")
        .and_then(|rest| rest.split_once(": "))
    {
        let reply = rest.strip_suffix(" (out of order)").unwrap_or(rest);
        let is_reply = reply.starts_with("Reply from 127.0.0.1 RTT = 0.") && reply.ends_with('s');
        if number.parse::<u32>().is_ok() && (is_reply || rest == "Request timed out") {
            return "Sequence #".to_owned();
        }
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let kind = |index: usize, word: &&str| normal_word(word, words.get(index + 1));
    let kinds: Vec<String> = words
        .iter()
        .enumerate()
        .map(|(index, word)| kind(index, word))
        .filter(|word| !word.starts_with('━')) // the bars of --timing
        .collect();
    kinds.join(" ")
}

fn normal_word(word: &str, next: Option<&&str>) -> String {
    let bare = word.trim_end_matches(['%', ',', 's', 'm']);
    let rest = &word[bare.len()..];
    let is_number = |text: &str| {
        text.bytes().any(|b| b.is_ascii_digit())
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || b"./".contains(&b))
    };
    let is_address = word.starts_with("127.");
    let differs = bare.contains('.') || rest.contains('%') || rest.contains("ms");
    if is_number(bare) && !is_address && (differs || next == Some(&"received,")) {
        return format!("#{rest}");
    }
    if let Some(("127.0.0.1", port)) = word.split_once(':') {
        let number = port.trim_end_matches(':');
        if number.parse::<u16>().is_ok_and(|number| number >= 20_000) {
            return "127.0.0.1:#".to_owned();
        }
    }
    // Whom a line of the log is about: a listener and a number.
    if let Some((listener, number)) = word.strip_suffix(']').and_then(|w| w.split_once('#'))
        && number.parse::<u32>().is_ok()
    {
        return format!("{listener}#]");
    }
    match word.starts_with("[20") && word.ends_with('Z') {
        true => "[#".to_owned(),
        false => word.to_owned(),
    }
}

/// A program in a process group of its own, whose outputs come as one, line by line.
struct Running {
    child: Child,
    lines: Receiver<String>,
    /// Lines that came while another was waited for.
    early: VecDeque<String>,
}

impl Running {
    fn start(folder: &Path, line: &str, is_server: bool) -> Self {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("exec 2>&1; {line}"));
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("NETLAB_")
                || name == "RUST_LOG"
                || name.to_lowercase().ends_with("_proxy")
            {
                command.env_remove(name);
            }
        }
        let mut child = command
            .current_dir(folder)
            .env("PWD", folder)
            .env("TMPDIR", folder)
            .env("XDG_CACHE_HOME", folder.join("cache"))
            .stdin(if is_server {
                Stdio::null()
            } else {
                Stdio::piped()
            })
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a shell");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            lines,
            early: VecDeque::new(),
        }
    }

    fn line(&mut self, until: Instant) -> Option<String> {
        let left = until.saturating_duration_since(Instant::now());
        self.lines.recv_timeout(left).ok()
    }

    /// What the server says until it is ready.
    fn until_ready(&mut self) -> String {
        let until = Instant::now() + PATIENCE;
        let mut text = String::new();
        while !text.ends_with("\nready\n") {
            let Some(line) = self.line(until) else {
                panic!("it is not ready: {text}");
            };
            text += &format!("{line}\n");
        }
        text
    }

    /// Has the shell run a command; what it printed.
    fn run(&mut self, command: &str) -> String {
        let until = Instant::now() + PATIENCE + Duration::from_secs(20);
        let stdin = self.child.stdin.as_mut().expect("a shell");
        let script = format!("{{ {command}\n}} </dev/null\nprintf '\\n%s\\n' '{MARK}'\n");
        stdin.write_all(script.as_bytes()).expect("it listens");
        let mut text = String::new();
        loop {
            match self.line(until) {
                Some(line) if line == MARK => return text,
                Some(line) => text += &format!("{line}\n"),
                None => panic!("{command:?} does not end: {text}"),
            }
        }
    }

    /// Waits until the server logs such a line; the others keep.
    fn await_line(&mut self, kind: &str, address: &str) {
        let is_it = |line: &String| normal(&line.replace(address, "127.0.0.1")) == kind;
        if let Some(index) = self.early.iter().position(is_it) {
            self.early.remove(index);
            return;
        }
        let until = Instant::now() + PATIENCE;
        while let Some(line) = self.line(until) {
            if is_it(&line) {
                return;
            }
            self.early.push_back(line);
        }
        panic!("the server does not log {kind:?}, but {:#?}", self.early);
    }

    /// Presses Ctrl-C; it must end well.
    fn interrupt(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
        let until = Instant::now() + PATIENCE;
        while self.line(until).is_some() {}
        let status = self.child.wait().expect("a status");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long since, with all that it started.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}
