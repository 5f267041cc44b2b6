//! Dialogues played against lists of replies.

use proptest::prelude::*;

use super::*;

fn settings(tls: Tls) -> Settings {
    Settings {
        hello_name: "me".into(),
        tls,
        credentials: None,
        force_clear_auth: false,
    }
}

fn with_login(tls: Tls, mechanism: Option<Mechanism>) -> Settings {
    let credentials = Credentials {
        user: "ann".into(),
        password: "tulip".into(),
        mechanism,
    };
    Settings {
        credentials: Some(credentials),
        ..settings(tls)
    }
}

fn mail(to: &[&str], content: &str) -> Mail {
    let mailbox = |text: &str| Mailbox::parse(text).unwrap();
    Mail::new(
        mailbox("a@x"),
        to.iter().map(|to| mailbox(to)).collect(),
        content.as_bytes(),
    )
}

/// What came of a dialogue with a server that says these replies, one after each of our sends.
struct Played {
    sent: Vec<String>,
    shown: Vec<String>,
    outcome: Result<Outcome, SmtpError>,
}

impl Played {
    fn error(&self) -> String {
        match &self.outcome {
            Err(error) => error.to_string(),
            Ok(outcome) => outcome.delivered.clone().unwrap_err().to_string(),
        }
    }
}

fn play_cut(settings: Settings, mail: Mail, replies: &[&str], piece_bytes: usize) -> Played {
    let mut dialogue = Dialogue::new(settings, mail);
    let (mut sent, mut shown) = (Vec::new(), Vec::new());
    let mut replies = replies.iter();
    loop {
        while let Some(event) = dialogue.next_event() {
            match event {
                Event::Send {
                    bytes,
                    shown: lines,
                } => {
                    sent.push(String::from_utf8(bytes).unwrap());
                    shown.extend(lines);
                }
                Event::Received(_) => {}
                Event::StartTls => {
                    sent.push("(TLS)".into());
                    dialogue.tls_started();
                }
                Event::Finished(outcome) => {
                    return Played {
                        sent,
                        shown,
                        outcome: Ok(outcome),
                    };
                }
            }
        }
        let result = match replies.next() {
            Some(reply) => reply
                .as_bytes()
                .chunks(piece_bytes)
                .try_for_each(|piece| dialogue.receive(piece)),
            None => dialogue.closed(),
        };
        if let Err(error) = result {
            return Played {
                sent,
                shown,
                outcome: Err(error),
            };
        }
    }
}

fn play(settings: Settings, mail: Mail, replies: &[&str]) -> Played {
    play_cut(settings, mail, replies, usize::MAX)
}

const GREETING: &str = "220 mx ready\r\n";
const OK: &str = "250 ok\r\n";

#[test]
fn the_plain_dialogue() {
    let replies = [
        GREETING,
        "250-mx\r\n250 HELP\r\n",
        OK,
        OK,
        "354 go\r\n",
        "250 queued\r\n",
        "221 bye\r\n",
    ];
    let played = play(
        settings(Tls::Opportunistic),
        mail(&["b@y"], "S: x\n\n.dot\n"),
        &replies,
    );
    let expected = [
        "EHLO me\r\n",
        "MAIL FROM:<a@x>\r\n",
        "RCPT TO:<b@y>\r\n",
        "DATA\r\n",
        "S: x\r\n\r\n..dot\r\n.\r\n",
        "QUIT\r\n",
    ];
    assert_eq!(played.sent, expected);
    let outcome = played.outcome.unwrap();
    assert_eq!(outcome.delivered.unwrap().to_string(), "250 queued");
    assert_eq!(outcome.refused, []);
    assert!(
        played.shown.contains(&"(14 bytes of message)".to_owned()),
        "{:?}",
        played.shown
    );
}

#[test]
fn a_missing_farewell_does_not_matter() {
    let replies = [GREETING, OK, OK, OK, "354 go\r\n", OK];
    assert!(
        play(settings(Tls::Off), mail(&["b@y"], "x"), &replies)
            .outcome
            .unwrap()
            .delivered
            .is_ok()
    );
}

#[test]
fn ehlo_falls_back_to_helo() {
    let replies = [GREETING, "502 what\r\n", OK, OK, OK, "354 go\r\n", OK, OK];
    let played = play(settings(Tls::Opportunistic), mail(&["b@y"], "x"), &replies);
    assert_eq!(played.sent[..2], ["EHLO me\r\n", "HELO me\r\n"]);
    assert!(played.outcome.unwrap().delivered.is_ok());
}

