//! Both ends of HTTP/1.1 as the scenarios need them: a browser that checks every answer, and an
//! origin server that frames its answers in every way there is. Written from RFC 9112 and not from
//! the server's own code, so that the two can disagree.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::talker::PATIENCE;
use netlab_reactor::sys::sim::{End, Stage};
use rustls::ServerConfig;

use crate::secure::{self, Wire};

/// One request and the answers that are in order.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) request: Vec<u8>,
    pub(crate) is_head: bool,
    /// The status and, where it is known, the body.
    pub(crate) answers: Vec<(u16, Option<Vec<u8>>)>,
    /// The path of a resource that changes: an answer of 200 has the body of the version that its
    /// head names, and one of 206 the range of that.
    pub(crate) versions_of: Option<String>,
    /// Its version is not older than the request.
    pub(crate) is_current: bool,
}

/// How long a version of a resource lasts.
const VERSION_TIME: Duration = Duration::from_millis(1500);

/// The version of all resources at a moment.
fn version_at(now: Duration) -> u64 {
    (now.as_millis() / VERSION_TIME.as_millis()) as u64
}

/// The body of a version of the resource at `/LENGTH/KIND/SEED/POLICY`: no two resources, and no two
/// versions, have bodies alike.
pub(crate) fn body_of_version(path: &str, version: u64) -> Vec<u8> {
    let mut bytes = format!("{path} {version}\n").into_bytes();
    bytes.extend(
        body_of(path).iter().enumerate().map(|(at, byte)| {
            byte.wrapping_add((version as u8).wrapping_mul(91)) ^ (at >> 10) as u8
        }),
    );
    bytes
}

impl Ask {
    /// Whether an answer is of the version that it says it is of.
    fn check_version(
        &self,
        path: &str,
        version: Option<u64>,
        (body, range): (&[u8], Option<(usize, usize)>),
        asked_at: Duration,
    ) -> Result<(), String> {
        let Some(version) = version else {
            return Err(format!("{path}: an answer that tells no version"));
        };
        let whole = body_of_version(path, version);
        let (first, end) = range.unwrap_or((0, whole.len()));
        if !self.is_head && Some(body) != whole.get(first..end) {
            let text = String::from_utf8_lossy(&body[..body.len().min(40)]);
            let len = body.len();
            return Err(format!(
                "{path}: {len} bytes are not version {version}: {text:?}"
            ));
        }
        match self.is_current && version < version_at(asked_at) {
            true => Err(format!("{path}: version {version} was old at {asked_at:?}")),
            false => Ok(()),
        }
    }

    /// The same in HTTP/1.0, where the end of a connection may be all that ends a body.
    pub(crate) fn of_http_1_0(&mut self) {
        let at = find(&self.request, b" HTTP/1.1\r\n").expect("a request line");
        self.request[at + 8] = b'0';
    }
}

/// How far a message is.
pub(crate) enum Progress {
    More,
    /// Its length in the buffer, its status or 0, its body, decoded, and whether the connection
    /// ends with it.
    Whole {
        len: usize,
        status: u16,
        body: Vec<u8>,
        /// The version of the resource that it says it is of.
        version: Option<u64>,
        /// Of a 206: the first byte, and the one behind the last.
        range: Option<(usize, usize)>,
        closes: bool,
    },
    Malformed(String),
}

impl Progress {
    pub(crate) fn is_more(&self) -> bool {
        matches!(self, Self::More)
    }
}

