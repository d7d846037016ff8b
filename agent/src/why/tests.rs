//! Each rule by a folder in which it applies, and the sentence that a person reads.

use super::*;
use std::fs::File;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::SystemTime;

struct Scene {
    folder: tempfile::TempDir,
    config: InputConfig,
    input: FileInput,
    entries: Vec<StateEntry>,
    user: Option<User>,
}

/// An input with these options beside `id`, `type` and, unless they are given, `paths: [DIR/*.log]`; a log of two lines.
fn scene(options: &str) -> Scene {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = if options.contains("paths:") { "" } else { "paths: [DIR/*.log], " };
    let yaml =
        format!("[{{id: a, type: file, {paths}{options}}}]").replace("DIR", &folder.path().display().to_string());
    let configs: Vec<InputConfig> = service::load::parse_config("agent.yaml".as_ref(), &yaml).expect("valid");
    let input = crate::config::files_of(&yaml).remove(0);
    fs::write(folder.path().join("a.log"), "one\ntwo\n").expect("written");
    Scene { folder, config: configs[0].clone(), input, entries: Vec::new(), user: None }
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The checkpoint knows the file, as it is now, up to `offset`.
    fn knows(mut self, name: &str, offset: u64) -> Self {
        use crate::checkpoint::Saved;
        use crate::identity::Edges;
        let path = self.path(name);
        let (file, inode) = open(&path, Links::Followed).expect("opens");
        let anchor = Edges::read(&file, offset).expect("readable").expect("long enough").anchor();
        let progress = event::Progress { offset, anchor };
        let path = path.display().to_string();
        let saved = Saved::new("a".into(), event::Incarnation(7), path.into(), inode, progress);
        self.entries.push(StateEntry { saved });
        self
    }

    fn explained(&self, name: &str) -> Explained {
        let known = Known {
            entries: &self.entries,
            has_checkpoint: !self.entries.is_empty(),
            user: self.user.as_ref(),
            offset: None,
        };
        explain(&self.input, &self.config, &self.path(name), &known)
    }

    /// The file under `name` has exactly these reasons, as rule, effect and text.
    #[track_caller]
    fn check(&self, name: &str, expected: &[(&str, Effect, &str)]) {
        let dir = self.folder.path().display().to_string();
        let reasons = self.explained(name).reasons;
        let texts: Vec<_> = reasons.iter().map(|reason| reason.text.replace(&dir, "DIR")).collect();
        let found: Vec<_> = reasons.iter().zip(&texts).map(|(r, text)| (r.rule, r.effect, text.as_str())).collect();
        assert_eq!(found, expected);
    }
}

use Effect::{Stops, Tells, Waits};

#[test]
fn a_file_with_new_lines_has_no_reason() {
    let scene = scene("");
    scene.check("a.log", &[]);
    assert_eq!((scene.explained("a.log").glob, scene.explained("a.log").size), (Some(0), Some(8)));
    let scene = scene.knows("a.log", 4);
    scene.check("a.log", &[]);
    assert_eq!(scene.explained("a.log").entry.map(|entry| entry.offset()), Some(4));
}

#[test]
fn the_nearest_glob_is_named_where_none_matches() {
    let scene = scene("paths: [/srv/*, DIR/*.log, DIR/x/*.log]");
    fs::write(scene.path("app.txt"), "x\n").expect("written");
    scene.check("app.txt", &[("paths", Stops, "paths[1] DIR/*.log matches up to DIR; app.txt does not match *.log")]);
}

#[test]
fn an_exclude_is_named_with_the_folder_that_it_leaves_out() {
    let scene = scene("paths: [DIR/**/*.log], exclude: [/none, DIR/old, DIR/**/b.log]");
    fs::create_dir(scene.path("old")).expect("made");
    fs::write(scene.path("old/b.log"), "x\n").expect("written");
    fs::write(scene.path("b.log"), "x\n").expect("written");
    scene.check("a.log", &[]);
    scene.check("b.log", &[("exclude", Stops, "exclude[2] DIR/**/b.log leaves it out")]);
    scene.check(
        "old/b.log",
        &[
            ("exclude", Stops, "exclude[2] DIR/**/b.log leaves it out"),
            ("exclude", Stops, "exclude[1] DIR/old leaves the folder DIR/old out"),
        ],
    );
}

