//! The clients against the listeners of this program: the binary at both ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::common::{Program, expect_soon, temp_dir};
use crate::harness::{Ended, command, run, run_with};

/// Port of the first listener of a kind, as an argument.
fn port(server: &Program, kind: &str) -> String {
    server.address(kind).port().to_string()
}

/// A metric of the admin listener, of the listener with this name.
fn metric(server: &Program, metric: &str, listener: &str) -> u64 {
    let ended = run(&[
        "get",
        &format!("http://{}/metrics", server.address("admin")),
    ]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let start = format!("{metric}{{listener=\"{listener}\",");
    let line = ended.stdout.lines().find(|line| line.starts_with(&start));
    line.and_then(|line| line.rsplit(' ').next())
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {start} in {}", ended.stdout))
}

/// The files of a folder, without what is hidden.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| {
            let name = entry.file_name().into_string().expect("UTF-8");
            (name, fs::read(entry.path()).expect("a file"))
        })
        .collect()
}

const ADMIN: &str = "[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n";

const HANDSHAKES: [&str; 5] = ["none", "sha1", "hmac-md5", "hmac-sha1", "hmac-sha256"];

/// An upload listener for each handshake without login, then one for each with it, named and
/// storing by its number.
fn upload_server() -> Program {
    let mut config = ADMIN.to_owned();
    for number in 0..2 * HANDSHAKES.len() {
        let handshake = HANDSHAKES[number % HANDSHAKES.len()];
        config += &format!(
            "[[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\nname = \"u{number}\"\ndir = \"u{number}\"\n\
             handshake = \"{handshake}\"\n"
        );
        if handshake != "none" {
            config += "secret = \"open sesame\"\n";
        }
        if number >= HANDSHAKES.len() {
            // The digest of "anntulip" that the format wants.
            config += "login = \"userinfo\"\n";
        }
    }
    let digest = <md5::Md5 as md5::Digest>::digest(b"anntulip");
    let line = format!("ann|{}\n", netlab_reactor::wire::hex::encode(&digest));
    Program::start_beside(&config, &[("userinfo", line.as_bytes())])
}

/// Uploads to the listener of this number with a secret and a password.
fn upload(server: &Program, number: usize, secrets: [&str; 2], rest: &[&str]) -> Ended {
    let port = server.addresses("upload")[number].port().to_string();
    let mut arguments = vec![
        "upload",
        "--handshake",
        HANDSHAKES[number % HANDSHAKES.len()],
    ];
    if number >= HANDSHAKES.len() {
        arguments.extend(["--user", "ann"]);
    }
    let split = rest.iter().take_while(|word| word.starts_with('-')).count();
    arguments.extend(&rest[..split]);
    arguments.extend(["127.0.0.1", &port]);
    arguments.extend(&rest[split..]);
    let mut upload = command(&arguments);
    upload.env("NETLAB_SECRET", secrets[0]);
    upload.env("NETLAB_PASSWORD", secrets[1]);
    run_with(upload, b"")
}

