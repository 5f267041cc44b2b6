//! One request on its way to the origin and its response on the way back: two bodies that move at
//! once.
//!
//! RFC 9110 section 15.2 (interim responses), RFC 9112 sections 6 (framing), 8 (what is cut) and
//! 9.3.1 (what is repeated).
//!
//! ```text
//! upload     payload… ──▶ done                         never longer than the connection to the origin is open
//! download   Awaited ──interim responses──▶ Awaited ──final head──▶ Passing ──▶ the end of the exchange
//!               └──101, as asked for──▶ a tunnel
//! ```
//!
//! A long file, since both bodies are judged by the same facts.
//!
//! Not here: how heads are written (`heads`), and to whom a connection is made (`forward`).

use std::time::{Instant, SystemTime};

use super::answer::{self, Sink};
use super::errand::{Errand, Verdict, parse_sent};
use super::filling::Filling;
use super::heads::{self, Manner};
use super::passing::{Coding, Passing, pass};
use super::reading::{Read, Reading};
use super::request::Request;
use super::route::{Form, Origin};
use super::step::{self, Backlog};
use super::{Proxy, Rules, upgrade};
use crate::cache::store::{FetchId, Kept, StoreId};
use crate::ending::Error;
use crate::http::body::{BodyDecoder, BodyError};
use crate::http::date::unix_s;
use crate::http::head::{BodyLength, HeadError, HeadScanner, Parsed, ResponseHead, mend_response};
use crate::http::persistence::Persistence;
use crate::http::proxy_status::ProxyError;
use crate::http::range::ByteRange;
use crate::http::{Status, Version};
use crate::service::origins::{Through, Way};
use crate::service::{Cx, Io, Link, LinkState, work};
use crate::services::prolonged;
use crate::services::web::access_log::Answerer;
use crate::services::web::reply::Answered;

/// Room for a head, which is asked for before the one of a response is looked at: what is decided
/// about it is decided once.
const HEAD_ROOM_BYTES: usize = 16 * 1024;

/// What was sent to an origin, and for whom.
pub(super) struct Sent<'a> {
    pub(super) request: &'a Request,
    pub(super) origin: &'a Origin,
    pub(super) way: &'a Way,
    /// The head, with the conditions of the client.
    pub(super) head: &'a [u8],
    /// Another upstream may be sent the same.
    pub(super) has_another: bool,
    pub(super) errand: Option<&'a mut Errand>,
}

/// What follows an exchange, other than its end.
pub(super) enum Onward {
    /// The request is to be sent once more, on a new connection.
    Again,
    /// The same, to another upstream: what this one answered is a failure.
    Another,
    /// Both sides speak another protocol from here on.
    Switched,
}

type Step = step::Step<Onward>;

/// A request on its way and its response on the way back.
pub(super) struct Exchange {
    /// It went out on a connection that had been used before, and no byte of an answer has come: it
    /// may be sent once more.
    may_repeat: bool,
    /// The client waits for the origin's word before it sends the body.
    expects_continue: bool,
    /// The status of the origin's own answer, once its head is there.
    pub(super) heard: Option<Status>,
    /// What the client got so far.
    answered: Option<Answered>,
    upload: BodyDecoder,
    /// Of the response's head.
    scanner: HeadScanner,
    download: Download,
    /// When bytes last moved.
    moved: Instant,
    /// What the client paid for with bytes of the body: when more must be there, unless somebody
    /// else is waited for.
    body_until: Instant,
    /// When the whole request was sent on.
    uploaded: Option<Instant>,
    pub(super) until: Instant,
    backlog: Backlog,
}

enum Download {
    /// The final response has not begun.
    Awaited,
    /// Its head was passed on.
    Passing(Passing),
    /// The same, and its body is kept as it comes.
    Filling(Box<Filling>),
    /// The answer is what was kept, all of which is queued. Whether the origin's connection can take
    /// another request.
    Kept { reusable: bool },
}

