//! Variants of the training tiles, made by each technique as the server would make them.
//!
//! Tiles are encoded once; a variant then costs one product.

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use tch::Device;

use crate::classifier::{Classifier, Tiles};
use crate::downstream::encoded::{Encodings, Halves, target_looks};
use crate::downstream::jitter::{color_jitter, gain_and_bias};
use crate::downstream::looks::{Look, Looks};
use crate::downstream::options::DownstreamArgs;
use crate::downstream::technique::{StyleSource, Technique};
use crate::downstream::worst::{Tile, Worst};
use crate::encodings::Model;
use restain_method::Style;
use restain_method::color::{ChannelStats, color_match, hed_jitter};
use restain_method::glass::keep_glass;
use restain_method::rand_stain_na::{self, RandStainNa};
use restain_method::spread::Spread;
use restain_method::synth::{Scratch, Synthesiser};
use restain_method::upsample::UpsampleScratch;

/// What variants are made with, besides tiles and a model.
#[derive(Clone, Debug)]
pub(super) struct Making {
    pub methods: Vec<Technique>,
    pub styles: StyleSource,
    pub hed_sigma: f32,
    /// How wide `vit-spread` draws styles.
    pub spread: f32,
    /// How far `vit-worst` goes, standard deviations of the styles.
    pub radius: f64,
    /// Tiles that a target stain is measured on.
    pub target_tiles: usize,
}

/// Makes variants of the training tiles.
pub(super) struct Maker<'a> {
    tiles: &'a Tiles,
    making: Making,
    stats: Vec<ChannelStats>,
    looks: Looks,
    /// The stains of the test domains; empty unless a technique takes them.
    targets: Looks,
    /// The stains of the bank and of the test domains; likewise.
    joined: Looks,
    spread: Option<Spread>,
    joined_spread: Option<Spread>,
    distribution: Option<RandStainNa>,
    encodings: Option<Encodings>,
}

/// Buffers of one thread.
pub(super) struct Bench {
    scratch: Option<Scratch>,
    upsample: UpsampleScratch,
    /// f32 [N, S]: a style less the tile's own characteristics.
    difference: Vec<f32>,
    /// f32 [H, W, 3], levels: what that changes at the model's size.
    change: Vec<f32>,
    /// u8 [side, side, 3]
    variant: Vec<u8>,
    worst: Option<Worst>,
}

impl Making {
    pub(super) fn of(args: &DownstreamArgs) -> Self {
        Self {
            methods: args.methods.clone(),
            styles: args.styles(),
            hed_sigma: args.hed_sigma as f32,
            spread: args.spread as f32,
            radius: args.worst_radius,
            target_tiles: args.target_style_tiles,
        }
    }

    fn any(&self, of: impl Fn(Technique) -> bool) -> bool {
        self.methods.iter().any(|&method| of(method))
    }
}

