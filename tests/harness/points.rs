//! The named points at which a test can end a process: read from the sources, so that a new one is never left out.

use std::collections::BTreeSet;
use std::path::Path;

/// Every name that the sources below `folder` give to a failpoint.
pub fn points_in(folder: &Path) -> BTreeSet<String> {
    let mut points = BTreeSet::new();
    for entry in std::fs::read_dir(folder).expect("the sources are there") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            points.extend(points_in(&path));
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a source is text");
        points.extend(
            text.split("failpoint::hit(\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())),
        );
    }
    points
}