#[test]
fn starttls_then_login_with_capabilities_asked_again() {
    let clear = "250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n";
    let inside = "250-mx\r\n250 AUTH LOGIN\r\n";
    let replies = [
        GREETING,
        clear,
        "220 go\r\n",
        inside,
        "334 VXNlcm5hbWU6\r\n",
        "334 UGFzc3dvcmQ6\r\n",
        "235 in\r\n",
        OK,
        OK,
        "354 go\r\n",
        OK,
        OK,
    ];
    let played = play(
        with_login(Tls::Required, None),
        mail(&["b@y"], "x"),
        &replies,
    );
    let expected = [
        "EHLO me\r\n",
        "STARTTLS\r\n",
        "(TLS)",
        "EHLO me\r\n",
        "AUTH LOGIN\r\n",
        "YW5u\r\n",
        "dHVsaXA=\r\n",
    ];
    assert_eq!(played.sent[..7], expected);
    assert_eq!(played.shown[3..6], ["AUTH LOGIN", "(hidden)", "(hidden)"]);
    assert!(played.outcome.unwrap().delivered.is_ok());
}

/// Logs in over TLS from the first byte, with a server that offers these mechanisms and answers
/// AUTH with `replies`.
fn log_in(mechanism: Option<Mechanism>, offer: &str, replies: &[&str]) -> Played {
    let offer = format!("250-mx\r\n250 AUTH {offer}\r\n");
    let replies = [&[GREETING, &offer], replies].concat();
    play(
        with_login(Tls::Implicit, mechanism),
        mail(&["b@y"], "x"),
        &replies,
    )
}

#[test]
fn plain_login_is_preferred_and_hidden() {
    let played = log_in(None, "LOGIN PLAIN", &["235 in\r\n"]);
    assert_eq!(played.sent[1], "AUTH PLAIN AGFubgB0dWxpcA==\r\n");
    assert_eq!(played.shown[1], "AUTH PLAIN (hidden)");
    assert_eq!(played.sent[2], "MAIL FROM:<a@x>\r\n");
    let refused = ["535 no\r\n", "221 bye\r\n"];
    let played = log_in(None, "PLAIN", &refused);
    assert_eq!(played.sent[2..], ["QUIT\r\n"]);
    assert_eq!(
        played.error(),
        "at the step log-in (AUTH PLAIN (hidden)): the server answered 535 no"
    );
    let replies = ["334 x\r\n", "535 no\r\n", "221 bye\r\n"];
    let played = log_in(Some(Mechanism::Login), "LOGIN PLAIN", &replies);
    assert_eq!(played.sent[1..], ["AUTH LOGIN\r\n", "YW5u\r\n", "QUIT\r\n"]);
    assert!(played.error().contains("(AUTH LOGIN (hidden))"));
}

#[test]
fn login_follows_a_refused_plain() {
    for refusal in ["504 unknown\r\n", "535 no\r\n", "534 weak\r\n", "501 x\r\n"] {
        let replies = [refusal, "334 u\r\n", "334 p\r\n", "235 in\r\n", OK];
        let played = log_in(None, "PLAIN LOGIN", &replies);
        let expected = [
            "AUTH PLAIN AGFubgB0dWxpcA==\r\n",
            "AUTH LOGIN\r\n",
            "YW5u\r\n",
            "dHVsaXA=\r\n",
            "MAIL FROM:<a@x>\r\n",
        ];
        assert_eq!(played.sent[1..6], expected, "{refusal}");
        let hidden = ["AUTH PLAIN (hidden)", "AUTH LOGIN", "(hidden)", "(hidden)"];
        assert_eq!(played.shown[1..5], hidden);
    }
    // Both are refused: that is the end, and the words are those about the last one.
    let replies = [
        "535 a\r\n",
        "334 u\r\n",
        "334 p\r\n",
        "535 b\r\n",
        "221 bye\r\n",
    ];
    let played = log_in(None, "PLAIN LOGIN", &replies);
    assert_eq!(played.sent[5..], ["QUIT\r\n"]);
    assert!(played.error().ends_with("the server answered 535 b"));
    // What may succeed later, what was asked for by name, and what is not offered is not followed
    // by another.
    for (mechanism, offer, reply) in [
        (None, "PLAIN LOGIN", "454 later\r\n"),
        (Some(Mechanism::Plain), "PLAIN LOGIN", "535 no\r\n"),
        (None, "PLAIN", "504 no\r\n"),
    ] {
        let played = log_in(mechanism, offer, &[reply, "221 bye\r\n"]);
        assert_eq!(played.sent[2..], ["QUIT\r\n"], "{reply}");
    }
}

#[test]
fn a_password_never_goes_in_clear_unless_forced() {
    let replies = [GREETING, "250-mx\r\n250 AUTH=PLAIN\r\n", "221 bye\r\n"];
    let played = play(
        with_login(Tls::Opportunistic, None),
        mail(&["b@y"], "x"),
        &replies,
    );
    assert_eq!(played.sent, ["EHLO me\r\n", "QUIT\r\n"]);
    assert!(
        played
            .error()
            .ends_with("not encrypted, so the password was not sent")
    );
    let forced = Settings {
        force_clear_auth: true,
        ..with_login(Tls::Off, None)
    };
    assert!(play(forced, mail(&["b@y"], "x"), &replies).sent[1].starts_with("AUTH PLAIN"));
}

