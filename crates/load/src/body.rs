//! Requests, written ahead of their time as lists of byte strings. Pixels and files are shared with
//! the pool and never copied, which is why the head of a safetensors body is written here and not
//! by its crate, which copies.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use super::choices::{Accept, BodyFormat, Payload, SAFETENSORS};
use super::mix::{Draw, Mix};
use super::options::{AskArgs, TilesArgs};
use super::tiles::{Key, Pool, Stamp};
use restain_bundle::codec::EncodeError;

const AUGMENT: &str = "/v1/augment";

/// As no file has it: 32 digits drawn once.
const BOUNDARY: &str = "restain-load-c2f1d7a94be8406390f5ab1d68e37c02";
const FORM: &str = "multipart/form-data; boundary=restain-load-c2f1d7a94be8406390f5ab1d68e37c02";

/// A request, ready to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Prepared {
    pub path: String,
    pub content_type: &'static str,
    pub accept: Accept,
    /// The body, in order.
    pub frames: Vec<Bytes>,
    pub tiles: usize,
    pub variants: usize,
    /// Of its tiles, when it names them so.
    pub keys: Vec<Key>,
}

/// The request JSON, as far as it is used here.
#[derive(Clone, Serialize)]
struct Ask {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    variants: usize,
    seed: u64,
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// Writes requests.
pub(crate) struct Writer {
    pool: Pool,
    mix: Mix,
    keys: Option<Vec<Key>>,
    unique: bool,
    form: BodyFormat,
    accept: Accept,
    ask: Ask,
}

impl Writer {
    pub(crate) fn new(pool: Pool, tiles: &TilesArgs, ask: &AskArgs, seed: u64) -> Self {
        let mix = Mix {
            seed,
            tiles_per_request: ask.tiles_per_request.clone(),
            variants: ask.variants.clone(),
            pool: pool.tiles.len(),
        };
        let keys = (tiles.send == Payload::Key)
            .then(|| (0..pool.tiles.len()).map(|tile| pool.key(tile)).collect());
        let template = Ask {
            model: ask.model.clone(),
            variants: 1,
            seed: 0,
            method: ask.method.clone(),
            detail: ask.detail.clone(),
            priority: ask.priority.clone(),
            timeout_ms: ask.timeout_ms,
        };
        Self {
            pool,
            mix,
            keys,
            unique: tiles.unique,
            form: ask.body_format,
            accept: ask.accept,
            ask: template,
        }
    }

    /// Request `number` of the run.
    ///
    /// # Errors
    /// See [`Pool::put`].
    pub(crate) fn request(&self, number: u64) -> Result<Prepared, EncodeError> {
        let Draw { tiles, variants, seed } = self.mix.draw(number);
        let ask = Ask { variants, seed, ..self.ask.clone() };
        if let Some(keys) = &self.keys {
            return Ok(self.by_key(&ask, tiles.iter().map(|&tile| keys[tile]).collect()));
        }
        let first = number * self.mix.largest() as u64;
        let stamped =
            |place: usize| self.unique.then(|| stamp(self.mix.seed, first + place as u64));
        let tiles: Vec<_> =
            tiles.into_iter().enumerate().map(|(place, tile)| (tile, stamped(place))).collect();
        self.by_tile(&ask, &tiles)
    }

    /// Requests that send every tile of the pool once, of at most `most_tiles` and about
    /// `most_bytes` each.
    ///
    /// # Errors
    /// See [`Pool::put`].
    pub(crate) fn prelude(
        &self,
        most_tiles: usize,
        most_bytes: usize,
    ) -> Result<Vec<Prepared>, EncodeError> {
        let largest =
            self.pool.tiles.iter().map(|tile| tile.width * tile.height * 3).max().unwrap_or(1);
        let ask = Ask { priority: None, timeout_ms: None, ..self.ask.clone() };
        let all: Vec<_> = (0..self.pool.tiles.len()).map(|tile| (tile, None)).collect();
        // Forms that hold any number of tiles, and the one of mixed sizes where they may be mixed.
        let accept =
            if self.form == BodyFormat::Safetensors { Accept::Safetensors } else { Accept::Json };
        let request =
            |tiles| self.by_tile(&ask, tiles).map(|request| Prepared { accept, ..request });
        all.chunks((most_bytes / largest).clamp(1, most_tiles)).map(request).collect()
    }