/// What the origin's bytes turned out to be; the head to be passed on stands in the scratch buffer.
enum Heard {
    /// A head that is not complete.
    Part,
    /// An interim response, which took so many bytes.
    Interim(usize),
    /// The interim response behind which both sides speak another protocol.
    Switched(usize),
    /// The final one.
    Final(usize, Answered, Download),
    /// One that is of no use: the request is sent once more.
    Useless,
    /// One that counts as a failure: the request is sent to another upstream.
    Failed,
    /// No response.
    Bad(ProxyError, &'static str),
}

impl Heard {
    /// Of a head that is not complete: whether more may come, and there is room for it.
    fn part(has_ended: bool, is_full: bool) -> Self {
        match (has_ended, is_full) {
            (true, _) => Self::Bad(
                ProxyError::HttpResponseIncomplete,
                "it ended within the head",
            ),
            (_, true) => Self::Bad(
                ProxyError::HttpResponseHeadTooLarge,
                "its head is too large",
            ),
            _ => Self::Part,
        }
    }

    /// How the request is sent again, for one that is of no use.
    fn onward(&self) -> Option<Onward> {
        match self {
            Self::Useless => Some(Onward::Again),
            Self::Failed => Some(Onward::Another),
            _ => None,
        }
    }

    fn nonsense(what: &'static str) -> Self {
        Self::Bad(ProxyError::HttpProtocolError, what)
    }
}

impl Exchange {
    /// A request of which the head was just sent.
    pub(super) fn new(request: &Request, may_repeat: bool, now: Instant, rules: &Rules) -> Self {
        let upload = BodyDecoder::forwarding(request.body);
        let mut exchange = Self {
            may_repeat,
            expects_continue: request.expects_continue,
            heard: None,
            answered: None,
            scanner: HeadScanner::default(),
            uploaded: upload.is_done().then_some(now),
            upload,
            download: Download::Awaited,
            moved: now,
            body_until: now + rules.idle_timeout,
            until: now,
            backlog: Backlog::default(),
        };
        exchange.progress(now, rules);
        exchange
    }

    /// Bytes moved: the time begins anew, and ends when the first of those whom we may wait for has
    /// taken too long.
    fn progress(&mut self, now: Instant, rules: &Rules) {
        self.moved = now;
        self.until = self.origin_until(rules);
        if self.is_awaited() && !self.upload.is_done() {
            self.until = self.until.min(self.body_until);
        }
    }

    /// Until when the origin may be waited for: its silence has a limit, and so has the wait for
    /// its answer.
    fn origin_until(&self, rules: &Rules) -> Instant {
        let silent = self.moved + rules.upstream_timeout;
        match self.uploaded {
            Some(uploaded) if self.is_awaited() => silent.min(uploaded + rules.response_timeout),
            _ => silent,
        }
    }

    /// Whether the client is the one that is waited for: it sends a body, and the origin takes all
    /// of it.
    fn awaits_client(&self, io: &Io<'_>) -> bool {
        let uploads = self.is_awaited() && !self.upload.is_done();
        uploads && !self.expects_continue && io.up.tx.is_empty()
    }

    fn is_awaited(&self) -> bool {
        matches!(self.download, Download::Awaited)
    }

    /// Whether the client's connection stays after an answer of our own: not with a body that did
    /// not wholly come.
    fn stays(&self, request: &Request, io: &Io<'_>) -> bool {
        self.upload.is_done() && request.keep_alive && !io.cx.draining
    }

    pub(super) fn advance(
        &mut self,
        mut sent: Sent<'_>,
        proxy: &mut Proxy,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let (request, origin) = (sent.request, sent.origin);
        if self.backlog.shrank(io.up) || io.drained {
            self.progress(io.cx.now, &proxy.rules);
        }
        if let Some(step) = self.upload(request, &proxy.rules, io)? {
            return Ok(step);
        }
        if let Some(step) = self.await_response(&mut sent, proxy, io) {
            return Ok(step);
        }
        if let Some(step) = self.download((request, origin, sent.way), &proxy.rules, io)? {
            return Ok(step);
        }
        // Interim responses that the client has not taken yet buy the origin no time.
        if io.cx.now >= self.until && (io.down.tx.is_empty() || self.is_awaited()) {
            return self.expire(request, (origin, sent.way), &proxy.rules, io);
        }
        self.backlog.watch(io.up);
        Ok(Step::WAIT)
    }