/// Reads one message from the front of `bytes`. `over`: nothing more comes.
pub(crate) fn read(bytes: &[u8], is_head: bool, over: bool) -> Progress {
    let Some(head_len) = find(bytes, b"\r\n\r\n").map(|at| at + 4) else {
        return Progress::More;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..head_len]) else {
        return Progress::Malformed("a head that is no text".to_owned());
    };
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = if first.starts_with("HTTP/1.") {
        first
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or(0)
    } else {
        0
    };
    let (mut length, mut chunked, mut closes) = (None, false, false);
    let (mut coding, mut version, mut range) = (None, None, None);
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        match (name.to_ascii_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse::<usize>().ok(),
            ("transfer-encoding", "chunked") => chunked = true,
            ("content-encoding", value) => coding = Some(value),
            ("x-version", value) => version = value.parse().ok(),
            ("content-range", value) => range = content_range(value),
            ("connection", value) => closes |= value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let rest = &bytes[head_len..];
    let is_request = status == 0;
    let bodiless = is_head || matches!(status, 100..=199 | 204 | 304);
    let whole = |len: usize, body: &[u8]| {
        let len = head_len + len;
        match decode(coding.filter(|_| !bodiless), body) {
            Ok(body) => Progress::Whole {
                len,
                status,
                body,
                version,
                range,
                closes,
            },
            Err(error) => Progress::Malformed(format!("a body in {coding:?}: {error}")),
        }
    };
    match length {
        _ if bodiless => whole(0, b""),
        _ if chunked => match dechunk(rest) {
            Ok(Some((len, body))) => whole(len, &body),
            Ok(None) => Progress::More,
            Err(what) => Progress::Malformed(what),
        },
        Some(length) if rest.len() >= length => whole(length, &rest[..length]),
        Some(_) => Progress::More,
        None if is_request => whole(0, b""),
        None if over => whole(rest.len(), rest),
        None => Progress::More,
    }
}

/// The first byte that a `Content-Range` names, and the one behind the last.
pub(crate) fn content_range(value: &str) -> Option<(usize, usize)> {
    let (range, _) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.parse().ok()?, last.parse::<usize>().ok()? + 1))
}

