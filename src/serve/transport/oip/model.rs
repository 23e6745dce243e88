//! Metadata and statistics of the server and its models, as messages; HTTP writes the same as JSON.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::infer;
use super::input::{KEYS, REFERENCES, TILES};
use super::output::Output;
use super::proto::model_metadata_response::TensorMetadata;
use super::proto::{self, DataType};
use crate::serve::app::App;
use crate::serve::batch::Tally;
use crate::serve::error::Error;
use crate::serve::models::{Model, Models};
use restain_bundle::codec::TileKey;

/// Runs the models; the protocol calls it a platform, or a backend.
const PLATFORM: &str = "restain";
/// Of the protocol: what may be asked beyond its core.
const EXTENSIONS: [&str; 6] = [
    "binary_tensor_data",
    "parameters",
    "schedule_policy",
    "model_repository",
    "model_configuration",
    "statistics",
];

pub(super) fn server() -> proto::ServerMetadataResponse {
    proto::ServerMetadataResponse {
        name: PLATFORM.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// Whether the server takes requests for it.
pub(super) fn is_ready(app: &App, name: &str, version: &str) -> Result<(), Error> {
    app.is_ready()?;
    find(app, name, version).map(|_| ())
}

/// # Errors
/// `model_not_found`, naming those that are served.
pub(super) fn find(app: &App, name: &str, version: &str) -> Result<Arc<Model>, Error> {
    app.pipeline()?.models.find(infer::model(name, version).as_deref())
}

/// # Errors
/// `model_not_found`.
pub(super) fn metadata(
    app: &App,
    name: &str,
    version: &str,
) -> Result<proto::ModelMetadataResponse, Error> {
    let model = find(app, name, version)?;
    let models = app.pipeline()?.models.models();
    let versions = models
        .all()
        .iter()
        .filter(|other| other.name() == model.name())
        .map(|other| other.version().to_owned());
    let tensor = |tensor: &Described| TensorMetadata {
        name: tensor.name.to_owned(),
        datatype: tensor.datatype.to_owned(),
        shape: std::iter::once(-1).chain(tensor.dims.iter().copied()).collect(),
    };
    Ok(proto::ModelMetadataResponse {
        name: model.name().to_owned(),
        versions: versions.collect(),
        platform: PLATFORM.to_owned(),
        inputs: inputs().iter().map(tensor).collect(),
        outputs: outputs().iter().map(tensor).collect(),
    })
}

/// # Errors
/// `model_not_found`.
pub(super) fn config(app: &App, name: &str, version: &str) -> Result<proto::ModelConfig, Error> {
    let model = find(app, name, version)?;
    let input = |tensor: &Described| proto::ModelInput {
        name: tensor.name.to_owned(),
        data_type: tensor.data_type().into(),
        dims: tensor.dims.clone(),
        optional: tensor.name != TILES,
    };
    let output = |tensor: &Described| proto::ModelOutput {
        name: tensor.name.to_owned(),
        data_type: tensor.data_type().into(),
        dims: tensor.dims.clone(),
    };
    let pictures =
        "also BYTES [-1]: a PNG, JPEG, WebP or TIFF in each element, which may be of several sizes";
    let of_several = "BYTES [n, K], a PNG in each element, when the tiles are of several sizes";
    let parameters = [
        (Output::Variants.name(), of_several),
        (TILES, pictures),
        (REFERENCES, pictures),
        (KEYS, "also BYTES [-1]; with KEYS, TILES may be left out"),
    ];
    let parameters = parameters.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let parameter = |(name, text)| (name, proto::ModelParameter { string_value: text });
    Ok(proto::ModelConfig {
        name: model.name().to_owned(),
        platform: PLATFORM.to_owned(),
        backend: PLATFORM.to_owned(),
        max_batch_size: i32::try_from(app.config.max_tiles.get()).unwrap_or(i32::MAX),
        input: inputs().iter().map(input).collect(),
        output: outputs().iter().map(output).collect(),
        parameters: super::parameters::known()
            .into_iter()
            .chain(parameters)
            .map(parameter)
            .collect(),
    })
}

/// Of one model, of all versions of a name, or of all.
///
/// # Errors
/// `model_not_found`, when none is meant.
pub(super) fn statistics(
    app: &App,
    name: &str,
    version: &str,
) -> Result<proto::ModelStatisticsResponse, Error> {
    let models: Arc<Models> = app.pipeline()?.models.models();
    if !name.is_empty() {
        models.find(infer::model(name, version).as_deref())?;
    }
    let (name, version) = name.split_once('/').unwrap_or((name, version));
    let is_meant = |model: &&Arc<Model>| {
        (name.is_empty() || model.name() == name)
            && (version.is_empty() || model.version() == version)
    };
    Ok(proto::ModelStatisticsResponse {
        model_stats: models
            .all()
            .iter()
            .filter(is_meant)
            .map(|model| statistics_of(model))
            .collect(),
    })
}

fn statistics_of(model: &Model) -> proto::ModelStatistics {
    let figures = model.statistics.figures();
    let batches = model.batch.batches();
    let since_1970 =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let batch = |(&tiles, tally): (&usize, &Tally)| proto::InferBatchStatistics {
        batch_size: tiles as u64,
        compute_infer: Some(duration(*tally)),
    };
    proto::ModelStatistics {
        name: model.name().to_owned(),
        version: model.version().to_owned(),
        last_inference: figures
            .last
            .map(since_1970)
            .map_or(0, |span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        inference_count: figures.tiles,
        execution_count: batches.values().map(|tally| tally.count).sum(),
        inference_stats: Some(proto::InferStatistics {
            success: Some(duration(figures.answered)),
            fail: Some(duration(figures.failed)),
            queue: Some(duration(figures.queue)),
            compute_input: Some(duration(figures.decode)),
            compute_infer: Some(duration(figures.encode)),
            compute_output: Some(duration(figures.synthesise)),
        }),
        batch_stats: batches.iter().map(batch).collect(),
    }
}

fn duration(tally: Tally) -> proto::StatisticDuration {
    let ns = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    proto::StatisticDuration { count: tally.count, ns: ns(tally.took) }
}

/// A tensor, its first dimension left out: that is the tiles of a request, or the keys, or the
/// references.
struct Described {
    name: &'static str,
    datatype: &'static str,
    dims: Vec<i64>,
}

impl Described {
    fn data_type(&self) -> DataType {
        match self.datatype {
            "BYTES" => DataType::TypeString,
            "FP32" => DataType::TypeFp32,
            _ => DataType::TypeUint8,
        }
    }
}

/// Tiles of any size, but of one size in one tensor.
const PICTURES: [i64; 3] = [-1, -1, 3];

fn inputs() -> [Described; 3] {
    [
        (TILES, PICTURES.to_vec()),
        (KEYS, vec![TileKey::BYTES as i64]),
        (REFERENCES, PICTURES.to_vec()),
    ]
    .map(|(name, dims)| Described { name, datatype: "UINT8", dims })
}

fn outputs() -> [Described; 4] {
    Output::ALL.map(|output| {
        let dims = match output {
            Output::Variants => [&[-1], &PICTURES[..]].concat(),
            Output::StyleIds => vec![-1],
            Output::TileKeys => vec![TileKey::BYTES as i64],
            Output::Fidelity => Vec::new(),
        };
        Described { name: output.name(), datatype: output.datatype(), dims }
    })
}