    /// Passes on what there is of the request's body.
    fn upload(
        &mut self,
        request: &Request,
        rules: &Rules,
        io: &mut Io<'_>,
    ) -> Result<Option<Step>, Error> {
        if self.upload.is_done() || io.up.status != LinkState::Open {
            return Ok(None);
        }
        let (rx, tx) = (&mut io.down.rx, &mut io.up.tx);
        let coding = Coding::of(request.body, false);
        let error = match pass(&mut self.upload, coding, rx, tx, &mut io.cx) {
            Ok(0) => {
                if !io.down.rx.is_empty() {
                    // The client is held up by the origin.
                    self.body_until = io.cx.now + rules.idle_timeout;
                }
                None
            }
            Ok(count) => {
                let (rate_min, most) = (rules.body_rate_min, rules.idle_timeout);
                self.body_until = prolonged(self.body_until, count, rate_min, io.cx.now, most);
                self.uploaded = self.upload.is_done().then_some(io.cx.now);
                self.progress(io.cx.now, rules);
                None
            }
            Err(error) => Some(error),
        };
        // The end may have come together with the last bytes: it is looked for behind them.
        let truncated = io.down.is_drained() && !self.upload.is_done();
        match (&self.download, error) {
            (_, None) if !truncated => Ok(None),
            (Download::Awaited, error) => {
                let text = error.unwrap_or(BodyError::Truncated).text();
                let why = ProxyError::HttpRequestError;
                Ok(Some(Step::refused(Status::BAD_REQUEST, why, text, false)))
            }
            (download, Some(error)) => Ok(Some(download.cut(format!("request cut: {error}"))?)),
            (_, None) => {
                // An origin that answers while it reads learns that no more will come.
                io.up.finish();
                Ok(None)
            }
        }
    }

    /// Passes on interim responses and the head of the final one.
    fn await_response(
        &mut self,
        sent: &mut Sent<'_>,
        proxy: &mut Proxy,
        io: &mut Io<'_>,
    ) -> Option<Step> {
        let (request, origin) = (sent.request, sent.origin);
        while self.is_awaited() && !io.cx.work.is_spent() {
            if io.up.rx.is_empty() {
                return io.up.eof.then(|| {
                    let from = asked(origin, sent.way, &proxy.rules);
                    self.silent_end(request, &from, io)
                });
            }
            self.may_repeat = false; // it arrived
            if !io.down.tx.has_room(HEAD_ROOM_BYTES) {
                return None;
            }
            let heard = self.hear(sent, proxy, io);
            if let Heard::Bad(error, what) = heard {
                let from = asked(origin, sent.way, &proxy.rules);
                let text = format!("{from}: bad response: {what}");
                let stays = self.stays(request, io);
                return Some(Step::refused(Status::BAD_GATEWAY, error, &text, stays));
            }
            if matches!(heard, Heard::Part) {
                return None;
            }
            if let Some(onward) = heard.onward() {
                io.disconnect();
                return Some(Step::Go(onward));
            }
            io.cx.work.charge(work::WRITTEN_NS);
            if io.down.status == LinkState::Open {
                io.down.tx.put(&proxy.scratch, io.cx.pool);
            }
            match heard {
                Heard::Switched(head_bytes) => {
                    io.up.rx.consume(head_bytes);
                    self.heard = Some(Status::SWITCHING_PROTOCOLS);
                    return Some(Step::Go(Onward::Switched));
                }
                Heard::Interim(head_bytes) => {
                    io.up.rx.consume(head_bytes);
                    if std::mem::take(&mut self.expects_continue) {
                        self.body_until = io.cx.now + proxy.rules.idle_timeout;
                    }
                }
                Heard::Final(head_bytes, answered, download) => {
                    io.up.rx.consume(head_bytes);
                    io.down.end_is_framing = download.end_is_framing();
                    self.answered = Some(answered);
                    self.download = download;
                }
                Heard::Part | Heard::Bad(..) | Heard::Useless | Heard::Failed => {
                    unreachable!("they were dealt with above")
                }
            }
            self.progress(io.cx.now, &proxy.rules);
        }
        None
    }

