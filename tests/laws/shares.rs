//! Floods: much of what a protocol can be asked for waits in its buffer, and it may do little of it
//! in one call.
//!
//! With the least share, each call makes one step, and that it does no more is seen by what it
//! takes of its input: so a protocol that forgets to charge, or to look at what is left, is found
//! whatever it claims.

use super::*;

/// What one step may cost beyond the share that it began within.
const STEP_MAX: Duration = Duration::from_micros(200);
const LEAST: Duration = Duration::from_nanos(1);

/// A protocol, what it is flooded with, and the longest piece that one step may take of it.
struct Flood {
    subject: Subject,
    step_bytes: usize,
}

/// What one call did.
pub(super) fn check(io: &Io<'_>, waited: [usize; 2], conditions: Conditions) {
    let done = Duration::from_nanos(u64::from(io.cx.work.done_ns()));
    let most = conditions.turn_work + STEP_MAX;
    assert!(done <= most, "{done:?} of work in one call");
    for (before, after) in waited.into_iter().zip([io.down.rx.len(), io.up.rx.len()]) {
        let taken = before.saturating_sub(after);
        let most = conditions.step_bytes_max;
        assert!(
            taken <= most || io.asked.closes(),
            "{taken} bytes taken in one call"
        );
    }
}

fn get(target: &str, lines: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

fn http(sim: &mut Sim) -> Web {
    http_service(sim, Routes::Probe)
}

impl Flood {
    fn new(
        name: &'static str,
        message: &[u8],
        step_bytes: usize,
        open: fn(&mut Reactor<Sim>, Conditions),
    ) -> Self {
        let input = message.repeat(20_000 / message.len() + 1);
        Self {
            subject: Subject::new(name, &input, open),
            step_bytes,
        }
    }

    /// Files; a step takes one that is small, or a page of one that is large, however little of it
    /// each step before has hashed.
    fn of_uploads(name: &'static str, file: &[u8]) -> Self {
        Self::new(name, file, file.len(), |r, c| {
            listen(r, c, |sim| upload_service(sim, Handshake::None, false));
        })
    }

    /// Requests, each a step of its own.
    fn of_requests(
        name: &'static str,
        request: &str,
        open: fn(&mut Reactor<Sim>, Conditions),
    ) -> Self {
        Self::new(name, request.as_bytes(), request.len(), open)
    }
}

#[expect(clippy::semicolon_if_nothing_returned)] // closures of one call
fn floods() -> Vec<Flood> {
    let ranges = "Range: bytes=0-1,4-5,8-9,12-13,16-17,20-21,24-25,28-29,32-33,36-37\r\n";
    let chunks = format!("{}0\r\n\r\n", "1\r\nx\r\n".repeat(500));
    let chunked = |request: String| {
        let head_bytes = request.len();
        (format!("{request}{chunks}"), head_bytes)
    };
    let (post, post_bytes) =
        chunked(get("/", "Transfer-Encoding: chunked\r\n").replace("GET", "POST"));
    let sent_on = get(
        &format!("http://{ORIGIN}/0/length/1"),
        "Transfer-Encoding: chunked\r\n",
    );
    // The answer of the origin is taken as a whole, head and body.
    let (sent_on, _) = chunked(sent_on.replace("GET", "POST"));
    let empty_file = file("a", 0);
    let answered_file = file_with("a", 0, r#""ack": true"#);
    let large_file = file_with("a", 300_000, r#""ack": true"#);
    let web = |r: &mut Reactor<Sim>, c| listen(r, c, http);
    let proxy = |r: &mut Reactor<Sim>, c| listen(r, c, proxy_service);
    let admin = |r: &mut Reactor<Sim>, c| listen(r, c, admin_service);
    vec![
        Flood::new("echo of umlauts", "\u{fc}".as_bytes(), 4096, |r, c| {
            listen(r, c, |_| upper())
        }),
        Flood::new("frames of ASCII", b"\x03\0\0\0abc", 7, |r, c| {
            listen(r, c, |_| frame_echo())
        }),
        Flood::new("frames of umlauts", b"\x02\0\0\0\xc3\xbc", 6, |r, c| {
            listen(r, c, |_| frame_echo())
        }),
        Flood::of_requests("a kept file", &get("/a.txt", ""), web),
        Flood::of_requests("what is not there", &get("/none", ""), web),
        Flood::of_requests("HEAD", &get("/big.bin", "").replace("GET", "HEAD"), web),
        Flood::of_requests("a folder", &get("/more", ""), web),
        Flood::of_requests("ranges", &get("/big.bin", ranges), web),
        Flood::of_requests("no such method", &get("/", "").replace("GET", "BREW"), web),
        Flood::new("a body in small chunks", post.as_bytes(), post_bytes, web),
        Flood::of_requests(
            "what the proxy refuses",
            &get("http://10.0.0.1/", ""),
            proxy,
        ),
        Flood::new("small chunks sent on", sent_on.as_bytes(), 1024, proxy),
        Flood::of_requests("a page", &get("/livez", ""), admin),
        Flood::new("empty files", &empty_file, empty_file.len(), |r, c| {
            listen(r, c, |sim| upload_service(sim, Handshake::None, false))
        }),
        Flood::of_uploads("empty files with answers", &answered_file),
        Flood::of_uploads("bytes that are hashed", &large_file),
    ]
}

#[test]
fn with_the_least_share_each_call_makes_one_step_and_the_output_is_the_same() {
    for Flood {
        subject,
        step_bytes,
    } in floods()
    {
        eprintln!("{}", subject.name);
        let least = Conditions {
            turn_work: LEAST,
            step_bytes_max: step_bytes,
            ..EASY
        };
        let least = converse(&subject, vec![subject.input.clone()], least).received;
        assert!(least == whole(&subject), "{}", subject.name);
    }
}

#[test]
fn no_call_does_more_than_its_share_and_a_step() {
    for Flood { subject, .. } in floods() {
        let some = Conditions {
            turn_work: Duration::from_micros(50),
            ..EASY
        };
        let some = converse(&subject, vec![subject.input.clone()], some).received;
        assert!(some == whole(&subject), "{}", subject.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_share_gives_the_same_output_of_any_fragmentation(
        share_ns in 1u64..100_000,
        places in proptest::collection::vec(any::<u16>(), 0..20),
    ) {
        for subject in subjects().iter().filter(|subject| subject.cuts) {
            let small = Conditions { turn_work: Duration::from_nanos(share_ns), ..EASY };
            let small = converse(subject, cut(&subject.input, &places), small).received;
            prop_assert!(small == whole(subject), "{}", subject.name);
        }
    }
}