#[test]
fn files_and_folders_go_over_one_connection_with_every_handshake_and_login() {
    let source = temp_dir();
    let at = |name: &str| source.path().join(name);
    fs::create_dir_all(at("photos/inner")).unwrap();
    let big: Vec<u8> = (0..700_000_u32)
        .map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let wanted: BTreeMap<String, Vec<u8>> = [
        ("Grüße.txt", b"hello\n".to_vec()),
        ("empty", Vec::new()),
        ("big.bin", big),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into();
    fs::write(at("Grüße.txt"), &wanted["Grüße.txt"]).unwrap();
    fs::write(at("photos/empty"), &wanted["empty"]).unwrap();
    fs::write(at("photos/inner/big.bin"), &wanted["big.bin"]).unwrap();
    fs::write(at("photos/.hidden"), "not this").unwrap();
    let (file, folder) = (at("Grüße.txt"), at("photos"));
    let (file, folder) = (file.to_str().unwrap(), folder.to_str().unwrap());

    let server = upload_server();
    for number in 0..2 * HANDSHAKES.len() {
        let secrets = ["open sesame", "tulip"];
        let flags = ["--plain", "--one-connection", file, folder];
        let ended = upload(&server, number, secrets, &flags);
        assert_eq!(ended.code, 0, "{number}: {ended:?}");
        assert_eq!(ended.stdout.lines().count(), 3, "{ended:?}");
        // The client waited for the end of the connection, which comes when everything is stored.
        let stored = server.path(&format!("u{number}"));
        assert!(
            files(&stored) == wanted,
            "{number}: {:?}",
            files(&stored).keys()
        );
        let accepted = metric(
            &server,
            "netlab_sessions_accepted_total",
            &format!("u{number}"),
        );
        assert_eq!(accepted, 1, "{number}");
    }
    server.stop();
}

#[test]
fn uploads_with_a_wrong_secret_or_password_are_refused_and_leave_nothing() {
    let source = temp_dir();
    let file = source.path().join("a");
    fs::write(&file, vec![b'a'; 100_000]).unwrap();
    let file = file.to_str().unwrap();
    let server = upload_server();
    for number in 0..2 * HANDSHAKES.len() {
        let has_secret = HANDSHAKES[number % HANDSHAKES.len()] != "none";
        let has_login = number >= HANDSHAKES.len();
        let mut wrong = Vec::new();
        if has_secret {
            wrong.push(["barley", "tulip"]);
        }
        if has_login {
            wrong.push(["open sesame", "rose"]);
        }
        for secrets in wrong {
            for flags in [
                &["--plain", file][..],
                &["--plain", "--one-connection", file],
            ] {
                let ended = upload(&server, number, secrets, flags);
                assert_eq!(ended.code, 77, "{number} {secrets:?}: {ended:?}");
            }
        }
        assert!(
            files(&server.path(&format!("u{number}"))).is_empty(),
            "{number}"
        );
    }
    server.stop();
}

#[test]
fn files_are_stored_without_any_flag_too() {
    let source = temp_dir();
    let (one, two) = (source.path().join("one"), source.path().join("two"));
    fs::write(&one, "1").unwrap();
    fs::write(&two, "2").unwrap();
    let server = upload_server();
    // Number 2 is hmac-md5 without login, the default of both ends.
    let (one, two) = (one.to_str().unwrap(), two.to_str().unwrap());
    let ended = upload(&server, 2, ["open sesame", ""], &[one, two, one]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let stored = files(&server.path("u2"));
    assert_eq!(stored.len(), 3, "{:?}", stored.keys());
    assert_eq!(
        (&stored["one"][..], &stored["two"][..]),
        (&b"1"[..], &b"2"[..])
    );
    server.stop();
}

fn json(ended: &Ended) -> serde_json::Value {
    let line = ended.stdout.lines().last().unwrap_or_default();
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn number(report: &serde_json::Value, key: &str) -> u64 {
    report[key].as_u64().expect("a number")
}

#[test]
fn floods_come_back_whole_and_the_books_balance() {
    let config = format!(
        "{ADMIN}[[listener]]\nkind = \"udp-echo\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n\
         [[listener]]\nkind = \"udp-ping\"\nbind = \"127.0.0.1:0\"\nloss = \"4/11\"\nseed = 1\n"
    );
    let server = Program::start(&config);
    let flood = |carrier: &str, kind: &str, rest: &[&str]| {
        let port = port(&server, kind);
        let mut arguments = vec!["flood", carrier, "127.0.0.1", &port, "--json", "-d", "30s"];
        arguments.extend(rest);
        let ended = run(&arguments);
        assert_eq!(ended.code, 0, "{kind}: {ended:?}");
        json(&ended)
    };

    let tcp = flood(
        "tcp",
        "tcp-echo",
        &["--count", "3000", "-c", "4", "-s", "200"],
    );
    assert_eq!(
        (number(&tcp, "sent"), number(&tcp, "received")),
        (12_000, 12_000),
        "{tcp}"
    );
    let accepted = metric(&server, "netlab_sessions_accepted_total", "tcp-echo");
    assert_eq!(accepted, 4);

    // A window of 8 fits into any socket buffer, so that nothing need be lost.
    let udp = flood(
        "udp",
        "udp-echo",
        &["--count", "2000", "-w", "8", "--lost-after", "15s"],
    );
    assert_eq!(
        (number(&udp, "sent"), number(&udp, "received")),
        (2000, 2000),
        "{udp}"
    );

    let rate = flood("udp", "udp-echo", &["--count", "300", "--rate", "3000"]);
    assert_eq!(number(&rate, "sent"), 300, "{rate}");
    assert_eq!(
        number(&rate, "received") + number(&rate, "lost"),
        300,
        "{rate}"
    );

    let lossy = flood(
        "udp",
        "udp-ping",
        &["--count", "600", "-w", "64", "--lost-after", "200ms"],
    );
    let loss = lossy["loss_percent"].as_f64().expect("a number");
    assert!((25.0..50.0).contains(&loss), "{lossy}");
    assert_eq!(number(&lossy, "corrupt"), 0, "{lossy}");
    server.stop();
}

#[test]
fn pings_tell_lost_from_duplicate_from_corrupt() {
    let listener = "[[listener]]\nkind = \"udp-ping\"\nbind = \"127.0.0.1:0\"\nseed = 5\n";
    let config = format!(
        "{listener}loss = \"4/11\"\n{listener}loss = 0.0\nduplicate = 1.0\n{listener}loss = 0.0\ncorrupt = 1.0\n"
    );
    let server = Program::start(&config);
    let ports: Vec<String> = server
        .addresses("udp-ping")
        .iter()
        .map(|address| address.port().to_string())
        .collect();
    let ping = |port: &str, wait: &str, code: i32| {
        let command = format!("ping 127.0.0.1 {port} -c 110 -i 2ms -W {wait} --json");
        let ended = run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code, code, "{ended:?}");
        json(&ended)
    };
    let lossy = ping(&ports[0], "1s", 0);
    assert_eq!(number(&lossy, "sent"), 110);
    assert!((25..=55).contains(&number(&lossy, "lost")), "{lossy}");
    assert_eq!(
        number(&lossy, "lost") + number(&lossy, "received"),
        110,
        "{lossy}"
    );
    assert_eq!(
        number(&lossy, "corrupt") + number(&lossy, "duplicates"),
        0,
        "{lossy}"
    );

    let twice = ping(&ports[1], "15s", 0);
    assert_eq!(
        (number(&twice, "received"), number(&twice, "lost")),
        (110, 0),
        "{twice}"
    );
    // The last copy may come when the client is gone already.
    assert!(
        (100..=110).contains(&number(&twice, "duplicates")),
        "{twice}"
    );

    let bent = ping(&ports[2], "15s", 1);
    assert_eq!(
        (number(&bent, "received"), number(&bent, "lost")),
        (0, 0),
        "{bent}"
    );
    assert_eq!(number(&bent, "corrupt"), 110, "{bent}");
    server.stop();
}

#[test]
fn hello_is_followed_to_the_end_of_the_stream() {
    let config = format!(
        "{ADMIN}[[listener]]\nkind = \"hello\"\nbind = \"127.0.0.1:0\"\ncount = 12\ninterval = \"10ms\"\n"
    );
    let server = Program::start(&config);
    let ended = run(&["hello", "127.0.0.1", &port(&server, "hello")]);
    let all: String = (0..12).map(|number| format!("hello{number}\n")).collect();
    assert_eq!((ended.code, &ended.stdout), (0, &all), "{ended:?}");
    let few = run(&[
        "hello",
        "127.0.0.1",
        &port(&server, "hello"),
        "--count",
        "2",
    ]);
    assert_eq!(
        (few.code, few.stdout.as_str()),
        (0, "hello0\nhello1\n"),
        "{few:?}"
    );
    let more = run(&[
        "hello",
        "127.0.0.1",
        &port(&server, "hello"),
        "--count",
        "13",
    ]);
    assert_eq!((more.code, &more.stdout), (69, &all), "{more:?}");
    server.stop();
}

#[test]
fn heartbeats_are_logged_as_new_and_dead() {
    let mut server = Program::start(&format!(
        "{ADMIN}[[listener]]\nkind = \"udp-heartbeat\"\nbind = \"127.0.0.1:0\"\ntimeout = \"500ms\"\n"
    ));
    let port = port(&server, "udp-heartbeat");
    let ended = run(&["heartbeat", "127.0.0.1", &port, "-c", "5", "-i", "20ms"]);
    assert_eq!(
        (ended.code, ended.stdout.lines().count()),
        (0, 5),
        "{ended:?}"
    );
    let new = server.wait_log("heartbeat 127.0.0.1:");
    let sender = new
        .rsplit_once("heartbeat ")
        .and_then(|(_, rest)| rest.strip_suffix(" new"))
        .unwrap_or_else(|| panic!("{new}"))
        .to_owned();
    let next = server.wait_log(&format!("heartbeat {sender} "));
    assert!(next.ends_with(" late") || next.ends_with(" dead"), "{next}");
    if next.ends_with(" late") {
        server.wait_log(&format!("heartbeat {sender} dead"));
    }
    // Signed and named ones are heartbeats as well.
    let secret = server.path("secret");
    fs::write(&secret, "sesame\n").unwrap();
    let secret = secret.to_str().unwrap();
    let named = [
        "heartbeat",
        "127.0.0.1",
        &port,
        "--once",
        "--id",
        "roof",
        "--secret-file",
        secret,
    ];
    assert_eq!(run(&named).code, 0);
    server.wait_log(" new");
    expect_soon(
        || metric(&server, "netlab_datagrams_received_total", "udp-heartbeat") == 6,
        || "six heartbeats are not counted".to_owned(),
    );
    server.stop();
}

/// All files below a folder, by their paths, without what is hidden.
fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = files(folder);
    found.retain(|name, _| !name.starts_with('.'));
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    for entry in entries.filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().expect("UTF-8");
        if !name.starts_with('.') {
            let inner = tree(&entry.path()).into_iter();
            found.extend(inner.map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        }
    }
    found
}

#[test]
fn a_folder_keeps_its_structure_and_what_is_there_is_not_sent_again() {
    let source = temp_dir();
    let big: Vec<u8> = (0..900_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    for path in [
        "photos/a.jpg",
        "photos/2026/a.jpg",
        "photos/2026/in ner/b.jpg",
    ] {
        let path = source.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, path.as_os_str().as_encoded_bytes()).unwrap();
    }
    fs::write(source.path().join("photos/2026/big"), &big).unwrap();
    fs::write(source.path().join("photos/.hidden"), "not this").unwrap();
    let photos = source.path().join("photos");
    let server = upload_server();
    let number = HANDSHAKES.len(); // with a login
    let send = |flags: &[&str]| {
        let arguments = [flags, &[photos.to_str().unwrap()]].concat();
        upload(&server, number, ["", "tulip"], &arguments)
    };
    let ended = send(&["--keep-paths", "--skip-same", "--jobs=2"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let stored = server.path(&format!("u{number}"));
    let wanted = tree(source.path());
    assert_eq!(wanted.len(), 4);
    assert!(tree(&stored) == wanted, "{:?}", tree(&stored).keys());
    // What is missing comes, and what has changed.
    fs::remove_file(stored.join("photos/2026/a.jpg")).unwrap();
    fs::write(photos.join("a.jpg"), "another one").unwrap();
    let ended = send(&["--keep-paths", "--skip-same", "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(
        ended.stdout.matches("\"skipped\":true").count(),
        2,
        "{ended:?}"
    );
    for name in ["photos/2026/a.jpg", "photos/a.1.jpg"] {
        let told = format!("\"stored_as\":\"{name}\"");
        assert!(ended.stdout.contains(&told), "{told}: {ended:?}");
    }
    let mut wanted = wanted;
    wanted.insert("photos/a.1.jpg".to_owned(), b"another one".to_vec());
    assert!(tree(&stored) == wanted, "{:?}", tree(&stored).keys());
}