    /// Reads the head of a response, and writes it as the client is to see it. Long because the head
    /// lives in what arrived until all is known of it.
    fn hear(&mut self, sent: &mut Sent<'_>, proxy: &mut Proxy, io: &mut Io<'_>) -> Heard {
        let (request, origin) = (sent.request, sent.origin);
        let Proxy {
            rules,
            scratch,
            cache,
            upstreams,
            ..
        } = proxy;
        let (scanner, limits) = (&mut self.scanner, &rules.response_limits);
        let method = request.framing_method();
        let mut parsed = scanner.response(io.up.rx.bytes(), limits, method);
        if let Err(HeadError::FoldedLine | HeadError::BlankBeforeColon) = parsed {
            mend_response(io.up.rx.bytes_mut());
            *scanner = HeadScanner::default();
            parsed = scanner.response(io.up.rx.bytes(), limits, method);
        }
        let (head, head_bytes) = match parsed {
            Ok(Parsed::Complete(head, head_bytes)) => (head, head_bytes),
            Ok(Parsed::Partial) => return Heard::part(io.up.eof, !io.up.rx.has_space()),
            Err(error) => return Heard::nonsense(error.text()),
        };
        let old_client = request.version == Version::Http10;
        let address_bar = (request.form == Form::AddressBar).then_some(origin);
        scratch.clear();
        match head.status.code() {
            101 if request.upgrades && upgrade::is_named(&head.headers) => {
                heads::put_interim(scratch, &head, address_bar, &rules.pseudonym);
                return Heard::Switched(head_bytes);
            }
            101 => return Heard::nonsense("it switched protocols unasked"),
            // It is about our credentials, of which the client knows nothing.
            407 if sent.way.through == Through::Parent => {
                let what = "the parent wants other credentials than it was told";
                return Heard::Bad(ProxyError::ProxyConfigurationError, what);
            }
            // HTTP/1.0 has no interim responses.
            ..200 if old_client => return Heard::Interim(head_bytes),
            ..200 => {
                heads::put_interim(scratch, &head, address_bar, &rules.pseudonym);
                return Heard::Interim(head_bytes);
            }
            _ => {}
        }
        self.heard = Some(head.status);
        let fails_on = |status| upstreams.as_ref().is_some_and(|all| all.fails_on(status));
        if sent.has_another && fails_on(head.status) {
            return Heard::Failed;
        }
        let verdict = match (sent.errand.as_deref_mut(), cache) {
            (Some(errand), Some(cache)) => errand.judge(sent.head, &head, cache, &mut io.cx),
            _ => Verdict::Pass,
        };
        let is_open = matches!(head.body, BodyLength::Chunked | BodyLength::UntilClose);
        let end_is_framing = is_open && old_client;
        // An origin that answers before it has the whole request may never read the rest.
        let early = !self.upload.is_done();
        let last = Last {
            head: &head,
            head_bytes,
            address_bar,
            ends: !request.keep_alive || end_is_framing || early || io.cx.draining,
            end_is_framing,
            is_chunked: is_open && !old_client,
        };
        let memory = (&*rules, scratch);
        match verdict {
            Verdict::Kept(kept) => last.kept(&kept, sent, memory, (io.down, &mut io.cx)),
            Verdict::Again => Heard::Useless,
            Verdict::Joined(fetch, range) => last.joined((fetch, range), sent, memory, &mut io.cx),
            Verdict::Keep(fetch) => last.passed(Some(fetch), sent, memory, io.cx.wall),
            Verdict::Pass => last.passed(None, sent, memory, io.cx.wall),
        }
    }

