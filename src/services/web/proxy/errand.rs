//! What the cache makes of a request: whether it is answered from the store, waits for somebody
//! else's, or is sent on; and of its response: whether that is kept.
//!
//! ```text
//! plan ──▶ Answered | Later | Follow | Ask(errand) ──the origin answers──▶ judge ──▶ Pass | Keep | Kept
//! ```
//!
//! A long file, since the steps of one decision stand in it in their order, before the origin is
//! asked and after.
//!
//! What may be done is for [`caching`](crate::http::caching) to say, who waits for whom for the
//! [`store`](crate::cache::store); this is what connects them.

use std::rc::Rc;

use super::answer::{self, Manner, OfGrowing, Sink};
use super::route::{Form, Route};
use crate::cache::store::index::Key;
use crate::cache::store::key::put_text;
use crate::cache::store::{
    FetchId, Kept, Look, Object, Store, StoreId, UnderWay, Wanted, parse_head,
};
use crate::http::caching::invalidation::{Invalidated, invalidated, uri_of};
use crate::http::caching::partial::{self, FromPart, Part};
use crate::http::caching::reuse::{Failure, Need, Permission, may_send_stale, without_stored};
use crate::http::caching::status::{Because, CacheStatus, Handled};
use crate::http::caching::storing::put_stored_lines;
use crate::http::caching::update::{self, HeadVerdict};
use crate::http::caching::{
    Asks, NotStored, Reuse, RuleBook, Rules, Terms, Times, may_store, objection, reuse, vary,
};
use crate::http::date::{Date, unix_s};
use crate::http::head::{
    BodyLength, HEADERS_MAX, HeadScanner, Limits, Parsed, RequestHead, ResponseHead, put_head_end,
    put_header, put_status_and_reason,
};
use crate::http::range::ByteRange;
use crate::http::target::{Authority, Uri};
use crate::http::{Method, Status};
use crate::metrics::Cached;
use crate::service::Cx;
use crate::services::web::reply::{Refusal, Reply};

/// The cache of a proxy.
pub(super) struct Cache {
    pub(super) store: StoreId,
    rules: RuleBook,
    /// Memory for the text of a key.
    pub(super) text: Vec<u8>,
    /// The same for one of the lines of an answer.
    scratch: Vec<u8>,
}

/// What becomes of a request.
pub(super) enum Plan {
    /// It is answered. The origin is to be asked whether that is still true, if nobody asks it yet.
    Answered(Option<Errand>),
    /// The session is woken when more is known.
    Later,
    /// Somebody else's response is its response, or this range of it.
    Follow((StoreId, FetchId, Option<ByteRange>)),
    /// Its origin is asked.
    Ask(Errand),
}

/// What the cache wants of a request that is on its way.
pub(super) struct Errand {
    pub(super) store: StoreId,
    purpose: Purpose,
    asks: Asks,
    because: Because,
    /// How it was answered, if that was not by the response of its origin.
    outcome: Option<Cached>,
    asked_s: i64,
    /// That of its origin.
    scheme: &'static str,
    /// It was begun for the store's own sake: nobody waits for it.
    pub(super) is_for_the_store: bool,
}

enum Purpose {
    /// Nothing: it is passed on. What is kept may not be true any more afterwards.
    Pass,
    /// To keep its response, for which others may wait; in the place of what is kept, if anything
    /// is, which may be found to be still true.
    Fetch(FetchId, Option<Rc<Kept>>),
    /// To complete a part that is kept by what is missing from it for this request.
    Complete(FetchId, Rc<Kept>, Missing),
    /// A HEAD: to see whether what is kept for GET is still true.
    Compare(Rc<Kept>),
}

/// Where what is missing from a part begins, and where it ends, as [`partial::missing`] has it.
type Missing = (u64, Option<u64>);

