//! A client for any protocol over a stream: it sends what it was given, in pieces and with pauses
//! as chance will have it, reads what comes at a pace of its own, and knows what the answer must
//! be.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::actor::{Actor, Hands, Received};
use super::ids::End;
use super::sockets::Stage;
use crate::sys::Bind;

/// How long a client waits for anything before it complains. No time-out of a service is longer.
pub const PATIENCE: Duration = Duration::from_secs(2 * 60 * 60);

/// What a client does.
#[derive(Clone, Debug)]
pub struct Script {
    /// The address that it comes from.
    pub from: IpAddr,
    /// Where it connects to.
    pub to: Bind,
    /// What it sends.
    pub question: Vec<u8>,
    /// What it must receive, to the byte.
    pub answer: Vec<u8>,
    /// Other answers that are in order, because of faults that may happen.
    pub others: Vec<Vec<u8>>,
    /// So is any.
    pub any_answer: bool,
    /// So is one that is cut short.
    pub may_be_cut: bool,
    /// The end comes no later than this after the last byte.
    pub prompt: Duration,
    /// How it ends.
    pub ending: Ending,
    /// The most that it sends at a time.
    pub send_bytes_max: usize,
    /// The most that it reads at a time.
    pub receive_bytes_max: usize,
    /// The longest that it pauses between two sends, and between two reads.
    pub pause_max: Duration,
}

impl Script {
    /// A client that says nothing, expects nothing and leaves.
    pub fn new(to: &Bind) -> Self {
        Self {
            from: Ipv4Addr::LOCALHOST.into(),
            to: to.clone(),
            question: Vec::new(),
            answer: Vec::new(),
            others: Vec::new(),
            prompt: PATIENCE,
            any_answer: false,
            may_be_cut: false,
            ending: Ending::HalfCloses,
            send_bytes_max: 10_000,
            receive_bytes_max: 10_000,
            pause_max: Duration::from_millis(1),
        }
    }
}

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It sends its end after the question, and reads on until the server's.
    HalfCloses,
    /// It closes once it has the whole answer.
    ClosesAfterAnswer,
    /// It keeps still after the question, reading what comes: the server must end it within this
    /// time.
    WaitsForEnd(Duration),
    /// So it does, but without reading.
    Stuffed(Duration),
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay,
    /// The server ended the stream, or this client closed.
    Ended,
    Broken,
    NotConnected,
    GaveUp,
}

/// The client.
#[derive(Debug)]
pub struct Talker {
    script: Script,
    end: Option<End>,
    sent: usize,
    finished: bool,
    /// What came.
    pub received: Vec<u8>,
    next_send: Duration,
    next_receive: Duration,
    give_up_at: Duration,
    /// When its last byte was sent or received.
    silent_since: Duration,
    over_at: Duration,
    fate: Fate,
    /// What happened was the simulation's doing, or the process was told to end.
    excused: bool,
}

impl Talker {
    /// A client that has not connected yet.
    pub fn new(script: Script) -> Self {
        Self {
            script,
            end: None,
            sent: 0,
            finished: false,
            received: Vec::new(),
            next_send: Duration::ZERO,
            next_receive: Duration::ZERO,
            give_up_at: Duration::MAX,
            silent_since: Duration::ZERO,
            over_at: Duration::ZERO,
            fate: Fate::UnderWay,
            excused: false,
        }
    }

    /// Whether what happened to it was the simulation's doing.
    pub fn is_excused(&self) -> bool {
        self.excused
    }

    fn end_as(&mut self, fate: Fate, hands: &mut Hands<'_>) {
        self.fate = fate;
        self.over_at = hands.now();
        if let Some(end) = self.end {
            self.excused |= hands.is_excused(end);
            hands.close(end);
        }
        let (sent, received) = (self.sent, self.received.len());
        hands.note(|| {
            format!(
                "client {:?}: {fate:?}, {sent} bytes sent, {received} received",
                self.end
            )
        });
    }

    fn pause(&mut self, hands: &mut Hands<'_>) -> Duration {
        let pause = if hands.rng().coin() {
            Duration::ZERO
        } else {
            hands.rng().span(self.script.pause_max)
        };
        hands.wake_in(pause);
        hands.now() + pause
    }

