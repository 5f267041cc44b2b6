//! `get` against scripted servers and proxies.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use crate::harness::{
    CA_FILE, Ended, accept_tls, accept_tls_as, command, read_to, run, run_with, tcp_server,
};

/// Answers each connection's one request, given as its text, with the bytes that `answer` makes.
fn http_server(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + Clone + 'static) -> SocketAddr {
    tcp_server(move |mut stream| {
        let request = read_to(&mut stream, "\r\n\r\n");
        let _ = stream.write_all(&answer(&request));
    })
}

fn with_length(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn get(arguments: &[&str]) -> Ended {
    let mut all = vec!["get"];
    all.extend(arguments);
    run(&all)
}

#[test]
fn host_port_path_prints_what_the_server_sent() {
    let sent = "HTTP/1.1 200 Fine\r\nX-Odd:  1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n";
    let server = http_server(move |request| {
        assert!(
            request.starts_with("GET /HelloWorld.html HTTP/1.1\r\nHost: 127.0.0.1:"),
            "{request}"
        );
        sent.as_bytes().to_vec()
    });
    let ended = get(&["127.0.0.1", &server.port().to_string(), "/HelloWorld.html"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, sent, "")
    );
    let missing = http_server(|_| with_length("404 Not Found", "", b"no"));
    let ended = get(&["127.0.0.1", &missing.port().to_string(), "x"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno")
    );
    assert_eq!(
        get(&["127.0.0.1", &missing.port().to_string(), "x", "--fail"]).code,
        1
    );
}

#[test]
fn a_url_prints_the_body_and_follows_redirects() {
    let server = http_server(|request| {
        match request.split(' ').nth(1).unwrap_or_default() {
        "/a/first" => with_length("302 Found", "Location: ../second?x=1\r\n", b"gone"),
        "/second?x=1" => b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n".to_vec(),
        "/loop" => with_length("301 Moved", "Location: /loop\r\n", b""),
        "/old" => b"HTTP/1.0 200 OK\r\n\r\nuntil the end".to_vec(),
        "/away" => with_length("302 Found", "Location: ftp://x/\r\n", b""),
        _ => with_length("503 Busy", "", b"later"),
    }
    });
    let get = |path: &str, flags: &[&str]| {
        let url = format!("http://{server}{path}");
        let mut arguments = vec![url.as_str()];
        arguments.extend(flags);
        get(&arguments)
    };
    let ended = get("/a/first", &[]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "abcde", "")
    );
    assert_eq!(get("/a/first", &["--max-redirects", "0"]).stdout, "gone");
    let ended = get("/loop", &["--max-redirects", "3"]);
    assert_eq!(
        (ended.code, ended.stderr.contains("more than 3 redirects")),
        (69, true),
        "{ended:?}"
    );
    assert_eq!(get("/old", &[]).stdout, "until the end");
    assert!(get("/away", &[]).stderr.contains("only http and https"));
    assert_eq!(get("/busy", &[]).stdout, "later");
    let ended = get("/busy", &["--fail"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (75, ""));
    assert!(
        ended.stderr.ends_with("the server answered 503 Busy\n"),
        "{}",
        ended.stderr
    );
}

#[test]
fn head_include_headers_timing_and_json() {
    let server = http_server(|request| {
        let has_header =
            request.contains("\r\nX-Mine: 1\r\n") && request.matches("User-Agent").count() == 1;
        let body: &[u8] = if request.starts_with("HEAD") {
            b""
        } else {
            b"body"
        };
        if !has_header {
            return with_length("200 OK", "", body);
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n".to_vec();
        [head, body.to_vec()].concat()
    });
    let url = format!("http://{server}/");
    let headers = ["-H", "X-Mine: 1", "-H", "User-Agent: me"];
    let mut arguments = vec![url.as_str(), "-I"];
    arguments.extend(headers);
    assert_eq!(
        get(&arguments).stdout,
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
    );
    assert_eq!(
        get(&[&url, "-i"]).stdout,
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"
    );
    let ended = get(&[&url, "--timing"]);
    assert_eq!(ended.stdout, "body");
    for part in ["resolve", "connect", "TLS", "first byte", "body", "total"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    let figures: serde_json::Value = serde_json::from_str(&get(&[&url, "--json"]).stdout).unwrap();
    assert_eq!(
        (figures["status"].as_u64(), figures["body"].as_str()),
        (Some(200), Some("body"))
    );
    assert_eq!(get(&[&url, "-H", "nonsense"]).code, 2);
}

#[test]
fn files_are_written_and_resumed() {
    let content: Vec<u8> = (0..100_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let whole = content.clone();
    let server = http_server(move |request| {
        let Some(range) = request.split("Range: bytes=").nth(1) else {
            return with_length("200 OK", "", &whole);
        };
        let from: usize = range.split('-').next().unwrap().parse().unwrap();
        if from >= whole.len() {
            return with_length(
                "416 No",
                &format!("Content-Range: bytes */{}\r\n", whole.len()),
                b"",
            );
        }
        let range = format!(
            "Content-Range: bytes {from}-{}/{}\r\n",
            whole.len() - 1,
            whole.len()
        );
        with_length("206 Partial", &range, &whole[from..])
    });
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    let (url, path_text) = (
        format!("http://{server}/dir/a%20b.bin"),
        path.to_str().unwrap(),
    );
    assert_eq!(get(&[&url, "-o", path_text]).code, 0);
    assert!(std::fs::read(&path).unwrap() == content);
    std::fs::write(&path, &content[..30_000]).unwrap();
    assert_eq!(get(&[&url, "-C", "-o", path_text]).code, 0);
    assert!(std::fs::read(&path).unwrap() == content);
    let ended = get(&[&url, "-C", "-o", path_text]);
    assert_eq!(
        (ended.code, ended.stderr.contains("complete already")),
        (0, true),
        "{ended:?}"
    );
    let mut remote = command(&["get", &url, "-O"]);
    remote.current_dir(folder.path());
    assert_eq!(run_with(remote, b"").code, 0);
    assert!(std::fs::read(folder.path().join("a b.bin")).unwrap() == content);
    assert_eq!(get(&[&url, "-C"]).code, 2);
}

#[test]
fn an_answer_that_ends_early_is_a_failure() {
    let server = http_server(
        |request| match request.split(' ').nth(1).unwrap_or_default() {
            "/length" => b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec(),
        },
    );
    let ended = get(&[&format!("http://{server}/length")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (69, "half"));
    assert!(
        ended.stderr.contains("too early, 6 bytes are missing"),
        "{}",
        ended.stderr
    );
    assert_eq!(get(&[&format!("http://{server}/chunks")]).code, 69);
}

#[test]
fn compressed_bodies() {
    let server = http_server(|request| {
        let body = "a long long long text ".repeat(1000);
        let accepted = request.contains("Accept-Encoding: gzip, deflate");
        match request.split(' ').nth(1).unwrap_or_default() {
            "/gzip" if accepted => {
                let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
                gzip.write_all(body.as_bytes()).unwrap();
                with_length(
                    "200 OK",
                    "Content-Encoding: gzip\r\n",
                    &gzip.finish().unwrap(),
                )
            }
            "/deflate" if accepted => {
                let mut deflate = ZlibEncoder::new(Vec::new(), Compression::default());
                deflate.write_all(body.as_bytes()).unwrap();
                with_length(
                    "200 OK",
                    "Content-Encoding: deflate\r\n",
                    &deflate.finish().unwrap(),
                )
            }
            "/broken" if accepted => with_length(
                "200 OK",
                "Content-Encoding: gzip\r\n",
                b"\x1f\x8bnonsense of a kind",
            ),
            _ => with_length("200 OK", "", body.as_bytes()),
        }
    });
    for path in ["gzip", "deflate", "plain"] {
        let ended = get(&[&format!("http://{server}/{path}"), "--compressed"]);
        assert_eq!(
            (ended.code, ended.stdout.len()),
            (0, 22_000),
            "{path}: {}",
            ended.stderr
        );
    }
    let ended = get(&[&format!("http://{server}/broken"), "--compressed"]);
    assert_eq!(
        (
            ended.code,
            ended.stderr.contains("the compressed body is broken")
        ),
        (69, true),
        "{ended:?}"
    );
}

#[test]
fn an_output_that_is_full_is_named() {
    let server = http_server(|_| with_length("200 OK", "", b"body"));
    let url = format!("http://{server}/");
    let port = server.port().to_string();
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for form in [&[url.as_str()][..], &["127.0.0.1", &port, "/"]] {
        for (flags, named) in [
            (&["-o", "/dev/full"][..], "/dev/full"),
            (&[], "standard output"),
        ] {
            let mut arguments = vec!["get"];
            arguments.extend(form.iter().chain(flags));
            let output = command(&arguments).stdout(full()).output().unwrap();
            let told = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(74), "{told}");
            let words = format!("netlab-reactor get: writing to {named}: No space left on device");
            assert!(
                told.starts_with(&words) && told.lines().count() == 1,
                "{told}"
            );
        }
    }
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_server() {
    let secrets = [
        "Authorization: Bearer x",
        "cookie: a=b",
        "Proxy-Authorization: y",
        "Host: first.test",
    ];
    let other = http_server(|request| with_length("200 OK", "", request.as_bytes()));
    let server = http_server(move |request| match request.contains(" /here ") {
        true => with_length("200 OK", "", request.as_bytes()),
        false if request.contains(" /away ") => {
            with_length("302 Found", &format!("Location: http://{other}/\r\n"), b"")
        }
        false => with_length("302 Found", "Location: /here\r\n", b""),
    });
    for (path, kept) in [("first", true), ("away", false)] {
        let url = format!("http://{server}/{path}");
        let mut arguments = vec![url.as_str(), "-H", "X-Other: z"];
        arguments.extend(secrets.iter().flat_map(|secret| ["-H", secret]));
        let ended = get(&arguments);
        for secret in secrets {
            assert_eq!(ended.stdout.contains(secret), kept, "{path}: {ended:?}");
        }
        assert!(ended.stdout.contains("X-Other: z\r\n"), "{ended:?}");
        assert_eq!(ended.stdout.matches("Host: ").count(), 1, "{ended:?}");
    }
}

#[test]
fn https_with_an_authority_of_ones_own() {
    let server = tcp_server(|stream| {
        let mut stream = accept_tls(stream);
        if read_to(&mut stream, "\r\n\r\n").ends_with("\r\n\r\n") {
            let _ = stream.write_all(&with_length("200 OK", "", b"secret"));
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    let url = format!("https://localhost:{}/", server.port());
    let ended = get(&[&url, "--ca-file", CA_FILE, "-4"]);
    assert_eq!(
        (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
        (0, "secret", "")
    );
    let ended = get(&[&url, "--ca-file", CA_FILE, "--tls-name", "other.test"]);
    assert_eq!(ended.code, 69);
    assert!(
        ended.stderr.contains("TLS: invalid peer certificate")
            && ended.stderr.contains("while starting TLS"),
        "{ended:?}"
    );
    // Somebody who speaks no TLS there.
    let plain = tcp_server(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let url = format!("https://localhost:{}/", plain.port());
    let ended = get(&[&url, "--ca-file", CA_FILE, "-4"]);
    assert_eq!(ended.code, 69, "{ended:?}");
    assert!(
        ended
            .stderr
            .contains("TLS: the server does not speak TLS there"),
        "{ended:?}"
    );
}

#[test]
fn a_certificate_that_signs_itself_is_trusted_by_its_own_file() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    for is_authority in [true, false] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        if is_authority {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let (certificate, key) = (own.der().clone(), key.serialize_der());
        let server = tcp_server(move |stream| {
            let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.clone());
            let mut stream = accept_tls_as(stream, certificate.clone(), key.into());
            if read_to(&mut stream, "\r\n\r\n").ends_with("\r\n\r\n") {
                let _ = stream.write_all(&with_length("200 OK", "", b"own"));
                let _ = stream.flush();
            }
        });
        let file = folder.path().join("own.pem");
        std::fs::write(&file, own.pem()).unwrap();
        let file = file.to_str().unwrap();
        let url = format!("https://localhost:{}/", server.port());
        let ended = get(&[&url, "-4", "--ca-file", file]);
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr.as_str()),
            (0, "own", "")
        );
        for (flags, words) in [
            (
                &["--ca-file", file, "--tls-name", "other.test"][..],
                "invalid peer certificate: it is for localhost, not for other.test",
            ),
            (
                &["--ca-file", CA_FILE],
                match is_authority {
                    true => "it is the certificate of an authority",
                    false => "no authority that is trusted has signed it",
                },
            ),
        ] {
            let ended = get(&[&[&url, "-4"], flags].concat());
            assert_eq!(ended.code, 69);
            assert!(ended.stderr.contains(words), "{ended:?}");
        }
    }
}

fn tunnel(mut client: TcpStream, origin: SocketAddr) {
    let mut origin = TcpStream::connect(origin).unwrap();
    let (mut from_client, mut to_origin) =
        (client.try_clone().unwrap(), origin.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_origin));
    let _ = std::io::copy(&mut origin, &mut client);
}

#[test]
fn a_body_until_the_end_is_whole_only_if_tls_says_so() {
    for (response, announced, code) in [
        ("HTTP/1.1 200 OK\r\n\r\nall", true, 0),
        ("HTTP/1.1 200 OK\r\n\r\nall", false, 69),
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nall", false, 0),
    ] {
        let server = tcp_server(move |stream| {
            let mut stream = accept_tls(stream);
            read_to(&mut stream, "\r\n\r\n");
            let _ = stream.write_all(response.as_bytes());
            if announced {
                stream.conn.send_close_notify();
            }
            let _ = stream.flush();
        });
        let url = format!("https://localhost:{}/", server.port());
        let ended = get(&[&url, "--ca-file", CA_FILE, "-4"]);
        assert_eq!(
            (ended.code, ended.stdout.as_str()),
            (code, "all"),
            "{ended:?}"
        );
    }
}

#[test]
fn proxies_from_flag_and_environment() {
    let origin = tcp_server(|stream| {
        let mut stream = accept_tls(stream);
        read_to(&mut stream, "\r\n\r\n");
        let _ = stream.write_all(&with_length("200 OK", "", b"through"));
    });
    let proxy = tcp_server(move |mut stream| {
        let request = read_to(&mut stream, "\r\n\r\n");
        if request.starts_with("CONNECT localhost:") {
            stream.write_all(b"HTTP/1.1 200 Go\r\n\r\n").unwrap();
            tunnel(stream, origin);
        } else if request.starts_with("GET http://far.test/x HTTP/1.1\r\nHost: far.test\r\n") {
            stream
                .write_all(&with_length("200 OK", "", b"proxied"))
                .unwrap();
        } else {
            stream.write_all(&with_length("403 No", "", b"")).unwrap();
        }
    });
    let proxy = format!("http://{proxy}");
    assert_eq!(
        get(&["http://far.test/x", "--proxy", &proxy]).stdout,
        "proxied"
    );
    let mut from_environment = command(&["get", "http://far.test/x"]);
    from_environment.env("http_proxy", &proxy);
    assert_eq!(run_with(from_environment, b"").stdout, "proxied");
    let direct = http_server(|_| with_length("200 OK", "", b"direct"));
    let mut exempt = command(&["get", &format!("http://{direct}/")]);
    exempt
        .env("http_proxy", &proxy)
        .env("no_proxy", "127.0.0.1");
    assert_eq!(run_with(exempt, b"").stdout, "direct");
    let https = format!("https://localhost:{}/", origin.port());
    let ended = get(&[&https, "--proxy", &proxy, "--ca-file", CA_FILE]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, "through"),
        "{ended:?}"
    );
    let ended = get(&[
        "https://127.0.0.1:1/",
        "--proxy",
        &proxy,
        "--ca-file",
        CA_FILE,
    ]);
    assert!(
        ended.stderr.contains("the proxy answered 403 No"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let server = http_server(|_| with_length("200 OK", "", &vec![b'x'; 5_000_000]));
    let mut child = command(&["get", &format!("http://{server}/")])
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut first).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn odd_heads_are_read_and_shown_as_they_came() {
    for head in [
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\n\tc\r\nContent-Length: 4\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length\t : 4\r\n\r\n",
        "HTTP/1.1 999 Odd\r\nContent-Length:\r\n 4\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length : 4\n\n",
    ] {
        let server = http_server(move |_| [head, "body"].concat().into_bytes());
        let ended = get(&[&format!("http://{server}/"), "-i"]);
        let expected = [head, "body"].concat();
        assert_eq!(
            (ended.code, ended.stdout),
            (0, expected.clone()),
            "{head:?}"
        );
        let ended = get(&["127.0.0.1", &server.port().to_string(), "/"]);
        assert_eq!((ended.code, ended.stdout), (0, expected), "{head:?}");
    }
    // What frames a body in two ways is refused, folded or not.
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n";
    let server = http_server(move |_| head.as_bytes().to_vec());
    assert_eq!(get(&[&format!("http://{server}/")]).code, 69);
}

#[test]
fn codings_in_one_line_or_in_two_are_undone() {
    use flate2::write::DeflateEncoder;
    let text = "a long long long text ".repeat(1000);
    let body = text.clone();
    let server = http_server(move |request| {
        let (mut zlib, mut bare) = (
            ZlibEncoder::new(Vec::new(), Compression::default()),
            DeflateEncoder::new(Vec::new(), Compression::default()),
        );
        zlib.write_all(body.as_bytes()).unwrap();
        bare.write_all(body.as_bytes()).unwrap();
        let (zlib, bare) = (zlib.finish().unwrap(), bare.finish().unwrap());
        let mut both = GzEncoder::new(Vec::new(), Compression::default());
        both.write_all(&zlib).unwrap();
        let both = both.finish().unwrap();
        let (headers, packed) = match request.split(' ').nth(1).unwrap_or_default() {
            "/one-line" => ("Content-Encoding: deflate, GZip\r\n", both),
            "/two-lines" => (
                "Content-Encoding: deflate\r\nX: y\r\ncontent-encoding: gzip\r\n",
                both,
            ),
            "/identity" => ("Content-Encoding: identity, deflate,\r\n", zlib),
            _ => ("Content-Encoding: deflate\r\n", bare),
        };
        with_length("200 OK", headers, &packed)
    });
    for path in ["one-line", "two-lines", "identity", "bare"] {
        let url = format!("http://{server}/{path}");
        let ended = get(&[&url, "--compressed"]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{path}");
        assert!(ended.stdout == text, "{path}");
    }
}

#[test]
fn what_json_keeps_is_bounded() {
    let server = http_server(|request| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        let zeros = vec![b'x'; 1 << 20];
        let pieces = if request.contains(" /bomb ") { 65 } else { 1 };
        for _ in 0..pieces {
            gzip.write_all(&zeros).unwrap();
        }
        let packed = gzip.finish().unwrap();
        with_length("200 OK", "Content-Encoding: gzip\r\n", &packed)
    });
    let bomb = format!("http://{server}/bomb");
    let ended = get(&[&bomb, "--compressed", "--json"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (74, ""));
    assert_eq!(
        ended.stderr,
        "netlab-reactor get: the body is larger than 64.0 MiB: --max-size sets the limit, -o FILE needs none\n"
    );
    // A file and standard output take all of it, unless a limit was set.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("out");
    let file = file.to_str().unwrap();
    let ended = get(&[&bomb, "--compressed", "--json", "-o", file]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(std::fs::metadata(file).unwrap().len(), 65 << 20);
    let small = format!("http://{server}/small");
    for (size, code) in [("1MiB", 0), ("1048575", 74)] {
        for flags in [&["--json"][..], &["-o", file], &[]] {
            let ended = get(&[&[&small, "--compressed", "--max-size", size], flags].concat());
            assert_eq!(ended.code, code, "{size} {flags:?}: {}", ended.stderr);
        }
    }
    let port = server.port().to_string();
    let raw = ["127.0.0.1", &port, "/", "--json", "--max-size", "100"];
    assert_eq!(get(&raw).code, 74);
}

#[test]
fn locations_beyond_ascii_and_dots_lead_where_they_mean() {
    let server = http_server(|request| {
        let target = request.split(' ').nth(1).unwrap_or_default();
        let location: &[u8] = match target {
            "/latin" => b"/caf\xe9?\xfc=1",
            "/utf8" => "/café".as_bytes(),
            _ => return with_length("200 OK", "", target.as_bytes()),
        };
        let head = [
            b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: ",
            location,
            b"\r\n\r\n",
        ];
        head.concat()
    });
    for (path, asked) in [
        ("/latin", "/caf%E9?%FC=1"),
        ("/utf8", "/caf%C3%A9"),
        ("/a/./b/../c", "/a/c"),
        ("/../x?y=/../z", "/x?y=/../z"),
        ("/a/%2e%2E/x", "/x"),
    ] {
        let ended = get(&[&format!("http://{server}{path}")]);
        assert_eq!((ended.code, ended.stdout.as_str()), (0, asked), "{path}");
    }
    // The other form sends what was typed.
    let port = server.port().to_string();
    let ended = get(&["127.0.0.1", &port, "/a/../b"]);
    assert!(ended.stdout.ends_with("\r\n\r\n/a/../b"), "{ended:?}");
}

#[test]
fn a_complete_file_is_told_from_one_that_is_too_long() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out");
    std::fs::write(&path, "12345").unwrap();
    for (range, code, words) in [
        ("", 0, "the file is complete already"),
        (
            "Content-Range: bytes */5\r\n",
            0,
            "the file is complete already",
        ),
        (
            "Content-Range: Bytes */5\r\n",
            0,
            "the file is complete already",
        ),
        (
            "Content-Range: bytes */4\r\n",
            69,
            "the server has another length",
        ),
        (
            "Content-Range: bytes */6\r\n",
            69,
            "the server has another length",
        ),
    ] {
        let server = http_server(move |_| with_length("416 No", range, b"an error page"));
        let url = format!("http://{server}/");
        let ended = get(&[&url, "-C", "-o", path.to_str().unwrap()]);
        assert_eq!(ended.code, code, "{ended:?}");
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"12345");
    }
}

/// Fetches with a proxy in the environment that answers "proxied", and exemptions from it.
fn through_environment(url: &str, proxy: &str, no_proxy: &str) -> Ended {
    let mut command = command(&["get", url, "-4"]);
    command.env("http_proxy", proxy).env("no_proxy", no_proxy);
    run_with(command, b"")
}

#[test]
fn exemptions_from_the_proxy_by_range_and_with_dots_and_blanks() {
    let direct = http_server(|_| with_length("200 OK", "", b"direct"));
    let proxy = http_server(|_| with_length("200 OK", "", b"proxied"));
    let proxy = format!("http://{proxy}");
    let port = direct.port();
    for (host, no_proxy, body) in [
        ("127.0.0.1", "a.test 127.0.0.0/8", "direct"),
        ("127.0.0.1", "10.0.0.0/8,192.168.0.0/16", "proxied"),
        ("localhost", "localhost.", "direct"),
        ("localhost", " x , localhost ", "direct"),
        ("localhost", "notlocalhost host", "proxied"),
    ] {
        let ended = through_environment(&format!("http://{host}:{port}/"), &proxy, no_proxy);
        assert_eq!(ended.stdout, body, "{host} {no_proxy:?}: {ended:?}");
    }
}

#[test]
fn users_and_passwords_of_urls_go_to_their_server_alone() {
    let other = http_server(|request| with_length("200 OK", "", request.as_bytes()));
    let server = http_server(move |request| match request.split(' ').nth(1) {
        Some("/near") => with_length("302 Found", "Location: /echo\r\n", b""),
        Some("/away") => {
            let location = format!("Location: http://eve:x@{other}/\r\n");
            with_length("302 Found", &location, b"")
        }
        _ => with_length("200 OK", "", request.as_bytes()),
    });
    let url = |path: &str| format!("http://ann:tu%6Cip@{server}{path}");
    let sent = "\r\nAuthorization: Basic YW5uOnR1bGlw\r\n";
    for path in ["/echo", "/near"] {
        let ended = get(&[&url(path)]);
        assert!(ended.stdout.contains(sent), "{ended:?}");
    }
    let ended = get(&[&url("/away")]);
    assert!(
        ended.code == 0 && !ended.stdout.contains("Authorization"),
        "{ended:?}"
    );
    let ended = get(&[&url("/echo"), "-H", "Authorization: Bearer y"]);
    assert_eq!(ended.stdout.matches("Authorization: ").count(), 1);
    assert!(ended.stdout.contains("Bearer y"), "{ended:?}");
    // Neither messages nor JSON show it.
    let ended = get(&["http://ann:tulip@127.0.0.1:1/", "--json"]);
    assert!(
        ended.code == 69 && !ended.stderr.contains("tulip"),
        "{ended:?}"
    );
    let ended = get(&[&url("/near"), "--json", "-I"]);
    assert!(
        ended.code == 0 && !ended.stdout.contains("tulip"),
        "{ended:?}"
    );
}

#[test]
fn a_proxys_password_is_for_the_proxy() {
    let proxy = tcp_server(move |mut stream| {
        let request = read_to(&mut stream, "\r\n\r\n");
        let answer = match request.contains("\r\nProxy-Authorization: Basic YW5uOnR1bGlw\r\n") {
            true if request.starts_with("CONNECT") => with_length("403 known", "", b""),
            true => with_length("200 OK", "", request.as_bytes()),
            false => with_length("407 Who", "", b""),
        };
        let _ = stream.write_all(&answer);
    });
    for proxy in [
        format!("http://ann:tulip@{proxy}"),
        format!("ann:tulip@{proxy}"),
    ] {
        let ended = through_environment("http://u:v@far.test/x", &proxy, "");
        assert_eq!(ended.code, 0, "{ended:?}");
        assert!(
            ended
                .stdout
                .starts_with("GET http://far.test/x HTTP/1.1\r\n")
        );
        assert!(ended.stdout.contains("\r\nAuthorization: Basic dTp2\r\n"));
        let ended = get(&["https://far.test/", "--proxy", &proxy, "--ca-file", CA_FILE]);
        assert!(ended.stderr.contains("answered 403 known"), "{ended:?}");
        assert!(!ended.stderr.contains("tulip"), "{ended:?}");
    }
}
