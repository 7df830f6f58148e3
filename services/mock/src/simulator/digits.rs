//! Numbers as text, faster than the standard library's formatting: half of an event's cost was
//! there.

const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut i = 0;
    while i < 100 {
        pairs[2 * i] = b'0' + (i / 10) as u8;
        pairs[2 * i + 1] = b'0' + (i % 10) as u8;
        i += 1;
    }
    pairs
};

fn pair(n: u64) -> [u8; 2] {
    let at = 2 * (n % 100) as usize;
    [PAIRS[at], PAIRS[at + 1]]
}

/// The last two digits of a number.
pub fn two(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&pair(n.into()));
}

/// A whole number.
pub fn integer(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    unsigned(out, n.unsigned_abs());
}

fn unsigned(out: &mut Vec<u8>, mut n: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    while n >= 100 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&pair(n));
        n /= 100;
    }
    if n >= 10 {
        at -= 2;
        text[at..at + 2].copy_from_slice(&pair(n));
    } else {
        at -= 1;
        text[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&text[at..]);
}

/// A number of 10^-PLACES: `decimal::<5>(out, -12337541)` is `-123.37541`.
pub fn decimal<const PLACES: usize>(out: &mut Vec<u8>, n: i32) {
    if n < 0 {
        out.push(b'-');
    }
    let scale = 10u32.pow(PLACES as u32);
    let n = n.unsigned_abs();
    unsigned(out, (n / scale).into());
    let mut fraction = n % scale;
    let mut text = [b'.'; 10];
    for digit in text[1..=PLACES].iter_mut().rev() {
        *digit = b'0' + (fraction % 10) as u8;
        fraction /= 10;
    }
    out.extend_from_slice(&text[..=PLACES]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn examples() {
        assert_eq!(text(|out| decimal::<5>(out, -12_237_541)), "-122.37541");
        assert_eq!(text(|out| decimal::<5>(out, -42)), "-0.00042");
        assert_eq!(text(|out| decimal::<1>(out, 4473)), "447.3");
        assert_eq!(text(|out| two(out, 7)), "07");
    }

    proptest! {
        #[test]
        fn integers_are_those_of_the_standard_library(n in any::<i64>()) {
            prop_assert_eq!(text(|out| integer(out, n)), n.to_string());
        }

        #[test]
        fn decimals_parse_to_their_value(n in any::<i32>()) {
            prop_assert_eq!(text(|out| decimal::<5>(out, n)).parse::<f64>().unwrap(), f64::from(n) / 1e5);
            prop_assert_eq!(text(|out| decimal::<1>(out, n)), format!("{}{}.{}", if n < 0 { "-" } else { "" }, n.unsigned_abs() / 10, n.unsigned_abs() % 10));
        }
    }
}
