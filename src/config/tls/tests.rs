use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::super::{Config, Overrides, Problems};
use super::*;

const CERTIFICATE: &str = "PEM with one BEGIN CERTIFICATE or more, the listener's own first";
const KEY: &str = "PEM with one BEGIN PRIVATE KEY, not encrypted";

/// A folder with certificates `a.pem`, `b.pem` and so on beside `a.key`, `b.key`.
struct Files(TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::tempdir().expect("a folder"))
    }

    /// Makes a certificate for these names that is valid for these years.
    fn make(&self, file: &str, names: &[&str], years: (i32, i32)) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        self.write(&format!("{file}.pem"), &made.pem());
        self.write(&format!("{file}.key"), &key.serialize_pem());
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).expect("a file");
    }

    /// One as the configuration names it.
    fn table(file: &str) -> String {
        format!("{{ cert = '{file}.pem', key = '{file}.key' }}")
    }

    fn read(
        &self,
        tls: &str,
        read: fn(Option<&Path>, &Overrides) -> Result<Config, Problems>,
    ) -> Result<Config, String> {
        let file = self.0.path().join("x.toml");
        self.write("x.toml", &format!("[[listener]]\nkind = 'hello'\n{tls}\n"));
        let config = read(Some(&file), &Overrides::default());
        config.map_err(|problems| self.named(&problems))
    }

    /// What is wrong, without the folder.
    fn named(&self, problems: &Problems) -> String {
        let folder = format!("{}/", self.0.path().display());
        problems.to_string().replace(&folder, "")
    }
}

/// The certificate that a name gets, by its file.
fn found(config: &Config, name: Option<&str>) -> String {
    let tls = config.listeners[0].kind.tls().expect("certificates");
    let by_name = tls.by_name().expect("all were read");
    let is_it = |source: &&CertificateSource| {
        let read = source.read.as_ref().expect("it was read");
        Arc::ptr_eq(&read.signing, by_name.find(name))
    };
    let source = tls.certificates.iter().find(is_it).expect("one of them");
    let file = source.files.cert.file_stem().expect("a name");
    file.to_string_lossy().into_owned()
}

#[test]
fn a_client_gets_the_certificate_for_the_name_that_it_asks_for() {
    let files = Files::new();
    files.make(
        "a",
        &["a.example", "127.0.0.1", "one.example"],
        (2000, 4000),
    );
    files.make("b", &["*.example", "*.two.example"], (2000, 4000));
    files.make("c", &["x.two.example", "C.two.example"], (2000, 4000));
    let lists = [
        format!(
            "tls = [{}, {}, {}]",
            Files::table("a"),
            Files::table("b"),
            Files::table("c")
        ),
        ["a", "b", "c"]
            .map(|file| format!("[[listener.tls]]\ncert = '{file}.pem'\nkey = '{file}.key'\n"))
            .concat(),
    ];
    for list in lists {
        let config = files.read(&list, Config::load).expect("it is right");
        assert_eq!(config.remarks, Problems::default());
        for (name, file) in [
            ("a.example", "a"),
            ("ONE.example", "a"),
            ("x.example", "b"),
            ("x.example.", "b"),
            ("y.two.example", "b"),
            ("x.two.example", "c"),
            ("c.two.example", "c"),
            // A wildcard is one label and no less: for these the first is there.
            ("x.y.example", "a"),
            ("example", "a"),
            ("x.x.two.example", "a"),
            ("other.test", "a"),
            (".example", "b"),
            ("127.0.0.1", "a"),
            ("", "a"),
        ] {
            assert_eq!(found(&config, Some(name)), file, "{name:?}");
        }
        assert_eq!(found(&config, None), "a");
    }
}

#[test]
fn every_kind_over_streams_takes_certificates() {
    let files = Files::new();
    files.make("a", &["a.example"], (2000, 4000));
    for kind in [
        "tcp-echo",
        "frame-echo",
        "hello",
        "http",
        "proxy",
        "admin",
        "upload",
    ] {
        let more = if kind == "upload" {
            "handshake = 'none'"
        } else {
            ""
        };
        let text = format!(
            "[[listener]]\nkind = '{kind}'\n{more}\ntls = {}",
            Files::table("a")
        );
        let file = files.0.path().join("x.toml");
        let config = Config::parse(&text, &file, &Overrides::default());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(found(&config, None), "a", "{kind}");
    }
}