impl<'a> Maker<'a> {
    /// Prepares the variants of `tiles`, by a technique each. `targets` are unlabelled tiles of
    /// each test domain. `model` is needed for `vit` in all its forms and for styles of the bank.
    ///
    /// # Errors
    /// If the bank is empty, there is only one tile to take styles from, no tile of the test
    /// domains has a stain, or the encoder fails.
    pub(super) fn new(
        tiles: &'a Tiles,
        targets: &[Tiles],
        mut model: Option<&mut Model>,
        making: Making,
    ) -> Result<Self> {
        let stats: Vec<ChannelStats> =
            tiles.pixels.iter().map(|tile| ChannelStats::from_tile(tile)).collect();
        let bank = model.as_deref().filter(|_| making.styles == StyleSource::Bank);
        let bank = bank.map(|model| Looks::of_bank(&model.bundle.styles)).transpose()?;
        let encodes = model.as_deref_mut().filter(|_| making.any(Technique::encodes));
        let (encodings, styles) = match encodes {
            Some(model) => {
                let (encodings, styles) = Encodings::of(tiles, bank.is_none(), model)?;
                (Some(encodings), styles)
            }
            None => (None, vec![Style(Vec::new()); tiles.len()]),
        };
        let looks = match bank {
            Some(bank) => bank,
            None => Looks::of_tiles(
                stats.iter().zip(styles).map(|(&stats, style)| Look { stats, style }).collect(),
            )?,
        };
        let mut maker = Self {
            tiles,
            spread: making
                .any(|it| it == Technique::VitSpread)
                .then(|| looks.spread(making.spread)),
            distribution: making
                .any(|it| it == Technique::RandStainNa)
                .then(|| looks.distribution(tiles, &stats)),
            targets: Looks::of_domains([]),
            joined: Looks::of_domains([]),
            joined_spread: None,
            making,
            stats,
            looks,
            encodings,
        };
        if maker.making.any(Technique::targets) {
            let encodes = |it: Technique| it.targets() && it.encodes();
            let model = model.filter(|_| maker.making.any(encodes));
            maker.targets = target_looks(targets, maker.making.target_tiles, model)?;
        }
        if maker.making.any(|it| it == Technique::VitSpreadTarget) {
            maker.joined = maker.looks.with(&maker.targets);
            maker.joined_spread = Some(maker.joined.spread(maker.making.spread));
        }
        Ok(maker)
    }

    /// Allocates the buffers of one thread, those of libtorch on `device`.
    pub(super) fn bench(&self, device: Device) -> Bench {
        let synth = self.encodings.as_ref().map(|encodings| &encodings.synth);
        let worst = self.making.any(|it| it == Technique::VitWorst).then(|| {
            let Encodings { synth, upsampler, .. } = self.encodings();
            let styles: Vec<&Style> = self.looks.all().iter().map(|look| &look.style).collect();
            Worst::new(synth, upsampler, &styles, (self.tiles.side, self.making.radius), device)
        });
        let [latent, bytes] = synth.map_or([0; 2], |synth| {
            [synth.geometry().tile_characteristics(), synth.geometry().tile_bytes()]
        });
        Bench {
            scratch: synth.map(Synthesiser::scratch),
            upsample: UpsampleScratch::default(),
            difference: vec![0.0; latent],
            change: vec![0.0; bytes],
            variant: vec![0; 3 * self.tiles.side * self.tiles.side],
            worst,
        }
    }

    fn encodings(&self) -> &Encodings {
        self.encodings.as_ref().expect("vit is refused without a bundle")
    }

    /// Writes variants of the tiles of a batch into `out`, u8 [B, side, side, 3]. A generator of
    /// each tile's own draws its stain.
    ///
    /// # Errors
    /// If libtorch fails.
    pub(super) fn make_batch(
        &self,
        (method, classifier): (Technique, &Classifier),
        batch: &[usize],
        rngs: &mut [ChaCha8Rng],
        bench: &mut Bench,
        out: &mut [u8],
    ) -> Result<()> {
        let outs = out.chunks_exact_mut(3 * self.tiles.side * self.tiles.side);
        if method == Technique::VitWorst {
            let styles = self.worst(classifier, batch, rngs, bench)?;
            for ((&tile, style), out) in batch.iter().zip(&styles).zip(outs) {
                self.restained(tile, style, bench, out);
            }
            return Ok(());
        }
        for ((&tile, rng), out) in batch.iter().zip(rngs).zip(outs) {
            self.make(method, tile, rng, bench, out);
        }
        Ok(())
    }

