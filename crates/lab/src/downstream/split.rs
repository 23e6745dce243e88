//! The tiles of an experiment, decoded once: training, validation and test sets.

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::classifier::Tiles;
use crate::downstream::options::DownstreamArgs;
use restain_data::{Dataset, Source};

/// Without a validation domain, one in this many training tiles is held out: whole slides of them,
/// if the slide of every tile is known.
const HELD_OUT: usize = 10;

/// The sets of an experiment.
pub(super) struct Split {
    pub labels: Vec<String>,
    pub training: Tiles,
    pub validation: Tiles,
    /// Test domains with their tiles.
    pub tests: Vec<(String, Tiles)>,
    /// Tiles of each test domain that are not tested: `--target-styles`. Their labels are not kept.
    pub targets: Vec<Tiles>,
}

impl Split {
    /// Reads the tiles, which do not depend on the seed of a run.
    ///
    /// # Errors
    /// If a domain does not exist, tiles have no labels or all the same, or there are too few.
    pub(super) fn read(args: &DownstreamArgs) -> Result<Self> {
        let dataset = Dataset::open(&args.data, &args.selection.selection())?;
        ensure!(
            !dataset.labels.is_empty(),
            "{} has no labels: put tiles into <domain>/<label>/",
            args.data.display()
        );
        let side = dataset
            .sources
            .iter()
            .map(|source| source.width.min(source.height))
            .min()
            .expect("no data set is empty") as usize;
        let read = |option: &str, name: &str| {
            let found = found(&dataset, (option, name), args, side)?;
            Ok::<_, anyhow::Error>(limited(
                found,
                args.tiles_per_domain,
                dataset.labels.len(),
                side,
            ))
        };
        let (mut training, mut slides) = (Tiles { side, ..Tiles::default() }, Vec::new());
        for name in &args.train_domains {
            let (tiles, of) = read("--train-domains", name)?;
            append(&mut training, tiles);
            slides.extend(of.into_iter().map(|slide| Some((name.as_str(), slide?))));
        }
        let validation = match &args.validation_domain {
            Some(name) => read("--validation-domain", name)?.0,
            None => hold_out(&mut training, &slides),
        };
        ensure!(
            !training.is_empty() && !validation.is_empty(),
            "{} training tiles are too few to hold out a tenth for validation",
            training.len()
        );
        let (mut tests, mut targets) = (Vec::new(), Vec::new());
        for name in &args.test_domains {
            let mut found = found(&dataset, ("--test-domains", name), args, side)?;
            if let Some(count) = args.target_styles {
                targets.push(set_aside(&mut found, (name, count), side)?);
            }
            let (tiles, _) = limited(found, args.tiles_per_domain, dataset.labels.len(), side);
            tests.push((name.clone(), tiles));
        }
        let split = Self { tests, targets, labels: dataset.labels.clone(), training, validation };
        let first = split.training.labels[0];
        let one_label = split.training.labels.iter().all(|&label| label == first);
        ensure!(
            !one_label,
            "all {} training tiles are {}: a classifier needs at least two labels",
            split.training.len(),
            split.labels[first]
        );
        if let Some(left_out) = dataset.left_out() {
            tracing::info!("{}: {left_out}", args.data.display());
        }
        Ok(split)
    }

    /// Returns the BLAKE3 of every pixel and label in hex, which identifies the tiles of an
    /// experiment.
    pub(super) fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for pixels in self.targets.iter().flat_map(|tiles| &tiles.pixels) {
            hasher.update(pixels);
        }
        for tiles in [&self.training, &self.validation]
            .into_iter()
            .chain(self.tests.iter().map(|(_, tiles)| tiles))
        {
            hasher.update(&(tiles.len() as u64).to_le_bytes());
            for (pixels, &label) in tiles.pixels.iter().zip(&tiles.labels) {
                hasher.update(&(label as u64).to_le_bytes()).update(pixels);
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// A tile of a domain: its label, the slide it is of, if that is known, and u8 [side, side, 3].
type Found<'a> = (usize, Option<&'a str>, Vec<u8>);

/// The tiles of one domain, in an order of chance.
fn found<'a>(
    dataset: &'a Dataset,
    (option, name): (&str, &str),
    args: &DownstreamArgs,
    side: usize,
) -> Result<Vec<Found<'a>>> {
    let domain = dataset.domains.iter().position(|held| held == name);
    let domain = domain.with_context(|| {
        format!(
            "{option}: no domain {name:?} in {} ({})",
            args.data.display(),
            dataset.domains.join(", ")
        )
    })?;
    let mut sources: Vec<&Source> =
        dataset.sources.iter().filter(|source| source.domain == domain).collect();
    if let Some(source) = sources.iter().find(|source| source.label.is_none()) {
        anyhow::bail!(
            "{} has no label: put it into a folder below its domain's",
            args.data.join(&source.path).display()
        );
    }
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    sources.sort_by_cached_key(|_| rng.next_u64());
    let labelled = |source: &'a Source| {
        let (label, slide) = (source.label.expect("checked above"), source.slide.as_deref());
        Ok(dataset
            .grid_tiles(source, side)?
            .into_iter()
            .map(|tile| (label, slide, tile.into_raw()))
            .collect::<Vec<_>>())
    };
    let found = sources.par_iter().map(|source| labelled(source)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Takes `count` tiles out of those of a test domain, whatever their labels.
fn set_aside(found: &mut Vec<Found>, (name, count): (&str, usize), side: usize) -> Result<Tiles> {
    ensure!(
        count < found.len(),
        "--target-styles {count}: {name} has {} tiles, and at least one must be left to test on",
        found.len()
    );
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by_cached_key(|_| rng.next_u64());
    let (mut tiles, mut kept) = (Tiles { side, ..Tiles::default() }, Vec::new());
    for (place, tile) in std::mem::take(found).into_iter().enumerate() {
        if order[..count].contains(&place) {
            tiles.pixels.push(tile.2);
        } else {
            kept.push(tile);
        }
    }
    *found = kept;
    Ok(tiles)
}

/// At most `--tiles-per-domain` of the tiles of a domain, as many of every label; and the slide of
/// each, if it is known.
fn limited<'a>(
    found: Vec<Found<'a>>,
    per_domain: Option<usize>,
    labels: usize,
    side: usize,
) -> (Tiles, Vec<Option<&'a str>>) {
    let limit = per_domain.map_or(usize::MAX, |count| count.div_ceil(labels));
    let (mut of_label, mut tiles) = (vec![0; labels], Tiles { side, ..Tiles::default() });
    let mut slides = Vec::new();
    for (label, slide, pixels) in found {
        of_label[label] += 1;
        if of_label[label] <= limit {
            tiles.pixels.push(pixels);
            tiles.labels.push(label);
            slides.push(slide);
        }
    }
    (tiles, slides)
}

