//! Digests that fingerprints are made of: MD5, SHA-1, SHA-2, SHA3-256 and MurmurHash3. For naming, not for secrets.

use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512, digest};

/// Which digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Digest {
    Md5,
    Sha1,
    Sha256,
    Sha512,
    Sha3,
    Murmur3,
}

impl Digest {
    /// The digest of `bytes`.
    pub(crate) fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => md5(bytes).to_vec(),
            Self::Sha1 => digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref().to_vec(),
            Self::Sha256 => digest(&SHA256, bytes).as_ref().to_vec(),
            Self::Sha512 => digest(&SHA512, bytes).as_ref().to_vec(),
            Self::Sha3 => sha3_256(bytes).to_vec(),
            Self::Murmur3 => murmur3(bytes).to_vec(),
        }
    }
}

/// Source: RFC 1321.
fn md5(bytes: &[u8]) -> [u8; 16] {
    const SHIFTS: [[u32; 4]; 4] = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
    let mut state: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
    let mut message = bytes.to_vec();
    message.push(0x80);
    message.resize((message.len() + 8).next_multiple_of(64) - 8, 0); // The length follows.
    message.extend_from_slice(&(bytes.len() as u64).wrapping_mul(8).to_le_bytes());
    for block in message.chunks_exact(64) {
        let word =
            |at: usize| u32::from_le_bytes([block[at * 4], block[at * 4 + 1], block[at * 4 + 2], block[at * 4 + 3]]);
        let [mut a, mut b, mut c, mut d] = state;
        for step in 0..64 {
            let (mixed, at) = match step / 16 {
                0 => ((b & c) | (!b & d), step),
                1 => ((d & b) | (!d & c), (5 * step + 1) % 16),
                2 => (b ^ c ^ d, (3 * step + 5) % 16),
                _ => (c ^ (b | !d), 7 * step % 16),
            };
            let constant = ((step as f64 + 1.0).sin().abs() * 4_294_967_296.0) as u32;
            let sum = a.wrapping_add(mixed).wrapping_add(constant).wrapping_add(word(at));
            let turned = b.wrapping_add(sum.rotate_left(SHIFTS[step / 16][step % 4]));
            (a, b, c, d) = (d, turned, b, c);
        }
        for (state, value) in state.iter_mut().zip([a, b, c, d]) {
            *state = state.wrapping_add(value);
        }
    }
    let mut out = [0; 16];
    for (place, word) in out.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    out
}

