//! The tissue around the cells: where there is tissue, where stroma, and the direction of its
//! fibres.
//!
//! It has the same distribution for both classes and all hospitals. Many tiles contain background,
//! as real tiles do: white must stay white under any stain, and a phantom without white could not
//! show that it does.

use std::f32::consts::{PI, TAU};

use super::cells::Ground;
use super::dice::Dice;
use super::noise::{Noise, smoothstep};

/// What of a tile is tissue.
#[derive(Clone, Debug)]
enum Extent {
    Full,
    /// The edge of the section: tissue on one side of a line through this point with this normal.
    Edge {
        through: (f32, f32),
        normal: (f32, f32),
    },
    /// Fat vacuoles, each a centre and a radius.
    Fat(Vec<(f32, f32, f32)>),
}

/// One tile's ground, as functions of a point in pixels.
pub(super) struct Terrain {
    extent: Extent,
    /// Stroma where a slow field lies below this.
    stroma_below: f32,
    /// White gaps where a field lies above this.
    gaps_above: f32,
    fibre_angle: f32,
    slow: Noise,
    warp: Noise,
    fibre: Noise,
    grain: Noise,
}

impl Terrain {
    pub(super) fn new(side: usize, dice: &mut Dice) -> Self {
        let kind = dice.between(0.0, 1.0);
        let extent = match kind {
            k if k < 0.14 => edge(side as f32, dice),
            k if k < 0.26 => Extent::Fat(vacuoles(side as f32, dice)),
            _ => Extent::Full,
        };
        Self {
            extent,
            stroma_below: dice.between(0.22, 0.52),
            gaps_above: dice.between(0.46, 0.78),
            fibre_angle: dice.between(0.0, PI),
            slow: Noise(dice.bits()),
            warp: Noise(dice.bits()),
            fibre: Noise(dice.bits()),
            grain: Noise(dice.bits()),
        }
    }

    /// 0 in the background, 1 in tissue.
    pub(super) fn tissue(&self, x: f32, y: f32) -> f32 {
        let ragged = |size: f32| 2.0 * self.warp.octaves(x / size, y / size, 3) - 1.0;
        match &self.extent {
            Extent::Full => 1.0,
            Extent::Edge { through, normal } => {
                let inside = (x - through.0) * normal.0 + (y - through.1) * normal.1;
                smoothstep(-1.0, 1.0, inside + 22.0 * ragged(34.0))
            }
            Extent::Fat(vacuoles) => {
                let wobble = 1.0 + 0.12 * ragged(24.0);
                let outside = |&(cx, cy, r): &(f32, f32, f32)| (x - cx).hypot(y - cy) - r * wobble;
                smoothstep(-0.8, 0.8, vacuoles.iter().map(outside).fold(f32::MAX, f32::min))
            }
        }
    }

    /// 1 in stroma, 0 among cells.
    pub(super) fn stroma(&self, x: f32, y: f32) -> f32 {
        smoothstep(
            self.stroma_below + 0.03,
            self.stroma_below - 0.03,
            self.slow.octaves(x / 70.0, y / 70.0, 2),
        )
    }

    /// Density of the fibres of the stroma, 0..1.
    pub(super) fn fibres_at(&self, x: f32, y: f32) -> f32 {
        let (sin, cos) = self.fibre_angle.sin_cos();
        self.fibre.octaves((x * cos + y * sin) / 34.0, self.across(x, y) / 5.0, 4)
    }

    /// 1 where the tissue has come apart and light shines through.
    pub(super) fn gap(&self, x: f32, y: f32) -> f32 {
        smoothstep(
            self.gaps_above,
            self.gaps_above + 0.09,
            self.grain.octaves(x / 15.0, y / 15.0, 3),
        )
    }

    /// Fine unevenness of the ground substance, 0..1.
    pub(super) fn grain(&self, x: f32, y: f32) -> f32 {
        self.grain.octaves(x / 5.0 + 100.0, y / 5.0, 3)
    }

    /// Slow unevenness of the section's thickness, 0..1.
    pub(super) fn thickness(&self, x: f32, y: f32) -> f32 {
        self.slow.octaves(x / 60.0 + 300.0, y / 60.0, 2)
    }

    /// Position across the fibres, bent by the warp.
    fn across(&self, x: f32, y: f32) -> f32 {
        let (sin, cos) = self.fibre_angle.sin_cos();
        y * cos - x * sin + 30.0 * self.warp.octaves(x / 55.0, y / 55.0, 2)
    }
}

impl Ground for Terrain {
    fn holds(&self, x: f32, y: f32) -> bool {
        self.tissue(x, y) > 0.9 && self.gap(x, y) < 0.5
    }

    fn fibres(&self, x: f32, y: f32) -> Option<f32> {
        if self.stroma(x, y) < 0.5 {
            return None;
        }
        // Fibres run at right angles to the gradient of `across`.
        let (dx, dy) = (
            self.across(x + 2.0, y) - self.across(x - 2.0, y),
            self.across(x, y + 2.0) - self.across(x, y - 2.0),
        );
        Some((-dx).atan2(dy))
    }
}

fn edge(side: f32, dice: &mut Dice) -> Extent {
    let angle = dice.between(0.0, TAU);
    let middle = |dice: &mut Dice| side * dice.between(0.3, 0.7);
    Extent::Edge { through: (middle(dice), middle(dice)), normal: (angle.cos(), angle.sin()) }
}

/// Places circles that do not touch at random.
fn vacuoles(side: f32, dice: &mut Dice) -> Vec<(f32, f32, f32)> {
    let mut circles: Vec<(f32, f32, f32)> = Vec::new();
    let wall = dice.between(2.5, 6.0);
    let tries = 12 + (side * side / 250.0) as usize;
    for _ in 0..tries {
        let (x, y, r) = (
            dice.between(-20.0, side + 20.0),
            dice.between(-20.0, side + 20.0),
            dice.between(12.0, 34.0),
        );
        if circles.iter().all(|&(cx, cy, cr)| (x - cx).hypot(y - cy) > r + cr + wall) {
            circles.push((x, y, r));
        }
    }
    circles
}
