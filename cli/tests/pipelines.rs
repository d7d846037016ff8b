//! `tailrace learn`, `tailrace test` and its `--update`, as people call them one after the other.

use std::path::Path;
use std::process::Command;

/// Exit code and output of the program in `folder`.
fn tailrace(folder: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailrace"));
    let output = command.current_dir(folder).args(arguments).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

#[test]
fn what_is_learned_passes_its_tests_and_a_change_of_the_pipeline_is_taken_over() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path();
    let lines: String = (0..50).map(|nth| format!("job {nth} ended with code={}\n", nth % 3)).collect();
    std::fs::write(folder.join("app.log"), lines).expect("written");
    let (code, told) = tailrace(folder, &["learn", "app.log", "--name", "app"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(
        told.contains("       50  job <*> ended with code=<*>\n50 of 50 lines are taken apart by 1 patterns"),
        "{told}"
    );
    let (code, told) = tailrace(folder, &["test", "app.yml"]);
    assert_eq!((code, told.as_str()), (Some(0), "1 passed, 0 failed\n"));

    let pipeline = std::fs::read_to_string(folder.join("app.yml")).expect("readable");
    std::fs::write(folder.join("app.yml"), pipeline.replace("labels.code", "process.exit_code")).expect("written");
    let (code, told) = tailrace(folder, &["test", "app.yml"]);
    assert_eq!(code, Some(1), "{told}");
    let (code, told) = tailrace(folder, &["test", "--update", "app.yml"]);
    assert_eq!(code, Some(0), "{told}");
    let expected = "updated app.tests.yml:1  pattern 1, the first line\n";
    assert!(told.starts_with(expected) && told.ends_with("1 passed, 0 failed\n"), "{told}");
    let tests = std::fs::read_to_string(folder.join("app.tests.yml")).expect("readable");
    assert!(tests.contains("    process:\n      exit_code: '0'\n"), "{tests}");
    assert_eq!(tailrace(folder, &["test", "--update", "app.yml"]), (Some(0), "1 passed, 0 failed\n".to_owned()));
}
