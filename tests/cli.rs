//! The binary's command line: exit codes, what goes to which output, and what wins over what.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the binary with arguments and variables, without those of the surrounding environment.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
    for name in [
        "NETLAB_CONFIG",
        "NETLAB_BIND",
        "NETLAB_ROOT",
        "NETLAB_LOG",
        "NETLAB_LOG_FORMAT",
        "RUST_LOG",
    ] {
        command.env_remove(name);
    }
    command
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .expect("the binary runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What a check says of the defaults: the example has a listener of each kind.
fn all_listeners() -> String {
    let count = netlab_reactor::config::example()
        .lines()
        .filter(|line| *line == "[[listener]]")
        .count();
    format!("ok: {count} listeners\n")
}

#[test]
fn check_accepts_a_good_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("good.toml");
    fs::write(
        &file,
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "ok: 1 listener\n");
    // The flag may stand before the subcommand, or be a variable.
    let output = run(&["--config", file.to_str().unwrap(), "check"], &[]);
    assert_eq!(out(&output), "ok: 1 listener\n");
    let output = run(&["check"], &[("NETLAB_CONFIG", file.to_str().unwrap())]);
    assert_eq!(out(&output), "ok: 1 listener\n");
}

#[test]
fn check_names_every_problem_by_line_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.toml");
    fs::write(&file, "drain_timeout = 10\n[[listener]]\nkind = \"htp\"\n").unwrap();
    let path = file.to_str().unwrap();
    let output = run(&["check", "--config", path], &[]);
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(out(&output), "");
    let lines: Vec<String> = err(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].starts_with(&format!(
        "{path}:1:17: `drain_timeout` is 10 without a unit; "
    )));
    assert!(lines[1].starts_with(&format!(
        "{path}:3:8: `kind` is \"htp\", probably meant as "
    )));
}

#[test]
fn a_file_without_a_listener_is_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("empty.toml");
    let path = file.to_str().unwrap();
    for text in ["", "# nothing yet\n", "[limits]\nbacklog = 7\n"] {
        fs::write(&file, text).unwrap();
        for output in [
            run(&["check", "--config", path], &[]),
            run(&["serve", "--config", path], &[]),
            run(&["--config", path, "--bind", "::1", "--root", "."], &[]),
            run(&[], &[("NETLAB_CONFIG", path)]),
        ] {
            assert_eq!(output.status.code(), Some(78), "{text:?}");
            assert_eq!(out(&output), "");
            let told = err(&output);
            let expected = "expected at least one table [[listener]]";
            assert!(told.starts_with(path) && told.contains(expected), "{told}");
        }
    }
    // The defaults are for a start without a file.
    assert_eq!(out(&run(&["check"], &[])), all_listeners());
}

#[test]
fn a_missing_file_is_a_configuration_error() {
    for subcommand in ["check", "serve"] {
        let output = run(&[subcommand, "--config", "/nonexistent/x.toml"], &[]);
        assert_eq!(output.status.code(), Some(78));
        assert!(
            err(&output).starts_with("/nonexistent/x.toml: cannot be read: "),
            "{}",
            err(&output)
        );
    }
}

#[test]
fn a_certificate_that_cannot_be_used_is_a_configuration_error() {
    let folder = tempfile::tempdir().unwrap();
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), "not a key").unwrap();
    let file = folder.path().join("x.toml");
    let text = "[[listener]]\nkind = \"http\"\nname = \"web\"\nbind = \"127.0.0.1:0\"\n\
                tls = { cert = \"cert.pem\", key = \"key.pem\" }\n";
    fs::write(&file, text).unwrap();
    let path = file.to_str().unwrap();
    let told = ["check", "serve"].map(|subcommand| {
        let output = run(&[subcommand, "--config", path], &[]);
        assert_eq!(output.status.code(), Some(78), "{}", err(&output));
        assert_eq!(out(&output), "");
        err(&output)
    });
    let key = folder.path().join("key.pem");
    let expected = format!(
        "{path}:5:34: listener \"web\": `key` names {}: it holds no private key; expected PEM ",
        key.display()
    );
    assert!(told[0].starts_with(&expected), "{}", told[0]);
    assert_eq!(told[0], told[1], "check and serve");
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["--nonsense"][..],
        &["serve", "--bind", "here"],
        &["-v", "-q"],
        &["config"],
    ] {
        let output = run(arguments, &[]);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            err(&output)
        );
    }
    let output = run(&["check"], &[("NETLAB_BIND", "here")]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        err(&output).contains("NETLAB_BIND is \"here\""),
        "{}",
        err(&output)
    );
}

