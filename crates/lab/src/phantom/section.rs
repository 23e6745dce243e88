//! A stained section: how much haematoxylin and how much eosin every pixel holds.
//!
//! It holds amounts and no colours, which depend on the hospital, so that several hospitals can
//! stain the same section.

use super::Label;
use super::cells::{Nucleus, populate};
use super::dice::Dice;
use super::noise::{Noise, lerp, smoothstep};
use super::terrain::Terrain;

/// Amounts of dye, `[side, side]` row-major, about 1 where a structure is fully stained.
pub(super) struct Section {
    pub side: usize,
    pub haematoxylin: Vec<f32>,
    pub eosin: Vec<f32>,
}

/// The influence of the cells on one pixel.
#[derive(Clone, Copy)]
struct Touch {
    /// Distances to the nearest and the second nearest cell, in units of their outlines.
    nearest: f32,
    second: f32,
    /// Share of the pixel under a nucleus, and the haematoxylin of the nuclei there.
    covered: f32,
    chromatin: f32,
}

/// How far a cell's cytoplasm reaches, in units of its nucleus.
const CYTOPLASM: f32 = 2.2;

impl Section {
    pub(super) fn cut(label: Label, side: usize, dice: &mut Dice) -> Self {
        let terrain = Terrain::new(side, dice);
        let coverage = dice.between(0.28, 0.52);
        let nuclei = populate(label, side, coverage, &terrain, dice);
        let touches = touches(side, &nuclei);
        let halo = dice.between(-0.2, 0.45).max(0.0);
        let mut section = Self {
            side,
            haematoxylin: Vec::with_capacity(side * side),
            eosin: Vec::with_capacity(side * side),
        };
        for (at, touch) in touches.iter().enumerate() {
            let (x, y) = ((at % side) as f32, (at / side) as f32);
            let (haematoxylin, eosin) = paint(&terrain, touch, halo, x, y);
            section.haematoxylin.push(haematoxylin);
            section.eosin.push(eosin);
        }
        if dice.chance(0.3) {
            section.bleed(&terrain, dice);
        }
        section
    }

    /// A group of red blood cells: eosin alone, strongly.
    fn bleed(&mut self, terrain: &Terrain, dice: &mut Dice) {
        let side = self.side as f32;
        let (cx, cy) = (dice.between(0.0, side), dice.between(0.0, side));
        for _ in 0..3 + dice.bits() % 6 {
            let (x, y, radius) =
                (dice.normal(cx, 9.0), dice.normal(cy, 9.0), dice.between(4.8, 6.2));
            let amount = dice.between(1.1, 1.5);
            if terrain.tissue(x, y) < 0.5 {
                continue;
            }
            for at in square(self.side, x, y, radius + 1.0) {
                let (px, py) = ((at % self.side) as f32, (at / self.side) as f32);
                let depth = (px - x).hypot(py - y) / radius;
                let inside = smoothstep(1.12, 0.88, depth);
                self.eosin[at] =
                    lerp(self.eosin[at], amount * (0.82 + 0.18 * depth * depth), inside);
                self.haematoxylin[at] *= 1.0 - 0.9 * inside;
            }
        }
    }
}

