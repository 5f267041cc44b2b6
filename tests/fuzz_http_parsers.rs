//! The head and body parsers against bytes that are nearly HTTP: no panic, the same outcome in any
//! fragmentation, and nothing accepted that a second, simpler reader would read otherwise.
//!
//! `FUZZ_SECONDS=600 cargo test --release --test fuzz_http_parsers` goes on for ten minutes.

#[path = "fuzz/mod.rs"]
mod fuzz;

use netlab_reactor::http::Version;
use netlab_reactor::http::body::BodyDecoder;
use netlab_reactor::http::head::{BodyLength, HeadError, HeadScanner, Limits, Parsed, RequestHead};
use proptest::prelude::*;

use fuzz::{cut, fuzz};

const LIMITS: Limits = Limits {
    head_bytes_max: 400,
    target_bytes_max: 60,
    headers_max: 12,
};

/// What came of a head, with nothing borrowed.
#[derive(Debug, PartialEq)]
enum Outcome {
    Partial,
    Refused(HeadError),
    Head { text: String, consumed: usize },
}

fn outcome(parsed: Result<Parsed<RequestHead<'_>>, HeadError>) -> Outcome {
    match parsed {
        Ok(Parsed::Partial) => Outcome::Partial,
        Ok(Parsed::Complete(head, consumed)) => Outcome::Head {
            text: format!("{head:?}"),
            consumed,
        },
        Err(error) => Outcome::Refused(error),
    }
}

/// The pieces of which heads are made, good ones and bad ones.
fn head_pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\n",
        "POST /a?b HTTP/1.0\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "CONNECT h:1 HTTP/1.1\r\n",
        "GET http://h:80/ HTTP/1.1\r\n",
        "HEAD",
        " ",
        "/",
        "HTTP/1.1",
        "HTTP/2.0",
        "Host: h\r\n",
        "Host: [::1]:80\r\n",
        "Host:",
        "h",
        "Content-Length: 3\r\n",
        "Content-Length:",
        "+5",
        "3, 3",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding:",
        "gzip",
        "Connection: close, x\r\n",
        "Connection: keep-alive\r\n",
        "Expect: 100-continue\r\n",
        "Expect: x\r\n",
        "A: b\r\n",
        "A : b\r\n",
        " fold\r\n",
        "\r\n",
        "\r\n\r\n",
        "\r",
        "\n",
        "\t",
        ":",
        ",",
        "\0",
        "\u{e9}",
        "#",
        "%00",
        "*",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    ]);
    fuzz::bytes_of(piece)
}

/// A reader of accepted heads that knows less and trusts nothing.
fn check_head(bytes: &[u8], head: &RequestHead<'_>) {
    let text = bytes
        .strip_suffix(b"\r\n\r\n")
        .expect("an empty line ends a head");
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    lines.retain(|line| !line.is_empty());
    let control = |byte: &u8| *byte < b' ' && *byte != b'\t' || *byte == 0x7f;
    assert!(
        !lines.iter().any(|line| line.iter().any(control)),
        "a control byte"
    );
    let (start, headers) = lines.split_first().expect("a request line");
    let words: Vec<&[u8]> = start.split(|&byte| byte == b' ').collect();
    assert_eq!(words.len(), 3, "three words");
    assert_eq!(words[0], head.method.as_str().as_bytes());
    assert_eq!(words[1], head.target_text.as_bytes());
    assert!(words[2].starts_with(b"HTTP/1."));
    let named = |wanted: &str| {
        let mut values = Vec::new();
        for line in headers {
            let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
            let name = &line[..colon];
            assert!(
                !name.is_empty() && !name.iter().any(|b| b" \t".contains(b)),
                "a name"
            );
            if name.eq_ignore_ascii_case(wanted.as_bytes()) {
                values.push(line[colon + 1..].trim_ascii().to_vec());
            }
        }
        values
    };
    assert_eq!(headers.len(), head.headers.iter().count());
    let (hosts, lengths, codings) = (
        named("host"),
        named("content-length"),
        named("transfer-encoding"),
    );
    assert!(hosts.len() <= 1 && (hosts.len() == 1 || head.version == Version::Http10));
    let body = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => BodyLength::None,
        ([length], []) => {
            let text = str::from_utf8(length).expect("digits");
            assert!(text.bytes().all(|byte| byte.is_ascii_digit()));
            match text.parse().expect("a number") {
                0 => BodyLength::None,
                length => BodyLength::Length(length),
            }
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked") && head.version == Version::Http11);
            BodyLength::Chunked
        }
        _ => panic!("two ways to read the length"),
    };
    assert_eq!(body, head.body);
}