    /// Returns the worst-case style of every tile near that which `vit` draws.
    fn worst(
        &self,
        classifier: &Classifier,
        batch: &[usize],
        rngs: &mut [ChaCha8Rng],
        bench: &Bench,
    ) -> Result<Vec<Style>> {
        let encoded = |&tile: &usize| {
            let Halves { anatomy, characteristics, .. } = &self.encodings().tiles[tile];
            Tile { pixels: &self.tiles.pixels[tile], anatomy, characteristics }
        };
        let worst = bench.worst.as_ref().expect("a bench of this maker");
        let tiles = worst.batch(&batch.iter().map(encoded).collect::<Vec<_>>());
        let draws = batch.iter().zip(rngs);
        let start: Vec<&Style> =
            draws.map(|(&tile, rng)| &self.looks.draw(tile, rng).style).collect();
        let labels: Vec<i64> = batch.iter().map(|&tile| self.tiles.labels[tile] as i64).collect();
        worst.styles(classifier, &tiles, &labels, &start)
    }

    /// Writes a variant of one tile into `out`, u8 [side, side, 3]. The worst case is searched for
    /// a batch at once; this is where the search begins.
    fn make(
        &self,
        method: Technique,
        tile: usize,
        rng: &mut ChaCha8Rng,
        bench: &mut Bench,
        out: &mut [u8],
    ) {
        let pixels = &self.tiles.pixels[tile];
        match method {
            Technique::None => out.copy_from_slice(pixels),
            Technique::ColorJitter => color_jitter(pixels, rng, out),
            Technique::GainBias => gain_and_bias(pixels, rng, out),
            Technique::HedJitter => hed_jitter(pixels, self.making.hed_sigma, rng, out),
            Technique::RandStainNa => {
                let distribution = self.distribution.as_ref().expect("fitted for this method");
                rand_stain_na::normalise(pixels, &distribution.draw(rng), out);
            }
            Technique::ColorMatch | Technique::ColorMatchTarget => {
                let target = self.looks_of(method).draw(tile, rng).stats;
                color_match(pixels, &self.stats[tile], &target, out);
            }
            Technique::Vit | Technique::VitTarget | Technique::VitWorst => {
                let style = &self.looks_of(method).draw(tile, rng).style;
                self.restained(tile, style, bench, out);
            }
            Technique::VitSpread | Technique::VitSpreadTarget => {
                let (looks, spread) = match method {
                    Technique::VitSpread => (&self.looks, &self.spread),
                    _ => (&self.joined, &self.joined_spread),
                };
                let spread = spread.as_ref().expect("measured for this method");
                let style = spread.draw(looks.place(tile, rng), rng).style;
                self.restained(tile, &style, bench, out);
            }
            Technique::ColorMatchJitter | Technique::VitJitter => {
                let mut variant = std::mem::take(&mut bench.variant);
                let first = if method == Technique::VitJitter {
                    Technique::Vit
                } else {
                    Technique::ColorMatch
                };
                self.make(first, tile, rng, bench, &mut variant);
                color_jitter(&variant, rng, out);
                bench.variant = variant;
            }
        }
    }

    /// Adds to a tile what the change from its own characteristics to a style makes of its anatomy,
    /// and keeps its glass, as the server does.
    fn restained(&self, tile: usize, style: &Style, bench: &mut Bench, out: &mut [u8]) {
        let encodings = self.encodings();
        let (pixels, own) = (&self.tiles.pixels[tile], &encodings.tiles[tile]);
        if !own.has_stain {
            return out.copy_from_slice(pixels);
        }
        let Bench { scratch, upsample, difference, change, .. } = bench;
        let scratch = scratch.as_mut().expect("a bench of this maker");
        encodings.synth.difference_into(&own.characteristics, &style.0, 1.0, difference);
        encodings.synth.change(&own.anatomy, difference, scratch, change);
        encodings.upsampler.add(change, pixels, upsample, out);
        keep_glass(pixels, out);
    }

