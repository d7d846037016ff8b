//! The files of pipelines/catalog → a table in the program: name, pipeline, tests.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let root = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let catalog = Path::new(&root).join("../pipelines/catalog");
    println!("cargo::rerun-if-changed={}", catalog.display());
    let files = fs::read_dir(&catalog).expect("the catalog is there");
    let names = files.map(|file| file.expect("listed").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<_> = names
        .filter_map(|name| Some(name.strip_suffix(".yml")?.to_owned()))
        .filter(|name| !name.contains('.'))
        .collect();
    names.sort();
    let mut table = String::from("[");
    for name in names {
        let path = |end: &str| catalog.join(format!("{name}{end}")).canonicalize().expect("a pipeline and its tests");
        let (pipeline, tests) = (path(".yml"), path(".tests.yml"));
        write!(table, "({name:?}, include_str!({pipeline:?}), include_str!({tests:?})),").expect("a string takes all");
    }
    table.push(']');
    let out = env::var("OUT_DIR").expect("cargo says where to");
    fs::write(Path::new(&out).join("catalog.rs"), table).expect("written");
}
