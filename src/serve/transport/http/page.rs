//! The page at `/`: assembled once from the files in `page/` into one that loads nothing from
//! elsewhere. There is no build step; what is served is what lies there. It holds no state of its
//! own and uses the public API alone.

use std::sync::LazyLock;

use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

const FRAME: &str = include_str!("page/index.html");
const STYLE: &str = concat!(include_str!("page/style.css"), include_str!("page/grid.css"));
/// One module: a part uses what the parts before it define, and functions of those after it.
const SCRIPT: &str = concat!(
    include_str!("page/state.js"),
    include_str!("page/ask.js"),
    include_str!("page/tiles.js"),
    include_str!("page/request.js"),
    include_str!("page/difference.js"),
    include_str!("page/grid.js"),
    include_str!("page/zoom.js"),
    include_str!("page/bank.js"),
    include_str!("page/code.js"),
    include_str!("page/live.js"),
    include_str!("page/main.js"),
);

macro_rules! samples {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_bytes!(concat!("page/samples/", $name, ".jpg")).as_slice())),*]
    };
}

/// Procedural tiles to try the page with: name, JPEG.
const SAMPLES: [(&str, &[u8]); 14] = samples![
    "hospital_0_normal",
    "hospital_0_tumour",
    "hospital_1_normal",
    "hospital_1_tumour",
    "hospital_2_normal",
    "hospital_2_tumour",
    "hospital_3_normal",
    "hospital_3_tumour",
    "hospital_4_normal",
    "hospital_4_tumour",
    "hospital_0_normal_224",
    "hospital_2_tumour_224",
    "hospital_1_tumour_512",
    "hospital_4_normal_512",
];

/// Nothing from elsewhere, no frames around it, and no answers but those of this server.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

/// As [`POLICY`], for pages whose scripts are files of this server.
const DOCS_POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; \
    script-src 'self'; img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'";

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let sample = |(name, jpeg): &(&str, &[u8])| serde_json::json!({ "name": name, "image": BASE64_STANDARD.encode(jpeg) });
    let samples = serde_json::Value::from_iter(SAMPLES.iter().map(sample));
    FRAME
        .replace("{{style}}", STYLE)
        .replace("{{samples}}", &samples.to_string())
        .replace("{{script}}", SCRIPT)
});

pub(super) async fn page() -> Response {
    ([("content-security-policy", POLICY)], Html(PAGE.as_str())).into_response()
}

/// Adds the policy to the pages of the API's documentation.
pub(super) async fn of_docs(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_POLICY));
    response
}
