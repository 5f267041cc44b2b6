//! `get URL`: redirects are followed, the body is brought to where it belongs.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::exchange::{Extent, Head, read_body, read_head, request};
use super::proxy::{open_tunnel, proxy_for};
use super::sink::{Destination, Sink, Unpacker};
use super::timing::{Timing, tell_timing};
use super::{GetArgs, judge};
use crate::client::output::{Output, no_color};
use crate::client::stream::Stream;
use crate::client::tls::Trust;
use crate::client::url::Url;
use crate::client::{Exit, Failure, Outcome, Timeouts};
use crate::http::head::BodyLength;
use crate::wire::upload::SafeName;

/// `get URL`.
pub(super) struct Fetch<'a> {
    args: &'a GetArgs,
    timeouts: Timeouts,
    trust: Option<Trust>,
    started: Instant,
    /// The file that the body goes to, if it goes to one.
    path: Option<PathBuf>,
    /// How much of the file is there, with `-C`.
    offset: u64,
}

/// One answered request: the connection, what came behind the head.
struct Answered {
    stream: Stream,
    received: Vec<u8>,
    head: Head,
    timing: Timing,
}

/// What was fetched, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Fetched<'a> {
    url: String,
    status: u16,
    reason: &'a str,
    head: Cow<'a, str>,
    /// As they came, packed.
    bytes: u64,
    file: Option<String>,
    body: Option<Cow<'a, str>>,
    timing_ms: serde_json::Value,
}

impl<'a> Fetch<'a> {
    /// Prepares to fetch `url`, which gives the file its name with `-O`.
    pub(super) fn new(args: &'a GetArgs, url: &Url) -> Result<Self, Failure> {
        let path = match args.remote_name {
            true => Some(remote_name(url)?),
            false => args.output.clone(),
        };
        let offset = match &path {
            Some(path) if args.resume => std::fs::metadata(path).map_or(0, |file| file.len()),
            None if args.resume => {
                return Err(Failure::usage(
                    "-C needs a file: name it with -o, or use -O",
                ));
            }
            _ => 0,
        };
        Ok(Self {
            args,
            timeouts: args.common.timeouts(),
            trust: None,
            started: Instant::now(),
            path,
            offset,
        })
    }

    /// Asks, and asks where redirects lead to.
    pub(super) fn follow(mut self, first: &Url) -> Outcome {
        let mut url = first.clone();
        for followed in 0.. {
            // What is for the first server is for nobody else, and passwords that a redirect makes
            // up are for nobody.
            let elsewhere = !url.is_same_server(first);
            url.credentials = first.credentials.clone().filter(|_| !elsewhere);
            let answered = self.ask(&url, elsewhere)?;
            let is_redirect = matches!(answered.head.status, 301 | 302 | 303 | 307 | 308);
            let location = answered
                .head
                .location
                .as_deref()
                .filter(|_| is_redirect && self.args.max_redirects > 0);
            let Some(location) = location else {
                return self.save(&url, answered);
            };
            if followed >= self.args.max_redirects {
                let limit = self.args.max_redirects;
                return Err(Failure::unavailable(format!(
                    "{url}: more than {limit} redirects"
                )));
            }
            url = url
                .join(location)
                .map_err(|words| Failure::unavailable(format!("redirect to {words}")))?;
        }
        unreachable!("the loop returns at the limit of redirects")
    }

