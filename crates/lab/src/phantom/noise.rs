//! Smooth random fields: value noise on a hashed lattice, and sums of its octaves.
//!
//! Every value is a function of (field, x, y), so that a field needs no memory and has no edge.
//! Value noise costs half of gradient noise, and its lattice is invisible in a sum of octaves.

/// One field, chosen by its key.
#[derive(Clone, Copy)]
pub(super) struct Noise(pub u32);

impl Noise {
    /// Noise of feature size 1 in `0..1`.
    pub(super) fn at(self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let (u, v) = (fade(x - left), fade(y - top));
        let (i, j) = (left as i32, top as i32);
        let upper = lerp(self.lattice(i, j), self.lattice(i + 1, j), u);
        let lower = lerp(self.lattice(i, j + 1), self.lattice(i + 1, j + 1), u);
        lerp(upper, lower, v)
    }

    /// `octaves` of noise, each of half the feature size and half the height of the one before, in
    /// `0..1`.
    pub(super) fn octaves(self, x: f32, y: f32, octaves: u32) -> f32 {
        let (mut sum, mut height, mut total, mut scale) = (0.0, 1.0, 0.0, 1.0);
        for octave in 0..octaves {
            let field = Noise(self.0.wrapping_add(octave.wrapping_mul(0x9e37_79b9)));
            sum += height * field.at(x * scale, y * scale);
            total += height;
            height *= 0.5;
            scale *= 2.0;
        }
        sum / total
    }

    fn lattice(self, x: i32, y: i32) -> f32 {
        let mut hash = self.0
            ^ (x as u32).wrapping_mul(0x85eb_ca6b)
            ^ (y as u32).wrapping_mul(0xc2b2_ae35).rotate_left(13);
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x7feb_352d);
        hash = (hash ^ (hash >> 15)).wrapping_mul(0x846c_a68b);
        (hash >> 8) as f32 / (1 << 24) as f32
    }
}

/// 0 below `low`, 1 above `high`, smooth between; `low > high` turns it round.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

fn fade(t: f32) -> f32 {
    t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_in_range_continuous_and_not_constant() {
        let field = Noise(5);
        let samples: Vec<f32> = (0..4000).map(|i| field.octaves(i as f32 * 0.01, 3.3, 4)).collect();
        assert!(samples.iter().all(|v| (0.0..=1.0).contains(v)));
        assert!(samples.windows(2).all(|pair| (pair[0] - pair[1]).abs() < 0.1));
        let (low, high) = samples.iter().fold((1.0f32, 0.0f32), |(l, h), v| (l.min(*v), h.max(*v)));
        assert!(high - low > 0.3, "{low} to {high}");
    }

    #[test]
    fn a_smoothstep_turned_round_falls() {
        assert_eq!(smoothstep(1.0, 0.0, 0.0), 1.0);
        assert_eq!(smoothstep(1.0, 0.0, 1.0), 0.0);
    }
}
