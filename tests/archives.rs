//! Folders fetched as archives, and what GNU tar, unzip and Python's tarfile and zipfile make of them. Ignored by default,
//! since they need those programs; continuous integration installs and runs them.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use common::{Program, python};

/// A server with a folder `tree` that has all that formats have trouble with.
fn server() -> Program {
    let server = Program::start(
        "[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = \".\"\nlisting = true\n",
    );
    let tree = server.path("tree");
    let long = format!("{}/{}", "y".repeat(200), "z".repeat(200));
    for folder in ["empty", "f\u{fc}r \u{20ac}", &long] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    let large: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7) as u8).collect();
    for (name, contents) in [
        ("small", &b"one line\n"[..]),
        ("nothing", b""),
        ("large.bin", &large),
        ("f\u{fc}r \u{20ac}/\u{fc}", b"umlaut"),
        (&"x".repeat(150), b"long"),
        (&format!("{long}/end"), b"deep"),
        ("run.sh", b"#!/bin/sh\n"),
        (".hidden", b"secret"),
        ("a\\b:c*?\"<>|", b"odd"),
    ] {
        fs::write(tree.join(name), contents).expect("a file");
    }
    fs::write(tree.join(OsStr::from_bytes(b"bytes\xff")), "x").expect("a file");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tree.join("run.sh"), mode).expect("a mode");
    server
}

/// Runs a command in a folder; it must succeed and complain about nothing.
fn run(command: &mut Command, folder: &Path) -> String {
    let output = command
        .env("LC_ALL", "C.UTF-8") // names of other letters are unpacked as such
        .current_dir(folder)
        .output()
        .expect("the tool is there");
    let (text, errors) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success() && errors.is_empty(),
        "{command:?}: {text}{errors}"
    );
    text
}

/// Fetches an archive with curl, under the name that the server gives it; that name.
fn fetch(server: &Program, target: &str, into: &Path) -> String {
    fs::create_dir_all(into).expect("a folder");
    let url = format!("http://{}{target}", server.address("http"));
    let mut curl = Command::new("curl");
    curl.args([
        "--silent",
        "--show-error",
        "--fail",
        "--max-time",
        "60",
        "-OJ",
    ]);
    run(curl.args(["-w", "%{filename_effective}", &url]), into)
}

/// That two folders are the same in all but the hidden file, contents and modes.
fn assert_same(tree: &Path, unpacked: &Path) {
    run(
        Command::new("diff")
            .args(["-r", "--exclude=.hidden"])
            .args([tree, unpacked]),
        tree,
    );
    assert!(!unpacked.join(".hidden").exists());
    let mode = |name: &str| {
        let metadata = fs::metadata(unpacked.join(name)).expect("a file");
        metadata.permissions().mode() & 0o111
    };
    assert_ne!(mode("run.sh"), 0);
    assert_eq!(mode("small"), 0);
}

#[test]
#[ignore = "needs curl and GNU tar"]
fn gnu_tar_unpacks_what_was_there() {
    let server = server();
    let into = server.path("into");
    assert_eq!(fetch(&server, "/tree/?archive=tar", &into), "tree.tar");
    run(Command::new("tar").args(["xf", "tree.tar"]), &into);
    assert_same(&server.path("tree"), &into.join("tree"));
    // Without a query too, and as a stream.
    let url = format!("http://{}/tree.tar", server.address("http"));
    let again = server.path("again");
    fs::create_dir(&again).expect("a folder");
    let pipe = format!("curl --silent --fail {url} | tar x");
    run(Command::new("sh").args(["-c", &pipe]), &again);
    assert_same(&server.path("tree"), &again.join("tree"));
}

#[test]
#[ignore = "needs curl and unzip"]
fn unzip_unpacks_what_was_there() {
    let server = server();
    // What is no text in a name, unzip drops.
    fs::remove_file(server.path("tree").join(OsStr::from_bytes(b"bytes\xff"))).expect("a file");
    let into = server.path("into");
    assert_eq!(fetch(&server, "/tree/?archive=zip", &into), "tree.zip");
    let told = run(Command::new("unzip").args(["-t", "tree.zip"]), &into);
    assert!(told.contains("No errors detected"), "{told}");
    run(Command::new("unzip").args(["-q", "tree.zip"]), &into);
    assert_same(&server.path("tree"), &into.join("tree"));
}

/// Names and sizes that Python finds in an archive of a folder.
fn read_by_python(server: &Program, folder: &str, format: &str) -> Vec<(String, u64)> {
    let seen = python("archives.py", server.address("http"), &[folder, format]);
    serde_json::from_str(&seen).expect("a list")
}

#[test]
#[ignore = "needs Python"]
fn python_reads_both() {
    let server = server();
    let long = format!("tree/{}", "y".repeat(200));
    let named = |name: &str, size| (name.to_owned(), size);
    // What is no UTF-8 in a zip is code page 437 to Python.
    for (format, bytes) in [("tar", "tree/bytes\\udcff"), ("zip", "tree/bytes\u{a0}")] {
        let mut expected = vec![
            named("tree", 0),
            named("tree/a\\b:c*?\"<>|", 3),
            named(bytes, 1),
            named("tree/empty", 0),
            named("tree/f\u{fc}r \u{20ac}", 0),
            named("tree/f\u{fc}r \u{20ac}/\u{fc}", 6),
            named("tree/large.bin", 3_000_000),
            named("tree/nothing", 0),
            named("tree/run.sh", 10),
            named("tree/small", 9),
            (format!("tree/{}", "x".repeat(150)), 4),
            named(&long, 0),
            (format!("{long}/{}", "z".repeat(200)), 0),
            (format!("{long}/{}/end", "z".repeat(200)), 4),
        ];
        expected.sort();
        assert_eq!(
            read_by_python(&server, "tree", format),
            expected,
            "{format}"
        );
    }
}
