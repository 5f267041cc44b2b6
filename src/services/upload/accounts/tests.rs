use super::*;
use crate::config::{Overwrite, SecretSource};
use crate::hooks::Hook;
use crate::jobs::Job;
use crate::services::bench::Bench;
use crate::services::upload::Upload;
use crate::sys::unix;
use crate::wire::argon2id::{Cost, Hash};
use crate::wire::challenge::{Handshake, Secret};
use std::fs;
use std::num::NonZeroU32;
use tempfile::TempDir;

const ACCEPTED: &[u8] = b"{\"flag\": true}";
const REFUSED: &[u8] = b"{\"flag\": false}";

/// An upload listener in a folder of its own, with a file of users.
struct Server {
    bench: Bench<Upload>,
    folder: TempDir,
}

fn argon2id(user: &str, password: &str) -> String {
    dear(user, password, 1)
}

fn dear(user: &str, password: &str, passes: u32) -> String {
    let cost = Cost {
        memory_kib: 8,
        passes,
        lanes: 1,
    };
    UserInfo::line_with(user, &Hash::of(password.as_bytes(), [7; 16], cost))
}

fn md5(user: &str, password: &str) -> String {
    UserInfo::line(user, &Secret::from(password))
}

impl Server {
    fn new(lines: &[String]) -> Self {
        Self::with(lines, |_| {})
    }

