//! `get URL`: redirects are followed, the body is brought to where it belongs.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use percent_encoding::percent_decode_str;
use serde_json::json;

use super::exchange::{Head, begins_at, is_complete, read_body, read_head, request};
use super::proxy::{open_tunnel, proxy_for};
use super::sink::{Sink, Unpacker, sink};
use super::timing::{Timing, tell_timing};
use super::{GetArgs, judge};
use crate::client::output::{Output, no_color};
use crate::client::stream::Stream;
use crate::client::tls::Trust;
use crate::client::url::Url;
use crate::client::{Exit, Failure, Outcome, Timeouts};
use crate::http::Method;
use crate::http::head::{self, BodyLength};
use crate::wire::upload::SafeName;

/// `get URL`.
pub(super) struct Fetch<'a> {
    pub(super) args: &'a GetArgs,
    pub(super) timeouts: Timeouts,
    trust: Option<Trust>,
    pub(super) started: Instant,
}

/// One answered request: the connection, what came behind the head.
struct Answered {
    pub(super) stream: Stream,
    pub(super) received: Vec<u8>,
    pub(super) head: Head,
    pub(super) timing: Timing,
}

impl<'a> Fetch<'a> {
    pub(super) fn new(args: &'a GetArgs) -> Result<Self, Failure> {
        Ok(Self {
            args,
            timeouts: args.common.timeouts(),
            trust: None,
            started: Instant::now(),
        })
    }

    pub(super) fn follow(mut self, first: &Url) -> Outcome {
        let path = match self.args.remote_name {
            true => Some(remote_name(first)?),
            false => self.args.output.clone(),
        };
        if self.args.resume && path.is_none() {
            return Err(Failure::usage(
                "-C needs a file: name it with -o, or use -O",
            ));
        }
        let offset = match &path {
            Some(path) if self.args.resume => std::fs::metadata(path).map_or(0, |file| file.len()),
            _ => 0,
        };
        let mut url = first.clone();
        for followed in 0.. {
            let server = |url: &Url| (url.is_https, url.host.to_ascii_lowercase(), url.port);
            let answered = self.ask(&url, server(&url) != server(first), offset)?;
            let is_redirect = matches!(answered.head.status, 301 | 302 | 303 | 307 | 308);
            let location = answered
                .head
                .location
                .clone()
                .filter(|_| is_redirect && self.args.max_redirects > 0);
            let Some(location) = location else {
                return self.save(&url, answered, path.as_deref(), offset);
            };
            if followed >= self.args.max_redirects {
                let limit = self.args.max_redirects;
                return Err(Failure::unavailable(format!(
                    "{url}: more than {limit} redirects"
                )));
            }
            url = url
                .join(&location)
                .map_err(|words| Failure::unavailable(format!("redirect to {words}")))?;
        }
        unreachable!("the loop returns at the limit of redirects")
    }

    /// Connects, through a proxy where one is set, asks and reads the head.
    fn ask(&mut self, url: &Url, elsewhere: bool, offset: u64) -> Result<Answered, Failure> {
        let args = self.args;
        let proxy = proxy_for(args, url)?;
        let target = proxy.as_ref().map_or_else(|| url.target(), Url::target);
        let mut stream = Stream::connect(&target, args.common.family(), self.timeouts)?;
        let mut tls = Duration::ZERO;
        if url.is_https {
            if proxy.is_some() {
                open_tunnel(&mut stream, url)?;
            }
            let trust = match self.trust.take() {
                Some(trust) => trust,
                None => args.tls.trust()?,
            };
            let before = Instant::now();
            stream.begin("starting TLS");
            stream.start_tls(&url.host, &trust)?;
            tls = before.elapsed();
            self.trust = Some(trust);
        }
        let absolute = url.to_string();
        let target = if proxy.is_some() && !url.is_https {
            &absolute
        } else {
            &url.path
        };
        let mut bytes = request(args, target, &url.authority(), elsewhere);
        if args.compressed {
            head::put_header(&mut bytes, "Accept-Encoding", "gzip, deflate");
        }
        if offset > 0 {
            head::put_header(&mut bytes, "Range", format!("bytes={offset}-"));
        }
        head::put_head_end(&mut bytes);
        stream.begin("sending the request");
        stream.write_all(&bytes)?;
        stream.begin("waiting for the response");
        let mut received = Vec::new();
        let method = if args.head { Method::Head } else { Method::Get };
        let (head, first_byte) = read_head(&mut stream, &mut received, method)?;
        let timing = Timing {
            connect: stream.times(),
            tls,
            first_byte: first_byte - self.started,
            total: Duration::ZERO,
        };
        Ok(Answered {
            stream,
            received,
            head,
            timing,
        })
    }

