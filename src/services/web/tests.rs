//! What the sites of a listener have in common, over the whole service: redirects, what pages of
//! other sites may read; and what belongs to more than one of its files: folders as archives, and a
//! README under a listing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::files::tests::{Answer, Site, counted, site};
use crate::ending::Error;
use crate::metrics::Limit;

#[test]
fn what_has_moved_is_led_on_before_anything_else() {
    let mut s = site(
        &[("old.html", "still there"), ("docs/index.html", "docs")],
        "headers = { X-A = 'b' }\n\
         redirect = [\n\
           { from = '/old.html', to = '/new.html' },\n\
           { from = '/blog/**', to = 'https://blog.example/**', status = 308 },\n\
           { host = 'a.example', from = '/', to = '/a/', status = 302 },\n\
         ]",
    );
    let led = |answer: &Answer| (answer.status, answer.header("location").map(str::to_owned));
    let to = |status: u16, location: &str| (status, Some(location.to_owned()));
    let old = s.get("/old.html?x=1", "");
    assert_eq!(led(&old), to(301, "/new.html?x=1"));
    assert_eq!(old.header("x-a"), Some("b"));
    assert!(old.text().contains("301 Moved Permanently"));
    assert_eq!(led(&s.get("/%6fld.html", "")), to(301, "/new.html"));
    assert_eq!(
        led(&s.get("/blog/2026/a%20b", "")),
        to(308, "https://blog.example/2026/a%20b")
    );
    assert_eq!(
        led(&s.get("http://h/blog", "")),
        to(308, "https://blog.example/")
    );
    assert_eq!(
        led(&s.ask("GET", "/", "Host: A.example:80\r\n")),
        to(302, "/a/")
    );
    assert_eq!(s.get("/docs/", "").text(), "docs");
    assert_eq!(s.get("/", "").status, 403, "under another host");
    // Whatever the method, its body is read and dropped, and the connection goes on.
    let post = s.ask("POST", "/old.html", "Host: h\r\nContent-Length: 3\r\n");
    assert_eq!(led(&post), to(301, "/new.html"));
    s.bench.peer_sends(b"abc");
    let head = s.ask("HEAD", "/old.html", "Host: h\r\n");
    assert_eq!((led(&head), head.body.len()), (to(301, "/new.html"), 0));
    assert_eq!(s.ask("BREW", "/old.html", "Host: h\r\n").status, 501);
    assert_eq!(s.ask("OPTIONS", "*", "Host: h\r\n").status, 204);
    s.bench.expect_open();
}

/// Two sites, one for a few origins with credentials and behind a password, the other for all.
fn across() -> Site {
    site(
        &[
            ("small", "hello"),
            ("large", &"x".repeat(100_000)),
            ("open/a", "a"),
        ],
        "root = 'ROOT'\n\
         cors = { origins = ['https://a.example'], credentials = true, methods = 'PUT', expose = 'ETag', max_age = '10m' }\n\
         site = [{ prefix = '/open/', root = 'ROOT/open', cors = { origins = '*' } }]\n\
         redirect = [{ from = '/moved', to = '/small' }]",
    )
}

const ALLOWED: [&str; 2] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
];

fn allowed(answer: &Answer) -> [Option<&str>; 2] {
    ALLOWED.map(|name| answer.header(name))
}

/// The page of an error is made once for those who are refused for the same thing, and for no
/// others.
#[test]
fn each_error_says_what_it_is_for_and_in_its_form() {
    let mut s = across();
    let (html, text) = ("Accept: text/html\r\n", "Accept: text/plain\r\n");
    for _ in 0..2 {
        for (target, status) in [("/none", 404), ("/", 403), ("/%zz", 400), ("/%00", 400)] {
            let pages = [html, text, html].map(|headers| {
                let answer = s.get(target, headers);
                assert_eq!(answer.status, status, "{target}");
                String::from_utf8(answer.body).expect("text")
            });
            assert!(
                pages[0].starts_with("<!doctype html>"),
                "{target}: {pages:?}"
            );
            assert!(
                pages[1].starts_with(&status.to_string()),
                "{target}: {pages:?}"
            );
            assert_eq!(pages[0], pages[2], "{target}");
        }
    }
    let why = |target| String::from_utf8(s.get(target, "").body).expect("text");
    let [percent, nul] = ["/%zz", "/%00"].map(why);
    assert_ne!(percent, nul, "both are 400");
}

