//! The hello stream: every message in its turn, none before its pause is over, and a clean end.

use std::num::NonZeroU32;
use std::time::Duration;

use netlab_reactor::config::{HelloConfig, Kind, ListenerConfig};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::talker::{Ending, PATIENCE, Script, Talker};
use netlab_reactor::sys::sim::{End, Sim, Stage};

use crate::driver::{Scenario, Setting};

#[derive(Default)]
pub(crate) struct HelloStream {
    config: HelloConfig,
}

impl Scenario for HelloStream {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        self.config = HelloConfig {
            count: NonZeroU32::new(setting.rng.sized(40) as u32).expect("at least one"),
            interval: Duration::from_millis(setting.rng.sized(1000) as u64),
            ..HelloConfig::default()
        };
        vec![setting.listener("hello", 9000, Kind::Hello(self.config.clone()))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.rng.between(1, 5) {
            let after = setting.rng.span(Duration::from_secs(2));
            if setting.rng.chance(200) {
                // It never replies.
                let script = Script {
                    answer: b"hello0".to_vec(),
                    ending: Ending::WaitsForEnd(setting.late(self.config.idle_timeout)),
                    ..Script::new(&bound[0])
                };
                sim.enter(Talker::new(script), after);
            } else {
                sim.enter(Greeted::new(bound[0].clone(), &self.config), after);
            }
        }
    }
}

const REPLY: &[u8] = b"byebye";

/// A client that replies to each message.
struct Greeted {
    to: Bind,
    count: u32,
    interval: Duration,
    end: Option<End>,
    /// Messages that came whole.
    heard: u32,
    /// The part of the next that came.
    part: Vec<u8>,
    unsent: usize,
    began_at: Duration,
    over_at: Duration,
    fate: Option<&'static str>,
    excused: bool,
}

impl Greeted {
    fn new(to: Bind, config: &HelloConfig) -> Self {
        Self {
            to,
            count: config.count.get(),
            interval: config.interval,
            end: None,
            heard: 0,
            part: Vec::new(),
            unsent: 0,
            began_at: Duration::ZERO,
            over_at: Duration::ZERO,
            fate: None,
            excused: false,
        }
    }

    fn over(&mut self, fate: &'static str, hands: &mut Hands<'_>) {
        self.fate = Some(fate);
        self.over_at = hands.now();
        if let Some(end) = self.end {
            self.excused |= hands.is_excused(end);
            hands.close(end);
        }
    }

    fn talk(&mut self, end: End, hands: &mut Hands<'_>) {
        loop {
            if self.unsent > 0 {
                let replies = REPLY.repeat(self.unsent.div_ceil(REPLY.len()));
                self.unsent -= hands.send(end, &replies[replies.len() - self.unsent..]);
            }
            match hands.receive(end, 16) {
                Received::Bytes(bytes) => self.part.extend_from_slice(&bytes),
                Received::Nothing => return,
                Received::End => return self.over("ended", hands),
                Received::Broken => return self.over("broken", hands),
            }
            // A reply that arrived in two parts counts for two, so the next message may follow at
            // once.
            loop {
                let expected = format!("hello{}", self.heard);
                if self.part.starts_with(expected.as_bytes()) {
                    self.part.drain(..expected.len());
                    self.heard += 1;
                    self.unsent += REPLY.len();
                } else if expected.as_bytes().starts_with(&self.part) {
                    break;
                } else {
                    return self.over("told something else", hands);
                }
            }
        }
    }
}

impl Actor for Greeted {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        self.excused |= hands.is_draining();
        let Some(end) = self.end else {
            self.began_at = hands.now();
            self.end = Some(hands.connect(&self.to));
            return hands.wake_in(PATIENCE);
        };
        match hands.stage(end) {
            Stage::Opening => {}
            Stage::Failed(_) => self.over("not connected", hands),
            Stage::Open => self.talk(end, hands),
        }
        if !self.is_done() && hands.now() >= self.began_at + PATIENCE {
            self.over("tired of waiting", hands);
        }
    }

    fn is_done(&self) -> bool {
        self.fate.is_some()
    }

    fn verdict(&self) -> Result<(), String> {
        let complain = |what: &str| {
            Err(format!(
                "hello client {:?}: {what}; {} of {} heard",
                self.end, self.heard, self.count
            ))
        };
        match self.fate {
            Some(what @ ("told something else" | "tired of waiting")) => return complain(what),
            None => return complain("not done"),
            _ if self.excused => return Ok(()),
            Some("ended") if self.heard == self.count => {}
            Some(what) => return complain(what),
        }
        if self.over_at - self.began_at < self.interval * (self.count - 1) {
            return complain("the pauses were too short");
        }
        Ok(())
    }
}
