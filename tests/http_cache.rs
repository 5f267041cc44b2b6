//! The public suite `http-cache-tests` through the proxy, in its three forms, scored as the suite
//! does: a test counts if it and all that it depends on pass. `http_cache/run.mjs` runs it, and is
//! there to be run by hand, too; `NETLAB_TEST_NPM` names the folder with the suite (default
//! `target/npm`).
//!
//! What fails is printed, with the reason (`-- --ignored --nocapture`). How many must pass stands
//! in [`FORMS`], and which ones cannot, with the reason, in the lists beside it.
#![expect(clippy::print_stdout, reason = "it tells the score")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

/// Tests that fail by intent, by their ids, each with the reason.
type Expected = &'static [(&'static str, &'static str)];

/// What a form of the proxy must reach.
struct Form {
    name: &'static str,
    /// Of the 157 tests whose kind is `required`.
    required: u64,
    /// Of the 86 tests whose kind is `optimal`.
    optimal: u64,
    /// Beside [`EXPECTED`].
    expected: Expected,
}

const FORMS: [Form; 3] = [
    Form {
        name: "gateway",
        required: 153,
        optimal: 83,
        expected: &[],
    },
    Form {
        name: "forward",
        required: 153,
        optimal: 83,
        expected: &[],
    },
    Form {
        name: "address",
        required: 136,
        optimal: 79,
        expected: &[
            ("invalidate-DELETE-cl", LOCATION),
            ("invalidate-DELETE-location", LOCATION),
            ("invalidate-M-SEARCH-cl", LOCATION),
            ("invalidate-M-SEARCH-location", LOCATION),
            ("invalidate-POST-cl", LOCATION),
            ("invalidate-POST-location", LOCATION),
            ("invalidate-PUT-cl", LOCATION),
            ("invalidate-PUT-location", LOCATION),
            ("other-authorization", AUTHORIZATION),
            ("headers-store-Set-Cookie", OF_THE_ORIGIN),
            ("headers-store-Set-Cookie2", OF_THE_ORIGIN),
            ("headers-store-Clear-Site-Data", OF_THE_ORIGIN),
            ("headers-store-Content-Security-Policy", OF_THE_ORIGIN),
            ("304-etag-update-response-Set-Cookie", OF_THE_ORIGIN),
            ("304-etag-update-response-Set-Cookie2", OF_THE_ORIGIN),
            ("304-etag-update-response-Clear-Site-Data", OF_THE_ORIGIN),
            (
                "304-etag-update-response-Content-Security-Policy",
                OF_THE_ORIGIN,
            ),
        ],
    },
];

const LOCATION: &str = "the suite compares Location, which leads back into the proxy in this form";
const AUTHORIZATION: &str =
    "the browser's password for the proxy's own address is no business of the origin's";

const OF_THE_ORIGIN: &str =
    "to the browser all such pages come from one origin, whose cookies and scripts are kept apart";

/// Those of every form.
const EXPECTED: Expected = &[
    ("stale-close-must-revalidate", HUNG_UP),
    ("stale-close-proxy-revalidate", HUNG_UP),
    ("stale-close-no-cache", HUNG_UP),
    ("stale-close-s-maxage=2", HUNG_UP),
    (
        "conditional-lm-fresh-no-lm",
        "without Last-Modified, RFC 9111 section 4.3.2 compares with Date, which is later",
    ),
    (
        "vary-normalise-lang-select",
        "the two lists do not mean the same (RFC 9111 section 4.1)",
    ),
    (
        "partial-store-partial-complete",
        "parts are joined under a strong validator only (RFC 9111 section 3.4)",
    ),
];

const HUNG_UP: &str = "it waits for a header of the origin on an answer for which that hung up";

#[test]
#[ignore = "needs node and http-cache-tests (npm)"]
fn a_gateway_caches_as_the_suite_wants() {
    check(&FORMS[0]);
}

#[test]
#[ignore = "needs node and http-cache-tests (npm)"]
fn a_forward_proxy_caches_as_the_suite_wants() {
    check(&FORMS[1]);
}

#[test]
#[ignore = "needs node and http-cache-tests (npm)"]
fn the_address_bar_caches_as_the_suite_wants() {
    check(&FORMS[2]);
}

/// Its tests wait for seconds to pass, and a machine that stands still for one of them spoils some:
/// what fails is tried once more.
fn check(form: &Form) {
    let first = run(form);
    let wrong = match first {
        Ok(()) => return,
        Err(wrong) => run(form).err().map(|again| (wrong, again)),
    };
    assert!(wrong.is_none(), "{}: {wrong:#?}", form.name);
}

/// Runs the suite once; what is wrong with its score.
fn run(form: &Form) -> Result<(), Vec<String>> {
    let output = Command::new("node")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http_cache/run.mjs"))
        .args(["--form", form.name, "--json"])
        .env("NETLAB_BIN", env!("CARGO_BIN_EXE_netlab-reactor"))
        .env_remove("NETLAB_CONFIG")
        .stdin(Stdio::null())
        .output()
        .expect("node");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    let (told, report) = text.trim_end().rsplit_once('\n').expect("lines");
    println!("{told}");
    let report: Value = serde_json::from_str(report).expect("JSON");

    let tests = report["tests"].as_array().expect("tests");
    let mut wrong = Vec::new();
    for (id, reason) in EXPECTED.iter().chain(form.expected) {
        let test = tests.iter().find(|test| test["id"] == *id);
        match test.and_then(|test| test["passed"].as_bool()) {
            Some(false) => println!("{} {id} fails because {reason}", form.name),
            Some(true) => wrong.push(format!("{id} is expected to fail, and passes")),
            None => wrong.push(format!("the suite has no {id}")),
        }
    }
    for (kind, floor, count) in [
        ("required", form.required, 157),
        ("optimal", form.optimal, 86),
    ] {
        let score = &report["score"][kind];
        assert_eq!(score["of"], count, "the suite's tests of kind {kind}");
        let passed = score["passed"].as_u64().expect("a number");
        if passed < floor {
            wrong.push(format!("{passed} {kind} tests pass, not {floor}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong),
    }
}