fn append(tiles: &mut Tiles, more: Tiles) {
    tiles.pixels.extend(more.pixels);
    tiles.labels.extend(more.labels);
}

/// Which of the training tiles are held out, by the slide of each.
fn held_out<S: PartialEq>(slides: &[Option<S>]) -> Vec<bool> {
    let count = slides.len().div_ceil(HELD_OUT);
    let mut chosen: Vec<&S> = Vec::new();
    for slide in slides {
        let Some(slide) = slide else { break };
        let held = slides.iter().flatten().filter(|slide| chosen.contains(slide)).count();
        if held >= count {
            break;
        }
        if !chosen.contains(&slide) {
            chosen.push(slide);
        }
    }
    let by_slide = |slide: &Option<S>| slide.as_ref().is_some_and(|slide| chosen.contains(&slide));
    let is_held: Vec<bool> = slides.iter().map(by_slide).collect();
    let is_known = slides.iter().all(Option::is_some);
    if is_known && is_held.contains(&false) {
        return is_held;
    }
    (0..slides.len()).map(|place| place % HELD_OUT == 0).collect()
}

fn hold_out<S: PartialEq>(training: &mut Tiles, slides: &[Option<S>]) -> Tiles {
    let side = training.side;
    let is_held = held_out(slides);
    let (mut kept, mut held) =
        (Tiles { side, ..Tiles::default() }, Tiles { side, ..Tiles::default() });
    let pairs =
        std::mem::take(&mut training.pixels).into_iter().zip(std::mem::take(&mut training.labels));
    for (i, (pixels, label)) in pairs.enumerate() {
        let into = if is_held[i] { &mut held } else { &mut kept };
        into.pixels.push(pixels);
        into.labels.push(label);
    }
    *training = kept;
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_set_aside_whatever_their_labels_and_the_others_keep_their_order() {
        let all = || -> Vec<Found> { (0..40).map(|n| (n / 20, None, vec![n as u8])).collect() };
        let mut left = all();
        let aside = set_aside(&mut left, ("a", 10), 1).unwrap();
        assert!(aside.labels.is_empty() && aside.len() == 10);
        let of_first = aside.pixels.iter().filter(|tile| tile[0] < 20).count();
        assert!((1..10).contains(&of_first), "{of_first}");
        let expected = all().into_iter().filter(|tile| !aside.pixels.contains(&tile.2));
        assert_eq!(left, expected.collect::<Vec<_>>());

        let refused = set_aside(&mut all(), ("a", 40), 1).err().unwrap().to_string();
        let expected =
            "--target-styles 40: a has 40 tiles, and at least one must be left to test on";
        assert_eq!(refused, expected);
    }

    #[test]
    fn whole_slides_are_held_out_where_they_are_known() {
        let slides = |text: &str| -> Vec<Option<char>> {
            text.chars().map(|slide| (slide != '-').then_some(slide)).collect()
        };
        let held = |text: &str| -> String {
            held_out(&slides(text)).into_iter().map(|held| if held { 'x' } else { '.' }).collect()
        };
        // Two of twenty tiles at least: the first slide is enough, however large it is.
        assert_eq!(held("abcabcabcabcabcabcab"), "x..x..x..x..x..x..x.");
        // The first has one tile, which is too few.
        assert_eq!(held("abcbcbcbcbcbcbcbcbcb"), "xx.x.x.x.x.x.x.x.x.x");
        // Of one slide, or of an unknown one, every tenth tile.
        assert_eq!(held("aaaaaaaaaaaa"), "x.........x.");
        assert_eq!(held("abcabcabcabcabcabc-b"), "x.........x.........");
    }
}