    fn with(lines: &[String], change: impl FnOnce(&mut UploadConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("userinfo");
        fs::write(&path, lines.join("\n")).expect("a file");
        let mut config = UploadConfig::new(Handshake::None, SecretSource::Given(Secret::default()));
        config.dir = folder.path().join("up");
        config.login = Some(UserInfo::parse(&lines.join("\n")).expect("a user file"));
        config.login_file = Some(path);
        config.failures_max = NonZeroU32::new(3);
        change(&mut config);
        let mut disk = unix::Files::default();
        let service = Upload::new(&config, &mut disk).expect("a folder");
        Self {
            bench: Bench::new(service),
            folder,
        }
    }

    fn write(&self, lines: &[String]) {
        // Another file, as an editor or `passwd` makes it: its time alone may not tell.
        let (new, path) = ["new", "userinfo"]
            .map(|name| self.folder.path().join(name))
            .into();
        fs::write(&new, lines.join("\n")).expect("a file");
        fs::rename(&new, &path).expect("a name");
    }

    fn sends(&mut self, user: &str, password: &str) -> &mut Bench<Upload> {
        let login = Login {
            user: user.to_owned(),
            password: password.into(),
        };
        self.bench.peer_sends(&login.to_json())
    }

    /// What a client that logs in is told.
    fn login(&mut self, user: &str, password: &str) -> bool {
        drop(self.bench.another());
        self.sends(user, password);
        match &self.bench.received()[..] {
            ACCEPTED => {
                self.bench.expect_open();
                true
            }
            REFUSED => {
                self.bench.expect_closed();
                false
            }
            other => panic!("{:?}", String::from_utf8_lossy(other)),
        }
    }
}

#[test]
fn md5_and_argon2id_stand_beside_each_other() {
    let mut server = Server::new(&[md5("ann", "tulip"), argon2id("bob", "rose")]);
    assert!(server.login("ann", "tulip"));
    assert!(server.login("bob", "rose"));
    assert!(!server.login("ann", "rose"));
    assert!(!server.login("bob", "tulip"));
}

#[test]
fn a_password_is_checked_by_a_job_and_what_follows_it_waits() {
    let mut server = Server::new(&[argon2id("bob", "rose")]);
    assert!(server.login("bob", "rose"));
    drop(server.bench.another());
    server.bench.disk_rests = true;
    server.sends("bob", "rose").expect(b"").expect_open();
    server.bench.peer_sends(b"\x20\0\0\0{\"filename\":\"a\",");
    assert_eq!(server.bench.jobs.under_way(), (1, 0));
    server.bench.disk_does(1);
    server.bench.expect(ACCEPTED).expect_open();
    server.bench.disk_rests = false;
    server.bench.peer_sends(b"\"filesize\":3}   abc");
    assert_eq!(
        fs::read(server.folder.path().join("up/a")).expect("a file"),
        b"abc"
    );
}

#[test]
fn who_does_not_exist_costs_a_job_as_well() {
    let mut server = Server::new(&[md5("ann", "tulip"), argon2id("bob", "rose")]);
    assert!(server.login("ann", "tulip"));
    for (user, password) in [("eve", "x"), ("ann", "x"), ("bob", "x")] {
        drop(server.bench.another());
        server.bench.disk_rests = true;
        server.sends(user, password).expect(b"");
        assert_eq!(server.bench.jobs.under_way(), (1, 0), "{user}");
        server.bench.disk_does(1);
        server.bench.expect(REFUSED).expect_closed();
        server.bench.disk_rests = false;
    }
}

fn session(index: u32) -> Id {
    Id {
        index,
        generation: 1,
    }
}

#[test]
fn one_password_is_checked_at_a_time_and_the_addresses_take_turns() {
    let client = |n: u8| Some([192, 0, 2, n].into());
    let mut checks = Checks::default();
    for n in 0..3 {
        assert!(checks.enter(client(1), session(n)));
    }
    assert!(checks.enter(client(2), session(3)));
    let has_turn = |checks: &Checks| (0..4).filter(|n| checks.has_turn(session(*n))).collect();
    assert_eq!(has_turn(&checks), vec![0]);
    assert_eq!(checks.leave(client(1), session(1)), None, "it only waited");
    assert_eq!(checks.over(), Some(session(2)));
    assert_eq!(has_turn(&checks), vec![2]);
    assert_eq!(checks.leave(client(1), session(2)), Some(session(3)));
    assert_eq!(checks.over(), None);
    assert_eq!((has_turn(&checks), checks.shares.in_all()), (vec![], 0));
}

#[test]
fn guesses_of_one_address_leave_places_for_others() {
    let mut checks = Checks::default();
    let one = Some([192, 0, 2, 1].into());
    let entered = (0..200).filter(|n| checks.enter(one, session(*n))).count();
    assert_eq!(entered, CHECKS_MAX / 2);
    assert!(checks.enter(Some([192, 0, 2, 2].into()), session(200)));
}

#[test]
fn who_comes_while_too_many_passwords_wait_is_refused_and_not_counted() {
    let mut server = Server::new(&[argon2id("bob", "rose")]);
    assert!(server.login("bob", "rose"));
    server.bench.disk_rests = true;
    let mut waiting = Vec::new();
    for _ in 0..CHECKS_MAX / 2 {
        waiting.push(server.bench.another());
        server.sends("bob", "rose").expect(b"").expect_open();
    }
    for _ in 0..5 {
        waiting.push(server.bench.another());
        server.sends("bob", "rose").expect(REFUSED).expect_closed();
    }
    // It was no failure.
    assert!(
        !server
            .bench
            .service
            .accounts
            .as_ref()
            .is_some_and(|accounts| {
                accounts
                    .failures
                    .are_too_many(Some([192, 0, 2, 9].into()), server.bench.now)
            })
    );
}

#[test]
fn a_wrong_password_of_a_cheap_hash_costs_what_the_dearest_does() {
    let mut server = Server::new(&[argon2id("bob", "rose"), dear("cyd", "lily", 5)]);
    assert!(server.login("bob", "rose"));
    for user in ["bob", "cyd", "eve"] {
        drop(server.bench.another());
        server.bench.disk_rests = true;
        server.sends(user, "x").expect(b"");
        let mut checks = Vec::new();
        server.bench.disk_does_by(1, |job, disk| {
            if let Job::Command(Command::Prove { check, .. }) = job {
                checks.push(check.work_if_wrong());
            }
            job.perform(disk)
        });
        assert_eq!(checks, [5 * 8], "{user}");
        server.bench.expect(REFUSED).expect_closed();
        server.bench.disk_rests = false;
    }
}

#[test]
fn who_hangs_up_is_counted_all_the_same() {
    let mut server = Server::new(&[argon2id("bob", "rose")]);
    assert!(server.login("bob", "rose"));
    for _ in 0..3 {
        drop(server.bench.another());
        server.bench.disk_rests = true;
        server.sends("bob", "lily").expect(b"");
        server.bench.disk_does(0);
        server.bench.breaks();
        assert!(crate::service::Service::is_busy(&server.bench.service));
        server.bench.disk_does(1);
        assert!(!crate::service::Service::is_busy(&server.bench.service));
        server.bench.disk_rests = false;
    }
    assert!(!server.login("bob", "rose"));
}

#[test]
fn who_failed_too_often_has_nothing_checked_for_a_minute() {
    let mut server = Server::new(&[md5("ann", "tulip")]);
    for _ in 0..3 {
        assert!(!server.login("ann", "x"));
    }
    assert!(!server.login("ann", "tulip"));
    server.bench.later(Duration::from_secs(60));
    assert!(server.login("ann", "tulip"));
}

#[test]
fn a_check_that_takes_too_long_ends_with_the_time_for_the_login() {
    let mut server = Server::new(&[argon2id("bob", "rose")]);
    server.bench.disk_rests = true;
    server.sends("bob", "rose").expect(b"");
    server.bench.later(Duration::from_secs(10));
    let failed = server.bench.failed.as_ref().expect("it was dropped");
    assert_eq!(failed.to_string(), "timed out: handshake");
}

#[test]
fn the_file_is_read_again_and_a_broken_one_changes_nothing() {
    let mut server = Server::new(&[md5("ann", "tulip")]);
    assert!(server.login("ann", "tulip"));
    server.write(&[md5("cyd", "lily"), argon2id("bob", "rose")]);
    assert!(server.login("ann", "tulip"), "it is believed for a second");
    server.bench.later(LOOK_EVERY);
    assert!(!server.login("ann", "tulip"));
    assert!(server.login("bob", "rose"));
    assert!(server.login("cyd", "lily"));
    for broken in [
        "cyd|short",
        "cyd|$argon2id$v=19$m=9999999,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEg",
    ] {
        server.write(&[broken.to_owned()]);
        server.bench.later(LOOK_EVERY);
        assert!(server.login("bob", "rose"), "{broken}");
    }
    fs::remove_file(server.folder.path().join("userinfo")).expect("a file");
    server.bench.later(LOOK_EVERY);
    assert!(server.login("bob", "rose"));
    server.write(&[md5("ann", "tulip")]);
    server.bench.later(LOOK_EVERY);
    assert!(server.login("ann", "tulip"));
    assert!(!server.login("bob", "rose"));
}

#[test]
fn each_user_has_a_folder_and_a_command_is_told_of_each_file() {
    let lines = [md5("ann", "tulip"), md5("../bob", "rose")];
    let mut server = Server::with(&lines, |config| {
        config.user_folders = true;
        config.on_stored = Some(Hook {
            event: "on_stored",
            command: ["/bin/tell".to_owned()].into(),
        });
    });
    for (user, password) in [("ann", "tulip"), ("../bob", "rose"), ("ann", "tulip")] {
        assert!(server.login(user, password));
        // One that fits a page, and one that does not.
        for size in [3, 300_000] {
            let header = format!("{{\"filename\": \"a{size}.txt\", \"filesize\": {size}}}");
            let length = (header.len() as i32).to_le_bytes();
            let body = vec![b'x'; size];
            server
                .bench
                .peer_sends(&[&length[..], header.as_bytes(), &body].concat());
        }
    }
    let up = server.folder.path().join("up");
    let stored = [
        "ann/a3.txt",
        "ann/a300000.txt",
        "%2E.%2Fbob/a3.txt",
        "%2E.%2Fbob/a300000.txt",
        "ann/a3.1.txt",
        "ann/a300000.1.txt",
    ];
    for path in stored {
        assert!(up.join(path).is_file(), "{path}");
    }
    let mut names: Vec<_> = fs::read_dir(&up)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["%2E.%2Fbob", ".partial", "ann"]);
    let now = server.bench.now;
    let programs = std::iter::from_fn(|| server.bench.hooks.poll_start(now));
    let files: Vec<PathBuf> = programs
        .map(|(_, program)| {
            let fact = |name: &str| {
                let mut all = program.environment.iter();
                all.find(|(variable, _)| *variable == name)
                    .map(|(_, value)| value.clone())
            };
            assert!(
                ["ann", "../bob"].contains(
                    &fact("NETLAB_USER")
                        .expect("a user")
                        .to_str()
                        .expect("UTF-8")
                )
            );
            assert_eq!(fact("NETLAB_PEER").expect("a peer"), "192.0.2.9:40000");
            assert_eq!(fact("NETLAB_SHA256"), None);
            fact("NETLAB_FILE").expect("a path").into()
        })
        .collect();
    assert_eq!(files, stored.map(|path| up.join(path)));
}

#[test]
fn a_name_that_is_taken_is_refused_in_the_folder_of_its_user_only() {
    let lines = [md5("ann", "tulip"), md5("bob", "rose")];
    let mut server = Server::with(&lines, |config| {
        config.user_folders = true;
        config.overwrite = Overwrite::Refuse;
    });
    let header = r#"{"filename": "a", "filesize": 99999}"#;
    let length = (header.len() as i32).to_le_bytes();
    let large = [&length[..], header.as_bytes(), &[b'x'; 99_999]].concat();
    for (user, password, is_taken) in [
        ("ann", "tulip", false),
        ("bob", "rose", false),
        ("ann", "tulip", true),
    ] {
        assert!(server.login(user, password));
        server.bench.peer_sends(&large);
        assert_eq!(server.bench.failed.is_some(), is_taken, "{user}");
    }
}