#[test]
fn heads() {
    let input = (head_pieces(), any::<u64>());
    fuzz("heads", &input, |(bytes, seed)| {
        let whole = HeadScanner::default().request(&bytes, &LIMITS);
        if let Ok(Parsed::Complete(head, consumed)) = &whole {
            check_head(&bytes[..*consumed], head);
        }
        let whole = outcome(whole);
        for seed in [0, seed] {
            let mut scanner = HeadScanner::default();
            let mut last = Outcome::Partial;
            for shown in cut(bytes.len(), seed) {
                last = outcome(scanner.request(&bytes[..shown], &LIMITS));
                if last != Outcome::Partial {
                    break;
                }
            }
            assert_eq!(last, whole);
        }
        let _ = HeadScanner::default().response(&bytes, &LIMITS, netlab_reactor::http::Method::Get);
    });
}

/// What came of a body.
#[derive(Debug, PartialEq)]
enum Body {
    Partial(Vec<u8>),
    Broken(Vec<u8>),
    Whole(Vec<u8>, usize),
}

fn decode(wire: &[u8], seed: Option<u64>) -> Body {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let (mut payload, mut used) = (Vec::new(), 0);
    let ends = seed.map_or_else(|| vec![wire.len()], |seed| cut(wire.len(), seed));
    for shown in ends {
        loop {
            let Ok(step) = decoder.step(&wire[used..shown]) else {
                return Body::Broken(payload);
            };
            payload.extend_from_slice(&wire[used + step.framing..used + step.consumed()]);
            used += step.consumed();
            if step.done {
                return Body::Whole(payload, used);
            }
            if step.consumed() == 0 {
                assert_eq!(used, shown, "an empty step asks for more");
                break;
            }
        }
    }
    Body::Partial(payload)
}

/// The chunked coding as its grammar has it, read with all bytes at hand. `None`: more bytes are
/// needed; `Some(false)`: what is there fits nothing.
struct Reader<'b> {
    rest: &'b [u8],
    payload: Vec<u8>,
}

/// Why a reader stopped.
enum Stop {
    More,
    Broken,
}

