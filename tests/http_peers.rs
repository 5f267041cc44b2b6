//! The web server and the programs that others use: curl, wget, ApacheBench, Python's http.client,
//! httplint, REDbot, Chromium. Ignored by default, since they need those programs; continuous
//! integration installs and runs them.
//!
//! `pip install httplint redbot` puts both checkers on the path: httplint reads a response from its
//! standard input, REDbot (`redbot`) asks a server itself, repeatedly.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Nginx, Program, connect, python, temp_dir};
use serde_json::{Value, json};

/// A server with a text, a page and a large file, and further keys; the second listener has the
/// probe routes.
fn server_with(keys: &str) -> Program {
    let server = Program::start(&format!(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \".\"\n{keys}\n\
         [[listener]]\nkind = \"http\"\nname = \"probe\"\nbind = \"127.0.0.1:0\"\nroutes = \"probe\"\n"
    ));
    fs::write(server.path("text.txt"), "one line\n".repeat(1000)).expect("a file");
    fs::write(server.path("page.html"), "<p>hello</p>\n").expect("a file");
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    fs::write(server.path("large.bin"), large).expect("a file");
    server
}

fn server() -> Program {
    server_with("listing = true")
}

/// Stops a server, and reads its `access.log`.
fn stop_and_read_log(mut server: Program) -> String {
    server.terminate();
    assert!(server.wait().success());
    fs::read_to_string(server.path("access.log")).expect("a log")
}

/// Puts compressed copies beside a file, with its time, as whoever keeps the site would.
fn precompress(file: &Path) {
    for tool in ["gzip", "brotli", "zstd"] {
        output(Command::new(tool).arg("-k").arg(file));
    }
}

/// The page for the browser.
fn browser_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser")
}

/// What a command prints; it must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().expect("the tool is there");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{text}{errors}",
        output.status
    );
    text
}

fn curl(server: &Program) -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--max-time", "20"]);
    curl.current_dir(server.path(""));
    curl
}

#[test]
#[ignore = "needs curl"]
fn curl_resumes_asks_again_and_keeps_its_connection() {
    let server = server();
    let urls: Vec<_> = server
        .addresses("http")
        .iter()
        .map(|a| format!("http://{a}"))
        .collect();
    let (site, probe) = (&urls[0], &urls[1]);
    let large = fs::read(server.path("large.bin")).expect("a file");

    fs::write(server.path("part"), &large[..1_234_567]).expect("a file");
    output(curl(&server).args(["-C", "-", "-o", "part", &format!("{site}/large.bin")]));
    assert!(
        fs::read(server.path("part")).expect("a file") == large,
        "resumed"
    );

    let code = ["-o", "/dev/null", "-w", "%{http_code} %{num_connects} "];
    let again =
        output(
            curl(&server)
                .args(code)
                .args(["-z", "text.txt", &format!("{site}/text.txt")]),
        );
    assert_eq!(again, "304 1 ");
    let ranges = output(curl(&server).args(["-r", "0-3,5000-5003", &format!("{site}/text.txt")]));
    assert_eq!(
        ranges.matches("Content-Range: bytes").count(),
        2,
        "{ranges}"
    );

    let (page, nothing) = (format!("{site}/page.html"), format!("{site}/nothing"));
    let three = [
        "-o",
        "/dev/null",
        &page,
        "-o",
        "/dev/null",
        &nothing,
        "-o",
        "/dev/null",
        &page,
    ];
    let kept = output(
        curl(&server)
            .args(["-w", "%{http_code} %{num_connects} "])
            .args(three),
    );
    assert_eq!(kept, "200 1 404 0 200 0 ");
    let old = output(
        curl(&server)
            .args(["--http1.0", "-H", "Connection: keep-alive"])
            .args(code)
            .arg(&page),
    );
    assert_eq!(old, "200 1 ");
    let head = output(curl(&server).args(["-I", &page]));
    assert!(head.contains("Content-Length: 13\r\n"), "{head}");
    let options =
        output(curl(&server).args(["-i", "-X", "OPTIONS", "--request-target", "*", site]));
    assert!(options.contains("Allow: GET, HEAD, OPTIONS"), "{options}");

    // A body of this size makes curl expect 100 Continue first; the second goes in chunks.
    fs::write(server.path("body"), &large[..1_048_576]).expect("a file");
    for header in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
        fs::remove_file(server.path("echo")).ok();
        let body = if header.starts_with('T') {
            "@page.html"
        } else {
            "@body"
        };
        output(curl(&server).args(["-H", header, "--data-binary", body, "-o", "echo", probe]));
        let sent = fs::read(server.path(&body[1..])).expect("a file");
        assert!(
            fs::read(server.path("echo")).expect("a file") == sent,
            "{header}"
        );
    }
    let refused = output(
        curl(&server)
            .args(code)
            .args(["--data-binary", "@large.bin", probe]),
    );
    assert!(refused.starts_with("413"), "{refused}");
    server.stop();
}

