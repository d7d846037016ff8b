//! How stack traces look, language by language.

use serde::Deserialize;

/// A language whose stack traces are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Java, and what else runs on its machine: Kotlin, Scala, Groovy, Clojure.
    Java,
    /// JavaScript and TypeScript, in browsers and in Node.js.
    #[serde(alias = "js", alias = "nodejs")]
    Javascript,
    /// C# and what else runs on .NET or Mono.
    #[serde(alias = "csharp")]
    Dotnet,
    /// Python.
    #[serde(alias = "py")]
    Python,
    /// Go.
    Go,
    /// Ruby, with Rails or without.
    #[serde(alias = "rb")]
    Ruby,
    /// PHP.
    Php,
    /// Dart and Flutter.
    Dart,
    /// Rust.
    Rust,
}

use Language::{Dart, Dotnet, Go, Java, Javascript, Php, Python, Ruby, Rust};

/// What the lines so far were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of a trace. A rule that leads here ends the trace with its line.
    #[default]
    Start,
    /// The name of an exception, its message.
    Thrown,
    /// `nested exception is:`; the exception follows.
    Nested,
    /// A frame of Java, JavaScript or .NET.
    Frame,
    /// Properties of a Node.js error, in braces.
    Properties,
    PythonFile,
    PythonCode,
    PythonThrown,
    PythonGap,
    PythonChain,
    GoPanic,
    GoGap,
    GoCall,
    GoPlace,
    RubyFrame,
    PhpThrown,
    PhpFrame,
    DartThrown,
    DartCode,
    DartCaret,
    DartGap,
    DartCall,
    DartFrame,
    RustMessage,
    RustThrown,
    RustFrame,
}

impl State {
    pub(super) const COUNT: usize = State::RustFrame as usize + 1;
}

/// In each of `from`, a line that `pattern` is found in leads to `to`.
pub(super) struct Rule {
    pub(super) languages: &'static [Language],
    pub(super) from: &'static [State],
    pub(super) pattern: &'static str,
    pub(super) to: State,
}

const fn rule(languages: &'static [Language], from: &'static [State], pattern: &'static str, to: State) -> Rule {
    Rule { languages, from, pattern, to }
}

/// Each line that opens a trace has one of these in it; they are plain words, so that a search is fast.
pub(super) const HINTS: &str = r"Exception|Error|Throwable|V8 errors stack trace|Traceback \(most|panic: |panic serving |fatal error: |goroutine |PHP |exception '|Uncaught |\.rb:|Unhandled exception:|panicked at ";

/// A family: their frames begin with `at`.
const AT: &[Language] = &[Java, Javascript, Dotnet];