    /// The origin ended before it said anything.
    fn silent_end(&self, request: &Request, from: &str, io: &mut Io<'_>) -> Step {
        if self.may_repeat {
            io.disconnect();
            return Step::Go(Onward::Again);
        }
        let text = match io.up.status {
            LinkState::Failed(kind) => format!("{from}: {kind}"),
            _ => format!("{from}: it closed without an answer"),
        };
        let (error, stays) = (ProxyError::ConnectionTerminated, self.stays(request, io));
        Step::refused(Status::BAD_GATEWAY, error, &text, stays)
    }

    /// Passes on what there is of the response's body, and ends the exchange with it.
    fn download(
        &mut self,
        (request, origin, way): (&Request, &Origin, &Way),
        rules: &Rules,
        io: &mut Io<'_>,
    ) -> Result<Option<Step>, Error> {
        let mut passed = 0;
        let came = match &mut self.download {
            Download::Awaited => return Ok(None),
            Download::Passing(_) if io.down.status == LinkState::Closed => {
                Err(BodyError::Truncated) // there is nobody to pass it to
            }
            Download::Passing(passing) => passing.pass(io).map(|count| {
                passed = count as u64;
                (count, passing.body.is_done())
            }),
            Download::Filling(filling) => match filling.advance(&mut passed, io) {
                Ok((_, Read::Broken)) => Err(BodyError::Truncated),
                Ok((count, read)) => Ok((count, read == Read::Done)),
                Err(error) => Err(error),
            },
            Download::Kept { .. } => Ok((0, true)),
        };
        if let Some(answered) = &mut self.answered {
            answered.body_bytes += passed;
        }
        let (count, is_done) = match came {
            Ok(came) => came,
            Err(error) => {
                let text = format!("{}: response cut: {error}", origin.authority);
                return Ok(Some(self.download.cut(text)?));
            }
        };
        if is_done {
            let whole = self.upload.is_done();
            let shared = rules.shares_connections();
            match self.download.is_reusable() && whole && shared {
                true => io.keep(way),
                false => io.disconnect(),
            }
            let stays = !self.download.ends(request) && whole && !io.cx.draining;
            return Ok(Some(Step::done(stays)));
        }
        if count > 0 || passed > 0 {
            self.progress(io.cx.now, rules);
        }
        Ok(None)
    }

    /// What the client got, and from whom.
    pub(super) fn answered(&self) -> Option<(Answered, Answerer)> {
        let answerer = match self.download {
            Download::Kept { .. } => Answerer::Cache,
            _ => Answerer::Origin,
        };
        Some((self.answered?, answerer))
    }

    /// Whether it goes on when its client is gone: what is kept of it is for others, too.
    pub(super) fn outlives_client(&self, errand: Option<&Errand>, cx: &mut Cx<'_>) -> bool {
        match &self.download {
            Download::Awaited => errand.is_some_and(|errand| errand.is_wanted(cx)),
            Download::Filling(filling) => filling.is_wanted(cx),
            Download::Passing(_) | Download::Kept { .. } => false,
        }
    }

    /// The exchange is over, however it ended.
    pub(super) fn release(&self, cx: &mut Cx<'_>) {
        if let Download::Filling(filling) = &self.download {
            filling.release(cx);
        }
    }