impl Reader<'_> {
    fn next(&mut self) -> Result<u8, Stop> {
        let (&first, rest) = self.rest.split_first().ok_or(Stop::More)?;
        self.rest = rest;
        Ok(first)
    }

    fn expect(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        for &byte in bytes {
            if self.next()? != byte {
                return Err(Stop::Broken);
            }
        }
        Ok(())
    }

    fn token(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
    }

    /// Blanks, then the first byte that is none.
    fn skip(&mut self) -> Result<u8, Stop> {
        loop {
            match self.next()? {
                b' ' | b'\t' => {}
                byte => return Ok(byte),
            }
        }
    }

    /// `*( BWS ";" BWS name [ BWS "=" BWS value ] )`, up to the CR, given the byte behind the size.
    fn extensions(&mut self, mut byte: u8) -> Result<(), Stop> {
        loop {
            let blank = b" \t".contains(&byte);
            if blank {
                byte = self.skip()?;
            }
            match byte {
                b'\r' if !blank => return Ok(()),
                b';' => {}
                _ => return Err(Stop::Broken),
            }
            byte = self.skip()?;
            if !Self::token(byte) {
                return Err(Stop::Broken);
            }
            while Self::token(byte) {
                byte = self.next()?;
            }
            let blank = b" \t".contains(&byte);
            let behind = if blank { self.skip()? } else { byte };
            if behind != b'=' {
                // Blanks behind a name must lead to another extension.
                if blank && behind != b';' {
                    return Err(Stop::Broken);
                }
                byte = behind;
                continue;
            }
            byte = self.skip()?;
            if byte == b'"' {
                self.quoted()?;
                byte = self.next()?;
                if !b" \t;\r".contains(&byte) {
                    return Err(Stop::Broken);
                }
            } else if Self::token(byte) {
                while Self::token(byte) {
                    byte = self.next()?;
                }
            } else {
                return Err(Stop::Broken);
            }
        }
    }

    fn quoted(&mut self) -> Result<(), Stop> {
        let text = |byte: u8| byte == b'\t' || byte >= b' ' && byte != 0x7f;
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' if text(self.next()?) => {}
                byte if byte != b'\\' && text(byte) => {}
                _ => return Err(Stop::Broken),
            }
        }
    }

    fn body(&mut self) -> Result<(), Stop> {
        loop {
            let (mut size, mut digits, mut byte) = (0u128, 0, self.next()?);
            while let Some(digit) = (byte as char).to_digit(16) {
                (size, digits) = (size * 16 + u128::from(digit), digits + 1);
                if digits > 16 || size > i64::MAX as u128 {
                    return Err(Stop::Broken);
                }
                byte = self.next()?;
            }
            if digits == 0 {
                return Err(Stop::Broken);
            }
            self.extensions(byte)?;
            self.expect(b"\n")?;
            if size == 0 {
                return self.trailers();
            }
            let len = usize::try_from(size).expect("63 bits").min(self.rest.len());
            self.payload.extend_from_slice(&self.rest[..len]);
            self.rest = &self.rest[len..];
            if (len as u128) < size {
                return Err(Stop::More);
            }
            self.expect(b"\r\n")?;
        }
    }

    fn trailers(&mut self) -> Result<(), Stop> {
        loop {
            let mut byte = self.next()?;
            if byte == b'\r' {
                return self.expect(b"\n");
            }
            if !Self::token(byte) {
                return Err(Stop::Broken);
            }
            while Self::token(byte) {
                byte = self.next()?;
            }
            if byte != b':' {
                return Err(Stop::Broken);
            }
            byte = self.next()?;
            while byte == b'\t' || byte >= b' ' && byte != 0x7f {
                byte = self.next()?;
            }
            if byte != b'\r' {
                return Err(Stop::Broken);
            }
            self.expect(b"\n")?;
        }
    }
}

fn read(wire: &[u8]) -> Body {
    let mut reader = Reader {
        rest: wire,
        payload: Vec::new(),
    };
    match reader.body() {
        Ok(()) => Body::Whole(reader.payload, wire.len() - reader.rest.len()),
        Err(Stop::More) => Body::Partial(reader.payload),
        Err(Stop::Broken) => Body::Broken(reader.payload),
    }
}

#[test]
fn chunked_bodies() {
    let piece = prop::sample::select(vec![
        "5\r\nhello\r\n",
        "1\r\nx\r\n",
        "0\r\n\r\n",
        "0\r\n",
        "A;a=b\r\n0123456789\r\n",
        "00",
        "f",
        "7fffffffffffffff",
        "8000000000000000",
        "\r\n",
        "\r",
        "\n",
        ";",
        "=",
        "\"",
        "\\",
        " ",
        "\t",
        "a",
        "T: v\r\n",
        "T :",
        ":",
        "\0",
        "\x7f",
        "\u{e9}",
        "-",
        "0x",
        ";n=\"q\\\"\" ; m",
    ]);
    let input = (fuzz::bytes_of(piece), any::<u64>());
    fuzz("chunked_bodies", &input, |(bytes, seed)| {
        let reference = read(&bytes);
        assert_eq!(decode(&bytes, None), reference);
        assert_eq!(decode(&bytes, Some(0)), reference);
        assert_eq!(decode(&bytes, Some(seed)), reference);
    });
}
