//! The latest round trips as a row of bars.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::rounds::Event;

/// How many round trips a graph shows.
const GRAPH_WIDTH: usize = 60;

/// The latest round trips as a row of bars, a cross where no answer came.
#[derive(Debug, Default)]
pub(super) struct Graph {
    pub(super) millis: VecDeque<Option<f64>>,
    pub(super) sent: u64,
    missed: u64,
}

impl Graph {
    pub(super) fn add(&mut self, event: &Event) {
        let point = match event {
            Event::Reply { rtt, .. } => Some(rtt.as_secs_f64() * 1e3),
            Event::TimedOut { .. }
            | Event::Unreachable { .. }
            | Event::Corrupt { sequence: Some(_) } => None,
            Event::Late { .. } => {
                self.missed = self.missed.saturating_sub(1);
                return;
            }
            _ => return,
        };
        self.sent += 1;
        self.missed += u64::from(point.is_none());
        self.millis.push_back(point);
        if self.millis.len() > GRAPH_WIDTH {
            self.millis.pop_front();
        }
    }

    /// The bars, scaled to the longest of them, then the latest, the longest and the loss: 80
    /// columns for short names.
    pub(super) fn line(&self, host: &str) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let tail = self.tail();
        let width = GRAPH_WIDTH
            .min(79_usize.saturating_sub(host.chars().count() + tail.chars().count() + 2))
            .max(8);
        let longest = self.longest();
        let mut line = format!("{host} ");
        for point in self
            .millis
            .iter()
            .skip(self.millis.len().saturating_sub(width))
        {
            line.push(match point {
                None => '×',
                Some(millis) => BARS[((millis / longest * 8.0) as usize).min(7)],
            });
        }
        // Writing to a String cannot fail.
        let _ = write!(line, " {tail}");
        line
    }

    fn longest(&self) -> f64 {
        self.millis
            .iter()
            .flatten()
            .fold(f64::MIN_POSITIVE, |longest, millis| longest.max(*millis))
    }

    fn tail(&self) -> String {
        let loss = percent((1000.0 * self.missed as f64 / self.sent.max(1) as f64).round() / 10.0);
        match self.millis.back() {
            Some(Some(last)) => format!("{last:.2} ms, max {:.2} ms, {loss}% lost", self.longest()),
            _ => format!("lost, max {:.2} ms, {loss}% lost", self.longest()),
        }
    }
}

/// A percentage with up to four digits behind the point, as ping(8) writes it.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{share:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn percentages_and_graphs() {
        assert_eq!(percent(100.0 * 4.0 / 11.0), "36.3636");
        assert_eq!(percent(40.0), "40");
        let mut graph = Graph::default();
        for millis in [1, 4, 8] {
            let rtt = Duration::from_millis(millis);
            graph.add(&Event::Reply {
                sequence: millis,
                rtt,
                reordered: false,
            });
        }
        graph.add(&Event::TimedOut { sequence: 9 });
        assert_eq!(graph.line("h"), "h ▂▅█× lost, max 8.00 ms, 25% lost");
        for _ in 0..200 {
            graph.add(&Event::TimedOut { sequence: 10 });
        }
        assert!(graph.line("localhost").chars().count() < 80);
    }
}
