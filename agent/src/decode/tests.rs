use super::*;
use proptest::prelude::*;

/// A line as it was given: text, start, end, truncated.
type Given = (Vec<u8>, u64, u64, bool);

fn config(encoding: &str, terminator: &str, line_bytes_max: usize, on_long_line: OnLongLine) -> DecodeConfig {
    let encoding = Encoding::try_from(encoding.to_owned()).expect("is known");
    let line_terminator =
        if terminator.is_empty() { LineTerminator::Auto } else { LineTerminator::Text(terminator.into()) };
    DecodeConfig { encoding, line_terminator, on_long_line, invalid_bytes: InvalidBytes::Replace, line_bytes_max }
}

fn plan(config: &DecodeConfig) -> Arc<Decoder> {
    Arc::new(Decoder::new(config).expect("is sound"))
}

fn add(total: &mut Cut, cut: Cut) {
    total.consumed += cut.consumed;
    total.invalid_bytes += cut.invalid_bytes;
    total.truncated += cut.truncated;
    total.pieces += cut.pieces;
    total.skipped += cut.skipped;
    total.nul_bytes += cut.nul_bytes;
}

/// Reads `source` from `from` on as `follow` does, with a buffer that grows by `step` while nothing is consumed.
fn read(plan: &Arc<Decoder>, source: &[u8], from: usize, step: usize) -> (Vec<Given>, Cut) {
    let mut cutter = Cutter::new(plan.clone(), &source[..source.len().min(4)]);
    let (mut at, mut size, mut scratch, mut total, mut lines) = (from, step, Vec::new(), Cut::default(), Vec::new());
    let mut each = |line: Line<'_>| lines.push((line.text.to_vec(), line.start, line.end, line.truncated));
    while at < source.len() {
        let chunk = &source[at..source.len().min(at + size)];
        let cut = cutter.cut(chunk, at as u64, &mut scratch, &mut each);
        assert!(cutter.resume_at((at + cut.consumed) as u64) <= (at + cut.consumed) as u64);
        add(&mut total, cut);
        at += cut.consumed;
        if cut.consumed == 0 && chunk.len() < size {
            break;
        }
        size = if cut.consumed == 0 { size + step } else { step };
    }
    add(&mut total, cutter.finish(&source[at..], at as u64, &mut scratch, &mut each));
    (lines, total)
}

/// Reads `source` in every way and compares the texts and counts.
#[track_caller]
fn check(config: &DecodeConfig, source: &[u8], texts: &[&str], counts: Cut) {
    let plan = plan(config);
    for step in 1..source.len() + 2 {
        let (lines, total) = read(&plan, source, 0, step);
        let got: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(&line.0)).collect();
        assert_eq!(got, texts, "in chunks of {step}");
        assert_eq!(Cut { consumed: 0, ..total }, counts, "in chunks of {step}");
    }
}

