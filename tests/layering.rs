//! Who may import whom. A layer that reaches around another is found here, not in a review.
//!
//! The production part of each file is looked at: no comments, no test modules.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module, or a part of one, and the modules of ours, or parts of them, that it may name besides
/// itself.
const LAYERS: &[(&str, &[&str])] = &[
    // The floor: nothing of ours, but that a queue holds files, and pages are mapped.
    ("ending.rs", &[]),
    ("lines.rs", &[]),
    ("shares.rs", &[]),
    ("pipe.rs", &[]),
    ("unread.rs", &[]),
    ("disk.rs", &["pipe"]),
    ("sys/unix/memory.rs", &[]),
    ("buffer.rs", &["disk", "sys::unix::memory", "unread"]),
    ("http", &[]),
    ("wire", &[]),
    ("dns", &["shares"]),
    ("logging", &["http", "wire"]),
    ("limits.rs", &[]),
    ("hooks.rs", &["limits", "shares"]),
    ("waiter.rs", &[]),
    ("surroundings.rs", &[]),
    // What waits for a disk.
    (
        "jobs",
        &["buffer", "disk", "limits", "pipe", "shares", "wire"],
    ),
    // What can be seen of the loop.
    ("inside", &["ending", "limits", "metrics", "waiter"]),
    // The contract and what is counted.
    (
        "metrics",
        &["cache", "dns", "ending", "hooks", "jobs", "wire"],
    ),
    (
        "service",
        &[
            "buffer", "cache", "disk", "dns", "ending", "hooks", "inside", "jobs", "metrics",
            "pipe", "waiter", "wire",
        ],
    ),
    ("gate", &["metrics", "service"]),
    // The kernel knows files and what passes the contract, no protocol and no loop.
    (
        "sys",
        &[
            "disk",
            "hooks",
            "jobs",
            "limits",
            "lines",
            "logging",
            "pipe",
            "service",
            "surroundings",
            "unread",
            "wire",
        ],
    ),
    // The loop knows no protocol, but what a load balancer says ahead of one (`wire`).
    (
        "reactor",
        &[
            "buffer", "cache", "disk", "dns", "ending", "gate", "hooks", "inside", "jobs",
            "limits", "logging", "metrics", "pipe", "service", "shares", "sys", "wire",
        ],
    ),
    ("cache", &["buffer", "disk", "http", "jobs", "waiter"]),
    // Protocols know no loop and no kernel.
    (
        "services",
        &[
            "buffer", "cache", "config", "disk", "dns", "ending", "gate", "hooks", "http",
            "inside", "jobs", "lines", "logging", "metrics", "service", "shares", "wire",
        ],
    ),
    (
        "config",
        &[
            "buffer",
            "dns",
            "hooks",
            "http",
            "limits",
            "logging",
            "surroundings",
            "wire",
        ],
    ),
    // They read the files of a cache as it does, and send datagrams in batches as it does.
    (
        "client",
        &[
            "cache",
            "http",
            "sys::Batch",
            "sys::DatagramTuning",
            "sys::unix::Bursts",
            "wire",
        ],
    ),
    // The table of kinds brings them together.
    (
        "serve.rs",
        &[
            "cache",
            "config",
            "dns",
            "gate",
            "http",
            "reactor",
            "service",
            "services",
            "surroundings",
            "sys",
        ],
    ),
    (
        "serve",
        &[
            "config",
            "inside",
            "limits",
            "logging",
            "reactor",
            "surroundings",
            "sys",
        ],
    ),
    ("course.rs", &[]),
    ("lib.rs", &[]),
    ("manual.rs", &[]),
    ("main.rs", &[]),
    ("replay.rs", &[]),
    ("simulate.rs", &[]),
];

/// Tools of tests that other crates' tests use as well.
const TOOLS: &[&str] = &["services/bench.rs"];

/// What only the kernel, the clients, the configuration with its surroundings and the command line may
/// name.
const DOORS: &[&str] = &[
    "mio::net",
    "std::fs",
    " fs::",
    "(fs::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "UnixListener",
    "Instant::now",
    "SystemTime::now",
];

