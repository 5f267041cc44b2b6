use super::*;
use crate::config::SecretSource;
use crate::services::bench::Bench;
use crate::services::upload::Upload;
use crate::sys::unix;
use crate::wire::argon2id::Cost;
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
    let cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    UserInfo::line_with(user, &Hash::of(password.as_bytes(), [7; 16], cost))
}

fn md5(user: &str, password: &str) -> String {
    UserInfo::line(user, &Secret::from(password))
}

impl Server {
    fn new(lines: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("userinfo");
        fs::write(&path, lines.join("\n")).expect("a file");
        let mut config = UploadConfig::new(Handshake::None, SecretSource::Given(Secret::default()));
        config.dir = folder.path().join("up");
        config.login = Some(UserInfo::parse(&lines.join("\n")).expect("a user file"));
        config.login_file = Some(path);
        config.failures_max = NonZeroU32::new(3);
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
