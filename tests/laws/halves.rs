//! A peer that ends within a message, at every place of every dialogue: whether the kernel tells of
//! the end together with the last bytes or later must not show, and no time-out is waited for when
//! nothing can come any more.

use super::*;

/// Less than any time-out of a protocol, and more than a dialogue takes.
const AT_ONCE: Duration = Duration::from_millis(100);

type Opening = Box<dyn Fn(&mut Reactor<Sim>, Conditions)>;

/// A protocol and what its client says.
struct Half {
    name: String,
    handshake: Handshake,
    input: Vec<u8>,
    open: Opening,
}

impl Half {
    fn new(
        name: impl Into<String>,
        input: impl Into<Vec<u8>>,
        open: impl Fn(&mut Reactor<Sim>, Conditions) + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            handshake: Handshake::None,
            input: input.into(),
            open: Box::new(open),
        }
    }
}

fn halves() -> Vec<Half> {
    let mut halves = vec![
        Half::new("tcp-echo", "a\u{df}\u{1f600}\u{149}z", |r, c| {
            listen(r, c, |_| upper());
        }),
        Half::new("tcp-echo as it is", "abc", |r, c| {
            listen(r, c, |_| as_it_is());
        }),
        Half::new(
            "frame-echo",
            &b"\x03\0\0\0a\xc3\x9f\0\0\0\0\x02\0\0\0xy"[..],
            |r, c| listen(r, c, |_| frame_echo()),
        ),
        Half::new("hello", "bye", |r, c| {
            listen(r, c, |_| hello());
        }),
        Half::new("http", http_dialogue("x"), |r, c| {
            listen(r, c, |sim| http_service(sim, Routes::Probe));
        }),
        Half::new("admin", http_dialogue("localhost"), |r, c| {
            listen(r, c, admin_service);
        }),
        Half::new("proxy", proxy_dialogue(), |r, c| {
            listen(r, c, proxy_service);
        }),
        Half::new(
            "tunnel",
            format!(
                "CONNECT {ORIGIN}:80 HTTP/1.1\r\nHost: x\r\n\r\nGET /5/length/1 HTTP/1.1\r\n\r\n"
            ),
            |r, c| {
                listen(r, c, tunnel_service);
            },
        ),
    ];
    let object: &[u8] = br#"{"operate": "login", "user": "ada", "passwd": "pw"}"#;
    halves.push(Half::new(
        "upload with argon2id",
        [object, &file("a", 1)].concat(),
        |r, c| listen(r, c, upload_with_argon2id),
    ));
    for handshake in Handshake::ALL {
        for login in [false, true] {
            let object: &[u8] = match login {
                true => br#"{"operate": "login", "user": "ada", "passwd": "pw"}"#,
                false => b"",
            };
            let answer = vec![0; handshake.answer_bytes()];
            let files = match handshake {
                Handshake::None => [file("a", 9), file("b", 0), file("c", 2)].concat(),
                _ => file("a", 1),
            };
            let input = [&answer, object, &files].concat();
            let name = format!("upload, {}, login {login}", handshake.name());
            halves.push(Half {
                handshake,
                ..Half::new(name, input, move |r, c| {
                    listen(r, c, |sim| upload_service(sim, handshake, login));
                })
            });
        }
    }
    halves
}

/// A request without body, one with a length that the probe sends back, one in chunks that are
/// dropped, and one that ends the connection.
fn http_dialogue(host: &str) -> String {
    format!(
        "GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n\
         POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\r\nhello\
         POST /x HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: v\r\n\r\n\
         GET /a.txt HTTP/1.0\r\n\r\n"
    )
}

/// The same through a proxy, in each form.
fn proxy_dialogue() -> String {
    format!(
        "POST http://{ORIGIN}/0/length/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello\
         POST http://{ORIGIN}/0/length/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;x\r\nabc\r\n0\r\n\r\n\
         GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /{ORIGIN}/9/chunked/4 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    )
}

fn tunnel_service(sim: &mut Sim) -> Web {
    let mut config = ProxyConfig::new(Cache::Off);
    config.connect_ports = Ports::Any;
    Web::proxy(&config, &Given::default(), sim).expect("nothing to open")
}

/// The ways in which `bytes` and the end after them can be seen: all together, the end after them,
/// and the last byte with the end after the others.
fn sights(bytes: &[u8]) -> [(Vec<Vec<u8>>, Finish); 3] {
    let whole = vec![bytes.to_vec()];
    let parted = match bytes.split_last() {
        Some((last, before)) if !before.is_empty() => vec![before.to_vec(), vec![*last]],
        _ => whole.clone(),
    };
    [
        (whole.clone(), Finish::WithTheLast),
        (whole, Finish::Later),
        (parted, Finish::WithTheLast),
    ]
}

/// Holds a conversation as it is and with `advance` called again after each call. That must make no
/// difference.
fn twice(talk: impl Fn(Conditions) -> Outcome, finish: Finish, name: &str) -> Outcome {
    let plain = Conditions {
        finish,
        latency_max: Duration::ZERO,
        ..EASY
    };
    let outcome = talk(plain);
    let spurious = Conditions {
        spurious: true,
        ..plain
    };
    assert_eq!(talk(spurious), outcome, "{name}: a second look was seen");
    outcome
}

#[test]
fn a_client_that_ends_anywhere_is_answered_at_once_and_in_one_way() {
    for half in halves() {
        for end in 0..=half.input.len() {
            let bytes = &half.input[..end];
            let mut first = None;
            for (pieces, finish) in sights(bytes) {
                let parts = pieces.len();
                let name = format!("{} after {end} bytes in {parts}, {finish:?}", half.name);
                let talk = |conditions: Conditions| {
                    let mut client = Cutter::new(pieces.clone(), conditions.finish);
                    client.handshake = half.handshake;
                    let origin = web::WebOrigin::new(SocketAddr::from((ORIGIN, 80)));
                    hold(&name, &half.open, client, origin, conditions)
                };
                let Outcome {
                    mut received,
                    over_at,
                    broken,
                } = twice(talk, finish, &name);
                assert!(over_at < AT_ONCE, "{name}: it took {over_at:?}");
                if half.handshake != Handshake::None {
                    assert!(received.len() >= CHALLENGE_BYTES, "{name}");
                    received.drain(..CHALLENGE_BYTES); // another one each time
                }
                let told = (String::from_utf8_lossy(&received).into_owned(), broken);
                assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "{name}");
            }
        }
    }
}

