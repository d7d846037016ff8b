//! A path and a glob → how far the glob goes with it, for people. Pure but for links, which the file system knows.

use super::{Glob, Part};
use crate::follow::Links;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// How far a glob goes with a path that it does not match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Near {
    /// The folders that match.
    pub(crate) up_to: PathBuf,
    pub(crate) fails: Fails,
}

/// Where it parts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fails {
    /// The name there is not what the glob asks for.
    Name { name: String, asked: String },
    /// The path goes on with this name, the glob does not.
    Deeper(String),
    /// The glob goes on with this, the path does not.
    Shallower(String),
}

impl Near {
    /// How many names of the path match.
    pub(crate) fn depth(&self) -> usize {
        self.up_to.components().count()
    }
}

impl Glob {
    /// Where it parts from `path`, as far along as any way of matching goes; `None` if it matches.
    pub(crate) fn near(&self, path: &Path) -> Option<Near> {
        let names: Vec<_> = path.components().map(|name| name.as_os_str()).collect();
        let (depth, part) = furthest(&self.parts, &names, 0)?;
        let name = names.get(depth).map(|name| name.to_string_lossy().into_owned());
        let fails = match (name, part.map(asked)) {
            (Some(name), Some(asked)) => Fails::Name { name, asked },
            (Some(name), None) => Fails::Deeper(name),
            (None, asked) => Fails::Shallower(asked.unwrap_or_default()),
        };
        Some(Near { up_to: names[..depth].iter().collect(), fails })
    }

    /// The link to a folder that a scan does not enter, if that keeps it from a `path` that the glob matches.
    pub(crate) fn link_in_the_way(&self, path: &Path, links: Links) -> Option<PathBuf> {
        let names: Vec<_> = path.components().map(|name| name.as_os_str()).collect();
        let mut link = None;
        let is_reached = reaches(&self.parts, &names, Path::new(""), links, &mut link);
        link.filter(|_| !is_reached)
    }

    /// The folders on the way to `path` that a scan has to list, not only to enter.
    pub(crate) fn lists(&self, path: &Path) -> Vec<PathBuf> {
        let first = self.parts.iter().position(|part| !matches!(part, Part::Literal(_))).unwrap_or(self.parts.len());
        let is_listed = |depth: usize| {
            let is_below_any = self.parts[first..].first().is_some_and(|part| matches!(part, Part::Folders));
            depth >= first && (is_below_any || !matches!(self.parts.get(depth), Some(Part::Literal(_))))
        };
        let mut folders: Vec<_> = path.ancestors().skip(1).map(Path::to_owned).collect();
        folders.retain(|folder| is_listed(folder.components().count()));
        folders
    }
}

fn asked(part: &Part) -> String {
    match part {
        Part::Literal(name) => name.to_string_lossy().into_owned(),
        Part::Pattern(pattern) => pattern.glob().glob().to_owned(),
        Part::Folders => "**".to_owned(),
    }
}

/// How many names match at most, and the part that the next one fails; `None` if all match.
fn furthest<'a>(parts: &'a [Part], names: &[&OsStr], depth: usize) -> Option<(usize, Option<&'a Part>)> {
    let Some((part, rest)) = parts.split_first() else {
        return (depth < names.len()).then_some((depth, None));
    };
    let is_match = match (part, names.get(depth)) {
        (_, None) => return Some((depth, Some(part))),
        (Part::Literal(name), Some(found)) => name == found,
        (Part::Pattern(pattern), Some(found)) => pattern.is_match(found),
        (Part::Folders, Some(_)) => {
            let here = furthest(rest, names, depth)?;
            let below = furthest(parts, names, depth + 1)?;
            // Below "**" any folder matches, so a way that used up every name has only proved that it is deep enough.
            return Some(if below.0 < names.len() && below.0 > here.0 { below } else { here });
        }
    };
    if is_match { furthest(rest, names, depth + 1) } else { Some((depth, Some(part))) }
}