#[test]
fn required_tls_that_is_not_offered_or_refused_ends_it() {
    let played = play(
        settings(Tls::Required),
        mail(&["b@y"], "x"),
        &[GREETING, OK, "221 bye\r\n"],
    );
    assert!(
        played
            .error()
            .ends_with("does not offer STARTTLS, needed because encryption is required")
    );
    let replies = [
        GREETING,
        "250-mx\r\n250 STARTTLS\r\n",
        "454 not now\r\n",
        "221 bye\r\n",
    ];
    let played = play(settings(Tls::Required), mail(&["b@y"], "x"), &replies);
    assert_eq!(
        played.error(),
        "at the step starttls (STARTTLS): the server answered 454 not now"
    );
    let replies = [
        GREETING,
        "250-mx\r\n250 STARTTLS\r\n",
        "454 not now\r\n",
        OK,
        OK,
        "354 go\r\n",
        OK,
    ];
    assert!(
        play(settings(Tls::Opportunistic), mail(&["b@y"], "x"), &replies)
            .outcome
            .unwrap()
            .delivered
            .is_ok()
    );
}

#[test]
fn words_behind_the_reply_to_starttls_are_an_attack() {
    let replies = [
        GREETING,
        "250-mx\r\n250 STARTTLS\r\n",
        "220 go\r\n250 AUTH PLAIN\r\n",
    ];
    let played = play(settings(Tls::Required), mail(&["b@y"], "x"), &replies);
    assert_eq!(played.outcome.unwrap_err().problem, Problem::Injected);
    let played = play_cut(settings(Tls::Required), mail(&["b@y"], "x"), &replies, 1);
    assert!(played.outcome.is_err());
}

#[test]
fn recipients_may_be_refused_one_by_one() {
    let replies = [
        GREETING,
        OK,
        OK,
        "550 who\r\n",
        OK,
        "451 later\r\n",
        "354 go\r\n",
        OK,
        "221 bye\r\n",
    ];
    let played = play(
        settings(Tls::Off),
        mail(&["b@y", "c@y", "d@y"], "x"),
        &replies,
    );
    let outcome = played.outcome.unwrap();
    assert!(outcome.delivered.is_ok());
    let refused: Vec<_> = outcome
        .refused
        .iter()
        .map(|r| (r.mailbox.as_str(), r.reply.code))
        .collect();
    assert_eq!(refused, [("b@y", 550), ("d@y", 451)]);
}

#[test]
fn nobody_left_means_rset_and_quit() {
    let replies = [GREETING, OK, OK, "550 who\r\n", OK, "221 bye\r\n"];
    let played = play(settings(Tls::Off), mail(&["b@y"], "x"), &replies);
    assert_eq!(played.sent[3..], ["RSET\r\n", "QUIT\r\n"]);
    assert_eq!(
        played.error(),
        "at the step recipient (RCPT TO:<b@y>): the server answered 550 who"
    );
    assert_eq!(played.outcome.unwrap().refused.len(), 1);
}

#[test]
fn the_envelope_is_pipelined_and_announces_what_it_needs() {
    let ehlo = "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n";
    let replies = [
        GREETING,
        ehlo,
        "250 a\r\n250 b\r\n550 c\r\n",
        "354 go\r\n",
        OK,
        "221 bye\r\n",
    ];
    let played = play(settings(Tls::Off), mail(&["b@y", "ü@y"], "grüß"), &replies);
    assert_eq!(
        played.sent[1],
        "MAIL FROM:<a@x> SIZE=8 BODY=8BITMIME SMTPUTF8\r\nRCPT TO:<b@y>\r\nRCPT TO:<ü@y>\r\n"
    );
    let outcome = played.outcome.unwrap();
    assert!(outcome.delivered.is_ok());
    assert_eq!(outcome.refused[0].mailbox.as_str(), "ü@y");
    // A refused sender makes the refusals of the recipients behind it mere consequences.
    let replies = [
        GREETING,
        ehlo,
        "451 a\r\n503 b\r\n503 c\r\n",
        OK,
        "221 bye\r\n",
    ];
    let played = play(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies);
    assert!(
        played
            .error()
            .ends_with("(MAIL FROM:<a@x> SIZE=3): the server answered 451 a"),
        "{}",
        played.error()
    );
    let outcome = played.outcome.unwrap();
    assert!(outcome.refused.is_empty() && outcome.delivered.unwrap_err().is_transient());
}

