//! Dialogues with clients that name folders for their files.

use super::acked::{ready, sha256, stored, with_keys, words};
use super::*;
use crate::hooks::{End, Hook};
use crate::jobs::{Job, Query};
use crate::wire::safe_path::{FOLDER_BYTES_MAX, FOLDERS_MAX};
use crate::wire::upload::Answer;
use std::os::unix::fs::symlink;
use std::path::Path;

/// A file whose client asks for an answer and names a folder; with more keys, each behind a comma.
fn in_folder_with(folder: &str, name: &str, body: &[u8], more: &str) -> Vec<u8> {
    let sha256 = hex::encode(&sha256(body));
    let keys = format!("\"ack\": true, \"folder\": {folder:?}, \"sha256\": \"{sha256}\"{more}");
    with_keys(name, body, &keys)
}

fn in_folder(folder: &str, name: &str, body: &[u8]) -> Vec<u8> {
    in_folder_with(folder, name, body, "")
}

impl Server {
    fn at(&self, path: &str) -> Option<Vec<u8>> {
        fs::read(self.config.dir.join(path)).ok()
    }

    /// The one refusal that was told.
    fn refusal(&mut self) -> (String, String) {
        let told = self.told();
        match told.last() {
            Some(Answer::Refused { error, message }) => (error.clone(), message.clone()),
            _ => panic!("{told:?}"),
        }
    }
}