struct Source {
    /// Below `src/`.
    path: String,
    /// Its production part.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let read = |path: &PathBuf| fs::read_to_string(path).expect("a readable file");
    let test_modules: BTreeSet<PathBuf> = files
        .iter()
        .flat_map(|path| test_modules(path, &read(path)))
        .collect();
    files
        .iter()
        .filter(|path| !test_modules.contains(*path))
        .filter(|path| path.components().all(|part| part.as_os_str() != "tests"))
        .filter(|path| !TOOLS.iter().any(|tool| path.ends_with(tool)))
        .map(|path| Source {
            path: path
                .strip_prefix(&root)
                .expect("below src")
                .to_string_lossy()
                .into_owned(),
            text: production(&read(path)),
        })
        .collect()
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The files of modules that are declared for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = match path.file_name().and_then(|name| name.to_str()) {
        Some("mod.rs" | "lib.rs" | "main.rs") => path.parent().expect("a folder").to_owned(),
        _ => path.with_extension(""),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let declared = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = declared.filter_map(|pair| {
        pair[1]
            .strip_suffix(';')?
            .rsplit_once("mod ")
            .map(|(_, name)| name)
    });
    names
        .map(|name| folder.join(format!("{name}.rs")))
        .collect()
}

/// The text without comments, and without the tests at its end.
fn production(text: &str) -> String {
    let mut out = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]"
            && lines
                .peek()
                .is_some_and(|next| next.starts_with("mod tests {"))
        {
            break;
        }
        if !line.trim_start().starts_with("//") {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Every path that begins with `crate`, `super` or `self`, or that a line `use` begins with, groups
/// taken apart.
fn paths(text: &str) -> Vec<Vec<&str>> {
    const ROOTS: [&str; 4] = ["crate::", "super::", "self::", "use "];
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = ROOTS.iter().filter_map(|root| text[at..].find(root)).min() {
        let begin = at + next;
        // `$crate`, and names that end like a root, are none.
        let is_name = text[..begin].ends_with(|c| is_part_of_name(c) || c == '$' || c == ':');
        let (_, word) = text.split_at(begin);
        let path = word.strip_prefix("use ").unwrap_or(word);
        at = begin + word.len() - path.len();
        match is_name {
            true => at += "self::".len(),
            false => at += take_path(path, &[], &mut found).max(1),
        }
    }
    found
}

/// Reads a path with its groups from the beginning of `text`. How many bytes it takes.
fn take_path<'t>(text: &'t str, before: &[&'t str], found: &mut Vec<Vec<&'t str>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if rest.starts_with('{') {
            at += 1;
            while !text[at..].starts_with('}') {
                let taken = take_path(&text[at..], &path, found);
                at += if taken == 0 { 1 } else { taken };
            }
            return at + 1;
        }
        let name = rest.find(|c| !is_part_of_name(c)).unwrap_or(rest.len());
        path.extend(Some(&rest[..name]).filter(|name| !name.is_empty()));
        at += name;
        match text[at..].strip_prefix("::") {
            Some(_) => at += 2,
            None => break,
        }
    }
    if path.len() > before.len() {
        found.push(path);
    }
    at
}

fn is_part_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// What follows each `crate::`.
fn imports(text: &str) -> Vec<String> {
    let ours = paths(text).into_iter().filter(|path| path[0] == "crate");
    ours.map(|path| path[1..].join("::"))
        .filter(|name| !name.is_empty())
        .collect()
}

/// The module that a file is, from the root.
fn module(path: &str) -> Vec<&str> {
    let mut names: Vec<&str> = path.trim_end_matches(".rs").split('/').collect();
    if matches!(names.last(), Some(&("mod" | "lib" | "main"))) {
        names.pop();
    }
    names
}

/// The module of ours that `path` leads to in the file of module `from`.
fn defined_in<'t>(
    path: &[&'t str],
    from: &[&'t str],
    modules: &BTreeSet<Vec<&'t str>>,
) -> Option<Vec<&'t str>> {
    let supers = path.iter().take_while(|name| **name == "super").count();
    let up = from.len().saturating_sub(supers);
    let mut full = match path[0] {
        "crate" => path[1..].to_vec(),
        "super" => [&from[..up], &path[supers..]].concat(),
        "self" => [from, &path[1..]].concat(),
        child if modules.contains(&[from, &[child]].concat()) => [from, path].concat(),
        _ => return None, // of another crate
    };
    while !full.is_empty() && !modules.contains(&full) {
        full.pop();
    }
    Some(full)
}

fn layer(path: &str) -> &'static (&'static str, &'static [&'static str]) {
    let own = |(name, _): &&(&str, &[&str])| path == *name || path.starts_with(&format!("{name}/"));
    LAYERS
        .iter()
        .find(own)
        .unwrap_or_else(|| panic!("src/{path} stands in no layer: give it one"))
}

