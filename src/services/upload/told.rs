//! Who is told of a file that is stored: the log, the counters, and the command `on_stored`, which is
//! run once a file has its name, or is sure where its client asked for an answer, with what is known
//! of it in its environment; nobody waits for it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::announced::Announced;
use crate::hooks::Hook;
use crate::metrics::Became;
use crate::service::Cx;
use crate::wire::hex;
use crate::wire::upload::SafeName;

/// Who is told of files that are stored: the log, the counters, and a command.
pub(super) struct Told {
    /// The path of the folder, for those who are told of files in it.
    pub(super) dir: PathBuf,
    pub(super) on_stored: Option<Hook>,
}

impl Told {
    /// A file has its name, and its digest, if that is known: the one place from where `on_stored`
    /// is run.
    pub(super) fn stored(
        &self,
        file: &Announced,
        name: &SafeName,
        sha256: Option<&[u8; 32]>,
        cx: &mut Cx<'_>,
    ) {
        let (size_bytes, seconds) = (file.size_bytes, (cx.now - file.began).as_secs_f64());
        cx.counted.stored(size_bytes);
        cx.counted.answered(Became::Answered, file.began);
        let (owner, path) = (&file.owner, file.path_as(name));
        let (peer, shown) = (&owner.peer, path.display());
        log::info!("upload {peer}: stored {shown}, {size_bytes} bytes in {seconds:.3} s");
        let Some(hook) = &self.on_stored else {
            return;
        };
        let mut facts: Vec<(&'static str, OsString)> = vec![
            ("NETLAB_FILE", self.dir.join(path).into()),
            ("NETLAB_NAME", name.as_str().into()),
            ("NETLAB_SIZE", size_bytes.to_string().into()),
            ("NETLAB_PEER", peer.to_string().into()),
        ];
        // Whoever is logged in: no C string holds a NUL, and no environment one.
        let user = owner.user().filter(|user| !user.contains('\0'));
        facts.extend(user.map(|user| ("NETLAB_USER", user.into())));
        let digest = sha256.map(|sha256| hex::encode(sha256));
        facts.extend(digest.map(|digest| ("NETLAB_SHA256", digest.into())));
        cx.run(hook.call(facts));
    }
}