/// Everything below a folder but the hidden folder of partial files.
fn tree(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("UTF-8");
        if name == PARTIAL {
            continue;
        }
        if entry.file_type().expect("a type").is_dir() {
            let inner = tree(&entry.path()).into_iter();
            names.extend(inner.map(|inner| format!("{name}/{inner}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

#[test]
fn a_file_goes_to_the_folders_that_its_client_names() {
    for body in [&b""[..], b"abc", &large_body(0)] {
        let mut server = Server::plain();
        for folder in ["a", "a/b c/\u{e4}", "a/b c"] {
            server.sends(&in_folder(folder, "x.txt", body));
            let name = format!("{folder}/x.txt");
            server.expect_told(&[ready(0), stored(&name, body)]);
            assert!(
                server.at(&name).is_some_and(|there| there == body),
                "{name}"
            );
        }
        // A version of the same name in the same folder.
        server.sends(&in_folder("a/b c", "x.txt", body));
        server.expect_told(&[ready(0), stored("a/b c/x.1.txt", body)]);
        server.bench.peer_closes().expect_closed();
        assert_eq!(server.partials(), 0);
        server.expect_files(&[]);
    }
    // The plain protocol does not know of any.
    let mut server = Server::plain();
    server
        .sends(&with_keys("x", b"abc", "\"folder\": \"a\""))
        .expect_told(&[]);
    server.expect_files(&[("x", b"abc")]);
}

#[test]
fn each_folder_and_all_on_the_way_to_it_are_made_sure_before_the_answer() {
    let mut server = Server::plain();
    server.bench.disk_rests = true;
    let files = [("a/b", "1"), ("a/b", "2"), ("c", "3"), ("", "4")];
    for (folder, name) in files {
        let sent = match folder {
            "" => with_keys(name, name.as_bytes(), "\"ack\": true"),
            folder => in_folder(folder, name, name.as_bytes()),
        };
        server.sends(&sent);
    }
    let mut synced = Vec::new();
    let root = fs::canonicalize(&server.config.dir).expect("a folder");
    while server.bench.disk_does_by(1, |job, disk| {
        if let Job::Query(Query::SyncNames { folder, .. }) = job {
            let way = folder.ancestors();
            synced.extend(way.map(|folder| root.join(folder)));
        }
        job.perform(disk)
    }) {
        let told = server.told();
        let oks = told
            .iter()
            .filter(|answer| matches!(answer, Answer::Stored { .. }));
        for answer in oks {
            let Answer::Stored { filename, .. } = answer else {
                continue;
            };
            let place = root.join(filename);
            let way = place.ancestors().skip(1);
            for folder in way.take_while(|folder| folder.starts_with(&root)) {
                assert!(
                    synced.iter().any(|synced| synced == folder),
                    "{filename}: {folder:?}"
                );
            }
        }
    }
    assert_eq!(tree(&root), ["4", "a", "a/b", "a/b/1", "a/b/2", "c", "c/3"]);
    assert!(server.bench.jobs.is_idle());
}

#[test]
fn what_is_no_folder_for_every_system_is_refused_by_name() {
    let (deep, long) = (vec!["x"; FOLDERS_MAX + 1].join("/"), "y/".repeat(3));
    let long = long + &vec!["z".repeat(250); 5].join("/");
    assert!(long.len() > FOLDER_BYTES_MAX);
    for (folder, why) in [
        ("", "\"\" cannot be a folder: the name is empty"),
        ("/etc", "\"\" cannot be a folder"),
        ("a//b", "\"\" cannot be a folder"),
        ("a/", "\"\" cannot be a folder"),
        (
            "..",
            "\"..\" cannot be a folder: the name begins with a dot",
        ),
        ("a/../../b", "\"..\" cannot be a folder"),
        ("a/.", "\".\" cannot be a folder"),
        (".partial", "\".partial\" cannot be a folder"),
        ("a/.ssh", "\".ssh\" cannot be a folder"),
        ("a\\b", "cannot be a folder: the name holds '\\\\'"),
        (
            "a/nul.d/b",
            "\"nul.d\" cannot be a folder: the name is that of a device",
        ),
        ("a /b", "\"a \" cannot be a folder"),
        (
            "-r",
            "\"-r\" cannot be a folder: the name begins with a hyphen",
        ),
        ("a\u{202e}", "\"a\\u{202e}\" cannot be a folder"),
        (&deep, "17 folders, expected at most 16"),
        (&long, "bytes, expected at most 1024"),
    ] {
        let mut server = Server::plain();
        let json =
            serde_json::json!({"filename": "x", "filesize": 1, "ack": true, "folder": folder});
        server.sends(&framed(&json.to_string())).sends(b"x");
        let (error, message) = server.refusal();
        assert_eq!(error, "bad_name", "{folder}");
        assert!(message.contains(why), "{folder}: {message}");
        server.bench.expect_closed();
        assert!(tree(&server.config.dir).is_empty());
    }
    let mut server = Server::new(Handshake::None, |config| config.keep_paths = false);
    server.sends(&in_folder("a", "x", b"abc"));
    let (error, message) = server.refusal();
    assert_eq!(
        (error.as_str(), message.as_str()),
        ("bad_name", "\"a\": this server keeps no folders")
    );
    assert!(tree(&server.config.dir).is_empty());
}

#[test]
fn what_is_in_the_way_of_a_folder_is_no_way_for_a_file() {
    for overwrite in [Overwrite::Version, Overwrite::Replace, Overwrite::Refuse] {
        for folder in [
            "file",
            "file/b",
            "link",
            "link/b",
            "there/link",
            "broken",
            "broken/b",
        ] {
            let mut server = Server::new(Handshake::None, |config| config.overwrite = overwrite);
            let outside = tempfile::tempdir().expect("a folder");
            let dir = server.config.dir.clone();
            fs::write(dir.join("file"), "old").expect("a file");
            fs::create_dir(dir.join("there")).expect("a folder");
            symlink(outside.path(), dir.join("link")).expect("a link");
            symlink(dir.join("nowhere"), dir.join("broken")).expect("a link");
            symlink(".", dir.join("there/link")).expect("a link");
            let before = tree(&dir);
            server.sends(&in_folder(folder, "x", b"abc"));
            let (error, message) = server.refusal();
            assert_eq!(error, "exists", "{folder}: {message}");
            let why = format!("{folder}/x: something is in the way of the folder {folder}");
            assert!(message.starts_with(&why), "{message}");
            assert_eq!(tree(&dir), before);
            assert!(tree(outside.path()).is_empty());
            assert_eq!(server.partials(), 0);
            // Most is seen before a byte of the file has to come.
            let is_seen_late = folder == "there/link";
            assert_eq!(server.bench.is_over(), !is_seen_late, "{folder}");
        }
    }
}

#[test]
fn what_comes_in_the_way_while_a_file_is_sent_is_found_when_it_gets_its_name() {
    let mut server = Server::plain();
    let sent = in_folder("a/b", "x", &large_body(0));
    let (first, second) = sent.split_at(sent.len() - 1);
    server.sends(first).expect_told(&[ready(0)]);
    fs::write(server.config.dir.join("a"), "in the way").expect("a file");
    server.sends(second);
    let (error, _) = server.refusal();
    assert_eq!(error, "exists");
    assert_eq!(server.partials(), 0);
    // Behind the last byte it is about this file alone.
    server
        .sends(&in_folder("c", "x", b"abc"))
        .expect_told(&[ready(0), stored("c/x", b"abc")]);
    server.bench.expect_open();
}

#[test]
fn in_a_folder_the_listener_overwrites_and_skips_as_elsewhere() {
    let mut server = Server::new(Handshake::None, |config| {
        config.overwrite = Overwrite::Replace;
    });
    for body in [&b"old"[..], b"new"] {
        server
            .sends(&in_folder("a/b", "x", body))
            .expect_words(&["ready", "ok"]);
        assert_eq!(server.at("a/b/x").as_deref(), Some(body));
    }
    let mut server = Server::new(Handshake::None, |config| {
        config.overwrite = Overwrite::Refuse;
    });
    server
        .sends(&in_folder("a/b", "x", b"old"))
        .expect_words(&["ready", "ok"]);
    server
        .sends(&in_folder("a", "x", b"new"))
        .expect_words(&["ready", "ok"]);
    server.sends(&in_folder("a/b", "x", b"new"));
    let (error, message) = server.refusal();
    assert_eq!(
        (error.as_str(), message.as_str()),
        ("exists", "a/b/x: there is such a file")
    );
    let mut server = Server::plain();
    let body = large_body(0);
    let offer = |folder| {
        let mut sent = in_folder_with(folder, "x", &body, ", \"skip_same\": true");
        sent.truncate(sent.len() - body.len());
        sent
    };
    server
        .sends(&in_folder("a/b", "x", &body))
        .expect_words(&["ready", "ok"]);
    server
        .sends(&offer("a/b"))
        .expect_told(&[stored("a/b/x", &body)]);
    // In another folder it is another file.
    server.sends(&offer("a")).expect_told(&[ready(0)]);
    server.sends(&body).expect_told(&[stored("a/x", &body)]);
}

#[test]
fn a_broken_file_is_gone_on_with_in_its_folder_only() {
    let body = [large_body(0), large_body(1), large_body(2)].concat();
    let sent = |folder| in_folder_with(folder, "x", &body, ", \"resume\": true");
    let mut server = Server::plain();
    server
        .sends(&sent("a")[..sent("a").len() - 10])
        .expect_told(&[ready(0)]);
    server.bench.breaks();
    server.bench.turn_ends();
    assert_eq!(server.partial_names().len(), 1);
    let mut offset = |folder| {
        let all = sent(folder);
        server.again().sends(&all[..all.len() - body.len()]);
        let told = server.told();
        let [Answer::Ready { offset }] = told[..] else {
            panic!("{told:?}");
        };
        if offset > 0 {
            server.sends(&body[offset as usize..]);
            server.expect_told(&[stored("a/x", &body)]);
        }
        offset
    };
    assert_eq!(offset("b"), 0);
    assert_eq!(offset("a/b"), 0);
    assert!(offset("a") > 0);
    assert!(server.at("a/x").is_some_and(|there| there == body));
}

#[test]
fn what_is_in_folders_counts_for_its_user_and_for_all() {
    let (inner, other) = (large_body(1), large_body(2));
    let in_user_folders = |config: &mut UploadConfig| {
        with_login(config);
        config.user_folders = true;
        config.user_bytes_max = Some(310_000);
        for folder in ["ann/deep/er", "bob/deep"] {
            fs::create_dir_all(config.dir.join(folder)).expect("a folder");
            fs::write(config.dir.join(folder).join("before"), large_body(0)).expect("a file");
        }
        // Not another 150,000 bytes, and no endless way.
        symlink(".", config.dir.join("ann/deep/again")).expect("a link");
    };
    let mut server = Server::new(Handshake::None, in_user_folders);
    server.sends(LOGIN);
    assert_eq!(server.bench.received(), login::ACCEPTED);
    server
        .sends(&in_folder("a/b", "x", &inner))
        .expect_told(&[ready(0), stored("a/b/x", &inner)]);
    assert!(server.at("ann/a/b/x").is_some_and(|there| there == inner));
    server.sends(&in_folder("c", "x", &other));
    let (error, message) = server.refusal();
    assert_eq!(error, "quota");
    assert!(
        message.starts_with("c/x: ") && message.contains("may get 10000 more"),
        "{message}"
    );
    // No user gets into the folder of another one.
    let mut server = Server::new(Handshake::None, in_user_folders);
    server.sends(LOGIN);
    assert_eq!(server.bench.received(), login::ACCEPTED);
    server.sends(&in_folder("../bob", "x", b"abc"));
    assert_eq!(server.refusal().0, "bad_name");
    let mut server = Server::new(Handshake::None, |config| {
        config.total_bytes_max = Some(310_000);
        fs::create_dir_all(config.dir.join("a/b")).expect("a folder");
        fs::write(config.dir.join("a/b/before"), large_body(0)).expect("a file");
    });
    server
        .sends(&in_folder("a/b", "x", &inner))
        .expect_words(&["ready", "ok"]);
    server.sends(&in_folder("d", "x", &other));
    assert_eq!(server.refusal().0, "quota");
}

#[test]
fn a_whole_file_waits_for_the_descriptor_of_its_folder_and_leaves_nothing_without_it() {
    for body in [&b"abc"[..], &large_body(0)] {
        for descriptors in [Some(9), None] {
            let mut server = Server::plain();
            server.bench.disk_rests = true;
            let sent = in_folder("a/b", "x", body);
            let mut rest = server.bench.peer_offers(&sent);
            // All but the one of the folder.
            let makes = usize::from(body.len() < 1000);
            for _ in 0..20 {
                let is_store = |job: &Job| format!("{job:?}").contains("(Store");
                server.bench.disk_does_by(1, |job, disk| {
                    let most = match is_store(job) {
                        true => makes,
                        false => 9,
                    };
                    job.perform(&mut unix::Scarce::new(disk, most))
                });
                rest += server.bench.peer_offers(&sent[rest..]);
            }
            assert_eq!(rest, sent.len());
            assert_eq!(words(&server.told()), ["ready"]);
            assert_eq!(server.partials(), 1);
            match descriptors {
                Some(descriptors) => {
                    tries(&mut server, descriptors);
                    server.settles();
                    server.expect_told(&[stored("a/b/x", body)]);
                    assert!(server.at("a/b/x").is_some_and(|there| there == body));
                }
                None => {
                    for _ in 0..200 {
                        tries(&mut server, 0);
                    }
                    assert_eq!(server.refusal().0, "storage");
                    server.settles();
                    server.bench.expect_open();
                }
            }
            let kept = server.partial_names();
            let unkept = kept.iter().filter(|name| !name.starts_with("kept-"));
            assert_eq!(unkept.count(), 0, "{kept:?}");
            assert!(server.bench.jobs.is_idle());
        }
    }
}

/// What `on_stored` was called with, by the names of its variables.
fn calls(server: &mut Server) -> Vec<BTreeMap<String, String>> {
    let now = server.bench.now;
    let hooks = &mut server.bench.hooks;
    let mut calls = Vec::new();
    while let Some((id, program)) = hooks.poll_start(now) {
        let facts = program.environment.iter().map(|(name, value)| {
            let value = value.to_str().expect("UTF-8");
            (name.to_string(), value.to_owned())
        });
        calls.push(facts.collect());
        hooks.exited(id, &End::Exited(0), now);
    }
    calls
}

#[test]
fn a_command_is_told_of_the_digest_where_that_is_known() {
    let mut server = Server::new(Handshake::None, |config| {
        config.on_stored = Some(Hook {
            event: "on_stored",
            command: ["/bin/tell".to_owned()].into(),
        });
    });
    for body in [&b""[..], b"abc", &large_body(0)] {
        let digest = hex::encode(&sha256(body));
        let plain = file("x", body);
        let named = in_folder("a/b", "y", body);
        let unannounced = with_keys("z", body, "\"ack\": true");
        for (sent, path, known) in [
            (plain, "x", None),
            (named, "a/b/y", Some(&digest)),
            (unannounced, "z", Some(&digest)),
        ] {
            server.sends(&sent);
            server.told();
            let calls = calls(&mut server);
            let [call] = &calls[..] else {
                panic!("{path}: {calls:?}");
            };
            let there = fs::read(&call["NETLAB_FILE"]).expect("the file");
            assert!(there == body, "{path}");
            let dir = server.config.dir.join(path);
            let place = Path::new(&call["NETLAB_FILE"]).parent();
            assert_eq!(place, dir.parent());
            assert_eq!(call["NETLAB_SIZE"], body.len().to_string());
            assert_eq!(call.get("NETLAB_SHA256"), known, "{path}");
        }
    }
    // What was there before is not stored again, and is nobody's news.
    let offer = in_folder_with("a/b", "y", b"", ", \"skip_same\": true");
    server.sends(&offer).expect_told(&[stored("a/b/y", b"")]);
    assert!(calls(&mut server).is_empty());
}
