//! Where the simulator's variety comes from: numbers that look random and are a function of their
//! keys. The mixing step is SplitMix64's finalizer (Steele, Lea, Flood 2014).

/// What a number is drawn for, so that two uses with the same keys are independent.
#[derive(Debug, Clone, Copy)]
#[repr(u64)]
pub enum Draw {
    /// Which airline flies a slot.
    Airline = 1,
    /// Where an airline's block of addresses and flight numbers begins.
    Allocation,
    /// Short, medium or long haul.
    Haul,
    /// Which airport within a haul.
    Destination,
    /// Minutes at the gate.
    Turnaround,
    /// Where in its cycle a slot is at a given time.
    Phase,
    /// Which variant of a route's profile.
    Variant,
    /// How one variant of a profile is flown.
    Profile,
    /// Transponder code of one flight.
    Squawk,
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number that depends on the seed, its purpose and two keys.
pub fn draw(seed: u64, purpose: Draw, a: u64, b: u64) -> u64 {
    let z = mix(seed.wrapping_add((purpose as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    let z = mix(z ^ a.wrapping_mul(0xd6e8_feb8_6659_fd93));
    mix(z ^ b.wrapping_mul(0xa076_1d64_78bd_642f))
}

/// A hash as a number from 0 up to, not including, 1.
pub fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

/// A hash as an index below `len`, which must not be 0.
pub fn index(hash: u64, len: usize) -> usize {
    // Both casts are exact: the remainder is below a length.
    (hash % len as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_purposes_are_independent() {
        let base = draw(42, Draw::Airline, 0, 0);
        for other in [
            draw(43, Draw::Airline, 0, 0),
            draw(42, Draw::Phase, 0, 0),
            draw(42, Draw::Airline, 1, 0),
            draw(42, Draw::Airline, 0, 1),
        ] {
            assert!((base ^ other).count_ones() > 10, "{base:x} {other:x}");
        }
    }

    #[test]
    fn units_fill_the_interval_evenly() {
        let mut counts = [0u32; 10];
        for i in 0..100_000 {
            counts[(unit(draw(7, Draw::Haul, i, 0)) * 10.0) as usize] += 1;
        }
        assert!(
            counts.iter().all(|n| (9_500..10_500).contains(n)),
            "{counts:?}"
        );
    }
}