fn le(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn be(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

#[test]
fn a_line_ends_where_its_terminator_says() {
    let none = Cut::default();
    let check = |terminator, source: &str, texts: &[&str]| {
        for (encoding, bytes) in
            [("utf-8", source.as_bytes().to_vec()), ("utf-16le", le(source)), ("utf-16be", be(source))]
        {
            check(&config(encoding, terminator, 1000, OnLongLine::Truncate), &bytes, texts, none);
        }
    };
    check("", "a\nb\r\n\n\r\nc\rd\n", &["a", "b", "", "", "c\rd"]);
    check("", "a\nb\r", &["a", "b"]); // The end of what will not grow.
    check("\n", "a\r\nb\n", &["a\r", "b"]);
    check("\r\n", "a\nb\rc\r\nd\r\n", &["a\nb\rc", "d"]);
    check("\r", "a\rb\n\r", &["a", "b\n"]);
    check("\0", "a\0\0b\0", &["a", "", "b"]);
    check("\u{2028}", "a\u{2028}b\u{2029}\u{2028}", &["a", "b\u{2029}"]);
    check("\u{85}", "a\u{85}b\u{85}", &["a", "b"]);
    check("||", "a|b||c|||d", &["a|b", "c", "|d"]);
    check("-----", "a----b-----c-----", &["a----b", "c"]);
    check("", "", &[]);
}

#[test]
fn a_line_feed_inside_a_character_ends_nothing() {
    let text = "\u{0a0a}\u{0a00}\u{010a}\u{0d0a}x\u{0a}\u{0a41}";
    for (encoding, bytes) in [("utf-16le", le(text)), ("utf-16be", be(text))] {
        let config = config(encoding, "", 1000, OnLongLine::Truncate);
        check(&config, &bytes, &["\u{0a0a}\u{0a00}\u{010a}\u{0d0a}x", "\u{0a41}"], Cut::default());
    }
}

#[test]
fn a_custom_line_end_inside_a_character_ends_nothing() {
    for encoding in ["gbk", "gb18030", "big5", "shift-jis"] {
        let name = encoding_rs::Encoding::for_label(encoding.as_bytes()).expect("is known");
        // Characters whose second byte is `|`, found by decoding.
        let hidden = (0x81..=0xFC).filter_map(|lead| {
            let pair = [lead, b'|'];
            let (text, is_bad) = name.decode_without_bom_handling(&pair);
            (!is_bad && name.encode(&text).0[..] == pair).then(|| text.into_owned())
        });
        let hidden: String = hidden.take(4).collect();
        let texts = [format!("b{hidden}"), format!("{hidden}{hidden}c")];
        let joined = texts.join("|");
        let (source, _, _) = name.encode(&joined);
        check(&config(encoding, "|", 1000, OnLongLine::Truncate), &source, &[&texts[0], &texts[1]], Cut::default());
    }
    let double = b"a\x1B$B$\"||\x1B(B|b|"; // Two bytes each between the escapes.
    check(&config("iso-2022-jp", "|", 1000, OnLongLine::Skip), double, &["aあ\u{ffe4}", "b"], Cut::default());
}

#[test]
fn a_bom_is_no_text_and_decides_the_byte_order() {
    let truncate = |encoding| config(encoding, "", 1000, OnLongLine::Truncate);
    let with_bom = "\u{feff}é\n\u{feff}x\n";
    for encoding in ["auto", "utf-16", "utf-16le", "utf-16be", "utf-16-bom"] {
        check(&truncate(encoding), &le(with_bom), &["é", "\u{feff}x"], Cut::default());
        check(&truncate(encoding), &be(with_bom), &["é", "\u{feff}x"], Cut::default());
    }
    check(&truncate("auto"), with_bom.as_bytes(), &["é", "\u{feff}x"], Cut::default());
    check(&truncate("utf-8"), with_bom.as_bytes(), &["é", "\u{feff}x"], Cut::default());
    check(&truncate("gb18030"), b"\x84\x31\x95\x33\xD6\xD0\n", &["中"], Cut::default());
    check(&truncate("auto"), b"\xEF\xBB", &["\u{fffd}"], Cut { invalid_bytes: 2, ..Cut::default() });
    let (lines, _) = read(&plan(&truncate("auto")), &le(with_bom), 0, 3);
    assert_eq!(lines[0], ("é".into(), 2, 6, false));
}

#[test]
fn invalid_bytes_are_counted_and_kept_or_replaced() {
    let mut config = config("utf-8", "", 1000, OnLongLine::Truncate);
    let count = Cut { invalid_bytes: 3, ..Cut::default() };
    check(&config, b"a\xFFb\n\xE4\xB8 c\nd\n", &["a\u{fffd}b", "\u{fffd} c", "d"], count);
    config.invalid_bytes = InvalidBytes::Keep;
    let (lines, total) = read(&plan(&config), b"a\xFFb\n\xE4\xB8 c\nd\n", 0, 5);
    assert_eq!((&lines[0].0[..], &lines[1].0[..], total.invalid_bytes), (&b"a\xFFb"[..], &b"\xE4\xB8 c"[..], 3));
    config.encoding = Encoding::Is(encoding_rs::GBK);
    check(&config, b"a\xB0\nb\n", &["a\u{fffd}", "b"], Cut { invalid_bytes: 1, ..Cut::default() });
    config.encoding = Encoding::Is(encoding_rs::UTF_16LE);
    check(
        &config,
        b"a\0\x00\xD8\n\0b\0\n\0c",
        &["a\u{fffd}", "b", "\u{fffd}"],
        Cut { invalid_bytes: 3, ..Cut::default() },
    );
}

#[test]
fn a_long_line_is_cut_split_or_left_out_and_its_neighbours_are_whole() {
    let source = "a\n12345678\r\n123456789\n1234567é1234567é12345678\nb\n".as_bytes();
    let none = Cut::default();
    let truncated = ["a", "12345678", "12345678", "1234567", "b"];
    check(&config("utf-8", "", 8, OnLongLine::Truncate), source, &truncated, Cut { truncated: 2, ..none });
    check(&config("utf-8", "", 8, OnLongLine::Skip), source, &["a", "12345678", "b"], Cut { skipped: 2, ..none });
    let split = ["a", "12345678", "12345678", "9", "1234567", "é123456", "7é12345", "678", "b"];
    check(&config("utf-8", "", 8, OnLongLine::Split), source, &split, Cut { pieces: 4, ..none });
    let split = ["a", "1234", "5678", "1234", "5678", "9"];
    check(
        &config("utf-16le", "", 8, OnLongLine::Split),
        &le("a\n12345678\n123456789\n"),
        &split,
        Cut { pieces: 3, ..none },
    );
}

#[test]
fn a_line_of_exactly_the_limit_is_whole_whatever_its_end() {
    for end in ["\n", "\r\n", "-----", "================================"] {
        for on_long_line in [OnLongLine::Truncate, OnLongLine::Skip, OnLongLine::Split] {
            let source = format!("12345678{end}b{end}");
            let terminator = if end.ends_with('\n') { "" } else { end };
            check(&config("utf-8", terminator, 8, on_long_line), source.as_bytes(), &["12345678", "b"], Cut::default());
        }
    }
}

#[test]
fn what_is_cut_tears_no_character() {
    let none = Cut::default();
    let source = b"1234567\xD6\xD0\xD6\xD0\n\xD6\xD0\n";
    check(&config("gbk", "", 8, OnLongLine::Split), source, &["1234567", "中中", "中"], Cut { pieces: 1, ..none });
    check(&config("gbk", "", 8, OnLongLine::Truncate), source, &["1234567", "中"], Cut { truncated: 1, ..none });
    let pair = le("123😀5\n");
    check(&config("utf-16le", "", 8, OnLongLine::Split), &pair, &["123", "😀5"], Cut { pieces: 1, ..none });
    let unfinished = b"123456789";
    check(&config("utf-8", "", 8, OnLongLine::Truncate), unfinished, &["12345678"], Cut { truncated: 1, ..none });
    let unfinished = [b'x'; 100];
    check(&config("utf-8", "", 8, OnLongLine::Skip), &unfinished, &[], Cut { skipped: 1, ..none });
}

#[test]
fn zeros_of_a_hole_are_counted_and_make_no_text() {
    let truncate = |encoding| config(encoding, "", 8, OnLongLine::Truncate);
    let none = Cut::default();
    check(&truncate("utf-8"), b"a\n\0\0\0b\n", &["a", "b"], Cut { nul_bytes: 3, ..none });
    check(&truncate("utf-8"), b"a\0b\n\0\0\n", &["a\0b", ""], Cut { nul_bytes: 2, ..none });
    let hole = [b"a\n".as_slice(), &[0; 100], b"b\nc"].concat();
    check(&truncate("utf-8"), &hole, &["a", "b", "c"], Cut { nul_bytes: 100, ..none });
    check(&truncate("utf-16be"), &be("a\n\0\0\u{100}\n"), &["a", "\u{100}"], Cut { nul_bytes: 4, ..none });
}

#[test]
fn zeros_at_the_end_are_held_back_until_something_follows() {
    for zeros in [1, 7, 100] {
        let source = [b"a\nb".as_slice(), &vec![0; zeros]].concat();
        let (lines, total) = read(&plan(&config("utf-8", "", 200, OnLongLine::Truncate)), &source, 0, 16);
        assert_eq!(lines.iter().map(|line| line.2).collect::<Vec<_>>(), [2, 3], "{zeros} zeros");
        assert_eq!((total.nul_bytes, total.truncated), (0, 0), "{zeros} zeros");
    }
    let mut cutter = Cutter::new(plan(&config("utf-8", "", 8, OnLongLine::Truncate)), b"a\n\0\0");
    let cut = cutter.cut(&[0; 100], 2, &mut Vec::new(), &mut |_| ());
    assert_eq!((cut.consumed, cut.nul_bytes), (100, 0), "a long hole takes no memory");
    assert_eq!((cutter.resume_at(102), cutter.is_in_hole()), (2, true), "and may still be filled");
    let cut = cutter.cut(b"b\n", 102, &mut Vec::new(), &mut |line| assert_eq!(line.start, 102));
    assert_eq!((cut.consumed, cut.nul_bytes, cutter.resume_at(104)), (2, 100, 104));
}

#[test]
fn a_gigabyte_without_line_end_takes_no_more_memory_than_the_limit() {
    const LIMIT: usize = 512 * 1024;
    let chunk = vec![b'x'; 2 * LIMIT];
    for on_long_line in [OnLongLine::Truncate, OnLongLine::Skip, OnLongLine::Split] {
        let mut cutter = Cutter::new(plan(&config("auto", "", LIMIT, on_long_line)), b"xxxx");
        let (mut at, mut scratch, mut lines) = (0, Vec::new(), 0);
        while at < 1 << 30 {
            let cut = cutter.cut(&chunk, at, &mut scratch, &mut |_| lines += 1);
            assert!(cut.consumed > 0);
            at += cut.consumed as u64;
            let kept = if let Held::Long(long) = &cutter.held { long.kept.capacity() } else { 0 };
            assert!(kept <= LIMIT && scratch.capacity() == 0);
        }
        let is_split = on_long_line == OnLongLine::Split;
        assert_eq!(cutter.resume_at(at), if is_split { at } else { 0 });
        let cut = cutter.cut(b"\nb\n", at, &mut scratch, &mut |_| lines += 1);
        assert_eq!(cut.consumed, 3);
        assert_eq!(lines, if is_split { at / LIMIT as u64 + 2 } else { 1 + cut.truncated });
    }
}

#[test]
fn ascii_is_passed_on_without_a_copy() {
    let source = b"plain ascii\n";
    for encoding in ["utf-8", "gbk", "shift-jis", "windows-1252", "iso-2022-jp"] {
        let config =
            DecodeConfig { invalid_bytes: InvalidBytes::Keep, ..config(encoding, "", 1000, OnLongLine::Truncate) };
        let mut cutter = Cutter::new(plan(&config), &source[..4]);
        let mut scratch = Vec::new();
        cutter.cut(source, 0, &mut scratch, &mut |line| assert_eq!(line.text.as_ptr(), source.as_ptr()));
        assert_eq!((scratch.capacity(), cutter.is_plain()), (0, encoding == "utf-8"), "{encoding}");
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let refuse = |encoding: &str, terminator: LineTerminator, on_long_line, limit, reason: &str| {
        let config = DecodeConfig { line_terminator: terminator, ..config(encoding, "", limit, on_long_line) };
        let error = format!("{:#}", Decoder::new(&config).expect_err("is refused"));
        assert!(error.contains(reason), "{error}");
    };
    let text = |text: &str| LineTerminator::Text(text.into());
    refuse("gbk", text("\u{2028}"), OnLongLine::Truncate, 64, "cannot be written in GBK");
    refuse("latin1", text("\u{85}"), OnLongLine::Truncate, 64, "cannot be written in windows-1252");
    refuse("iso-2022-jp", text("あ"), OnLongLine::Truncate, 64, "cannot be written in ISO-2022-JP");
    refuse("utf-8", text(""), OnLongLine::Truncate, 64, "has 0 bytes");
    refuse("utf-16", text(&"-".repeat(17)), OnLongLine::Truncate, 64, "has 34 bytes");
    refuse("utf-8", LineTerminator::Auto, OnLongLine::Truncate, 7, "7 bytes is below 8");
    refuse("iso-2022-jp", LineTerminator::Auto, OnLongLine::Split, 64, "split cannot be used");
}

#[test]
fn files_in_many_encodings_give_their_truth() {
    let project = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the project");
    let beside = project.parent().map(|parent| parent.join("shared/data"));
    let folder = std::env::var_os("TAILRACE_SHARED_DATA").map(std::path::PathBuf::from).or(beside);
    let Some(folder) = folder.map(|folder| folder.join("encodings")).filter(|folder| folder.is_dir()) else {
        return eprintln!("SKIPPED: no reference data beside the project (set TAILRACE_SHARED_DATA)");
    };
    let index = std::fs::read(folder.join("index.json")).expect("readable");
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).expect("is JSON");
    assert!(!index.is_empty());
    for entry in &index {
        let field = |name: &str| entry[name].as_str().expect("a string");
        let source = std::fs::read(folder.join(field("file"))).expect("readable");
        let truth = std::fs::read_to_string(folder.join(field("truth"))).expect("UTF-8");
        let truth: Vec<_> = truth.lines().collect();
        let encodings = if entry["bom"] == true { vec![field("encoding"), "auto"] } else { vec![field("encoding")] };
        for encoding in encodings {
            let plan = plan(&config(encoding, "", 1000, OnLongLine::Truncate));
            for step in (1..=70).chain([source.len()]) {
                let (lines, _) = read(&plan, &source, 0, step);
                let texts: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(&line.0)).collect();
                assert_eq!(texts, truth, "{} as {encoding} in chunks of {step}", field("file"));
                assert_eq!(lines.last().map(|line| line.2), Some(source.len() as u64), "{}", field("file"));
            }
        }
    }
}

/// Files of the bytes that matter, sound or not, and every way to read them.
fn any_file() -> impl Strategy<Value = (Vec<u8>, DecodeConfig)> {
    let byte =
        prop::sample::select(b"ab|\r\n\n\0\0\x1B$B(0\x81\x85\x8F\x95\xA1\xD8\xDC\xFE\xFF\xEF\xBB\xBF\xE4".to_vec());
    let bom = prop::sample::select(vec![&b""[..], b"\xEF\xBB\xBF", b"\xFF\xFE", b"\xFE\xFF", b"\x84\x31\x95\x33"]);
    let encoding = prop::sample::select(vec![
        "auto",
        "utf-8",
        "utf-16le",
        "utf-16be",
        "gbk",
        "gb18030",
        "big5",
        "shift-jis",
        "euc-jp",
        "euc-kr",
        "latin1",
        "iso-2022-jp",
    ]);
    let terminator = prop::sample::select(vec!["", "\n", "\r\n", "\0", "|", "||", "a|a|b"]);
    let policy = prop::sample::select(vec![OnLongLine::Truncate, OnLongLine::Skip, OnLongLine::Split]);
    let keeps = prop::sample::select(vec![InvalidBytes::Keep, InvalidBytes::Replace]);
    (bom, prop::collection::vec(byte, 0..150), encoding, terminator, policy, keeps, 8_usize..40).prop_map(
        |(bom, bytes, encoding, terminator, policy, invalid_bytes, limit)| {
            let policy =
                if encoding == "iso-2022-jp" && policy == OnLongLine::Split { OnLongLine::Skip } else { policy };
            ([bom, &bytes].concat(), DecodeConfig { invalid_bytes, ..config(encoding, terminator, limit, policy) })
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Wherever the chunks are cut, lines, offsets and counts are the same.
    #[test]
    fn lines_do_not_depend_on_the_chunks((source, config) in any_file(), step in 1_usize..80) {
        let plan = plan(&config);
        prop_assert_eq!(read(&plan, &source, 0, step), read(&plan, &source, 0, source.len() + 1));
    }

    /// Read again from the start or the end of any line, the later lines are the same.
    #[test]
    fn lines_do_not_depend_on_where_reading_starts((source, config) in any_file(), step in 1_usize..80) {
        let plan = plan(&config);
        let (lines, _) = read(&plan, &source, 0, source.len() + 1);
        for (index, line) in lines.iter().enumerate() {
            prop_assert!(line.1 <= line.2 && line.2 <= source.len() as u64);
            prop_assert_eq!(&read(&plan, &source, line.1 as usize, step).0[..], &lines[index..]);
            prop_assert_eq!(&read(&plan, &source, line.2 as usize, step).0[..], &lines[index + 1..]);
        }
    }

    /// What was written in an encoding is what is given, each line where it was written.
    #[test]
    fn what_was_written_is_given(
        texts in prop::collection::vec("[a-z\u{4e00}-\u{4e40}\u{0a00}-\u{0a10}\u{0a0d}あ😀é]{0,12}", 0..12),
        encoding in prop::sample::select(vec!["utf-8", "utf-16le", "utf-16be", "gb18030"]),
        terminator in prop::sample::select(vec!["\n", "\r\n", "\u{2028}", "|-|"]),
        step in 1_usize..80,
    ) {
        let encode = |text: &str| match encoding {
            "utf-16le" => le(text),
            "utf-16be" => be(text),
            _ => encoding_rs::Encoding::for_label(encoding.as_bytes()).expect("is known").encode(text).0.into_owned(),
        };
        let (mut source, mut written) = (Vec::new(), Vec::new());
        for text in &texts {
            let start = source.len() as u64;
            source.extend(encode(text));
            source.extend(encode(terminator));
            written.push((text.clone().into_bytes(), start, source.len() as u64, false));
        }
        let (lines, total) = read(&plan(&config(encoding, terminator, 1000, OnLongLine::Truncate)), &source, 0, step);
        prop_assert_eq!(lines, written);
        prop_assert_eq!(total, Cut { consumed: source.len(), ..Cut::default() });
    }
}
