//! `mail` against scripted SMTP servers, with and without TLS.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Receiver};

use crate::harness::{CA_FILE, Ended, accept_tls, command, read_to, run_with, tcp_server};

/// Speaks SMTP well: takes every recipient but those at `no.test`, and PLAIN logins of ann with
/// tulip.
fn serve(stream: &mut (impl Read + Write), offers: &str, mails: &mpsc::Sender<String>) -> bool {
    let mut line = String::new();
    loop {
        let reply = match line
            .trim_end()
            .to_ascii_uppercase()
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
        {
            "EHLO" => format!("250-mx\r\n{offers}250 HELP\r\n"),
            "STARTTLS" => {
                stream.write_all(b"220 go\r\n").unwrap();
                return true;
            }
            "AUTH" if line == "AUTH PLAIN AGFubgB0dWxpcA==\r\n" => "235 in\r\n".into(),
            "AUTH" => "535 5.7.8 no\r\n".into(),
            "RCPT" if line.contains("@no.test") => "550 5.1.1 nobody there\r\n".into(),
            "RCPT" if line.contains("@busy.test") => "451 4.2.1 busy\r\n".into(),
            "DATA" => {
                stream.write_all(b"354 go\r\n").unwrap();
                mails.send(read_to(stream, "\r\n.\r\n")).unwrap();
                "250 2.0.0 queued\r\n".into()
            }
            "QUIT" => {
                let _ = stream.write_all(b"221 bye\r\n");
                return false;
            }
            "" => "220 mx ready\r\n".into(),
            _ => "250 ok\r\n".into(),
        };
        if stream.write_all(reply.as_bytes()).is_err() {
            return false;
        }
        line = read_to(stream, "\r\n");
        if line.is_empty() {
            return false;
        }
    }
}

fn server(offers: &'static str) -> (SocketAddr, Receiver<String>) {
    let (mails, received) = mpsc::channel();
    let address = tcp_server(move |mut stream| {
        if serve(&mut stream, offers, &mails) {
            let mut stream = accept_tls(stream);
            // The greeting is not repeated inside.
            let hello = read_to(&mut stream, "\r\n");
            assert!(hello.starts_with("EHLO"));
            stream
                .write_all(b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n")
                .unwrap();
            let line = read_to(&mut stream, "\r\n");
            assert_eq!(line, "AUTH PLAIN AGFubgB0dWxpcA==\r\n");
            stream.write_all(b"235 in\r\n").unwrap();
            for _ in 0..2 {
                read_to(&mut stream, "\r\n");
                stream.write_all(b"250 ok\r\n").unwrap();
            }
            read_to(&mut stream, "\r\n");
            stream.write_all(b"354 go\r\n").unwrap();
            mails.send(read_to(&mut stream, "\r\n.\r\n")).unwrap();
            stream.write_all(b"250 queued inside\r\n").unwrap();
        }
    });
    (address, received)
}

fn mail(server: SocketAddr, arguments: &[&str], input: &str) -> Ended {
    let server = format!("localhost:{}", server.port());
    let mut all = vec![
        "mail",
        "--server",
        &server,
        "-4",
        "--from",
        "Ann <a@x.test>",
        "--helo",
        "me.test",
    ];
    all.extend(arguments);
    let mut command = command(&all);
    command.env("NETLAB_PASSWORD", "tulip");
    run_with(command, input.as_bytes())
}

#[test]
fn a_plain_mail_with_a_body_full_of_dots() {
    let (server, mails) = server("");
    let ended = mail(
        server,
        &["--to", "b@y.test", "--subject", "Grüße"],
        ".\n..\nhello\n.\n",
    );
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "taken for b@y.test: 250 2.0.0 queued\n"),
        "{ended:?}"
    );
    let message = mails.recv().unwrap();
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    for line in [
        "From: \"Ann\" <a@x.test>",
        "To: <b@y.test>",
        "MIME-Version: 1.0",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert!(
        head.contains("Subject: =?utf-8?") && head.contains("Date: ") && head.contains("@x.test>"),
        "{head}"
    );
    assert!(head.contains("Message-ID: <"), "{head}");
    assert!(body.starts_with("..\r\n...\r\nhello\r\n..\r\n"), "{body}");
}

