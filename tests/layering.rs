//! Who may import whom. A layer that reaches around another is found here, not in a review.
//!
//! The production part of each file is looked at: no comments, no test modules.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A module, or a part of one, and the modules of ours that it may name besides itself.
const LAYERS: &[(&str, &[&str])] = &[
    // The floor: nothing of ours, but that a queue holds files.
    ("ending.rs", &[]),
    ("lines.rs", &[]),
    ("disk.rs", &[]),
    ("buffer.rs", &["disk"]),
    ("http", &[]),
    ("wire", &[]),
    ("dns", &[]),
    ("limits.rs", &[]),
    // The contract and what is counted.
    ("metrics", &["dns", "ending", "wire"]),
    ("service", &["buffer", "disk", "dns", "ending", "metrics"]),
    ("gate", &["metrics", "service"]),
    // The kernel knows files and what passes the contract, no protocol and no loop.
    ("sys", &["disk", "lines", "service"]),
    // The loop knows no protocol.
    (
        "reactor",
        &[
            "buffer", "disk", "dns", "ending", "gate", "limits", "metrics", "service", "sys",
        ],
    ),
    ("cache", &["disk"]),
    // Protocols know no loop and no kernel.
    (
        "services",
        &[
            "buffer", "cache", "config", "disk", "dns", "ending", "gate", "http", "lines",
            "metrics", "service", "wire",
        ],
    ),
    ("config", &["buffer", "dns", "http", "limits", "wire"]),
    ("client", &["http", "wire"]),
    // The table of kinds brings them together.
    (
        "serve.rs",
        &[
            "config", "dns", "gate", "http", "reactor", "service", "services", "sys",
        ],
    ),
    ("serve", &["config", "reactor", "sys"]),
    ("lib.rs", &[]),
    ("manual.rs", &[]),
    ("main.rs", &[]),
];

/// Tools of tests that other crates' tests use as well.
const TOOLS: &[&str] = &["services/bench.rs"];

/// What only the kernel, the clients, the configuration and the command line may name.
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

/// What follows each `crate::`, groups taken apart.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, prefix) in text.match_indices("crate::") {
        // `$crate` and names that end like it are none of ours.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = &group[..group.find('}').unwrap_or(group.len())];
                found.extend(group.split(',').map(|name| name.trim().to_owned()));
            }
            None => {
                let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
                found.push(rest[..end].trim_end_matches(':').to_owned());
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
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
            let module = import.split("::").next().unwrap_or_default();
            if module != own && !allowed.contains(&module) {
                wrong.push(format!("src/{} names crate::{import}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_kernel_opens_the_doors() {
    let mut wrong = Vec::new();
    for source in sources() {
        let may = ["sys/", "client/", "config/", "main.rs"];
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
    assert_eq!(files, ["sys/unix/datagrams.rs", "sys/unix/sockets.rs"]);
}
