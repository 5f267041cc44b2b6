//! `upload` against plain servers that know nothing but the plain protocol, and against ones that
//! acknowledge.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use netlab_reactor::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use netlab_reactor::wire::frame;
use netlab_reactor::wire::login;
use netlab_reactor::wire::upload::{Answer, FileHeader};
use sha2::Digest;

use crate::harness::{Ended, command, run_with, tcp_server};

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut prefix = [0; 4];
    stream.read_exact(&mut prefix).ok()?;
    let mut payload = vec![0; frame::decode_length(prefix, 65_536).unwrap()];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

fn write_frame(stream: &mut TcpStream, answer: &Answer) {
    let mut bytes = Vec::new();
    frame::encode(&answer.to_json(), &mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn handshake(stream: &mut TcpStream, kind: Handshake) -> bool {
    if !kind.needs_secret() {
        return true;
    }
    let challenge = [7; CHALLENGE_BYTES];
    stream.write_all(&challenge).unwrap();
    let mut answer = vec![0; kind.answer_bytes()];
    stream.read_exact(&mut answer).is_ok()
        && kind.verify(&Secret::from("open sesame"), &challenge, &answer)
}

type Files = Receiver<(String, Vec<u8>)>;

/// Takes one file per connection, says nothing, closes.
fn plain_server(kind: Handshake) -> (SocketAddr, Files) {
    let (files, received) = mpsc::channel();
    let address = tcp_server(move |mut stream| {
        if !handshake(&mut stream, kind) {
            return;
        }
        let Some(json) = read_frame(&mut stream) else {
            return;
        };
        let header = FileHeader::parse(&json, u64::MAX).unwrap();
        let mut body = vec![0; header.size_bytes as usize];
        stream.read_exact(&mut body).unwrap();
        files.send((header.filename, body)).unwrap();
    });
    (address, received)
}

/// Acknowledges; breaks off once, in the middle of the first body, when `breaks` is set.
fn full_server(breaks: bool) -> (SocketAddr, Files) {
    let (files, received): (Sender<(String, Vec<u8>)>, _) = mpsc::channel();
    let partial = Arc::new(Mutex::new((breaks, Vec::new())));
    let address = tcp_server(move |mut stream| {
        assert!(handshake(&mut stream, Handshake::HmacMd5));
        while let Some(json) = read_frame(&mut stream) {
            let header = FileHeader::parse(&json, u64::MAX).unwrap();
            assert!(header.ack);
            let (breaks, mut body) = std::mem::take(&mut *partial.lock().unwrap());
            if !header.resume {
                body.clear();
            }
            write_frame(
                &mut stream,
                &Answer::Ready {
                    offset: body.len() as u64,
                },
            );
            let mut rest = vec![0; header.size_bytes as usize - body.len()];
            if breaks {
                let half = rest.len() / 2;
                stream.read_exact(&mut rest[..half]).unwrap();
                body.extend_from_slice(&rest[..half]);
                *partial.lock().unwrap() = (false, body);
                return;
            }
            stream.read_exact(&mut rest).unwrap();
            body.extend_from_slice(&rest);
            let sha256 = sha2::Sha256::digest(&body).into();
            let stored = Answer::Stored {
                filename: header.filename.clone(),
                size_bytes: body.len() as u64,
                sha256,
            };
            files.send((header.filename, body)).unwrap();
            write_frame(&mut stream, &stored);
        }
    });
    (address, received)
}

fn upload(server: SocketAddr, flags: &[&str], files: &[&Path]) -> Ended {
    let port = server.port().to_string();
    let mut arguments = vec!["upload"];
    arguments.extend(flags);
    arguments.extend(["127.0.0.1", &port]);
    arguments.extend(files.iter().map(|path| path.to_str().unwrap()));
    let mut command = command(&arguments);
    command
        .env("NETLAB_SECRET", "open sesame")
        .env("NETLAB_PASSWORD", "tulip");
    run_with(command, b"")
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[test]
fn every_handshake_with_a_plain_server() {
    let folder = Folder::new();
    let full = folder.file("ä.bin", &[0, 1, 2, 255]);
    let empty = folder.file("empty", b"");
    for (kind, path) in Handshake::ALL
        .iter()
        .flat_map(|&kind| [(kind, &full), (kind, &empty)])
    {
        for flag in [&["--plain"][..], &[], &["--sha256"]] {
            let (server, files) = plain_server(kind);
            let flags = [flag, &["--handshake", kind.name()]].concat();
            let ended = upload(server, &flags, &[path]);
            assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{kind}");
            let bytes = std::fs::read(path).unwrap();
            let (path_text, size) = (path.display(), bytes.len());
            assert_eq!(
                ended.stdout,
                format!("{path_text}: {size} B sent, not acknowledged\n")
            );
            let name = path.file_name().unwrap().to_str().unwrap();
            assert_eq!(files.recv().unwrap(), (name.to_owned(), bytes));
            assert!(files.try_recv().is_err(), "it was sent once");
        }
    }
}

#[test]
fn empty_files_between_others_reach_a_plain_server() {
    let folder = Folder::new();
    for order in [["", "", "x"], ["x", "", "y"]] {
        let paths: Vec<_> = (0..3)
            .map(|number| folder.file(&number.to_string(), order[number].as_bytes()))
            .collect();
        let (server, files) = plain_server(Handshake::HmacMd5);
        let ended = upload(server, &[], &[&paths[0], &paths[1], &paths[2]]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{order:?}");
        assert_eq!(ended.stdout.matches("sent, not acknowledged").count(), 3);
        let bodies: Vec<_> = files.try_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, order.map(|text| text.as_bytes().to_vec()));
    }
}

#[test]
fn a_plain_server_gets_a_connection_per_file() {
    let folder = Folder::new();
    let paths = [
        folder.file("1", b"one"),
        folder.file("2", b""),
        folder.file("3", &vec![3; 300_000]),
    ];
    let (server, files) = plain_server(Handshake::HmacMd5);
    let ended = upload(server, &["--json"], &[folder.0.path()]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended
            .stdout
            .lines()
            .filter(|line| line.contains("\"acknowledged\":false"))
            .count(),
        3
    );
    let names: Vec<_> = (0..3).map(|_| files.recv().unwrap().0).collect();
    assert_eq!(names, ["1", "2", "3"]);
    drop(paths);
}

#[test]
fn a_full_server_gets_all_over_one_connection_and_acknowledges() {
    let folder = Folder::new();
    let paths = [
        folder.file("a", b"one"),
        folder.file("b", &vec![3; 300_000]),
    ];
    let (server, files) = full_server(false);
    let ended = upload(server, &["--sha256"], &[&paths[0], &paths[1]]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    assert!(
        ended
            .stdout
            .lines()
            .nth(1)
            .unwrap()
            .ends_with("b: 293.0 KiB stored as b"),
        "{}",
        ended.stdout
    );
    assert_eq!(files.recv().unwrap().1, b"one");
    assert_eq!(files.recv().unwrap().1.len(), 300_000);
}

#[test]
fn a_broken_upload_goes_on_where_the_server_stands() {
    let folder = Folder::new();
    let bytes: Vec<u8> = (0..2_000_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let path = folder.file("big", &bytes);
    let (server, files) = full_server(true);
    let ended = upload(server, &["--retry-pause", "1ms"], &[&path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(
        ended.stderr.contains("trying again in 1ms"),
        "{}",
        ended.stderr
    );
    assert!(files.recv().unwrap().1 == bytes);
}

#[test]
fn several_connections_share_the_files() {
    let folder = Folder::new();
    let mut expected: Vec<_> = (0..40)
        .map(|number| {
            let name = format!("{number:02}");
            let bytes = vec![number; 1000 * usize::from(number)];
            folder.file(&name, &bytes);
            (name, bytes)
        })
        .collect();
    let missing = folder.0.path().join("missing");
    for flags in [&["--jobs", "7"][..], &["-j64", "--json"]] {
        let (server, files) = full_server(false);
        let ended = upload(server, flags, &[&missing, folder.0.path()]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains("missing"), "{ended:?}");
        assert_eq!(ended.stdout.lines().count(), 40, "{ended:?}");
        let mut sent: Vec<_> = files.try_iter().collect();
        sent.sort();
        expected.sort();
        assert!(sent == expected, "each is sent once");
    }
    let (server, files) = plain_server(Handshake::None);
    let ended = upload(
        server,
        &["--handshake", "none", "--jobs", "3"],
        &[folder.0.path()],
    );
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    let mut sent: Vec<_> = files.try_iter().collect();
    sent.sort();
    assert!(sent == expected, "each is sent once");
}

/// A refusal ends the sending; what other connections have begun is ended, and told.
#[test]
fn a_refusal_ends_the_other_connections_too() {
    let folder = Folder::new();
    let paths: Vec<_> = (0..100)
        .map(|number| folder.file(&format!("{number:02}"), b"x"))
        .collect();
    let taken = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&taken);
    let server = tcp_server(move |mut stream| {
        while let Some(json) = read_frame(&mut stream) {
            let filename = FileHeader::parse(&json, u64::MAX).unwrap().filename;
            if filename == "05" {
                let (error, message) = ("quota".into(), "no more".into());
                write_frame(&mut stream, &Answer::Refused { error, message });
                return;
            }
            write_frame(&mut stream, &Answer::Ready { offset: 0 });
            stream.read_exact(&mut [0]).unwrap();
            *counted.lock().unwrap() += 1;
            let sha256 = sha2::Sha256::digest(b"x").into();
            write_frame(
                &mut stream,
                &Answer::Stored {
                    filename,
                    size_bytes: 1,
                    sha256,
                },
            );
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    });
    let paths: Vec<&Path> = paths.iter().map(std::path::PathBuf::as_path).collect();
    let ended = upload(server, &["--handshake", "none", "--jobs", "4"], &paths);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(ended.stderr.contains("05: ") && ended.stderr.contains("quota: no more"));
    assert_eq!(ended.stdout.lines().count(), *taken.lock().unwrap());
    assert!(*taken.lock().unwrap() < 99);
}

/// The files of a folder keep their places, and what the server has already is not sent.
#[test]
fn folders_are_kept_and_the_same_is_skipped() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.0.path().join("top/in ner")).unwrap();
    for name in ["top/1", "top/in ner/2", "3"] {
        folder.file(name, name.as_bytes());
    }
    let (headers, seen) = mpsc::channel();
    let server = tcp_server(move |mut stream| {
        while let Some(json) = read_frame(&mut stream) {
            let header = FileHeader::parse(&json, u64::MAX).unwrap();
            let stored = |bytes: &[u8]| Answer::Stored {
                filename: format!("here/{}", header.filename),
                size_bytes: header.size_bytes,
                sha256: sha2::Sha256::digest(bytes).into(),
            };
            if header.skip_same && header.filename == "2" {
                write_frame(&mut stream, &stored(b"top/in ner/2"));
            } else {
                write_frame(&mut stream, &Answer::Ready { offset: 0 });
                let mut body = vec![0; header.size_bytes as usize];
                stream.read_exact(&mut body).unwrap();
                write_frame(&mut stream, &stored(&body));
            }
            headers.send(header).unwrap();
        }
    });
    let (top, three) = (folder.0.path().join("top"), folder.0.path().join("3"));
    let send = |flags: &[&str]| {
        let flags = [flags, &["--handshake", "none"]].concat();
        let ended = upload(server, &flags, &[&top, &three]);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
        let headers: Vec<_> = seen.try_iter().collect();
        assert!(
            headers
                .iter()
                .all(|header| header.skip_same == flags.contains(&"--skip-same"))
        );
        let places: Vec<_> = headers
            .into_iter()
            .map(|header| (header.filename, header.folder))
            .collect();
        (places, ended.stdout)
    };
    let place = |name: &str, folder: Option<&str>| (name.to_owned(), folder.map(str::to_owned));
    let (places, told) = send(&["--keep-paths"]);
    assert_eq!(
        places,
        [
            place("1", Some("top")),
            place("2", Some("top/in ner")),
            place("3", None)
        ]
    );
    assert_eq!(told.matches("stored as here/").count(), 3, "{told}");
    let (places, told) = send(&["--skip-same"]);
    assert_eq!(
        places,
        [place("1", None), place("2", None), place("3", None)]
    );
    assert!(told.contains("2: 12 B there already as here/2\n"), "{told}");
    assert_eq!(told.matches("stored as").count(), 2, "{told}");
    let (_, told) = send(&["--skip-same", "--json"]);
    assert_eq!(told.matches("\"skipped\":true").count(), 1, "{told}");
}

/// The file was stored, and the answer got lost: it is not stored twice.
#[test]
fn a_lost_answer_does_not_store_twice() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    let stored = Arc::new(Mutex::new(0));
    let files = Arc::clone(&stored);
    let server = tcp_server(move |mut stream| {
        let header = FileHeader::parse(&read_frame(&mut stream).unwrap(), u64::MAX).unwrap();
        let mut files = files.lock().unwrap();
        if *files > 0 && header.skip_same {
            let sha256 = header.sha256.unwrap();
            let (filename, size_bytes) = (header.filename, header.size_bytes);
            write_frame(
                &mut stream,
                &Answer::Stored {
                    filename,
                    size_bytes,
                    sha256,
                },
            );
            return;
        }
        write_frame(&mut stream, &Answer::Ready { offset: 0 });
        stream.read_exact(&mut [0]).unwrap();
        *files += 1;
    });
    let flags = ["--handshake", "none", "--retry-pause", "1ms"];
    let ended = upload(server, &flags, &[&path]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.stdout.contains("there already as a"), "{ended:?}");
    assert_eq!(*stored.lock().unwrap(), 1);
}

/// So that a server can keep a broken-off file, a large one is announced with its digest.
#[test]
fn large_files_are_announced_with_their_digest() {
    let folder = Folder::new();
    let (headers, seen) = mpsc::channel();
    let server = tcp_server(move |mut stream| {
        let header = FileHeader::parse(&read_frame(&mut stream).unwrap(), u64::MAX).unwrap();
        headers.send(header).unwrap();
    });
    for (size, is_announced) in [(16 * 1024 * 1024 - 1, false), (16 * 1024 * 1024, true)] {
        let path = folder.file("a", &vec![1; size]);
        let flags = ["--handshake", "none", "--retries", "0"];
        upload(server, &flags, &[&path]);
        assert_eq!(
            seen.recv().unwrap().sha256.is_some(),
            is_announced,
            "{size}"
        );
    }
}

#[test]
fn a_wrong_secret_is_refused() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    let secret = folder.file("secret", b"open barley\n");
    let empty = folder.file("empty", b"");
    let (server, _files) = plain_server(Handshake::HmacMd5);
    for path in [&path, &empty] {
        let ended = upload(
            server,
            &["--secret-file", secret.to_str().unwrap()],
            &[path],
        );
        assert_eq!(ended.code, 77, "{ended:?}");
        assert!(
            ended
                .stderr
                .contains("is the secret right, and is hmac-md5 the server's handshake?"),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("barley"));
    }
    let ended = upload(
        server,
        &[
            "--plain",
            "--retries",
            "0",
            "--secret-file",
            secret.to_str().unwrap(),
        ],
        &[&path],
    );
    // A server that closes without unread bytes cannot be told from one that took the file.
    assert!([0, 77].contains(&ended.code), "{ended:?}");
}

#[test]
fn a_server_that_refuses_says_why() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    let server = tcp_server(|mut stream| {
        read_frame(&mut stream).unwrap();
        write_frame(
            &mut stream,
            &Answer::Refused {
                error: "exists".into(),
                message: "it is there\u{1b}\nx: stored as y".into(),
            },
        );
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ended = upload(server, &["--handshake", "none"], &[&path]);
    assert_eq!(ended.code, 77, "{ended:?}");
    assert!(
        ended.stderr.ends_with(
            "the server refused the file: exists: it is there\u{fffd}\u{fffd}x: stored as y\n"
        ),
        "{}",
        ended.stderr
    );
}

#[test]
fn logins() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    let (seen, logins) = mpsc::channel();
    let seen = Mutex::new(seen);
    let seen = Arc::new(seen);
    let server = tcp_server(move |mut stream| {
        let mut buffer = [0; 1000];
        let bytes = stream.read(&mut buffer).unwrap();
        let login = login::Login::parse(&buffer[..bytes]).unwrap();
        let accepted = login.user == "ann";
        seen.lock()
            .unwrap()
            .send(String::from_utf8_lossy(&buffer[..bytes]).into_owned())
            .unwrap();
        stream
            .write_all(if accepted {
                login::ACCEPTED
            } else {
                login::REFUSED
            })
            .unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let ended = upload(
        server,
        &["--handshake", "none", "--plain", "--user", "ann"],
        &[&path],
    );
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        logins.recv().unwrap(),
        r#"{"operate":"login","user":"ann","passwd":"tulip"}"#
    );
    let ended = upload(
        server,
        &["--handshake", "none", "--plain", "--user", "eve"],
        &[&path],
    );
    assert_eq!(ended.code, 77);
    assert!(
        ended.stderr.contains("user or password is wrong"),
        "{}",
        ended.stderr
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    let folder = Folder::new();
    let path = folder.file("a", b"x");
    let (server, files) = plain_server(Handshake::None);
    let missing = folder.0.path().join("missing");
    let ended = upload(
        server,
        &["--handshake", "none", "--plain"],
        &[&missing, &path],
    );
    assert_eq!(
        (ended.code, ended.stderr.contains("missing")),
        (1, true),
        "{ended:?}"
    );
    assert_eq!(files.recv().unwrap().0, "a");
    let ended = upload(server, &["--handshake", "none"], &[&missing]);
    assert_eq!(ended.code, 2, "{ended:?}");
}
