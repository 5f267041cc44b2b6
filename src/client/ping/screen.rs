//! What a person or a program sees of the pings: lines, JSON, the summary.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;

use super::PingArgs;
use super::graph::{Graph, percent};
use super::rounds::{Event, Report};
use crate::client::connect::Target;
use crate::client::output::{Output, Tone};
use crate::client::units::since_epoch;
use crate::client::{Exit, Failure, Outcome};

/// Prints what the hosts' threads tell.
pub(super) struct Screen<'a> {
    pub(super) args: &'a PingArgs,
    pub(super) targets: &'a [Target],
    pub(super) output: Output,
    graphs: Vec<Graph>,
    pub(super) reports: Vec<Option<Result<Report, Failure>>>,
}

impl<'a> Screen<'a> {
    pub(super) fn new(args: &'a PingArgs, targets: &'a [Target]) -> Self {
        Self {
            args,
            targets,
            output: Output::new(),
            graphs: targets.iter().map(|_| Graph::default()).collect(),
            reports: targets.iter().map(|_| None).collect(),
        }
    }

    pub(super) fn show(mut self, incoming: &mpsc::Receiver<(usize, Event)>) -> Outcome {
        for (host, event) in incoming {
            match event {
                Event::End(report) => self.reports[host] = Some(*report),
                event => self.show_event(host, &event)?,
            }
        }
        self.finish()
    }

    fn show_event(&mut self, host: usize, event: &Event) -> Result<(), Failure> {
        self.graphs[host].add(event);
        let name = self.targets[host].host();
        if self.args.quiet {
            return Ok(());
        }
        if self.args.common.json {
            return self.output.json(&json_event(&name, event));
        }
        if self.args.graph {
            return self.draw(host);
        }
        let Some((tone, text)) = sentence(&name, event) else {
            return Ok(());
        };
        let time = match self.args.timestamps {
            true => format!("[{:.6}] ", since_epoch().as_secs_f64()),
            false => String::new(),
        };
        self.output.line(tone, &format!("{time}{text}"))
    }

    /// Redraws the line of one host; with several hosts each change is a line of its own.
    fn draw(&mut self, host: usize) -> Result<(), Failure> {
        let line = self.graphs[host].line(&self.targets[host].host());
        if !self.output.is_terminal() {
            return Ok(());
        }
        let end = if self.targets.len() == 1 { "" } else { "\n" };
        self.output.bytes(format!("\r{line}\x1b[K{end}").as_bytes())
    }

    fn finish(mut self) -> Outcome {
        if self.args.graph && !self.args.common.json {
            let graphs = std::mem::take(&mut self.graphs);
            if self.output.is_terminal() && self.targets.len() == 1 {
                self.output.bytes(b"\n")?;
            } else {
                for (graph, target) in graphs.iter().zip(self.targets) {
                    self.output.line(Tone::Plain, &graph.line(&target.host()))?;
                }
            }
        }
        let mut exit = Exit::Done;
        let mut failure = None;
        for (report, target) in std::mem::take(&mut self.reports)
            .into_iter()
            .zip(self.targets)
        {
            let report = match report {
                Some(Ok(report)) => report,
                Some(Err(error)) => {
                    failure = Some(error);
                    continue;
                }
                None => continue,
            };
            self.summarise(target, &report)?;
            let counts = report.counts;
            if counts.received == 0 && counts.unreachable > 0 {
                let name = target.host();
                failure = Some(Failure::unavailable(format!(
                    "{name}: unreachable, nobody listens at {target}"
                )));
            } else if counts.received == 0 {
                exit = Exit::Negative;
            }
        }
        failure.map_or(Ok(exit), Err)
    }