    /// The time is up: whose fault is it?
    fn expire(
        &mut self,
        request: &Request,
        (origin, way): (&Origin, &Way),
        rules: &Rules,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        let awaits_client = self.awaits_client(io);
        let client_is_late = awaits_client && io.cx.now >= self.body_until;
        if !awaits_client {
            self.body_until = io.cx.now + rules.idle_timeout;
        }
        self.until = self.origin_until(rules);
        if io.cx.now < self.until && !client_is_late {
            return Ok(Step::WAIT);
        }
        Ok(match &self.download {
            Download::Awaited if client_is_late => {
                let text = "the body of the request took too long";
                let error = ProxyError::HttpRequestError;
                Step::refused(Status::REQUEST_TIMEOUT, error, text, false)
            }
            Download::Awaited => {
                let from = asked(origin, way, rules);
                let text = format!("{from}: it did not answer in time");
                let stays = self.stays(request, io);
                let error = ProxyError::HttpResponseTimeout;
                Step::refused(Status::GATEWAY_TIMEOUT, error, &text, stays)
            }
            download => {
                download.cut(format!("{}: silent within its response", origin.authority))?
            }
        })
    }
}

/// Who was asked, for people: the origin, or the parent that was asked for it.
fn asked(origin: &Origin, way: &Way, rules: &Rules) -> String {
    match (&rules.parent, way.through) {
        (Some(parent), Through::Parent) => {
            format!("parent {}, asked for {}", parent.name, origin.authority)
        }
        _ => origin.authority.to_string(),
    }
}

/// The head of a final response, and what follows from it for the client's connection.
struct Last<'a> {
    head: &'a ResponseHead<'a>,
    head_bytes: usize,
    /// The origin, where the request had the address-bar form.
    address_bar: Option<&'a Origin>,
    /// The connection ends with the answer, which is all that tells where the body ends, or not.
    ends: bool,
    end_is_framing: bool,
    /// The body is of a length that nobody knows yet, and goes in chunks.
    is_chunked: bool,
}

impl Last<'_> {
    /// What was kept is the answer.
    fn kept(
        &self,
        kept: &Kept,
        sent: &Sent<'_>,
        (rules, scratch): (&Rules, &mut Vec<u8>),
        (down, cx): (&mut Link, &mut Cx<'_>),
    ) -> Heard {
        let persistence = Persistence::new(!self.ends, sent.request.version);
        let told = (Some(self.head.status), persistence, self.address_bar);
        let answered = match down.status {
            LinkState::Open => answer_kept(kept, sent, told, (rules, scratch), (down, cx)),
            _ => Answered {
                status: kept.status,
                body_bytes: 0,
            },
        };
        scratch.clear();
        let reusable = self.head.keep_alive && self.head.status == Status::NOT_MODIFIED;
        Heard::Final(self.head_bytes, answered, Download::Kept { reusable })
    }

    /// What comes completes what is kept, and the answer is read from both.
    fn joined(
        &self,
        (fetch, range): (FetchId, Option<ByteRange>),
        sent: &Sent<'_>,
        (rules, scratch): (&Rules, &mut Vec<u8>),
        cx: &mut Cx<'_>,
    ) -> Heard {
        let Some(errand) = sent.errand.as_deref() else {
            return Heard::Useless;
        };
        let request = sent.request;
        let ends = !request.keep_alive || cx.draining;
        let manner = answer::Manner {
            persistence: Persistence::new(!ends, request.version),
            address_bar: self.address_bar,
            via: &rules.via,
            status: errand.status(Some(self.head.status), true),
            now_s: unix_s(cx.wall),
        };
        let reading = (errand.store, fetch);
        let Some((status, reading)) = put_joined(reading, range, manner, scratch, cx) else {
            return Heard::Useless;
        };
        let ending = (self.head.keep_alive, ends, false);
        let mut filling = Filling::new(self.head.body, reading, ending);
        filling.finish_bytes = rules.finish_bytes;
        filling.is_as_it_comes = false;
        let (body_bytes, filling) = (0, Download::Filling(Box::new(filling)));
        Heard::Final(self.head_bytes, Answered { status, body_bytes }, filling)
    }

    /// It is passed on, and kept by the way where that is so.
    fn passed(
        &self,
        fetch: Option<FetchId>,
        sent: &Sent<'_>,
        (rules, scratch): (&Rules, &mut Vec<u8>),
        wall: SystemTime,
    ) -> Heard {
        let (head, errand) = (self.head, sent.errand.as_deref());
        let (status, body_bytes) = (head.status, 0);
        let manner = Manner {
            chunked: self.is_chunked,
            persistence: Persistence::new(!self.ends, sent.request.version),
            address_bar: self.address_bar,
            wall,
            cache: errand.map(|errand| errand.status(Some(status), fetch.is_some())),
        };
        heads::put_response(scratch, head, manner, &rules.pseudonym);
        let download = match (fetch, errand) {
            (Some(fetch), Some(errand)) => {
                let ending = (head.keep_alive, self.ends, self.end_is_framing);
                let reading = Reading::new((errand.store, fetch), self.is_chunked);
                let mut filling = Filling::new(head.body, reading, ending);
                filling.finish_bytes = rules.finish_bytes;
                filling.is_for_the_store = errand.is_for_the_store;
                filling.may_be_part = errand.reads();
                Download::Filling(Box::new(filling))
            }
            _ => Download::Passing(Passing {
                body: BodyDecoder::forwarding(head.body),
                coding: Coding::of(head.body, sent.request.version == Version::Http10),
                reusable: head.keep_alive,
                ends: self.ends,
                end_is_framing: self.end_is_framing,
            }),
        };
        Heard::Final(self.head_bytes, Answered { status, body_bytes }, download)
    }
}