    fn send(&mut self, end: End, hands: &mut Hands<'_>) {
        let rest = &self.script.question[self.sent..];
        if !rest.is_empty() && hands.now() >= self.next_send {
            let piece = hands
                .rng()
                .sized(self.script.send_bytes_max)
                .min(rest.len());
            let sent = hands.send(end, &rest[..piece]);
            self.sent += sent;
            self.silent_since = hands.now();
            if sent > 0 {
                self.next_send = self.pause(hands);
            }
        }
        let all = self.sent == self.script.question.len();
        if all && !self.finished && self.script.ending == Ending::HalfCloses {
            self.finished = true;
            hands.finish(end);
        }
    }

    fn receive(&mut self, end: End, hands: &mut Hands<'_>) {
        if matches!(self.script.ending, Ending::Stuffed(_)) {
            if hands.is_over(end) {
                self.end_as(Fate::Broken, hands);
            }
            return;
        }
        if hands.now() < self.next_receive {
            return;
        }
        let max = hands.rng().sized(self.script.receive_bytes_max);
        match hands.receive(end, max) {
            Received::Bytes(bytes) => {
                self.received.extend_from_slice(&bytes);
                self.silent_since = hands.now();
                self.next_receive = self.pause(hands);
            }
            Received::Nothing => {}
            Received::End => self.end_as(Fate::Ended, hands),
            Received::Broken => self.end_as(Fate::Broken, hands),
        }
        let closes = self.script.ending == Ending::ClosesAfterAnswer;
        if closes && self.fate == Fate::UnderWay && self.received.len() >= self.script.answer.len()
        {
            self.end_as(Fate::Ended, hands);
        }
    }
}

impl Actor for Talker {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        self.excused |= hands.is_draining();
        let Some(end) = self.end else {
            self.end = Some(hands.connect_from(self.script.from, &self.script.to));
            self.give_up_at = hands.now() + PATIENCE;
            hands.wake_in(PATIENCE);
            return;
        };
        match hands.stage(end) {
            Stage::Opening if hands.now() >= self.give_up_at => self.end_as(Fate::GaveUp, hands),
            Stage::Opening => {}
            Stage::Failed(_) => self.end_as(Fate::NotConnected, hands),
            Stage::Open => {
                self.send(end, hands);
                self.receive(end, hands);
                if !self.is_done() && hands.now() >= self.give_up_at {
                    self.end_as(Fate::GaveUp, hands);
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.fate != Fate::UnderWay
    }

    fn verdict(&self) -> Result<(), String> {
        let others = self.script.others.iter();
        if others.into_iter().any(|other| self.judge(other).is_ok()) {
            return Ok(());
        }
        self.judge(&self.script.answer)
    }
}

impl Talker {
    /// Whether everything went as it should if `answer` is the answer.
    fn judge(&self, answer: &[u8]) -> Result<(), String> {
        let received = &self.received;
        let same = received
            .iter()
            .zip(answer)
            .take_while(|(a, b)| a == b)
            .count();
        let tell = |what: &str| {
            Err(format!(
                "client {:?} of {}, {:?}, {:?}: {what}; it sent {} of {} bytes and received {} of {}, the first {same} as \
                 they should be",
                self.end,
                self.script.to,
                self.script.ending,
                self.fate,
                self.sent,
                self.script.question.len(),
                received.len(),
                answer.len(),
            ))
        };
        if same < received.len() && !self.script.any_answer {
            return tell("received what it should not");
        }
        match (self.fate, self.script.ending) {
            (Fate::UnderWay | Fate::GaveUp, _) => tell("nothing came of it"),
            _ if self.excused || self.script.may_be_cut => Ok(()),
            (Fate::NotConnected, _) => tell("could not connect"),
            (_, Ending::WaitsForEnd(most) | Ending::Stuffed(most)) => {
                if self.over_at > self.silent_since + most {
                    return tell("was ended too late");
                }
                Ok(())
            }
            (Fate::Broken, _) => tell("was reset"),
            _ if same < answer.len() => tell("the answer was cut short"),
            _ if self.over_at > self.silent_since + self.script.prompt => {
                tell("the end came too late")
            }
            _ => Ok(()),
        }
    }
}