#[test]
fn links_are_told() {
    let refused = scene("paths: [DIR/*.log, DIR/*/*.log]");
    let followed = scene("paths: [DIR/*.log, DIR/*/*.log], symlinks: true");
    for scene in [&refused, &followed] {
        fs::create_dir(scene.path("real")).expect("made");
        fs::write(scene.path("real/c.log"), "x\n").expect("written");
        symlink("real", scene.path("folder")).expect("linked");
        symlink("a.log", scene.path("link.log")).expect("linked");
        symlink("gone", scene.path("lost.log")).expect("linked");
        symlink("real", scene.path("dir.log")).expect("linked");
    }
    refused.check("link.log", &[("symlinks", Stops, "it is a symbolic link (to a.log), and symlinks is false")]);
    refused.check(
        "folder/c.log",
        &[("symlinks", Stops, "the folder DIR/folder is a symbolic link, and symlinks is false")],
    );
    followed.check("link.log", &[("symlinks", Tells, "it is a symbolic link to a.log, which is read")]);
    followed.check("folder/c.log", &[]);
    let lost = "it is a symbolic link to gone, which leads nowhere: No such file or directory (os error 2)";
    followed.check("lost.log", &[("missing", Stops, lost)]);
    followed.check("dir.log", &[("kind", Stops, "it is a symbolic link to real; it is a folder, not a regular file")]);
}

#[test]
fn what_is_no_regular_file_is_told_by_its_kind() {
    let scene = scene("");
    fs::create_dir(scene.path("d.log")).expect("made");
    scene.check("d.log", &[("kind", Stops, "it is a folder, not a regular file")]);
    let made = std::process::Command::new("mkfifo").arg(scene.path("p.log")).status().expect("runs");
    assert!(made.success());
    scene.check("p.log", &[("kind", Stops, "it is a pipe (FIFO), not a regular file")]);
    let _socket = std::os::unix::net::UnixListener::bind(scene.path("s.log")).expect("bound");
    scene.check("s.log", &[("kind", Stops, "it is a socket, not a regular file")]);
    let device = fs::metadata("/dev/null").expect("is there").file_type();
    assert_eq!(not_regular(device), Some("it is a device, not a regular file"));
}

#[test]
fn what_is_missing_is_told_with_the_folder() {
    let scene = scene("paths: [DIR/*.log, DIR/x/y/*.log, DIR/a.log/*.log]");
    scene.check("b.log", &[("missing", Stops, "it does not exist")]);
    scene.check("x/y/b.log", &[("missing", Stops, "its folder DIR/x does not exist")]);
    scene.check("a.log/b.log", &[("missing", Stops, "it does not exist: DIR/a.log is no folder")]);
}

#[test]
fn what_the_agents_user_may_not_do_is_told() {
    let mut scene = scene("");
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("is set");
    // The owner of nothing here: no process may have this user, so it is made of a status.
    scene.user = Some(access::tests::stranger(vec![]));
    mode(scene.folder.path(), 0o755);
    mode(&scene.path("a.log"), 0o600);
    let owner = User::owner_of(scene.folder.path()).expect("is there").name;
    let told = |what: &str, mode| {
        format!("user tailrace may not {what} (mode {mode}, owner {owner}; access control lists are not looked at)")
    };
    scene.check("a.log", &[("permission", Stops, &told("read it", "0600"))]);
    mode(&scene.path("a.log"), 0o644);
    scene.check("a.log", &[]);
    mode(scene.folder.path(), 0o711);
    scene.check("a.log", &[("permission", Stops, &told("list the folder DIR", "0711"))]);
    mode(scene.folder.path(), 0o744);
    scene.check("a.log", &[("permission", Stops, &told("enter the folder DIR", "0744"))]);
    mode(scene.folder.path(), 0o755);
}

#[test]
fn an_old_file_is_told_unless_the_checkpoint_knows_it() {
    let scene = scene("ignore_older: 1h, clean_inactive: 2h");
    let age = |ago| {
        let file = File::options().append(true).open(scene.path("a.log")).expect("opens");
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(wall_ms() as u64) - Duration::from_secs(ago))
            .expect("is set");
    };
    scene.check("a.log", &[]);
    age(5_405);
    let older = "unchanged for 1 h 30 m, longer than ignore_older (1 h): what is in it is not read; when it grows, it is read from there on";
    scene.check("a.log", &[("ignore_older", Stops, older)]);
    age(3 * 86_400);
    let clean = format!(
        "{}. Longer than clean_inactive (2 h) too: if it was followed, it is forgotten",
        older.replace("1 h 30 m", "3 d")
    );
    scene.check("a.log", &[("ignore_older", Stops, &clean)]);
    scene.knows("a.log", 4).check("a.log", &[]);
}

