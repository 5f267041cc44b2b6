//! HTTP as the tests of this folder speak it, on both sides: blocking, a thread for each
//! connection, and strict about where a message ends.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;

use crate::common::PATIENCE;

/// The longest content there is: 2 MiB.
pub(crate) const CONTENT_BYTES_MAX: usize = 2 << 20;

/// The bytes that belong to a text and to no other, as good as random.
pub(crate) fn content(of: &str, length: usize) -> &'static [u8] {
    static NOISE: OnceLock<Vec<u8>> = OnceLock::new();
    let noise = NOISE.get_or_init(|| {
        let words = (0..2 * CONTENT_BYTES_MAX as u64 / 8).map(mixed);
        words.flat_map(u64::to_le_bytes).collect()
    });
    let from = hash(of) as usize % CONTENT_BYTES_MAX;
    &noise[from..from + length]
}

/// FNV-1a.
pub(crate) fn hash(text: &str) -> u64 {
    let fold = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(text.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// The step of splitmix64.
pub(crate) fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The head of a message: its first line, and its fields.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let mut head = Self::default();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 || !line.ends_with("\r\n") {
                return Err(cut("a head"));
            }
            let line = line.trim_end();
            if head.line.is_empty() {
                line.clone_into(&mut head.line);
            } else if let Some((name, value)) = line.split_once(':') {
                let field = (name.to_ascii_lowercase(), value.trim().to_owned());
                head.fields.push(field);
            } else {
                return Ok(head);
            }
        }
    }

    /// The value of the first field of this name, in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let (_, value) = self.fields.iter().find(|(its, _)| its == name)?;
        Some(value)
    }

    fn word(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }

    /// Of a request: the path with its query.
    pub(crate) fn target(&self) -> &str {
        self.word(1)
    }

    /// Of a response; 0 if there is none.
    pub(crate) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or(0)
    }

    /// Of a response: whether a cache answered, RFC 9211 section 2.1.
    pub(crate) fn is_hit(&self) -> bool {
        let value = self.field("cache-status").unwrap_or_default();
        value.split(';').any(|parameter| parameter.trim() == "hit")
    }

    fn is_chunked(&self) -> bool {
        self.field("transfer-encoding") == Some("chunked")
    }

    fn length(&self) -> io::Result<Option<usize>> {
        let Some(value) = self.field("content-length") else {
            return Ok(None);
        };
        let length = value.parse();
        length.map(Some).map_err(|_| cut("a Content-Length"))
    }
}

fn cut(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} is cut"))
}

fn read_chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(|_| cut("a chunk"))?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..])?;
        if body.split_off(start + size) != b"\r\n" {
            return Err(cut("a chunk"));
        }
        if size == 0 {
            return Ok(body);
        }
    }
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// A client's connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request head, whose lines end as they should, and `body` behind it.
    pub(crate) fn send(&mut self, head: &str, body: &[u8]) -> io::Result<()> {
        let mut bytes = head.replace('\n', "\r\n").into_bytes();
        bytes.extend_from_slice(b"\r\n\r\n");
        bytes.extend_from_slice(body);
        self.0.get_mut().write_all(&bytes)
    }

    /// Receives the final response to a request of this method; one that is cut is an error.
    pub(crate) fn receive(&mut self, method: &str) -> io::Result<Response> {
        let mut head = Head::read(&mut self.0)?;
        while (100..200).contains(&head.status()) && head.status() != 101 {
            head = Head::read(&mut self.0)?;
        }
        let mut body = Vec::new();
        if method == "HEAD" || matches!(head.status(), 101 | 204 | 304) {
        } else if head.is_chunked() {
            body = read_chunks(&mut self.0)?;
        } else if let Some(length) = head.length()? {
            body.resize(length, 0);
            self.0.read_exact(&mut body)?;
        } else {
            self.0.read_to_end(&mut body)?;
        }
        Ok(Response { head, body })
    }

    /// Whether the response leaves the connection open for another request.
    pub(crate) fn persists(response: &Response) -> bool {
        response.head.field("connection") != Some("close")
    }

    /// The bytes themselves.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        self.0.get_mut()
    }
}

/// One GET of its own connection.
pub(crate) fn get(proxy: SocketAddr, target: &str) -> io::Result<Response> {
    let mut client = Client::connect(proxy)?;
    let host = target.split('/').nth(2).unwrap_or_default();
    let head = format!("GET {target} HTTP/1.1\nHost: {host}\nConnection: close");
    client.send(&head, b"")?;
    client.receive("GET")
}

/// A request as an origin sees it.
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

/// An origin in threads of the test: each connection is served by `answer`, request after request,
/// for as long as that returns true.
pub(crate) fn origin<F>(answer: F) -> SocketAddr
where
    F: Fn(&Request, &mut TcpStream) -> io::Result<bool> + Send + Sync + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // What a test thinks of a connection that broke shows in the client's answer.
            thread::spawn(move || serve(stream, &*answer));
        }
    });
    address
}

fn serve(
    stream: TcpStream,
    answer: &impl Fn(&Request, &mut TcpStream) -> io::Result<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let head = Head::read(&mut reader)?;
        let mut body = Vec::new();
        if head.is_chunked() {
            body = read_chunks(&mut reader)?;
        } else if let Some(length) = head.length()? {
            body.resize(length, 0);
            reader.read_exact(&mut body)?;
        }
        if !answer(&Request { head, body }, &mut writer)? {
            return Ok(());
        }
    }
}