#[test]
#[ignore = "needs ab (apache2-utils)"]
fn apache_bench_keeps_http_1_0_connections() {
    let server = server();
    let url = format!("http://{}/page.html", server.address("http"));
    let report = output(Command::new("ab").args(["-q", "-k", "-n", "2000", "-c", "8", &url]));
    let figure = |name: &str| {
        let line = report
            .lines()
            .find(|line| line.starts_with(name))
            .expect("a figure");
        line.split_whitespace().last().expect("a figure").to_owned()
    };
    assert_eq!(figure("Failed requests:"), "0", "{report}");
    assert_eq!(figure("Keep-Alive requests:"), "2000", "{report}");
    assert_eq!(figure("Complete requests:"), "2000", "{report}");
    server.stop();
}

#[test]
#[ignore = "needs python3"]
fn http_client_of_python_works_on_one_connection() {
    let server = server();
    fs::create_dir(server.path("folder")).expect("a folder");
    fs::write(server.path("folder/inside.txt"), "").expect("a file");
    let addresses = server.addresses("http");
    assert_eq!(
        python(
            "http_client.py",
            addresses[0],
            &[&addresses[1].port().to_string()]
        ),
        "ok\n"
    );
    server.stop();
}

#[test]
#[ignore = "needs httplint (pip install httplint)"]
fn httplint_finds_nothing_bad() {
    // What it says of any server that does not send Cache-Control, nginx among them.
    const OF_ALL: &str =
        "This response allows caches to assign their own freshness lifetimes to it.";
    let server = server();
    let requests = [
        "GET /page.html HTTP/1.1",
        "GET /large.bin HTTP/1.1\r\nRange: bytes=5-99",
        "GET /nothing HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "DELETE /page.html HTTP/1.1",
        "GET /page.html HTTP/1.1\r\nRange: bytes=99-",
        "BREW / HTTP/1.1",
        "GET /page.html HTTP/1.1\r\nIf-None-Match: *",
        "GET /page.html HTTP/1.1\r\nIf-Match: \"x\"",
    ];
    let mut bad = Vec::new();
    for request in requests {
        let mut stream = connect(server.address("http"));
        write!(stream, "{request}\r\nHost: h\r\nConnection: close\r\n\r\n").expect("room");
        stream.shutdown(Shutdown::Write).expect("the end");
        let mut response = Vec::new();
        stream.read_to_end(&mut response).expect("a response");
        let mut lint = Command::new("httplint");
        let mut lint = lint
            .arg("-n")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("httplint");
        lint.stdin
            .take()
            .expect("a pipe")
            .write_all(&response)
            .expect("room");
        let notes = lint.wait_with_output().expect("notes").stdout;
        let notes = String::from_utf8_lossy(&notes).into_owned();
        assert!(notes.contains("* ["), "no notes: {notes}");
        let wrong = |line: &&str| {
            (line.contains("[BAD]") || line.contains("[WARN]")) && !line.contains(OF_ALL)
        };
        bad.extend(
            notes
                .lines()
                .filter(wrong)
                .map(|line| format!("{request:?}: {line}")),
        );
    }
    assert!(bad.is_empty(), "{bad:#?}");
    server.stop();
}