#[test]
fn some_recipients_refused_is_a_negative_result() {
    let (server, mails) = server("250-PIPELINING\r\n");
    let arguments = [
        "--to",
        "b@y.test",
        "c@no.test",
        "--bcc",
        "d@z.test",
        "--body",
        "hi",
    ];
    let ended = mail(server, &arguments, "");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (1, "taken for b@y.test, d@z.test: 250 2.0.0 queued\n")
    );
    assert_eq!(
        ended.stderr,
        "netlab-reactor mail: c@no.test was refused: 550 5.1.1 nobody there\n"
    );
    assert!(!mails.recv().unwrap().contains("d@z.test"));
    let ended = mail(server, &["--to", "c@no.test", "--body", "hi", "--json"], "");
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(
        ended.stdout.starts_with("{\"delivered\":false"),
        "{}",
        ended.stdout
    );
    assert!(
        ended
            .stderr
            .contains("at the step recipient (RCPT TO:<c@no.test>): the server answered 550"),
        "{ended:?}"
    );
    assert_eq!(
        mail(server, &["--to", "c@busy.test", "--body", "hi"], "").code,
        75
    );
}

#[test]
fn parts_images_and_dry_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let (html, image, file) = (
        at("x.html", b"<img src='cid:logo.png'>"),
        at("logo.png", b"\x89PNG"),
        at("d.bin", &[0, 255]),
    );
    let ended = mail(
        "127.0.0.1:1".parse().unwrap(),
        &[
            "--to",
            "b@y.test",
            "--body",
            "hi",
            "--html-file",
            &html,
            "--inline",
            &image,
            "--attach",
            &file,
            "--dry-run",
        ],
        "",
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    let places: Vec<_> = [
        "multipart/mixed",
        "multipart/related",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "image/png",
        "Content-ID: <logo.png>",
        "iVBORw==",
        "application/octet-stream",
        "filename=\"d.bin\"",
    ]
    .iter()
    .map(|text| {
        ended
            .stdout
            .find(text)
            .unwrap_or_else(|| panic!("{text} in {}", ended.stdout))
    })
    .collect();
    assert!(places.is_sorted(), "{}", ended.stdout);
}

