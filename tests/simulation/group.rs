//! A gateway with a group of upstreams, each of which fails in every way there is, and comes back:
//! it refuses, resets, says nothing, says half a head, or that it has no time. At the end all are well.
//!
//! What must hold, unless the simulation itself breaks connections to them:
//! 1. A request that may be repeated is answered while one of them is well, and was for as long as
//!    the gateway needs to learn of it.
//! 2. One that may not be repeated reaches one of them at most.
//! 3. One that came back gets requests again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use netlab_reactor::config::{
    Cache, CheckConfig, Kind, ListenerConfig, Ports, ProxyConfig, UpstreamConfig, Upstreams,
};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::rng::Rng;
use netlab_reactor::sys::sim::{End, Sim, Stage};

use crate::driver::{Scenario, Setting};
use crate::proxy::failures;
use crate::web::{Progress, body_of, read};

const PORT: u16 = 8082;
/// For a connection to one of them, and for its answer.
const PROMPT: Duration = Duration::from_secs(10);
/// How long they fail and come back; from then on all are well.
const CHURN: Duration = Duration::from_secs(60);
/// Requests of each client after that.
const REQUESTS_AFTERWARDS: usize = 12;

/// How one behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mode {
    Well,
    /// Nobody listens, and who was connected is cut.
    Refuses,
    /// What comes is answered with a reset.
    Resets,
    /// What comes is not answered.
    Silent,
    /// What comes is answered with half a head.
    Breaks,
    /// What comes is answered with 503.
    Busy,
}

impl Mode {
    const FAILING: [Mode; 5] = [
        Mode::Refuses,
        Mode::Resets,
        Mode::Silent,
        Mode::Breaks,
        Mode::Busy,
    ];
}

/// What is to happen: for each member its modes, each with its beginning.
#[derive(Default)]
struct Play {
    members: Vec<Vec<(Duration, Mode)>>,
    /// How long one has to be well until the gateway knows.
    grace: Duration,
    /// No connection to a member fails but by what is played.
    is_strict: bool,
    /// Requests that were answered when all had been well for long enough.
    answered_afterwards: Cell<usize>,
    /// What must be done once, and was.
    done_once: RefCell<BTreeSet<String>>,
}

impl Play {
    fn mode(&self, member: usize, now: Duration) -> Mode {
        let modes = self.members[member].iter();
        modes
            .rev()
            .find(|(at, _)| *at <= now)
            .map_or(Mode::Well, |(_, mode)| *mode)
    }

    /// Whether one was well all the time.
    fn has_well(&self, from: Duration, to: Duration) -> bool {
        let is_well = |member: usize| {
            let between = |(at, _): &&(Duration, Mode)| from < *at && *at <= to;
            let mut modes = self.members[member].iter().filter(between);
            self.mode(member, from) == Mode::Well && modes.all(|(_, mode)| *mode == Mode::Well)
        };
        (0..self.members.len()).any(is_well)
    }

    /// When the gateway must have learned that all are well.
    fn settled_at(&self) -> Duration {
        CHURN + self.grace
    }
}

#[derive(Default)]
pub(crate) struct Group {
    play: Rc<Play>,
    backups: Vec<bool>,
}

