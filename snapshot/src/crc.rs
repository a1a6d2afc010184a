//! Computes the CRC-32C of a whole from the CRCs and lengths of its parts, fast enough to do so for every entry of a
//! database.
//!
//! A CRC is a polynomial over GF(2) modulo Castagnoli's polynomial. Appending `n` bytes multiplies the CRC so far by
//! `x^8n` and adds the CRC of the new bytes. Two small tables contain these powers for all lengths below 16 MiB.

use std::fmt;

/// Castagnoli's polynomial with its bits reflected: bit 31 is the coefficient of x^0.
const POLYNOMIAL: u32 = 0x82F6_3B78;

/// The polynomial 1.
const ONE: u32 = 1 << 31;

const LOW_BITS: u32 = 12;
const TABLE: usize = 1 << LOW_BITS;

/// The CRC-32C (Castagnoli) of `bytes`, as etcd uses it in HashKV, `snapshot status` and its write-ahead log.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Combines CRCs. Creating one computes 36 KiB of tables, so create one and keep it.
///
/// ```
/// use backstay_snapshot::crc::{Combiner, crc32c};
///
/// let combiner = Combiner::default();
/// let whole = combiner.append(crc32c(b"back"), crc32c(b"stay"), 4);
/// assert_eq!(whole, crc32c(b"backstay"));
/// ```
#[derive(Clone)]
pub struct Combiner {
    /// x^(8n) for n < 4096.
    low: Box<[u32]>,
    /// x^(8 · 4096 · n) for n < 4096.
    high: Box<[u32]>,
    reduce: Reduce,
}

impl fmt::Debug for Combiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Combiner").finish_non_exhaustive()
    }
}

impl Default for Combiner {
    fn default() -> Self {
        let reduce = Reduce::new();
        let powers = |step: u32| -> Box<[u32]> {
            std::iter::successors(Some(ONE), |power| Some(reduce.multiply(*power, step))).take(TABLE).collect()
        };
        let low = powers(ONE >> 8);
        let high = powers(reduce.multiply(low[TABLE - 1], ONE >> 8));
        Self { low, high, reduce }
    }
}

impl Combiner {
    /// The CRC of `first` followed by `second`, given the CRC of each and the length of `second` in bytes.
    pub fn append(&self, first: u32, second: u32, second_bytes: u64) -> u32 {
        self.shift(first, second_bytes) ^ second
    }

    fn shift(&self, crc: u32, bytes: u64) -> u32 {
        let low = self.reduce.multiply(crc, self.low[(bytes % TABLE as u64) as usize]);
        let rest = bytes >> LOW_BITS;
        if rest == 0 {
            return low;
        }
        let high = self.reduce.multiply(low, self.high[(rest % TABLE as u64) as usize]);
        match rest >> LOW_BITS {
            0 => high,
            more => self.reduce.multiply(high, self.power(more)),
        }
    }

    /// x^(8 · 2^24 · n), for lengths that are beyond the tables.
    fn power(&self, mut n: u64) -> u32 {
        let mut square = self.reduce.multiply(self.high[TABLE - 1], self.high[1]);
        let mut power = ONE;
        while n > 0 {
            if n & 1 == 1 {
                power = self.reduce.multiply(power, square);
            }
            square = self.reduce.multiply(square, square);
            n >>= 1;
        }
        power
    }
}

/// Multiplies polynomials modulo Castagnoli's.
#[derive(Clone)]
struct Reduce {
    /// The lower 32 bits of a product are the coefficients of x^32 and higher: for each of their four bytes, its
    /// remainder modulo the polynomial.
    bytes: Box<[[u32; 256]; 4]>,
}

impl Reduce {
    fn new() -> Self {
        let mut bytes = Box::new([[0; 256]; 4]);
        for (place, table) in bytes.iter_mut().enumerate() {
            for (byte, slot) in table.iter_mut().enumerate() {
                *slot = (0..32).fold((byte as u32) << (8 * place), |rest, _| step(rest));
            }
        }
        Self { bytes }
    }

    /// `a · b` modulo the polynomial.
    fn multiply(&self, a: u32, b: u32) -> u32 {
        // Bit 63 of the product is the coefficient of x^0.
        let wide = u64::from(b) << 1;
        let mut windows = [0_u64; 16];
        for bit in 0..4 {
            let term = wide << bit;
            for low in 0..1 << bit {
                windows[(1 << bit) + low] = windows[low] ^ term;
            }
        }
        let product = (0..8).rev().fold(0_u64, |sum, nibble| (sum << 4) ^ windows[(a >> (4 * nibble)) as usize & 15]);
        let low = product as u32;
        let reduced = (0..4).fold(0, |sum, place| sum ^ self.bytes[place][(low >> (8 * place)) as usize & 255]);
        (product >> 32) as u32 ^ reduced
    }
}

/// Multiplies by x: shifts by one towards bit 0, modulo the polynomial.
fn step(value: u32) -> u32 {
    (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_usual_check_value() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }

    proptest! {
        #[test]
        fn parts_make_the_whole(a in prop::collection::vec(any::<u8>(), 0..9000), at in any::<prop::sample::Index>()) {
            let at = at.index(a.len() + 1);
            let (left, right) = a.split_at(at);
            let whole = Combiner::default().append(crc32c(left), crc32c(right), right.len() as u64);
            prop_assert_eq!(whole, crc32c(&a));
        }

        #[test]
        fn lengths_beyond_the_tables_agree_with_the_other_implementation(
            a: u32, b: u32, bytes in prop_oneof![0..1_u64 << 13, 0..1_u64 << 25, 0..1_u64 << 40],
        ) {
            let other = crc32c::crc32c_combine(a, b, bytes as usize);
            prop_assert_eq!(Combiner::default().append(a, b, bytes), other);
        }
    }
}