fn decode(coding: Option<&str>, body: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    match coding {
        Some("gzip") => {
            let mut decoder = flate2::read::GzDecoder::new(body);
            io::copy(&mut decoder, &mut content)?;
        }
        Some("zstd") => zstd::stream::copy_decode(body, &mut content)?,
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
        None => content.extend_from_slice(body),
    }
    Ok(content)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn dechunk(mut bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, String> {
    let (all, mut body) = (bytes.len(), Vec::new());
    loop {
        let Some(at) = find(bytes, b"\r\n") else {
            return Ok(None);
        };
        let size = String::from_utf8_lossy(&bytes[..at]).into_owned();
        let size =
            usize::from_str_radix(&size, 16).map_err(|_| format!("a chunk size {size:?}"))?;
        let Some(chunk) = bytes.get(at + 2..at + 2 + size + 2) else {
            return Ok(None);
        };
        if !chunk.ends_with(b"\r\n") {
            return Err("a chunk without its end".to_owned());
        }
        body.extend_from_slice(&chunk[..size]);
        bytes = &bytes[at + 2 + size + 2..];
        if size == 0 {
            return Ok(Some((all - bytes.len(), body)));
        }
    }
}

/// A client with a list of requests on one connection.
pub(crate) struct Browser {
    pub(crate) to: Bind,
    pub(crate) asks: Vec<Ask>,
    /// Sends all requests without waiting for answers.
    pub(crate) pipelines: bool,
    /// Sends its end with the last request.
    pub(crate) half_closes: bool,
    /// An answer may be cut short, because of faults on the other side of a proxy.
    pub(crate) may_be_cut: bool,
    pub(crate) piece_max: usize,
    pub(crate) pause_max: Duration,
    /// Goes away when it has received so many bytes.
    pub(crate) leaves_after: Option<usize>,
    state: Browsing,
}

#[derive(Default)]
struct Browsing {
    end: Option<End>,
    unsent: Vec<u8>,
    /// Requests that were begun, and answers that came.
    asked: usize,
    answered: usize,
    finished: bool,
    received: Vec<u8>,
    received_bytes: usize,
    /// When the last request was begun.
    asked_at: Duration,
    next_at: Duration,
    give_up_at: Duration,
    fate: Option<String>,
    excused: bool,
    /// The last answer said that it is the last.
    closing: bool,
}

impl Browser {
    pub(crate) fn new(to: &Bind, asks: Vec<Ask>) -> Self {
        Self {
            to: to.clone(),
            asks,
            pipelines: false,
            half_closes: false,
            may_be_cut: false,
            piece_max: 1000,
            pause_max: Duration::from_millis(1),
            leaves_after: None,
            state: Browsing::default(),
        }
    }

    fn over(&mut self, fate: impl Into<String>, hands: &mut Hands<'_>) {
        if let Some(end) = self.state.end {
            self.state.excused |= hands.is_excused(end);
            hands.close(end);
        }
        self.state.fate = Some(fate.into());
    }

    /// The request that the client speaks of next, if it may.
    fn ask(&mut self, now: Duration) {
        let Browsing {
            asked,
            answered,
            unsent,
            asked_at,
            ..
        } = &mut self.state;
        while *asked < self.asks.len() && (self.pipelines || asked == answered) {
            *asked_at = now;
            unsent.extend_from_slice(&self.asks[*asked].request);
            *asked += 1;
        }
    }

    fn check(&mut self, over: bool) -> Result<(), String> {
        while self.state.answered < self.state.asked {
            let ask = &self.asks[self.state.answered];
            match read(&self.state.received, ask.is_head, over) {
                Progress::More => return Ok(()),
                Progress::Malformed(what) => return Err(what),
                Progress::Whole {
                    len,
                    status: 100..=199,
                    ..
                } => drop(self.state.received.drain(..len)),
                Progress::Whole {
                    len,
                    status,
                    body,
                    version,
                    range,
                    closes,
                } => {
                    let fits = |(expected, whole): &(u16, Option<Vec<u8>>)| {
                        *expected == status && whole.as_ref().is_none_or(|whole| *whole == body)
                    };
                    if let (Some(path), 200 | 206) = (&ask.versions_of, status) {
                        let range = range.filter(|_| status == 206);
                        let asked_at = self.state.asked_at;
                        ask.check_version(path, version, (&body, range), asked_at)?;
                    }
                    if !ask.answers.iter().any(fits) {
                        let request = String::from_utf8_lossy(&ask.request);
                        let line = request.lines().next().unwrap_or_default();
                        return Err(format!(
                            "{line:?} was answered with {status} and {} bytes",
                            body.len()
                        ));
                    }
                    self.state.received.drain(..len);
                    self.state.answered += 1;
                    self.state.closing = closes;
                }
            }
        }
        match self.state.received.is_empty() {
            true => Ok(()),
            false => Err("more came than was asked for".to_owned()),
        }
    }

    fn talk(&mut self, end: End, hands: &mut Hands<'_>) {
        if hands.now() < self.state.next_at {
            return;
        }
        self.ask(hands.now());
        let piece = hands
            .rng()
            .sized(self.piece_max)
            .min(self.state.unsent.len());
        let sent = hands.send(end, &self.state.unsent[..piece]);
        self.state.unsent.drain(..sent);
        let all_sent = self.state.asked == self.asks.len() && self.state.unsent.is_empty();
        if all_sent && self.half_closes && !self.state.finished {
            self.state.finished = true;
            hands.finish(end);
        }
        let max = hands.rng().between(20, 20_000);
        let received = hands.receive(end, max);
        if let Received::Bytes(bytes) = &received {
            self.state.received.extend_from_slice(bytes);
            self.state.received_bytes += bytes.len();
        }
        if let Err(what) = self.check(received == Received::End) {
            return self.over(what, hands);
        }
        if self
            .leaves_after
            .is_some_and(|bytes| self.state.received_bytes >= bytes)
        {
            return self.over("left", hands);
        }
        match received {
            Received::End => return self.over("ended", hands),
            Received::Broken => return self.over("broken", hands),
            _ if self.state.answered == self.asks.len() && !self.half_closes => {
                return self.over("closed", hands);
            }
            Received::Nothing if sent == 0 && !self.state.unsent.is_empty() => return,
            Received::Nothing if self.state.unsent.is_empty() => {
                // Something is to be asked only after the answer.
                self.ask(hands.now());
                if self.state.unsent.is_empty() {
                    return;
                }
            }
            _ => {}
        }
        let pause = if hands.rng().coin() {
            Duration::ZERO
        } else {
            hands.rng().span(self.pause_max)
        };
        self.state.next_at = hands.now() + pause;
        hands.wake_in(pause);
    }
}

impl Actor for Browser {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        self.state.excused |= hands.is_draining();
        let Some(end) = self.state.end else {
            self.state.end = Some(hands.connect(&self.to));
            self.state.give_up_at = hands.now() + PATIENCE;
            return hands.wake_in(PATIENCE);
        };
        match hands.stage(end) {
            Stage::Opening => {}
            Stage::Failed(_) => self.over("not connected", hands),
            Stage::Open => self.talk(end, hands),
        }
        if !self.is_done() && hands.now() >= self.state.give_up_at {
            self.over("tired of waiting", hands);
        }
    }

    fn is_done(&self) -> bool {
        self.state.fate.is_some()
    }

    fn verdict(&self) -> Result<(), String> {
        let Browsing {
            answered,
            excused,
            closing,
            fate,
            ..
        } = &self.state;
        let all = *answered == self.asks.len();

        match fate.as_deref() {
            Some("ended" | "closed") if all => return Ok(()),
            Some("left") => return Ok(()),
            Some("ended") if *closing => return Ok(()),
            Some("ended" | "broken" | "not connected") if *excused => return Ok(()),
            // Behind a proxy the end of what the origin sent is all that there is.
            Some("ended" | "broken") if self.may_be_cut => return Ok(()),
            _ => {}
        }
        let next = self
            .asks
            .get(*answered)
            .map(|ask| String::from_utf8_lossy(&ask.request).into_owned());
        let line = next.as_deref().and_then(|request| request.lines().next());
        Err(format!(
            "browser {:?} of {}: {fate:?}, {answered} of {} answers, pipelining {}, next {line:?}, {} bytes unread",
            self.state.end,
            self.to,
            self.asks.len(),
            self.pipelines,
            self.state.received.len(),
        ))
    }
}

/// The body that an origin has under a path, and that a client expects: `/LENGTH/KIND/SEED`.
pub(crate) fn body_of(path: &str) -> Vec<u8> {
    let mut parts = path.trim_start_matches('/').split('/');
    let len = parts
        .next()
        .and_then(|len| len.parse::<usize>().ok())
        .unwrap_or(0);
    let seed = parts
        .nth(1)
        .and_then(|seed| seed.parse::<usize>().ok())
        .unwrap_or(0);
    (0..len)
        .map(|i| (i.wrapping_mul(seed + 7) >> 3) as u8)
        .collect()
}

/// The bytes that a `Range` names of so many: the first one, and the one behind the last; none where
/// it begins behind them all. `None` for what is to be ignored.
fn range_of(value: &str, len: usize) -> Option<(usize, usize)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let first: usize = first.parse().ok()?;
    let end = match last {
        "" => len,
        last => len.min(last.parse::<usize>().ok()?.checked_add(1)?),
    };
    match first < end || first >= len {
        true => Some((first, end.max(first))),
        false => None,
    }
}

