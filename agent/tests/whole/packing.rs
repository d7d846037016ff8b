//! Packed files, as their tests make them.

use std::io::Write as _;

pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).expect("written");
    encoder.finish().expect("finished")
}

pub fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(plain, 3).expect("packed")
}

/// `count` lines of some length that do not pack too well.
pub fn log(from: u32, count: u32) -> String {
    (from..from + count).map(|n| format!("line {n:05} {:08x}\n", n.wrapping_mul(2_654_435_761))).collect()
}

/// `count` lines of 100 KB that do not pack too well, of which another `seed` makes others.
pub fn long_lines(seed: u32, count: u32) -> String {
    let line = |n: u32| {
        (0..12_500)
            .map(|at| format!("{:08x}", (at * count + n + seed * 7_919).wrapping_mul(2_654_435_761)))
            .collect::<String>()
    };
    (0..count).map(|n| line(n) + "\n").collect()
}
