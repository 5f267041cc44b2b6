//! A client that asks by datagrams, for any service that answers in upper case: its questions are
//! numbered, so it knows which of them were answered, and how often.

use std::net::SocketAddr;
use std::time::Duration;

use super::actor::{Actor, Hands};

/// A client with numbered questions.
#[derive(Debug)]
pub struct Asker {
    to: SocketAddr,
    socket: Option<usize>,
    asked: usize,
    /// How often each was answered.
    answers: Vec<u32>,
    wrong: Option<String>,
    /// How often a question may be answered.
    pub copies_max: u32,
    /// Whether each must be.
    pub must_answer: bool,
    until: Option<Duration>,
    excused: bool,
    done: bool,
}

impl Asker {
    /// A client of a service at `to` that answers in upper case; it has so many questions, each of
    /// which is to be answered once at most.
    pub fn new(to: SocketAddr, questions: usize) -> Self {
        Self {
            to,
            socket: None,
            asked: 0,
            answers: vec![0; questions],
            wrong: None,
            copies_max: 1,
            must_answer: false,
            until: None,
            excused: false,
            done: false,
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let number = text
            .strip_prefix("PING ")
            .and_then(|rest| rest.strip_suffix(" NOW"));
        let number = number.and_then(|number| number.parse::<usize>().ok());
        match number.and_then(|number| self.answers.get_mut(number)) {
            Some(count) => *count += 1,
            None => self.wrong = Some(text),
        }
    }
}

impl Actor for Asker {
    fn act(&mut self, hands: &mut Hands<'_>) {
        self.excused |= hands.is_draining() && !self.done;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let bound = self.socket.or_else(|| hands.bind(any).ok());
        let Some(socket) = bound else {
            self.wrong = Some("no free port".to_owned());
            self.done = true;
            return;
        };
        self.socket = bound;
        while let Some((from, bytes)) = hands.receive_from(socket) {
            if from != self.to {
                self.wrong = Some(format!("an answer from {from}"));
            }
            self.hear(&bytes);
        }
        if self.asked < self.answers.len() {
            let burst = hands.rng().sized(40).min(self.answers.len() - self.asked);
            for _ in 0..burst {
                let question = format!("Ping {} now", self.asked);
                hands.send_to(socket, self.to, question.as_bytes());
                self.asked += 1;
            }
            let pause = hands.rng().span(Duration::from_millis(100));
            hands.wake_in(pause);
        } else if self.until.is_none() {
            self.until = Some(hands.now() + Duration::from_secs(5));
            hands.wake_in(Duration::from_secs(5));
        }
        self.done |= self.until.is_some_and(|until| hands.now() >= until);
    }

    fn is_done(&self) -> bool {
        self.done
    }

    fn verdict(&self) -> Result<(), String> {
        if let Some(wrong) = &self.wrong {
            return Err(format!("asker of {}: {wrong:?} is no answer", self.to));
        }
        if let Some(number) = self
            .answers
            .iter()
            .position(|&count| count > self.copies_max)
        {
            let count = self.answers[number];
            return Err(format!(
                "asker of {}: question {number} was answered {count} times",
                self.to
            ));
        }
        let missing = self.answers.iter().filter(|&&count| count == 0).count();
        if self.must_answer && !self.excused && missing > 0 {
            let asked = self.asked;
            return Err(format!(
                "asker of {}: {missing} of {asked} questions were not answered",
                self.to
            ));
        }
        Ok(())
    }
}
