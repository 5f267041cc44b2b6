//! What is sent: the files that the arguments mean, and the digest of each.

use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::PIECE_BYTES;

/// A file that the arguments mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// The folders from the argument down to the file, the argument's own name first; empty for a
    /// file that was named itself.
    pub(super) folder: PathBuf,
}

/// The files that the arguments mean, folders walked in the order of names; and complaints about
/// those that are none.
pub(super) fn collect(arguments: &[PathBuf]) -> (Vec<Found>, Vec<String>) {
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    let mut left: Vec<(Found, bool)> = arguments
        .iter()
        .rev()
        .map(|path| {
            let (path, folder) = (path.clone(), PathBuf::new());
            (Found { path, folder }, true)
        })
        .collect();
    while let Some((found, is_named)) = left.pop() {
        let path = &found.path;
        let kind = match is_named {
            true => std::fs::metadata(path),
            // Within folders links are not followed: they may lead out, or round in circles.
            false => std::fs::symlink_metadata(path),
        };
        match kind {
            Ok(kind) if kind.is_dir() => match std::fs::read_dir(path) {
                Ok(entries) => {
                    // `.` and `..` have no name of their own.
                    let folder = found.folder.join(path.file_name().unwrap_or_default());
                    let mut inner: Vec<_> = entries
                        .flatten()
                        .map(|entry| entry.path())
                        .filter(|path| is_visible(path))
                        .collect();
                    inner.sort_unstable_by(|a, b| b.cmp(a));
                    left.extend(inner.into_iter().map(|path| {
                        let folder = folder.clone();
                        (Found { path, folder }, false)
                    }));
                }
                Err(error) => complaints.push(format!("{}: {error}", path.display())),
            },
            Ok(kind) if kind.is_file() => files.push(found),
            Ok(_) if is_named => {
                complaints.push(format!("{}: neither a file nor a folder", path.display()));
            }
            Ok(_) => {}
            Err(error) => complaints.push(format!("{}: {error}", path.display())),
        }
    }
    (files, complaints)
}

fn is_visible(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| !name.as_encoded_bytes().starts_with(b"."))
}

/// One file to send.
pub(super) struct Source {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) filename: String,
    /// Its folder at the server, if it is to keep one.
    pub(super) folder: Option<String>,
    pub(super) size_bytes: u64,
    pub(super) sha256: Option<[u8; 32]>,
}

impl Source {
    pub(super) fn open(found: &Found, keeps_folder: bool) -> Result<Self, String> {
        let Found { path, folder } = found;
        let complaint = |error: std::io::Error| format!("{}: {error}", path.display());
        let file = File::open(path).map_err(complaint)?;
        let size_bytes = file.metadata().map_err(complaint)?.len();
        let Some(filename) = path
            .file_name()
            .and_then(|name| name.to_str())
            .map(str::to_owned)
        else {
            return Err(format!("{}: the file's name is not UTF-8", path.display()));
        };
        let folder = folder
            .to_str()
            .ok_or_else(|| format!("{}: the folder's name is not UTF-8", path.display()))?;
        Ok(Self {
            file,
            path: path.clone(),
            filename,
            folder: (keeps_folder && !folder.is_empty()).then(|| folder.to_owned()),
            size_bytes,
            sha256: None,
        })
    }

    /// The digest of the whole file, computed once.
    pub(super) fn digest(&mut self) -> Result<[u8; 32], String> {
        if let Some(digest) = self.sha256 {
            return Ok(digest);
        }
        let complaint = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        self.file
            .rewind()
            .map_err(|error| complaint(&self.path, error))?;
        let mut digest = Sha256::new();
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match self
                .file
                .read(&mut buffer)
                .map_err(|error| complaint(&self.path, error))?
            {
                0 => break,
                bytes => digest.update(&buffer[..bytes]),
            }
        }
        Ok(*self.sha256.insert(digest.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_walked_in_order_without_hidden_files_and_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("a/inner")).unwrap();
        for name in ["a/2", "a/inner/3", "a/.hidden", "b"] {
            std::fs::write(at(name), name).unwrap();
        }
        std::os::unix::fs::symlink(folder.path(), at("a/loop")).unwrap();
        let (files, complaints) = collect(&[at("b"), at("a"), at("a/."), at("missing")]);
        let found = |name, folder: &str| Found {
            path: at(name),
            folder: folder.into(),
        };
        let expected = [
            found("b", ""),
            found("a/2", "a"),
            found("a/inner/3", "a/inner"),
            found("a/2", "a"),
            found("a/inner/3", "a/inner"),
        ];
        assert_eq!(files, expected);
        assert_eq!(complaints.len(), 1);
        assert!(complaints[0].contains("missing"));
    }
}
