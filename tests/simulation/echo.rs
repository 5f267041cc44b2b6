//! TCP echo: every byte comes back in upper case, in order, whatever happens on the way; and who
//! keeps still is ended.

use std::time::Duration;

use netlab_reactor::config::{Kind, ListenerConfig, StreamConfig, TcpEchoConfig, Transform};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::rng::Rng;
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};

use crate::driver::{Scenario, Setting};

#[derive(Default)]
pub(crate) struct Echo {
    config: TcpEchoConfig,
}

/// How soon a client that is done sees the end, well below any time-out.
const PROMPT: Duration = Duration::from_secs(20);
/// The reactor's own time-out for a peer that takes nothing.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Text and its upper case: letters of one to three bytes, some that grow, and bytes that are no
/// text.
pub(crate) fn text(rng: &mut Rng, bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let (mut lower, mut upper) = (Vec::new(), Vec::new());
    let ascii_only = rng.coin();
    while lower.len() < bytes {
        let (from, to): (&[u8], &[u8]) = match rng.below(if ascii_only { 4 } else { 9 }) {
            0 => (b"the quick brown fox ", b"THE QUICK BROWN FOX "),
            1 => (b"x", b"X"),
            2 => (b"0123456789\n", b"0123456789\n"),
            3 => (b"jumps over the lazy dog", b"JUMPS OVER THE LAZY DOG"),
            4 => ("stra\u{df}e".as_bytes(), b"STRASSE"),
            5 => ("\u{e9}\u{149}".as_bytes(), "\u{c9}\u{2bc}N".as_bytes()),
            6 => (b"\xff\xfe", b"\xff\xfe"),
            7 => ("\u{1f600}".as_bytes(), "\u{1f600}".as_bytes()),
            _ => (b"\xe2\x82 ", b"\xe2\x82 "),
        };
        lower.extend_from_slice(from);
        upper.extend_from_slice(to);
    }
    (lower, upper)
}

impl Scenario for Echo {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        self.config = TcpEchoConfig {
            transform: if setting.rng.coin() {
                Transform::Upper
            } else {
                Transform::None
            },
            idle_timeout: Duration::from_secs(setting.rng.between(60, 600) as u64),
            stream: StreamConfig {
                connections_max: 1000,
                ..StreamConfig::default()
            },
        };
        vec![setting.listener("echo", 12000, Kind::TcpEcho(self.config.clone()))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.rng.between(1, 8) {
            let script = self.script(&bound[0], setting);
            let after = setting.rng.span(Duration::from_secs(2));
            sim.enter(Talker::new(script), after);
        }
    }
}

impl Echo {
    fn script(&self, to: &Bind, setting: &mut Setting<'_>) -> Script {
        let len = setting.rng.sized(setting.payload_max) - 1;
        let (question, upper) = text(setting.rng, len);
        let answer = match self.config.transform {
            Transform::Upper => upper,
            Transform::None => question.clone(),
        };
        let mut script = Script {
            question,
            answer,
            ending: Ending::HalfCloses,
            send_bytes_max: setting.piece_max(),
            receive_bytes_max: setting.piece_max(),
            pause_max: Duration::from_micros(setting.rng.sized(20_000) as u64),
            prompt: setting.late(PROMPT),
            ..Script::new(to)
        };
        match setting.rng.below(10) {
            0 => {
                script.ending = Ending::WaitsForEnd(setting.late(self.config.idle_timeout));
            }
            1 => {
                script.ending =
                    Ending::Stuffed(setting.late(self.config.idle_timeout + WRITE_TIMEOUT));
            }
            2 | 3 if !script.answer.is_empty() => script.ending = Ending::ClosesAfterAnswer,
            _ => {}
        }
        script
    }
}