/// As a scan walks: a link to a folder is entered where its name stands in the glob, and where a pattern is, only if links are
/// followed; below `**` never.
fn reaches(parts: &[Part], names: &[&OsStr], at: &Path, links: Links, link: &mut Option<PathBuf>) -> bool {
    let Some((part, rest)) = parts.split_first() else { return names.is_empty() };
    if matches!(part, Part::Folders) && reaches(rest, names, at, links, link) {
        return true;
    }
    let Some((name, below)) = names.split_first() else { return false };
    let next = at.join(name);
    let is_link = || !below.is_empty() && next.symlink_metadata().is_ok_and(|found| found.is_symlink());
    let (is_match, is_entered) = match part {
        Part::Literal(literal) => (literal == name, true),
        Part::Pattern(pattern) => (pattern.is_match(name), links == Links::Followed || !is_link()),
        Part::Folders => (true, !is_link()),
    };
    if is_match && !is_entered {
        *link = Some(next);
        return false;
    }
    is_match && reaches(if matches!(part, Part::Folders) { parts } else { rest }, below, &next, links, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(glob: &str, path: &str, expected: Option<(&str, Fails)>) {
        let near = Glob::new(glob).expect("compiles").near(Path::new(path));
        assert_eq!(near, expected.map(|(up_to, fails)| Near { up_to: up_to.into(), fails }));
    }

    fn name(name: &str, asked: &str) -> Fails {
        Fails::Name { name: name.into(), asked: asked.into() }
    }

    #[test]
    fn a_glob_says_where_it_parts_from_a_path() {
        check("/var/log/*.log", "/var/log/a.log", None);
        check("/var/log/*.log", "/var/log/app.txt", Some(("/var/log", name("app.txt", "*.log"))));
        check("/var/log/*.log", "/srv/a.log", Some(("/", name("srv", "var"))));
        check("/var/log/*", "/var/log/app/a.log", Some(("/var/log/app", Fails::Deeper("a.log".into()))));
        check("/var/log/*/*.log", "/var/log/app", Some(("/var/log/app", Fails::Shallower("*.log".into()))));
        check("/var/**/*.log", "/var/a/b/c.txt", Some(("/var/a/b", name("c.txt", "*.log"))));
        check("/var/**/*.log", "/var/a/b/c.log", None);
        check("/var/**/x/*.log", "/var/a/x/c.txt", Some(("/var/a/x", name("c.txt", "*.log"))));
    }

    #[test]
    fn folders_are_listed_where_a_pattern_stands() {
        let lists = |glob: &str, path: &str| Glob::new(glob).expect("compiles").lists(Path::new(path));
        assert!(lists("/a/b/c.log", "/a/b/c.log").is_empty());
        assert_eq!(lists("/a/b/*.log", "/a/b/c.log"), [PathBuf::from("/a/b")]);
        assert_eq!(lists("/a/*/c.log", "/a/b/c.log"), [PathBuf::from("/a")]);
        assert_eq!(lists("/a/**/*.log", "/a/b/c.log"), [PathBuf::from("/a/b"), "/a".into()]);
    }

    #[test]
    fn a_link_to_a_folder_stands_in_the_way_below_a_pattern() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = folder.path();
        std::fs::create_dir(at.join("real")).expect("made");
        std::os::unix::fs::symlink("real", at.join("link")).expect("linked");
        let path = at.join("link/a.log");
        let blocked = |glob: &str, links| {
            Glob::new(&format!("{}/{glob}", at.display())).expect("compiles").link_in_the_way(&path, links)
        };
        assert_eq!(blocked("link/*.log", Links::Refused), None);
        assert_eq!(blocked("*/*.log", Links::Refused), Some(at.join("link")));
        assert_eq!(blocked("*/*.log", Links::Followed), None);
        assert_eq!(blocked("**/*.log", Links::Followed), Some(at.join("link")));
    }
}