/// An origin server. What stands in the second part of the path says how the body is framed.
pub(crate) struct WebOrigin {
    at: SocketAddr,
    listens: bool,
    role: Role,
    conns: Vec<OriginConn>,
    /// Somebody was told what is not for them, or not told what is.
    wrong: Option<String>,
    /// Every request that arrived whole.
    pub(crate) requests: Vec<String>,
}

/// Whom a connection leads to.
#[derive(Clone)]
enum Role {
    Origin,
    /// An origin with this certificate.
    Secure(Arc<ServerConfig>),
    /// A proxy that knows `web.example`, and leads to that origin by tunnels. It is told this; by TLS or
    /// not.
    Parent(Arc<ServerConfig>, String, Spoken),
}

/// How a parent is spoken to.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Spoken {
    Plainly,
    ByTls,
}

struct OriginConn {
    wire: Wire,
    role: Role,
    received: Vec<u8>,
    unsent: Vec<u8>,
    /// Nothing is sent before.
    silent_until: Duration,
    closing: bool,
    /// It ends with a reset.
    breaks: bool,
    /// A body that breaks off ends behind so many bytes.
    breaks_after: usize,
    over: bool,
}

impl WebOrigin {
    pub(crate) fn new(at: SocketAddr) -> Self {
        Self {
            at,
            listens: false,
            role: Role::Origin,
            conns: Vec::new(),
            wrong: None,
            requests: Vec::new(),
        }
    }

    /// One that speaks TLS.
    pub(crate) fn secure(at: SocketAddr) -> Self {
        Self {
            role: Role::Secure(secure::server()),
            ..Self::new(at)
        }
    }

