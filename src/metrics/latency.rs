//! How long requests took, by what became of them.
//!
//! The clock is asked once a turn. So a request begins with the turn in which its first byte was
//! found, and ends with the one in which the last byte of its answer was queued: what came of it is
//! noted then, and counted when the turn has ended. What its client takes to receive an answer is
//! not in it, nor is the wait in the kernel before the turn.

use std::time::Instant;

use super::{Histogram, Metrics, Span};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    /// Its status is one of a protocol's that has none.
    Answered,
    /// The protocol changes with it.
    Informational,
    /// It was done.
    Successful,
    /// It is to be asked elsewhere, or what the client has still holds.
    Redirection,
    /// It was wrong.
    ClientError,
    /// It could not be done.
    ServerError,
}

impl Became {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Answered,
        Self::Informational,
        Self::Successful,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    /// By the class of a status code of HTTP, which is from 100 on.
    #[inline]
    pub fn of(code: u16) -> Self {
        Self::ALL[usize::from(code / 100).min(Self::ALL.len() - 1)]
    }

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "all",
            Self::Informational => "1xx",
            Self::Successful => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

/// The requests of a listener.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    /// In the order of [`Became::ALL`]; there is room for a class once there was one.
    classes: [Option<Box<Histogram>>; Became::ALL.len()],
}

impl Latencies {
    /// How long those took that there were, by what became of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let all = Became::ALL.into_iter().zip(&self.classes);
        all.filter_map(|(became, spans)| Some((became.name(), spans.as_deref()?)))
    }

    #[inline]
    fn record(&mut self, became: Became, span: Span, count: u32) {
        let spans = self.classes[became as usize].get_or_insert_default();
        spans.record(span, count);
    }
}

/// Requests that were answered in this turn.
#[derive(Debug)]
pub(crate) struct Answered {
    began: Instant,
    /// The place of their listener.
    listener: u32,
    count: u32,
    became: Became,
}

impl Metrics {
    /// So many requests of a listener were answered, which began in the same turn.
    #[inline]
    pub(crate) fn answered(&mut self, listener: usize, became: Became, began: Instant, count: u32) {
        let listener = listener as u32;
        // Most of a turn are like the one before.
        if let Some(last) = self.answered.last_mut()
            && (last.listener, last.became, last.began) == (listener, became, began)
        {
            last.count = last.count.saturating_add(count);
            return;
        }
        self.answered.push(Answered {
            began,
            listener,
            count,
            became,
        });
    }

    /// The turn that began then has ended: what was answered in it took until now. Nearly all of
    /// that began with it, too.
    pub(crate) fn turn_ended(&mut self, began: Instant, now: Instant) {
        let length = Span::from(now.saturating_duration_since(began));
        self.turn_lengths.record(length, 1);
        for answered in self.answered.drain(..) {
            let span = match answered.began == began {
                true => length,
                false => now.saturating_duration_since(answered.began).into(),
            };
            if let Some(listener) = self.listeners.get_mut(answered.listener as usize) {
                let latencies = &mut listener.latencies;
                latencies.record(answered.became, span, answered.count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Of, StreamMetrics};
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_is_counted_with_the_end_of_the_turn_that_answered_it() {
        let mut metrics = Metrics::default();
        let of = Of::Streams(StreamMetrics::default());
        let place = metrics.enter("web", "http", String::new(), of);
        let began = Instant::now();
        let classes = |metrics: &Metrics| -> Vec<(&'static str, u64, f64)> {
            let all = metrics.listeners[place].latencies.iter();
            let told = |(name, spans): (_, &Histogram)| (name, spans.count(), spans.sum_s());
            all.map(told).collect()
        };
        metrics.answered(place, Became::of(200), began, 1);
        metrics.answered(place, Became::of(404), began, 2);
        assert_eq!(classes(&metrics), [], "the turn goes on");
        let ms = |ms| began + Duration::from_millis(ms);
        metrics.turn_ended(began, ms(3));
        let expected = [("2xx", 1, 0.003), ("4xx", 2, 0.006)];
        assert_eq!(classes(&metrics), expected);
        metrics.turn_ended(ms(3), ms(9));
        assert_eq!(classes(&metrics), expected, "each is counted once");
        assert_eq!(metrics.turn_lengths.count(), 2);
        metrics.answered(place, Became::of(200), ms(3), 1);
        metrics.turn_ended(ms(9), ms(10));
        assert_eq!(classes(&metrics)[0], ("2xx", 2, 0.01), "it began earlier");
        metrics.answered(place, Became::Answered, began, 1);
        metrics.leave(place);
        metrics.turn_ended(ms(10), ms(11)); // nobody is left to be counted for
    }

    #[test]
    fn each_status_has_a_class() {
        let classes = [100, 204, 304, 499, 502, 999].map(|code| Became::of(code).name());
        assert_eq!(classes, ["1xx", "2xx", "3xx", "4xx", "5xx", "5xx"]);
    }
}