#[test]
fn every_answer_says_which_pages_may_read_it() {
    let mut s = across();
    let ours = "Origin: https://a.example\r\n";
    let other = "Origin: https://b.example\r\n";
    let yes = [Some("https://a.example"), Some("true")];
    for (target, status) in [
        ("/small", 200),
        ("/large", 200),
        ("/none", 404),
        ("/moved", 301),
        ("/", 403),
    ] {
        for (headers, expected) in [(ours, yes), (other, [None; 2]), ("", [None; 2])] {
            let answer = s.get(target, headers);
            assert_eq!(
                (answer.status, allowed(&answer)),
                (status, expected),
                "{target} {headers}"
            );
            assert_eq!(answer.header("vary"), Some("Origin"), "{target} {headers}");
            let exposed = answer.header("access-control-expose-headers");
            assert_eq!(exposed, expected[0].map(|_| "ETag"));
        }
    }
    let tag = s
        .get("/small", "")
        .header("etag")
        .expect("a tag")
        .to_owned();
    let unchanged = s.get("/small", &format!("{ours}If-None-Match: {tag}\r\n"));
    assert_eq!((unchanged.status, allowed(&unchanged)), (304, yes));
    let part = s.get("/large", &format!("{ours}Range: bytes=0-1\r\n"));
    assert_eq!((part.status, allowed(&part)), (206, yes));
    assert_eq!((part.text(), part.header("vary")), ("xx", Some("Origin")));
    let last = s.get("/small", &format!("{ours}Connection: close\r\n"));
    assert_eq!((last.text(), allowed(&last)), ("hello", yes));
    assert_eq!(last.header("connection"), Some("close"));
    // What is for everybody is the same for everybody, and other sites know nothing of it.
    let mut s = across();
    for headers in [ours, other, "Origin: null\r\n", ""] {
        let answer = s.get("/open/a", headers);
        assert_eq!((answer.text(), allowed(&answer)), ("a", [Some("*"), None]));
        assert_eq!(answer.header("vary"), None);
    }
    let mut s = site(&[("a", "a")], "");
    assert_eq!(allowed(&s.get("/a", ours)), [None; 2]);
}

