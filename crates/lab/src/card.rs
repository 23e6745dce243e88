//! `MODEL_CARD.md`: a bundle's manifest as Markdown. It is written again whenever the manifest
//! changes.

use serde_json::Value;

use restain_bundle::{BundleDraft, BundleError, Familiar, Manifest};
use restain_method::geometry::GeometrySpec;

const CARD_FILE: &str = "MODEL_CARD.md";

/// Writes the page of a draft's manifest into the draft.
pub fn add(draft: &mut BundleDraft) -> Result<(), BundleError> {
    let page = render(&draft.manifest);
    draft.add(CARD_FILE, page.as_bytes()).map(drop)
}

/// The page. What the manifest does not hold is left out, not guessed.
fn render(manifest: &Manifest) -> String {
    let sizes = GeometrySpec::from(manifest.geometry);
    let mut page = vec![
        format!("# {} {}", manifest.name, manifest.version),
        String::new(),
        "A Vision Transformer encoder that splits a histopathology tile into anatomy and \
        characteristics, after arXiv 2407.02900; served by restain, trained by restain-train."
            .to_owned(),
        String::new(),
        "## Model".to_owned(),
        String::new(),
        format!(
            "Tiles of {} px, patches of {} px, embedding {}, {} blocks, {} heads, rank {}{}; \
            pixel order {}.",
            sizes.image_size,
            sizes.patch_size,
            sizes.embed_dim,
            sizes.depth,
            sizes.num_heads,
            manifest.geometry.rank(),
            if sizes.style_bias { ", a style bias" } else { "" },
            manifest.pixel_order
        ),
        format!(
            "Pixels are normalised with mean {} and standard deviation {}.",
            channels(manifest.normalisation.mean),
            channels(manifest.normalisation.std)
        ),
        familiar(&manifest.familiar),
        String::new(),
        "## Made from".to_owned(),
        String::new(),
    ];
    page.extend(fields(&manifest.provenance, ""));
    page.extend([String::new(), "## Quality".to_owned(), String::new()]);
    match manifest.quality.get("table").and_then(Value::as_str) {
        Some(table) => {
            page.push(
                "On images kept out of training (`restain-train evaluate`). Distances in \
                levels of 255; \"left\" is the share of the colour distance to the target domain \
                that remains."
                    .to_owned(),
            );
            page.extend([String::new(), table.to_owned()]);
        }
        None => page.push("Not evaluated.".to_owned()),
    }
    page.extend([String::new(), "## Use".to_owned(), String::new()]);
    page.push(
        "Augmentation of training tiles for classifiers. Variants are synthetic: not for \
        diagnosis, nor for measuring anything about the tissue they show."
            .to_owned(),
    );
    page.join("\n") + "\n"
}

/// Three numbers, separated by commas.
fn channels(values: [f32; 3]) -> String {
    values.map(|value| value.to_string()).join(", ")
}

/// Lists the leaves of a JSON object, one line each, in its order.
/// Says which tiles the model knows.
fn familiar(familiar: &Familiar) -> String {
    let mpp = match familiar.mpp {
        Some([finest, coarsest]) if finest < coarsest => {
            format!("It was trained on tissue at {finest} to {coarsest} µm a pixel.")
        }
        Some([mpp, _]) => format!("It was trained on tissue at {mpp} µm a pixel."),
        None => "The magnification of its training data is not recorded.".to_owned(),
    };
    let fidelity = familiar.fidelity.map_or_else(String::new, |decibels| {
        format!(" Of 100 tiles of it, 99 are reconstructed at {decibels} dB or more.")
    });
    mpp + &fidelity
}

fn fields(value: &Value, prefix: &str) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| {
                fields(
                    value,
                    &if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") },
                )
            })
            .collect(),
        Value::Null => Vec::new(),
        Value::Array(items) if items.is_empty() => Vec::new(),
        Value::Array(items) => {
            let items: Vec<String> = items
                .iter()
                .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
                .collect();
            vec![format!("- {prefix}: {}", items.join(", "))]
        }
        Value::String(text) => vec![format!("- {prefix}: {text}")],
        other => vec![format!("- {prefix}: {other}")],
    }
}