    /// Brings the body to where it belongs.
    fn save(&self, url: &Url, answered: Answered, path: Option<&Path>, offset: u64) -> Outcome {
        let Answered {
            mut stream,
            received,
            head,
            mut timing,
        } = answered;
        let args = self.args;
        if offset > 0 && head.status == 416 && is_complete(&head, offset) {
            eprintln!("netlab-reactor get: {url}: the file is complete already");
            return Ok(Exit::Done);
        }
        let exit = judge(args, &head);
        if exit != Exit::Done {
            return Err(Failure {
                exit,
                message: format!("{url}: the server answered {} {}", head.status, head.reason),
            });
        }
        let appends = offset > 0 && head.status == 206 && begins_at(&head, offset);
        if offset > 0 && head.status == 206 && !appends {
            return Err(Failure::unavailable(format!(
                "{url}: the server sent another part than was asked for"
            )));
        }
        // An error page must not replace or lengthen a file that is half there.
        if offset > 0 && head.status >= 400 {
            return Err(Failure::unavailable(format!(
                "{url}: the server answered {} {}",
                head.status, head.reason
            )));
        }
        if (args.head || args.include) && !args.common.json {
            Output::new().peer_text(&head.text)?;
        }
        let coding = if args.compressed && !args.head {
            head.content_encoding.as_str()
        } else {
            ""
        };
        let mut unpacker = Unpacker::new(coding, sink(args, path, appends)?)?;
        let bar = self.progress(&head, path, if appends { offset } else { 0 });
        let mut carried = 0_u64;
        let result = read_body(&mut stream, received, head.body, false, &mut |bytes| {
            carried += bytes.len() as u64;
            bar.inc(bytes.len() as u64);
            unpacker.put(bytes)
        });
        bar.finish_and_clear();
        result?;
        let sink = match carried {
            // A body that may not be there is not a broken compressed one.
            0 => None,
            _ => Some(unpacker.finish()?),
        };
        timing.total = self.started.elapsed();
        if args.timing && !args.common.json {
            tell_timing(&timing);
        }
        if args.common.json {
            let body = match sink {
                Some(Sink::Memory(bytes)) => Some(String::from_utf8_lossy(&bytes).into_owned()),
                _ => None,
            };
            Output::new().json(&json!({
                "url": url.to_string(), "status": head.status, "reason": head.reason,
                "head": String::from_utf8_lossy(&head.text), "bytes": carried,
                "file": path.map(|path| path.display().to_string()), "body": body,
                "timing_ms": timing.json(),
            }))?;
        }
        Ok(exit)
    }

    pub(super) fn progress(&self, head: &Head, path: Option<&Path>, offset: u64) -> ProgressBar {
        let is_watched = path.is_some() && io::stderr().is_terminal();
        if self.args.quiet || self.args.common.json || !is_watched {
            return ProgressBar::hidden();
        }
        let colour = if no_color() { "" } else { ".green" };
        let (length, template) = match head.body {
            BodyLength::Length(bytes) => (
                Some(offset + bytes),
                format!(
                    "{{bar:30{colour}}} {{bytes:>11}}/{{total_bytes}} {{bytes_per_sec}} {{eta}} left"
                ),
            ),
            _ => (None, "{spinner} {bytes} {bytes_per_sec}".to_owned()),
        };
        let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("━╸ "));
        }
        bar.set_position(offset);
        bar
    }
}

/// The last part of the URL's path, as a file name that is safe here.
pub(super) fn remote_name(url: &Url) -> Result<PathBuf, Failure> {
    let path = url.path.split('?').next().unwrap_or_default();
    let last = path.rsplit('/').next().unwrap_or_default();
    let name = percent_decode_str(last).decode_utf8_lossy();
    match SafeName::reduce(&name) {
        Ok(name) => Ok(PathBuf::from(name.as_str())),
        Err(error) => Err(Failure::usage(format!(
            "{url}: {error}: name the file with -o"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_urls_stay_in_the_folder() {
        let name = |url: &str| {
            remote_name(&Url::parse(url).unwrap()).map(|path| path.display().to_string())
        };
        assert_eq!(name("http://a/b/c.txt?d=/e").unwrap(), "c.txt");
        assert_eq!(name("http://a/x%20y").unwrap(), "x y");
        assert_eq!(name("http://a/%2e%2e%2fpasswd").unwrap(), "passwd");
        assert!(name("http://a/").is_err() && name("http://a/..").is_err());
    }
}