#[test]
#[ignore = "needs redbot (pip install redbot), nginx, gzip, brotli and zstd"]
fn redbot_likes_it_no_less_than_nginx() {
    let server = server_with("listing = true\nprecompressed = true");
    let root = server.path("");
    precompress(&root.join("text.txt"));
    fs::copy(browser_folder().join("drawing.svg"), root.join("image.svg")).expect("a copy");
    fs::create_dir(root.join("folder")).expect("a folder");
    fs::copy(root.join("page.html"), root.join("folder/index.html")).expect("a copy");
    fs::create_dir(root.join("listed")).expect("a folder");
    fs::copy(root.join("page.html"), root.join("listed/page.html")).expect("a copy");
    let nginx = Nginx::start(
        &root,
        "include /etc/nginx/mime.types; gzip_static on; autoindex on;",
    );
    let (ours, theirs) = (
        server.address("http").to_string(),
        format!("127.0.0.1:{}", nginx.port),
    );

    let mut worse = Vec::new();
    for path in [
        "/page.html",
        "/text.txt",
        "/image.svg",
        "/folder",
        "/folder/",
        "/listed/",
        "/nothing",
    ] {
        let [ours, theirs] = [&ours, &theirs].map(|server| notes_of_redbot(server, path));
        for note in ours.bad.difference(&theirs.bad) {
            worse.push(format!("{path}: {note}"));
        }
        for note in theirs.good.difference(&ours.good) {
            worse.push(format!("{path}: not {note}"));
        }
        if path == "/text.txt" {
            // It did ask for conditions, ranges and codings.
            for note in ["INM_304", "IMS_304", "RANGE_CORRECT", "CONNEG_GZIP_GOOD"] {
                assert!(ours.good.contains(note), "{note} is not in {:?}", ours.good);
            }
        }
    }
    assert!(worse.is_empty(), "{worse:#?}");
    server.stop();
}

/// What REDbot notes of a resource, by the notes' names.
struct Notes {
    good: BTreeSet<String>,
    /// Errors and warnings.
    bad: BTreeSet<String>,
}

fn notes_of_redbot(server: &str, path: &str) -> Notes {
    let url = format!("http://{server}{path}");
    let har = output(Command::new("redbot").args(["-o", "har", &url]));
    let har: Value = serde_json::from_str(&har).expect("JSON");
    let all = &har["log"]["entries"][0]["_red_messages"];
    let mut left: Vec<_> = all.as_array().expect("notes").iter().collect();
    let mut notes = Notes {
        good: BTreeSet::new(),
        bad: BTreeSet::new(),
    };
    while let Some(note) = left.pop() {
        left.extend(note["subnotes"].as_array().into_iter().flatten());
        let of_level = match note["level"].as_str() {
            Some("GOOD") => &mut notes.good,
            Some("WARN" | "BAD") => &mut notes.bad,
            _ => continue,
        };
        of_level.insert(note["note_id"].as_str().expect("a name").to_owned());
    }
    notes
}

/// What curl gets: the head and the content, decoded if `arguments` say so.
fn get(server: &Program, url: &str, arguments: &[&str]) -> (String, Vec<u8>) {
    let mut curl = curl(server);
    let into = ["-D", "head", "-o", "body"];
    output(curl.args(into).args(arguments).arg(url));
    let head = fs::read_to_string(server.path("head")).expect("a head");
    (head, fs::read(server.path("body")).expect("a body"))
}

#[test]
#[ignore = "needs curl with brotli and zstd, gzip, brotli and zstd"]
fn others_decode_what_was_compressed_on_the_way() {
    let server = server_with("compress = true");
    let lines = (0..20_000_u32).map(|i| format!("{i} {:x}\n", i.wrapping_mul(2_654_435_761)));
    let text: String = lines.collect();
    fs::write(server.path("long.txt"), &text).expect("a file");
    let url = format!("http://{}/long.txt", server.address("http"));
    let mut tags = BTreeSet::new();
    for (coding, tool) in [("br", "brotli"), ("zstd", "zstd"), ("gzip", "gzip")] {
        let accept = format!("Accept-Encoding: {coding}");
        let (head, body) = get(&server, &url, &["--compressed", "-H", &accept]);
        assert_eq!(header(&head, "Content-Encoding"), Some(coding), "{head}");
        assert_eq!(header(&head, "Vary"), Some("Accept-Encoding"), "{head}");
        assert!(body == text.as_bytes(), "{coding}: the content");
        tags.insert(header(&head, "ETag").expect("a tag").to_owned());

        // In two parts, and decoded by the tool that the coding comes from.
        let (_, mut whole) = get(&server, &url, &["-H", &accept, "-r", "0-9999"]);
        let (head, rest) = get(&server, &url, &["-H", &accept, "-r", "10000-"]);
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        whole.extend(rest);
        fs::write(server.path("coded"), whole).expect("a file");
        let mut decoder = Command::new(tool);
        let coded = fs::File::open(server.path("coded")).expect("a file");
        assert!(output(decoder.args(["-d", "-c"]).stdin(coded)) == text);
    }
    assert_eq!(tags.len(), 3, "{tags:?}");
    server.stop();
}

