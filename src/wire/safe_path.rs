//! Where an uploaded file goes, below the folder of whoever sends it: the folders that the client
//! named, and the file's name.
//!
//! Rules:
//! - A file's name is reduced to its last component ([`SafeName`]); of the folders nothing is left out
//!   and nothing replaced: each is such a name as it is, or all is refused, with words that name the
//!   one that is none. So no path leads up, into a hidden folder, or to one that not every system can
//!   have.
//! - There are at most [`FOLDERS_MAX`] of them, and [`FOLDER_BYTES_MAX`] bytes.
//!
//! Not here: what stands on the disk at such a path; a symbolic link there is for
//! [`crate::disk::Disk::enter`] to refuse.

use std::fmt;
use std::path::{Path, PathBuf};

use super::text::Quoted;
use super::upload::{NAME_BYTES_MAX, NameError, SafeName};

/// Folders on the way to a file.
pub const FOLDERS_MAX: usize = 16;

/// Bytes of all their names, with the separators between them: with a name, and the path of a
/// listener's folder, far below what a system takes (`PATH_MAX`, 4096).
pub const FOLDER_BYTES_MAX: usize = 1024;

/// Bytes of the longest path.
pub const PATH_BYTES_MAX: usize = FOLDER_BYTES_MAX + 1 + NAME_BYTES_MAX;

/// The path of a file; displayed with `/` between its components.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SafePath {
    /// Its folders, `/` between them; empty for none.
    folder: String,
    name: SafeName,
}

/// Why folders are not taken; displayed as a sentence that names the one it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FolderError {
    /// They are more than [`FOLDERS_MAX`].
    TooDeep {
        /// How many.
        folders: usize,
    },
    /// They are longer than [`FOLDER_BYTES_MAX`].
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// One is no safe name.
    Component {
        /// That one.
        name: String,
        /// What is wrong with it.
        error: NameError,
    },
}

impl fmt::Display for FolderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep { folders } => {
                write!(f, "{folders} folders, expected at most {FOLDERS_MAX}")
            }
            Self::TooLong { bytes } => {
                write!(
                    f,
                    "a folder of {bytes} bytes, expected at most {FOLDER_BYTES_MAX}"
                )
            }
            Self::Component { name, error } => {
                write!(f, "{} cannot be a folder: {error}", Quoted(name))
            }
        }
    }
}

impl std::error::Error for FolderError {}

impl From<SafeName> for SafePath {
    /// A file in no folder.
    fn from(name: SafeName) -> Self {
        let folder = String::new();
        Self { folder, name }
    }
}

impl SafePath {
    /// A file in the folders of `folder`, which `/` separates.
    ///
    /// # Errors
    /// See [`FolderError`].
    pub fn new(folder: &str, name: SafeName) -> Result<Self, FolderError> {
        let bytes = folder.len();
        if bytes > FOLDER_BYTES_MAX {
            return Err(FolderError::TooLong { bytes });
        }
        let folders = folder.split('/').count();
        if folders > FOLDERS_MAX {
            return Err(FolderError::TooDeep { folders });
        }
        for component in folder.split('/') {
            check(component).map_err(|error| FolderError::Component {
                name: component.to_owned(),
                error,
            })?;
        }
        let folder = folder.to_owned();
        Ok(Self { folder, name })
    }

    /// The file's name.
    pub fn name(&self) -> &SafeName {
        &self.name
    }

    /// Its folders; empty for none.
    pub fn folder(&self) -> &Path {
        Path::new(&self.folder)
    }

    /// The same folders with another name.
    pub fn with_name(&self, name: SafeName) -> Self {
        let folder = self.folder.clone();
        Self { folder, name }
    }

    /// Folders and name.
    pub fn to_path(&self) -> PathBuf {
        self.folder().join::<&Path>(self.name.as_ref())
    }
}

impl fmt::Display for SafePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.folder.is_empty() {
            true => self.name.fmt(f),
            false => write!(f, "{}/{}", self.folder, self.name),
        }
    }
}

/// Whether this is a safe name without anything that would have to be taken off.
fn check(component: &str) -> Result<(), NameError> {
    match component.contains('\\') {
        true => Err(NameError::Special { found: '\\' }),
        false => SafeName::reduce_portable(component).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Component;

    fn path(folder: &str) -> Result<SafePath, FolderError> {
        SafePath::new(folder, SafeName::reduce("a.txt").expect("a name"))
    }

    #[test]
    fn folders_are_taken_as_they_are_or_not_at_all() {
        for folder in ["a", "a/b c/ä", "a.b", "日本/x"] {
            let taken = path(folder).expect("folders");
            assert_eq!(taken.to_string(), format!("{folder}/a.txt"));
            assert_eq!(taken.to_path(), Path::new(folder).join("a.txt"));
            let version = taken.with_name(taken.name().version(1));
            assert_eq!(version.to_string(), format!("{folder}/a.1.txt"));
        }
        for (folder, component, error) in [
            ("", "", NameError::Empty),
            ("/a", "", NameError::Empty),
            ("a//b", "", NameError::Empty),
            ("a/", "", NameError::Empty),
            (".", ".", NameError::Dot),
            ("a/../b", "..", NameError::Dot),
            ("a/.partial", ".partial", NameError::Dot),
            ("a\\..\\b", "a\\..\\b", NameError::Special { found: '\\' }),
            ("a/-rf", "-rf", NameError::Hyphen),
            ("a/con.d", "con.d", NameError::Device),
            ("a /b", "a ", NameError::Edge),
            ("a\nb", "a\nb", NameError::Hidden { found: '\n' }),
            ("C:", "C:", NameError::Special { found: ':' }),
        ] {
            let name = component.to_owned();
            let expected = FolderError::Component { name, error };
            assert_eq!(path(folder), Err(expected), "{folder:?}");
        }
        let told = path("a/../b").expect_err("it leads up").to_string();
        assert_eq!(
            told,
            "\"..\" cannot be a folder: the name begins with a dot"
        );
    }

    #[test]
    fn folders_are_bounded_in_number_and_length() {
        let deep = |folders: usize| vec!["a"; folders].join("/");
        assert!(path(&deep(FOLDERS_MAX)).is_ok());
        let folders = FOLDERS_MAX + 1;
        assert_eq!(path(&deep(folders)), Err(FolderError::TooDeep { folders }));
        let long = |bytes: usize| {
            let name = "x".repeat(NAME_BYTES_MAX - 5);
            let rest = bytes - 4 * (name.len() + 1);
            [name.as_str(); 4].join("/") + "/" + &"y".repeat(rest)
        };
        let longest = path(&long(FOLDER_BYTES_MAX)).map(|path| path.to_string().len());
        assert_eq!(longest, Ok(FOLDER_BYTES_MAX + "/a.txt".len()));
        let bytes = FOLDER_BYTES_MAX + 1;
        assert_eq!(path(&long(bytes)), Err(FolderError::TooLong { bytes }));
    }

    proptest! {
        #[test]
        fn what_is_taken_leads_down_as_many_folders_as_it_has(folder in "[ab./\\\\: -]{0,12}|\\PC{0,12}") {
            if let Ok(taken) = path(&folder) {
                let down = taken.to_path();
                let mut components = down.components();
                prop_assert!(components.all(|component| matches!(component, Component::Normal(_))));
                prop_assert_eq!(down.components().count(), folder.split('/').count() + 1);
                prop_assert_eq!(taken.to_string(), folder + "/a.txt");
            }
        }
    }
}