/// An origin that says the same to everybody once it was spoken to.
struct Teller {
    pieces: Vec<Vec<u8>>,
    finish: Finish,
    listens: bool,
    told: Vec<(End, Option<Speech>)>,
}

impl Actor for Teller {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if !self.listens {
            self.listens = true;
            hands.listen(SocketAddr::from((ORIGIN, 80)));
        }
        while let Some(end) = hands.accept() {
            self.told.push((end, None));
        }
        let (pieces, finish) = (&self.pieces, self.finish);
        self.told.retain_mut(|(end, speech)| {
            let peer_is_done = loop {
                match hands.receive(*end, 100_000) {
                    Received::Bytes(_) => {
                        speech.get_or_insert_with(|| Speech::new(pieces.clone(), finish));
                    }
                    Received::Nothing => break false,
                    Received::End | Received::Broken => break true,
                }
            };
            let over = speech
                .as_mut()
                .is_none_or(|speech| speech.go_on(*end, hands));
            let closes = over && peer_is_done;
            if closes {
                hands.close(*end);
            }
            !closes
        });
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

#[test]
fn an_origin_that_ends_anywhere_is_told_of_at_once_and_in_one_way() {
    let responses = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nT: v\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ];
    let get = format!("GET http://{ORIGIN}/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let old = format!("GET http://{ORIGIN}/ HTTP/1.0\r\n\r\n");
    let post = format!("POST http://{ORIGIN}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123");
    let tunnel = format!("CONNECT {ORIGIN}:80 HTTP/1.1\r\nHost: x\r\n\r\nhello");
    for request in [get, old, post, tunnel] {
        let tunnels = request.starts_with("CONNECT");
        for (response, end) in responses
            .iter()
            .flat_map(|response| (0..=response.len()).map(move |end| (response, end)))
        {
            let mut first = None;
            for (pieces, finish) in sights(&response.as_bytes()[..end]) {
                let name = format!("{request:?}, {pieces:?}, {finish:?}");
                let talk = |conditions: Conditions| {
                    // A tunnel lasts until both have ended.
                    let finish = match tunnels {
                        true => Finish::Later,
                        false => Finish::Never,
                    };
                    let client = Cutter::new(vec![request.clone().into_bytes()], finish);
                    let origin = Teller {
                        pieces: pieces.clone(),
                        finish: conditions.finish,
                        listens: false,
                        told: Vec::new(),
                    };
                    let open = |r: &mut Reactor<Sim>, c| listen(r, c, tunnel_service);
                    hold(&name, open, client, origin, conditions)
                };
                let Outcome {
                    received,
                    over_at,
                    broken,
                } = twice(talk, finish, &name);
                assert!(over_at < AT_ONCE, "{name}: it took {over_at:?}");
                // What a reset connection had still to say is no output, nor is where a body was
                // cut into chunks.
                let told = match (broken, tunnels) {
                    (true, _) => None,
                    (false, true) => Some((String::new(), received, true)),
                    (false, false) => Some(without_chunks(&received)),
                };
                assert_eq!(first.get_or_insert_with(|| told.clone()), &told, "{name}");
            }
        }
    }
}

/// A response with its body out of the chunks that the proxy made, and whether the last of them
/// came.
fn without_chunks(received: &[u8]) -> (String, Vec<u8>, bool) {
    let text = String::from_utf8_lossy(received);
    let Some((head, _)) = text.split_once("Transfer-Encoding: chunked\r\n") else {
        return (text.into_owned(), Vec::new(), false);
    };
    let body = &received[head.len()..];
    let start = memchr::memmem::find(body, b"\r\n\r\n").expect("a whole head") + 4;
    let (mut decoder, mut rest, mut payload) = (
        BodyDecoder::new(BodyLength::Chunked),
        &body[start..],
        Vec::new(),
    );
    while !decoder.is_done() && !rest.is_empty() {
        let step = decoder.step(rest).expect("good framing");
        payload.extend_from_slice(&rest[step.framing..step.consumed()]);
        rest = &rest[step.consumed()..];
    }
    (head.to_owned(), payload, decoder.is_done())
}