#[test]
#[ignore = "needs curl with brotli and zstd, gzip, brotli and zstd"]
fn curl_decodes_each_copy_that_was_compressed_in_advance() {
    let server = server_with("precompressed = true");
    let text = server.path("text.txt");
    precompress(&text);
    let text = fs::read(text).expect("a file");
    let url = format!("http://{}/text.txt", server.address("http"));
    let get = |arguments: &[&str]| get(&server, &url, arguments);

    let mut tags = BTreeSet::new();
    for (coding, suffix) in [
        ("identity", ""),
        ("gzip", ".gz"),
        ("br", ".br"),
        ("zstd", ".zst"),
    ] {
        let accept = format!("Accept-Encoding: {coding}");
        let copy = fs::read(server.path(&format!("text.txt{suffix}"))).expect("a file");
        let (head, body) = get(&["--compressed", "-H", &accept]);
        assert!(body == text, "{coding}: the content");
        let encoding = (coding != "identity").then_some(coding);
        assert_eq!(header(&head, "Content-Encoding"), encoding, "{head}");
        assert_eq!(header(&head, "Vary"), Some("Accept-Encoding"), "{head}");
        let bytes = copy.len().to_string();
        assert_eq!(header(&head, "Content-Length"), Some(&*bytes), "{head}");
        let tag = header(&head, "ETag").expect("a tag").to_owned();

        // Ranges are of the copy as it is sent.
        let (head, body) = get(&["-H", &accept, "-r", "10-19"]);
        let range = format!("bytes 10-19/{}", copy.len());
        assert_eq!(header(&head, "Content-Range"), Some(&*range), "{head}");
        assert_eq!(header(&head, "ETag"), Some(&*tag), "{head}");
        assert!(body == copy[10..20], "{coding}: the range");
        tags.insert(tag);
    }
    assert_eq!(tags.len(), 4, "{tags:?}");

    // Of all that curl can decode, the one that is best for a text.
    let (head, body) = get(&["--compressed", "--etag-save", "tag"]);
    assert_eq!(header(&head, "Content-Encoding"), Some("br"), "{head}");
    assert!(body == text);
    let (head, _) = get(&["--compressed", "--etag-compare", "tag"]);
    assert!(head.starts_with("HTTP/1.1 304 "), "{head}");
    let (head, body) = get(&["--etag-compare", "tag"]);
    assert!(head.starts_with("HTTP/1.1 200 "), "another copy: {head}");
    assert!(body == text);
    // A download of one copy is not continued with bytes of another.
    let tag = fs::read_to_string(server.path("tag")).expect("a tag");
    let condition = format!("If-Range: {}", tag.trim());
    let (head, body) = get(&["-r", "10-19", "-H", &condition]);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(body == text);
    server.stop();
}

/// The value of a header.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let (_, value) = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .find(|(its, _)| its.eq_ignore_ascii_case(name))?;
    Some(value)
}

#[test]
#[ignore = "needs wget"]
fn wget_continues_asks_again_and_copies_a_folder() {
    let server = server_with("listing = true\naccess_log = \"access.log\"");
    fs::create_dir_all(server.path("a folder/deeper")).expect("a folder");
    fs::write(server.path("a folder/deeper/100% ä?.txt"), "text\n").expect("a file");
    let site = format!("http://{}", server.address("http"));
    let copy = server.path("copy");
    fs::create_dir(&copy).expect("a folder");
    let wget = |arguments: &[&str]| {
        let mut wget = Command::new("wget");
        wget.args(["-nv", "--tries=1", "--timeout=20", "--no-proxy"]);
        output(wget.current_dir(&copy).args(arguments));
    };

    let large = fs::read(server.path("large.bin")).expect("a file");
    fs::write(copy.join("large.bin"), &large[..1_234_567]).expect("a file");
    wget(&["-c", &format!("{site}/large.bin")]);
    assert!(fs::read(copy.join("large.bin")).expect("a file") == large);
    wget(&["-c", &format!("{site}/large.bin")]); // nothing is left to get
    wget(&["-N", &format!("{site}/page.html")]);
    wget(&["-N", &format!("{site}/page.html")]); // nothing has changed

    // Through the links of the listings, but not through those that sort them.
    wget(&[
        "-r",
        "-np",
        "-nH",
        "--reject-regex=[?]",
        "--restrict-file-names=nocontrol",
        &format!("{site}/a%20folder/"),
    ]);
    let name = "a folder/deeper/100% ä?.txt";
    assert_eq!(fs::read(copy.join(name)).expect("a copy"), b"text\n");

    let log = stop_and_read_log(server);
    for line in [
        "\"GET /large.bin HTTP/1.1\" 206 1765433 ",
        "\"GET /large.bin HTTP/1.1\" 416 ",
        "\"GET /page.html HTTP/1.1\" 200 13 ",
        "\"GET /page.html HTTP/1.1\" 304 0 ",
        "\"GET /a%20folder/deeper/100%25%20%C3%A4%3F.txt HTTP/1.1\" 200 5 ",
    ] {
        assert!(log.contains(line), "{line} is not in\n{log}");
    }
}