    /// A proxy that is to be told `authorization`.
    pub(crate) fn parent(at: SocketAddr, authorization: String, spoken: Spoken) -> Self {
        Self {
            role: Role::Parent(secure::server(), authorization, spoken),
            ..Self::new(at)
        }
    }
}

impl OriginConn {
    fn serve(
        &mut self,
        requests: &mut Vec<String>,
        wrong: &mut Option<String>,
        hands: &mut Hands<'_>,
    ) {
        while !self.over {
            if hands.now() < self.silent_until {
                return;
            }
            let sent = self.wire.send(&self.unsent, hands);
            self.unsent.drain(..sent);
            if self.closing && self.unsent.is_empty() {
                self.over = match self.breaks {
                    true => {
                        self.wire.abort(hands);
                        true
                    }
                    false => self.wire.close(hands),
                };
                return;
            }
            match self.wire.receive(hands) {
                Received::Bytes(bytes) => self.received.extend_from_slice(&bytes),
                Received::Nothing => return,
                Received::End if self.unsent.is_empty() => self.closing = true,
                Received::End => return,
                Received::Broken => self.over = self.wire.close(hands),
            }
            while !self.closing
                && let Progress::Whole { len, body, .. } = read(&self.received, false, false)
            {
                let request: Vec<u8> = self.received.drain(..len).collect();
                let text = String::from_utf8_lossy(&request).into_owned();
                let told = text
                    .split("\r\n")
                    .find_map(|line| line.strip_prefix("Proxy-Authorization: "));
                let is_right = match &self.role {
                    Role::Parent(_, authorization, _) => told == Some(authorization.as_str()),
                    Role::Origin | Role::Secure(_) => told.is_none(),
                };
                if !is_right {
                    *wrong = Some(format!("{told:?} was told in {text:?}"));
                }
                match self.role.clone() {
                    Role::Parent(secure, ..) => self.relay(&text, &secure, &body, requests, hands),
                    Role::Origin | Role::Secure(_) => self.answer(&text, &body, requests, hands),
                }
            }
        }
    }

    /// Answers as a proxy.
    fn relay(
        &mut self,
        text: &str,
        secure: &Arc<ServerConfig>,
        sent_body: &[u8],
        requests: &mut Vec<String>,
        hands: &mut Hands<'_>,
    ) {
        let target = text.split(' ').nth(1).unwrap_or_default();
        let is_known = ["secure.example:443", "stranger.example:443"].contains(&target);
        if text.starts_with("CONNECT ") && is_known {
            let interim = match hands.rng().coin() {
                true => "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
                false => "",
            };
            hands.note(|| format!("a tunnel leads to {target}"));
            let open = format!("{interim}HTTP/1.1 200 Connection established\r\n\r\n");
            self.wire.secure(secure, open.as_bytes(), hands);
            self.role = Role::Secure(Arc::clone(secure));
            return;
        }
        if target.starts_with("http://web.example/") {
            let as_of_origin = text.replacen("http://web.example", "", 1);
            return self.answer(&as_of_origin, sent_body, requests, hands);
        }
        let status = match target.contains("inside.example") {
            true => "403 Forbidden",
            false => "502 Bad Gateway",
        };
        let refusal = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nno\r\n");
        self.unsent.extend_from_slice(refusal.as_bytes());
    }

    fn answer(
        &mut self,
        text: &str,
        sent_body: &[u8],
        requests: &mut Vec<String>,
        hands: &mut Hands<'_>,
    ) {
        let mut line = text.split(' ');
        let (method, path) = (
            line.next().unwrap_or_default(),
            line.next().unwrap_or_default(),
        );
        requests.push(format!("{method} {path}"));
        if let Some(policy) = path.split('/').nth(4) {
            return self.answer_version(method, path, policy, text, hands);
        }
        // What was posted comes back.
        let body = if method == "POST" {
            sent_body.to_vec()
        } else {
            body_of(path)
        };
        let out = &mut self.unsent;
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nX-Origin: yes\r\n");
        self.frame(method, path, &body);
    }