impl Scenario for Group {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let rng = &mut setting.later;
        let fail_timeout = Duration::from_secs(rng.between(1, 8) as u64);
        let all: Vec<UpstreamConfig> = (0..rng.between(2, 5))
            .map(|member| {
                let mut upstream = UpstreamConfig::new(
                    format!("http://{}", address(member))
                        .parse()
                        .expect("an address"),
                );
                upstream.weight = rng.between(1, 3) as u32;
                upstream.fails_max = rng.between(1, 2) as u32;
                upstream.fail_timeout = fail_timeout;
                upstream.is_backup = member > 1 && rng.chance(200);
                upstream
            })
            .collect();
        self.backups = all.iter().map(|upstream| upstream.is_backup).collect();
        let mut upstreams = Upstreams::from(all);
        let mut grace = Duration::ZERO;
        let is_busy_a_failure = rng.coin();
        if is_busy_a_failure {
            // Nobody who is out is thought to do better.
            upstreams.fail_on = vec![503];
            grace += 2 * fail_timeout + PROMPT;
        }
        if rng.coin() {
            let check = CheckConfig {
                every: Duration::from_secs(rng.between(2, 5) as u64),
                timeout: Duration::from_secs(2),
                rise: rng.between(1, 3) as u32,
                fall: rng.between(1, 3) as u32,
                ..CheckConfig::default()
            };
            grace += (check.rise + 2) * check.every + check.timeout;
            upstreams.check = Some(check);
        }
        self.play = Rc::new(Play {
            members: self
                .backups
                .iter()
                .map(|_| modes(rng, is_busy_a_failure))
                .collect(),
            grace,
            is_strict: failures(setting).is_empty() && setting.roomy,
            ..Play::default()
        });
        let mut config = ProxyConfig::new(Cache::Off);
        config.upstream = Some(upstreams);
        config.forward_ports = Ports::Any;
        (config.connect_timeout, config.response_timeout) = (PROMPT, PROMPT);
        config.http.head_timeout = Duration::from_secs(60);
        vec![setting.listener("group", 8890, Kind::Proxy(config))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for (number, is_backup) in self.backups.iter().enumerate() {
            let member = Member::new(number, *is_backup, Rc::clone(&self.play));
            sim.enter(member, Duration::ZERO);
        }
        for number in 0..setting.later.between(2, 4) {
            let visitor = Visitor::new(number, &bound[0], Rc::clone(&self.play));
            sim.enter(visitor, setting.later.span(Duration::from_secs(2)));
        }
    }
}

fn address(member: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(198, 18, 1, 1 + member as u8), PORT))
}

/// The modes of one: it fails, comes back, and fails again.
fn modes(rng: &mut Rng, is_busy_a_failure: bool) -> Vec<(Duration, Mode)> {
    let mut modes: Vec<(Duration, Mode)> = Vec::new();
    let mut at = Duration::ZERO;
    while at < CHURN {
        let mode = *rng.pick(&Mode::FAILING);
        let is_used = mode != Mode::Busy || is_busy_a_failure;
        let mode = if is_used && rng.coin() {
            mode
        } else {
            Mode::Well
        };
        if modes.last().is_none_or(|(_, last)| *last != mode) {
            modes.push((at, mode));
        }
        at += Duration::from_millis(rng.between(500, 30_000) as u64);
    }
    modes.push((CHURN, Mode::Well));
    modes
}

/// One upstream.
struct Member {
    number: usize,
    is_backup: bool,
    play: Rc<Play>,
    mode: Option<Mode>,
    conns: Vec<Conn>,
    /// Requests that it got when all had been well for long enough.
    got_afterwards: usize,
    wrong: Option<String>,
}

struct Conn {
    end: End,
    received: Vec<u8>,
    unsent: Vec<u8>,
    closing: bool,
}

impl Member {
    fn new(number: usize, is_backup: bool, play: Rc<Play>) -> Self {
        Self {
            number,
            is_backup,
            play,
            mode: None,
            conns: Vec::new(),
            got_afterwards: 0,
            wrong: None,
        }
    }

    /// Becomes what is played now.
    fn turn(&mut self, hands: &mut Hands<'_>) -> Mode {
        let mode = self.play.mode(self.number, hands.now());
        let before = self.mode.replace(mode);
        if before != Some(mode) {
            let number = self.number;
            hands.note(|| format!("member {number}: {mode:?}"));
            match (before == Some(Mode::Refuses) || before.is_none(), mode) {
                (false, Mode::Refuses) => {
                    hands.unlisten(address(number));
                    self.conns.drain(..).for_each(|conn| hands.abort(conn.end));
                }
                (true, Mode::Refuses) | (false, _) => {}
                (true, _) => hands.listen(address(number)),
            }
            let now = hands.now();
            let mut later = self.play.members[number].iter().map(|(at, _)| *at);
            if let Some(at) = later.find(|at| *at > now) {
                hands.wake_in(at - now);
            }
        }
        mode
    }