/// What becomes of a response.
pub(super) enum Verdict {
    /// It is passed on.
    Pass,
    /// It is kept as it comes.
    Keep(FetchId),
    /// This is the answer.
    Kept(Rc<Kept>),
    /// It completes what is kept, which is the answer as it grows: all of it, or a range.
    Joined(FetchId, Option<ByteRange>),
    /// It is of no use: the request is to be sent once more, as it came.
    Again,
}

const ONLY_IF_CACHED: Refusal = Refusal::unasked(
    Status::GATEWAY_TIMEOUT,
    "the request takes only what is kept here, and there is nothing that it may have",
);

/// A head that was written here was within the limits of the listener, but for what it says of its
/// way.
const OWN_LIMITS: Limits = Limits {
    head_bytes_max: usize::MAX,
    target_bytes_max: usize::MAX,
    headers_max: HEADERS_MAX,
};

/// A request head that was written here.
pub(super) fn parse_sent(head: &[u8]) -> Option<RequestHead<'_>> {
    match HeadScanner::default().request(head, &OWN_LIMITS) {
        Ok(Parsed::Complete(head, _)) => Some(head),
        _ => None,
    }
}

/// A response, and the request that it answers.
#[derive(Clone, Copy)]
struct Came<'c> {
    request: &'c RequestHead<'c>,
    uri: &'c Uri<'c>,
    response: &'c ResponseHead<'c>,
    times: Times,
}

impl Came<'_> {
    /// What it may be used for, if it may be stored.
    fn may_store(&self, rules: &Rules) -> Result<Terms, NotStored> {
        may_store(self.request, self.uri, self.response, self.times, rules)
    }
}