    fn looks_of(&self, method: Technique) -> &Looks {
        if method.targets() { &self.targets } else { &self.looks }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    /// Two-pixel-high tiles, each of one colour that is its own.
    fn tiles(count: u8) -> Tiles {
        let pixels = (0..count).map(|i| vec![100 + i; 12]).collect();
        Tiles { pixels, labels: vec![0; usize::from(count)], side: 2 }
    }

    fn making(methods: &[Technique]) -> Making {
        let methods = methods.to_vec();
        let (hed_sigma, spread, radius) = (0.05, 1.8, 1.0);
        let styles = StyleSource::Train;
        Making { methods, styles, hed_sigma, spread, radius, target_tiles: 1 }
    }

    #[test]
    fn a_tile_takes_the_colours_of_every_other_tile_and_never_its_own() {
        let tiles = tiles(4);
        let maker = Maker::new(&tiles, &[], None, making(&[Technique::ColorMatch])).unwrap();
        let (mut bench, mut out, mut rng) =
            (maker.bench(Device::Cpu), vec![0; 12], ChaCha8Rng::seed_from_u64(1));
        let mut seen: Vec<u8> = (0..60)
            .map(|_| {
                maker.make(Technique::ColorMatch, 2, &mut rng, &mut bench, &mut out);
                out[0]
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, [100, 101, 103]);
        maker.make(Technique::None, 2, &mut rng, &mut bench, &mut out);
        assert_eq!(out, tiles.pixels[2]);
    }

    #[test]
    fn targets_are_drawn_from_tiles_that_have_a_stain_and_no_others() {
        let stained = |level: u8| (0..768).map(|i| level + (i % 7) as u8).collect::<Vec<u8>>();
        let side = 16;
        let training = Tiles { pixels: vec![stained(90); 2], labels: vec![0, 1], side };
        let of = |pixels| Tiles { pixels, labels: Vec::new(), side };
        let targets = [of(vec![stained(120), vec![255; 768]]), of(vec![stained(160)])];
        let method = Technique::ColorMatchTarget;
        let maker = Maker::new(&training, &targets, None, making(&[method])).unwrap();
        let (mut bench, mut out, mut rng) =
            (maker.bench(Device::Cpu), vec![0; 768], ChaCha8Rng::seed_from_u64(1));
        let mut draw = |_| {
            maker.make(method, 0, &mut rng, &mut bench, &mut out);
            out[0]
        };
        let drawn: Vec<u8> = (0..400).map(&mut draw).collect();
        let first = drawn.iter().filter(|&&level| level == 120).count();
        assert!(
            drawn.iter().all(|level| [120, 160].contains(level)) && (150..250).contains(&first)
        );

        let blank = [of(vec![vec![255; 768]])];
        let refused = Maker::new(&training, &blank, None, making(&[method])).err().unwrap();
        assert!(refused.to_string().contains("--target-styles: no tile"), "{refused}");
    }

    #[test]
    fn a_target_stain_is_measured_on_several_tiles() {
        let (side, flat) = (16, |level: u8| vec![level; 768]);
        let stained = |level: u8| (0..768).map(|i| level + (i % 7) as u8).collect::<Vec<u8>>();
        let training = Tiles { pixels: vec![stained(90); 2], labels: vec![0, 1], side };
        let pixels = vec![stained(120), flat(255), stained(140), stained(160)];
        let targets = [Tiles { pixels, labels: Vec::new(), side }];
        let making = Making { target_tiles: 2, ..making(&[Technique::ColorMatchTarget]) };
        let maker = Maker::new(&training, &targets, None, making).unwrap();
        let mut means: Vec<f32> =
            maker.targets.all().iter().map(|look| look.stats.mean[0] * 255.0).collect();
        means.iter_mut().for_each(|mean| *mean = mean.round() - 3.0);
        assert_eq!(means, [130.0, 150.0, 140.0], "of 120 and 140, 140 and 160, 160 and 120");
    }

    #[test]
    fn one_tile_has_nothing_to_take_a_style_from() {
        assert!(Maker::new(&tiles(1), &[], None, making(&[Technique::ColorMatch])).is_err());
    }
}