    /// Takes what came on one of its connections. Whether it goes on.
    fn serve(&mut self, conn: &mut Conn, mode: Mode, hands: &mut Hands<'_>) -> bool {
        loop {
            let sent = hands.send(conn.end, &conn.unsent);
            conn.unsent.drain(..sent);
            if conn.closing && conn.unsent.is_empty() {
                hands.close(conn.end);
                return false;
            }
            match hands.receive(conn.end, 5000) {
                Received::Bytes(bytes) => conn.received.extend_from_slice(&bytes),
                Received::Nothing if mode == Mode::Silent => return true,
                Received::Nothing if read(&conn.received, false, false).is_more() => return true,
                Received::Nothing => {}
                Received::End | Received::Broken => {
                    hands.close(conn.end);
                    return false;
                }
            }
            while mode != Mode::Silent
                && !conn.closing
                && let Progress::Whole { len, .. } = read(&conn.received, false, false)
            {
                let request: Vec<u8> = conn.received.drain(..len).collect();
                let line = String::from_utf8_lossy(&request);
                let line = line.lines().next().unwrap_or_default().to_owned();
                self.note_request(&line, hands.now());
                if mode == Mode::Resets {
                    hands.abort(conn.end);
                    return false;
                }
                answer(&line, mode, conn);
            }
        }
    }

    fn note_request(&mut self, line: &str, now: Duration) {
        let is_check = line.starts_with("GET / ");
        if now >= self.play.settled_at() && !is_check {
            self.got_afterwards += 1;
        }
        let is_new = |line: &str| self.play.done_once.borrow_mut().insert(line.to_owned());
        if line.starts_with("POST ") && !is_new(line) {
            self.wrong = Some(format!("{line:?} was sent twice"));
        }
    }
}

fn answer(line: &str, mode: Mode, conn: &mut Conn) {
    let path = line.split(' ').nth(1).unwrap_or_default();
    let body = body_of(path);
    let head = match mode {
        Mode::Busy => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned(),
        Mode::Breaks => "HTTP/1.1 200 OK\r\nContent-".to_owned(),
        _ => format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()),
    };
    conn.unsent.extend_from_slice(head.as_bytes());
    match mode {
        Mode::Breaks => conn.closing = true,
        Mode::Busy => {}
        _ => conn.unsent.extend_from_slice(&body),
    }
}

impl Actor for Member {
    fn act(&mut self, hands: &mut Hands<'_>) {
        let mode = self.turn(hands);
        while let Some(end) = hands.accept() {
            self.conns.push(Conn {
                end,
                received: Vec::new(),
                unsent: Vec::new(),
                closing: false,
            });
        }
        let mut conns = std::mem::take(&mut self.conns);
        conns.retain_mut(|conn| self.serve(conn, mode, hands));
        self.conns = conns;
    }

    fn is_done(&self) -> bool {
        true
    }

    fn verdict(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(wrong.clone());
        }
        // All weights together, so that each has had its turn though it takes its share step by step.
        let rounds = 2 * 3 * self.play.members.len();
        let had_turn = self.play.answered_afterwards.get() >= rounds;
        match self.play.is_strict && had_turn && !self.is_backup && self.got_afterwards == 0 {
            true => Err(format!(
                "member {} came back and gets no requests",
                self.number
            )),
            false => Ok(()),
        }
    }
}

/// A client that asks again and again.
struct Visitor {
    number: usize,
    to: Bind,
    play: Rc<Play>,
    end: Option<End>,
    unsent: Vec<u8>,
    received: Vec<u8>,
    asked: usize,
    /// What is under way: the path, whether it may be repeated, and since when.
    asking: Option<(String, bool, Duration)>,
    next_at: Duration,
    afterwards: usize,
    is_over: bool,
    wrong: Option<String>,
}

impl Visitor {
    fn new(number: usize, to: &Bind, play: Rc<Play>) -> Self {
        Self {
            number,
            to: to.clone(),
            play,
            end: None,
            unsent: Vec::new(),
            received: Vec::new(),
            asked: 0,
            asking: None,
            next_at: Duration::ZERO,
            afterwards: 0,
            is_over: false,
            wrong: None,
        }
    }

