use super::*;
use crate::identity::{Edges, HEAD_BYTES_MAX, Likeness};
use std::io::Write as _;

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(content).expect("written");
    file
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::GzBuilder::new().filename("app.log").write(Vec::new(), flate2::Compression::default());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("a level");
    encoder.include_checksum(true).expect("a flag");
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

type Pack = fn(&[u8]) -> Vec<u8>;

const PACKINGS: [(Packing, Pack); 2] = [(Packing::Gzip, gzip), (Packing::Zstd, zstd)];

/// A log of about 200 KB that does not pack too well.
fn log() -> Vec<u8> {
    (0_u32..5_000)
        .flat_map(|n| format!("line {n} {:08x}{:08x}\n", n.wrapping_mul(2_654_435_761), n ^ 77).into_bytes())
        .collect()
}

fn open(packed: &[u8], packing: Packing) -> Unpacked {
    Unpacked::new(file(packed), packing, Limits::default()).expect("opens")
}

/// Everything from here on.
fn rest(unpacked: &mut Unpacked) -> Vec<u8> {
    let mut all = Vec::new();
    unpacked.read_to_end(&mut all).expect("readable");
    all
}

/// Everything that a file unpacks to, and how it ends.
fn read_all(packed: &[u8], packing: Packing) -> (Vec<u8>, Ending) {
    let mut unpacked = open(packed, packing);
    let all = rest(&mut unpacked);
    assert_eq!(unpacked.offset(), all.len() as u64);
    (all, unpacked.ending().expect("has ended").clone())
}

#[test]
fn the_first_bytes_say_what_a_file_is() {
    assert_eq!(Kind::of(&gzip(b"a")), Kind::Packed(Packing::Gzip));
    assert_eq!(Kind::of(&zstd(b"a")), Kind::Packed(Packing::Zstd));
    for plain in [&b"a"[..], b"(\n", b"\x1Fa", b"2026-01-01"] {
        assert_eq!(Kind::of(plain), Kind::Plain);
    }
    for open in [&b""[..], b"\x1F", b"\x1F\x8B", b"(\xB5/"] {
        assert_eq!(Kind::of(open), Kind::Open);
    }
    let packed = file(&gzip(b"a"));
    assert_eq!(Compression::Auto.of_file(&packed).expect("readable"), Some(Packing::Gzip));
    assert_eq!(Compression::None.of_file(&packed).expect("readable"), None);
    assert_eq!(Compression::Auto.of_file(&file(b"x")).expect("readable"), None);
    assert_eq!(Compression::Gzip.of_file(&file(b"x")).expect("readable"), Some(Packing::Gzip));
}

#[test]
fn members_that_follow_each_other_are_one_file() {
    for (packing, pack) in PACKINGS {
        let packed = [pack(b"one\n"), pack(b""), pack(&log()), pack(b"end\n")].concat();
        let plain = [&b"one\n"[..], &log(), b"end\n"].concat();
        assert_eq!(read_all(&packed, packing), (plain, Ending::Clean), "{packing:?}");
    }
}

#[test]
fn zeros_behind_the_last_member_are_padding_and_other_bytes_are_damage() {
    let packed = gzip(b"a\n");
    assert_eq!(read_all(&[&packed[..], &[0; 1000]].concat(), Packing::Gzip), (b"a\n".to_vec(), Ending::Clean));
    let (plain, ending) = read_all(&[&packed[..], b"garbage, not a member"].concat(), Packing::Gzip);
    assert_eq!(plain, b"a\n");
    assert!(matches!(ending, Ending::Damaged(_)), "{ending:?}");
}

#[test]
fn a_half_written_file_is_read_on_where_it_stopped_when_there_is_more() {
    for (packing, pack) in PACKINGS {
        let (first, second) = (pack(b"one\n"), pack(&log()));
        let (packed, plain) = ([&first[..], &second].concat(), [b"one\n", &log()[..]].concat());
        for step in [1, 3, 100, 4_000, packed.len() / 2] {
            let mut growing = file(b"");
            let mut unpacked =
                Unpacked::new(growing.try_clone().expect("a handle"), packing, Limits::default()).expect("opens");
            let (mut all, mut written) = (Vec::new(), 0);
            for piece in packed.chunks(step) {
                growing.write_all(piece).expect("written");
                written += piece.len();
                all.extend(rest(&mut unpacked));
                assert!(
                    plain.starts_with(&all) && unpacked.stands().expect("readable"),
                    "{packing:?} of {written} bytes"
                );
                let is_whole = written == first.len() || written == packed.len();
                let ending = if is_whole { Ending::Clean } else { Ending::Unfinished };
                assert_eq!(unpacked.ending(), Some(&ending), "{packing:?} of {written} bytes");
            }
            assert!(all == plain, "{packing:?} in steps of {step}");
        }
    }
}