    fn by_tile(
        &self,
        ask: &Ask,
        tiles: &[(usize, Option<Stamp>)],
    ) -> Result<Prepared, EncodeError> {
        let mut frames = Vec::with_capacity(3 * tiles.len() + 3);
        let (before, after): (&'static [u8], &'static [u8]) = match self.form {
            BodyFormat::Multipart => (
                b"\r\nContent-Disposition: form-data; name=\"tile\"; filename=\"tile\"\r\n\
                    Content-Type: image/*\r\n\r\n",
                b"\r\n--",
            ),
            _ => (b"", b""),
        };
        match self.form {
            BodyFormat::Safetensors => {
                let tile = &self.pool.tiles[0];
                frames.push(tensor_head(ask, "tiles", &[tiles.len(), tile.height, tile.width, 3]));
            }
            BodyFormat::Multipart => frames.push(form_head(ask)),
            BodyFormat::Json => {
                frames.push(format!("{{\"request\":{},\"tiles\":[", json!(ask)).into())
            }
            BodyFormat::Image => {}
        }
        for (place, &(tile, stamp)) in tiles.iter().enumerate() {
            match self.form {
                BodyFormat::Json if place > 0 => frames.push(Bytes::from_static(b",")),
                BodyFormat::Multipart => frames
                    .extend([Bytes::from_static(BOUNDARY.as_bytes()), Bytes::from_static(before)]),
                _ => {}
            }
            self.pool.put(tile, stamp, &mut frames)?;
            frames.extend((!after.is_empty()).then(|| Bytes::from_static(after)));
        }
        match self.form {
            BodyFormat::Json => frames.push(Bytes::from_static(b"]}")),
            BodyFormat::Multipart => frames.push(format!("{BOUNDARY}--\r\n").into()),
            _ => {}
        }
        Ok(self.prepared(ask, frames, tiles.len(), Vec::new()))
    }

    fn by_key(&self, ask: &Ask, keys: Vec<Key>) -> Prepared {
        let frames = if self.form == BodyFormat::Json {
            let hex: Vec<String> =
                keys.iter().map(|key| blake3::Hash::from_bytes(*key).to_string()).collect();
            vec![json!({"request": ask, "keys": hex}).to_string().into()]
        } else {
            vec![tensor_head(ask, "keys", &[keys.len(), size_of::<Key>()]), keys.concat().into()]
        };
        self.prepared(ask, frames, keys.len(), keys)
    }