impl Cache {
    pub(super) fn new(store: StoreId, rules: RuleBook) -> Self {
        Self {
            store,
            rules,
            text: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// What becomes of a request.
    ///
    /// # Errors
    /// The answer to one that wants no origin to be asked.
    pub(super) fn plan(
        &mut self,
        head: &RequestHead<'_>,
        route: &Route<'_>,
        via: &[u8],
        reply: &mut Reply<'_, '_>,
    ) -> Result<Plan, Refusal> {
        let asks = Asks::of(head);
        let now_s = unix_s(reply.cx.wall);
        let mut errand = Errand {
            store: self.store,
            purpose: Purpose::Pass,
            asks,
            because: Because::Method,
            outcome: None,
            asked_s: now_s,
            scheme: scheme(route.tls),
            is_for_the_store: false,
        };
        let switches = head.headers.contains("upgrade");
        if !asks.reads || head.body != BodyLength::None || switches {
            return Ok(Plan::Ask(errand));
        }
        let id = self.store;
        let Some(key) = self.key(head, route, reply.cx) else {
            return Ok(Plan::Ask(errand));
        };
        let (store, mut hands) = reply.cx.store(id);
        let found = match store.look(self.wanted(key), head, reply.id, &mut hands) {
            Look::Later => return Ok(Plan::Later),
            Look::Kept(kept) => Some(kept),
            Look::Nothing { others } => {
                errand.because = match others {
                    true => Because::VaryMiss,
                    false => Because::UriMiss,
                };
                None
            }
        };
        self.decide((errand, key, found), head, route, via, reply)
    }

    /// What becomes of a request, by what is kept under its key.
    fn decide(
        &mut self,
        (mut errand, key, found): (Errand, Key, Option<Rc<Kept>>),
        head: &RequestHead<'_>,
        route: &Route<'_>,
        via: &[u8],
        reply: &mut Reply<'_, '_>,
    ) -> Result<Plan, Refusal> {
        let now_s = errand.asked_s;
        let is_part = found.as_ref().is_some_and(|kept| !answers(kept, head));
        let reuse = match &found {
            Some(kept) if !is_part => reuse(&kept.terms, &errand.asks, now_s),
            Some(_) | None => without_stored(&errand.asks),
        };
        match (reuse, found) {
            (Reuse::Unavailable, _) => {
                reply.cx.counted.cached(Cached::Unavailable);
                Err(ONLY_IF_CACHED)
            }
            (Reuse::Pass, _) => {
                errand.because = Because::Request;
                Ok(Plan::Ask(errand))
            }
            (Reuse::Fresh, Some(kept)) => {
                reply.cx.counted.cached(Cached::Hit);
                self.answer(&kept, head, route, (via, now_s), reply);
                Ok(Plan::Answered(None))
            }
            (Reuse::Stale(permission), Some(kept)) => {
                reply.cx.counted.cached(Cached::StaleHit);
                self.answer(&kept, head, route, (via, now_s), reply);
                if permission == Permission::MaxStale {
                    return Ok(Plan::Answered(None));
                }
                errand.is_for_the_store = true;
                errand.because = Because::Stale;
                Ok(Plan::Answered(self.renew((errand, key, kept), head, reply)))
            }
            (Reuse::Validate(need), kept) => {
                errand.because = match (&kept, need) {
                    (None, _) => errand.because,
                    (Some(_), _) if is_part => Because::Partial,
                    (Some(_), Need::Stale) => Because::Stale,
                    (Some(_), Need::NoCache | Need::Request) => Because::Request,
                };
                Ok(self.ask((errand, key, kept), head, reply))
            }
            (Reuse::Fresh | Reuse::Stale(_), None) => Ok(Plan::Ask(errand)),
        }
    }

    /// A request for which there is nothing, or nothing that it may have: somebody else may be
    /// asking for the same.
    fn ask(
        &self,
        (mut errand, key, kept): (Errand, Key, Option<Rc<Kept>>),
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Plan {
        if head.method != Method::Get {
            let whole = kept.filter(|kept| kept.part.is_none());
            errand.purpose = whole.map_or(Purpose::Pass, Purpose::Compare);
            return Plan::Ask(errand);
        }
        let (own, now_s) = (self.store, errand.asked_s);
        let wanted = self.wanted(key);
        // A range is asked for as such, unless all of what is kept is asked about.
        let is_ranged = errand.asks.ranged
            && kept
                .as_ref()
                .is_none_or(|kept| kept.part.is_some() || !kept.terms.has_validator());
        let (store, hands) = reply.cx.store(own);
        match store.under_way(wanted, head, reply.id, hands.now) {
            UnderWay::Follow(id) if !errand.asks.no_cache => {
                let growing = store.object(id).zip(Some(store.readable(id)));
                let gets = growing
                    .map(|(object, readable)| answer::of_growing(object, readable, head, now_s));
                match gets {
                    Some(OfGrowing::All) => {
                        reply.cx.counted.cached(Cached::Collapsed);
                        return Plan::Follow((own, id, None));
                    }
                    Some(OfGrowing::Range(range)) => {
                        reply.cx.counted.cached(Cached::Collapsed);
                        return Plan::Follow((own, id, Some(range)));
                    }
                    Some(OfGrowing::Other) | None => {}
                }
            }
            UnderWay::Awaited if !errand.asks.no_cache && !is_ranged => return Plan::Later,
            UnderWay::Nobody { alone: true } if !is_ranged => return Plan::Ask(errand),
            _ => {}
        }
        let id = match is_ranged {
            true => store.lead_range(wanted, hands.now),
            false => store.lead(wanted, hands.now),
        };
        errand.purpose = match kept {
            Some(part) if !answers(&part, head) => match missing(&part, head, store) {
                Some(missing) => Purpose::Complete(id, part, missing),
                None => Purpose::Fetch(id, None),
            },
            kept => Purpose::Fetch(id, kept),
        };
        Plan::Ask(errand)
    }

    /// What is sent although it is stale is to be asked for anew, unless somebody does that.
    fn renew(
        &self,
        (mut errand, key, kept): (Errand, Key, Rc<Kept>),
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Option<Errand> {
        let wanted = self.wanted(key);
        let (store, hands) = reply.cx.store(self.store);
        let is_asked = store.is_under_way(key) || head.method != Method::Get;
        (!is_asked).then(|| {
            let id = match kept.part.is_some() {
                true => store.lead_range(wanted, hands.now),
                false => store.lead(wanted, hands.now),
            };
            errand.purpose = Purpose::Fetch(id, Some(kept));
            errand
        })
    }

    /// The key of what a request asks for, whose text is kept for [`Self::wanted`].
    fn key(&mut self, head: &RequestHead<'_>, route: &Route<'_>, cx: &mut Cx<'_>) -> Option<Key> {
        let uri = Uri {
            scheme: scheme(route.tls),
            authority: Authority::parse(&route.authority)?,
            path: route.path,
            query: route.query,
        };
        Some(self.key_of(head.method, &uri, cx))
    }

    /// The same for a resource.
    fn key_of(&mut self, method: Method<'_>, uri: &Uri<'_>, cx: &mut Cx<'_>) -> Key {
        self.put_text(method, uri);
        cx.stores.at(self.store).hasher().key(&self.text)
    }

    /// What is asked for, as the store knows it. `key`: that of the text that was written last.
    fn wanted(&self, key: Key) -> Wanted<'_> {
        Wanted {
            key,
            text: &self.text,
        }
    }

    /// What is decided about the responses of a URL.
    fn rules_for(&mut self, uri: &Uri<'_>) -> Rules {
        if !self.rules.is_uniform() {
            self.put_text(Method::Get, uri);
        }
        *self.rules.of(&self.text)
    }

    /// Writes the text of a key.
    pub(super) fn put_text(&mut self, method: Method<'_>, uri: &Uri<'_>) {
        self.text.clear();
        put_text(&mut self.text, method, uri);
    }

    /// Answers with what is kept.
    fn answer(
        &mut self,
        kept: &Kept,
        head: &RequestHead<'_>,
        route: &Route<'_>,
        (via, now_s): (&[u8], i64),
        reply: &mut Reply<'_, '_>,
    ) {
        let origin = (route.form == Form::AddressBar).then(|| route.origin());
        let manner = Manner {
            persistence: reply.persistence,
            address_bar: origin.as_ref(),
            via,
            status: CacheStatus::new(Handled::Hit),
            now_s,
        };
        let mut sink = Sink {
            tx: &mut *reply.tx,
            pool: &mut *reply.cx.pool,
            scratch: &mut self.scratch,
        };
        let answered = answer::put(kept, head, manner, &mut sink);
        reply.answered_for(&route.authority, answered);
    }

    /// What is to be forgotten since a request changed something at its origin, `uri`: that, and
    /// what its response names.
    fn invalidate(&mut self, uri: &Uri<'_>, gone: Invalidated, cx: &mut Cx<'_>) {
        if !gone.groups.is_empty() {
            let origin = Uri {
                path: "/",
                query: None,
                ..*uri
            };
            self.put_text(Method::Get, &origin);
            let origin = String::from_utf8_lossy(&self.text).into_owned();
            let (store, mut hands) = cx.store(self.store);
            store.invalidate_groups(origin, gone.groups, &mut hands);
        }
        let whole = gone.others.iter().map(|other| match other.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (other.as_str(), None),
        });
        for (path, query) in whole.chain([(uri.path, uri.query)]) {
            let uri = Uri {
                path,
                query,
                ..*uri
            };
            let key = self.key_of(Method::Get, &uri, cx);
            let (store, mut hands) = cx.store(self.store);
            store.invalidate(key, &mut hands);
        }
    }
}

impl Errand {
    /// Writes the head that goes to the origin in the place of `head`: with conditions of ours, or a
    /// range. Whether it differs.
    pub(super) fn put_request(&self, out: &mut Vec<u8>, head: &[u8]) -> bool {
        match &self.purpose {
            Purpose::Fetch(_, Some(kept)) if may_be_validated(kept) => {
                answer::put_validating(out, head, kept);
            }
            Purpose::Complete(_, kept, missing) => {
                answer::put_completing(out, head, kept, *missing);
            }
            Purpose::Fetch(..) | Purpose::Compare(_) | Purpose::Pass => return false,
        }
        true
    }

    /// What became of a response, by the head with which it was asked for.
    pub(super) fn judge(
        &mut self,
        sent: &[u8],
        response: &ResponseHead<'_>,
        cache: &mut Cache,
        cx: &mut Cx<'_>,
    ) -> Verdict {
        if self.is_objected_to(response, cache) {
            if let Purpose::Fetch(id, _) = std::mem::replace(&mut self.purpose, Purpose::Pass) {
                let (store, mut hands) = cx.store(self.store);
                store.pass(id, &mut hands);
            }
            return Verdict::Pass;
        }
        let request = parse_sent(sent);
        let uri = request.and_then(|request| uri_of(&request, self.scheme));
        let (Some(request), Some(uri)) = (request, uri) else {
            self.give_up(cx);
            return Verdict::Pass;
        };
        let came = Came {
            request: &request,
            uri: &uri,
            response,
            times: Times {
                request_s: self.asked_s,
                response_s: unix_s(cx.wall),
            },
        };
        match std::mem::replace(&mut self.purpose, Purpose::Pass) {
            Purpose::Pass => {
                if let Some(gone) = invalidated(request.method, &uri, response) {
                    cache.invalidate(&uri, gone, cx);
                }
                self.keep_unasked(came, cache, cx)
            }
            Purpose::Compare(kept) => {
                compare(&kept, came, cache, cx);
                Verdict::Pass
            }
            Purpose::Fetch(id, None) => self.keep(id, came, cache, cx),
            Purpose::Complete(id, kept, missing) => {
                self.complete((id, kept, missing), sent, came, cache, cx)
            }
            Purpose::Fetch(id, Some(kept)) => self.validated((id, kept), came, cache, cx),
        }
    }

    /// Whether a response, of which nothing is kept yet, is not to be kept either, as far as it tells
    /// by itself. Then its request needs no second look. A 304 answers conditions of its client and
    /// says nothing of what others will get.
    fn is_objected_to(&self, response: &ResponseHead<'_>, cache: &Cache) -> bool {
        matches!(self.purpose, Purpose::Pass | Purpose::Fetch(_, None))
            && self.asks.reads
            && response.status != Status::NOT_MODIFIED
            && cache.rules.is_uniform()
            && objection(&self.asks, response, &cache.rules.rest).is_some()
    }

    /// What became of a response that was asked for although something is kept: that is true still,
    /// is sent although it is not, or makes way.
    fn validated(
        &mut self,
        (id, kept): (FetchId, Rc<Kept>),
        came: Came<'_>,
        cache: &mut Cache,
        cx: &mut Cx<'_>,
    ) -> Verdict {
        let response = came.response;
        if may_be_validated(&kept) && response.status == Status::NOT_MODIFIED {
            let fresh = refreshed(&kept, came, cache, cx);
            let Some(fresh) = fresh.filter(|fresh| answers(fresh, came.request)) else {
                self.purpose = Purpose::Fetch(id, None);
                return Verdict::Again;
            };
            let (store, mut hands) = cx.store(self.store);
            store.break_off(id, &mut hands);
            self.outcome = Some(Cached::Revalidated);
            return Verdict::Kept(fresh);
        }
        let (failed, now_s) = (Failure::of(response.status), came.times.response_s);
        let (terms, asks, rules) = (&kept.terms, &self.asks, cache.rules.of(&kept.text));
        if failed.is_some_and(|failed| may_send_stale(terms, asks, failed, now_s, rules)) {
            let (store, mut hands) = cx.store(self.store);
            store.fail(id, &mut hands);
            self.outcome = Some(Cached::StaleHit);
            return Verdict::Kept(kept);
        }
        let verdict = self.keep(id, came, cache, cx);
        let is_changed = failed.is_none() && response.status != Status::PARTIAL_CONTENT;
        if matches!(verdict, Verdict::Pass) && is_changed {
            let (store, mut hands) = cx.store(self.store);
            store.invalidate(kept.key, &mut hands);
        }
        verdict
    }

    /// Keeps a response to a request that nobody waits for: to GET, if it turns out that it may be
    /// kept, and to POST, if it says that it answers GET as well (RFC 9110 section 9.3.3).
    fn keep_unasked(&self, came: Came<'_>, cache: &mut Cache, cx: &mut Cx<'_>) -> Verdict {
        let request = came.request;
        // What a body asked for is nobody else's answer.
        let may_be_for_others = match request.method {
            Method::Get => request.body == BodyLength::None,
            Method::Post => true,
            _ => false,
        };
        if !may_be_for_others || came.may_store(&cache.rules_for(came.uri)).is_err() {
            return Verdict::Pass;
        }
        let key = cache.key_of(Method::Get, came.uri, cx);
        let (store, hands) = cx.store(self.store);
        let id = store.lead(cache.wanted(key), hands.now);
        self.keep(id, came, cache, cx)
    }

    /// Keeps a response, if that may be.
    fn keep(&self, id: FetchId, came: Came<'_>, cache: &mut Cache, cx: &mut Cx<'_>) -> Verdict {
        let Came {
            request,
            response,
            times,
            ..
        } = came;
        let (store, mut hands) = cx.store(self.store);
        let terms = match came.may_store(&cache.rules_for(came.uri)) {
            Ok(terms) => terms,
            Err(why) => {
                log::debug!(
                    "cache: {} is not kept: {}",
                    request.target_text,
                    why.as_str()
                );
                // A 304 answers conditions of this client: it says nothing of what others will get.
                match response.status == Status::NOT_MODIFIED {
                    true => store.break_off(id, &mut hands),
                    false => store.pass(id, &mut hands),
                }
                return Verdict::Pass;
            }
        };
        let mut selecting = Vec::new();
        if vary::put_key(&mut selecting, &response.headers, &request.headers).is_err() {
            store.pass(id, &mut hands);
            return Verdict::Pass;
        }
        let part = Part::of(request, response);
        let object = Object {
            selecting: selecting.into(),
            status: response.status,
            head: match &part {
                Some(part) => part_head(response, part, times.response_s),
                None => stored_head(response, times.response_s),
            },
            terms,
            times,
            expected: match response.body {
                BodyLength::None => Some(0),
                BodyLength::Length(length) => Some(length),
                BodyLength::Chunked | BodyLength::UntilClose => None,
            },
        };
        match store.begin(id, object, &mut hands) {
            true => Verdict::Keep(id),
            false => Verdict::Pass,
        }
    }

    /// What became of a response that was to complete a part: both become one, or the part has
    /// changed at its origin and something else came for all of it.
    fn complete(
        &mut self,
        (id, kept, missing): (FetchId, Rc<Kept>, Missing),
        sent: &[u8],
        came: Came<'_>,
        cache: &mut Cache,
        cx: &mut Cx<'_>,
    ) -> Verdict {
        if !matches!(came.response.status.code(), 206 | 304 | 416) {
            return self.keep(id, came, cache, cx);
        }
        let mut ours = Vec::new();
        answer::put_completing(&mut ours, sent, &kept, missing);
        let joined = parse_sent(&ours)
            .and_then(|ours| joined(&kept, &ours, came, &cache.rules_for(came.uri)));
        if let Some((object, newer, range)) = joined {
            let (store, mut hands) = cx.store(self.store);
            if store.begin_joined(id, object, (&kept, newer), &mut hands) {
                return Verdict::Joined(id, range);
            }
        }
        self.purpose = Purpose::Fetch(id, None);
        Verdict::Again
    }

    /// Whether the request changes nothing at its origin: a response to it that is kept is one to GET.
    pub(super) fn reads(&self) -> bool {
        self.asks.reads
    }

    /// Whether others wait for its response.
    pub(super) fn is_wanted(&self, cx: &mut Cx<'_>) -> bool {
        let (store, _) = cx.store(self.store);
        match &self.purpose {
            Purpose::Fetch(id, _) | Purpose::Complete(id, ..) => {
                self.is_for_the_store || store.is_wanted(*id)
            }
            Purpose::Pass | Purpose::Compare(_) => false,
        }
    }

    /// No response came. What may be sent in its place.
    pub(super) fn failed(&mut self, cache: &Cache, cx: &mut Cx<'_>) -> Option<Rc<Kept>> {
        let now_s = unix_s(cx.wall);
        let kept = match std::mem::replace(&mut self.purpose, Purpose::Pass) {
            Purpose::Pass => return None,
            Purpose::Compare(kept) => kept,
            Purpose::Fetch(id, kept) => {
                let (store, mut hands) = cx.store(self.store);
                store.fail(id, &mut hands);
                kept?
            }
            Purpose::Complete(id, ..) => {
                let (store, mut hands) = cx.store(self.store);
                store.fail(id, &mut hands);
                return None;
            }
        };
        let (terms, asks) = (&kept.terms, &self.asks);
        let rules = cache.rules.of(&kept.text);
        if !may_send_stale(terms, asks, Failure::Unreachable, now_s, rules) {
            return None;
        }
        self.outcome = Some(Cached::StaleHit);
        Some(kept)
    }

    /// The request is over: whoever waits for its response asks again.
    pub(super) fn give_up(&mut self, cx: &mut Cx<'_>) {
        match std::mem::replace(&mut self.purpose, Purpose::Pass) {
            Purpose::Pass | Purpose::Compare(_) => {}
            Purpose::Fetch(id, _) | Purpose::Complete(id, ..) => {
                let (store, mut hands) = cx.store(self.store);
                store.break_off(id, &mut hands);
            }
        }
    }

    /// Counts how the request was handled, once it is over.
    pub(super) fn count(&self, cx: &mut Cx<'_>) {
        let handled = self.outcome.unwrap_or(match self.because {
            Because::UriMiss | Because::Miss => Cached::UriMiss,
            Because::VaryMiss => Cached::VaryMiss,
            Because::Stale => Cached::StaleMiss,
            Because::Request => Cached::RequestMiss,
            Because::Partial => Cached::PartialMiss,
            Because::Bypass | Because::Method => Cached::Passed,
        });
        if !self.is_for_the_store {
            cx.counted.cached(handled);
        }
    }

    /// What was done, for `Cache-Status`.
    pub(super) fn status(&self, origin: Option<Status>, stored: bool) -> CacheStatus<'static> {
        CacheStatus {
            origin_status: origin,
            stored,
            ..CacheStatus::new(Handled::Forwarded(self.because))
        }
    }
}

fn scheme(tls: bool) -> &'static str {
    match tls {
        true => "https",
        false => "http",
    }
}