#[test]
fn what_is_odd_about_a_certificate_is_a_warning() {
    let files = Files::new();
    files.make("old", &["old.example"], (2000, 2001));
    files.make("new", &["new.example"], (3000, 4000));
    files.make("bare", &["127.0.0.1"], (2000, 4000));
    let [old, new, bare] = ["old", "new", "bare"].map(Files::table);
    let list = format!("tls = [\n{old},\n{new},\n{bare}]");
    let config = files.read(&list, Config::load).expect("it can be used");
    assert_eq!(
        files.named(&config.remarks),
        "x.toml:4:10: warning: listener \"hello\": `cert` names old.pem: it expired on \
         Mon, 01 Jan 2001 00:00:00 GMT; expected one that is valid now\n\
         x.toml:5:10: warning: listener \"hello\": `cert` names new.pem: it is not valid before \
         Wed, 01 Jan 3000 00:00:00 GMT; expected one that is valid now\n\
         x.toml:6:10: warning: listener \"hello\": `cert` names bare.pem: it is for no name \
         (subjectAltName, DNS), so no client gets it; expected one that is"
    );
    // Both ends belong to the time in which it is valid.
    let tls = config.listeners[0].kind.tls().expect("certificates");
    let old = tls.certificates[0].read.as_ref().expect("it was read");
    let at = |unix_s| old.oddities(UNIX_EPOCH + Duration::from_secs(unix_s)).len();
    let (from, until) = (946_684_800, 978_307_200);
    assert_eq!(
        [at(from - 1), at(from), at(until), at(until + 1)],
        [1, 0, 0, 1]
    );
}

#[test]
fn two_certificates_for_one_name_are_refused() {
    let files = Files::new();
    files.make("a", &["a.example", "*.a.example"], (2000, 4000));
    files.make("b", &["b.example", "A.example"], (2000, 4000));
    let list = format!("tls = [{},\n{}]", Files::table("a"), Files::table("b"));
    let expected = "x.toml:4:10: listener \"hello\": `cert` names b.pem: it is for \"a.example\", \
                    and so is a.pem; expected one certificate for a name";
    assert_eq!(files.read(&list, Config::load).unwrap_err(), expected);
    // Files may come to be so later; then the former is for the name.
    let config = files
        .read(&list, Config::load_again)
        .expect("it can be used");
    assert_eq!(files.named(&config.remarks), expected);
    assert_eq!(found(&config, Some("a.example")), "a");
    assert_eq!(found(&config, Some("b.example")), "b");
}