    fn prepared(&self, ask: &Ask, frames: Vec<Bytes>, tiles: usize, keys: Vec<Key>) -> Prepared {
        let (path, content_type) = match self.form {
            BodyFormat::Safetensors => (AUGMENT.to_owned(), SAFETENSORS),
            BodyFormat::Multipart => (AUGMENT.to_owned(), FORM),
            BodyFormat::Json => (AUGMENT.to_owned(), "application/json"),
            // The server recognises kinds by their first bytes; the header says only that it is
            // one picture.
            BodyFormat::Image => (format!("{AUGMENT}?{}", query(ask)), "image/*"),
        };
        Prepared {
            path,
            content_type,
            accept: self.accept,
            frames,
            tiles,
            variants: ask.variants,
            keys,
        }
    }
}

/// Bytes that no other tile of any request begins with: a count, beside the seed that sets runs
/// apart.
fn stamp(seed: u64, count: u64) -> Stamp {
    let mut stamp = Stamp::default();
    stamp[..8].copy_from_slice(&count.to_le_bytes());
    stamp[8..].copy_from_slice(&seed.to_le_bytes());
    stamp
}

/// Everything of a safetensors body before its one tensor of bytes, as
/// <https://github.com/huggingface/safetensors> has it.
fn tensor_head(ask: &Ask, name: &str, shape: &[usize]) -> Bytes {
    let bytes: usize = shape.iter().product();
    let tensor = json!({"dtype": "U8", "shape": shape, "data_offsets": [0, bytes]});
    let mut header =
        json!({"__metadata__": {"request": json!(ask).to_string()}, name: tensor}).to_string();
    // Spaces up to a multiple of eight, so that a reader that maps the tensor finds it aligned.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat().into()
}

/// The part `request`, and the dashes of what follows it.
fn form_head(ask: &Ask) -> Bytes {
    let head = "Content-Disposition: form-data; name=\"request\"\r\nContent-Type: application/json";
    format!("--{BOUNDARY}\r\n{head}\r\n\r\n{}\r\n--", json!(ask)).into()
}

fn query(ask: &Ask) -> String {
    let Value::Object(fields) = json!(ask) else { unreachable!("a struct is an object") };
    let pair = |(name, value): (String, Value)| {
        format!("{name}={}", escape(value.as_str().unwrap_or(&value.to_string())))
    };
    fields.into_iter().map(pair).collect::<Vec<_>>().join("&")
}

/// Percent-encoding, RFC 3986.
fn escape(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use safetensors::SafeTensors;

    use super::super::options::LoadArgs;
    use super::*;

    fn writer(flags: &str) -> Writer {
        let args = LoadArgs::parse(&format!("--seed 5 {flags}")).unwrap();
        let pool = Pool::open(&args.tiles, args.ask.body_format, 16, args.seed()).unwrap();
        Writer::new(pool, &args.tiles, &args.ask, args.seed())
    }

    #[test]
    fn unique_tiles_never_repeat() {
        let writer = writer("--unique --tiles-per-request 1,3 --distinct 4");
        let mut seen = BTreeSet::new();
        let mut sent = 0;
        for number in 0..200 {
            let request = writer.request(number).unwrap();
            let body = request.frames.concat();
            let file = SafeTensors::deserialize(&body).unwrap();
            let tiles = file.tensor("tiles").unwrap();
            assert_eq!(tiles.shape(), [request.tiles, 16, 16, 3]);
            sent += request.tiles;
            seen.extend(tiles.data().chunks_exact(16 * 16 * 3).map(<[u8]>::to_vec));
        }
        assert_eq!(seen.len(), sent);
    }

    #[test]
    fn a_tensor_body_carries_the_request_and_the_tiles_of_the_pool() {
        let writer = writer(
            "--tiles-per-request 2 --variants 3 --distinct 4 --priority bulk --timeout-ms 9 \
            --method identity",
        );
        let body = writer.request(1).unwrap().frames.concat();
        let (_, header) = SafeTensors::read_metadata(&body).unwrap();
        let ask: Value =
            serde_json::from_str(&header.metadata().as_ref().unwrap()["request"]).unwrap();
        let seed = writer.mix.draw(1).seed;
        assert_eq!(
            ask,
            json!({"variants": 3, "seed": seed, "method": "identity", "priority": "bulk",
                "timeout_ms": 9})
        );
        assert_eq!(writer.request(1).unwrap().frames.concat(), body, "a request can be made again");
    }

    #[test]
    fn keys_take_the_place_of_tiles() {
        let tensor = writer("--send key --tiles-per-request 2 --distinct 3");
        let request = tensor.request(0).unwrap();
        let body = request.frames.concat();
        let file = SafeTensors::deserialize(&body).unwrap();
        let keys = file.tensor("keys").unwrap();
        assert_eq!((keys.shape(), file.len()), ([2, 32].as_slice(), 1));
        let draw = tensor.mix.draw(0);
        assert_eq!(
            keys.data(),
            [tensor.pool.key(draw.tiles[0]), tensor.pool.key(draw.tiles[1])].concat()
        );
        let prelude = tensor.prelude(2, 1 << 20).unwrap();
        assert_eq!(prelude.iter().map(|request| request.tiles).collect::<Vec<_>>(), [2, 1]);

        let json = writer("--send key --body-format json --tiles-per-request 2 --distinct 3");
        let body: Value =
            serde_json::from_slice(&json.request(0).unwrap().frames.concat()).unwrap();
        assert_eq!(
            body["keys"][0],
            blake3::Hash::from_bytes(json.pool.key(draw.tiles[0])).to_string()
        );
    }

    #[test]
    fn a_picture_has_its_request_in_the_query() {
        let request =
            writer("--body-format image --model tiny/1 --detail model").request(0).unwrap();
        assert!(
            request.path.starts_with("/v1/augment?") && request.path.contains("model=tiny/1"),
            "{}",
            request.path
        );
        assert!(
            request.path.contains("detail=model") && request.path.contains("method=vit"),
            "{}",
            request.path
        );
        assert_eq!(escape("a b/c&d"), "a%20b/c%26d");
    }
}
