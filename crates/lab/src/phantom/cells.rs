//! Nuclei: number, place, size and outline. Only this file depends on the class of a tile.
//!
//! Tumour and normal differ by the size, number and outline of their nuclei, never by colour: both
//! take the same share of the area and the same amounts of dye, so that a classifier that uses
//! colour recognises the hospital instead of the class. Re-staining is meant to remove this
//! shortcut, and a phantom without it could not show that.

use std::f32::consts::{PI, TAU};

use super::Label;
use super::dice::Dice;

/// Harmonics of an outline, from the second (an ellipse is drawn by `aspect`; the first only shifts
/// the centre).
const HARMONICS: usize = 4;

/// One nucleus. Lengths in pixels, angles in radians.
#[derive(Clone, Debug)]
pub(super) struct Nucleus {
    pub x: f32,
    pub y: f32,
    /// Radius of the disc of equal area.
    pub radius: f32,
    /// Long axis divided by short axis.
    aspect: f32,
    direction: (f32, f32),
    outline: [(f32, f32); HARMONICS],
    /// Amount of haematoxylin, about 1.
    pub dye: f32,
    /// 0: evenly dark; 1: pale inside with a dark rim.
    pub vesicular: f32,
    /// Out of the plane of focus, 0..1: a softer edge.
    pub defocus: f32,
    /// Key of the chromatin's texture.
    pub texture: u32,
}

impl Nucleus {
    /// Distance of a point from the centre in units of the outline: below 1 is inside.
    pub(super) fn depth_at(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - self.x, y - self.y);
        let (cos, sin) = self.direction;
        let stretch = self.aspect.sqrt();
        let (along, across) = ((dx * cos + dy * sin) / stretch, (dy * cos - dx * sin) * stretch);
        let angle = across.atan2(along);
        let bumps: f32 = self
            .outline
            .iter()
            .enumerate()
            .map(|(k, (size, phase))| size * ((k + 2) as f32 * angle + phase).cos())
            .sum();
        along.hypot(across) / (self.radius * (1.0 + bumps))
    }

    /// A circle round the centre that contains `scale` outlines.
    pub(super) fn reach(&self, scale: f32) -> f32 {
        let bumps: f32 = self.outline.iter().map(|(size, _)| size.abs()).sum();
        self.radius * self.aspect.sqrt() * (1.0 + bumps) * scale
    }

    pub(super) fn area(&self) -> f32 {
        PI * self.radius * self.radius
    }
}

/// The ranges that a class's nuclei are drawn from.
struct Kind {
    radius: (f32, f32),
    radius_bounds: (f32, f32),
    aspect: (f32, f32),
    bumpiness: f32,
    /// Closest approach of two centres in units of the sum of the radii.
    spacing: f32,
}

/// At half a micrometre a pixel: lymphocytes of 7 µm, and tumour cells whose nuclei are nearly
/// twice as wide.
const NORMAL: Kind = Kind {
    radius: (6.8, 0.7),
    radius_bounds: (5.3, 8.3),
    aspect: (1.0, 1.3),
    bumpiness: 0.03,
    spacing: 1.0,
};
const TUMOUR: Kind = Kind {
    radius: (12.0, 1.9),
    radius_bounds: (9.2, 17.0),
    aspect: (1.05, 1.65),
    bumpiness: 0.065,
    spacing: 0.96,
};
/// Fibroblasts lie along the fibres of the stroma, in both classes.
const SPINDLE: Kind = Kind {
    radius: (5.0, 0.7),
    radius_bounds: (3.8, 6.5),
    aspect: (3.0, 5.5),
    bumpiness: 0.03,
    spacing: 1.5,
};

/// Where cells may be.
pub(super) trait Ground {
    /// Returns whether there is tissue at a point.
    fn holds(&self, x: f32, y: f32) -> bool;
    /// The direction of the fibres where the point is in stroma, `None` among cells.
    fn fibres(&self, x: f32, y: f32) -> Option<f32>;
}

