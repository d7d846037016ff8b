use super::*;

/// `trace` stays whole between plain lines, and behind another of its kind; so it does inside a container's log.
#[track_caller]
fn whole(trace: &str) {
    let lines: Vec<&str> = trace.lines().collect();
    let all: Vec<&str> = [&["plain"][..], &lines, &["plain", "plain"], &lines, &lines, &["plain"]].concat();
    check("[{exceptions: {}}]", &all, &["plain", trace, "plain", "plain", trace, trace, "plain"]);
    let wrapped: Vec<_> = all.iter().map(|line| format!("2023-11-14T22:13:20Z stderr F {line}")).collect();
    assert_eq!(read("[{container: {}}, {exceptions: {}}]", &wrapped).texts().len(), 7);
}

#[test]
fn java_with_causes() {
    whole(
        "Exception in thread \"main\" java.lang.IllegalStateException: a\n\tat a.B.c(B.java:1)\n\tSuppressed: java.io.IOException\n\
         \t\tat a.B.d(B.java:2)\n\t\t... 1 more\nCaused by: java.lang.NullPointerException\n\tat a.B.e(B.java:3)\n\t... 2 more",
    );
}

#[test]
fn javascript_in_node_with_properties() {
    whole(
        "Error: ENOENT: no such file or directory, open 'x'\n    at Object.openSync (node:fs:601:3)\n    \
         at async main (file:///a.js:3:9) {\n  errno: -2,\n  code: 'ENOENT'\n}",
    );
}

#[test]
fn dotnet_with_an_inner_exception() {
    whole(
        "Unhandled exception. System.InvalidOperationException: a\n ---> System.IO.IOException: b\n   at A.B() in /a.cs:line 1\n   \
         --- End of inner exception stack trace ---\n   at A.C() in /a.cs:line 2",
    );
}

#[test]
fn python_with_markers_and_a_chain() {
    whole(
        "Traceback (most recent call last):\n  File \"/a.py\", line 1, in <module>\n    f(x)\n    ~^^^\n  File \"/b.py\", line 2, in f\n\
         ValueError: a\n\nDuring handling of the above exception, another exception occurred:\n\nTraceback (most recent call last):\n  \
         File \"/a.py\", line 3, in <module>\n    g()\n    [Previous line repeated 996 more times]\nKeyboardInterrupt",
    );
}

#[test]
fn go_with_several_goroutines() {
    whole(
        "panic: runtime error: index out of range [5] with length 3 [recovered]\n\tpanic: again\n\ngoroutine 1 [running]:\n\
         main.(*T).f(0x1, {0x2, 0x3})\n\t/a.go:5 +0x1d\nmain.main()\n\t/a.go:9 +0x20\n\ngoroutine 7 gp=0xc0 m=0 mp=0x5 [chan receive, 2 minutes]:\n\
         created by main.main in goroutine 1\n\t/a.go:3 +0x1",
    );
    whole(
        "fatal error: all goroutines are asleep - deadlock!\n\ngoroutine 1 [chan receive]:\nmain.main()\n\t/a.go:4 +0x5",
    );
    whole(
        "2023/11/14 22:13:20 http: panic serving 1.2.3.4:5: oh\ngoroutine 8 [running]:\nnet/http.(*conn).serve.func1()\n\t/s.go:1 +0xb",
    );
}

#[test]
fn ruby_plain_and_rails() {
    whole("/a.rb:3:in `f': undefined method `x' for nil (NoMethodError)\n\tfrom /a.rb:9:in `<main>'");
    whole("ActionView::Template::Error (oh):\n  \n  app/views/a.rb:1:in 'block'\n  lib/b.rb:2:in 'call'");
}

#[test]
fn php_old_and_new() {
    whole(
        "PHP Fatal error:  Uncaught Exception: oh in /a.php:3\nStack trace:\n#0 /a.php(9): f()\n#1 {main}\n  thrown in /a.php on line 3",
    );
    whole("exception 'Exception' with message 'oh' in /a.php:5\nStack trace:\n#0 {main}");
    whole("PHP Warning:  Undefined variable $a in /a.php on line 1");
}

#[test]
fn dart_with_messages_of_several_lines() {
    whole(
        "Unhandled exception:\nInstance of 'E'\n#0      main (file:///a.dart:1:2)\n<asynchronous suspension>\n#1      f (dart:a/b.dart:3)",
    );
    whole(
        "Unhandled exception:\nNoSuchMethodError: The method 'x' was called on null.\nReceiver: null\nTried calling: x()\n\
         #0      main (file:///a.dart:1:2)",
    );
    whole(
        "Unhandled exception:\n'a.dart': malformed type: line 1\n  x y\n    ^\n\n\n#0      main (file:///a.dart:1:2)",
    );
}

#[test]
fn rust_panics_with_and_without_backtrace() {
    whole(
        "thread 'main' panicked at src/main.rs:2:5:\nindex out of bounds\nstack backtrace:\n   0: rust_begin_unwind\n             \
         at /rustc/a/b.rs:1:2\n   1: main\nnote: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.",
    );
    whole(
        "thread 'main' panicked at 'oh', src/main.rs:2:5\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
    );
    whole("thread 't' (7) panicked at src/main.rs:2:5:\nassertion `left == right` failed\n  left: 1\n right: 2");
}

#[test]
fn plain_lines_that_only_look_like_a_start_stay_alone() {
    let lines = [
        "Login Error: bad password",
        "GET /Error 200",
        "2023 ERROR x",
        " at noon",
        "Exception: a",
        "\tnot a frame",
        "b",
    ];
    check("[{exceptions: {}}]", &lines, &lines);
    check("[{exceptions: {}}]", &["Error: a", "", "b"], &["Error: a", "b"]); // The empty line is none of either.
}

#[test]
fn other_languages_are_left_alone() {
    let java = ["java.lang.Error: x", "\tat a.b(C.java:1)"];
    check("[{exceptions: {languages: [python, go]}}]", &java, &java);
    check("[{exceptions: {languages: [csharp, js]}}]", &java, &[java.join("\n").as_str()]);
    refuse("[{exceptions: {languages: [cobol]}}]", "cobol");
}

#[test]
fn a_long_trace_is_cut_and_the_next_line_is_whole() {
    let lines = ["java.lang.Error: x", "\tat a", "\tat b", "\tat c", "plain"];
    let reader = read("[{exceptions: {max_lines: 3}}]", &lines);
    assert_eq!(reader.texts(), ["java.lang.Error: x\n\tat a\n\tat b", "plain"]);
    assert_eq!(reader.events.truncated, 1);
    let mut reader = Reader::new(plan("[{exceptions: {}}]"));
    reader.push(lines[0]);
    assert_eq!(reader.assembler.deadline(), Some(reader.now + Duration::from_secs(1)));
    reader.flush();
    reader.push(lines[1]);
    assert_eq!(reader.texts(), [lines[0], lines[1]]);
}