#[test]
fn a_preflight_is_answered_before_passwords_and_redirects() {
    let s = site(&[("a", "a")], "");
    fs::write(s.path("users"), "").expect("a file");
    let lines = format!(
        "auth = {{ file = {:?} }}\nredirect = [{{ from = '/moved', to = '/a' }}]\n\
         cors = {{ origins = ['https://a.example'], credentials = true, methods = 'PUT', headers = '*', max_age = '10m' }}",
        s.path("users")
    );
    let mut s = site(&[("a", "a")], &lines);
    let asks = "Host: h\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: authorization\r\n";
    for target in ["/a", "/moved", "/none"] {
        let headers = format!("{asks}Origin: https://a.example\r\n");
        let answer = s.ask("OPTIONS", target, &headers);
        assert_eq!(answer.status, 204);
        assert_eq!(allowed(&answer), [Some("https://a.example"), Some("true")]);
        for (name, value) in [
            ("access-control-allow-methods", "PUT"),
            ("access-control-allow-headers", "authorization"),
            ("access-control-max-age", "600"),
            ("vary", "Origin, Access-Control-Request-Headers"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{target}");
        }
    }
    // Another origin is told nothing, and is let in no further.
    let answer = s.ask(
        "OPTIONS",
        "/a",
        &format!("{asks}Origin: https://b.example\r\n"),
    );
    assert_eq!((answer.status, allowed(&answer)), (204, [None; 2]));
    assert_eq!(answer.header("access-control-allow-methods"), None);
    // What is no preflight needs the password, and a page is told that it does.
    let answer = s.ask("OPTIONS", "/a", "Host: h\r\nOrigin: https://a.example\r\n");
    assert_eq!(
        (answer.status, allowed(&answer)),
        (401, [Some("https://a.example"), Some("true")])
    );
    let answer = s.get("/a", "Origin: https://a.example\r\n");
    assert_eq!(
        (answer.status, allowed(&answer)[0]),
        (401, Some("https://a.example"))
    );
}

/// The names in a tar of small files with short names.
fn names(tar: &[u8]) -> Vec<String> {
    let blocks = tar.chunks(512);
    let headers = blocks.filter(|block| block.get(257..262) == Some(b"ustar"));
    let name = |block: &[u8]| {
        String::from_utf8_lossy(&block[..100])
            .trim_end_matches('\0')
            .to_owned()
    };
    headers.map(name).collect()
}

#[test]
fn a_folder_that_is_listed_can_be_had_as_one_file() {
    let mut s = site(
        &[
            ("photos/a", "1"),
            ("photos/b/c", "2"),
            ("site/index.html", "i"),
            ("site/x", ""),
            ("real.tar", "t"),
            ("real/", ""),
        ],
        "listing = true\nheaders = { X-A = 'b' }",
    );
    for target in [
        "/photos/?archive=tar",
        "/photos.tar",
        "/photos/?sort=size&download=tar",
        "/photos/?tar",
    ] {
        let tar = s.get(target, "");
        assert_eq!(tar.status, 200, "{target}");
        assert_eq!(
            names(&tar.body),
            ["photos/", "photos/a", "photos/b/", "photos/b/c"]
        );
        for (name, value) in [
            ("content-type", "application/x-tar"),
            ("content-disposition", "attachment; filename=\"photos.tar\""),
            ("cache-control", "no-cache"),
            ("x-content-type-options", "nosniff"),
            ("transfer-encoding", "chunked"),
            ("x-a", "b"),
        ] {
            assert_eq!(tar.header(name), Some(value), "{target}");
        }
    }
    let zip = s.get("/photos.zip", "");
    assert_eq!(zip.header("content-type"), Some("application/zip"));
    assert!(zip.body.starts_with(b"PK\x03\x04") && zip.body.ends_with(&[0; 2]));
    let root = s.get("/?archive=tar", "");
    assert_eq!(
        root.header("content-disposition"),
        Some("attachment; filename=\"files.tar\"")
    );
    assert!(names(&root.body).contains(&"files/photos/b/c".to_owned()));
    // Not what has an index, what has a file of that name, what is hidden, or what is not there.
    assert_eq!(s.get("/site/?archive=tar", "").text(), "i");
    assert_eq!(s.get("/site.tar", "").status, 404);
    assert_eq!(s.get("/real.tar", "").text(), "t");
    for target in [
        "/none.tar",
        "/photos/a.tar",
        "/.tar",
        "/photos/.zip",
        "/photos.tar/",
        "/photos.rar",
    ] {
        assert_eq!(s.get(target, "").status, 404, "{target}");
    }
    // The page has buttons for it and no links, which `wget -r` would follow in every folder.
    let page = s.get("/photos/", "").text().to_owned();
    assert!(
        page.contains("<button name=\"archive\" value=\"zip\">zip</button>"),
        "{page}"
    );
    assert!(!page.contains("?archive="), "{page}");
    assert_eq!(
        s.get("/photos?archive=zip", "").header("location"),
        Some("/photos/?archive=zip")
    );
    s.bench.expect_open();
}

#[test]
fn a_head_has_the_head_and_a_condition_that_cannot_hold_fails() {
    let mut s = site(&[("d/a", "1")], "listing = true");
    let head = s.ask("HEAD", "/d.tar", "Host: h\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), Some("application/x-tar"));
    assert_eq!(s.get("/d.tar", "If-Match: \"x\"\r\n").status, 412);
    assert_eq!(
        s.get("/d.tar", "If-None-Match: \"x\"\r\nRange: bytes=0-1\r\n")
            .status,
        200
    );
    assert_eq!(
        s.ask("POST", "/d.tar", "Host: h\r\nContent-Length: 0\r\n")
            .status,
        405
    );
    s.bench.expect_open();
}

#[test]
fn archives_are_off_where_listings_are_or_where_it_is_said() {
    for lines in ["", "listing = true\narchive = false"] {
        let mut s = site(&[("d/a", "1")], lines);
        assert_eq!(s.get("/d.tar", "").status, 404, "{lines}");
        let folder = s.get("/d/?archive=tar", "");
        assert_eq!(folder.header("content-disposition"), None);
        assert!(!folder.text().contains("<form>"), "{}", folder.text());
    }
    // A page that reads paths for itself does not get those of archives.
    let mut s = site(
        &[("d/a", "1"), ("app.html", "app")],
        "listing = true\nspa = 'app.html'",
    );
    let html = "Accept: text/html\r\n";
    assert_eq!(
        s.get("/d.tar", html).header("content-type"),
        Some("application/x-tar")
    );
    assert_eq!(s.get("/e.tar", html).text(), "app");
}

#[test]
fn what_is_for_another_site_is_not_packed() {
    let lines = "root = 'ROOT'\nlisting = true\n\
        [[listener.site]]\nprefix = '/private/'\nroot = 'ROOT/private'\n\
        [[listener.site]]\nhost = 'a.example'\nprefix = '/x/y/'\nroot = 'ROOT/x/y'\nlisting = true\n";
    let files = [
        ("a", "1"),
        ("private/b", "2"),
        ("x/y/c", "3"),
        ("x/d", "4"),
        ("x/private/e", "5"),
    ];
    let mut s = site(&files, lines);
    let all = names(&s.get("/?archive=tar", "").body);
    let expected = [
        "files/",
        "files/a",
        "files/x/",
        "files/x/d",
        "files/x/private/",
        "files/x/private/e",
    ];
    assert_eq!(all, expected);
    let own = s.ask("GET", "/x/y/?archive=tar", "Host: a.example\r\n");
    assert_eq!(names(&own.body), ["y/", "y/c"]);
    // What the sites themselves refuse.
    assert_eq!(s.get("/private.tar", "").status, 404);
}

#[test]
fn an_old_client_and_one_with_a_body_get_the_archive_as_the_last_answer() {
    let request = "GET /d.tar HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut s = site(&[("d/a", "1")], "listing = true");
    s.bench.peer_sends(request.as_bytes());
    let end_is_framing = s.bench.down.end_is_framing;
    let bytes = s.bench.received();
    let head_bytes = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .expect("a head")
        + 4;
    let head = String::from_utf8_lossy(&bytes[..head_bytes]);
    assert!(
        head.contains("Connection: close\r\n") && !head.contains("chunked"),
        "{head}"
    );
    assert!(end_is_framing, "so that what is cut does not look whole");
    assert_eq!(names(&bytes[head_bytes..]), ["d/", "d/a"]);
    s.bench.expect_closed();

    let mut s = site(&[("d/a", "1")], "listing = true");
    let answer = s.get("/d.tar", "Content-Length: 3\r\n");
    assert_eq!(
        (answer.status, answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(names(&answer.body), ["d/", "d/a"]);
    s.bench.expect_closed();
}

#[test]
fn an_archive_waits_for_its_client_and_is_logged_when_it_is_queued() {
    let mut s = site(
        &[
            ("d/a", &"a".repeat(2_000_000)),
            ("d/b", &"b".repeat(2_000_000)),
            ("z", "last"),
        ],
        "listing = true\naccess_log = 'ROOT/../log-of-archives'",
    );
    let log = s.folder.path().with_file_name("log-of-archives");
    s.bench.peer_takes_only(100_000);
    s.bench
        .peer_sends(b"GET /d.zip HTTP/1.1\r\nHost: h\r\n\r\nGET /z HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(s.bench.received().len(), 100_000);
    assert_eq!(fs::read_to_string(&log).expect("a log"), "");
    s.bench.peer_takes_only(usize::MAX);
    let rest = s.bench.received();
    assert!(
        rest.len() > 3_900_000 && rest.ends_with(b"\r\n\r\nlast"),
        "{}",
        rest.len()
    );
    let lines = fs::read_to_string(&log).expect("a log");
    fs::remove_file(&log).expect("removed");
    let lines: Vec<_> = lines.lines().collect();
    assert!(
        lines[0].contains("\"GET /d.zip HTTP/1.1\" 200 4000"),
        "{lines:?}"
    );
    assert!(lines[1].contains("\"GET /z HTTP/1.1\" 200 4"), "{lines:?}");
    s.bench.expect_open();
}

#[test]
fn an_archive_that_cannot_be_whole_ends_without_its_end() {
    let mut s = site(
        &[("d/a/b", "1"), ("d/c", "2")],
        "listing = true\nmax_archive_depth = 0",
    );
    s.bench
        .peer_sends(b"GET /d.tar HTTP/1.1\r\nHost: h\r\n\r\n");
    let bytes = s.bench.received();
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && !bytes.ends_with(b"0\r\n\r\n"));
    assert!(
        matches!(s.bench.failed, Some(Error::Refused(_))),
        "{:?}",
        s.bench.failed
    );
}

#[test]
fn archives_at_once_are_bounded() {
    let mut s = site(
        &[("d/a", &"x".repeat(2_000_000))],
        "listing = true\nmax_archives = 1",
    );
    s.bench.peer_takes_only(1000);
    s.bench
        .peer_sends(b"GET /d.zip HTTP/1.1\r\nHost: h\r\n\r\n");
    let first = s.bench.next_client();
    let refused = s.get("/d.zip", "");
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (503, Some("1"))
    );
    assert_eq!(
        s.ask("HEAD", "/d.zip", "Host: h\r\n").status,
        200,
        "that sends none"
    );
    assert_eq!(counted(&s).refused[Limit::Archives as usize], 1);
    s.bench.ends(first);
    assert_eq!(s.get("/d.zip", "").status, 200);
}

#[test]
fn a_readme_stands_under_its_listing() {
    let mut s = site(
        &[
            ("d/README.md", "# Title\n\n<b>not bold</b>\n"),
            ("d/a", ""),
            ("e/readme", "plain"),
            ("f/README/x", ""),
            ("g/README.html", "<p>"),
        ],
        "listing = true\nmax_readme_bytes = 100",
    );
    let page = s.get("/d/", "");
    let text = page.text().to_owned();
    assert!(text.contains("<h2><a href=\"./README.md\">README.md</a></h2>\n<pre>\n# Title\n\n&lt;b&gt;not bold&lt;/b&gt;\n</pre>"), "{text}");
    assert!(text.ends_with("</section>\n</html>\n"), "{text}");
    assert!(s.get("/e/", "").text().contains("<pre>\nplain\n</pre>"));
    for target in ["/f/", "/g/", "/d/?format=json"] {
        assert!(!s.get(target, "").text().contains("<pre>"), "{target}");
    }
    // It is part of what the tag is for.
    let tag = page.header("etag").expect("a tag").to_owned();
    let asks = format!("If-None-Match: {tag}\r\n");
    assert_eq!(s.get("/d/", &asks).status, 304);
    fs::write(s.path("d/README.md"), "# Tutle\n\n<b>not bold</b>\n").expect("written");
    s.bench.later(std::time::Duration::from_secs(2));
    let page = s.get("/d/", &asks);
    assert!(page.status == 200 && page.text().contains("# Tutle"));
    // It is bounded, and one that may not be read is not there.
    fs::write(s.path("d/README.md"), "line of twenty bytes\n".repeat(10)).expect("written");
    s.bench.later(std::time::Duration::from_secs(2));
    let text = s.get("/d/", "").text().to_owned();
    assert_eq!(text.matches("line of twenty bytes").count(), 4, "{text}");
    assert!(
        text.contains("There is more in <a href=\"./README.md\">README.md</a>"),
        "{text}"
    );
    let none = fs::Permissions::from_mode(0o000);
    fs::set_permissions(s.path("d/README.md"), none).expect("a mode");
    s.bench.later(std::time::Duration::from_secs(2));
    assert_eq!(s.get("/d/", "").status, 200);
    let mut off = site(&[("d/README", "x")], "listing = true\nmax_readme_bytes = 0");
    assert!(!off.get("/d/", "").text().contains("<pre>"));
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<super::Conn>();
    assert!(
        bytes <= 104,
        "{bytes} bytes; ten thousand idle connections pay for each"
    );
}