#[test]
fn starttls_and_a_login_that_stays_hidden() {
    let (server, mails) = server("250-STARTTLS\r\n");
    let arguments = [
        "--to",
        "b@y.test",
        "--body",
        "hi",
        "--user",
        "ann",
        "--tls",
        "required",
        "--ca-file",
        CA_FILE,
        "-v",
    ];
    let ended = mail(server, &arguments, "");
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "taken for b@y.test: 250 queued inside\n"),
        "{ended:?}"
    );
    assert!(mails.recv().unwrap().ends_with("hi\r\n.\r\n"));
    for line in [
        "> EHLO me.test",
        "> STARTTLS",
        "< 220 go",
        "> AUTH PLAIN (hidden)",
        "< 235 in",
        "> QUIT",
    ] {
        assert!(
            ended.stderr.lines().any(|shown| shown == line),
            "{line} in {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("AGFub"));
    let ended = mail(
        server,
        &["--to", "b@y.test", "--body", "hi", "--tls", "required"],
        "",
    );
    assert_eq!(
        (
            ended.code,
            ended.stderr.contains("invalid peer certificate")
        ),
        (69, true),
        "{ended:?}"
    );
}

#[test]
fn implicit_tls_under_another_name() {
    let (mails, received) = mpsc::channel();
    let server = tcp_server(move |stream| {
        serve(&mut accept_tls(stream), "250-AUTH PLAIN\r\n", &mails);
    });
    let arguments = [
        "--to",
        "b@y.test",
        "--body",
        "hi",
        "--user",
        "ann",
        "--tls",
        "implicit",
        "--ca-file",
        CA_FILE,
        "--tls-name",
        "mail.test",
    ];
    let ended = mail(server, &arguments, "");
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    assert!(received.recv().unwrap().contains("hi"));
}

#[test]
fn a_password_does_not_go_in_clear() {
    let (server, _mails) = server("250-AUTH PLAIN\r\n");
    let arguments = ["--to", "b@y.test", "--body", "hi", "--user", "ann"];
    let ended = mail(server, &arguments, "");
    assert_eq!(
        (
            ended.code,
            ended
                .stderr
                .contains("not encrypted, so the password was not sent")
        ),
        (77, true),
        "{ended:?}"
    );
    let forced = [&arguments[..], &["--force-clear-auth"]].concat();
    assert_eq!(mail(server, &forced, "").code, 0);
}

#[test]
fn arguments_cannot_smuggle_headers() {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    for arguments in [
        ["--to", "b@y.test", "--subject", "x\r\nBcc: z@z"],
        ["--to", "b@y.test>\r\nRCPT TO:<z@z", "--subject", "x"],
        ["--to", "x\ny <b@y.test>", "--subject", "x"],
    ] {
        assert_eq!(mail(nowhere, &arguments, "").code, 2, "{arguments:?}");
    }
}

fn dry_run(arguments: &[&str], input: &str) -> String {
    let nowhere = "127.0.0.1:1".parse().unwrap();
    let ended = mail(
        nowhere,
        &[&["--to", "b@y.test", "--dry-run"], arguments].concat(),
        input,
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    ended.stdout
}

#[test]
fn names_arrive_as_they_were_meant() {
    for (typed, header) in [
        (r#""Say \"hi\"" <a@x.org>"#, r#"Cc: "Say \"hi\"" <a@x.org>"#),
        (r#"Jane "JD" <a@x.org>"#, r#"Cc: "Jane JD" <a@x.org>"#),
        (
            r#""Doe, \\J" <"a, b"@x.org>, c@d"#,
            r#"Cc: "Doe, \\J" <"a, b"@x.org>, <c@d>"#,
        ),
        ("a@bücher.example", "Cc: <a@xn--bcher-kva.example>"),
    ] {
        let message = dry_run(&["--cc", typed, "--body", "hi"], "");
        assert!(message.lines().any(|line| line == header), "{message}");
    }
}

#[test]
fn what_no_line_of_text_may_hold_goes_out_in_base64() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name).to_str().unwrap().to_owned()
    };
    let attached = [at("nul.txt", b"c\0d"), at("mac.txt", b"e\rf")];
    let html = at("x.html", b"<p>\0</p>");
    let message = dry_run(
        &[
            &["--html-file", &html, "--attach"][..],
            &[&attached[0], &attached[1]],
        ]
        .concat(),
        "a\0b\n",
    );
    assert!(!message.contains('\0'));
    for base64 in ["YQBiCg==", "PHA+ADwvcD4=", "YwBk", "ZQ1m"] {
        assert!(
            message.contains(&format!("\r\n\r\n{base64}\r\n")),
            "{message}"
        );
    }
    let encoding = "Content-Transfer-Encoding: base64\r\n";
    assert_eq!(message.matches(encoding).count(), 4);
    // What needs none of it stays readable.
    let plain = dry_run(
        &["--attach", &at("plain.txt", b"one\r\ntwo\r\n")],
        "a\x1bb\n",
    );
    assert!(!plain.contains("base64"), "{plain}");
    let long = dry_run(&[], &"\0".repeat(200));
    assert!(long.lines().all(|line| line.len() <= 76), "{long}");
}

#[test]
fn quoted_names_and_domains_beyond_ascii_reach_any_server() {
    let (server, mails) = server("");
    let arguments = [
        "--to",
        "\"a <b>\"@bücher.example",
        "--cc",
        "C <\"say \\\"x\\\"\"@y.test>",
        "--body",
        "hi",
        "-v",
    ];
    let ended = mail(server, &arguments, "");
    assert_eq!(ended.code, 0, "{ended:?}");
    for line in [
        "> RCPT TO:<\"a <b>\"@xn--bcher-kva.example>",
        "> RCPT TO:<\"say \\\"x\\\"\"@y.test>",
    ] {
        assert!(ended.stderr.lines().any(|shown| shown == line), "{ended:?}");
    }
    assert!(mails.recv().unwrap().contains("hi"));
}

#[test]
fn login_is_tried_where_plain_is_refused() {
    for refusal in ["504 5.5.4 not here\r\n", "535 5.7.8 no\r\n"] {
        let server = tcp_server(move |mut stream| {
            let mut say = |reply: &str| {
                stream.write_all(reply.as_bytes()).unwrap();
                read_to(&mut stream, "\r\n")
            };
            say("220 mx\r\n");
            assert!(say("250-mx\r\n250 AUTH PLAIN LOGIN\r\n").starts_with("AUTH PLAIN "));
            assert_eq!(say(refusal), "AUTH LOGIN\r\n");
            assert_eq!(say("334 VXNlcm5hbWU6\r\n"), "YW5u\r\n");
            assert_eq!(say("334 UGFzc3dvcmQ6\r\n"), "dHVsaXA=\r\n");
            for reply in ["235 in\r\n", "250 ok\r\n", "250 ok\r\n"] {
                say(reply);
            }
            stream.write_all(b"354 go\r\n").unwrap();
            read_to(&mut stream, "\r\n.\r\n");
            stream.write_all(b"250 queued\r\n").unwrap();
        });
        let arguments = ["--to", "b@y.test", "--body", "hi", "--user", "ann"];
        let ended = mail(
            server,
            &[&arguments[..], &["--force-clear-auth"]].concat(),
            "",
        );
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (0, "taken for b@y.test: 250 queued\n", ""),
            "{refusal}"
        );
    }
}