    /// Answers with what a resource is at this moment, and how long that may be kept.
    fn answer_version(
        &mut self,
        method: &str,
        path: &str,
        policy: &str,
        request: &str,
        hands: &mut Hands<'_>,
    ) {
        if hands.rng().coin() {
            let pause = hands.rng().span(Duration::from_secs(1));
            self.silent_until = hands.now() + pause;
            hands.wake_in(pause);
        }
        let version = match policy {
            "steady" => 0,
            _ => version_at(hands.now()),
        };
        let control = match policy {
            "steady" => "max-age=2",
            "fresh" => "max-age=1000",
            "short" => "max-age=1, stale-while-revalidate=3",
            "error" => "max-age=1, stale-if-error=1000",
            "check" => "no-cache",
            _ => "no-store",
        };
        let tag = format!("\"{version}\"");
        let fields = format!("Cache-Control: {control}\r\nETag: {tag}\r\nX-Version: {version}\r\n");
        let body = body_of_version(path, version);
        let field = |name: &str| {
            let mut lines = request.split("\r\n");
            lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let range = field("Range").filter(|_| field("If-Range").is_none_or(|known| known == tag));
        let range = range.and_then(|range| range_of(range, body.len()));
        if field("If-Range").is_some() {
            let has_it = range.is_some();
            hands.note(|| format!("what is missing from {path} is asked for; it has it: {has_it}"));
        }
        // What breaks off does so anywhere, or not at all.
        if path.contains("/cut/") || path.contains("/broken/") {
            self.breaks_after = hands.rng().below(body.len() * 4 / 3 + 1);
        }
        if field("If-None-Match") == Some(&tag) {
            let head = format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
            return self.unsent.extend_from_slice(head.as_bytes());
        }
        let (status, line, body) = match range {
            Some((first, end)) if end > first => {
                let line = format!(
                    "Content-Range: bytes {first}-{}/{}\r\n",
                    end - 1,
                    body.len()
                );
                ("206 Partial Content", line, &body[first..end])
            }
            Some(_) => {
                let head = format!(
                    "HTTP/1.1 416 Range Not Satisfiable\r\n{fields}Content-Range: bytes */{}\r\n\
                     Content-Length: 0\r\n\r\n",
                    body.len()
                );
                return self.unsent.extend_from_slice(head.as_bytes());
            }
            None => ("200 OK", String::new(), &body[..]),
        };
        let head = format!("HTTP/1.1 {status}\r\n{fields}{line}");
        self.unsent.extend_from_slice(head.as_bytes());
        self.frame(method, path, body);
    }

    /// Ends a head, and sends a body as the path wants it framed.
    fn frame(&mut self, method: &str, path: &str, body: &[u8]) {
        let out = &mut self.unsent;
        let kind = path.split('/').nth(2).unwrap_or_default();
        let cut = self.breaks_after;
        if method == "HEAD" {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            return;
        }
        match kind {
            // It breaks before its end, which is the end of the connection.
            "broken" => {
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(&body[..cut.min(body.len())]);
                (self.closing, self.breaks) = (true, true);
            }
            // It says more than it sends.
            "cut" => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                out.extend_from_slice(&body[..cut.min(body.len())]);
                self.closing = true;
            }
            "chunked" => {
                out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(1 + body.len() / 3) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            "close" => {
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(body);
                self.closing = true;
            }
            _ => {
                out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
                out.extend_from_slice(body);
            }
        }
    }
}

impl Actor for WebOrigin {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if !self.listens {
            self.listens = true;
            hands.listen(self.at);
        }
        while let Some(end) = hands.accept() {
            let (received, unsent) = (Vec::new(), Vec::new());
            let mut wire = Wire::new(end);
            if let Role::Secure(config) | Role::Parent(config, _, Spoken::ByTls) = &self.role {
                wire.secure(config, b"", hands);
            }
            self.conns.push(OriginConn {
                wire,
                role: self.role.clone(),
                received,
                unsent,
                silent_until: Duration::ZERO,
                closing: false,
                breaks: false,
                breaks_after: 0,
                over: false,
            });
        }
        for conn in &mut self.conns {
            conn.serve(&mut self.requests, &mut self.wrong, hands);
        }
        self.conns.retain(|conn| !conn.over);
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }
}
