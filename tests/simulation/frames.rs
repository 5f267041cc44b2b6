//! Frame echo: each frame comes back as one, in order, however its bytes were split and merged on the
//! way; and a length that is none ends the connection after the answers to the frames before it.

use std::time::Duration;

use netlab_reactor::config::{FrameEchoConfig, Kind, ListenerConfig, StreamConfig, Transform};
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::sim::Sim;
use netlab_reactor::sys::sim::talker::{Ending, Script, Talker};
use netlab_reactor::wire::frame;

use crate::driver::{Scenario, Setting};
use crate::echo::text;

/// How soon a client that is done sees the end, well below any time-out.
const PROMPT: Duration = Duration::from_secs(20);
/// While memory is scarce a frame longer than a page is refused, so that no client knows its answer:
/// so much of one, with its length, fits the page whatever is scarce.
const FRAME_BYTES_MAX: usize = 16 * 1024 - frame::LENGTH_BYTES;

#[derive(Default)]
pub(crate) struct Frames {
    config: FrameEchoConfig,
}

impl Scenario for Frames {
    fn listeners(&mut self, setting: &mut Setting<'_>) -> Vec<ListenerConfig> {
        let rng = &mut setting.later;
        self.config = FrameEchoConfig {
            transform: if rng.coin() {
                Transform::Upper
            } else {
                Transform::None
            },
            frame_bytes_max: FRAME_BYTES_MAX,
            idle_timeout: Duration::from_secs(rng.between(60, 600) as u64),
            // The network of some seeds is slower than any.
            body_rate_min: None,
            stream: StreamConfig {
                connections_max: 1000,
                ..StreamConfig::default()
            },
        };
        vec![setting.listener("frames", 9002, Kind::FrameEcho(self.config.clone()))]
    }

    fn cast(&mut self, sim: &mut Sim, setting: &mut Setting<'_>, bound: &[Bind]) {
        for _ in 0..setting.later.between(1, 6) {
            let script = self.script(&bound[0], setting);
            let after = setting.later.span(Duration::from_secs(2));
            sim.enter(Talker::new(script), after);
        }
    }
}

impl Frames {
    fn script(&self, to: &Bind, setting: &mut Setting<'_>) -> Script {
        let (payload_max, prompt) = (setting.payload_max, setting.late(PROMPT));
        let silent = setting.late(self.config.idle_timeout);
        let rng = &mut setting.later;
        let (mut question, mut answer) = (Vec::new(), Vec::new());
        let total = rng.sized(payload_max) - 1;
        while question.len() < total {
            let len = rng.sized((total - question.len()).min(FRAME_BYTES_MAX - 100)) - 1;
            let (lower, upper) = text(rng, len);
            let back = match self.config.transform {
                Transform::Upper => &upper,
                Transform::None => &lower,
            };
            frame::encode(back, &mut answer).expect("it has a length");
            frame::encode(&lower, &mut question).expect("it has a length");
        }
        let mut script = Script {
            ending: Ending::HalfCloses,
            send_bytes_max: rng.between(1 + payload_max / 500, payload_max),
            receive_bytes_max: rng.between(1 + payload_max / 500, payload_max),
            pause_max: Duration::from_micros(rng.sized(20_000) as u64),
            prompt,
            ..Script::new(to)
        };
        match rng.below(6) {
            0 => script.ending = Ending::WaitsForEnd(silent),
            // A length that is none, and one that is too much; the server ends it.
            1 => {
                let length = *rng.pick(&[-1, i32::MIN, FRAME_BYTES_MAX as i32 + 1]);
                question.extend(length.to_le_bytes());
                script.ending = Ending::WaitsForEnd(prompt);
            }
            // The end within a frame.
            2 => question.extend(&5i32.to_le_bytes()[..rng.between(1, 4)]),
            3 if !answer.is_empty() => script.ending = Ending::ClosesAfterAnswer,
            _ => {}
        }
        (script.question, script.answer) = (question, answer);
        script
    }
}
