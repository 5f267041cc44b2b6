//! `passwd --login`: a user of an upload listener, written into the file that its key `login` names.
//!
//! Rules:
//! - The file is replaced in one step, so that a server which reads it again sees the one before or
//!   the new one, and keeps its permissions and its owner. A symbolic link stays one.
//! - A file that is wrong is not touched: what a server would refuse it refuses, too.
//! - Two of these at once wait for each other: the folder is locked meanwhile.
//!
//! Not here: lines for a web server, which are printed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::fs::{FlockOperation, flock};

use super::{Exit, Failure, Outcome, secrets};
use crate::wire::argon2id::{Cost, Hash};
use crate::wire::user_file::{self, UserInfo};

/// The permissions of a file that was not there: nobody else's to read.
const MODE: u32 = 0o600;

/// The arguments of `passwd`.
#[derive(Debug, Args)]
pub struct PasswdArgs {
    /// The name: without a colon for a web server, without a `|` for uploads
    pub user: String,

    /// Write the line of an upload listener's user into this file (key `login`), in the place of
    /// the one before
    #[arg(long, value_name = "FILE")]
    pub login: Option<PathBuf>,

    /// With --login: read the password from this file
    #[arg(long, value_name = "FILE", requires = "login")]
    pub password_file: Option<PathBuf>,
}

/// Writes the line of a user.
///
/// # Errors
/// See [`Failure`]; the file is as it was then.
pub fn write(args: &PasswdArgs, path: &Path) -> Outcome {
    user_file::check_name(&args.user).map_err(Failure::usage)?;
    let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
    // What can be wrong without a password is told before somebody types one.
    let _ = read(path).map_err(|why| Failure::usage(named(&why)))?;
    let file = args.password_file.as_deref();
    let password = secrets::obtain_new(file, "NETLAB_PASSWORD", "password")?;
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    let mut salt = [0; 16];
    getrandom::fill(&mut salt).map_err(|error| Failure::unavailable(error.to_string()))?;
    let hash = Hash::of(password.expose(), salt, Cost::default());
    let line = UserInfo::line_with(&args.user, &hash);
    let unwritable = |error: io::Error| Failure {
        exit: Exit::Unwritable,
        message: named(&error),
    };
    let target = target(path).map_err(unwritable)?;
    let folder = target.parent().filter(|folder| *folder != Path::new(""));
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(unwritable)?;
    flock(&folder, FlockOperation::LockExclusive).map_err(|error| unwritable(error.into()))?;
    let before = read(&target).map_err(|why| Failure::usage(named(&why)))?;
    let (text, was_there) = user_file::with_line(&before, &args.user, &line);
    UserInfo::from_bytes(text.as_bytes()).map_err(|why| Failure::usage(named(&why)))?;
    replace(&target, &folder, text.as_bytes()).map_err(unwritable)?;
    let what = if was_there { "changed" } else { "added" };
    eprintln!("{}: {:?} {what}", path.display(), args.user);
    Ok(Exit::Done)
}

/// The file that a path leads to in the end.
fn target(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            Ok(path.to_owned())
        }
        target => target,
    }
}

/// What a file of users holds, nothing where there is none; why a server would not take it.
fn read(path: &Path) -> Result<String, String> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        bytes => bytes.map_err(|error| error.to_string())?,
    };
    UserInfo::from_bytes(&bytes)?;
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Gives a file other contents in one step that survives a loss of power.
fn replace(path: &Path, folder: &File, bytes: &[u8]) -> io::Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}.new", std::process::id()));
    let temporary = path.with_file_name(name);
    let written = write_new(&temporary, path, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It may not even have been made.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    folder.sync_all()
}

fn write_new(temporary: &Path, like: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(temporary)?;
    if let Ok(was) = fs::metadata(like) {
        let ours = file.metadata()?;
        if (ours.uid(), ours.gid()) != (was.uid(), was.gid()) {
            fchown(&file, Some(was.uid()), Some(was.gid())).map_err(|error| {
                io::Error::new(error.kind(), format!("its owner cannot be kept: {error}"))
            })?;
        }
        file.set_permissions(Permissions::from_mode(was.mode() & 0o7777))?;
    }
    file.write_all(bytes)?;
    file.sync_all()
}