#[test]
fn a_flag_wins_over_its_variable() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("one.toml");
    fs::write(&file, "[[listener]]\nkind = \"hello\"\n").unwrap();
    let variables = [("NETLAB_CONFIG", "/nonexistent/x.toml")];
    let output = run(&["check", "--config", file.to_str().unwrap()], &variables);
    assert_eq!(out(&output), "ok: 1 listener\n");
    // An empty variable is an absent one.
    let output = run(&["check"], &[("NETLAB_CONFIG", ""), ("NETLAB_BIND", "")]);
    assert_eq!(out(&output), all_listeners());
}

#[test]
fn the_example_is_a_configuration() {
    let output = run(&["config", "example"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("example.toml");
    fs::write(&file, &output.stdout).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(out(&output), all_listeners(), "{}", err(&output));
}

#[test]
fn completions_and_manual_pages_are_printed() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let output = run(&["completions", shell], &[]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("netlab-reactor"));
    }
    assert!(out(&run(&["man"], &[])).contains(".TH netlab-reactor 1"));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let output = run(&["man", "--dir", pages.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(pages.join("netlab-reactor.1").exists());
    assert!(pages.join("netlab-reactor-check.1").exists());
    let page = out(&run(&["man", "upload"], &[]));
    assert_eq!(
        page,
        fs::read_to_string(pages.join("netlab-reactor-upload.1")).unwrap()
    );
    // The examples keep their lines, and the clients' exit codes are told.
    assert!(
        page.contains("\n  netlab\\-reactor upload \\-\\-handshake none"),
        "{page}"
    );
    assert!(
        page.contains(".SH \"EXIT STATUS\"\n.nf\n.in 1n\n0 sent"),
        "{page}"
    );
    assert_eq!(run(&["man", "uplaod"], &[]).status.code(), Some(2));
}

/// What bash offers behind these words.
fn bash_offers(words: &[&str]) -> String {
    let script = out(&run(&["completions", "bash"], &[]))
        + r#"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
function=$(complete -p netlab-reactor | sed 's/.*-F \([^ ]*\).*/\1/')
"$function" netlab-reactor "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
echo "${COMPREPLY[*]}"
"#;
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script, "bash"]).args(words);
    out(&bash.output().expect("bash")).trim_end().to_owned()
}

#[test]
fn bash_completes_subcommands_flags_and_values() {
    for (words, offers) in [
        (&["netlab-reactor", "pi"][..], "ping"),
        (&["netlab-reactor", "upload", "--sec"], "--secret-file"),
        (
            &["netlab-reactor", "mail", "--tls", ""],
            "required opportunistic off implicit",
        ),
        (&["netlab-reactor", "config", "ex"], "example"),
    ] {
        assert_eq!(bash_offers(words), offers, "{words:?}");
    }
}

#[test]
fn help_has_examples_and_fits_80_columns() {
    for command in [
        "",
        "serve",
        "check",
        "systemd-unit",
        "completions",
        "man",
        "tcp",
        "udp",
        "get",
        "ping",
        "heartbeat",
        "hello",
        "upload",
        "mail",
        "flood",
    ] {
        let mut arguments: Vec<&str> = vec!["--help"];
        if !command.is_empty() {
            arguments.insert(0, command);
        }
        let output = run(&arguments, &[("COLUMNS", "80")]);
        assert_eq!(output.status.code(), Some(0));
        let help = out(&output);
        let (_, text) = help.split_once("\nExamples:\n").expect(command);
        let wide = help.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{command}");
        // A wrapped example would go on without the indentation of one.
        let examples = text.split("\n\n").next().unwrap_or_default();
        let wrapped = examples.lines().find(|line| !line.starts_with("  "));
        assert_eq!(wrapped, None, "{command}");
    }
}

