//! What one request is answered with: what stands against it, who else has it, and what its site
//! says.

use std::task::Poll;

use super::body::BODY_TOO_LARGE;
use super::files::Progress;
use super::proxy::{Begun, Sender};
use super::reply::{Refusal, Reply};
use super::sites::{Content, Site, Sites};
use super::{Next, Place, probe};
use crate::config::HttpConfig;
use crate::ending::Ending;
use crate::http::head::{BodyLength, HeadError, RequestHead};
use crate::http::negotiate::ErrorFormat;
use crate::http::path::SafePath;
use crate::http::persistence::Persistence;
use crate::http::target::Target;
use crate::http::{Method, Status, redirect};
use crate::metrics::Limit;

/// Answers one request, or says what must come before its answer.
pub(super) fn respond(
    config: &HttpConfig,
    sites: &mut Sites,
    place: Place,
    head: &RequestHead<'_>,
    sender: &mut Sender<'_>,
    reply: &mut Reply<'_, '_>,
) -> Next {
    let site = sites.at(place);
    let forwards = matches!(site.content, Content::Proxy(_));
    let unusual = head.body != BodyLength::None || head.expect_unknown;
    let objection = match unusual || !matches!(head.target, Target::Origin { .. }) {
        true if !forwards => objection(config, head),
        _ => None,
    };
    // A client that waits for `100 Continue` and gets another answer may or may not send its body
    // then: only a new connection is unambiguous (RFC 9110 section 10.1.1).
    let last = (head.expect_continue && !forwards) || objection.is_some();
    let ending = match objection {
        Some(_) => Ending::Refused,
        None => Ending::Done,
    };
    if last {
        reply.persistence = Persistence::Ends;
    }
    if let Some(cors) = &site.cors {
        reply.allow(cors, &head.headers);
    }
    let result = match objection {
        Some(refusal) => Err(refusal),
        None if site.answer_preflight(head, reply) => Ok(Next::Done),
        None => match moved(config, head) {
            Some(refusal) => Err(refusal),
            None => serve(site, place, head, sender, reply),
        },
    };
    let next = result.unwrap_or_else(|refusal| {
        let format = ErrorFormat::parse(&head.headers, site.error_format());
        match site.refuse(&refusal, format, reply) {
            Poll::Ready(()) => Next::Done,
            Poll::Pending => Next::Later { asks: None },
        }
    });
    match next {
        Next::Done if last => Next::Close(ending),
        next => next,
    }
}

/// Answers a request against which there is no objection, unless what it is about refuses it.
fn serve(
    site: &mut Site,
    place: Place,
    head: &RequestHead<'_>,
    sender: &mut Sender<'_>,
    reply: &mut Reply<'_, '_>,
) -> Result<Next, Box<Refusal>> {
    // Before anything else: whatever the site has, and whether it has it, is for those who may see
    // it.
    match site.admit(head, sender.client, reply) {
        Poll::Ready(result) => result?,
        Poll::Pending => return Ok(Next::Later { asks: Some(place) }),
    }
    if site.has_probe
        && let Some(result) = probe::respond(site.path_below(head), head, reply)
    {
        return result;
    }
    let takes_authorization = site.takes_authorization(head);
    if let Content::Proxy(proxy) = &mut site.content {
        let begun = proxy.begin(head, place, takes_authorization, sender, reply)?;
        return Ok(match begun {
            Begun::Answered => Next::Done,
            Begun::Later => Next::Later { asks: None },
            Begun::Forward(forward) => Next::Forward(forward),
        });
    }
    Ok(match site.respond(head, reply)? {
        Progress::Answered => Next::Done,
        Progress::Later => Next::Later { asks: None },
        Progress::Packs(archive) => Next::Pack(archive, reply.persistence),
        Progress::Lives(live) => Next::Live(live),
    })
}

/// Where a request is led by the redirects.
fn moved(config: &HttpConfig, head: &RequestHead<'_>) -> Option<Box<Refusal>> {
    if config.redirects.is_empty() || matches!(head.method, Method::Other(_)) {
        return None;
    }
    let path = SafePath::parse(head.target.path()?).ok()?;
    let (host, query) = (head.authority(), head.target.query());
    let (status, location) = redirect::find(&config.redirects, host.as_ref(), &path, query)?;
    let text = "what is asked for has moved; see Location";
    Some(Refusal::redirect(status, text, location).into())
}

/// What is wrong with a request that is well-formed, whatever it asks for.
#[cold]
fn objection(config: &HttpConfig, head: &RequestHead<'_>) -> Option<Box<Refusal>> {
    if matches!(head.body, BodyLength::Length(length) if length > config.body_bytes_max) {
        return Some(BODY_TOO_LARGE.into());
    }
    if head.expect_unknown {
        let text = "this server meets no expectation but 100-continue";
        return Some(Refusal::new(Status::EXPECTATION_FAILED, text).into());
    }
    // Whoever speaks to the origin of an `https` resource must do so over TLS (RFC 9110 section
    // 7.4).
    if let Target::Absolute { scheme, .. } = head.target
        && !scheme.eq_ignore_ascii_case("http")
        && !(scheme.eq_ignore_ascii_case("https") && config.stream.tls.is_some())
    {
        let text = "this listener has no resources of this scheme";
        return Some(Refusal::new(Status::MISDIRECTED_REQUEST, text).into());
    }
    None
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let limit = match error.status() {
            Status::URI_TOO_LONG => Some(Limit::Target),
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Limit::Head),
            _ => None,
        };
        Self {
            limit,
            ..Self::new(error.status(), error.text())
        }
    }
}
