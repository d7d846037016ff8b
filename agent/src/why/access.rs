//! May a user read a file? By owner, group and mode, as the kernel decides without access control lists.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Capabilities with which modes do not count: `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`, see capabilities(7).
const READS_ALL: u64 = 1 << 1 | 1 << 2;

/// Who reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name, or its number.
    pub name: String,
    uid: u32,
    groups: Vec<u32>,
    reads_all: bool,
}

/// What a user lacks.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Denied {
    pub(super) path: PathBuf,
    /// `r` on a file or a folder to list, `x` on a folder to pass.
    pub(super) right: char,
}

impl User {
    /// Who runs process `pid` (`self`: this one). `None` if that cannot be told.
    pub fn of_process(pid: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
    }

    /// Who owns `path`, with the groups that /etc/group gives it. `None` if that cannot be told.
    pub fn owner_of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        let name = name_of(found.uid());
        let text = fs::read_to_string("/etc/group").unwrap_or_default();
        let mut groups = vec![found.gid()];
        groups.extend(text.lines().filter_map(|line| member_of(line, &name)));
        Some(Self { name, uid: found.uid(), groups, reads_all: found.uid() == 0 })
    }

    /// Shape: `/proc/PID/status`.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let uid = field("Uid")?.split_whitespace().nth(3)?.parse().ok()?;
        let gid = field("Gid")?.split_whitespace().nth(3)?.parse().ok()?;
        let mut groups = vec![gid];
        groups.extend(field("Groups")?.split_whitespace().filter_map(|group| group.parse::<u32>().ok()));
        let capabilities = u64::from_str_radix(field("CapEff")?.trim(), 16).ok()?;
        Some(Self { name: name_of(uid), uid, groups, reads_all: capabilities & READS_ALL != 0 })
    }

    /// The first thing that keeps it from reading `path`; of `listed` folders it must also see the names.
    ///
    /// Errors: something on the way cannot be looked at by the present process.
    pub(super) fn denied(&self, path: &Path, listed: &[PathBuf]) -> io::Result<Option<Denied>> {
        let mut folders: Vec<_> = path.ancestors().skip(1).collect();
        folders.reverse();
        for folder in folders {
            let found = fs::metadata(folder)?;
            let rights = if listed.iter().any(|listed| listed == folder) { ['x', 'r'].as_slice() } else { &['x'] };
            if let Some(right) = rights.iter().find(|right| !self.has(&found, **right)) {
                return Ok(Some(Denied { path: folder.to_owned(), right: *right }));
            }
        }
        let is_denied = !self.has(&fs::metadata(path)?, 'r');
        Ok(is_denied.then(|| Denied { path: path.to_owned(), right: 'r' }))
    }

    fn has(&self, found: &fs::Metadata, right: char) -> bool {
        let bit = if right == 'r' { 4 } else { 1 };
        let shift = match () {
            () if found.uid() == self.uid => 6,
            () if self.groups.contains(&found.gid()) => 3,
            () => 0,
        };
        self.reads_all || found.mode() >> shift & bit != 0
    }
}

/// The user's name, or the number if it has none.
fn name_of(uid: u32) -> String {
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// The group's number if `user` is one of its members. Shape: `adm:x:4:syslog,tailrace`.
fn member_of(line: &str, user: &str) -> Option<u32> {
    let fields: Vec<_> = line.split(':').collect();
    let &[_, _, number, members] = fields.as_slice() else { return None };
    members.split(',').any(|member| member == user).then(|| number.parse().ok())?
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Nobody that owns anything here.
    pub(in crate::why) fn stranger(groups: Vec<u32>) -> User {
        User { name: "tailrace".into(), uid: 987_654, groups, reads_all: false }
    }

    #[test]
    fn the_first_thing_in_the_way_is_told() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (inner, file) = (folder.path().join("log"), folder.path().join("log/a.log"));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is set");
        fs::create_dir(&inner).expect("made");
        fs::write(&file, "x\n").expect("written");
        mode(folder.path(), 0o755);
        let check = |user: &User, modes: (u32, u32), expected: Option<(&Path, char)>| {
            mode(&inner, modes.0);
            mode(&file, modes.1);
            let denied = user.denied(&file, std::slice::from_ref(&inner)).expect("can be looked at");
            assert_eq!(denied, expected.map(|(path, right)| Denied { path: path.to_owned(), right }), "{modes:?}");
        };
        let user = stranger(vec![]);
        check(&user, (0o755, 0o644), None);
        check(&user, (0o755, 0o640), Some((&file, 'r')));
        check(&user, (0o754, 0o644), Some((&inner, 'x')));
        check(&user, (0o751, 0o644), Some((&inner, 'r')));
        let gid = fs::metadata(&file).expect("is there").gid();
        check(&stranger(vec![gid]), (0o750, 0o640), None);
        check(&User { reads_all: true, ..user }, (0o700, 0o600), None);
        mode(&inner, 0o755);
    }

    #[test]
    fn a_process_tells_its_user() {
        let status =
            "Name:\tx\nUid:\t1\t987654\t1\t987654\nGid:\t4\t4\t4\t4\nGroups:\t7 8 \nCapEff:\t0000000000000004\n";
        let user = User::parse(status).expect("is whole");
        assert_eq!(user, User { name: "987654".into(), uid: 987_654, groups: vec![4, 7, 8], reads_all: true });
        assert_eq!(
            User::of_process("self").map(|user| user.uid),
            User::owner_of(Path::new("/proc/self")).map(|u| u.uid)
        );
        assert_eq!(member_of("adm:x:4:syslog,tailrace", "tailrace"), Some(4));
        assert_eq!(member_of("adm:x:4:", "tailrace"), None);
    }
}