#[test]
fn start_at_the_end_is_told_before_the_first_start() {
    let text = "start is end, and there is no checkpoint yet: of a file that is there at the very first start, only an unfinished \
        last line and what follows are read";
    let scene = scene("start: end");
    scene.check("a.log", &[("start", Tells, text)]);
    scene.knows("a.log", 4).check("a.log", &[]);
}

#[test]
fn what_waits_for_the_writer_is_told() {
    let scene = scene("").knows("a.log", 8);
    scene.check("a.log", &[("nothing_new", Waits, "nothing new: it is read to its end, 8 of 8 bytes")]);
    fs::write(scene.path("a.log"), "one\ntwo\nthr").expect("written");
    scene.check("a.log", &[("unfinished_line", Waits, "no complete line yet: 3 bytes wait for the end of their line")]);
    fs::write(scene.path("a.log"), "one\ntwo\nthree\nfour").expect("written");
    scene.check("a.log", &[("unfinished_line", Tells, "its last line has no end yet: 4 bytes wait for it")]);
    fs::write(scene.path("e.log"), "").expect("written");
    scene.check("e.log", &[("nothing_new", Waits, "it is empty")]);
}

#[test]
fn truncation_since_the_checkpoint_is_told() {
    let scene = scene("").knows("a.log", 8);
    fs::write(scene.path("a.log"), "new\n").expect("written");
    let shorter = "it was truncated since offset 8 was acknowledged (4 bytes now); it is read from its start";
    scene.check("a.log", &[("truncated", Tells, shorter)]);
    fs::write(scene.path("a.log"), "another, and longer\n").expect("written");
    let anew = "it was truncated and written anew, or replaced since offset 8 was acknowledged (20 bytes now); it is read from its start";
    scene.check("a.log", &[("truncated", Tells, anew)]);
    let known = Known { entries: &[], has_checkpoint: true, user: None, offset: Some(30) };
    let reasons = explain(&scene.input, &scene.config, &scene.path("a.log"), &known).reasons;
    assert_eq!(
        reasons[0].text,
        "it was truncated: 20 bytes are there, and it was read up to 30; it is read from its start"
    );
}

#[test]
fn a_renamed_file_is_told_with_its_place() {
    let scene = scene("").knows("a.log", 4);
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renamed");
    let renamed = "the file that was here is now DIR/a.log.1, and read there, acknowledged up to 4";
    scene.check("a.log", &[("missing", Stops, "it does not exist"), ("renamed", Tells, renamed)]);
}

#[test]
fn names_and_packing_are_told() {
    let scene = scene("");
    fs::hard_link(scene.path("a.log"), scene.path("b.log")).expect("linked");
    let text = "it has 2 names (hard links); under several that match it is read once, under the first in order";
    scene.check("b.log", &[("hard_link", Tells, text)]);
    fs::write(scene.path("g.log"), b"\x1F\x8B\x08\0\n").expect("written");
    let text = "it is packed (gzip), 5 bytes: offsets count what it unpacks to. A packed copy of a file that is known is read \
                when that is gone, from where reading stopped";
    scene.check("g.log", &[("packed", Tells, text)]);
}

#[test]
fn times_are_told_in_two_units() {
    let told = |seconds| told(Duration::from_secs(seconds));
    assert_eq!(
        [0, 59, 60, 61, 3_600, 5_400, 86_400, 90_000].map(told),
        ["0 s", "59 s", "1 m", "1 m 1 s", "1 h", "1 h 30 m", "1 d", "1 d 1 h"]
    );
}

#[test]
fn the_holder_of_a_state_folder_is_known_without_its_lock() {
    let locks = "1: POSIX  ADVISORY  WRITE 1 08:01:7 0 EOF\n2: -> FLOCK  ADVISORY  WRITE 2 08:01:7 0 EOF\n\
        3: FLOCK  ADVISORY  WRITE 3 08:01:7 0 EOF\n";
    assert_eq!((holder_in(locks, 7), holder_in(locks, 8)), (Some(3), None));
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(holder(folder.path()), None);
    let held = crate::checkpoint::Store::open(folder.path()).expect("opens");
    if fs::read_to_string("/proc/locks").is_ok_and(|locks| !locks.is_empty()) {
        assert_eq!(holder(folder.path()), Some(std::process::id()));
    }
    drop(held);
    assert_eq!(holder(folder.path()), None);
}
