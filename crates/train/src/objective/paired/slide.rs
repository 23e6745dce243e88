//! The style of a slide: the mean characteristics of tissue over several tiles of it.
//!
//! The colours of one tile depend on its tissue as well as on the stain of its slide. While
//! training, the other tiles of a field in the batch stand for the slide of a tile; the tile itself
//! does not count.

use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use super::pairs::Plan;
use restain_data::{below, unit as uniform};

/// Chance that another tile of the field counts.
const COUNTED: f64 = 0.75;

/// Which tokens and tiles a slide's style is the mean of.
pub(super) struct Slides {
    /// f32 [2n, 1, N]: the share of each patch in the style of its tile; 0 where it is no tissue.
    patches: Tensor,
    /// f32 [2n, 2n]: the share of each tile in the slide of a tile.
    tiles: Tensor,
}

impl Slides {
    /// Draws which tiles count; each pair has at least one other tile of its field, the other of
    /// the pair.
    pub(super) fn draw(plan: &Plan, rng: &mut ChaCha8Rng, device: Device) -> Self {
        Self::of(plan, choose(plan, rng), device)
    }

    /// Counts every other tile of the field.
    pub(super) fn whole(plan: &Plan, device: Device) -> Self {
        Self::of(plan, (0..plan.tissue.len()).map(|tile| others(plan, tile).1).collect(), device)
    }

    fn of(plan: &Plan, chosen: Vec<Vec<bool>>, device: Device) -> Self {
        let (count, patches) = (plan.tissue.len() as i64, plan.tissue[0].len() as i64);
        let shares = |rows: Vec<Vec<f32>>, width: i64| {
            Tensor::from_slice(&rows.concat()).view([count, width]).to_device(device)
        };
        let tissue = plan.tissue.iter().map(|patches| mean_of(patches)).collect();
        let tiles = chosen.iter().map(|tiles| mean_of(tiles)).collect();
        Self { patches: shares(tissue, patches).unsqueeze(1), tiles: shares(tiles, count) }
    }

    /// Returns the style of the slide of each tile, f32 [2n, h], from the characteristics of all
    /// tiles, f32 [2n, N+1, h].
    pub(super) fn styles(&self, characteristics: &Tensor) -> Tensor {
        let patches = characteristics.narrow(1, 1, characteristics.size()[1] - 1);
        self.tiles.matmul(&self.patches.bmm(&patches).squeeze_dim(1))
    }
}

/// Draws, for each of 2n tiles, which of the 2n count as its slide.
fn choose(plan: &Plan, rng: &mut ChaCha8Rng) -> Vec<Vec<bool>> {
    (0..plan.tissue.len())
        .map(|tile| {
            let (places, mut counted) = others(plan, tile);
            let certain = places[below(rng, places.len() as u64) as usize];
            for place in places {
                counted[place] = place == certain || uniform(rng) < COUNTED;
            }
            counted
        })
        .collect()
}

/// Returns the other tiles of a tile's field, of those with tissue if there are any: their places,
/// and which of the 2n they are.
fn others(plan: &Plan, tile: usize) -> (Vec<usize>, Vec<bool>) {
    let pairs = plan.draws.len();
    let is_other = |&o: &usize| o != tile && plan.draws[o % pairs] == plan.draws[tile % pairs];
    let has_tissue = |&o: &usize| plan.tissue[o].contains(&true);
    let mut places: Vec<usize> = (0..2 * pairs).filter(is_other).collect();
    if places.iter().any(has_tissue) {
        places.retain(has_tissue);
    }
    let counted = (0..2 * pairs).map(|o| places.contains(&o)).collect();
    (places, counted)
}

/// Returns equal shares of those that count, or of all if none does.
fn mean_of(counted: &[bool]) -> Vec<f32> {
    let count = counted.iter().filter(|&&counts| counts).count();
    if count == 0 {
        return vec![1.0 / counted.len() as f32; counted.len()];
    }
    counted.iter().map(|&counts| if counts { 1.0 / count as f32 } else { 0.0 }).collect()
}

/// Takes the rows of `a` where `chosen`, and of `b` elsewhere: f32 [n, h] each.
pub(super) fn rows(chosen: &[bool], a: &Tensor, b: &Tensor) -> Tensor {
    let chosen = Tensor::from_slice(chosen).to_kind(Kind::Bool).unsqueeze(1).to_device(a.device());
    a.where_self(&chosen, b)
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    fn plan(draws: &[u64], tissue: &[bool]) -> Plan {
        let tissue = tissue.iter().map(|&tissue| vec![tissue, false]).collect();
        Plan { draws: draws.to_vec(), tissue, ..Plan::default() }
    }

    #[test]
    fn a_slide_is_the_other_tiles_of_the_field_that_have_tissue() {
        // Pairs 0 and 1 are of one field; tile 5 is the other of pair 2. Tile 3 has no tissue.
        let plan = plan(&[4, 4, 5], &[true, true, true, false, true, true]);
        for stream in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            rng.set_stream(stream);
            let chosen = choose(&plan, &mut rng);
            assert!(!chosen[0][0] && !chosen[0][3] && (chosen[0][1] || chosen[0][4]));
            assert!(!chosen[0][2] && !chosen[0][5]);
            assert_eq!(chosen[2], [false, false, false, false, false, true]);
        }
    }

    #[test]
    fn a_style_is_the_mean_over_tissue_of_the_tiles_that_count() {
        let plan = plan(&[0], &[true, true]);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let slides = Slides::draw(&plan, &mut rng, Device::Cpu);
        // Two tiles of CLS and two patches, h = 1; the first patch is tissue.
        let characteristics =
            Tensor::from_slice(&[9.0f32, 1.0, 2.0, 9.0, 3.0, 4.0]).view([2, 3, 1]);
        let styles = Vec::<f32>::try_from(slides.styles(&characteristics).view([2])).unwrap();
        assert_eq!(styles, [3.0, 1.0]);
    }
}