/// Whether an origin can be asked if what is kept is still true.
fn may_be_validated(kept: &Kept) -> bool {
    kept.terms.has_validator()
        && (kept.part.is_none()
            || parse_head(&kept.head).is_some_and(|head| partial::may_be_validated(&head.headers)))
}

/// Whether what is kept has what a request wants: all that is whole does.
fn answers(kept: &Kept, request: &RequestHead<'_>) -> bool {
    match &kept.part {
        Some(part) => answer::from_part(kept, part, request) != FromPart::Missing,
        None => true,
    }
}

/// What is missing from a part for a request, if both could then be kept as one.
fn missing(kept: &Kept, request: &RequestHead<'_>, store: &Store) -> Option<Missing> {
    let part = kept.part.as_ref()?;
    let missing = partial::missing(request, &parse_head(&kept.head)?.headers, part)?;
    let start = part.range.start.min(missing.0);
    let end = missing
        .1
        .map_or(part.total, |end| Some(end.max(part.range.end)));
    store
        .can_keep(end.unwrap_or(part.range.end) - start)
        .then_some(missing)
}

/// A part that is kept and one that came for it as one object; which bytes came, and those of the
/// object that the client wants, unless that is all of them. `None` if they do not go together, or
/// are not what the client wants.
fn joined(
    kept: &Kept,
    ours: &RequestHead<'_>,
    came: Came<'_>,
    rules: &Rules,
) -> Option<(Object, ByteRange, Option<ByteRange>)> {
    let Came {
        request,
        response,
        times,
        ..
    } = came;
    may_store(ours, came.uri, response, times, rules).ok()?;
    let stored_part = kept.part?;
    let newer = Part::of(ours, response)?;
    let stored = parse_head(&kept.head)?;
    let both = (&stored.headers, stored_part);
    let part = partial::combined(both, (&response.headers, newer))?;
    let range = match partial::selection(request, &stored.headers, &part) {
        FromPart::Range(range) => Some(range),
        FromPart::Missing if part.is_whole() && !request.headers.contains("range") => None,
        FromPart::Missing | FromPart::NotModified => return None,
    };
    let mut head = Vec::with_capacity(kept.head.len());
    update::put_combined(&mut head, &stored, response, &part, times.response_s);
    let parsed = parse_head(&head)?;
    let mut selecting = Vec::new();
    vary::put_key(&mut selecting, &parsed.headers, &request.headers).ok()?;
    let object = Object {
        selecting: selecting.into(),
        status: parsed.status,
        terms: Terms::derive(&parsed, times, rules),
        head: head.into(),
        times,
        expected: Some(part.range.len()),
    };
    Some((object, newer.range, range))
}