#[test]
#[ignore = "needs chromium, chromedriver and ffmpeg"]
fn chromium_shows_a_page_and_seeks_in_its_video() {
    const IMAGES: [&str; 5] = [
        "image.png",
        "image.jpg",
        "image.gif",
        "image.avif",
        "one more, 100% ä.webp",
    ];
    let media = temp_dir();
    let picture = "testsrc2=size=96x64:rate=1:duration=1";
    for name in IMAGES {
        ffmpeg(media.path(), picture, &["-frames:v", "1"], name);
    }
    // Forty seconds, large for their noise: a small video would be loaded as a whole before it is
    // sought in. Its index stands at its end.
    let pictures = "testsrc2=size=320x240:rate=25:duration=40,noise=alls=60:allf=t";
    let coding = [
        "-c:v",
        "libx264",
        "-preset",
        "ultrafast",
        "-crf",
        "20",
        "-pix_fmt",
        "yuv420p",
    ];
    ffmpeg(media.path(), pictures, &coding, "video.mp4");
    let server = Program::start(&format!(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = {:?}\naccess_log = \"access.log\"\n\
         [[listener.site]]\nprefix = \"/media/\"\nroot = {:?}\nlisting = true\n",
        browser_folder(),
        media.path()
    ));

    let seen = python("browser.py", server.address("http"), &[]);
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    let page = &seen["page"];
    assert_eq!(
        page["title"], "Pictures and a video",
        "the script ran: {seen}"
    );
    assert_eq!(page["background"], "rgb(1, 2, 3)", "the style sheet");
    let images = page["images"].as_object().expect("images");
    assert_eq!(images.len(), IMAGES.len() + 1);
    for (name, size) in images {
        assert_eq!(*size, json!([96, 64]), "{name}");
    }
    assert_eq!(page["duration"], 40.0);
    let seeks = page["seeks"].as_array().expect("seeks");
    assert_eq!(seeks.len(), 3);
    for seek in seeks {
        assert_eq!(seek["current"], seek["asked"]);
        let frame =
            seek["shown"].as_f64().expect("a time") - seek["asked"].as_f64().expect("a time");
        assert!(frame.abs() < 0.05, "the frame that is shown: {seek}");
    }

    let names = |key: &str| {
        let names = seen[key].as_array().expect("names").iter();
        names
            .map(|name| name.as_str().expect("a name"))
            .collect::<Vec<_>>()
    };
    let mut listed = IMAGES.to_vec();
    listed.push("video.mp4");
    listed.sort_unstable();
    assert_eq!(names("listing"), listed);
    listed.sort_by_key(|name| fs::metadata(media.path().join(name)).expect("a file").len());
    assert_eq!(names("listing_by_size"), listed);
    assert_eq!(
        seen["listing_style"], "collapse",
        "its policy lets its own style in"
    );
    assert_eq!(seen["complaints"], json!([]));

    let log = stop_and_read_log(server);
    assert!(log.contains("\"GET /page.html HTTP/1.1\" 304 0 "), "{log}");
    let video_bytes = fs::metadata(media.path().join("video.mp4"))
        .expect("a file")
        .len();
    let video = "\"GET /media/video.mp4 HTTP/1.1\" ";
    assert!(
        !log.contains(&format!("{video}200 ")),
        "without a range: {log}"
    );
    let starts: Vec<u64> = log
        .lines()
        .filter_map(|line| line.split_once(&format!("{video}206 ")))
        .map(|(_, line)| {
            // The log has the length of the answer, and each range goes to the end of the file.
            let bytes = line.split(' ').next().expect("a word");
            video_bytes - bytes.parse::<u64>().expect("bytes")
        })
        .collect();
    // The beginning, the index, and three quarters of it for what is shown after thirty seconds of
    // forty.
    let is_near = |part: f64| {
        let near = |start: &u64| (*start as f64 / video_bytes as f64 - part).abs() < 0.05;
        starts.iter().any(near)
    };
    assert!(is_near(0.0) && is_near(0.75) && is_near(1.0), "{starts:?}");
}

/// Makes a file of generated pictures.
fn ffmpeg(folder: &Path, source: &str, arguments: &[&str], name: &str) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", source]);
    output(ffmpeg.args(arguments).arg(folder.join(name)));
}