    /// Connects, through a proxy where one is set, asks and reads the head.
    fn ask(&mut self, url: &Url, elsewhere: bool) -> Result<Answered, Failure> {
        let args = self.args;
        let proxy = proxy_for(args, url)?;
        let (mut stream, tls) = self.connect(url, proxy.as_ref())?;
        let mut headers = vec![("Host", url.authority())];
        if let Some(credentials) = &url.credentials {
            headers.push(("Authorization", credentials.basic()));
        }
        if args.compressed {
            headers.push(("Accept-Encoding", "gzip, deflate".to_owned()));
        }
        if self.offset > 0 {
            headers.push(("Range", format!("bytes={}-", self.offset)));
        }
        let mut target = Cow::Borrowed(&url.path[..]);
        if let Some(proxy) = proxy.as_ref().filter(|_| !url.is_https) {
            target = Cow::Owned(url.absolute());
            if let Some(credentials) = &proxy.credentials {
                headers.push(("Proxy-Authorization", credentials.basic()));
            }
        }
        stream.begin("sending the request");
        stream.write_all(&request(args, &target, &headers, elsewhere))?;
        stream.begin("waiting for the response");
        let mut received = Vec::new();
        let (head, first_byte) = read_head(&mut stream, &mut received, args.method())?;
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

    /// Connects to the server of a URL or to the proxy, and starts TLS where the URL wants it;
    /// answers how long that took.
    fn connect(&mut self, url: &Url, proxy: Option<&Url>) -> Result<(Stream, Duration), Failure> {
        let target = proxy.unwrap_or(url).target();
        let mut stream = Stream::connect(&target, self.args.common.family(), self.timeouts)?;
        if !url.is_https {
            return Ok((stream, Duration::ZERO));
        }
        if let Some(proxy) = proxy {
            open_tunnel(&mut stream, url, proxy)?;
        }
        let trust = match self.trust.take() {
            Some(trust) => trust,
            None => self.args.tls.trust()?,
        };
        let before = Instant::now();
        stream.begin("starting TLS");
        stream.start_tls(&url.host, &trust)?;
        self.trust = Some(trust);
        Ok((stream, before.elapsed()))
    }

    /// Judges the status, then brings the body to where it belongs.
    fn save(&self, url: &Url, answered: Answered) -> Outcome {
        let (head, args) = (&answered.head, self.args);
        if self.offset > 0 && head.status == 416 && head.extent(self.offset) == Extent::Nothing {
            eprintln!("netlab-reactor get: {url}: the file is complete already");
            return Ok(Exit::Done);
        }
        let exit = judge(args, head);
        let refused = |exit| Failure {
            exit,
            message: format!("{url}: the server answered {} {}", head.status, head.reason),
        };
        if exit != Exit::Done {
            return Err(refused(exit));
        }
        if self.offset > 0 {
            match head.status {
                206 if head.extent(self.offset) != Extent::Rest => {
                    return Err(Failure::unavailable(format!(
                        "{url}: the server sent another part than was asked for"
                    )));
                }
                416 => {
                    return Err(Failure::unavailable(format!(
                        "{url}: the file has {} bytes, and the server has another length",
                        self.offset
                    )));
                }
                // An error page must not replace or lengthen a file that is half there.
                400.. => return Err(refused(Exit::Unavailable)),
                _ => {}
            }
        }
        if (args.head || args.include) && !args.common.json {
            Output::new().peer_text(&head.text)?;
        }
        self.receive(url, answered)?;
        Ok(exit)
    }

    /// Receives the body and tells of it.
    fn receive(&self, url: &Url, answered: Answered) -> Result<(), Failure> {
        let Answered {
            mut stream,
            received,
            head,
            mut timing,
        } = answered;
        let (args, path) = (self.args, self.path.as_deref());
        let appends = self.offset > 0 && head.status == 206;
        let codings = match args.compressed && !args.head {
            true => &head.codings[..],
            false => &[],
        };
        let mut unpacker = Unpacker::new(codings, Sink::open(args, path, appends)?)?;
        let bar = progress(args, &head, path, if appends { self.offset } else { 0 });
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
        if !args.common.json {
            if args.timing {
                tell_timing(&timing);
            }
            return Ok(());
        }
        let body = match sink.as_ref().map(|sink| &sink.destination) {
            Some(Destination::Memory(bytes)) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        };
        Output::new().json(&Fetched {
            url: url.to_string(),
            status: head.status,
            reason: &head.reason,
            head: String::from_utf8_lossy(&head.text),
            bytes: carried,
            file: path.map(|path| path.display().to_string()),
            body,
            timing_ms: timing.json(),
        })
    }
}

/// The progress that a person sees of a body on its way to a file.
fn progress(args: &GetArgs, head: &Head, path: Option<&Path>, offset: u64) -> ProgressBar {
    let is_watched = path.is_some() && io::stderr().is_terminal();
    if args.quiet || args.common.json || !is_watched {
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