#[test]
fn a_wrong_checksum_or_length_is_reported_and_what_was_read_is_kept() {
    let mut cases = Vec::new();
    for from_end in [8, 1] {
        let mut packed = gzip(&log());
        let at = packed.len() - from_end; // The CRC starts 8 bytes before the end, the length 4.
        packed[at] ^= 1;
        cases.push((packed, Packing::Gzip));
    }
    let mut packed = zstd(&log());
    *packed.last_mut().expect("is not empty") ^= 1;
    cases.push((packed, Packing::Zstd));
    for (packed, packing) in cases {
        let mut unpacked = open(&packed, packing);
        let plain = rest(&mut unpacked);
        assert!(matches!(unpacked.ending(), Some(Ending::Damaged(_))), "{packing:?}: {:?}", unpacked.ending());
        assert!(log().starts_with(&plain) && plain.len() + (128 << 10) > log().len(), "{packing:?}: {}", plain.len());
        assert!(packing == Packing::Zstd || plain == log());
        assert_eq!(rest(&mut unpacked), b"", "it stays ended");
    }
}

#[test]
fn damage_in_the_middle_never_panics_and_ends_with_its_reason() {
    for (packing, pack) in PACKINGS {
        let packed = pack(&log());
        for at in (0..packed.len()).step_by(97) {
            let mut damaged = packed.clone();
            damaged[at] ^= 0x55;
            let (_, ending) = read_all(&damaged, packing);
            let is_name = at < 18; // Flags, time and name of a header may change without harm.
            assert!(ending != Ending::Clean || is_name, "{packing:?} with another byte {at}");
        }
    }
}

#[test]
fn a_window_has_the_edges_of_the_plain_file_wherever_it_stands() {
    let plain = log();
    let plain_file = file(&plain);
    for (packing, pack) in PACKINGS {
        let mut window = Window::new(file(&pack(&plain)), packing).expect("opens");
        for offset in [0, 1, 255, 1024, 100_000, plain.len() as u64] {
            while window.fill(offset, offset + 300).expect("readable") == Filled::More {}
            let known = Edges::read(&plain_file, offset).expect("readable").expect("long enough").anchor();
            let edges = window.edges(offset).expect("long enough");
            assert_eq!((edges.anchor(), edges.likeness(&known)), (known, Likeness::Same), "{packing:?} at {offset}");
            let mut next = [0; 300];
            let read = window.read_at(&mut next, offset);
            assert_eq!(&next[..read], &plain[offset as usize..][..read], "{packing:?} at {offset}");
            assert_eq!(read, 300.min(plain.len() - offset as usize));
        }
        assert_eq!(window.head(), &plain[..HEAD_BYTES_MAX]);
        assert!(window.edges(plain.len() as u64 + 1).is_none() && window.edges(100_000).is_none(), "kept no longer");
    }
}

#[test]
fn a_long_way_takes_several_turns_and_no_memory() {
    let plain: Vec<u8> = log().repeat(30);
    let mut window = Window::new(file(&gzip(&plain)), Packing::Gzip).expect("opens");
    let (mut turns, until) = (1, plain.len() as u64);
    while window.fill(until, until).expect("readable") == Filled::More {
        turns += 1;
        assert!(window.kept_bytes() < 64 * 1024, "{}", window.kept_bytes());
    }
    assert_eq!((turns, window.end()), (plain.len().div_ceil(2 << 20), until));
}

#[test]
fn what_packs_well_is_no_bomb_up_to_16_mib() {
    for (packing, pack) in PACKINGS {
        let (plain, ending) = read_all(&pack(&vec![b'x'; 16 << 20]), packing);
        assert_eq!((plain.len(), ending), (16 << 20, Ending::Clean), "{packing:?}");
    }
}

#[test]
fn a_bomb_is_refused_and_takes_no_memory() {
    const CHILD: &str = "TAILRACE_UNPACK_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let itself = std::env::current_exe().expect("has a path");
        let name = "unpack::tests::a_bomb_is_refused_and_takes_no_memory";
        let child = std::process::Command::new(itself).args(["--exact", name]).env(CHILD, "1").output().expect("runs");
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        return;
    }
    for (packing, pack) in PACKINGS {
        let bomb = file(&pack(&vec![0; 16 << 20]).repeat(64)); // 1 GiB.
        let free = Limits { ratio_max: u64::MAX, ..Limits::default() };
        let capped = Limits { unpacked_bytes_max: 256 << 20, ..free };
        let cases = [
            (Limits::default(), (16 << 20)..(30 << 20), "more than 200"),
            (capped, (255 << 20)..(256 << 20) + 1, "268435456 bytes"),
        ];
        for (limits, place, reason) in cases {
            let before = resident_peak_bytes();
            let mut unpacked = Unpacked::new(bomb.try_clone().expect("a handle"), packing, limits).expect("opens");
            io::copy(&mut unpacked, &mut io::sink()).expect("readable");
            assert!(matches!(unpacked.ending(), Some(Ending::Refused(why)) if why.contains(reason)), "{unpacked:?}");
            assert!(place.contains(&unpacked.offset()), "{unpacked:?}");
            assert!(resident_peak_bytes() - before <= 16 << 20, "{packing:?}: memory grew");
        }
    }
}

#[test]
fn a_window_that_takes_too_much_memory_is_refused() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("a level");
    encoder.window_log(27).expect("a size");
    encoder.write_all(&log()).expect("written");
    let (plain, ending) = read_all(&encoder.finish().expect("finished"), Packing::Zstd);
    assert!(plain.is_empty() && matches!(&ending, Ending::Damaged(why) if why.contains("memory")), "{ending:?}");
}

/// Most memory that this process had at once.
fn resident_peak_bytes() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").expect("the peak is set back to now");
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