#[test]
fn a_password_becomes_a_line_of_a_file_of_users() {
    let passwd = |user: &str, input: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"))
            .args(["passwd", user])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut stdin = child.stdin.take().expect("a pipe");
        let _ = stdin.write_all(input.as_bytes()); // it may have ended already
        drop(stdin);
        child.wait_with_output().expect("the binary ends")
    };
    let output = passwd("ann", "tulip\n");
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let line = out(&output);
    assert!(
        line.starts_with("ann:$pbkdf2-sha256$100000$") && line.lines().count() == 1,
        "{line}"
    );
    assert_ne!(out(&passwd("ann", "tulip")), line, "the salt is random");
    for (user, input) in [
        ("a:b", "x"),
        ("", "x"),
        ("#a", "x"),
        ("ann", "\n"),
        ("ann", ""),
    ] {
        assert_eq!(
            passwd(user, input).status.code(),
            Some(2),
            "{user:?} {input:?}"
        );
    }
    // What it prints is what a configuration takes.
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("users"), &line).unwrap();
    let file = folder.path().join("x.toml");
    let auth = "[[listener]]\nkind = \"http\"\nroot = \".\"\nauth = { file = \"users\" }\n";
    fs::write(&file, auth).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn check_explains_each_key_and_where_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    let text = "drain_timeout = \"3s\"\n[[listener]]\nkind = \"upload\"\nsecret = \"tulip\"\n\
                [[listener]]\nkind = \"http\"\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let environment = [("NETLAB_ROOT", "/srv/site")];
    let arguments = ["check", "--config", file, "--bind", "::1", "--explain"];
    let output = run(&arguments, &environment);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let shown = out(&output);
    let row = |key: &str| {
        let line = shown
            .lines()
            .find(|line| line.starts_with(&format!("{key} ")));
        let words: Vec<&str> = line.expect(key).split_whitespace().collect();
        (words[1].to_owned(), words[2..].join(" "))
    };
    let at = |line: u32| format!("{file}:{line}");
    assert_eq!(row("drain_timeout"), ("\"3s\"".to_owned(), at(1)));
    assert_eq!(row("listener[0].secret"), ("(set)".to_owned(), at(4)));
    assert_eq!(
        row("listener[0].bind"),
        ("[\"[::1]:9001\"]".to_owned(), "--bind".to_owned())
    );
    assert_eq!(
        row("listener[1].root"),
        ("\"/srv/site\"".to_owned(), "NETLAB_ROOT".to_owned())
    );
    assert_eq!(
        row("listener[1].head_timeout"),
        ("\"10s\"".to_owned(), "default".to_owned())
    );
    assert!(!shown.contains("tulip"));

    let json = out(&run(&[&arguments[..], &["--json"]].concat(), &environment));
    let all: Vec<serde_json::Value> = serde_json::from_str(&json).expect("JSON");
    assert_eq!(all.len(), shown.lines().count());
    let row = all
        .iter()
        .find(|row| row["key"] == "listener[0].secret")
        .unwrap();
    let expected = serde_json::json!(
        {"key": "listener[0].secret", "value": "(set)", "origin": "file", "file": file, "line": 4}
    );
    assert_eq!(*row, expected);
    let row = all
        .iter()
        .find(|row| row["key"] == "listener[1].bind")
        .unwrap();
    assert_eq!(
        (&row["origin"], &row["flag"]),
        (&"flag".into(), &"--bind".into())
    );
    assert_eq!(run(&["check", "--json"], &[]).status.code(), Some(2));
    // Without a file it explains the defaults.
    let output = out(&run(&["check", "--explain"], &[]));
    assert!(
        output
            .lines()
            .any(|line| line.starts_with("limits.max_sessions ")),
        "{output}"
    );
}