/// The first rule that fits counts. Those with the plainest start (a word and a colon) come last.
#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(&[Php], &[State::Start], r"PHP (?:Notice|Warning|Deprecated|Parse error|Fatal error|Recoverable fatal error): ", State::PhpThrown),
    rule(&[Php], &[State::Start], r"exception '[^']+' with message '|(?:Fatal error|Warning): +Uncaught ", State::PhpThrown),
    rule(&[Php], &[State::PhpThrown], r"^(?:PHP )?Stack trace:", State::PhpFrame),
    rule(&[Php], &[State::PhpFrame], r"^(?:PHP +)?#?\d+[. ]", State::PhpFrame),
    rule(&[Php], &[State::PhpFrame], r"^$", State::PhpFrame),
    rule(&[Php], &[State::PhpFrame], r"^Next \S+: ", State::PhpThrown),
    rule(&[Php], &[State::PhpFrame], r"^\s+thrown in ", State::Start),

    rule(&[Ruby], &[State::Start], r"Error \(.*\):$", State::RubyFrame),
    rule(&[Ruby], &[State::Start], r"\.rb:\d+:in [`'].*\([A-Z]\w*(?:::\w+)*\)$", State::RubyFrame),
    rule(&[Ruby], &[State::RubyFrame], r"^[\t ]+.*\.rb:\d+:in [`']|^  $", State::RubyFrame),

    rule(&[Python], &[State::Start, State::PythonGap, State::PythonChain], r"^(?:  \+ Exception Group )?Traceback \(most recent call last\):$", State::PythonFile),
    rule(&[Python], &[State::PythonFile], r"^[\t ]+File ", State::PythonCode),
    rule(&[Python], &[State::PythonFile], r"^[\t ]+[~^]+$|^[\t ]+\[Previous line repeated ", State::PythonFile),
    rule(&[Python], &[State::PythonCode], r"^[\t ]+File ", State::PythonCode), // The source is not always there.
    rule(&[Python], &[State::PythonCode], r"^[\t ]+\S", State::PythonFile),
    rule(&[Python], &[State::PythonFile, State::PythonCode], r"^(?:[^\s.():]+\.)*[^\s.():]+(?::|$)", State::PythonThrown),
    rule(&[Python], &[State::PythonThrown], r"^$", State::PythonGap),
    rule(&[Python], &[State::PythonGap], r"^(?:During handling of the above|The above exception was)", State::PythonChain),
    rule(&[Python], &[State::PythonChain], r"^$", State::PythonChain),

    rule(&[Go], &[State::Start], r"\bpanic: |\bpanic serving |^fatal error: ", State::GoPanic),
    rule(&[Go], &[State::GoPanic], r"^\[signal |^\t+panic: |^\[recovered\]", State::GoPanic),
    rule(&[Go], &[State::GoPanic, State::GoCall], r"^$", State::GoGap),
    rule(&[Go], &[State::Start, State::GoPanic, State::GoGap], r"^goroutine \d+ .*\[[^\]]+\]:$", State::GoCall),
    rule(&[Go], &[State::GoCall], r"^(?:[^\s.:]+\.)*[^\s:(]+\(|^created by ", State::GoPlace),
    rule(&[Go], &[State::GoCall], r"^\.\.\.(?:additional|\d+) frames elided", State::GoCall),
    rule(&[Go], &[State::GoPlace], r"^\s", State::GoCall),

    rule(&[Rust], &[State::Start], r"^thread '.*' .*panicked at .*:$", State::RustMessage),
    rule(&[Rust], &[State::Start], r"^thread '.*' .*panicked at ", State::RustThrown),
    rule(&[Rust], &[State::RustMessage], r"", State::RustThrown),
    rule(&[Rust], &[State::RustThrown, State::Thrown], r"^[Ss]tack backtrace:$", State::RustFrame),
    rule(&[Rust], &[State::RustThrown], r"^ +(?:left|right): |^note: ", State::RustThrown),
    rule(&[Rust], &[State::RustFrame], r"^ +\d+: |^ +at ", State::RustFrame),
    rule(&[Rust], &[State::RustFrame], r"^note: ", State::Start),

    rule(&[Dart], &[State::Start], r"^Unhandled exception:$", State::DartThrown),
    rule(&[Dart], &[State::DartThrown], r"^(?:FormatException|'.+?':)", State::DartCode),
    rule(&[Dart], &[State::DartThrown], r"^NoSuchMethodError:", State::DartCall),
    rule(&[Dart], &[State::DartThrown], r".", State::DartFrame),
    rule(&[Dart], &[State::DartFrame, State::DartCode, State::DartGap, State::DartCall], r"^#\d+\s+.+\(.+\)$", State::DartFrame),
    rule(&[Dart], &[State::DartFrame], r"^<asynchronous suspension>$", State::DartFrame),
    rule(&[Dart], &[State::DartCode], r".", State::DartCaret),
    rule(&[Dart], &[State::DartCaret], r"\^", State::DartGap),
    rule(&[Dart], &[State::DartGap], r"^$", State::DartGap),
    rule(&[Dart], &[State::DartCall], r"^(?:Receiver|Tried calling|Found):", State::DartCall),

    rule(AT, &[State::Start, State::Nested], r"(?:Exception|Error|Throwable|V8 errors stack trace)(?::|\r?$)", State::Thrown),
    rule(AT, &[State::Thrown], r"^[\t ]*nested exception is:[\t ]*$", State::Nested),
    rule(AT, &[State::Thrown], r"^\r?$", State::Thrown),
    rule(AT, &[State::Thrown, State::Frame], r"^[\t ]+(?:eval )?at .*\{$", State::Properties),
    rule(AT, &[State::Thrown, State::Frame], r"^[\t ]+(?:eval )?at ", State::Frame),
    rule(AT, &[State::Thrown, State::Frame], r"^[\t ]*(?:Caused by|Suppressed|Wrapped by):|^[\t ]*\[CIRCULAR REFERENCE|^[\t ]*---> ", State::Thrown),
    rule(AT, &[State::Thrown, State::Frame], r"^[\t ]*\.\.\. \d+ (?:more|common frames omitted)", State::Frame),
    rule(AT, &[State::Thrown, State::Frame], r"^[\t ]*--- End of ", State::Frame),
    rule(AT, &[State::Properties], r"^[\t ]+\S", State::Properties),
    rule(AT, &[State::Properties], r"^\}", State::Start),
    rule(&[Rust], &[State::Start], r"^Error: ", State::Thrown),
    rule(&[Rust], &[State::Thrown], r"^$|^Caused by:$|^ +\d+: ", State::Thrown),
];