#[test]
fn every_module_names_only_those_below_it() {
    let mut wrong = Vec::new();
    for source in sources() {
        let (name, allowed) = layer(&source.path);
        let own = name.trim_end_matches(".rs");
        for import in imports(&source.text) {
            let is_of = |name: &str| {
                let rest = import.strip_prefix(name);
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            };
            if !is_of(own) && !allowed.iter().any(|name| is_of(name)) {
                wrong.push(format!("src/{} names crate::{import}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A module and those within it may name each other: the folder says that they are one. Any other
/// loop of imports ties together what stands apart in the tree.
#[test]
fn no_modules_import_each_other_in_a_circle() {
    let sources = sources();
    let modules: BTreeSet<Vec<&str>> = sources.iter().map(|source| module(&source.path)).collect();
    let mut named: BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>> = BTreeMap::new();
    for source in &sources {
        let from = module(&source.path);
        let paths = paths(&source.text);
        let found = paths
            .iter()
            .filter_map(|path| defined_in(path, &from, &modules));
        let others = found.filter(|to| !to.starts_with(&from) && !from.starts_with(to));
        named.entry(from.clone()).or_default().extend(others);
    }
    assert!(
        named.values().map(BTreeSet::len).sum::<usize>() > 300,
        "too few imports were found"
    );
    let mut circles = Vec::new();
    for (from, tos) in &named {
        for to in tos.iter().filter(|to| reaches(to, from, &named)) {
            circles.push(format!("{} names {}", from.join("::"), to.join("::")));
        }
    }
    assert!(circles.is_empty(), "in a circle:\n{}", circles.join("\n"));
}

/// Whether `from` names `to`, or something that does.
fn reaches(from: &[&str], to: &[&str], named: &BTreeMap<Vec<&str>, BTreeSet<Vec<&str>>>) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        if next == to {
            return true;
        }
        if seen.insert(next) {
            open.extend(named.get(next).into_iter().flatten().map(Vec::as_slice));
        }
    }
    false
}

#[test]
fn only_the_kernel_opens_the_doors() {
    let mut wrong = Vec::new();
    for source in sources() {
        let may = [
            "sys/",
            "client/",
            "config/",
            "main.rs",
            "replay.rs",
            "simulate.rs",
            "surroundings.rs",
        ];
        if may.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        let named = DOORS.iter().filter(|door| source.text.contains(**door));
        wrong.extend(named.map(|door| format!("src/{} names {}", source.path, door.trim())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stands_below_one_folder() {
    let is_unsafe = |source: &Source| {
        let text = &source.text;
        text.contains("unsafe {") || text.contains("unsafe fn") || text.contains("unsafe impl")
    };
    let files: Vec<String> = sources()
        .into_iter()
        .filter(is_unsafe)
        .map(|source| source.path)
        .collect();
    let known = [
        "cached",
        "datagrams",
        "flight",
        "given",
        "identity",
        "memory",
        "ring",
        "sockets",
        "sync_range",
    ];
    assert_eq!(files, known.map(|name| format!("sys/unix/{name}.rs")));
}

/// A method with a body of its own that a record does not know is answered by that body, and a replay
/// goes another way.
#[test]
fn every_question_to_the_kernel_is_recorded() {
    let sources = sources();
    let text = |path: &str| {
        let source = sources.iter().find(|source| source.path == path);
        &*source.unwrap_or_else(|| panic!("{path}")).text
    };
    for (asked, name, recorded) in [
        ("sys/mod.rs", "pub trait Sys {", "sys/record/kernel.rs"),
        ("disk.rs", "pub trait Disk {", "sys/record/disk.rs"),
    ] {
        let (_, body) = text(asked).split_once(name).expect("the trait");
        let body = body.split("\n}\n").next().unwrap_or_default();
        let methods = body.lines().filter_map(|line| line.strip_prefix("    fn "));
        let methods: Vec<&str> = methods
            .filter_map(|line| line.split(['(', '<']).next())
            // They ask others.
            .filter(|name| !["read_full", "write_full"].contains(name))
            .collect();
        assert!(methods.len() > 20, "{methods:?}");
        for method in methods {
            let is_there = text(recorded).contains(&format!("fn {method}("));
            assert!(is_there, "{recorded} does not know {method}");
        }
    }
}