    fn ask(&mut self, hands: &mut Hands<'_>) {
        let is_post = hands.rng().below(6) == 0;
        let len = hands.rng().below(2000);
        let path = format!(
            "/{len}/length/{}/{}",
            self.number * 100_000 + self.asked,
            self.number
        );
        let method = if is_post { "POST" } else { "GET" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
        self.asked += 1;
        self.unsent = request.into_bytes();
        self.asking = Some((path, !is_post, hands.now()));
    }

    /// Judges an answer, or that there was none.
    fn judge(&mut self, answer: Option<(u16, Vec<u8>)>, hands: &mut Hands<'_>) {
        let Some((path, may_repeat, since)) = self.asking.take() else {
            return;
        };
        let now = hands.now();
        match answer {
            Some((200, body)) if body == body_of(&path) => {
                if since >= self.play.settled_at() {
                    self.afterwards += 1;
                    let sum = &self.play.answered_afterwards;
                    sum.set(sum.get() + 1);
                }
            }
            Some((502..=504, _)) | None if self.may_fail(may_repeat, since, now) => {}
            Some((status, body)) => {
                let len = body.len();
                self.wrong = Some(format!("{path} since {since:?}: {status}, {len} bytes"));
            }
            None => self.wrong = Some(format!("{path} since {since:?}: no answer")),
        }
        self.next_at = now + hands.rng().span(Duration::from_secs(3));
        hands.wake_in(self.next_at - now);
    }

    fn may_fail(&self, may_repeat: bool, since: Duration, now: Duration) -> bool {
        let from = since.checked_sub(self.play.grace);
        let has_well = from.is_some_and(|from| self.play.has_well(from, now));
        !self.play.is_strict || !may_repeat || !has_well
    }

    /// The connection is over, in whatever way.
    fn lose(&mut self, end: End, hands: &mut Hands<'_>) {
        let is_excused = hands.is_excused(end) || hands.is_draining();
        hands.close(end);
        (self.end, self.received, self.unsent) = (None, Vec::new(), Vec::new());
        match is_excused {
            true => self.asking = None,
            false => self.judge(None, hands),
        }
        self.is_over |= hands.is_draining();
        self.next_at = self.next_at.max(hands.now() + Duration::from_millis(100));
        hands.wake_in(self.next_at - hands.now());
    }

    fn talk(&mut self, end: End, hands: &mut Hands<'_>) {
        if self.asking.is_none() && hands.now() >= self.next_at {
            self.ask(hands);
        }
        loop {
            let sent = hands.send(end, &self.unsent);
            self.unsent.drain(..sent);
            match hands.receive(end, 5000) {
                Received::Bytes(bytes) => self.received.extend_from_slice(&bytes),
                Received::Nothing => return,
                Received::End | Received::Broken => return self.lose(end, hands),
            }
            match read(&self.received, false, false) {
                Progress::More => {}
                Progress::Malformed(what) => self.wrong = Some(what),
                Progress::Whole {
                    len, status, body, ..
                } => {
                    self.received.drain(..len);
                    self.judge(Some((status, body)), hands);
                }
            }
        }
    }
}

impl Actor for Visitor {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        if self.afterwards >= REQUESTS_AFTERWARDS || hands.is_draining() && self.end.is_none() {
            self.is_over = true;
            if let Some(end) = self.end.take() {
                hands.close(end);
            }
            return;
        }
        let Some(end) = self.end else {
            if hands.now() >= self.next_at {
                self.end = Some(hands.connect(&self.to));
            }
            return;
        };
        match hands.stage(end) {
            Stage::Opening => {}
            Stage::Failed(_) => self.lose(end, hands),
            Stage::Open => self.talk(end, hands),
        }
    }

    fn is_done(&self) -> bool {
        self.is_over || self.wrong.is_some()
    }

    fn verdict(&self) -> Result<(), String> {
        self.wrong.clone().map_or(Ok(()), Err)
    }
}