#[test]
fn a_table_that_is_not_whole_is_refused() {
    let files = Files::new();
    files.make("a", &["a.example"], (2000, 4000));
    for (tls, place, what) in [
        ("tls = []", "3:7", "`tls` is empty; expected"),
        ("tls = 'a.pem'", "3:7", "`tls` is a string; expected"),
        (
            "tls = ['a.pem']",
            "3:8",
            "an entry of `tls` is a string; expected",
        ),
        (
            "tls = { cert = 'a.pem' }",
            "3:16",
            "`tls` is not whole; expected",
        ),
        ("tls = {}", "3:7", "`tls` is not whole; expected"),
        (
            "tls = [{ cert = 'a.pem', key = 'a.key' }, { key = 'a.key' }]",
            "3:43",
            "`tls` is not whole",
        ),
        (
            "tls = { cert = 'a.pem', key = 'a.key', ca = 'x' }",
            "3:40",
            "unknown key `ca`",
        ),
        (
            "tls = { cert = 1, key = 'a.key' }",
            "3:16",
            "`cert` is an integer",
        ),
    ] {
        let wrong = files.read(tls, Config::load_again).expect_err(tls);
        assert!(
            wrong.starts_with(&format!("x.toml:{place}: {what}")),
            "{tls}: {wrong}"
        );
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
}

#[test]
fn each_certificate_that_cannot_be_read_again_stays_what_it_was() {
    let files = Files::new();
    files.make("a", &["a.example"], (2000, 4000));
    files.make("b", &["b.example"], (2000, 4000));
    let list = format!("tls = [{}, {}]", Files::table("a"), Files::table("b"));
    let before = files.read(&list, Config::load).expect("it is right");
    files.make("a", &["a.example", "new.example"], (2000, 4000));
    files.write("b.key", "torn");
    assert!(files.read(&list, Config::load).is_err());
    let mut after = files
        .read(&list, Config::load_again)
        .expect("it can be used");
    assert!(
        files
            .named(&after.remarks)
            .contains("`key` names b.key: it holds no private key")
    );
    // What the files hold makes no other listener of it.
    assert_eq!(after.listeners, before.listeners);
    assert!(
        after.listeners[0]
            .kind
            .tls()
            .expect("some")
            .by_name()
            .is_err()
    );
    assert!(after.listeners[0].keep(&before.listeners[0]));
    assert_eq!(found(&after, Some("new.example")), "a");
    assert_eq!(found(&after, Some("b.example")), "b");
    // And so it does when the next one does not find it either.
    let mut last = files
        .read(&list, Config::load_again)
        .expect("it can be used");
    assert!(last.listeners[0].keep(&after.listeners[0]));
    assert_eq!(found(&last, Some("b.example")), "b");
}

#[test]
fn what_is_wrong_with_a_certificate_is_told_with_its_listener_and_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = [(); 2].map(|()| {
        let names = vec!["localhost".to_owned()];
        rcgen::generate_simple_self_signed(names).expect("a certificate")
    });
    let cut = made[0].cert.pem().replace("-----END CERTIFICATE-----", "");
    let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let curve = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (name, text) in [
        ("cert.pem", made[0].cert.pem()),
        ("key.pem", made[0].signing_key.serialize_pem()),
        ("other.pem", made[1].signing_key.serialize_pem()),
        ("text", "not PEM".to_owned()),
        ("cut.pem", cut),
        ("wrong.pem", wrong.to_owned()),
        ("curve.pem", curve.to_owned()),
    ] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let file = folder.path().join("x.toml");
    let check = |cert: &str, key: &str| {
        let text = format!(
            "[[listener]]\nkind = 'http'\nname = 'web'\ntls.cert = '{cert}'\ntls.key = '{key}'\n"
        );
        Config::parse(&text, &file, &Overrides::default()).map_err(|wrong| wrong.to_string())
    };
    assert!(check("cert.pem", "key.pem").is_ok());
    let path = |name: &str| folder.path().join(name).display().to_string();
    for (cert, key, place, names, why, expected) in [
        (
            "none",
            "key.pem",
            "4:12",
            "`cert` names none",
            "No such file",
            CERTIFICATE,
        ),
        (
            "text",
            "key.pem",
            "4:12",
            "`cert` names text",
            "it holds no certificate",
            CERTIFICATE,
        ),
        (
            "key.pem",
            "key.pem",
            "4:12",
            "`cert` names key.pem",
            "it holds no certificate",
            CERTIFICATE,
        ),
        (
            "cut.pem",
            "key.pem",
            "4:12",
            "`cert` names cut.pem",
            "in the middle",
            CERTIFICATE,
        ),
        (
            "wrong.pem",
            "key.pem",
            "4:12",
            "`cert` names wrong.pem",
            "cannot be read",
            CERTIFICATE,
        ),
        (
            "cert.pem",
            "none",
            "5:11",
            "`key` names none",
            "No such file",
            KEY,
        ),
        (
            "cert.pem",
            "text",
            "5:11",
            "`key` names text",
            "it holds no private key",
            KEY,
        ),
        (
            "cert.pem",
            "cert.pem",
            "5:11",
            "`key` names cert.pem",
            "it holds no private key",
            KEY,
        ),
        (
            "cert.pem",
            "curve.pem",
            "5:11",
            "`key` names curve.pem",
            "cannot be used",
            KEY,
        ),
        (
            "cert.pem",
            "other.pem",
            "5:11",
            "`key` names other.pem",
            "another one's",
            "the key that the certificate in ",
        ),
    ] {
        let wrong = check(cert, key).expect_err("should be refused");
        let (what, name) = names.split_once("names ").expect("a name");
        let start = format!(
            "{}:{place}: listener \"web\": {what}names {}: ",
            file.display(),
            path(name)
        );
        assert!(wrong.starts_with(&start), "{wrong}\nand not\n{start}");
        assert!(
            wrong.contains(why) && wrong.contains(&format!("; expected {expected}")),
            "{wrong}"
        );
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
}