/// Answers with what is kept, after its origin was asked: by the status that it answered with, how
/// the client's connection goes on, and the origin for an address-bar page.
pub(super) fn answer_kept(
    kept: &Kept,
    sent: &Sent<'_>,
    (status, persistence, address_bar): (Option<Status>, Persistence, Option<&Origin>),
    (rules, scratch): (&Rules, &mut Vec<u8>),
    (down, cx): (&mut Link, &mut Cx<'_>),
) -> Answered {
    let (Some(request), Some(errand)) = (parse_sent(sent.head), sent.errand.as_deref()) else {
        unreachable!("a head that was written here, of a request that the cache knows");
    };
    let manner = answer::Manner {
        persistence,
        address_bar,
        via: &rules.via,
        status: errand.status(status, false),
        now_s: unix_s(cx.wall),
    };
    let mut sink = Sink {
        tx: &mut down.tx,
        pool: &mut *cx.pool,
        scratch,
    };
    answer::put(kept, &request, manner, &mut sink)
}

/// Writes the head of a part that is being completed; the status, and what is to be read of it.
fn put_joined(
    (store, fetch): (StoreId, FetchId),
    range: Option<ByteRange>,
    manner: answer::Manner<'_>,
    out: &mut Vec<u8>,
    cx: &mut Cx<'_>,
) -> Option<(Status, Reading)> {
    let (kept, _) = cx.store(store);
    let object = kept.object(fetch)?;
    let reading = Reading::new((store, fetch), false);
    let Some(range) = range else {
        return Some((answer::put_head(object, None, false, manner, out), reading));
    };
    let (start, total) = match kept.part(fetch) {
        Some(part) => (part.range.start, part.total),
        None => (0, object.expected),
    };
    let status = answer::put_head(object, Some((range, total)), false, manner, out);
    Some((
        status,
        reading.only((range.start - start, range.end - start)),
    ))
}

impl Download {
    /// What becomes of a response that cannot be had whole. Where nothing but the end of the
    /// connection ends the body, an orderly one would make it look whole.
    fn cut(&self, text: String) -> Result<Step, Error> {
        log::debug!("proxy: {text}");
        match self.end_is_framing() {
            true => Err(Error::Protocol(text)),
            false => Ok(Step::done(false)),
        }
    }

    fn end_is_framing(&self) -> bool {
        match self {
            Download::Passing(passing) => passing.end_is_framing,
            Download::Filling(filling) => filling.end_is_framing,
            Download::Awaited | Download::Kept { .. } => false,
        }
    }

    fn is_reusable(&self) -> bool {
        match self {
            Download::Passing(passing) => passing.reusable,
            Download::Filling(filling) => filling.reusable,
            Download::Kept { reusable } => *reusable,
            Download::Awaited => false,
        }
    }

    /// Whether the client's connection ends with it.
    fn ends(&self, request: &Request) -> bool {
        match self {
            Download::Passing(passing) => passing.ends,
            Download::Filling(filling) => filling.ends,
            Download::Kept { .. } | Download::Awaited => !request.keep_alive,
        }
    }
}
