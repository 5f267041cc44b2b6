//! The smallest cache that follows the policy: one origin, one request at a time, bodies in memory.
//! The tests of whole exchanges ask it, and it shows in which order the functions are to be called.

use std::collections::BTreeMap;

use super::super::super::target::Uri;
use super::super::invalidation::{invalidated, uri_of};
use super::super::partial::{self, FromPart, Part};
use super::super::reuse::{Failure, Need, may_send_stale, without_stored};
use super::super::update::{Asked, HeadVerdict, by_head, identifies, put_combined, put_updated};
use super::super::{Asks, Reuse, Rules, Terms, Times, may_store, reuse, storing, validation, vary};
use super::{request, response};
use crate::http::Method;
use crate::http::head::{RequestHead, ResponseHead};
use crate::http::range::put_content_range;
use crate::http::select::Selection;

/// What is kept for one URL and one selecting key.
#[derive(Clone)]
struct Stored {
    method: String,
    head: String,
    body: Vec<u8>,
    key: Vec<u8>,
    part: Option<Part>,
    terms: Terms,
    is_invalid: bool,
}

/// The answer to a client.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) lines: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn new(head: &ResponseHead<'_>, status: u16, body: Vec<u8>) -> Self {
        let lines = head.headers.iter().map(|(name, value)| {
            let value = value.iter().map(|&byte| char::from(byte)).collect();
            (name.to_ascii_lowercase(), value)
        });
        let lines = lines.collect();
        Self {
            status,
            lines,
            body,
        }
    }

    fn bare(status: u16) -> Self {
        let (lines, body) = (Vec::new(), Vec::new());
        Self {
            status,
            lines,
            body,
        }
    }

    pub(crate) fn value(&self, name: &str) -> Option<String> {
        let of_name = self.lines.iter().filter(|(other, _)| other == name);
        let values: Vec<&str> = of_name.map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

/// What the origin answers: the head, and the body; `None` where it hangs up.
pub(crate) type FromOrigin = Option<(String, Vec<u8>)>;

#[derive(Default)]
pub(crate) struct Model {
    stored: BTreeMap<String, Vec<Stored>>,
    pub(crate) rules: Rules,
}

impl Model {
    /// One exchange: the answer for the client, and whether the origin was asked.
    pub(crate) fn exchange(
        &mut self,
        text: &str,
        now_s: i64,
        mut origin: impl FnMut(&RequestHead<'_>) -> FromOrigin,
    ) -> Answer {
        let head = request(text);
        let asks = Asks::of(&head);
        let target = uri_of(&head, "http").expect("a URL");
        let place = place_of(&target);
        let kept = self.stored.entry(place.clone()).or_default();
        let found = kept
            .iter()
            .rev()
            .find(|stored| vary::matches(&stored.key, &head.headers));
        let found = found.filter(|stored| !stored.is_invalid || stored.terms.has_validator());
        let Some(stored) = found.cloned() else {
            return match without_stored(&asks) {
                Reuse::Unavailable => Answer::bare(504),
                _ => self.fetch(&head, &target, &asks, now_s, &mut origin),
            };
        };
        let judged = match reuse(&stored.terms, &asks, now_s) {
            Reuse::Fresh | Reuse::Stale(_) if stored.is_invalid => Reuse::Validate(Need::Stale),
            judged => judged,
        };
        match judged {
            Reuse::Fresh | Reuse::Stale(_) => match stored.answer(&head, now_s) {
                Some(answer) => answer,
                None => self.complete(&head, &target, &asks, &stored, now_s, &mut origin),
            },
            Reuse::Unavailable => Answer::bare(504),
            Reuse::Pass => self.fetch(&head, &target, &asks, now_s, &mut origin),
            Reuse::Validate(_) if head.method == Method::Head || stored.part.is_some() => {
                self.fetch(&head, &target, &asks, now_s, &mut origin)
            }
            Reuse::Validate(_) => self.validate(&head, &target, &asks, stored, now_s, &mut origin),
        }
    }

    fn validate(
        &mut self,
        head: &RequestHead<'_>,
        target: &Uri<'_>,
        asks: &Asks,
        mut stored: Stored,
        now_s: i64,
        origin: &mut impl FnMut(&RequestHead<'_>) -> FromOrigin,
    ) -> Answer {
        let kept = response(&stored.head);
        let mut text = format!("GET {} HTTP/1.1\r\n", head.target_text).into_bytes();
        for (name, value) in head.headers.iter() {
            let is_range = stored.terms.has_validator() && name.eq_ignore_ascii_case("range");
            if !validation::is_condition(name.as_bytes()) && !is_range {
                text.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
        }
        validation::put_conditions(&mut text, &kept.headers);
        text.extend_from_slice(b"\r\n");
        let ours = request(&String::from_utf8(text).unwrap());
        let came = origin(&ours);
        let failure = match &came {
            None => Some(Failure::Unreachable),
            Some((newer, _)) => Failure::of(response(newer).status),
        };
        if let Some(failure) = failure
            && may_send_stale(&stored.terms, asks, failure, now_s, &self.rules)
        {
            return stored.answer(head, now_s).expect("a whole response");
        }
        let Some((newer_text, body)) = came else {
            return Answer::bare(502);
        };
        let newer = response(&newer_text);
        if newer.status.code() == 304 && identifies(&newer.headers, &kept.headers, Asked::One) {
            let mut updated = Vec::new();
            put_updated(&mut updated, &kept, &newer, now_s);
            stored.head = String::from_utf8(updated).unwrap();
            let times = Times {
                request_s: now_s,
                response_s: now_s,
            };
            stored.terms = Terms::derive(&response(&stored.head), times, &self.rules);
            stored.is_invalid = false;
            let answer = stored.answer(head, now_s).expect("a whole response");
            self.put(place_of(target), stored);
            return answer;
        }
        self.take(head, target, &newer, body, now_s)
    }

    /// Fetches what is missing from a stored part.
    fn complete(
        &mut self,
        head: &RequestHead<'_>,
        target: &Uri<'_>,
        asks: &Asks,
        stored: &Stored,
        now_s: i64,
        origin: &mut impl FnMut(&RequestHead<'_>) -> FromOrigin,
    ) -> Answer {
        let (kept, part) = (response(&stored.head), stored.part.expect("a part"));
        let Some(missing) = partial::missing(head, &kept.headers, &part) else {
            return self.fetch(head, target, asks, now_s, origin);
        };
        let mut text =
            format!("GET {} HTTP/1.1\r\nHost: origin\r\n", head.target_text).into_bytes();
        partial::put_range(&mut text, &kept.headers, missing);
        text.extend_from_slice(b"\r\n");
        let ours = request(&String::from_utf8(text).unwrap());
        let Some((newer_text, body)) = origin(&ours) else {
            return Answer::bare(502);
        };
        let newer = response(&newer_text);
        let joined = Part::of(&ours, &newer).and_then(|came| {
            let joined = partial::combined((&kept.headers, part), (&newer.headers, came))?;
            Some((came, joined))
        });
        let Some((came, joined)) = joined else {
            return self.take(head, target, &newer, body, now_s);
        };
        let mut bytes = vec![0; joined.range.len() as usize];
        for (piece, content) in [(part, &stored.body), (came, &body)] {
            let start = (piece.range.start - joined.range.start) as usize;
            bytes[start..start + content.len()].copy_from_slice(content);
        }
        let mut text = Vec::new();
        put_combined(&mut text, &kept, &newer, &joined, now_s);
        let head_text = String::from_utf8(text).unwrap();
        let times = Times {
            request_s: now_s,
            response_s: now_s,
        };
        let whole = Stored {
            terms: Terms::derive(&response(&head_text), times, &self.rules),
            head: head_text,
            body: bytes,
            part: Some(joined).filter(|part| !part.is_whole()),
            ..stored.clone()
        };
        let answer = whole.answer(head, now_s).expect("what was missing");
        self.put(place_of(target), whole);
        answer
    }

    fn fetch(
        &mut self,
        head: &RequestHead<'_>,
        target: &Uri<'_>,
        _asks: &Asks,
        now_s: i64,
        origin: &mut impl FnMut(&RequestHead<'_>) -> FromOrigin,
    ) -> Answer {
        match origin(head) {
            Some((text, body)) => self.take(head, target, &response(&text), body, now_s),
            None => Answer::bare(502),
        }
    }

    /// Takes what came from the origin, stores it if it may be, and passes it on.
    fn take(
        &mut self,
        head: &RequestHead<'_>,
        target: &Uri<'_>,
        came: &ResponseHead<'_>,
        body: Vec<u8>,
        now_s: i64,
    ) -> Answer {
        let times = Times {
            request_s: now_s,
            response_s: now_s,
        };
        self.invalidate(head, target, came);
        if head.method == Method::Head {
            self.update_by_head(head, target, came, times);
        }
        if let Ok(terms) = may_store(head, target, came, times, &self.rules) {
            let reason = String::from_utf8_lossy(came.reason);
            let mut text = format!("HTTP/1.1 {} {reason}\r\n", came.status.code()).into_bytes();
            storing::put_stored_lines(&mut text, &came.headers);
            text.extend_from_slice(b"\r\n");
            let mut key = Vec::new();
            vary::put_key(&mut key, &came.headers, &head.headers).expect("a key");
            let stored = Stored {
                method: head.method.as_str().to_owned(),
                head: text.iter().map(|&byte| char::from(byte)).collect(),
                body: body.clone(),
                key,
                part: Part::of(head, came),
                terms,
                is_invalid: false,
            };
            self.put(place_of(target), stored);
        }
        Answer::new(came, came.status.code(), body)
    }

    fn put(&mut self, place: String, stored: Stored) {
        let kept = self.stored.entry(place).or_default();
        kept.retain(|other| other.key != stored.key);
        kept.push(stored);
    }

    fn invalidate(&mut self, head: &RequestHead<'_>, target: &Uri<'_>, came: &ResponseHead<'_>) {
        let Some(invalid) = invalidated(head.method, target, came) else {
            return;
        };
        for place in invalid.others.into_iter().chain([place_of(target)]) {
            for stored in self.stored.entry(place).or_default() {
                stored.is_invalid = true;
            }
        }
    }

    fn update_by_head(
        &mut self,
        head: &RequestHead<'_>,
        target: &Uri<'_>,
        came: &ResponseHead<'_>,
        times: Times,
    ) {
        for stored in self.stored.entry(place_of(target)).or_default() {
            if stored.part.is_some() || !vary::matches(&stored.key, &head.headers) {
                continue;
            }
            let kept = response(&stored.head);
            match by_head(came, &kept.headers, stored.body.len() as u64) {
                HeadVerdict::Keep => {}
                HeadVerdict::Invalidate => stored.is_invalid = true,
                HeadVerdict::Update => {
                    let mut updated = Vec::new();
                    put_updated(&mut updated, &kept, came, times.response_s);
                    stored.head = String::from_utf8(updated).unwrap();
                    stored.terms = Terms::derive(&response(&stored.head), times, &self.rules);
                }
            }
        }
    }
}

impl Stored {
    /// The answer from what is stored; `None` if some of it is missing.
    fn answer(&self, head: &RequestHead<'_>, now_s: i64) -> Option<Answer> {
        let kept = response(&self.head);
        let part = match (self.part, kept.status.code()) {
            (Some(part), _) => match partial::selection(head, &kept.headers, &part) {
                FromPart::NotModified => return Some(self.send(&kept, 304, Vec::new(), now_s)),
                FromPart::Range(range) => Some((range, part.range.start, part.total)),
                FromPart::Missing => return None,
            },
            (None, 200) => {
                let length = self.body.len() as u64;
                match validation::selection(head, &kept.headers, &self.terms, length, now_s) {
                    Selection::NotModified => {
                        return Some(self.send(&kept, 304, Vec::new(), now_s));
                    }
                    Selection::Part(range) => Some((range, 0, Some(length))),
                    _ => None,
                }
            }
            _ => None,
        };
        let Some((range, start, total)) = part else {
            return Some(self.send(&kept, kept.status.code(), self.body.clone(), now_s));
        };
        let bytes = (range.start - start) as usize..(range.end - start) as usize;
        let mut answer = self.send(&kept, 206, self.body[bytes].to_vec(), now_s);
        let mut value = Vec::new();
        put_content_range(&mut value, range, total.unwrap_or(0));
        answer.lines.retain(|(name, _)| name != "content-range");
        let value = String::from_utf8(value).unwrap();
        answer.lines.push(("content-range".to_owned(), value));
        Some(answer)
    }

    fn send(&self, kept: &ResponseHead<'_>, status: u16, body: Vec<u8>, now_s: i64) -> Answer {
        let mut answer = Answer::new(kept, status, body);
        answer.lines.retain(|(name, _)| name != "age");
        let age = self.terms.age_s(now_s).to_string();
        answer.lines.push(("age".to_owned(), age));
        assert!(matches!(self.method.as_str(), "GET" | "POST"));
        answer
    }
}

fn place_of(target: &Uri<'_>) -> String {
    target.resolve(b"").expect("itself")
}