#[test]
fn what_the_server_cannot_take_is_not_begun() {
    let error = |mail: Mail, ehlo: &str| {
        play(settings(Tls::Off), mail, &[GREETING, ehlo, "221 bye\r\n"]).error()
    };
    let sized = error(mail(&["b@y"], "123456789"), "250-mx\r\n250 SIZE 5\r\n");
    assert!(
        sized.ends_with("the message has 11 bytes, the server takes 5"),
        "{sized}"
    );
    assert!(error(mail(&["b@y"], "ü"), OK).contains("8BITMIME"));
    assert!(error(mail(&["ü@y"], "u"), OK).contains("SMTPUTF8"));
}

#[test]
fn a_refused_message_is_reset() {
    let replies = [
        GREETING,
        OK,
        OK,
        OK,
        "354 go\r\n",
        "554 spam\r\n",
        OK,
        "221 bye\r\n",
    ];
    let played = play(settings(Tls::Off), mail(&["b@y"], "x"), &replies);
    assert_eq!(played.sent[5..], ["RSET\r\n", "QUIT\r\n"]);
    assert!(played.error().starts_with(
        "at the step message (the message and its final dot): the server answered 554"
    ));
}

#[test]
fn servers_that_do_not_speak_smtp() {
    let error = |replies: &[&str]| play(settings(Tls::Off), mail(&["b@y"], "x"), replies).error();
    assert_eq!(
        error(&[]),
        "at the step greeting: the server closed the connection"
    );
    assert!(error(&["SSH-2.0-x\r\n"]).contains("does not speak SMTP, it sent \"SSH-2.0-x\""));
    assert!(error(&["\r\n"]).contains("does not speak SMTP"));
    assert!(
        error(&["220\x1b[31m x\r\n"]).contains("\u{fffd}[31m"),
        "control characters are not shown"
    );
    assert!(error(&[&"2".repeat(5000)]).contains("a line of more than 2048 bytes"));
    assert!(error(&[&"220-x\r\n".repeat(20_000)]).contains("a reply of more than 65536 bytes"));
    assert!(error(&[GREETING, "354 go\r\n", OK]).contains("unexpected answer 354 go"));
    assert!(error(&["421 closing\r\n"]).ends_with("the server answered 421 closing"));
    assert!(
        error(&[GREETING, OK, OK])
            .starts_with("at the step recipient (RCPT TO:<b@y>): the server closed")
    );
    assert!(
        error(&["554 no\r\n", "221 bye\r\n"])
            .starts_with("at the step greeting: the server answered 554 no")
    );
}

#[test]
fn line_endings_and_dots() {
    assert_eq!(with_crlf(b"a\nb\rc\r\n\n"), b"a\r\nb\r\nc\r\n\r\n");
    assert_eq!(with_crlf(b"a"), b"a\r\n");
    assert_eq!(with_crlf(b""), b"");
    assert_eq!(
        dot_stuffed(b".\r\n..\r\na.\r\n"),
        b"..\r\n...\r\na.\r\n.\r\n"
    );
    assert_eq!(dot_stuffed(b""), b".\r\n");
}

proptest! {
    #[test]
    fn cuts_never_show(piece_bytes in 1_usize..20) {
        let replies = [
            GREETING, "250-mx\r\n250-PIPELINING\r\n250 SIZE 1000\r\n", "250 a\r\n550-b\r\n550 b\r\n250 c\r\n",
            "354 go\r\n", OK, "221 bye\r\n",
        ];
        let whole = play(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies);
        let cut = play_cut(settings(Tls::Off), mail(&["b@y", "c@y"], "x"), &replies, piece_bytes);
        prop_assert_eq!(whole.sent, cut.sent);
        prop_assert_eq!(whole.outcome, cut.outcome);
    }

    #[test]
    fn no_bytes_panic(replies in proptest::collection::vec("(220|250|354|334|235|451|550|[0-9a-z]{0,4})[ -]?[A-Z]{0,4}\r?\n?", 0..12)) {
        let replies: Vec<&str> = replies.iter().map(String::as_str).collect();
        let _ = play(with_login(Tls::Opportunistic, None), mail(&["b@y", "c@y"], "x"), &replies);
    }

    /// A server that undoes the stuffing gets the message, and no line of it ends the message
    /// early.
    #[test]
    fn stuffing_is_undone(text in "[.a\r\n]{0,40}") {
        let content = with_crlf(text.as_bytes());
        let stuffed = dot_stuffed(&content);
        let mut undone = Vec::new();
        let mut lines = stuffed.split_inclusive(|&byte| byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            prop_assert!(line.ends_with(b"\r\n"));
            prop_assert_eq!(line == b".\r\n", lines.peek().is_none());
            if lines.peek().is_some() {
                undone.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            }
        }
        prop_assert_eq!(undone, content);
    }
}