/// The variant of 128 bits for machines of 64, with seed 0, the greater half first.
///
/// Source: `MurmurHash3_x64_128` of https://github.com/aappleby/smhasher.
fn murmur3(bytes: &[u8]) -> [u8; 16] {
    const C: [u64; 2] = [0x87c3_7b91_1142_53d5, 0x4cf5_ad43_2745_937f];
    let mix1 = |k: u64| k.wrapping_mul(C[0]).rotate_left(31).wrapping_mul(C[1]);
    let mix2 = |k: u64| k.wrapping_mul(C[1]).rotate_left(33).wrapping_mul(C[0]);
    let finish = |k: u64| {
        let k = (k ^ (k >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        let k = (k ^ (k >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        k ^ (k >> 33)
    };
    let (mut a, mut b) = (0_u64, 0_u64);
    let (blocks, rest) = bytes.as_chunks::<16>();
    let halves = |block: &[u8; 16]| {
        let both = u128::from_le_bytes(*block);
        (both as u64, (both >> 64) as u64)
    };
    for (first, second) in blocks.iter().map(halves) {
        a = (a ^ mix1(first)).rotate_left(27).wrapping_add(b).wrapping_mul(5).wrapping_add(0x52dc_e729);
        b = (b ^ mix2(second)).rotate_left(31).wrapping_add(a).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let mut last = [0; 16];
    last[..rest.len()].copy_from_slice(rest);
    let (first, second) = halves(&last);
    (a, b) = (a ^ mix1(first), b ^ mix2(second)); // Of nothing, both are 0.
    (a, b) = (a ^ bytes.len() as u64, b ^ bytes.len() as u64);
    a = a.wrapping_add(b);
    b = b.wrapping_add(a);
    (a, b) = (finish(a), finish(b));
    a = a.wrapping_add(b);
    b = b.wrapping_add(a);
    (u128::from(a) << 64 | u128::from(b)).to_be_bytes()
}

/// Source: FIPS 202.
fn sha3_256(bytes: &[u8]) -> [u8; 32] {
    /// Bytes of a block.
    const RATE: usize = 136;
    let mut message = bytes.to_vec();
    message.push(0x06);
    message.resize(message.len().next_multiple_of(RATE), 0);
    if let Some(last) = message.last_mut() {
        *last |= 0x80;
    }
    let mut state = [0_u64; 25];
    for block in message.chunks_exact(RATE) {
        for (lane, bytes) in state.iter_mut().zip(block.as_chunks::<8>().0) {
            *lane ^= u64::from_le_bytes(*bytes);
        }
        keccak(&mut state);
    }
    let mut out = [0; 32];
    for (place, lane) in out.chunks_exact_mut(8).zip(state) {
        place.copy_from_slice(&lane.to_le_bytes());
    }
    out
}

fn keccak(state: &mut [u64; 25]) {
    let mut lfsr = 1_u8;
    for _ in 0..24 {
        // Theta.
        let column = |state: &[u64; 25], x: usize| (0..5).fold(0, |sum, y| sum ^ state[x + 5 * y]);
        let columns: [u64; 5] = std::array::from_fn(|x| column(state, x));
        for x in 0..5 {
            let mixed = columns[(x + 4) % 5] ^ columns[(x + 1) % 5].rotate_left(1);
            for y in 0..5 {
                state[x + 5 * y] ^= mixed;
            }
        }
        // Rho and pi.
        let (mut x, mut y, mut lane) = (1, 0, state[1]);
        for step in 0..24_u32 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let turned = lane.rotate_left((step + 1) * (step + 2) / 2 % 64);
            lane = std::mem::replace(&mut state[x + 5 * y], turned);
        }
        // Chi.
        for row in state.chunks_exact_mut(5) {
            let old: [u64; 5] = std::array::from_fn(|x| row[x]);
            for x in 0..5 {
                row[x] = old[x] ^ (!old[(x + 1) % 5] & old[(x + 2) % 5]);
            }
        }
        // Iota.
        for bit in 0..7 {
            if lfsr & 1 == 1 {
                state[0] ^= 1 << ((1_u32 << bit) - 1);
            }
            lfsr = (lfsr << 1) ^ if lfsr & 0x80 == 0 { 0 } else { 0x71 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(digest: Digest, text: &str) -> String {
        digest.of(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        assert_eq!(hex(Digest::Md5, ""), "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(hex(Digest::Md5, "abc"), "900150983cd24fb0d6963f7d28e17f72");
        let long = "12345678901234567890123456789012345678901234567890123456789012345678901234567890";
        assert_eq!(hex(Digest::Md5, long), "57edf4a22be3c955ac49da2e2107b67a");
        // Whose length just no longer fits in the block.
        assert_eq!(hex(Digest::Md5, &"a".repeat(56)), "3b0c8ac703f828b04c6c197006d17218");
        assert_eq!(hex(Digest::Sha3, ""), "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a");
        assert_eq!(hex(Digest::Sha3, "abc"), "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532");
        let fox = "The quick brown fox jumps over the lazy dog";
        assert_eq!(hex(Digest::Murmur3, fox), "e34bbc7bbc071b6c7a433ca9c49a9347");
        assert_eq!(hex(Digest::Murmur3, "hello"), "cbd8a7b341bd9b025b1e906a48ae1d19");
        assert_eq!(hex(Digest::Murmur3, ""), "00000000000000000000000000000000");
        assert_eq!(hex(Digest::Sha1, "abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
    }
}
