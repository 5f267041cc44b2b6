//! From a server's trace to the steps of one exchange: pure.
//!
//! A turn is shown with those of its parts in which something was done for the exchange. What was
//! done for others in between is left out.

use serde_json::Value;

/// What was found of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Not its beginning.
    Nothing,
    /// Its beginning; so many records were missing since.
    Some(u64),
}

/// The steps of an exchange, while its trace is read.
#[derive(Debug)]
pub(super) struct Steps {
    /// That of the client's end.
    port: u16,
    is_udp: bool,
    /// The number of the session.
    session: Option<u64>,
    /// The turn that goes on, and its part, until something in them is ours.
    turn: Option<Value>,
    part: Option<Value>,
    /// Whether the turn that goes on is one of ours.
    is_in_ours: bool,
    /// The datagrams of a batch are told one by one: whether one of them is ours.
    batch: Option<Value>,
    is_ours: bool,
    records: Vec<Value>,
    missing: u64,
    has_ended: bool,
}

impl Steps {
    /// Of the exchange whose client has this port.
    pub(super) fn of(port: u16, is_udp: bool) -> Self {
        Self {
            port,
            is_udp,
            session: None,
            turn: None,
            part: None,
            is_in_ours: false,
            batch: None,
            is_ours: false,
            records: Vec::new(),
            missing: 0,
            has_ended: false,
        }
    }

    /// Takes a line of the trace; what is none is left out.
    pub(super) fn add(&mut self, line: &[u8]) {
        let Ok(record) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        if let Some(missing) = record["missing"].as_u64() {
            self.missing += if self.records.is_empty() { 0 } else { missing };
            return;
        }
        if self.has_ended && !self.is_in_ours {
            return;
        }
        match record["what"].as_str().unwrap_or_default() {
            "turn" => {
                (self.turn, self.part, self.is_in_ours) = (Some(record), None, false);
            }
            "part" => self.part = Some(record),
            "turn_ended" => {
                if self.is_in_ours {
                    self.records.push(record);
                }
                (self.turn, self.part, self.is_in_ours) = (None, None, false);
            }
            "received" => (self.batch, self.is_ours) = (Some(record), false),
            "datagram" => self.add_datagram(record),
            // What was sent last answers what was received last.
            "dropped" | "replied" if self.is_udp && self.is_ours => {
                self.push(record);
                self.has_ended = true;
            }
            "began" if !self.is_udp && record["port"] == self.port => {
                self.session = record["id"].as_u64();
                self.push(record);
            }
            _ if self.session.is_some() && record["id"].as_u64() == self.session => {
                self.has_ended = record["what"] == "ended";
                self.push(record);
            }
            _ => {}
        }
    }

    fn add_datagram(&mut self, record: Value) {
        if self.is_udp && record["port"] == self.port {
            self.is_ours = true;
            if let Some(batch) = self.batch.take() {
                self.push(batch);
            }
            self.push(record);
        }
    }

    /// Something that is ours, with the turn and the part in which it was.
    fn push(&mut self, record: Value) {
        self.is_in_ours = true;
        self.records.extend(self.turn.take());
        self.records.extend(self.part.take());
        self.records.push(record);
    }

    /// Whether nothing more is to come.
    pub(super) fn are_whole(&self) -> bool {
        self.has_ended && !self.is_in_ours
    }

    /// What there is.
    pub(super) fn found(&self) -> Found {
        match self.records.is_empty() {
            true => Found::Nothing,
            false => Found::Some(self.missing),
        }
    }

    /// The records as the server told them.
    pub(super) fn records(&self) -> &[Value] {
        &self.records
    }

    /// A line for each step: microseconds since the first one, what was done, and where.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> {
        let at = |record: &Value| record["at"].as_u64().unwrap_or_default();
        let first = self.records.first().map_or(0, at);
        self.records.iter().map(move |record| {
            let since = at(record).saturating_sub(first);
            let text = |key: &str| record[key].as_str().unwrap_or_default();
            let words = format!("{}{}", indent(text("what")), text("text"));
            let (us, tenth) = (since / 1000, since % 1000 / 100);
            format!("{us:>8}.{tenth} µs  {words:<64}  {}", text("place"))
        })
    }
}

/// How far a step stands within others.
fn indent(what: &str) -> &'static str {
    match what {
        "turn" | "turn_ended" => "",
        "part" => "  ",
        "called" | "filled" | "advanced" | "flushed" | "answered" | "told" | "datagram" => "      ",
        _ => "    ",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(port: u16, is_udp: bool, lines: &[&str]) -> Steps {
        let mut steps = Steps::of(port, is_udp);
        lines.iter().for_each(|line| steps.add(line.as_bytes()));
        steps
    }

    fn whats(steps: &Steps) -> Vec<&str> {
        let all = steps.records().iter();
        all.map(|record| record["what"].as_str().unwrap_or_default())
            .collect()
    }

    #[test]
    fn what_was_done_for_others_is_left_out() {
        let steps = steps(
            7,
            false,
            &[
                r#"{"at":1000,"what":"turn","text":"turn begins"}"#,
                r#"{"at":1000,"what":"part","part":"note"}"#,
                r#"{"at":2000,"what":"part","part":"accept"}"#,
                r#"{"at":2500,"what":"began","id":3,"port":8}"#,
                r#"{"at":3550,"what":"began","id":4,"port":7,"text":"begins","place":"a.rs b"}"#,
                r#"{"at":4000,"what":"pumped","id":3}"#,
                r#"{"at":5000,"what":"turn_ended"}"#,
                r#"{"at":6000,"what":"turn"}"#,
                r#"{"at":6000,"what":"turn_ended"}"#,
                r#"{"at":7000,"what":"turn"}"#,
                r#"{"at":7000,"what":"ended","id":4}"#,
                "nonsense",
            ],
        );
        let expected = ["turn", "part", "began", "turn_ended", "turn", "ended"];
        assert_eq!(whats(&steps), expected);
        assert!(!steps.are_whole(), "its last turn goes on");
        assert_eq!(steps.found(), Found::Some(0));
        let line = steps.lines().nth(2).expect("a step");
        assert!(line.starts_with("       2.5 µs      begins "), "{line}");
        assert!(line.ends_with("  a.rs b"), "{line}");
    }

    #[test]
    fn a_datagram_is_found_by_its_port_and_ends_with_its_answer() {
        let mut steps = steps(
            7,
            true,
            &[
                r#"{"at":1,"what":"turn"}"#,
                r#"{"at":1,"what":"part","part":"datagrams"}"#,
                r#"{"at":2,"what":"received"}"#,
                r#"{"at":2,"what":"datagram","port":9}"#,
                r#"{"at":2,"what":"replied"}"#,
                r#"{"at":3,"what":"received"}"#,
                r#"{"at":3,"what":"datagram","port":8}"#,
                r#"{"at":3,"what":"datagram","port":7}"#,
                r#"{"at":4,"what":"replied"}"#,
            ],
        );
        assert_eq!(
            whats(&steps),
            ["turn", "part", "received", "datagram", "replied"]
        );
        assert!(!steps.are_whole());
        steps.add(br#"{"at":5,"what":"turn_ended"}"#);
        assert!(steps.are_whole());
    }

    #[test]
    fn what_is_missing_counts_once_it_has_begun() {
        let begun = r#"{"at":3,"what":"began","id":4,"port":7}"#;
        let missing = r#"{"missing":5}"#;
        assert_eq!(steps(7, false, &[missing]).found(), Found::Nothing);
        let all = [missing, begun, missing];
        assert_eq!(steps(7, false, &all).found(), Found::Some(5));
    }
}
