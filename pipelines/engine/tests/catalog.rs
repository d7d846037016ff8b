//! The catalog's own tests pass.

use std::path::Path;

#[test]
fn every_catalog_pipeline_passes_the_tests_beside_it() {
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("../catalog");
    let files = engine::cases::find(&catalog).expect("the catalog can be listed");
    assert!(!files.is_empty());
    for file in files {
        let report = engine::cases::run(&file).unwrap_or_else(|error| panic!("{error}"));
        assert!(!report.results.is_empty(), "{} has no cases", file.display());
        for result in report.results {
            assert!(result.differences.is_empty(), "{}: {:#?}", result.name, result.differences);
        }
    }
}
