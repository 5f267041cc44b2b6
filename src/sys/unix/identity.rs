//! Another user for the whole process, for good (`man 7 credentials`).
//!
//! The calls are those of libc, which make all threads change (`man 7 nptl`); the kernel's own
//! change one. What is asked of the kernel by io_uring is asked as whoever asks.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;

use libc::{gid_t, uid_t};

/// Bytes for the entry of a user or a group: more members than any has.
const ENTRY_BYTES: usize = 1 << 20;
/// Groups of a user (`NGROUPS_MAX`).
const GROUPS_MAX: usize = 65_536;

/// A user with their groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As it was named.
    name: String,
    user: uid_t,
    group: gid_t,
    groups: Vec<gid_t>,
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { user, group, .. } = self;
        write!(f, "{} (user {user}, group {group})", self.name)
    }
}

impl Identity {
    /// Looks a user up, and a group if it is to be another one than the user's.
    ///
    /// # Errors
    /// What there is not, and what was expected.
    pub fn find(user: &str, group: Option<&str>) -> Result<Self, String> {
        let found = entry_of_user(user);
        let number = user.parse::<uid_t>().ok();
        let group = match group {
            Some(name) => Some(group_number(name).ok_or_else(|| {
                format!("`group` is {name:?}; expected the name or number of a group")
            })?),
            None => found.as_ref().map(|(_, group, _)| *group),
        };
        let expected = "expected the name of a user, or a number beside `group`";
        let (Some(number), Some(group)) =
            (found.as_ref().map(|(number, ..)| *number).or(number), group)
        else {
            return Err(format!("`user` is {user:?}, whom nobody knows; {expected}"));
        };
        if number == 0 {
            return Err(format!(
                "`user` is {user:?}, who is root; expected another user"
            ));
        }
        let groups = match &found {
            Some((_, _, name)) => groups_of(name, group),
            None => vec![group],
        };
        Ok(Self {
            name: user.to_owned(),
            user: number,
            group,
            groups,
        })
    }

    /// Whether the process is this user already.
    #[allow(unsafe_code)]
    pub fn is_current(&self) -> bool {
        // SAFETY: these calls take nothing and cannot fail.
        let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
        (user, group) == (self.user, self.group)
    }

    /// Makes the process this user, groups first: who is not root any more cannot change them. Then
    /// it is tried to go back, which must fail.
    ///
    /// # Errors
    /// The process is not root, or something keeps it from changing.
    #[allow(unsafe_code)]
    pub fn assume(&self) -> Result<(), String> {
        let failed = |what: &str| format!("{self}: {what}: {}", io::Error::last_os_error());
        // SAFETY: the list is as long as it is said to be; the other calls take numbers.
        unsafe {
            if libc::geteuid() != 0 {
                return Err(format!(
                    "`user` is {self}; expected to be started by root for that"
                ));
            }
            if libc::setgroups(self.groups.len(), self.groups.as_ptr()) != 0 {
                return Err(failed("setgroups"));
            }
            if libc::setresgid(self.group, self.group, self.group) != 0 {
                return Err(failed("setresgid"));
            }
            if libc::setresuid(self.user, self.user, self.user) != 0 {
                return Err(failed("setresuid"));
            }
            let (mut users, mut groups) = ([0; 3], [0; 3]);
            let [real, effective, saved] = &mut users;
            let asked = libc::getresuid(real, effective, saved);
            let [real, effective, saved] = &mut groups;
            let asked = asked | libc::getresgid(real, effective, saved);
            let is_changed = asked == 0 && users == [self.user; 3] && groups == [self.group; 3];
            let is_regained =
                libc::setresuid(0, 0, 0) == 0 || (self.group != 0 && libc::setresgid(0, 0, 0) == 0);
            match is_changed && !is_regained {
                true => Ok(()),
                false => Err(format!("{self}: root can be regained; nothing is served")),
            }
        }
    }
}

/// The number, the group and the name of a user.
#[allow(unsafe_code)]
fn entry_of_user(name: &str) -> Option<(uid_t, gid_t, CString)> {
    let text = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::passwd>::uninit();
    let (mut bytes, mut found) = (vec![0; ENTRY_BYTES], std::ptr::null_mut());
    let (to, len, result) = (bytes.as_mut_ptr(), bytes.len(), &raw mut found);
    // SAFETY: all that is lent lives until the end of this function, and `bytes` is as long as is
    // said. What is found points into it.
    unsafe {
        libc::getpwnam_r(text.as_ptr(), entry.as_mut_ptr(), to, len, result);
        if found.is_null() {
            let number = name.parse().ok()?;
            libc::getpwuid_r(number, entry.as_mut_ptr(), to, len, result);
        }
        let found = found.as_ref()?;
        let name = CStr::from_ptr(found.pw_name).to_owned();
        Some((found.pw_uid, found.pw_gid, name))
    }
}

/// The number of a group.
#[allow(unsafe_code)]
fn group_number(name: &str) -> Option<gid_t> {
    let text = CString::new(name).ok()?;
    let mut entry = MaybeUninit::<libc::group>::uninit();
    let (mut bytes, mut found) = (vec![0; ENTRY_BYTES], std::ptr::null_mut());
    let (to, len, result) = (bytes.as_mut_ptr(), bytes.len(), &raw mut found);
    // SAFETY: as for a user.
    let found = unsafe {
        libc::getgrnam_r(text.as_ptr(), entry.as_mut_ptr(), to, len, result);
        found.as_ref().map(|group: &libc::group| group.gr_gid)
    };
    found.or_else(|| name.parse().ok())
}

/// All groups of a user, `own` among them.
#[allow(unsafe_code)]
fn groups_of(user: &CStr, own: gid_t) -> Vec<gid_t> {
    let mut groups = vec![0; GROUPS_MAX];
    let mut count = GROUPS_MAX as libc::c_int;
    // SAFETY: `groups` has room for as many as `count` says.
    let result =
        unsafe { libc::getgrouplist(user.as_ptr(), own, groups.as_mut_ptr(), &raw mut count) };
    match (result, usize::try_from(count)) {
        (0.., Ok(count)) => groups.truncate(count),
        _ => groups = vec![own],
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_go_by_name_and_by_number() {
        let nobody = Identity::find("nobody", None).expect("every system has them");
        assert_eq!(nobody.groups, [nobody.group]);
        let by_number = Identity::find(&nobody.user.to_string(), None).expect("the same");
        assert_eq!(
            (by_number.user, by_number.group),
            (nobody.user, nobody.group)
        );
        let group = nobody.group.to_string();
        let nameless = Identity::find("4294967", Some(&group)).expect("a number");
        assert_eq!((nameless.user, nameless.group), (4_294_967, nobody.group));
    }

    #[test]
    fn whom_nobody_knows_is_told_and_root_is_refused() {
        for (user, group, told) in [
            ("no-such-user", None, "whom nobody knows"),
            ("4294967", None, "whom nobody knows"),
            ("nobody", Some("no-such-group"), "`group` is"),
            ("root", None, "who is root"),
        ] {
            let error = Identity::find(user, group).expect_err(user);
            assert!(
                error.contains(told) && error.contains("expected"),
                "{error}"
            );
        }
    }
}