/// Amounts of haematoxylin and eosin at one pixel.
fn paint(terrain: &Terrain, touch: &Touch, halo: f32, x: f32, y: f32) -> (f32, f32) {
    let tissue = terrain.tissue(x, y);
    if tissue == 0.0 {
        return (0.0, 0.0);
    }
    let fibre = terrain.fibres_at(x, y);
    let bundles = 0.2
        + 0.5 * smoothstep(0.2, 0.8, fibre)
        + 0.55 * terrain.grain(x, y) * smoothstep(0.3, 0.6, fibre);
    let body = smoothstep(CYTOPLASM, 1.1, touch.nearest);
    let cytoplasm =
        0.12 + 0.85 * terrain.grain(x, y).powi(2) + 0.3 * terrain.thickness(x, y) + 0.24 * body;
    // Neighbouring cells leave a paler seam where they meet, and shrinkage a halo round a nucleus.
    let seam = smoothstep(0.22, 0.0, touch.second - touch.nearest)
        * smoothstep(CYTOPLASM, CYTOPLASM - 0.4, touch.second);
    let shrunk = halo * smoothstep(1.0, 1.12, touch.nearest) * smoothstep(1.5, 1.2, touch.nearest);
    let open = (1.0 - 0.45 * seam)
        * (1.0 - shrunk)
        * (1.0 - 0.92 * terrain.gap(x, y) * (1.0 - 0.85 * body));
    let ground = lerp(cytoplasm * open, bundles, terrain.stroma(x, y));
    let eosin = lerp(ground, 0.32 * ground + 0.12, touch.covered);
    let haematoxylin = 0.16 * ground * (1.0 - touch.covered) + touch.chromatin;
    let amount = tissue * (0.88 + 0.24 * terrain.thickness(x, y));
    (haematoxylin * amount, eosin * amount)
}

fn touches(side: usize, nuclei: &[Nucleus]) -> Vec<Touch> {
    let mut touches =
        vec![
            Touch { nearest: f32::MAX, second: f32::MAX, covered: 0.0, chromatin: 0.0 };
            side * side
        ];
    for nucleus in nuclei {
        for at in square(side, nucleus.x, nucleus.y, nucleus.reach(CYTOPLASM)) {
            let (x, y) = ((at % side) as f32, (at / side) as f32);
            let depth = nucleus.depth_at(x, y);
            touches[at].add(depth, depth < 1.5, || stain(nucleus, depth, x, y));
        }
    }
    touches
}

impl Touch {
    fn add(&mut self, depth: f32, close: bool, stain: impl Fn() -> (f32, f32)) {
        self.second = self.second.min(depth.max(self.nearest));
        self.nearest = self.nearest.min(depth);
        if close {
            let (covered, chromatin) = stain();
            self.covered = self.covered.max(covered);
            // Where two nuclei lie over each other the lower one adds less: a section is thinner
            // than two nuclei.
            self.chromatin = self.chromatin.max(chromatin) + 0.3 * self.chromatin.min(chromatin);
        }
    }
}

/// Cover and haematoxylin of one nucleus at a point of this depth.
fn stain(nucleus: &Nucleus, depth: f32, x: f32, y: f32) -> (f32, f32) {
    let softness = (0.7 + 1.6 * nucleus.defocus) / nucleus.radius;
    let covered = smoothstep(1.0 + softness, 1.0 - softness, depth);
    let texture = Noise(nucleus.texture);
    let clumps = (texture.octaves(x / 3.2, y / 3.2, 2) - 0.5) * (1.0 - 0.6 * nucleus.defocus);
    let rim = smoothstep(0.62, 0.92, depth);
    let open = 1.0 - nucleus.vesicular * 0.55 * (1.0 - rim);
    let nucleolus = nucleus.vesicular * 0.7 * smoothstep(2.3, 1.3, spot(nucleus, x, y));
    let density = open + clumps * (0.85 + 0.5 * nucleus.vesicular) + nucleolus;
    (covered, nucleus.dye * density.max(0.15) * covered)
}

/// Distance in pixels to the nucleolus, which stands a little off the centre.
fn spot(nucleus: &Nucleus, x: f32, y: f32) -> f32 {
    let offset = |bits: u32| ((bits & 0xff) as f32 / 255.0 - 0.5) * 0.7 * nucleus.radius;
    (x - nucleus.x - offset(nucleus.texture)).hypot(y - nucleus.y - offset(nucleus.texture >> 8))
}

/// Indices of the pixels within `reach` of a point along both axes.
fn square(side: usize, x: f32, y: f32, reach: f32) -> impl Iterator<Item = usize> {
    // Casts from negative floats saturate at 0, which is the clamp wanted here.
    let range = move |centre: f32| {
        (centre - reach).ceil() as usize..((centre + reach).floor() + 1.0).min(side as f32) as usize
    };
    range(y).flat_map(move |row| range(x).map(move |column| row * side + column))
}