    fn summarise(&mut self, target: &Target, report: &Report) -> Result<(), Failure> {
        let Report {
            counts,
            round_trips,
            elapsed,
        } = report;
        if self.args.common.json {
            return self.output.json(&json!({
                "event": "summary", "host": target.host(), "sent": counts.sent, "received": counts.received,
                "lost": counts.lost(), "loss_percent": counts.loss_percent(), "late": counts.late,
                "duplicates": counts.duplicates, "reordered": counts.reordered, "corrupt": counts.corrupt,
                "unreachable": counts.unreachable, "strays": counts.strays,
                "elapsed_ms": elapsed.as_secs_f64() * 1e3, "rtt": round_trips,
            }));
        }
        let mut lines = vec![
            String::new(),
            format!("--- {} ping statistics ---", target.host()),
            format!(
                "{} packets transmitted, {} received, {}% packet loss, time {}ms",
                counts.sent,
                counts.received,
                percent(counts.loss_percent()),
                elapsed.as_millis()
            ),
        ];
        let oddities = [
            (counts.late, "late"),
            (counts.duplicates, "duplicate"),
            (counts.reordered, "out of order"),
            (counts.corrupt, "corrupt"),
            (counts.unreachable, "unreachable"),
            (counts.strays, "stray"),
        ];
        let oddities: Vec<_> = oddities.iter().filter(|(count, _)| *count > 0).collect();
        if !oddities.is_empty() {
            lines.push(
                oddities
                    .iter()
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect::<Vec<_>>()
                    .join(", "),
            );
        }
        if round_trips.count > 0 {
            lines.extend(round_trips.lines());
        }
        lines
            .iter()
            .try_for_each(|line| self.output.line(Tone::Plain, line))
    }
}

/// What happened to a ping in words; nothing where a person need not know.
fn sentence(name: &str, event: &Event) -> Option<(Tone, String)> {
    let seconds = |rtt: &Duration| format!("RTT = {:.3}s", rtt.as_secs_f64());
    Some(match event {
        Event::Reply {
            sequence,
            rtt,
            reordered,
        } => {
            let (tone, note) = match reordered {
                true => (Tone::Odd, " (out of order)"),
                false => (Tone::Plain, ""),
            };
            let rtt = seconds(rtt);
            (
                tone,
                format!("Sequence {sequence}: Reply from {name} {rtt}{note}"),
            )
        }
        Event::Late { sequence, rtt } => {
            let rtt = seconds(rtt);
            let text = format!("Sequence {sequence}: Late reply from {name} {rtt}");
            (Tone::Odd, text)
        }
        Event::Duplicate { sequence, rtt } => {
            let rtt = seconds(rtt);
            let text = format!("Sequence {sequence}: Duplicate reply from {name} {rtt}");
            (Tone::Odd, text)
        }
        Event::Corrupt { sequence } => {
            let number = sequence.map(|sequence| format!("Sequence {sequence}: "));
            let number = number.unwrap_or_default();
            (Tone::Bad, format!("{number}Corrupt reply from {name}"))
        }
        Event::TimedOut { sequence } => {
            (Tone::Bad, format!("Sequence {sequence}: Request timed out"))
        }
        Event::Unreachable { sequence, reason } => {
            let text = format!("Sequence {sequence}: {name} is unreachable ({reason})");
            (Tone::Bad, text)
        }
        Event::Stray | Event::End(_) => return None,
    })
}

fn json_event(host: &str, event: &Event) -> serde_json::Value {
    let millis = |rtt: &Duration| rtt.as_secs_f64() * 1e3;
    match event {
        Event::Reply {
            sequence,
            rtt,
            reordered,
        } => {
            json!({"event": "reply", "host": host, "sequence": sequence, "rtt_ms": millis(rtt), "reordered": reordered})
        }
        Event::Late { sequence, rtt } => {
            json!({"event": "late", "host": host, "sequence": sequence, "rtt_ms": millis(rtt)})
        }
        Event::Duplicate { sequence, rtt } => {
            json!({"event": "duplicate", "host": host, "sequence": sequence, "rtt_ms": millis(rtt)})
        }
        Event::Corrupt { sequence } => {
            json!({"event": "corrupt", "host": host, "sequence": sequence})
        }
        Event::TimedOut { sequence } => {
            json!({"event": "timeout", "host": host, "sequence": sequence})
        }
        Event::Unreachable { sequence, reason } => {
            json!({"event": "unreachable", "host": host, "sequence": sequence, "reason": reason})
        }
        Event::Stray | Event::End(_) => json!({"event": "stray", "host": host}),
    }
}