/// The head of a part as it is kept.
fn part_head(response: &ResponseHead<'_>, part: &Part, response_s: i64) -> Rc<[u8]> {
    let mut head = Vec::with_capacity(512);
    update::put_part(&mut head, response, part, response_s);
    head.into()
}

/// The head of a response as it is kept.
fn stored_head(response: &ResponseHead<'_>, response_s: i64) -> Rc<[u8]> {
    let mut head = Vec::with_capacity(512);
    put_status_and_reason(&mut head, response.status, response.reason);
    put_stored_lines(&mut head, &response.headers);
    if !response.headers.contains("date") {
        put_header(&mut head, "Date", Date::new(response_s).as_bytes());
    }
    put_head_end(&mut head);
    head.into()
}

/// What was kept, with what a 304 says of it; `None` if that is about something else.
fn refreshed(kept: &Kept, came: Came<'_>, cache: &Cache, cx: &mut Cx<'_>) -> Option<Rc<Kept>> {
    let stored = parse_head(&kept.head)?;
    let newer = &came.response.headers;
    let is_it = update::identifies(newer, &stored.headers, update::Asked::One)
        && (kept.part.is_none() || partial::is_validated_by(&stored.headers, newer));
    is_it.then(|| update(kept, &stored, came, cache, cx))?
}

/// Does to what is kept for GET what a response to HEAD says.
fn compare(kept: &Kept, came: Came<'_>, cache: &Cache, cx: &mut Cx<'_>) {
    let Some(stored) = parse_head(&kept.head) else {
        return;
    };
    match update::by_head(came.response, &stored.headers, kept.body_bytes) {
        HeadVerdict::Keep => {}
        HeadVerdict::Update => {
            update(kept, &stored, came, cache, cx);
        }
        HeadVerdict::Invalidate => {
            let (store, mut hands) = cx.store(cache.store);
            store.invalidate(kept.key, &mut hands);
        }
    }
}

/// Keeps the same body under a head that has the fields of a newer one.
fn update(
    kept: &Kept,
    stored: &ResponseHead<'_>,
    came: Came<'_>,
    cache: &Cache,
    cx: &mut Cx<'_>,
) -> Option<Rc<Kept>> {
    let mut head = Vec::with_capacity(kept.head.len());
    update::put_updated(&mut head, stored, came.response, came.times.response_s);
    let terms = Terms::derive(&parse_head(&head)?, came.times, cache.rules.of(&kept.text));
    let (store, mut hands) = cx.store(cache.store);
    Some(store.refreshed(kept, (head.into(), terms, came.times), &mut hands))
}