/// Throws nuclei at a square of `side` pixels (and a margin, so that some are cut by the edge)
/// until `coverage` of the tissue between the fibres is covered or no more find room.
pub(super) fn populate(
    label: Label,
    side: usize,
    coverage: f32,
    ground: &impl Ground,
    dice: &mut Dice,
) -> Vec<Nucleus> {
    const MARGIN: f32 = 16.0;
    let span = side as f32 + 2.0 * MARGIN;
    let class = match label {
        Label::Normal => &NORMAL,
        Label::Tumour => &TUMOUR,
    };
    let mut nuclei: Vec<(Nucleus, f32)> = Vec::new();
    let tries = (span * span / 20.0) as usize;
    let (mut covered, mut ground_seen) = (0.0, 0usize);
    for thrown in 1..=tries {
        let (x, y) = (dice.between(-MARGIN, span - MARGIN), dice.between(-MARGIN, span - MARGIN));
        let fibres = ground.fibres(x, y);
        let kind = if fibres.is_some() { &SPINDLE } else { class };
        let nucleus = draw(kind, x, y, fibres, dice);
        if !ground.holds(x, y) {
            continue;
        }
        ground_seen += usize::from(fibres.is_none());
        let cells_area = span * span * ground_seen as f32 / thrown as f32;
        let wanted = match fibres {
            Some(_) => dice.chance(0.05),
            None => covered < coverage * cells_area,
        };
        let clear = |(other, spacing): &(Nucleus, f32)| {
            (other.x - x).hypot(other.y - y)
                > spacing.max(kind.spacing) * (other.radius + nucleus.radius)
        };
        if wanted && nuclei.iter().all(clear) {
            covered += if fibres.is_none() { nucleus.area() } else { 0.0 };
            nuclei.push((nucleus, kind.spacing));
        }
    }
    nuclei.into_iter().map(|(nucleus, _)| nucleus).collect()
}

fn draw(kind: &Kind, x: f32, y: f32, along: Option<f32>, dice: &mut Dice) -> Nucleus {
    let radius =
        dice.normal(kind.radius.0, kind.radius.1).clamp(kind.radius_bounds.0, kind.radius_bounds.1);
    let free = dice.between(0.0, PI);
    let angle = along.map_or(free, |fibre| fibre + 0.2 * (free / PI - 0.5));
    Nucleus {
        x,
        y,
        radius,
        aspect: dice.between(kind.aspect.0, kind.aspect.1),
        direction: (angle.cos(), angle.sin()),
        outline: std::array::from_fn(|k| {
            (dice.normal(0.0, kind.bumpiness / (1.0 + 0.5 * k as f32)), dice.between(0.0, TAU))
        }),
        dye: dice.normal(1.0, 0.13).clamp(0.6, 1.35),
        vesicular: dice.between(-0.5, 1.0).max(0.0),
        defocus: dice.between(-0.6, 1.0).max(0.0),
        texture: dice.bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Meadow;
    impl Ground for Meadow {
        fn holds(&self, _: f32, _: f32) -> bool {
            true
        }
        fn fibres(&self, _: f32, _: f32) -> Option<f32> {
            None
        }
    }

    fn field(label: Label) -> Vec<Nucleus> {
        populate(label, 400, 0.35, &Meadow, &mut Dice::new(3, 0))
    }

    #[test]
    fn tumour_nuclei_are_larger_and_fewer_and_cover_the_same_area() {
        let (normal, tumour) = (field(Label::Normal), field(Label::Tumour));
        let covered = |nuclei: &[Nucleus]| nuclei.iter().map(Nucleus::area).sum::<f32>();
        let mean = |nuclei: &[Nucleus]| covered(nuclei) / nuclei.len() as f32;
        assert!(mean(&tumour) > 2.0 * mean(&normal), "{} and {}", mean(&tumour), mean(&normal));
        assert!(2 * tumour.len() < normal.len());
        assert!(
            (covered(&tumour) / covered(&normal) - 1.0).abs() < 0.1,
            "{} and {}",
            covered(&tumour),
            covered(&normal)
        );
    }

    #[test]
    fn the_dyes_of_both_classes_are_alike() {
        let mean =
            |nuclei: &[Nucleus]| nuclei.iter().map(|n| n.dye).sum::<f32>() / nuclei.len() as f32;
        assert!((mean(&field(Label::Normal)) - mean(&field(Label::Tumour))).abs() < 0.05);
    }

    #[test]
    fn the_outline_holds_the_area_it_claims() {
        let nucleus = &field(Label::Tumour)[0];
        let reach = nucleus.reach(1.0).ceil() as i32;
        let inside = (-reach..=reach)
            .flat_map(|dy| (-reach..=reach).map(move |dx| (dx as f32, dy as f32)))
            .filter(|(dx, dy)| nucleus.depth_at(nucleus.x + dx, nucleus.y + dy) < 1.0)
            .count();
        assert!(
            (inside as f32 / nucleus.area() - 1.0).abs() < 0.1,
            "{inside} of {}",
            nucleus.area()
        );
    }
}
